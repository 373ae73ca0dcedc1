"""Bundles: what is checked before anything in them is used."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from scanside.engines.bundle import Bundle, BundleWriter, manifest_of, replace_manifest, sign_bundle
from scanside.engines.manifest import Manifest
from scanside.engines.signing import generate_key
from scanside.engines.trust import TrustPolicy
from scanside.errors import BundleError, SignatureError, UnsafeArchive

Fields = Callable[..., dict[str, Any]]


def rewrite(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the manifest behind the library's back."""
    path = folder / "manifest.json"
    fields = json.loads(path.read_bytes())
    change(fields)
    path.write_text(json.dumps(fields))


def test_bundle_gives_what_was_written(bundle_folder: Path) -> None:
    bundle = Bundle.open(bundle_folder)
    assert bundle.name == "tiny"
    assert bundle.signer is None
    assert bundle.weights()["scale"].tolist() == [2.0]
    vectors = bundle.vectors()
    (output,) = bundle.graph().module()(bundle.weights(), vectors["real-0.image"][None])
    torch.testing.assert_close(output, vectors["real-0.truth"], rtol=0, atol=0)
    assert bundle.graph_sha256() == bundle.manifest.files["graph.pt2"].sha256
    assert bundle.built_engine("0" * 32) is None
    assert bundle.policy == TrustPolicy()
    policy = TrustPolicy(keys=bundle_folder)
    assert Bundle.open(bundle_folder, policy).policy == policy


@pytest.mark.parametrize("name", ["weights.safetensors", "graph.pt2", "vectors.safetensors"])
def test_one_changed_bit_is_found(bundle_folder: Path, name: str) -> None:
    data = bytearray((bundle_folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (bundle_folder / name).write_bytes(data)
    with pytest.raises(BundleError, match=f"{name} was changed: its SHA-256"):
        Bundle.open(bundle_folder)


def test_the_manifest_alone_needs_no_other_file(bundle_folder: Path) -> None:
    expected = Bundle.open(bundle_folder).manifest
    next(bundle_folder.glob("*.pt2")).unlink()
    assert manifest_of(bundle_folder) == expected
    (bundle_folder / "manifest.json").unlink()
    with pytest.raises(BundleError, match=r"it has no manifest\.json"):
        manifest_of(bundle_folder)


def test_wrong_hash_in_the_manifest_is_found(bundle_folder: Path) -> None:
    rewrite(bundle_folder, lambda fields: fields["files"]["graph.pt2"].update(sha256="0" * 64))
    with pytest.raises(BundleError, match=r"the manifest says 0000"):
        Bundle.open(bundle_folder)


def test_other_size_is_found(bundle_folder: Path) -> None:
    with (bundle_folder / "weights.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(BundleError, match="bytes, the manifest says"):
        Bundle.open(bundle_folder)


def test_missing_file_is_named(bundle_folder: Path) -> None:
    (bundle_folder / "weights.safetensors").unlink()
    with pytest.raises(BundleError, match=r"file 'weights.safetensors' is missing"):
        Bundle.open(bundle_folder)


@pytest.mark.parametrize("name", ["more.txt", ".hidden", "folder/more.py", "GRAPH.pt2"])
def test_file_that_is_not_listed_is_refused(bundle_folder: Path, name: str) -> None:
    (bundle_folder / name).parent.mkdir(exist_ok=True)
    (bundle_folder / name).write_text("x")
    with pytest.raises(BundleError, match="does not stand in the manifest"):
        Bundle.open(bundle_folder)


def test_path_that_points_outside_is_refused(bundle_folder: Path) -> None:
    (bundle_folder.parent / "outside").write_text("x")
    rewrite(
        bundle_folder, lambda fields: fields["files"].update({"../outside": {"sha256": "0" * 64, "size": 1}})
    )
    with pytest.raises(
        BundleError, match=r"json: files: '\.\./outside' is no path inside a bundle.*do not use"
    ):
        Bundle.open(bundle_folder)


def test_links_are_refused_even_to_equal_files(bundle_folder: Path) -> None:
    outside = bundle_folder.parent / "weights"
    shutil.move(bundle_folder / "weights.safetensors", outside)
    (bundle_folder / "weights.safetensors").symlink_to(outside)
    with pytest.raises(BundleError, match="is a symbolic link"):
        Bundle.open(bundle_folder)


def test_linked_folder_inside_is_refused(bundle_folder: Path) -> None:
    (bundle_folder / "engines").symlink_to(bundle_folder.parent)
    with pytest.raises(BundleError, match="is a symbolic link"):
        Bundle.open(bundle_folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_pipe_is_refused_and_not_read(bundle_folder: Path) -> None:
    os.mkfifo(bundle_folder / "pipe")
    with pytest.raises(BundleError, match="not a plain file"):
        Bundle.open(bundle_folder)


def test_newer_bundle_is_refused(bundle_folder: Path) -> None:
    rewrite(bundle_folder, lambda fields: fields.update(schema_version=7))
    with pytest.raises(BundleError, match="made by a newer Scanside"):
        Bundle.open(bundle_folder)


def test_huge_manifest_is_not_read(bundle_folder: Path) -> None:
    with (bundle_folder / "manifest.json").open("ab") as file:
        file.truncate(2**30)
    with pytest.raises(BundleError, match="larger than"):
        Bundle.open(bundle_folder)


def test_other_folders_are_no_bundles(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"it has no manifest\.json"):
        Bundle.open(tmp_path)
    with pytest.raises(BundleError, match="a bundle is a folder"):
        Bundle.open(tmp_path / "nothing")


def test_graph_with_pickles_is_refused_when_the_bundle_is_opened(bundle_folder: Path) -> None:
    program = torch.export.export(torch.nn.Conv2d(2, 2, 1), (torch.zeros(1, 2, 8, 8),))
    torch.export.save(program, bundle_folder / "graph.pt2")
    data = (bundle_folder / "graph.pt2").read_bytes()
    record = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    rewrite(bundle_folder, lambda fields: fields["files"].update({"graph.pt2": record}))
    with pytest.raises(UnsafeArchive):
        Bundle.open(bundle_folder)


def test_file_that_changes_after_opening_is_not_used(bundle_folder: Path) -> None:
    bundle = Bundle.open(bundle_folder)
    save_file({"scale": torch.tensor([3.0])}, bundle_folder / "weights.safetensors")
    with pytest.raises(BundleError, match="changed since the bundle was opened"):
        bundle.weights()


def test_what_is_not_listed_cannot_be_read(bundle_folder: Path) -> None:
    bundle = Bundle.open(bundle_folder)
    for name in ("manifest.json", "../outside", "/etc/passwd"):
        with pytest.raises(BundleError, match="lists no file"):
            bundle.read(name)


def test_precision_without_graph_is_named(bundle_folder: Path) -> None:
    with pytest.raises(BundleError, match="no graph in bf16, only in fp32"):
        Bundle.open(bundle_folder).graph("bf16")


def test_weights_that_are_no_tensors_are_refused(
    bundle_folder: Path, tmp_path: Path, bundle_fields: Fields
) -> None:
    with BundleWriter(tmp_path / "new") as writer:
        for name in ("graph.pt2", "vectors.safetensors"):
            shutil.copy(bundle_folder / name, writer.path(name))
        torch.save({"scale": torch.ones(1)}, writer.path("weights.safetensors"))
        writer.finish(**bundle_fields())
    with pytest.raises(BundleError, match="no safetensors file"):
        Bundle.open(tmp_path / "new").weights()


class TestNativeCode:
    """Built engines inside a bundle."""

    @pytest.fixture
    def with_engine(self, bundle_folder: Path, tmp_path: Path, bundle_fields: Fields) -> Path:
        folder = tmp_path / "with-engine"
        with BundleWriter(folder) as writer:
            for name in ("graph.pt2", "vectors.safetensors", "weights.safetensors"):
                shutil.copy(bundle_folder / name, writer.path(name))
            writer.path("engines/0123/engine.so").write_bytes(b"\x7fELF")
            writer.finish(**bundle_fields())
        return folder

    def test_unsigned_is_refused_under_every_policy(self, with_engine: Path) -> None:
        with pytest.raises(
            SignatureError, match=r"native code \('engines/0123/engine.so'\).*no one signed it"
        ):
            Bundle.open(with_engine)

    def test_signed_by_a_stranger_is_refused(self, with_engine: Path, tmp_path: Path) -> None:
        private, _, _ = generate_key(tmp_path / "keys", "stranger")
        sign_bundle(with_engine, private)
        with pytest.raises(SignatureError, match="signed by unknown key"):
            Bundle.open(with_engine, TrustPolicy(keys=tmp_path / "empty"))

    def test_signed_by_a_trusted_key_is_taken(self, with_engine: Path, tmp_path: Path) -> None:
        private, public, _ = generate_key(tmp_path / "keys", "site")
        sign_bundle(with_engine, private)
        trusted = tmp_path / "trusted"
        trusted.mkdir(mode=0o700)
        shutil.copy(public, trusted)
        bundle = Bundle.open(with_engine, TrustPolicy(keys=trusted))
        engine = bundle.built_engine("0123")
        assert engine is not None
        assert (engine / "engine.so").read_bytes() == b"\x7fELF"
        assert bundle.built_engine("012") is None


class TestWriter:
    """Bundles are there whole, or not at all."""

    def test_nothing_is_left_of_a_failure(self, tmp_path: Path) -> None:
        with pytest.raises(BundleError), BundleWriter(tmp_path / "new") as writer:
            writer.path("weights.safetensors").write_bytes(b"x") and writer.finish(typo=1)
        assert list(tmp_path.iterdir()) == []

    def test_fields_that_are_wrong_are_named(self, tmp_path: Path, bundle_fields: Fields) -> None:
        with (
            BundleWriter(tmp_path / "new") as writer,
            pytest.raises(BundleError, match="is named but does not"),
        ):
            writer.finish(**bundle_fields())
        assert list(tmp_path.iterdir()) == []

    def test_files_without_a_part_are_refused(
        self, bundle_folder: Path, tmp_path: Path, bundle_fields: Fields
    ) -> None:
        with BundleWriter(tmp_path / "new") as writer:
            for name in ("graph.pt2", "vectors.safetensors", "weights.safetensors"):
                shutil.copy(bundle_folder / name, writer.path(name))
            writer.path("notes.txt").write_text("x")
            with pytest.raises(BundleError, match=r"'notes.txt' has no part"):
                writer.finish(**bundle_fields())

    def test_what_is_there_is_replaced_only_when_asked(
        self, bundle_folder: Path, bundle_fields: Fields
    ) -> None:
        with pytest.raises(FileExistsError, match="ask to replace"), BundleWriter(bundle_folder):
            pass
        files = {name: (bundle_folder / name).read_bytes() for name in ("graph.pt2", "vectors.safetensors")}
        with BundleWriter(bundle_folder, replace=True) as writer:
            for name, data in files.items():
                writer.path(name).write_bytes(data)
            save_file({"scale": torch.tensor([5.0])}, writer.path("weights.safetensors"))
            writer.finish(**bundle_fields(version="2.0.0"))
        bundle = Bundle.open(bundle_folder)
        assert bundle.manifest.version == "2.0.0"
        assert bundle.weights()["scale"].tolist() == [5.0]
        assert [path.name for path in bundle_folder.parent.iterdir()] == ["tiny"]

    def test_other_folders_are_never_replaced(self, tmp_path: Path) -> None:
        (tmp_path / "precious").mkdir()
        with (
            pytest.raises(FileExistsError, match="is no bundle"),
            BundleWriter(tmp_path / "precious", replace=True),
        ):
            pass

    def test_size_limit(
        self, bundle_folder: Path, tmp_path: Path, bundle_fields: Fields, caplog: pytest.LogCaptureFixture
    ) -> None:
        def write(folder: Path, size_limit: int | None) -> Manifest:
            with BundleWriter(folder, size_limit=size_limit) as writer:
                for name in ("graph.pt2", "vectors.safetensors"):
                    shutil.copy(bundle_folder / name, writer.path(name))
                save_file({"scale": torch.zeros(2_000_000)}, writer.path("weights.safetensors"))
                return writer.finish(**bundle_fields())

        with pytest.raises(BundleError, match=r"has 8\.1 MB; at most 6\.0 MB"):
            write(tmp_path / "refused", 6_000_000)
        write(tmp_path / "warned", None)
        assert "has 8.1 MB; bundles that are shipped have at most 6 MB" in caplog.text


def test_manifest_can_be_replaced_and_its_signature_goes(bundle_folder: Path, tmp_path: Path) -> None:
    private, _, _ = generate_key(tmp_path / "keys", "site")
    sign_bundle(bundle_folder, private)
    assert (bundle_folder / "signature.json").exists()
    before = Bundle.open(bundle_folder).manifest
    changed = replace_manifest(bundle_folder, description="Says more.")
    assert not (bundle_folder / "signature.json").exists()
    assert Bundle.open(bundle_folder).manifest == changed
    assert changed == before.model_copy(update={"description": "Says more."})
    with pytest.raises(BundleError, match="Extra inputs"):
        replace_manifest(bundle_folder, typo="x")
