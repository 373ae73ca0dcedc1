"""Coil maps as a stage, against the sensitivities that the simulated coils have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from scanside import KSpace
from scanside.errors import CalibrationError
from scanside.items import Calibration
from scanside.recon import coil_maps as functions
from scanside.recon.fourier import to_image
from scanside.simulate import CoilConfig, DynamicsConfig, NoiseConfig, PhantomConfig, SamplingConfig
from scanside.stages._calibration import _around
from scanside.stages.coil_maps import CoilMaps
from scanside.stages.fourier import Fourier
from scanside.stages.sense import Sense

METHODS = ["inati", "walsh", "espirit"]
EMBEDDED = SamplingConfig(acceleration=(2, 1), acs=(24, 0))
SEPARATE = SamplingConfig(acceleration=(2, 1), acs=(24, 0), acs_mode="separate")


def mismatch(maps: torch.Tensor, truth: Any, slice_: int = 0) -> npt.NDArray[np.float64]:
    """1 − |cosine| between maps and true sensitivities over the coils, in voxels within the object."""
    sensitivities = truth.maps[slice_]
    sensitivities = sensitivities / np.linalg.norm(sensitivities, axis=0)
    overlap = np.abs((maps.numpy().conj() * sensitivities).sum(axis=0))
    differs: npt.NDArray[np.float64] = 1 - overlap[truth.mask[slice_]].astype(np.float64)
    return differs


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "sampling", [SamplingConfig(), EMBEDDED, SEPARATE], ids=["full", "embedded", "separate"]
)
def test_maps_are_the_sensitivities(
    accumulated: Any, run_stage: Any, method: str, sampling: SamplingConfig
) -> None:
    scan, (item,), _ = accumulated(sampling=sampling)
    maps = run_stage(CoilMaps(method=method), scan.header_xml, [item]).one.coil_maps
    assert maps.shape == (6, 1, 36, 40)
    differs = mismatch(maps, scan.truth)
    assert np.median(differs) < 0.003
    assert np.quantile(differs, 0.9) < 0.03
    # A map of the neighbouring voxels would not do: the bound bites.
    assert np.median(mismatch(maps.roll(6, dims=-1), scan.truth)) > 0.01
    length = maps.abs().square().sum(0).sqrt()
    assert bool(((length - 1).abs() < 1e-4).logical_or(length == 0).all())


def test_large_arrays_are_mapped_by_combinations(
    accumulated: Any, run_stage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The maps are those of the coils, in less time."""
    noise = NoiseConfig(std=0.005, neighbour_correlation=0.0, spread=0.0, scan="none")
    scan, (item,), _ = accumulated(coils=CoilConfig(n_coils=32), sampling=EMBEDDED, noise=noise)
    fast = run_stage(CoilMaps(method="espirit"), scan.header_xml, [item]).one.coil_maps
    monkeypatch.setattr("scanside.stages.coil_maps._MANY", 32)
    slow = run_stage(CoilMaps(method="espirit"), scan.header_xml, [item]).one.coil_maps
    assert fast.shape == slow.shape == (32, 1, 36, 40)
    assert np.median(mismatch(fast, scan.truth)) < 0.0005
    assert np.median(mismatch(slow, scan.truth)) < 0.0005
    assert not torch.equal(fast, slow)


def test_maps_that_are_there_stay(accumulated: Any, run_stage: Any) -> None:
    scan, (item,), _ = accumulated()
    known = item.replace(coil_maps=torch.ones(6, 1, 36, 40, dtype=torch.complex64))
    assert run_stage(CoilMaps(), scan.header_xml, [known]).one is known


@pytest.fixture
def estimates(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for every estimate."""
    done: list[int] = []
    estimate: Callable[..., torch.Tensor] = functions.inati

    def counted(*args: Any, **settings: Any) -> torch.Tensor:
        done.append(len(done))
        return estimate(*args, **settings)

    monkeypatch.setattr(functions, "inati", counted)
    return done


@pytest.mark.parametrize(("sampling", "n"), [(SEPARATE, 1), (EMBEDDED, 4)], ids=["separate", "embedded"])
def test_estimated_once_for_separate_lines(
    accumulated: Any, run_stage: Any, estimates: list[int], sampling: SamplingConfig, n: int
) -> None:
    dynamics = DynamicsConfig(phases=2, repetitions=2)
    scan, items, _ = accumulated(sampling=sampling, dynamics=dynamics, phantom=PhantomConfig(kind="cardiac"))
    out = run_stage(CoilMaps(), scan.header_xml, items).items
    assert len(out) == 4
    assert len(estimates) == n


def test_each_slice_has_its_own(accumulated: Any, run_stage: Any) -> None:
    from scanside.simulate import GeometryConfig

    geometry = GeometryConfig(matrix=(40, 36, 1), fov_mm=(240.0, 216.0, 6.0), n_slices=2, slice_gap_mm=60.0)
    scan, items, _ = accumulated(sampling=SEPARATE, geometry=geometry)
    together = run_stage(CoilMaps(), scan.header_xml, items).items
    alone = [run_stage(CoilMaps(), scan.header_xml, [item]).one for item in items]
    for item, same in zip(together, alone, strict=True):
        assert torch.equal(item.coil_maps, same.coil_maps)
    assert not torch.equal(together[0].coil_maps, together[1].coil_maps)


@pytest.mark.parametrize("method", METHODS)
def test_three_dimensions(accumulated: Any, run_stage: Any, method: str) -> None:
    sampling = SamplingConfig(acceleration=(2, 1), acs=(16, 10), acs_mode="separate")
    scan, (item,), _ = accumulated((24, 20, 14), sampling=sampling)
    maps = run_stage(CoilMaps(method=method, kernel=5), scan.header_xml, [item]).one.coil_maps
    assert np.median(mismatch(maps, scan.truth)) < 0.02


@pytest.mark.parametrize(
    ("method", "purpose"), [("espirit", "ESPIRiT"), ("inati", "the estimation of coil maps")]
)
def test_no_calibration_lines(accumulated: Any, run_stage: Any, method: str, purpose: str) -> None:
    scan, (item,), _ = accumulated(sampling=SamplingConfig(acceleration=(3, 1)))
    told = (
        rf"{purpose} needs calibration \(ACS\) lines, but there are none.*k1 rows 0..33 in steps of 3 of 36"
    )
    with pytest.raises(CalibrationError, match=told):
        run_stage(CoilMaps(method=method), scan.header_xml, [item])


@pytest.mark.parametrize("n_lines", [3, 4, 6, 8, 10])
def test_images_of_few_calibration_lines(accumulated: Any, run_stage: Any, n_lines: int) -> None:
    """They are better than with the missing lines left zero, though they lose with each line that lacks."""
    quiet = CoilConfig(n_coils=8)
    _, (whole,), _ = accumulated((96, 90, 1), coils=quiet)
    reference = to_image(whole.data, (-2, -1)).norm(dim=0)[0]
    sampling = SamplingConfig(acceleration=(3, 1), acs=(n_lines, 0))
    noise = NoiseConfig(std=0.005, scan="none")
    scan, (item,), _ = accumulated((96, 90, 1), coils=quiet, sampling=sampling, noise=noise)
    mapped = run_stage(CoilMaps(method="espirit"), scan.header_xml, [item]).one
    image = run_stage(Sense(), scan.header_xml, [mapped]).one.data[0, 0]
    zero_filled = run_stage(Fourier(), scan.header_xml, [item]).one.data[0, 0]
    least = {3: 0.5, 4: 2.0, 6: 4.0, 8: 4.0, 10: 4.0}[n_lines]
    assert decibels(image, reference) > decibels(zero_filled, reference) + least


def decibels(image: torch.Tensor, reference: torch.Tensor) -> float:
    """Of the reference over what is left of it after the best scalar fit."""
    magnitude = image.abs()
    fitted = magnitude * (magnitude * reference).sum() / magnitude.square().sum()
    return float(20 * torch.log10(reference.norm() / (fitted - reference).norm()))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("acs", [0, 4])
def test_one_coil(accumulated: Any, run_stage: Any, method: str, acs: int) -> None:
    """It needs no calibration, and its SENSE image is no worse than the zero-filled one."""
    sampling = SamplingConfig(pattern="random", acceleration=(2, 1), acs=(acs, 0))
    scan, (item,), _ = accumulated(coils=CoilConfig(n_coils=1), sampling=sampling)
    mapped = run_stage(CoilMaps(method=method), scan.header_xml, [item])
    assert bool((mapped.one.coil_maps == 1).all())
    assert mapped.scan.warnings == []
    image = run_stage(Sense(), scan.header_xml, [mapped.one]).one.data
    zero_filled = run_stage(Fourier(), scan.header_xml, [item]).one.data
    torch.testing.assert_close(image.abs() * 1.002, zero_filled.abs(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("n_lines", [6, 8, 10])
def test_few_calibration_lines_for_espirit(accumulated: Any, run_stage: Any, n_lines: int) -> None:
    """The kernel is what they allow, and that is told."""
    few = SamplingConfig(acceleration=(2, 1), acs=(n_lines, 0), acs_mode="separate")
    scan, (item,), _ = accumulated(sampling=few)
    ran = run_stage(CoilMaps(method="espirit"), scan.header_xml, [item])
    assert np.median(mismatch(ran.one.coil_maps, scan.truth)) < 0.02
    (told,) = ran.scan.warnings
    assert (
        f"kernel of {(n_lines + 1) // 2} along k1 instead of 6, since only {n_lines} calibration lines"
        in told
    )


def test_too_few_calibration_lines_for_espirit(accumulated: Any, run_stage: Any) -> None:
    few = SamplingConfig(acceleration=(2, 1), acs=(2, 0), acs_mode="separate")
    scan, (item,), _ = accumulated(sampling=few)
    told = r"1 x 2 x 24 .*at least 3 along each axis.*kspace_encode_step_1 17, 18$"
    with pytest.raises(CalibrationError, match=told):
        run_stage(CoilMaps(method="espirit"), scan.header_xml, [item])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n_partitions", [2, 3, 4, 6])
def test_thin_slabs(accumulated: Any, run_stage: Any, method: str, n_partitions: int) -> None:
    """Nothing is told of partitions that no scan of this slab could have."""
    sampling = SamplingConfig(acceleration=(2, 1), acs=(16, 0))
    scan, (item,), _ = accumulated((32, 32, n_partitions), sampling=sampling)
    ran = run_stage(CoilMaps(method=method), scan.header_xml, [item])
    assert np.median(mismatch(ran.one.coil_maps, scan.truth)) < 0.02
    assert ran.scan.warnings == []


@pytest.mark.parametrize("rows", [(0, 2), (1, 3), (0, 3), (1, 4)])
def test_thin_slabs_with_missing_partitions(accumulated: Any, run_stage: Any, rows: tuple[int, int]) -> None:
    """Partial Fourier along k2 leaves fewer partitions than a kernel needs."""
    n_partitions = 3 if rows[1] - rows[0] == 2 else 4
    scan, (item,), _ = accumulated((32, 32, n_partitions))
    item.data[:, : rows[0]] = item.data[:, rows[1] :] = 0
    item.mask[: rows[0]] = item.mask[rows[1] :] = False
    ran = run_stage(CoilMaps(method="espirit"), scan.header_xml, [item])
    assert np.median(mismatch(ran.one.coil_maps, scan.truth)) < 0.05


def test_middle_that_never_came(accumulated: Any, run_stage: Any) -> None:
    scan, (item,), _ = accumulated()
    item.mask[..., 17:] = False
    half = item.replace(incomplete="the scan ended early")
    told = r"k1 rows 0..16, is not at the centre.*k1 rows 0..16 of 36.*not complete \(the scan ended early\)"
    for method in METHODS:
        with pytest.raises(CalibrationError, match=told):
            run_stage(CoilMaps(method=method), scan.header_xml, [half])


def test_nothing_sampled_in_all_frames(accumulated: Any, run_stage: Any) -> None:
    sampling = SamplingConfig(acceleration=(4, 1), vary=True)
    scan, (item,), _ = accumulated(
        sampling=sampling, dynamics=DynamicsConfig(phases=4), settings={"together": ["phase"]}
    )
    assert isinstance(item, KSpace)
    with pytest.raises(CalibrationError, match="in all of the frames"):
        run_stage(CoilMaps(), scan.header_xml, [item])


@pytest.mark.parametrize(
    ("center", "rows", "expected"),
    [
        (12, slice(0, 24), slice(0, 24)),
        (5, slice(0, 11), slice(0, 11)),
        (40, slice(24, 80), slice(24, 57)),
        (40, slice(0, 56), slice(24, 56)),
        (0, slice(0, 1), slice(0, 1)),
    ],
)
def test_calibration_lies_around_the_centre(center: int, rows: slice, expected: slice) -> None:
    """What partial Fourier leaves reaches further on one side: its own middle is not the centre of k-space."""
    assert _around(center, rows) == expected


def test_ready_before_the_image(accumulated: Any, run_stage: Any, estimates: list[int]) -> None:
    """Maps are estimated when the calibration lines come, and serve the k-space and its repetitions."""
    scan, (item,), _ = accumulated(sampling=EMBEDDED)
    stage = CoilMaps()
    early = Calibration(item.replace(data=item.data.new_zeros(()).expand(item.data.shape)))
    assert run_stage(stage, scan.header_xml, [early]).items == []
    assert len(estimates) == 1
    same_lines = item.replace(reference=item.reference.replace(data=item.reference.data.clone()))
    first, again = run_stage(stage, scan.header_xml, [early, item, same_lines]).items
    assert len(estimates) == 2
    assert first.coil_maps is again.coil_maps
    assert torch.equal(first.coil_maps, run_stage(stage, scan.header_xml, [item]).one.coil_maps)
    louder = item.replace(reference=item.reference.replace(data=2 * item.reference.data))
    run_stage(stage, scan.header_xml, [item, louder])
    assert len(estimates) == 5


def test_early_lines_that_do_not_suffice(accumulated: Any, run_stage: Any) -> None:
    """More may come: what they lack is told with the whole k-space."""
    few = SamplingConfig(acceleration=(2, 1), acs=(2, 0), acs_mode="separate")
    scan, (item,), _ = accumulated(sampling=few)
    early = run_stage(CoilMaps(method="espirit"), scan.header_xml, [Calibration(item)])
    assert early.items == early.scan.warnings == []
    with pytest.raises(CalibrationError, match="at least 3"):
        run_stage(CoilMaps(method="espirit"), scan.header_xml, [Calibration(item), item])
