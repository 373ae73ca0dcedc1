"""What goes to a scanner keeps its rules: each is broken once, in archives as Docker writes them."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scanside.errors import ConfigError
from scanside_deploy.openrecon import LABEL, START, Label, write_context
from scanside_deploy.package import check_chroot, check_image, check_package, pack

Files = dict[str, bytes]
TORCH = "opt/scanside/lib/python3.11/site-packages/torch/version.py"


def write_tar(path: Path | io.BytesIO, files: Files, mode: int = 0o755) -> None:
    where: Any = {"name": path} if isinstance(path, Path) else {"fileobj": path}
    with tarfile.open(mode="w", **where) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), mode
            tar.addfile(member, io.BytesIO(content))


class Built:
    """A folder as ``package.sh`` leaves it, in which a test may break something."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.label: Label = write_context(folder, "fft", name="Plain recon", vendor="Clinic")
        self.config: dict[str, Any] = {
            "os": "linux",
            "architecture": "amd64",
            "config": {
                "User": "root",
                "Env": ["PATH=/opt/scanside/bin:/usr/bin"],
                "Cmd": ["scanside", "serve"],
                "Entrypoint": None,
                "ExposedPorts": {"9002/tcp": {}, "9003/tcp": {}},
                "Labels": {LABEL: self.label.to_base64()},
            },
        }
        self.tags = [self.label.image]
        self.files: Files = {
            "opt/scanside/bin/scanside": b"#!/bin/sh",
            TORCH: b"__version__ = '2.11.0+cpu'\ncuda: Optional[str] = None\n",
            "usr/lib/libcudart.so.11.0": b"",
            START: b"#!/bin/sh",
        }
        self.more: Files = {}
        (folder / "manual.pdf").write_bytes(b"%PDF-1.7 " + bytes(1000))

    def write(self) -> Built:
        layer = io.BytesIO()
        write_tar(layer, self.files)
        manifest = [{"Config": "c0ffee.json", "RepoTags": self.tags, "Layers": ["1/layer.tar"]}]
        files = {
            "manifest.json": json.dumps(manifest).encode(),
            "c0ffee.json": json.dumps(self.config).encode(),
            "1/layer.tar": layer.getvalue(),
            **self.more,
        }
        write_tar(self.folder / "image.tar", files)
        write_tar(self.folder / "chroot.tar", self.files)
        return self


@pytest.fixture
def built(tmp_path: Path) -> Built:
    return Built(tmp_path / "openrecon")


def tools() -> None:
    if shutil.which("mke2fs", path="/usr/sbin:/sbin:/usr/bin") is None or (
        os.geteuid() and shutil.which("fakeroot") is None
    ):
        pytest.skip("needs mke2fs and fakeroot")


def test_package_and_fire_bundle(built: Built) -> None:
    tools()
    package, fire = pack(built.write().folder)
    name = built.label.package
    assert name.startswith("OpenRecon_Clinic_PlainRecon_V")
    assert (package.name, fire.name) == (f"{name}.zip", f"{name}_FIRE.zip")
    with zipfile.ZipFile(package) as archive:
        assert {one.filename: one.compress_type for one in archive.infolist()} == {
            f"{name}.tar": zipfile.ZIP_DEFLATED,
            f"{name}.pdf": zipfile.ZIP_DEFLATED,
        }
        assert archive.read(f"{name}.tar") == (built.folder / "image.tar").read_bytes()
        assert archive.testzip() is None
    with zipfile.ZipFile(fire) as archive:
        assert set(archive.namelist()) == {f"{name}.img", "openrecon.json", f"{name}.pdf"}
        assert {one.compress_type for one in archive.infolist()} == {zipfile.ZIP_DEFLATED}
        assert json.loads(archive.read("openrecon.json"))["parameters"] == {"config": "openrecon"}
        archive.extract(f"{name}.img", built.folder)
    assert not list(built.folder.glob("scanside-fire-*"))
    image = str(built.folder / f"{name}.img")

    def look(*request: str) -> str:
        command = ["debugfs", "-R", " ".join(request), image]
        return subprocess.run(
            command, capture_output=True, text=True, check=True, env={"PATH": "/usr/sbin:/sbin"}
        ).stdout

    stat = look("stat", f"/{START}")
    assert re.search(r"Mode:\s+0755", stat)
    assert re.search(r"User:\s+0\s+Group:\s+0", stat)
    assert look("cat", f"/{START}") == "#!/bin/sh"
    assert "has_journal" in look("features")  # as ext3 has


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda one: one.config["config"].update(User="1000:1000"), "root"),
        (lambda one: one.config["config"].update(User="scanside"), "root"),
        (lambda one: one.config["config"].update(Entrypoint=["scanside", "serve"]), "plain commands"),
        (lambda one: one.config["config"].update(Cmd=None), "plain commands"),
        (lambda one: one.config["config"].update(ExposedPorts=None), "port"),
        (lambda one: one.config["config"].update(Labels=None), "label"),
        (lambda one: one.config["config"].update(Labels={LABEL: "e30="}), "label"),
        (lambda one: one.config["config"].update(Labels={LABEL: "?"}), "label"),
        (lambda one: one.config["config"]["Env"].append("CUDA_VERSION=12.4.1"), "CUDA 11.8 at most"),
        (lambda one: one.config.update(architecture="arm64"), "platform"),
        (lambda one: one.tags.__setitem__(0, "scanside:cpu"), "names"),
        (lambda one: one.files.update({"usr/lib/libcudart.so.12": b""}), "CUDA 11.8 at most"),
        (lambda one: one.files.update({"usr/lib/libcudart.so.11.9.1": b""}), "CUDA 11.8 at most"),
        (lambda one: one.files.update({"usr/local/cuda-12.4/bin/nvcc": b""}), "CUDA 11.8 at most"),
        (lambda one: one.files.update({TORCH: b"cuda: Optional[str] = '13.0'\n"}), "CUDA 11.8 at most"),
        (lambda one: one.files.update({TORCH: b"cuda = '12.8'\n"}), "CUDA 11.8 at most"),
        (lambda one: one.more.update({"oci-layout": b"{}", "index.json": b"{}"}), "Docker before 25"),
        (lambda one: one.more.update({"manifest.json": b"{"}), "docker save"),
        (lambda one: one.files.pop(START), "FIRE"),
        (lambda one: (one.folder / "manual.pdf").write_bytes(b"# manual"), "manual"),
    ],
)
def test_each_rule(built: Built, change: Callable[[Built], object], rule: str) -> None:
    change(built)
    with pytest.raises(ConfigError, match=f"rule '{re.escape(rule)}' is broken"):
        pack(built.write().folder)
    assert not list(built.folder.glob("*.zip"))


@pytest.mark.parametrize(
    "change",
    [
        lambda one: one.config["config"].update(User=""),
        lambda one: one.config["config"].update(User="0:0"),
        lambda one: one.config["config"]["Env"].append("CUDA_VERSION=11.8.0"),
        lambda one: one.files.update({"usr/local/cuda-11.8/bin/nvcc": b""}),
        lambda one: one.files.update({TORCH: b"cuda: Optional[str] = '11.8'\n"}),
    ],
)
def test_what_hosts_take(built: Built, change: Callable[[Built], object]) -> None:
    change(built)
    built.write()
    check_image(built.folder / "image.tar", built.label)
    check_chroot(built.folder / "chroot.tar")


def test_start_of_fire_can_be_executed(built: Built) -> None:
    write_tar(built.folder / "chroot.tar", built.files, mode=0o644)
    with pytest.raises(ConfigError, match="cannot be executed"):
        check_chroot(built.folder / "chroot.tar")


@pytest.mark.parametrize(
    ("method", "names", "rule"),
    [
        (zipfile.ZIP_STORED, (".tar", ".pdf"), "Deflate"),
        (zipfile.ZIP_LZMA, (".tar", ".pdf"), "Deflate"),
        (zipfile.ZIP_DEFLATED, (".tar",), "names"),
        (zipfile.ZIP_DEFLATED, (".tar", ".pdf", ".txt"), "names"),
    ],
)
def test_archive(built: Built, method: int, names: tuple[str, ...], rule: str) -> None:
    package = built.folder / f"{built.label.package}.zip"
    with zipfile.ZipFile(package, "w", method) as archive:
        for ending in names:
            archive.writestr(f"{built.label.package}{ending}", b"x")
    with pytest.raises(ConfigError, match=f"rule '{rule}' is broken"):
        check_package(package, built.label)


def test_name_of_the_archive(built: Built) -> None:
    with pytest.raises(ConfigError, match="must be OpenRecon_Clinic_PlainRecon_V"):
        check_package(built.folder / "package.zip", built.label)


def test_label_that_was_changed_by_hand(built: Built) -> None:
    built.write()
    path = built.folder / "OpenReconLabel.json"
    label = json.loads(path.read_text())
    label["parameters"] = []
    path.write_text(json.dumps(label))
    with pytest.raises(ConfigError, match="rule 'label' is broken"):
        pack(built.folder)


def test_folder_that_is_not_ready(built: Built, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no image\.tar, which comes from docker save"):
        pack(built.folder)
    with pytest.raises(ConfigError, match="is no folder that 'scanside deploy openrecon' wrote"):
        pack(tmp_path)
    (built.folder / "chroot.tar").write_bytes(b"")
    (built.folder / "image.tar").write_bytes(b"half")
    with pytest.raises(ConfigError, match="cannot be read as an archive"):
        pack(built.folder)
