"""Lines that are told before they come."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from scanside import KSpace, Readouts
from scanside.items import Calibration
from scanside.mrd.flags import AcquisitionFlag
from scanside.mrd.header import Limit
from scanside.simulate import CoilConfig, SamplingConfig
from scanside.stages._expected_lines import expected_lines
from scanside.stages.accumulate import Accumulate
from scanside.stages.coil_compression import CompressCoils
from scanside.stages.coil_maps import CoilMaps

CALIBRATION = int(AcquisitionFlag.PARALLEL_CALIBRATION)
LAST = int(AcquisitionFlag.LAST_IN_SLICE)


def these(*rows: int, n: int = 12) -> npt.NDArray[np.bool_]:
    lines = np.zeros(n, bool)
    lines[list(rows)] = True
    return lines


def test_the_headers_lattice() -> None:
    came = these(1, 4, 5, 6, 7)
    found = expected_lines(came, these(1, 4), acceleration=3, span=(0, 10), earlier=None)
    assert found is not None
    assert np.flatnonzero(found).tolist() == [1, 4, 5, 6, 7, 10]


def test_lines_off_any_lattice() -> None:
    assert expected_lines(these(1, 3), these(1, 3), acceleration=3, span=(0, 11), earlier=None) is None


def test_an_earlier_image() -> None:
    earlier = these(0, 1, 5, 6, 9)
    found = expected_lines(these(1, 5, 6), these(1), acceleration=3, span=(0, 11), earlier=earlier)
    assert found is not None
    assert found.tolist() == earlier.tolist()
    other = expected_lines(these(2, 5, 6), these(2), acceleration=3, span=(0, 11), earlier=earlier)
    assert other is not None
    assert np.flatnonzero(other).tolist() == [2, 5, 6, 8, 11]


def blocks_of(lines: Any, outer: list[int], repetition: int = 0) -> list[Readouts]:
    """Outer lines from one end to the other, with calibration lines 5 to 8 in the middle."""
    counters: dict[str, Any] = {"repetition": repetition}
    before, after = [k for k in outer if k < 5], [k for k in outer if k > 8]
    blocks = [lines([k], **counters) for k in before]
    blocks += [lines(range(5, 9), flags=CALIBRATION, **counters)]
    return [*blocks, *(lines([k], **counters) for k in after[:-1]), lines(after[-1:], last=LAST, **counters)]


@pytest.mark.parametrize(
    ("outer", "known"),
    [
        ([[1, 4, 10]], [True]),
        ([[0, 4, 11]], [False]),
        ([[0, 4, 11], [0, 4, 11]], [False, True]),
        ([[0, 4, 11], [1, 4, 9]], [False, False]),
    ],
)
def test_told_with_the_calibration_lines(
    run_stage: Any, lines: Any, make_header: Any, outer: list[list[int]], known: list[bool]
) -> None:
    """As a lattice, or as in the image before; the k-space then has these lines."""
    header = make_header(
        acceleration=(3, 1),
        calibration="embedded",
        limits={"kspace_encode_step_1": Limit(0, 11, 6), "repetition": Limit(0, 3, 0)},
    )
    blocks = [block for i, one in enumerate(outer) for block in blocks_of(lines, one, i)]
    items = every_item(run_stage, Accumulate(), header, blocks)
    early = [item for item in items if isinstance(item, Calibration)]
    whole = [item for item in items if isinstance(item, KSpace)]
    assert [item.lines is not None for item in early] == known
    for told, item in zip(early, whole, strict=True):
        if told.lines is not None:
            assert torch.equal(told.lines, item.mask)


def test_handed_on_with_maps(accumulated: Any, run_stage: Any) -> None:
    """Through coil compression, with the maps that the k-space will have."""
    scan, (item,), _ = accumulated(
        sampling=SamplingConfig(acceleration=(2, 1), acs=(12, 0), acs_mode="separate"),
        coils=CoilConfig(n_coils=6),
    )
    compress, estimate = CompressCoils(n_coils=3), CoilMaps()
    (few,) = every_item(run_stage, compress, scan.header_xml, [Calibration(item, item.mask)])
    assert few.lines is item.mask
    (early,) = every_item(run_stage, estimate, scan.header_xml, [few])
    assert isinstance(early, Calibration)
    assert early.lines is item.mask
    assert early.kspace.coil_maps is not None
    (whole,) = every_item(
        run_stage, estimate, scan.header_xml, every_item(run_stage, compress, scan.header_xml, [item])
    )
    assert torch.equal(early.kspace.coil_maps, whole.coil_maps)


def every_item(run_stage: Any, stage: Any, header: str, items: list[Any]) -> list[Any]:
    """What a stage gives of a scan, calibration lines too."""
    scan = run_stage(stage, header, []).scan
    stage.open(scan)
    given = [result for item in items for result in stage.process(item)]
    stage.close()
    return given
