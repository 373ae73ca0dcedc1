"""What a bundle says of itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from scanside.engines.manifest import (
    SCHEMA_VERSION,
    AcceptanceReport,
    Check,
    FileRecord,
    Manifest,
    Range,
    Shapes,
    TensorSpec,
    check_path,
)
from scanside.errors import BundleError

pytestmark = pytest.mark.torch_free

Fields = Callable[..., dict[str, Any]]
FILES = {
    name: FileRecord(sha256=f"{i:064x}", size=i)
    for i, name in enumerate(["weights.safetensors", "graph.pt2", "vectors.safetensors"], 1)
}

IMAGE = [{"name": "image", "axes": ["batch", 1, "k1", "k0"]}]


def manifest(fields: Fields, **changes: Any) -> Manifest:
    return Manifest(**{"files": FILES, **fields(**changes)})


def test_manifest_survives_its_file(bundle_fields: Fields) -> None:
    one = manifest(bundle_fields)
    data = one.to_bytes()
    assert Manifest.from_bytes(data) == one
    assert Manifest.from_bytes(data).to_bytes() == data
    assert json.loads(data)["name"] == "tiny"
    assert one.weights_sha256 == f"{1:064x}"
    assert one.size == 6
    assert one.precisions == ("fp32",)


def test_order_of_fields_does_not_change_the_file(bundle_fields: Fields) -> None:
    fields = {"files": FILES, **bundle_fields()}
    turned = Manifest(**dict(reversed(fields.items())))
    assert turned.to_bytes() == Manifest(**fields).to_bytes()


def test_newer_schema_is_refused_by_name(bundle_fields: Fields) -> None:
    fields = json.loads(manifest(bundle_fields).to_bytes())
    newer = json.dumps({**fields, "schema_version": SCHEMA_VERSION + 1, "a_field_to_come": 1}).encode()
    with pytest.raises(
        BundleError, match=rf"made by a newer Scanside .*schema {SCHEMA_VERSION + 1}.*update Scanside"
    ):
        Manifest.from_bytes(newer)


def test_older_schema_pads(bundle_fields: Fields) -> None:
    fields = json.loads(manifest(bundle_fields).to_bytes()) | {"schema_version": 3}
    del fields["shapes"]["fixed"]
    older = Manifest.from_bytes(json.dumps(fields).encode())
    assert older.schema_version == 3
    assert not older.shapes.fixed


@pytest.mark.parametrize("schema", [1, 2])
def test_older_schema_does_not_tell_the_noise(bundle_fields: Fields, schema: int) -> None:
    fields = json.loads(manifest(bundle_fields).to_bytes()) | {"schema_version": schema}
    del fields["sampling"]["snr"]
    older = Manifest.from_bytes(json.dumps(fields).encode())
    assert older.schema_version == schema
    assert older.sampling.snr is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b"[1]", "expected a JSON object, found list"),
        (b'{"name": "a", "name": "b"}', "a key stands twice"),
        (b"[" * 100_000, "not valid JSON"),
        (b"{}", "name: Field required"),
    ],
)
def test_other_files_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        Manifest.from_bytes(data, "here/manifest.json")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"naem": "x"}, "Extra inputs"),
        ({"name": "Not A Name"}, "pattern"),
        ({"task": "unrolled"}, "an unrolled network has data consistency"),
        ({"lowering": "fft"}, "an image network has none"),
        ({"graphs": {"bf16": "graph.pt2"}}, "graphs lacks 'fp32'"),
        ({"graphs": {"fp32": "graph.pt2", "int8": "graph.pt2"}}, "which no graph is in"),
        ({"calibration": "cases.safetensors"}, "'cases.safetensors' is named"),
        ({"graphs": {"fp32": "other.pt2"}}, "'other.pt2' is named but does not stand in files"),
        ({"shapes": {"multiple_of": 16, "buckets": [[64, 72]]}}, "64×72 is not divisible by 16"),
        ({"shapes": {"multiple_of": 8, "buckets": [[64, 64], [64, 64]]}}, "twice"),
        (
            {"shapes": {"multiple_of": 8, "buckets": [[64, 64]], "coils": [8]}},
            "exactly if an input has a coil axis",
        ),
        (
            {"parameters": [{"name": "te", "trained": {"low": 10, "high": 100}}]},
            "'parameters' says what the input of that name holds",
        ),
        (
            {"inputs": [*IMAGE, {"name": "parameters", "axes": ["batch", 1]}]},
            "'parameters' says what the input of that name holds",
        ),
        (
            {
                "inputs": [*IMAGE, {"name": "parameters", "axes": ["batch", 2]}],
                "parameters": [{"name": "te", "trained": {"low": 10, "high": 100}}],
            },
            "whose axes are 'batch' and their count",
        ),
        ({"parameters": [{"name": "echo", "trained": {"low": 1, "high": 2}}]}, "'acceleration'"),
        ({"task": "dynamic"}, "given exactly if the task is 'dynamic'"),
        ({"shapes": {"multiple_of": 8, "buckets": [[64, 64]], "frames": 8}}, "how long the window is"),
        ({"inputs": [{"name": "image", "axes": ["batch", 2, "time", "k1", "k0"]}]}, "how long the window is"),
        (
            {"inputs": [{"name": "kspace", "axes": ["batch", 2, "k1", "k0"]}]},
            "cannot be padded.*shapes.fixed",
        ),
        (
            {"shapes": {"multiple_of": 8, "buckets": [[64, 64], [64, 72]], "fixed": True}},
            "a fixed size has one bucket, got 2",
        ),
        ({"limits": {"fp32_relative_error": float("nan")}}, "finite"),
        ({"training": {"config": "config.yaml", "seed": 1}}, "'config.yaml' is named"),
        ({"created": "2026-01-02T03:04:05"}, "timezone"),
        ({"trained_on": []}, "at least 1"),
    ],
)
def test_what_cannot_be_right_is_refused(
    bundle_fields: Fields, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        manifest(bundle_fields, **changes)


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd", "../outside", "a/../../b", "a//b", "a/", "", ".", "..", ".hidden", "a\\b", "C:x", "a b",
        "a\nb", "ü", "a.", "a/b/c/d/e", "x" * 200, "manifest.json", "Manifest.JSON", "signature.json", "a\0b",
    ],
)  # fmt: skip
def test_paths_that_leave_the_folder_are_refused(bundle_fields: Fields, path: str) -> None:
    with pytest.raises(ValueError, match=r"is no path inside a bundle|its own list"):
        check_path(path)
    with pytest.raises(ValidationError):
        manifest(bundle_fields, files={**FILES, path: FileRecord(sha256="0" * 64, size=1)})


@pytest.mark.parametrize("path", ["graph.pt2", "engines/0a1b/engine.so", "a", "config-1.yaml", "a/b/c/d"])
def test_other_paths_pass(path: str) -> None:
    check_path(path)


def test_names_that_differ_by_case_only_are_refused(bundle_fields: Fields) -> None:
    with pytest.raises(ValidationError, match="upper and lower case"):
        manifest(bundle_fields, files={**FILES, "Graph.pt2": FILES["graph.pt2"]})


def test_ranges() -> None:
    assert 3 in Range(low=3, high=5)
    assert 5 in Range(low=3, high=5)
    assert 5.1 not in Range(low=3, high=5)
    assert str(Range(low=3, high=5)) == "3–5"
    assert str(Range(low=4, high=4)) == "4"
    with pytest.raises(ValidationError, match="is empty"):
        Range(low=5, high=3)


def test_coils_that_go_in() -> None:
    some = Shapes(multiple_of=1, buckets=((8, 8),), coils=(4, 8))
    assert [some.coils_for(n) for n in (3, 4, 7, 8, 32)] == [4, 4, 8, 8, 8]
    assert [some.accepts_coils(n) for n in (4, 5)] == [True, False]
    between = Shapes(multiple_of=1, buckets=((8, 8),), coils=Range(low=2, high=16))
    assert [between.coils_for(n) for n in (1, 2, 9, 32)] == [2, 2, 9, 16]
    assert [between.accepts_coils(n) for n in (1, 16, 17)] == [False, True, False]
    none = Shapes(multiple_of=1, buckets=((8, 8),))
    assert none.coils_for(8) is None
    assert not none.accepts_coils(8)


def test_shape_of_an_input() -> None:
    maps = TensorSpec(name="maps", axes=("batch", "coil", 2, "k1", "k0"))
    assert maps.shape(64, 48, n_coils=8) == (1, 8, 2, 64, 48)
    with pytest.raises(ValueError, match="say how many coils"):
        maps.shape(64, 48)
    p = TensorSpec(name="p", axes=("batch", "time", 2, "k1", "k1"))
    assert p.shape(64, 48, n_frames=12) == (1, 12, 2, 64, 64)
    with pytest.raises(ValueError, match="say how many frames"):
        p.shape(64, 48)


@pytest.mark.parametrize("lowering", ["none", "pmatrix", "fft", "dft_matmul"])
def test_networks_for_films_may_do_without_data_consistency(bundle_fields: Fields, lowering: str) -> None:
    one = manifest(
        bundle_fields,
        task="dynamic",
        lowering=lowering,
        inputs=[{"name": "image", "axes": ["batch", 2, "time", "k1", "k0"]}],
        shapes={"multiple_of": 8, "buckets": [[64, 64]], "frames": 12},
    )
    assert one.shapes.frames == 12
    assert Manifest.from_bytes(one.to_bytes()) == one


def test_manifests_from_before_there_were_films_are_read(bundle_fields: Fields) -> None:
    fields = json.loads(manifest(bundle_fields).to_bytes())
    del fields["shapes"]["frames"]
    assert Manifest.from_bytes(json.dumps(fields).encode()).shapes.frames is None


def test_manifests_from_before_there_was_int8_are_read(bundle_fields: Fields) -> None:
    fields = json.loads(manifest(bundle_fields).to_bytes())
    del fields["calibration"]
    assert Manifest.from_bytes(json.dumps(fields).encode()).calibration is None


def test_report_passes_only_with_all_its_checks(bundle_fields: Fields) -> None:
    def report(*passed: bool) -> AcceptanceReport:
        checks = [Check(name=f"check {i}", value=None, passed=one) for i, one in enumerate(passed)]
        return AcceptanceReport(
            backend="eager", precision="fp32", shape=(64, 64), hardware="cpu", versions={}, checks=tuple(checks),
            created=bundle_fields()["created"],
        )  # fmt: skip

    assert report(True, True).passed
    assert not report(True, False).passed
    assert [check.name for check in report(True, False).failures] == ["check 1"]
    with pytest.raises(ValidationError):
        report()
