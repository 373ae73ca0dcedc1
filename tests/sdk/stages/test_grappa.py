"""GRAPPA as a stage: which lines it fills, from which calibration lines, and how often it learns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from scanside import KSpace
from scanside.errors import CalibrationError, ShapeError, StageConfigError
from scanside.recon import grappa as functions
from scanside.simulate import CoilConfig, DynamicsConfig, PhantomConfig, SamplingConfig
from scanside.stages.grappa import Grappa

R2 = SamplingConfig(acceleration=(2, 1), acs=(16, 0))
SEPARATE = SamplingConfig(acceleration=(2, 1), acs=(16, 0), acs_mode="separate")
HEART = {"phantom": PhantomConfig(kind="cardiac")}


def error(kspace: KSpace, full: KSpace) -> float:
    return float((kspace.data - full.data).norm() / full.data.norm())


@pytest.fixture
def calibrations(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of the blocks from which weights were learned."""
    shapes: list[tuple[int, ...]] = []
    learn: Callable[..., functions.GrappaWeights] = functions.calibrate

    def counted(block: torch.Tensor, *rest: Any) -> functions.GrappaWeights:
        shapes.append(tuple(block.shape))
        return learn(block, *rest)

    monkeypatch.setattr(functions, "calibrate", counted)
    return shapes


def test_fills_what_was_left_out(accumulated: Any, run_stage: Any) -> None:
    scan, (item,), _ = accumulated(sampling=R2)
    _, (full,), _ = accumulated()
    filled = run_stage(Grappa(), scan.header_xml, [item]).one
    assert error(filled, full) < 0.3 * error(item, full)
    acquired = item.mask[0]
    assert torch.equal(filled.data[..., acquired, :], item.data[..., acquired, :])
    assert torch.equal(filled.mask, item.mask), "the mask tells what was acquired"


def test_without_acceleration_nothing_happens(accumulated: Any, run_stage: Any) -> None:
    scan, (item,), _ = accumulated()
    assert run_stage(Grappa(), scan.header_xml, [item]).one is item


def test_missing_calibration_lines(accumulated: Any, run_stage: Any) -> None:
    scan, (item,), _ = accumulated(sampling=SamplingConfig(acceleration=(3, 1)))
    told = r"there are none.*k1 rows 0..33 in steps of 3 of 36 \(centre 18\)\. Acquire \(more\) ACS lines"
    with pytest.raises(CalibrationError, match=told):
        run_stage(Grappa(), scan.header_xml, [item])
    damaged = item.replace(incomplete="the scan ended early")
    with pytest.raises(CalibrationError, match=r"not complete \(the scan ended early\): acquire it again"):
        run_stage(Grappa(), scan.header_xml, [damaged])


def test_few_calibration_lines(accumulated: Any, run_stage: Any) -> None:
    """A smaller kernel is taken, and that is told."""
    scan, (item,), _ = accumulated(sampling=SamplingConfig(acceleration=(3, 1), acs=(6, 0)))
    ran = run_stage(Grappa(), scan.header_xml, [item])
    _, (full,), _ = accumulated()
    assert error(ran.one, full) < 0.5 * error(item, full)
    (told,) = ran.scan.warnings
    assert "6 k1 x 1 k2 lines is too small for the GRAPPA kernel (5, 4, 4)" in told
    assert "(3, 2, 1) is taken" in told


def test_too_few_calibration_lines(accumulated: Any, run_stage: Any) -> None:
    scan, (item,), _ = accumulated(sampling=SamplingConfig(acceleration=(3, 1), acs=(2, 0)))
    with pytest.raises(
        CalibrationError,
        match=r"2 k1 x 1 k2 lines.* too small.*at least 4.*calibration lines are kspace_encode_step_1 17..18",
    ):
        run_stage(Grappa(), scan.header_xml, [item])


@pytest.mark.parametrize("n_partitions", [2, 3, 4, 6])
@pytest.mark.parametrize("sampling", [R2, SEPARATE], ids=["embedded", "separate"])
def test_thin_slabs(accumulated: Any, run_stage: Any, sampling: SamplingConfig, n_partitions: int) -> None:
    """Fewer partitions than the kernel reads, in all of which the coils see something else."""
    coils = CoilConfig(n_coils=12)
    scan, (item,), _ = accumulated((32, 32, n_partitions), sampling=sampling, coils=coils)
    _, (full,), _ = accumulated((32, 32, n_partitions), coils=coils)
    ran = run_stage(Grappa(), scan.header_xml, [item])
    assert error(ran.one, full) < 0.4 * error(item, full)
    assert ran.scan.warnings == []
    acquired = item.mask
    assert torch.equal(ran.one.data[:, acquired], item.data[:, acquired])


def test_thin_slab_of_frames(accumulated: Any, run_stage: Any) -> None:
    """Frames that are sampled differently, each with its own weights or all with the same."""
    settings = {"together": ["phase"]}
    parts = {"dynamics": DynamicsConfig(phases=2), **HEART}
    shifting = SamplingConfig(acceleration=(2, 1), acs=(16, 0), vary=True)
    scan, (item,), _ = accumulated((32, 32, 3), sampling=shifting, settings=settings, **parts)
    _, (full,), _ = accumulated((32, 32, 3), settings=settings, **parts)
    assert error(run_stage(Grappa(), scan.header_xml, [item]).one, full) < 0.4 * error(item, full)


def test_thin_slab_with_a_lost_line(accumulated: Any, run_stage: Any) -> None:
    """It has other lines in one partition: weights that fit the whole slab do not serve it."""
    scan, (item,), _ = accumulated((32, 32, 4), sampling=SEPARATE)
    _, (full,), _ = accumulated((32, 32, 4))
    damaged = item.replace(data=item.data.clone(), mask=item.mask.clone(), incomplete="a line was lost")
    damaged.data[:, 1, 4] = 0
    damaged.mask[1, 4] = False
    whole, other = run_stage(Grappa(), scan.header_xml, [item, damaged]).items
    assert error(whole, full) < 0.3 * error(item, full)
    assert error(other, full) < 0.6 * error(damaged, full)


def test_partitions_that_nothing_fills(accumulated: Any, run_stage: Any) -> None:
    """Of four partitions, every second one acquired: the last lies beyond the last acquired one."""
    sampling = SamplingConfig(acceleration=(1, 2), acs=(20, 4))
    scan, (item,), _ = accumulated((32, 32, 4), sampling=sampling)
    (told,) = run_stage(Grappa(), scan.header_xml, [item]).scan.warnings
    assert "at the ends of k2, 1 of 4 stay zero" in told


@pytest.mark.parametrize("pattern", ["random", "variable-density"])
@pytest.mark.parametrize("incomplete", [None, "a line was lost"])
def test_irregular_sampling_is_refused(
    accumulated: Any, run_stage: Any, pattern: Any, incomplete: str | None
) -> None:
    sampling = SamplingConfig(pattern=pattern, acceleration=(3, 1), acs=(8, 0))
    scan, (item,), _ = accumulated(sampling=sampling)
    assert item.incomplete is None
    with pytest.raises(ShapeError, match=r"regular lattice.*irregular sampling.*pipeline 'sense'"):
        run_stage(Grappa(), scan.header_xml, [item.replace(incomplete=incomplete)])


def silent(item: KSpace) -> KSpace:
    """As if its header announced no acceleration."""
    return item.replace(encoding=replace(item.encoding, acceleration=(1, 1)))


@pytest.mark.parametrize("sampling", [R2, SEPARATE], ids=["embedded", "separate"])
def test_acceleration_of_the_lines(accumulated: Any, run_stage: Any, sampling: SamplingConfig) -> None:
    scan, (item,), _ = accumulated(sampling=sampling)
    expected = run_stage(Grappa(), scan.header_xml, [item]).one
    ran = run_stage(Grappa(), scan.header_xml, [silent(item)])
    assert torch.equal(ran.one.data, expected.data)
    assert ran.scan.warnings == [], "told where k-space was made"
    as_it_is = run_stage(Grappa(acceleration=(1, 1)), scan.header_xml, [silent(item)])
    assert torch.equal(as_it_is.one.data, item.data)
    assert as_it_is.scan.warnings == []


@pytest.mark.parametrize(
    "sampling",
    [
        SamplingConfig(partial_fourier=(0.7, 1)),
        SamplingConfig(phase_resolution=0.6),
        SamplingConfig(partial_fourier=(0.7, 1), partial_fourier_side="late"),
    ],
    ids=["early", "reduced", "late"],
)
def test_full_bands_show_no_acceleration(accumulated: Any, run_stage: Any, sampling: SamplingConfig) -> None:
    scan, (item,), _ = accumulated(sampling=sampling)
    ran = run_stage(Grappa(), scan.header_xml, [item])
    assert ran.one is item
    assert ran.scan.warnings == []


def test_irregular_lines_without_acceleration_in_the_header(accumulated: Any, run_stage: Any) -> None:
    sampling = SamplingConfig(pattern="variable-density", acceleration=(2, 1), acs=(12, 0))
    scan, (item,), _ = accumulated(sampling=sampling)
    with pytest.raises(
        ShapeError, match=r"announces no acceleration.*not in regular steps.*pipeline 'sense'"
    ):
        run_stage(Grappa(), scan.header_xml, [silent(item)])


def test_separate_calibration_is_learned_once(
    accumulated: Any, run_stage: Any, calibrations: list[tuple[int, ...]]
) -> None:
    dynamics = DynamicsConfig(phases=2, repetitions=2)
    scan, items, _ = accumulated(sampling=SEPARATE, dynamics=dynamics, **HEART)
    _, full, _ = accumulated(dynamics=dynamics, **HEART)
    ran = run_stage(Grappa(), scan.header_xml, items)
    assert len(ran.items) == 4
    assert calibrations == [(6, 1, 16, 40)]
    assert all(error(a, b) < 0.08 for a, b in zip(ran.items, full, strict=True))
    assert all(error(a, b) > 0.5 for a, b in zip(items, full, strict=True))


def test_embedded_calibration_is_learned_anew(
    accumulated: Any, run_stage: Any, calibrations: list[tuple[int, ...]]
) -> None:
    scan, items, _ = accumulated(sampling=R2, dynamics=DynamicsConfig(phases=2), **HEART)
    run_stage(Grappa(), scan.header_xml, items)
    assert calibrations == [(6, 1, 16, 40)] * 2


def test_next_scan_learns_anew(accumulated: Any, run_stage: Any, calibrations: list[tuple[int, ...]]) -> None:
    scan, items, _ = accumulated(sampling=SEPARATE)
    stage = Grappa()
    for _ in range(2):
        run_stage(stage, scan.header_xml, items)
    assert len(calibrations) == 2


@pytest.mark.parametrize("together", [["phase"], ["repetition", "phase"]])
def test_frames_with_masks_of_their_own(accumulated: Any, run_stage: Any, together: list[str]) -> None:
    """The lattice moves from frame to frame; together they give what they give one by one."""
    dynamics = DynamicsConfig(phases=3, repetitions=2)
    sampling = SEPARATE.model_copy(update={"vary": True})
    scan, apart, _ = accumulated(sampling=sampling, dynamics=dynamics, **HEART)
    _, joint, _ = accumulated(sampling=sampling, dynamics=dynamics, settings={"together": together}, **HEART)
    assert not torch.equal(apart[0].mask, apart[1].mask)
    one_by_one = [item.data for item in run_stage(Grappa(), scan.header_xml, apart).items]
    filled = run_stage(Grappa(), scan.header_xml, joint).items
    found = torch.cat([item.data.reshape(-1, *item.data.shape[-4:]) for item in filled])
    torch.testing.assert_close(found, torch.stack(one_by_one), rtol=1e-3, atol=1e-4)


def test_acceleration_of_the_setting(accumulated: Any, run_stage: Any) -> None:
    scan, (item,), _ = accumulated(sampling=R2)
    silent = scan.header_xml.replace(
        b"<kspace_encoding_step_1>2</kspace_encoding_step_1>",
        b"<kspace_encoding_step_1>1</kspace_encoding_step_1>",
    )
    assert silent != scan.header_xml
    expected = run_stage(Grappa(), scan.header_xml, [item]).one
    wrong = item.replace(encoding=replace(item.encoding, acceleration=(1, 1)))
    found = run_stage(Grappa(acceleration=(2, 1)), silent, [wrong]).one
    assert torch.equal(found.data, expected.data)


def test_lost_line_of_the_lattice(accumulated: Any, run_stage: Any) -> None:
    """Marked as incomplete it goes on, with its line left zero; unmarked, the gap is an error."""
    scan, (item,), _ = accumulated(sampling=R2)
    lost = 4
    assert item.mask[0, lost]
    data, mask = item.data.clone(), item.mask.clone()
    data[..., lost, :], mask[..., lost] = 0, False
    _, (full,), _ = accumulated()
    marked = item.replace(data=data, mask=mask, incomplete="line 4 was lost")
    filled = run_stage(Grappa(), scan.header_xml, [marked]).one
    assert error(filled, full) < 0.1
    assert filled.incomplete == "line 4 was lost"
    assert not filled.data[..., lost, :].any()
    assert filled.data[..., lost + 1, :].any()


def test_three_dimensions(accumulated: Any, run_stage: Any) -> None:
    """R = 2 x 2 with an array of three rings, whose sensitivities differ along z as well."""
    coils = CoilConfig(n_coils=24)
    sampling = SamplingConfig(acceleration=(2, 2), acs=(14, 12))
    scan, (item,), _ = accumulated((24, 24, 20), sampling=sampling, coils=coils)
    _, (full,), _ = accumulated((24, 24, 20), coils=coils)
    filled = run_stage(Grappa(kernel_k2=2, kernel_k1=2), scan.header_xml, [item]).one
    assert error(filled, full) < 0.5 * error(item, full)


def test_even_kernel_along_the_readout_is_refused() -> None:
    with pytest.raises(StageConfigError, match="must be odd"):
        Grappa(kernel_k0=4)
