"""``scanside engines``."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import Result

from scanside.engines import catalog
from scanside.engines.build import Workshop
from scanside.engines.bundle import Bundle, replace_manifest
from scanside.engines.cache import EngineCache
from scanside.engines.signing import trusted_keys
from scanside.mrd.hdf5 import Hdf5Writer
from scanside.replay import replay
from scanside.simulate import CoilConfig, GeometryConfig, PhantomConfig, ScanConfig, simulate

Scanside = Callable[..., Result]


@pytest.fixture
def listed(bundle_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle that is found by its name."""
    monkeypatch.setenv("SCANSIDE_ENGINES", str(bundle_folder.parent))
    return bundle_folder


def test_list(scanside: Scanside, as_json: Callable[..., Any], listed: Path) -> None:
    damaged = Path(shutil.copytree(listed, listed.parent / "damaged"))
    (damaged / "graph.pt2").unlink()
    text = scanside("engines", "list").stdout
    assert "tiny 1.2.3" in text
    assert "file 'graph.pt2' is missing" in text
    by_name = {entry["name"]: entry for entry in as_json("engines", "list")["bundles"]}
    assert by_name["tiny"]["n_parameters"] == 1
    assert by_name["tiny"]["folder"] == str(listed)
    assert by_name["tiny"]["signer"] is None
    assert "is missing" in by_name["damaged"]["error"]


def test_show(scanside: Scanside, as_json: Callable[..., Any], listed: Path) -> None:
    text = scanside("engines", "show", "tiny").stdout
    for part in (
        "Multiplies by one number.",
        "any up to 640×640",
        "built beforehand: 64×64, 128×96",
        "R = 3–5, 16–32 ACS lines",
        "CC0",
        "zero-filled",
        "30.5",
    ):
        assert part in text, part
    assert as_json("engines", "show", "tiny")["shapes"]["multiple_of"] == 8


def test_show_tells_of_the_exact_form(scanside: Scanside, learned_bundles: Path) -> None:
    text = " ".join(scanside("engines", "show", learned_bundles / "exact").stdout.split())
    assert "form 'columns'" in text
    assert "exact, for k1 below 641, any number of coils; λ = 4 noise² within 0.01 and 1" in text


def test_show_tells_what_a_network_knows_of_its_errors(scanside: Scanside, doubting_bundle: Path) -> None:
    text = " ".join(scanside("engines", "show", doubting_bundle).stdout.split())
    assert "uncertainty (batch, 1, k1, k0)" in text
    assert "times 2.00; its correlation with the error was 0.60 on 8 images that trained nothing" in text


def test_name_that_does_not_exist(scanside: Scanside, listed: Path) -> None:
    assert "did you mean 'tiny'?" in scanside("engines", "show", "tinny", status=1).stderr


def test_verify(scanside: Scanside, listed: Path) -> None:
    assert (
        "3 files unchanged, graphs without code, not signed" in scanside("engines", "verify", "tiny").stdout
    )
    data = (listed / "weights.safetensors").read_bytes()
    (listed / "weights.safetensors").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert "weights.safetensors was changed" in scanside("engines", "verify", f"{listed}", status=1).stderr


def test_from_key_to_trusted_bundle(scanside: Scanside, listed: Path, tmp_path: Path) -> None:
    verify = ("engines", "verify", "tiny", "--require-signature", "--keys", tmp_path / "trusted")
    assert "is not signed" in scanside(*verify, status=1).stderr
    scanside("engines", "keygen", "site", "--folder", tmp_path / "keys")
    scanside("engines", "sign", "tiny", "--key", tmp_path / "keys" / "site.key.pem")
    assert "not among the 0 trusted keys" in scanside(*verify, status=1).stderr
    (tmp_path / "trusted").mkdir(mode=0o700)
    shutil.copy(tmp_path / "keys" / "site.pub.pem", tmp_path / "trusted")
    (key_id,) = trusted_keys(tmp_path / "trusted")
    assert f"signed by site ({key_id[:16]})" in scanside(*verify).stdout
    assert (
        "a key is never replaced"
        in scanside("engines", "keygen", "site", "--folder", tmp_path / "keys", status=1).stderr
    )


def test_build_engines_of_a_bundle(
    scanside: Scanside, listed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCANSIDE_ENGINE_CACHE", str(tmp_path / "cache"))
    build = ("engines", "build", "tiny", "--backend", "eager")
    text = scanside(*build, "--bucket", "64x64").stdout
    assert re.search(r"eager +fp32 +chosen", text)
    (entry,) = EngineCache(tmp_path / "cache").entries()
    assert entry.report.passed
    assert entry.key.shape == (64, 64)
    assert entry.key.weights_sha256 == Bundle.open(listed).manifest.weights_sha256


def test_engines_that_cannot_be_kept_are_no_success(
    scanside: Scanside, listed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").write_bytes(b"")
    monkeypatch.setenv("SCANSIDE_ENGINE_CACHE", str(tmp_path / "cache"))
    failed = scanside("engines", "build", "tiny", "--backend", "eager", "--bucket", "64x64", status=1)
    assert f"could not be kept in {tmp_path / 'cache'}" in failed.stderr


def recorded(path: Path, k0: int, k1: int, n_coils: int) -> Path:
    """A recording of which nothing but the header is looked at: its readout has twice the samples of the image."""
    config = ScanConfig(
        geometry=GeometryConfig(matrix=(k0, k1, 1)),
        phantom=PhantomConfig(kind="shepp-logan", supersampling=(1, 1, 1)),
        coils=CoilConfig(n_coils=n_coils),
    )
    scan = simulate(config)
    with Hdf5Writer(path, scan.header_xml) as writer:
        for item in scan.items():
            writer.write(item)
    return path


def test_build_engines_for_a_recording(
    scanside: Scanside, listed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that serve its images and no others: the bundle lists 64×64 and 128×96."""
    monkeypatch.setenv("SCANSIDE_ENGINE_CACHE", str(tmp_path / "cache"))
    build = ("engines", "build", "tiny", "--backend", "eager", "--for")
    text = scanside(*build, recorded(tmp_path / "scan.h5", k0=60, k1=100, n_coils=2)).stdout
    assert "128×96" in text
    assert [entry.key.shape for entry in EngineCache(tmp_path / "cache").entries()] == [(128, 96)]
    assert "144×96" in scanside(*build, recorded(tmp_path / "other.h5", k0=60, k1=140, n_coils=2)).stdout
    large = recorded(tmp_path / "large.h5", k0=60, k1=700, n_coils=2)
    error = scanside(*build, large, status=1).stderr
    assert "an image of 700×60 fits into no engine" in error


def test_an_odd_size_gets_the_next_that_the_network_takes(
    scanside: Scanside, listed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCANSIDE_ENGINE_CACHE", str(tmp_path / "cache"))
    build = ("engines", "build", "tiny", "--backend", "eager", "--bucket")
    assert "104×152" in scanside(*build, "97x149").stdout
    assert "takes images of up to 640×640" in scanside(*build, "97x1490", status=1).stderr


def test_build_engines_for_the_coils_of_a_recording(
    scanside: Scanside, learned_bundles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a replay needs is then there."""
    monkeypatch.setenv("SCANSIDE_ENGINE_CACHE", str(tmp_path / "cache"))
    for n_coils, n_virtual in ((4, 4), (10, 8)):
        scan = recorded(tmp_path / f"{n_coils}.h5", k0=32, k1=30, n_coils=n_coils)
        scanside("engines", "build", "gradient", "--backend", "eager", "--for", scan)
        keys = [entry.key for entry in EngineCache(tmp_path / "cache").entries()]
        assert n_virtual in {key.n_coils for key in keys}
        pipeline = tmp_path / "learned.yaml"
        engine = {"bundle": "gradient", "backend": "eager", "residual": None}
        stages = [
            *("noise", "oversampling", "accumulate", "coil-compression", "coil-maps"),
            *({"engine": engine}, "finish"),
        ]
        pipeline.write_text(yaml.safe_dump({"name": "learned", "stages": stages}), "utf-8")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Workshop, "_build", lambda *_: pytest.fail("an engine is built"))
            images = replay(scan, pipeline, device="cpu").images
        assert images[0].meta["ScansideBackend"][:1] == ["eager"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tiny", "--bucket", "64x64", "--for", "scan.h5"), "from --bucket or from --for, not from both"),
        ((".", "--output", "x", "--for", "scan.h5"), "--for is for bundles"),
        (("tiny", "--bucket", "64"), "expected two sizes, such as 256x256"),
        (("tiny", "--output", "x"), "--output is for training runs"),
        (("tiny", "--perturbation", "x.json"), "--perturbation is for training runs"),
        ((".",), "say with --output where its bundle goes"),
    ],
)
def test_build_says_what_is_missing(
    scanside: Scanside,
    listed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: Any,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in scanside("engines", "build", *arguments, status=2).stderr


def test_folder_that_is_no_run_is_named(scanside: Scanside, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    text = scanside("engines", "build", tmp_path / "run", "-o", tmp_path / "bundle", status=1).stderr
    assert "is no folder of a training run" in text
    assert not (tmp_path / "bundle").exists()


def test_releases(
    scanside: Scanside, as_json: Callable[..., Any], bundle_folder: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.setenv("SCANSIDE_ENGINES", str(site))
    assert "tiny is 1.2.3 now" in scanside("engines", "install", bundle_folder).stdout
    first = scanside("engines", "pin", "tiny").stdout.strip()
    replace_manifest(bundle_folder, version="1.3.0")
    scanside("engines", "install", bundle_folder)
    assert as_json("engines", "show", "tiny")["version"] == "1.3.0"
    assert as_json("engines", "show", first)["version"] == "1.2.3"
    found = as_json("engines", "releases", "tiny")["releases"]
    assert [(one["version"], one["current"]) for one in found] == [("1.2.3", False), ("1.3.0", True)]
    assert found[0]["pin"] == first
    assert "✓" in scanside("engines", "releases", "tiny").stdout
    assert "tiny is 1.2.3 now" in scanside("engines", "rollback", "tiny").stdout
    assert as_json("engines", "show", "tiny")["version"] == "1.2.3"
    assert "no other release" in scanside("engines", "rollback", "tiny", status=1).stderr
    assert "tiny is 1.3.0 now" in scanside("engines", "rollback", "tiny", "--to", "1.3.0").stdout


# Plans of TensorRT-RTX


@pytest.fixture
def site(listed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The engine cache of a machine that finds the small bundle, and no other."""
    monkeypatch.setenv("SCANSIDE_ENGINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(catalog, "_SHIPPED", tmp_path / "none")
    return tmp_path / "cache"


def test_from_a_plan_to_an_accepted_engine(
    scanside: Scanside, as_json: Callable[..., Any], site: Path, rtx_gpu: Any, plan_folder: Path
) -> None:
    assert as_json("engines", "list")["plans"] == []
    text = scanside("engines", "install", plan_folder.parent).stdout
    assert "tiny-1.2.3-64x64-fp32 is installed in" in text
    assert "waiting: not tried on this GPU yet" in text
    command = "scanside engines build tiny --backend tensorrt_rtx --bucket 64x64"
    assert command in text
    for asked in (("list",), ("show", "tiny")):
        (plan,) = as_json("engines", *asked)["plans"]
        assert (plan["state"], plan["advice"], plan["signer"]) == ("waiting", command, None)
        assert plan["record"]["targets"] == ["8.6", "8.9"]
    assert re.search(r"tensorrt_rtx +fp32 +chosen", scanside(*command.split()[1:]).stdout)
    (plan,) = as_json("engines", "list")["plans"]
    assert plan["state"] == "accepted"
    for asked in (("list",), ("show", "tiny")):
        text = " ".join(scanside("engines", *asked).stdout.split())
        assert "tiny-1.2.3-64x64-fp32" in text
        assert "accepted" in text


def test_plan_is_signed_and_verified_like_a_bundle(
    scanside: Scanside,
    site: Path,
    rtx_gpu: Any,
    plan_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SCANSIDE_TRUSTED_KEYS", str(tmp_path / "trusted"))
    asked = (plan_folder, "--require-signature")
    for command in ("verify", "install"):
        assert (
            "is not signed, and signatures are required here"
            in scanside("engines", command, *asked, status=1).stderr
        )
    assert "plan unchanged, not signed" in scanside("engines", "verify", plan_folder).stdout
    scanside("engines", "keygen", "site", "--folder", tmp_path / "keys")
    scanside("engines", "sign", plan_folder.parent, "--key", tmp_path / "keys" / "site.key.pem")
    assert "not among the 0 trusted keys" in scanside("engines", "install", *asked, status=1).stderr
    (tmp_path / "trusted").mkdir(mode=0o700)
    shutil.copy(tmp_path / "keys" / "site.pub.pem", tmp_path / "trusted")
    for folder in (plan_folder, plan_folder.parent):
        verified = scanside("engines", "verify", folder, "--require-signature").stdout
        assert "plan unchanged, signed by site" in verified
    scanside("engines", "install", *asked)
    assert re.search(r"signed by +site", scanside("engines", "show", plan_folder).stdout)


def test_show_a_plan(scanside: Scanside, as_json: Callable[..., Any], site: Path, plan_folder: Path) -> None:
    text = scanside("engines", "show", plan_folder).stdout
    for part in ("tiny 1.2.3, network in fp32", "8.6, 8.9", "image (1, 2, 64, 64)", "1.5.0.114", "no one"):
        assert part in text, part
    assert as_json("engines", "show", plan_folder)["layers"] == 3


def test_damaged_plan_is_not_installed(scanside: Scanside, site: Path, plan_folder: Path) -> None:
    (plan_folder / "engine.plan").write_bytes(b"times 3")
    assert "engine.plan was changed" in scanside("engines", "install", plan_folder, status=1).stderr
    assert not site.exists()


def test_plans_go_to_the_engine_cache(
    scanside: Scanside, site: Path, plan_folder: Path, tmp_path: Path
) -> None:
    failed = scanside("engines", "install", plan_folder, "--into", tmp_path / "site", status=2)
    assert "--into is for bundles" in failed.stderr


def test_cache_that_others_can_write_hides_plans_only(
    scanside: Scanside, site: Path, rtx_gpu: Any, plan_folder: Path
) -> None:
    scanside("engines", "install", plan_folder)
    site.chmod(0o777)
    listed = scanside("engines", "list")
    assert "tiny 1.2.3" in listed.stdout
    assert "plans are not listed: the engine cache" in listed.stderr
