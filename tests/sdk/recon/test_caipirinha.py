"""Lattices that are shifted along k2 (CAIPIRINHA), from the scan to the image, beside SENSE of the same data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch

from scanside import Context, KSpace, Scan, ScanEnd, Stage
from scanside.errors import ShapeError
from scanside.recon.combine import combine_with_maps
from scanside.recon.espirit import espirit
from scanside.recon.fourier import to_image
from scanside.simulate import ScanConfig, SimulatedScan, simulate
from scanside.stages.accumulate import Accumulate
from scanside.stages.grappa import Grappa
from scanside.stages.sense import Sense

ALL = [((2, 2), 1), ((2, 3), 1), ((2, 3), 2), ((3, 2), 1)]
AXES = (-3, -2, -1)


def run(stage: Stage[Any, Any], scan: Scan, items: Iterable[Any]) -> list[Any]:
    stage.prepare(Context(device="cpu"))
    stage.open(scan)
    return [given for item in items for given in stage.process(item)] + list(stage.finish(ScanEnd()))


@dataclass
class Measured:
    scan: Scan
    kspace: KSpace
    full: torch.Tensor


def parts_of(matrix: tuple[int, int, int], n_coils: int, std: float) -> dict[str, Any]:
    return {
        "phantom": {"supersampling": (1, 1, 1)},
        "coils": {"n_coils": n_coils},
        "noise": {"std": std, "scan": "none", "neighbour_correlation": 0.0, "spread": 0.0},
        "geometry": {"matrix": matrix, "fov_mm": (220.0, 220.0, 180.0)},
        "sampling": {"oversampling": 1},
    }


@cache
def measured(
    acceleration: tuple[int, int],
    shift: int,
    matrix: tuple[int, int, int],
    n_coils: int,
    std: float = 0.0,
    named: int | None = None,
) -> Measured:
    """A brain with noise, and its k-space ``(coil, k2, k1, k0)`` without noise and gaps."""
    parts = parts_of(matrix, n_coils, std)
    parts["sampling"] |= {"acceleration": acceleration, "acs": (24, 20), "shift": shift}
    simulated = simulate(ScanConfig.model_validate(parts))
    xml = simulated.header_xml.decode()
    if named is not None:
        xml = xml.replace(f"<value>{shift}</value>", f"<value>{named}</value>")
    scan = Scan.from_xml(xml)
    return Measured(scan, acquired(scan, simulated), full(matrix, n_coils))


@cache
def full(matrix: tuple[int, int, int], n_coils: int) -> torch.Tensor:
    parts = parts_of(matrix, n_coils, std=0.0)
    simulated = simulate(ScanConfig.model_validate(parts))
    return acquired(Scan.from_xml(simulated.header_xml), simulated).data


def acquired(scan: Scan, simulated: SimulatedScan) -> KSpace:
    items = run(Accumulate(), scan, simulated.items(9999))
    (kspace,) = (item for item in items if isinstance(item, KSpace))
    return kspace


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.squeeze() - expected).norm() / expected.norm())


@pytest.mark.parametrize(("acceleration", "shift"), ALL)
def test_lines_are_filled_without_a_warning(acceleration: tuple[int, int], shift: int) -> None:
    """The shift is told from the lines, and no line counts as lost."""
    one = measured(acceleration, shift, (16, 42, 30), 8)
    assert one.scan.warnings == []
    assert one.kspace.incomplete is None
    (filled,) = run(Grappa(kernel_k0=3, kernel_k1=3, kernel_k2=3), one.scan, [one.kspace])
    assert one.scan.warnings == []
    before, after = (error(item.data, one.full) for item in (one.kspace, filled))
    assert after < 0.5 * before
    mask = one.kspace.mask
    assert torch.equal(filled.data[:, mask], one.kspace.data[:, mask])


def test_header_without_acceleration() -> None:
    one = measured((2, 2), 1, (16, 42, 30), 8)
    xml = one.scan.header.xml.decode()
    for axis in (1, 2):
        xml = xml.replace(
            f"<kspace_encoding_step_{axis}>2</kspace_encoding_step_{axis}>",
            f"<kspace_encoding_step_{axis}>1</kspace_encoding_step_{axis}>",
        )
    scan = Scan.from_xml(xml)
    item = one.kspace.replace(encoding=scan.encoding(0))
    (filled,) = run(Grappa(), scan, [item])
    (expected,) = run(Grappa(), one.scan, [one.kspace])
    assert torch.equal(filled.data, expected.data)


def test_shift_that_contradicts_the_lines() -> None:
    one = measured((2, 3), 1, (16, 42, 30), 8, named=2)
    (filled,) = run(Grappa(), one.scan, [one.kspace])
    (told,) = one.scan.warnings
    assert (
        "user parameter ReorderingShift3D is 2, but the lines form a lattice of 2 x 3 that is shifted by 1"
        in told
    )
    right = Scan(measured((2, 3), 1, (16, 42, 30), 8).scan.header)
    assert torch.equal(filled.data, run(Grappa(shift=1), right, [one.kspace])[0].data)
    with pytest.raises(
        ShapeError, match=r"2 x 3 with a shift of 2 needs.*look like acceleration 2 x 3 with a shift of 1"
    ):
        run(Grappa(shift=2), right, [one.kspace])
    with pytest.raises(ShapeError, match=r"grappa\.shift is 3, but of every 3 lines along k2 one"):
        run(Grappa(shift=3), right, [one.kspace])


@pytest.mark.slow
def test_as_good_as_sense(run_bart: Any) -> None:
    """Beside CG-SENSE and BART's of the same data and maps, for every shift."""
    matrix, maps = (24, 48, 36), None
    for acceleration, shift in ALL:
        one = measured(acceleration, shift, matrix, 12, std=0.01)
        if maps is None:
            block = one.kspace.reference
            assert block is not None
            maps = espirit(block.data, matrix[::-1], kernel=5, calibration=20, crop=0.5)
        expected = combine_with_maps(to_image(one.full, AXES), maps)
        (filled,) = run(Grappa(), one.scan, [one.kspace])
        by_grappa = error(combine_with_maps(to_image(filled.data, AXES), maps), expected)
        (image,) = run(Sense(), one.scan, [one.kspace.replace(coil_maps=maps)])
        by_sense = error(image.data[0], expected)
        words = ("pics", "-S", "-l2", "-r0.002", "-i100", one.kspace.data.numpy(), maps.numpy())
        by_bart = error(torch.from_numpy(run_bart(*words)), expected)
        assert by_grappa < 1.1 * min(by_sense, by_bart), (acceleration, shift, by_grappa, by_sense, by_bart)
