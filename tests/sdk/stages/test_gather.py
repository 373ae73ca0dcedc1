"""Readouts with trajectories become samples of images, by flags or by number, and nothing is lost in silence."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
import torch

from scanside import Context, Item, Readouts, Scan, ScanEnd
from scanside.errors import NonFiniteError, ScanError, ScansideError, ShapeError
from scanside.items import Samples
from scanside.mrd.flags import AcquisitionFlag
from scanside.simulate import (
    CoilConfig,
    DynamicsConfig,
    GeometryConfig,
    NoiseConfig,
    SamplingConfig,
    ScanConfig,
    TrajectoryConfig,
    simulate,
)
from scanside.stages.gather import GatherSamples

SMALL = GeometryConfig(matrix=(32, 32, 1), fov_mm=(240.0, 240.0, 5.0))
LAST = int(AcquisitionFlag.LAST_IN_SLICE)


def config(*, repetitions: int = 1, geometry: GeometryConfig = SMALL, **trajectory: Any) -> ScanConfig:
    return ScanConfig(
        geometry=geometry,
        coils=CoilConfig(n_coils=3),
        noise=NoiseConfig(std=0.0, scan="none"),
        sampling=SamplingConfig(trajectory=TrajectoryConfig(**{"readouts": 20, **trajectory})),
        dynamics=DynamicsConfig(repetitions=repetitions),
    )


def blocks_of(what: ScanConfig, block: int = 7) -> list[Readouts]:
    return [item for item in simulate(what).items(block) if isinstance(item, Readouts)]


def gathered(
    what: ScanConfig, blocks: Iterable[Readouts] | None = None, end: ScanEnd | None = None, **settings: Any
) -> tuple[list[Samples], Scan]:
    """What the stage makes of a scan, and the scan with what the operator was told."""
    scan = Scan.from_xml(simulate(what).header_xml)
    stage = GatherSamples(**settings)
    stage.prepare(Context(device="cpu"))
    stage.open(scan)
    made = [out for block in blocks or blocks_of(what) for out in stage.process(block)]
    made += list(stage.finish(end or ScanEnd()))
    stage.close()
    return made, scan


def test_an_image_by_its_flags() -> None:
    made, scan = gathered(config(repetitions=2))
    assert [one.counters["repetition"] for one in made] == [0, 1]
    assert made[0].data.shape == (3, 20, 64)
    assert made[0].points.shape == (20, 64, 2)
    assert made[0].matrix == (32, 32, 1)
    assert made[0].shape == (32, 32)
    expected = np.concatenate([block.samples for block in blocks_of(config(repetitions=2))])[:20].swapaxes(
        0, 1
    )
    np.testing.assert_array_equal(made[0].data.numpy(), expected)
    assert made[0].incomplete is None
    assert not scan.warnings


@pytest.mark.parametrize("block", [1, 3, 64])
def test_blocks_do_not_matter(block: int) -> None:
    what = config(repetitions=2, angles="golden")
    whole, _ = gathered(what)
    cut, _ = gathered(what, blocks_of(what, block))
    for a, b in zip(whole, cut, strict=True):
        torch.testing.assert_close(a.data, b.data, rtol=0, atol=0)
        torch.testing.assert_close(a.points, b.points, rtol=0, atol=0)


@pytest.mark.parametrize("block", [1, 5, 64])
def test_a_window_slides(block: int) -> None:
    what = config(repetitions=3, angles="golden")
    made, _ = gathered(what, blocks_of(what, block), readouts=16, step=10)
    first = [int(one.headers["scan_counter"][0, 0]) for one in made]
    assert first == [0, 10, 20, 30, 40]  # 60 readouts, and the last image ends with the 56th
    assert [one.headers.shape[1] for one in made] == [16] * 5
    assert [one.counters["repetition"] for one in made] == [0, 1, 2, 3, 4]


def test_a_window_that_is_longer_than_the_scan_is_told() -> None:
    made, scan = gathered(config(), readouts=30)
    assert not made
    assert "20 readouts of slice 0, contrast 0, set 0 came" in scan.warnings[0]


@pytest.mark.parametrize("unit", ["voxel", "radian", "matrix", "metre"])
def test_every_unit_comes_out_as_cycles_per_voxel(unit: str) -> None:
    made, _ = gathered(config(unit=unit))
    reference, _ = gathered(config())
    torch.testing.assert_close(made[0].points, reference[0].points, rtol=1e-5, atol=1e-6)
    assert float(made[0].points.abs().max()) == pytest.approx(0.5, rel=1e-5)
    named, _ = gathered(config(unit=unit), unit=unit)
    torch.testing.assert_close(named[0].points, made[0].points, rtol=0, atol=0)


def test_partitions_are_the_third_dimension_of_a_stack_of_stars() -> None:
    volume = SMALL.model_copy(update={"matrix": (32, 32, 6), "fov_mm": (240.0, 240.0, 60.0)})
    made, _ = gathered(config(kind="stack-of-stars", geometry=volume))
    assert len(made) == 1
    assert made[0].shape == (6, 32, 32)
    kz = np.unique(made[0].points[..., 2].numpy())
    np.testing.assert_allclose(kz, np.arange(-3, 3) / 6, atol=1e-6)


def changed(block: Readouts, change: Callable[[np.ndarray[Any, Any]], Any]) -> Readouts:
    assert block.trajectory is not None
    return Readouts(block.headers, block.samples, np.asarray(change(block.trajectory), np.float32))


def test_a_third_dimension_of_slices_is_left_out_and_told() -> None:
    what = config()
    blocks = [
        changed(one, lambda t: np.concatenate([t, np.full((*t.shape[:2], 1), 0.3)], -1))
        for one in blocks_of(what)
    ]
    made, scan = gathered(what, blocks)
    assert made[0].points.shape[-1] == 2
    assert any("third dimension" in text for text in scan.warnings)


def with_third(what: ScanConfig, third: Callable[[Readouts], Any]) -> list[Readouts]:
    """Blocks with a third dimension of the trajectory."""
    blocks = []
    for one in blocks_of(what):
        assert one.trajectory is not None
        along = np.broadcast_to(third(one), (*one.trajectory.shape[:2], 1))
        whole = np.concatenate([one.trajectory, along], -1).astype(np.float32)
        blocks.append(Readouts(one.headers, one.samples, whole))
    return blocks


STACK = config(
    kind="stack-of-stars",
    geometry=SMALL.model_copy(update={"matrix": (32, 32, 6), "fov_mm": (240.0, 240.0, 60.0)}),
)


def test_a_density_of_zeros_is_no_kz() -> None:
    expected, _ = gathered(STACK)
    made, scan = gathered(STACK, with_third(STACK, lambda one: 0.0))
    torch.testing.assert_close(made[0].points, expected[0].points)
    assert any("third dimension of the trajectory is zero" in text for text in scan.warnings)


def test_a_kz_that_is_written_is_taken() -> None:
    def kz(one: Readouts) -> Any:
        return (one.headers["idx"]["kspace_encode_step_2"][:, None, None].astype(float) - 3) / 6

    expected, _ = gathered(STACK)
    made, scan = gathered(STACK, with_third(STACK, kz))
    torch.testing.assert_close(made[0].points, expected[0].points, rtol=0, atol=1e-6)
    assert not scan.warnings


def test_a_density_in_place_of_kz_makes_no_image() -> None:
    refused(STACK, with_third(STACK, lambda one: 0.3), ScanError, r"from 0.3 to 0.3, and kz has both signs")


def test_trajectories_of_different_dimensions() -> None:
    blocks = [*blocks_of(config())[:1], *with_third(config(), lambda one: 0.0)[1:]]
    refused(config(), blocks, ShapeError, "trajectories of 2 and 3 dimensions")


def refused(
    what: ScanConfig, blocks: list[Readouts], error: type[Exception], match: str, **settings: Any
) -> None:
    with pytest.raises(error, match=match):
        gathered(what, blocks, **settings)


def test_readouts_without_a_trajectory() -> None:
    blocks = [Readouts(one.headers, one.samples) for one in blocks_of(config())]
    refused(config(), blocks, ScanError, r"scan counter 0 carries a trajectory of 0 dimensions.*radial")


def test_a_trajectory_that_is_no_number() -> None:
    blocks = blocks_of(config())
    assert blocks[1].trajectory is not None
    blocks[1].trajectory[2, 5] = np.nan
    refused(
        config(), blocks, NonFiniteError, "of 1 readouts is NaN or infinite, the first with scan counter 9"
    )


@pytest.mark.parametrize("factor", [0.0, 0.3, 12.0, 1e6])
def test_a_trajectory_of_no_known_unit(factor: float) -> None:
    blocks = [changed(one, lambda t: t * factor) for one in blocks_of(config())]
    refused(config(), blocks, ScanError, r"unit of the trajectory cannot be told.*set gather.unit")


def test_a_unit_that_contradicts_the_trajectory() -> None:
    refused(
        config(unit="matrix"), blocks_of(config(unit="matrix")), ScanError, "beyond the edge", unit="voxel"
    )


def test_readouts_of_another_length() -> None:
    blocks = blocks_of(config(), 20)
    short = blocks[0].select(slice(10, None))
    assert short.trajectory is not None
    cut = Readouts(short.headers, short.samples[..., :50], short.trajectory[:, :50])
    refused(
        config(),
        [blocks[0].select(slice(0, 10)), cut],
        ShapeError,
        "3 coils × 50 samples came .scan counter 10.",
    )


def test_spokes_that_were_lost_are_told() -> None:
    blocks = blocks_of(config(), 20)
    kept = blocks[0].select(~np.isin(np.arange(20), [4, 5]))
    made, scan = gathered(config(), [kept])
    assert made[0].incomplete is not None
    assert "2 readouts of slice 0" in made[0].incomplete
    assert "after scan counter 3" in scan.warnings[0]


def test_an_image_with_fewer_spokes_than_others_is_told() -> None:
    what = config(repetitions=2)
    every = [
        one for block in blocks_of(what) for one in (block.select(slice(i, i + 1)) for i in range(len(block)))
    ]
    for number, one in enumerate(every):
        one.headers["scan_counter"] = 0 if number else 1  # counters that tell nothing
    made, scan = gathered(what, [*every[:20], *every[23:]])
    assert made[1].incomplete is not None
    assert "17 readouts came" in made[1].incomplete
    assert scan.warnings


@pytest.mark.parametrize("policy", ["withhold", "mark"])
def test_a_scan_that_ends_early(policy: str) -> None:
    what = config()
    blocks = [blocks_of(what, 20)[0].select(slice(0, 12))]
    made, scan = gathered(
        what, blocks, ScanEnd(complete=False, reason="the peer went away"), incomplete=policy
    )
    if policy == "withhold":
        assert not made
        assert "12 readouts of slice 0" in scan.warnings[0]
    else:
        assert made[0].incomplete is not None
        assert "the peer went away" in made[0].incomplete


def test_memory_of_a_block_may_be_used_again() -> None:
    what = config()
    blocks = blocks_of(what)
    scan = Scan.from_xml(simulate(what).header_xml)
    stage = GatherSamples()
    stage.prepare(Context(device="cpu"))
    stage.open(scan)
    made: list[Item | Samples] = []
    for block in blocks:
        made += list(stage.process(block))
        block.samples[:] = 0
    assert isinstance(made[0], Samples)
    assert bool(made[0].data.abs().sum(-1).all())


def test_a_step_needs_readouts() -> None:
    with pytest.raises(ScansideError, match="set readouts as well"):
        GatherSamples(step=3)
