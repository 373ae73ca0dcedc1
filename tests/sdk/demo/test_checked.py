"""The self-check in the demonstration: what was sent, what was not, and that it was told."""

from __future__ import annotations

from pathlib import Path

import pytest

from scanside.demo import DemoResult
from scanside.demo.checked import NOISY, UNCHECKED, run_checked
from scanside.demo.learned import SCAN
from scanside.mrd.hdf5 import Hdf5Reader
from scanside.mrd.meta import Meta


def test_noisy_scan_is_reconstructed_and_checked(made: DemoResult) -> None:
    assert [list(one.images) for one in made.checked.slices] == [["fft", "unrolled"]]
    with Hdf5Reader(made.folder / "checked" / "unrolled.h5") as reader:
        (series,) = reader.image_series()
        (image,) = reader.images(series)
    assert "ScansideCheck" in Meta.parse(image.attributes)


def test_engines_of_the_other_scan_serve_it() -> None:
    assert NOISY.geometry.matrix == SCAN.geometry.matrix
    assert NOISY.coils == SCAN.coils


@pytest.mark.slow
def test_shipped_networks_one_is_stopped_and_the_other_is_not(tmp_path: Path) -> None:
    result = run_checked(tmp_path / "out", on_step=lambda _: None)
    student, unrolled = result.methods
    assert any("self-check: worse than nothing" in note for note in student.notes)
    assert not any("fallback" in note or "self-check: worse" in note for note in unrolled.notes)
    (quality,) = (one.quality for one in result.slices)
    assert quality["student"].psnr_inside_db > quality[UNCHECKED].psnr_inside_db + 1
    assert quality["unrolled"].psnr_inside_db > quality["student"].psnr_inside_db + 1
