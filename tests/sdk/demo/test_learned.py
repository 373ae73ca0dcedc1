"""The learned pipelines in the demonstration, where bundles are there and where not."""

from __future__ import annotations

from pathlib import Path

import pytest

from scanside.demo import DemoResult
from scanside.demo.learned import SCAN, run_learned
from scanside.mrd.hdf5 import Hdf5Reader
from scanside.mrd.meta import Meta
from scanside.simulate import ScanConfig


def test_an_engine_made_the_image_in_the_node(made: DemoResult) -> None:
    (unrolled,) = (one for one in made.learned.methods if one.pipeline == "unrolled")
    assert (unrolled.missing, unrolled.notes) == ("", ())
    assert unrolled.choice is not None
    assert unrolled.choice.chosen is not None
    with Hdf5Reader(made.folder / "learned" / "unrolled.h5") as reader:
        (series,) = reader.image_series()
        metas = [Meta.parse(image.attributes) for image in reader.images(series)]
    assert len(metas) == 3
    for meta in metas:
        assert meta["ScansideBackend"][:2] == [
            unrolled.choice.chosen.backend,
            unrolled.choice.chosen.precision,
        ]


def test_no_more_engines_are_built_than_needed(made: DemoResult) -> None:
    choice = made.learned.methods[1].choice
    assert choice is not None
    assert choice.verdicts[0].status == "chosen"
    judged = [(one.backend, one.precision) for one in choice.verdicts if one.status != "absent"]
    assert judged == [("eager", "fp32")]
    reasons = {one.backend: one.why for one in choice.verdicts[1:]}
    assert reasons["onnxruntime"] == "not built on this machine yet"


def test_methods_are_compared_on_the_same_slices(made: DemoResult) -> None:
    assert [list(one.images) for one in made.learned.slices] == [["fft", "sense", "unrolled"]] * 3
    for one in made.learned.slices:
        assert one.quality["unrolled"].psnr_db > one.quality["fft"].psnr_db


def test_without_bundles_the_classical_images_are_there(
    small_scan: ScanConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scanside.engines.catalog._SHIPPED", tmp_path)
    monkeypatch.setenv("SCANSIDE_ENGINES", "")
    steps: list[str] = []
    one_slice = small_scan.model_copy(
        update={"geometry": small_scan.geometry.model_copy(update={"n_slices": 1})}
    )
    result = run_learned(tmp_path / "out", config=one_slice, on_step=steps.append)
    assert [one.pipeline for one in result.methods] == ["student", "unrolled"]
    for one in result.methods:
        assert "there is no bundle named" in one.missing
        assert one.choice is None
    assert list(result.slices[0].images) == ["fft", "sense"]
    assert not any("node" in step for step in steps)


def test_the_scan_is_one_that_the_networks_were_trained_for() -> None:
    n_x, n_y, _ = SCAN.geometry.matrix
    assert 160 <= n_y <= n_x <= 224
    assert 4 <= SCAN.coils.n_coils <= 8
    assert 3 <= SCAN.sampling.acceleration[0] <= 5
    assert 16 <= SCAN.sampling.acs[0] <= 24
