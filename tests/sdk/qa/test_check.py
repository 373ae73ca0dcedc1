"""A disk of known size, signal, noise, ghost and slope is measured as what it is, and what is wrong is flagged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scanside.errors import ScanError
from scanside.qa import Limits, check
from scanside.qa.check import Checked, _learned
from scanside.testing.small import small_image

Scan = Callable[..., Path]


def failed(checked: Checked) -> list[str]:
    return [verdict.measure for verdict in checked.result.verdicts if not verdict.passed]


def test_good_phantom(disk_scan: Scan, plain: str) -> None:
    checked = check(disk_scan(), pipeline=plain, nominal_mm=170.0)
    result = checked.result
    assert result.passed
    assert failed(checked) == []
    # Signal 1 and noise of 0.02 in the real part, which is that of the magnitude where the signal is high.
    assert result.snr == pytest.approx(50, rel=0.05)
    assert result.snr_method == "difference"
    assert result.n_repetitions == 2
    for diameter in result.diameters_mm.values():
        assert diameter == pytest.approx(170, abs=1.0)
    assert result.ghosting is not None
    assert result.ghosting < 0.005
    assert result.piu > 96
    assert (result.protocol, result.n_coils, result.field_strength_t) == ("disk", 4, 3.0)
    assert checked.phantom.center == pytest.approx((48, 48), abs=0.3)


def test_noise_by_replicas_is_that_by_repetitions(disk_scan: Scan, plain: str) -> None:
    for noise in (0.02, 0.05):
        result = check(disk_scan(repetitions=1, noise=noise), pipeline=plain).result
        assert result.snr_method == "replicas"
        assert result.snr == pytest.approx(1 / noise, rel=0.06)


def test_without_noise_readouts_and_repetitions_there_is_no_ratio(disk_scan: Scan, plain: str) -> None:
    result = check(disk_scan(repetitions=1, noise_scan="none"), pipeline=plain).result
    assert result.snr is None
    assert "no noise readouts" in result.notes[0]
    assert result.passed


def test_scale_error_is_flagged(disk_scan: Scan, plain: str) -> None:
    """The phantom is 3 % too wide along the readout, as after a wrong gradient calibration."""
    checked = check(disk_scan(stretch=1.03), pipeline=plain, nominal_mm=170.0)
    measured = checked.result.diameters_mm
    assert measured["x"] == pytest.approx(1.03 * 170, abs=1.0)
    assert measured["y"] == pytest.approx(170, abs=1.0)
    diagonal = 170 * np.sqrt(2 / (1 + 1 / 1.03**2))
    assert measured["diagonal"] == pytest.approx(diagonal, abs=1.0)
    assert "diameter x, mm" in failed(checked)
    assert "diameter y, mm" not in failed(checked)


@pytest.mark.parametrize("size", [140.0, 160.3, 181.5])
def test_diameter(disk_scan: Scan, plain: str, size: float) -> None:
    for diameter in check(disk_scan(diameter_mm=size), pipeline=plain).result.diameters_mm.values():
        assert diameter == pytest.approx(size, abs=1.0)  # of pixels of 2.5 mm


@pytest.mark.parametrize("ghost", [0.02, 0.06, 0.2])
def test_ghost_is_flagged(disk_scan: Scan, plain: str, ghost: float) -> None:
    checked = check(disk_scan(ghost=ghost, noise=0.0005), pipeline=plain, nominal_mm=170.0)
    expected = ghost / 2 / (1 - ghost / 2)
    assert checked.result.ghosting == pytest.approx(expected, rel=0.1)
    assert failed(checked) == (["ghosting"] if ghost > 0.05 else [])


def test_ghost_is_flagged_in_noise(disk_scan: Scan, plain: str) -> None:
    assert failed(check(disk_scan(ghost=0.2), pipeline=plain, nominal_mm=170.0)) == ["ghosting"]


@pytest.mark.parametrize("slope", [0.1, 0.3])
def test_slope_is_flagged_and_shifts_no_edge(disk_scan: Scan, plain: str, slope: float) -> None:
    checked = check(disk_scan(slope=slope, noise=0.002), pipeline=plain, nominal_mm=170.0)
    # Extremes of 1 + s x / a over spots of 1 cm² that lie within three quarters of the area.
    reach = np.sqrt(0.75) - np.hypot(5, 5) / 85
    assert checked.result.piu == pytest.approx(100 * (1 - slope * reach), abs=2.0)
    assert failed(checked) == (["uniformity (PIU), %"] if slope > 0.2 else [])
    assert checked.result.diameters_mm["x"] == pytest.approx(170, abs=1.0)


def test_change_of_the_ratio_is_flagged(disk_scan: Scan, plain: str) -> None:
    usual = [check(disk_scan(), pipeline=plain).result] * 3
    assert failed(check(disk_scan(), pipeline=plain, earlier=usual)) == []
    worse = check(disk_scan(noise=0.026), pipeline=plain, earlier=usual)
    assert failed(worse) == ["SNR"]
    assert failed(check(disk_scan(noise=0.015), pipeline=plain, earlier=usual)) == ["SNR"]
    # Others are no measure for this scan, and neither is anything for the first one.
    other = [one.model_copy(update={"n_coils": 12}) for one in usual]
    assert failed(check(disk_scan(noise=0.026), pipeline=plain, earlier=other)) == []
    limits = Limits(snr=45)
    assert failed(check(disk_scan(noise=0.026), pipeline=plain, limits=limits)) == ["SNR"]


def test_agreement(disk_scan: Scan, plain: str, tmp_path: Path) -> None:
    blurred = tmp_path / "blurred.yaml"
    blurred.write_text(
        Path(plain).read_text().replace("{fourier", "{filter: {k0: gaussian, k1: gaussian}}, {fourier")
    )
    same = check(disk_scan(), pipeline=plain, learned=plain)
    assert same.result.agreement == pytest.approx(0, abs=1e-6)
    assert same.learned is not None
    other = check(disk_scan(), pipeline=plain, learned=str(blurred))
    assert other.result.agreement is not None
    assert 0.005 < other.result.agreement < 0.05
    tight = check(disk_scan(), pipeline=plain, learned=str(blurred), limits=Limits(agreement=0.005))
    assert failed(tight) == ["learned against classical, NRMSE"]


def test_network_is_named_and_what_speaks_against_it_told() -> None:
    class Network:
        name = "network"

        def images(self) -> list[Any]:
            image = small_image()
            image.meta["ScansideEngine"] = ["brain-student", "1.2.0"]
            image.meta["ScansideWeights"] = ["9f2a", "9f2a" * 16]
            image.meta["ScansideFallback"] = ["sense", "deadline", "the engine took too long"]
            image.meta["ScansideFitness"] = ["matrix 24, trained for 64"]
            return [image]

    notes: list[str] = []
    plane, engine = _learned(Network(), 0, notes)  # type: ignore[arg-type]
    np.testing.assert_allclose(plane, small_image().data[0, 0].abs(), rtol=1e-6)
    assert engine == ("brain-student", "1.2.0", "9f2a" * 16)
    assert "fell back to sense: the engine took too long" in notes[0]
    assert "not trained for it: matrix 24" in notes[1]
    with pytest.raises(ScanError, match="no image of slice 5"):
        _learned(Network(), 5, notes)  # type: ignore[arg-type]


def test_what_it_refuses(disk_scan: Scan, plain: str) -> None:
    with pytest.raises(ScanError, match="no slice 3; it has 0"):
        check(disk_scan(), pipeline=plain, slice_=3)
    with pytest.raises(ScanError, match="reaches the edge"):
        check(disk_scan(diameter_mm=250.0), pipeline=plain)
    with pytest.raises(ScanError, match=r"% of the image|reaches the edge"):
        check(disk_scan(diameter_mm=20.0, noise=0.5), pipeline=plain)
