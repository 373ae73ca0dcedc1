"""Means of images whose phases differ."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scanside import Image, Scan, ScanEnd
from scanside.simulate import DynamicsConfig, GeometryConfig, ScanConfig, simulate
from scanside.stages.average import AverageImages
from scanside.testing import small_image

N_AVERAGES = 3


def opened() -> tuple[AverageImages, Scan]:
    config = ScanConfig(
        geometry=GeometryConfig(matrix=(16, 16, 1)), dynamics=DynamicsConfig(averages=N_AVERAGES, sets=2)
    )
    stage, scan = AverageImages(), Scan.from_xml(simulate(config).header_xml)
    stage.open(scan)
    return stage, scan


def image_of(average: int, set_: int = 0, phase: float = 0.0, **changes: object) -> Image:
    header = small_image().header.copy()
    header["average"], header["set"] = average, set_
    data = torch.full((1, 1, 4, 4), (average + 1) * np.exp(1j * phase), dtype=torch.complex64)
    return Image(data=data, header=header, **changes)  # type: ignore[arg-type]


def test_magnitudes_are_averaged_whatever_their_phases() -> None:
    stage, _ = opened()
    given = [
        list(stage.process(image_of(average, set_, phase=2.5 * average)))
        for average in range(N_AVERAGES)
        for set_ in range(2)
    ]
    assert [len(some) for some in given] == [0, 0, 0, 0, 1, 1]
    for set_ in range(2):
        (image,) = given[4 + set_]
        assert int(image.header["set"]) == set_
        assert int(image.header["average"]) == 0
        assert image.meta["ScansideAverages"] == ["3"]
        assert image.incomplete is None
        assert np.asarray(image.data) == pytest.approx(2.0)
    assert not list(stage.finish(ScanEnd()))


@pytest.mark.parametrize("complete", [True, False])
def test_weightings_with_fewer_averages_come_at_the_end(complete: bool) -> None:
    stage, _ = opened()
    assert not [made for average in range(2) for made in stage.process(image_of(average))]
    (image,) = stage.finish(ScanEnd() if complete else ScanEnd(complete=False, reason="cut"))
    assert image.meta["ScansideAverages"] == ["2"]
    assert np.asarray(image.data) == pytest.approx(1.5)
    assert image.incomplete == (None if complete else "2 of 3 averages came")


def test_what_one_of_them_lacks_is_told() -> None:
    stage, _ = opened()
    for average in range(N_AVERAGES):
        why = "lines were lost" if average == 1 else None
        made = list(stage.process(image_of(average, incomplete=why)))
    assert made[0].incomplete == "lines were lost"


def test_maps_pass() -> None:
    stage, _ = opened()
    image = image_of(0, what="uncertainty")
    assert list(stage.process(image)) == [image]
