"""Coil maps that were estimated once: found again, made anew where they are damaged, and never more than fit."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.training.data.fastmri_files import write_images

from scanside_training.data import DataConfig, ReconstructionData, SampleKey, measured_scan
from scanside_training.data import kept_maps as module
from scanside_training.data.kept_maps import Calibration, KeptMaps
from scanside_training.data.simulation import Sample

MADE = Calibration(
    torch.randn(3, 8, 6, dtype=torch.complex64),
    torch.randn(3, dtype=torch.complex64),
    0.25,
    torch.rand(24, 21) > 0.5,
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("SCANSIDE_CACHE", str(folder))
    monkeypatch.setattr(module, "_rooms", {})
    return folder


def never() -> Calibration:
    raise AssertionError("it was kept")


def test_what_was_estimated_is_found_again(cache: Path) -> None:
    kept = KeptMaps(("file", 10, 20, 0), 1.0)
    assert kept.get({"lines": 24}, lambda: MADE) is MADE
    found = KeptMaps(("file", 10, 20, 0), 1.0).get({"lines": 24}, never)
    assert all(
        torch.equal(getattr(found, name), getattr(MADE, name)) for name in ("maps", "virtual", "region")
    )
    assert found.noise == 0.25
    for other, settings in (
        (("file", 11, 20, 0), {"lines": 24}),
        (("file", 10, 20, 1), {"lines": 24}),
        (("file", 10, 20, 0), {"lines": 20}),
    ):
        KeptMaps(other, 1.0).get(settings, lambda: MADE)
    assert len(list(cache.rglob("*.h5"))) == 4
    assert not list(cache.rglob("*.part"))


@pytest.mark.parametrize("damage", ["cut", "changed", "another"])
def test_what_is_damaged_is_estimated_again(
    cache: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    kept = KeptMaps(("file",), 1.0)
    kept.get({}, lambda: MADE)
    (path,) = cache.rglob("*.h5")
    content = bytearray(path.read_bytes())
    if damage == "cut":
        content = content[: len(content) // 2]
    elif damage == "changed":
        at = content.find(MADE.maps.numpy().tobytes()[:64])
        content[at + 5] ^= 0xFF
    else:
        content = bytearray(b"something else")
    path.write_bytes(bytes(content))
    with caplog.at_level(logging.WARNING):
        assert kept.get({}, lambda: MADE) is MADE
    assert "is damaged" in caplog.text
    assert torch.equal(kept.get({}, never).maps, MADE.maps)


def test_no_more_than_fits(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    most_gb = 2.5 * MADE.maps.nbytes / 1e9
    with caplog.at_level(logging.WARNING):
        for n in range(6):
            KeptMaps((n,), 4 * most_gb).get({}, lambda: MADE)
    assert 1 <= len(list(cache.rglob("*.h5"))) < 6
    assert caplog.text.count("espirit.kept_gb") == 1
    KeptMaps((0,), most_gb).get({}, never)


def test_a_folder_that_cannot_be_written(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache.parent.mkdir(exist_ok=True)
    cache.write_text("a file")
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert KeptMaps(("file",), 1.0).get({}, lambda: MADE) is MADE
    assert caplog.text.count("cannot be kept") == 1


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "files"
    found.mkdir()
    for n in range(2):
        images = np.random.default_rng(n).uniform(0.1, 1, (1, 48, 48)).astype(np.float32)
        write_images(found / f"file{n}.h5", images, f"patient-{n}", n_coils=3)
    return found


def samples_of(folder: Path, part: Any = "train", **changes: Any) -> list[Sample]:
    source = {"kind": "fastmri", "folder": folder, "what": "kspace"}
    source["split"] = {"train": ["patient-0"], "validation": ["patient-1"]}  # type: ignore[assignment]
    simulation = {"k1": [48, 48], "k0": [48, 48], "readout_crop": None, "multiple": 8}
    simulation |= {"masks": {"acceleration": [2, 2], "acs": changes.pop("acs", [12, 13])}} | changes
    config = {"sources": [source], "simulation": simulation, "batch_size": 1}
    samples = ReconstructionData(DataConfig.model_validate(config)).samples(part)
    return [samples[SampleKey(0, n, n)] for n in range(6)]


def test_samples_are_the_same_with_maps_that_were_kept(folder: Path, cache: Path) -> None:
    fresh = samples_of(folder, espirit={"kept_gb": 0})
    assert not cache.exists()
    first, again = samples_of(folder), samples_of(folder)
    assert len(list(cache.rglob("*.h5"))) == 2  # of 12 and of 13 lines
    for one in (first, again):
        for a, b in zip(fresh, one, strict=True):
            assert all(torch.equal(a[name], b[name]) for name in a)


def test_blocks_of_many_widths_are_cut_to_few_in_training(folder: Path, cache: Path) -> None:
    samples_of(folder, acs=[11, 22], espirit={"widths": 2})
    assert len(list(cache.rglob("*.h5"))) == 2
    samples_of(folder, "validation", acs=[11, 22])
    assert len(list(cache.rglob("*.h5"))) > 4  # of every width that was drawn


def test_lines_beyond_what_espirit_takes_are_all_the_same(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"acs": [14, 22], "espirit": {"calibration": 14}}
    samples_of(folder, **settings)
    assert len(list(cache.rglob("*.h5"))) == 1
    monkeypatch.setattr(measured_scan, "coarse_maps", lambda *_: pytest.fail("they were kept"))
    samples_of(folder, **settings)
