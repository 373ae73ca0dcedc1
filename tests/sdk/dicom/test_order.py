"""Viewers that sort by instance number scroll by position, then by time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from scanside import Image, Scan
from scanside.dicom.dataset import DicomExporter

POSITIONS = (20.0, 0.0, 30.0, 10.0)
"""Of four slices, in the order of their counter: what interleaving and converters make of it."""


def limits(n_slices: int | None, n_repetitions: int = 1) -> str:
    text = f"<repetition><minimum>0</minimum><maximum>{n_repetitions - 1}</maximum><center>0</center></repetition>"
    if n_slices is not None:
        text += f"<slice><minimum>0</minimum><maximum>{n_slices - 1}</maximum><center>0</center></slice>"
    return text


def scan_of(parts: Any, told: str) -> Scan:
    xml = parts.header()
    start, end = xml.index("<contrast>"), xml.index("</encodingLimits>")
    return Scan.from_xml(xml[:start] + told + xml[end:])


def film(parts: Any, order: Sequence[int] = (0, 2, 1, 3), n: int = 3) -> list[Image]:
    normal = np.array([0.0, 0.6, 0.8])
    directions = {"read_dir": (1, 0, 0), "phase_dir": (0, 0.8, -0.6), "slice_dir": normal}
    return [
        parts.image(
            slice=i, repetition=r, position=POSITIONS[i] * normal, image_index=1 + i + 4 * r, **directions
        )
        for r in range(n)
        for i in order
    ]


def scrolled(datasets: Any) -> list[tuple[float, int]]:
    """Position and repetition, as a viewer shows them."""
    ordered = sorted(datasets, key=lambda one: int(one.InstanceNumber))
    return [(round(float(one.SliceLocation)), int(one.AcquisitionNumber) - 1) for one in ordered]


EXPECTED = [(position, r) for position in sorted(POSITIONS) for r in range(3)]


@pytest.mark.parametrize(
    "told", [limits(4, 3), limits(None, 3), limits(None)], ids=["all", "no slices", "nothing"]
)
def test_by_position_then_time(parts: Any, told: str) -> None:
    datasets = list(DicomExporter(scan_of(parts, told)).export(film(parts)))
    assert scrolled(datasets) == EXPECTED
    assert sorted(int(one.InstanceNumber) for one in datasets) == list(range(1, 13))


def test_numbers_as_soon_as_the_slices_are_known(parts: Any) -> None:
    exporter = DicomExporter(scan_of(parts, limits(4, 3)))
    came = [len(list(exporter.instances(image))) for image in film(parts)]
    assert came == [0, 0, 0, 4, *[1] * 8]
    exporter = DicomExporter(scan_of(parts, limits(1, 3)))
    assert [len(list(exporter.instances(image))) for image in film(parts, (1,))] == [1, 1, 1]


def test_a_scan_that_ends_early(parts: Any) -> None:
    exporter = DicomExporter(scan_of(parts, limits(4, 3)))
    datasets = list(exporter.export(film(parts)[:3]))
    assert scrolled(datasets) == [(0, 0), (20, 0), (30, 0)]
    assert list(exporter.finish()) == []


def test_what_the_header_does_not_announce_comes_last(parts: Any) -> None:
    datasets = list(DicomExporter(scan_of(parts, limits(4, 2))).export(film(parts)))
    assert scrolled(datasets)[:8] == [one for one in EXPECTED if one[1] < 2]
    assert [r for _, r in scrolled(datasets)[8:]] == [2] * 4
    assert len({int(one.InstanceNumber) for one in datasets}) == 12


def test_the_same_counters_twice(parts: Any) -> None:
    image = parts.image(acquisition_time_stamp=4), parts.image(acquisition_time_stamp=8)
    datasets = list(DicomExporter(scan_of(parts, limits(1))).export(image))
    assert [int(one.InstanceNumber) for one in datasets] == [1, 2]


def test_more_than_a_number_can_be(parts: Any) -> None:
    told = "".join(
        f"<{name}><minimum>0</minimum><maximum>65535</maximum><center>0</center></{name}>"
        for name in ("repetition", "phase", "set")
    )
    datasets = list(DicomExporter(scan_of(parts, told + limits(4))).export(film(parts, n=1)))
    assert sorted(int(one.InstanceNumber) for one in datasets) == [1, 2, 3, 4]


def test_slices_of_a_slab_and_stacks_of_other_directions(parts: Any) -> None:
    volume = np.ones((1, 3, 6, 8), np.float32)
    slabs = [parts.image(volume, slice=i, position=(0, 0, z)) for i, z in enumerate((50, 0))]
    datasets = list(DicomExporter(scan_of(parts, limits(2))).export(slabs))
    assert [place for place, _ in scrolled(datasets)] == [-5, 0, 5, 45, 50, 55]
    sagittal = {"read_dir": (0, 1, 0), "phase_dir": (0, 0, -1), "slice_dir": (1, 0, 0)}
    views = [parts.image(slice=i, position=(0, 0, -i)) for i in (0, 1)]
    views += [parts.image(slice=i, position=(9 - i, 0, 0), **sagittal) for i in (2, 3)]
    datasets = list(DicomExporter(scan_of(parts, limits(4))).export(views[::-1]))
    assert [place for place, _ in scrolled(datasets)] == [-1, 0, 6, 7]
