"""Calibration lines that lie in another encoding space serve the image, or it is told why not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from scanside.errors import StageError
from scanside.items import Item, Readouts
from scanside.mrd.flags import AcquisitionFlag
from scanside.simulate import (
    CoilConfig,
    DynamicsConfig,
    GeometryConfig,
    NoiseConfig,
    SamplingConfig,
    ScanConfig,
    SimulatedScan,
    simulate,
)

MATRIX, FOV_MM, CENTER_MM = (48, 48, 1), (240.0, 240.0, 6.0), (0.0, 0.0, 16.0)
PIPELINES = ["grappa", "sense"]


def scan_of(
    sampling: SamplingConfig,
    matrix: tuple[int, int, int] = MATRIX,
    fov_mm: tuple[float, float, float] = FOV_MM,
    offset_mm: tuple[float, float, float] = CENTER_MM,
    rotation_deg: tuple[float, float, float] = (0.0, 0.0, 0.0),
    n_coils: int = 6,
    repetitions: int = 1,
) -> SimulatedScan:
    geometry = GeometryConfig(matrix=matrix, fov_mm=fov_mm, offset_mm=offset_mm, rotation_deg=rotation_deg)
    coils, noise = CoilConfig(n_coils=n_coils), NoiseConfig(std=0.002, scan="none")
    return simulate(
        ScanConfig(
            geometry=geometry,
            sampling=sampling,
            coils=coils,
            noise=noise,
            dynamics=DynamicsConfig(repetitions=repetitions),
        )
    )


ACCELERATED = SamplingConfig(acceleration=(2, 1))


def encoding_of(scan: SimulatedScan) -> str:
    (found,) = re.findall(r"<encoding>.*</encoding>", scan.header_xml.decode(), re.DOTALL)
    return str(found)


def together(image: SimulatedScan, reference: SimulatedScan) -> tuple[str, Iterator[Item]]:
    """One scan: the reference in encoding space 1 comes first."""
    encoding = encoding_of(image)
    xml = image.header_xml.decode().replace(encoding, encoding + encoding_of(reference))

    def items() -> Iterator[Item]:
        n = 0
        for scan, space, flag in (
            (reference, 1, int(AcquisitionFlag.PARALLEL_CALIBRATION)),
            (image, 0, 0),
        ):
            for item in scan.items():
                if isinstance(item, Readouts):
                    block = item.copy()
                    block.headers["encoding_space_ref"] = space
                    block.headers["flags"] |= np.uint64(flag)
                    if space:
                        block.headers["flags"] &= ~np.uint64(AcquisitionFlag.LAST_IN_MEASUREMENT)
                    block.headers["scan_counter"] = n + np.arange(len(block))
                    n += len(block)
                    yield block

    return xml, items()


def nrmse(found: Any, scan: SimulatedScan) -> float:
    truth = np.abs(scan.truth.image()) * np.sqrt((np.abs(scan.truth.maps[0]) ** 2).sum(0))
    image = np.abs(found).astype(np.float64)
    return float(
        np.linalg.norm(image * (image * truth).sum() / (image**2).sum() - truth) / np.linalg.norm(truth)
    )


OTHER: dict[str, dict[str, Any]] = {
    "the same": {},
    "a smaller matrix": {"matrix": (32, 24, 1)},
    "odd sizes": {"matrix": (31, 23, 1)},
    "a larger field of view": {"matrix": (40, 32, 1), "fov_mm": (300.0, 320.0, 6.0)},
    "another shape": {"matrix": (32, 32, 1), "fov_mm": (280.0, 250.0, 6.0)},
    "thicker slices": {"matrix": (32, 24, 1), "fov_mm": (240.0, 240.0, 9.0)},
    "a finer matrix": {"matrix": (64, 96, 1)},
}


@pytest.mark.parametrize("what", OTHER)
@pytest.mark.parametrize("pipeline", PIPELINES)
def test_they_serve(reconstruct: Any, pipeline: str, what: str) -> None:
    """As well as calibration lines of the image's own encoding space."""
    image = scan_of(ACCELERATED)
    own = scan_of(SamplingConfig(acceleration=(2, 1), acs=(24, 0), acs_mode="separate"))
    expected = nrmse(reconstruct(pipeline, own.header_xml, own.items()).voxels(), own)
    done = reconstruct(pipeline, *together(image, scan_of(SamplingConfig(), **OTHER[what])))
    assert len(done.images) == 1, "the reference becomes no image"
    assert nrmse(done.voxels(), image) < 1.2 * expected
    (told,) = done.images[0].meta["ScansideCalibration"]
    assert re.fullmatch(r"\d+ calibration lines of encoding space 1 were taken", told)
    assert done.scan.warnings == reconstruct(pipeline, own.header_xml, own.items()).scan.warnings


@pytest.mark.slow
def test_volumes(reconstruct: Any) -> None:
    volume: Any = {"matrix": (32, 32, 12), "fov_mm": (240.0, 240.0, 144.0)}
    image = scan_of(ACCELERATED, **volume)
    reference = scan_of(SamplingConfig(), matrix=(24, 20, 16), fov_mm=(240.0, 280.0, 192.0))
    own = scan_of(SamplingConfig(acceleration=(2, 1), acs=(20, 12), acs_mode="separate"), **volume)
    expected = nrmse(reconstruct("sense", own.header_xml, own.items()).voxels(), own)
    assert nrmse(reconstruct("sense", *together(image, reference)).voxels(), image) < 1.3 * expected


def test_they_serve_all_repetitions(reconstruct: Any) -> None:
    image = scan_of(ACCELERATED, repetitions=3)
    done = reconstruct("grappa", *together(image, scan_of(SamplingConfig(), matrix=(32, 24, 1))))
    assert [nrmse(done.voxels(i), image) < 0.13 for i in range(3)] == [True] * 3


APART: dict[str, tuple[dict[str, Any], str]] = {
    "another slice": ({"offset_mm": (0.0, 0.0, 40.0)}, "24.0 mm away"),
    "another place in the plane": ({"offset_mm": (30.0, 0.0, 16.0)}, "30.0 mm away"),
    "another orientation": ({"rotation_deg": (0.0, 20.0, 0.0)}, "directions differ"),
    "a volume": ({"matrix": (48, 48, 8), "fov_mm": (240.0, 240.0, 48.0)}, "a volume, the other a slice"),
    "other coils": ({"n_coils": 4}, "of 4 coils, the image of 6"),
}


@pytest.mark.parametrize("what", APART)
@pytest.mark.parametrize("pipeline", PIPELINES)
def test_they_do_not_serve(reconstruct: Any, pipeline: str, what: str) -> None:
    """The error names them, and why."""
    changes, why = APART[what]
    image, reference = scan_of(ACCELERATED), scan_of(SamplingConfig(), **changes)
    told = rf"\d+ calibration lines of encoding space 1 do not serve encoding space 0: .*{why}"
    with pytest.raises(StageError, match=told):
        reconstruct(pipeline, *together(image, reference))


def test_an_image_that_needs_none_is_left_alone(reconstruct: Any) -> None:
    """It has a middle of its own, and nothing is told of lines elsewhere that would not serve."""
    image = scan_of(SamplingConfig())
    expected = reconstruct("grappa", image.header_xml, image.items())
    reference = scan_of(SamplingConfig(), offset_mm=(0.0, 0.0, 60.0))
    done = reconstruct("grappa", *together(image, reference))
    np.testing.assert_array_equal(done.voxels(), expected.voxels())
    assert done.scan.warnings == expected.scan.warnings
