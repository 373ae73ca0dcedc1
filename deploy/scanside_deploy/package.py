"""Packs an OpenRecon application that was built, once it keeps the rules of those who take it.

``package.sh``, which `scanside_deploy.openrecon.write_context` writes, leaves two archives in the folder: the image
as ``docker save`` gives it, and a container's files as ``docker export`` does. The first goes with the manual into
the package for OpenRecon, the second becomes the chroot that FIRE starts.

The rules are checked in the archives themselves, so no engine for containers is needed here: hosts read images as
Docker wrote them before version 25; they start root, and run commands in the image as they are; their driver takes
CUDA 11.8 at most; their reader of archives knows Deflate.
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from scanside.errors import ConfigError
from scanside.scratch import ScratchFolder
from scanside.stage import describe_validation
from scanside_deploy.openrecon import CONFIGURATION, LABEL, START, Label

__all__ = ["check_chroot", "check_image", "check_package", "pack"]

IMAGE, CHROOT, MANUAL = "image.tar", "chroot.tar", "manual.pdf"

_NEWEST_CUDA = (11, 8)
_SIGNS_OF_CUDA = (
    re.compile(r"(?:^|/)libcudart\.so\.(\d+)(?:\.(\d+))?(?:\.\d+)*$"),
    re.compile(r"(?:^|/)cuda-(\d+)(?:\.(\d+))?/"),
)
"""Where a file's name tells the version: the run time's library, and the toolkit's folder."""

_TORCH = re.compile(r"(?:^|/)torch/version\.py$")
_TORCH_CUDA = re.compile(r"^cuda\b[^=\n]*=\s*['\"](\d+)\.(\d+)", re.MULTILINE)

_ROOT = ("", "0", "root", "0:0", "root:root", "root:0", "0:root")
_BLOCK = 4096
_SPARE_MB = 200
_STEP_MB = 100


def pack(folder: Path) -> list[Path]:
    """Check what ``package.sh`` has built in a folder, and write the packages for OpenRecon and for FIRE beside it.

    Raises:
        ConfigError: something is missing, or breaks a rule, which the text names.
        OSError: a package cannot be written.
    """
    label = _label_in(folder)
    for name, whence in ((IMAGE, "docker save"), (CHROOT, "docker export"), (MANUAL, "you")):
        if not (folder / name).is_file():
            raise ConfigError(f"{folder} has no {name}, which comes from {whence}: run package.sh there")
    if (folder / MANUAL).read_bytes()[:5] != b"%PDF-":
        raise _broken("manual", f"{folder / MANUAL} is no PDF")
    check_image(folder / IMAGE, label)
    check_chroot(folder / CHROOT)
    package, fire = folder / f"{label.package}.zip", folder / f"{label.package}_FIRE.zip"
    _write_zip(package, {f"{label.package}.tar": folder / IMAGE, f"{label.package}.pdf": folder / MANUAL})
    check_package(package, label)
    with ScratchFolder("scanside-fire-", folder) as scratch:
        chroot = scratch / f"{label.package}.img"
        _make_file_system(folder / CHROOT, chroot, scratch)
        files = {chroot.name: chroot, f"{CONFIGURATION}.json": folder / "fire.json"}
        _write_zip(fire, {**files, f"{label.package}.pdf": folder / MANUAL})
    return [package, fire]


def _broken(rule: str, what: str) -> ConfigError:
    return ConfigError(f"OpenRecon's rule '{rule}' is broken: {what}")


def _label_in(folder: Path) -> Label:
    path = folder / "OpenReconLabel.json"
    try:
        return Label.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(
            f"{folder} is no folder that 'scanside deploy openrecon' wrote: {path.name} cannot be read ({error})"
        ) from error
    except ValidationError as error:
        raise ConfigError(
            describe_validation("OpenRecon's rule 'label' is broken: the label", Label, error)
        ) from error


# The image


def check_image(archive: Path, label: Label) -> None:
    """See that hosts take an image.

    Args:
        archive: as ``docker save`` wrote it.
        label: that it must bear.

    Raises:
        ConfigError: it breaks a rule, which the text names.
    """
    with _opened(archive) as tar:
        names = set(tar.getnames())
        if "manifest.json" not in names:
            raise _broken("docker save", f"{archive} has no manifest.json: write it with 'docker save'")
        if "oci-layout" in names or "index.json" in names:
            raise _broken(
                "Docker before 25",
                f"{archive} is in the OCI layout, which later versions of Docker write: save it with 24",
            )
        (manifest,) = _json_of(tar, "manifest.json")
        config = _json_of(tar, manifest["Config"])
        _check_config(config, manifest, label)
        for name in manifest["Layers"]:
            layer = tar.extractfile(name)
            assert layer is not None, "a layer that the manifest names"
            with tarfile.open(fileobj=layer, mode="r:*") as files:
                _check_cuda(files)


def _check_config(config: dict[str, Any], manifest: dict[str, Any], label: Label) -> None:
    if (config.get("os"), config.get("architecture")) != ("linux", "amd64"):
        raise _broken(
            "platform", f"it is for {config.get('os')}/{config.get('architecture')}, not for linux/amd64"
        )
    if label.image not in (manifest.get("RepoTags") or []):
        raise _broken(
            "names", f"the image is called {manifest.get('RepoTags')}, and its label says {label.image}"
        )
    settings = config.get("config") or {}
    if (user := settings.get("User") or "") not in _ROOT:
        raise _broken("root", f"its user is '{user}': hosts start root only (USER root)")
    if settings.get("Entrypoint"):
        raise _broken(
            "plain commands",
            f"it has the entry point {settings['Entrypoint']}: commands must run as they are (ENTRYPOINT [])",
        )
    if not settings.get("Cmd"):
        raise _broken("plain commands", "it has no command to start the server (CMD)")
    if f"{label.reconstruction.port}/tcp" not in (settings.get("ExposedPorts") or {}):
        raise _broken("port", f"it does not expose port {label.reconstruction.port}, which its label names")
    found = (settings.get("Labels") or {}).get(LABEL)
    if found is None:
        raise _broken("label", f"it has no label '{LABEL}'")
    try:
        same = json.loads(base64.b64decode(found, validate=True)) == json.loads(label.to_json())
    except ValueError:
        same = False
    if not same:
        raise _broken("label", "its label is another than OpenReconLabel.json: build it again")
    for one in settings.get("Env") or []:
        if version := re.fullmatch(r"CUDA_VERSION=(\d+)(?:\.(\d+))?.*", one):
            _check_version(one, version[1], version[2])


def check_chroot(archive: Path) -> None:
    """See that FIRE can start what it finds.

    Args:
        archive: of a container's files, as ``docker export`` wrote it.

    Raises:
        ConfigError: it breaks a rule, which the text names.
    """
    with _opened(archive) as tar:
        start = None
        for member in _check_cuda(tar):
            if member.name.removeprefix("./") == START:
                start = member
        if start is None:
            raise _broken("FIRE", f"{archive} has no {START}, which FIRE starts")
        if not start.mode & 0o100:
            raise _broken("FIRE", f"{START} cannot be executed: chmod 755 start-fire.sh, and build it again")


def _check_cuda(tar: tarfile.TarFile) -> list[tarfile.TarInfo]:
    """See that no file of an archive tells of a newer CUDA; gives all of them."""
    members = []
    for member in tar:
        members.append(member)
        for sign in _SIGNS_OF_CUDA:
            if found := sign.search(member.name):
                _check_version(member.name, found[1], found[2])
        if _TORCH.search(member.name) and member.isfile():
            file = tar.extractfile(member)
            assert file is not None
            if found := _TORCH_CUDA.search(file.read(1 << 16).decode(errors="replace")):
                _check_version(member.name, found[1], found[2])
    return members


def _check_version(where: str, major: str, minor: str | None) -> None:
    found = (int(major), 0 if minor is None else int(minor))
    if found > _NEWEST_CUDA:
        newest, version = (".".join(map(str, one)) for one in (_NEWEST_CUDA, found))
        raise _broken(
            f"CUDA {newest} at most",
            f"{where} is of CUDA {version}: build upon an image without CUDA (scanside:cpu)",
        )


def _opened(archive: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(archive)
    except (OSError, tarfile.TarError) as error:
        raise ConfigError(f"{archive} cannot be read as an archive of Docker's: {error}") from error


def _json_of(tar: tarfile.TarFile, name: str) -> Any:
    try:
        file = tar.extractfile(name)
        assert file is not None
        return json.load(io.TextIOWrapper(file, "utf-8"))
    except (KeyError, ValueError, AssertionError) as error:
        raise _broken("docker save", f"{name} in the archive cannot be read: {error}") from error


# The packages


def check_package(package: Path, label: Label) -> None:
    """See that OpenRecon's reader of archives takes a package.

    Raises:
        ConfigError: it breaks a rule, which the text names.
    """
    wanted = {f"{label.package}.tar", f"{label.package}.pdf"}
    if package.name != f"{label.package}.zip":
        raise _broken("names", f"the package is called {package.name}, and must be {label.package}.zip")
    with zipfile.ZipFile(package) as archive:
        found = {one.filename for one in archive.infolist()}
        if found != wanted:
            raise _broken(
                "names",
                f"{package.name} holds {', '.join(sorted(found))}, not {' and '.join(sorted(wanted))}",
            )
        for one in archive.infolist():
            if one.compress_type != zipfile.ZIP_DEFLATED:
                raise _broken("Deflate", f"{one.filename} in {package.name} is stored by another method")


def _write_zip(path: Path, files: dict[str, Path]) -> None:
    draft = path.with_name(f".{path.name}.part")
    try:
        # Fast: what is in layers of an image is large, and little of it becomes much smaller.
        with zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for name, file in files.items():
                archive.write(file, name)
        draft.replace(path)
    except BaseException:
        with suppress(OSError):
            draft.unlink()
        raise


def _make_file_system(archive: Path, image: Path, scratch: Path) -> None:
    """Write an ext3 file system with the files of an archive, without mounting anything."""
    mke2fs = shutil.which("mke2fs", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    # Owners of files can be given by root only, or remembered by fakeroot.
    as_root = [] if os.geteuid() == 0 else ["fakeroot"]
    for program in (mke2fs, *(shutil.which(one) for one in as_root)):
        if program is None:
            raise ConfigError(
                "a chroot for FIRE needs the programs mke2fs and, for others than root, fakeroot: apt install "
                "e2fsprogs fakeroot"
            )
    with tarfile.open(archive) as tar:
        size_mb = _size_mb(tar)
    root = scratch / "root"
    root.mkdir()
    script = 'tar -xpf "$1" -C "$2" && "$5" -q -F -t ext3 -d "$2" "$3" "$4"'
    command = [
        *as_root,
        "sh",
        "-c",
        script,
        "sh",
        str(archive.resolve()),
        str(root),
        str(image),
        f"{size_mb}M",
        str(mke2fs),
    ]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        raise ConfigError(f"the chroot for FIRE could not be made: {run.stderr.strip()[-1000:]}")


def _size_mb(members: Iterable[tarfile.TarInfo]) -> int:
    """Room for files in whole blocks, their places, and some to spare."""
    taken = sum(-(-one.size // _BLOCK) * _BLOCK + _BLOCK for one in members)
    return -(-int(1.15 * taken / 2**20 + _SPARE_MB) // _STEP_MB) * _STEP_MB
