"""Slabs of few partitions, and other short axes, through the shipped pipelines."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

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

FULL = SamplingConfig()
R2 = SamplingConfig(acceleration=(2, 1), acs=(16, 0))
PARTIAL = SamplingConfig(partial_fourier=(0.75, 1.0))
CLASSICAL = ["fft", "grappa", "grappa-filtered", "sense"]
CINE = ["cine-view-sharing", "cine-low-rank-sparse"]


def slab(matrix: tuple[int, int, int], sampling: SamplingConfig = FULL, **parts: Any) -> SimulatedScan:
    fov_mm = (240.0, 200.0, 6.0 if matrix[2] == 1 else 12.0 * matrix[2])
    geometry = GeometryConfig(matrix=matrix, fov_mm=fov_mm, offset_mm=(0.0, 0.0, 16.0))
    noise, coils = NoiseConfig(std=0.002), CoilConfig(n_coils=6)
    return simulate(ScanConfig(geometry=geometry, sampling=sampling, noise=noise, coils=coils, **parts))


def nrmse(image: npt.NDArray[Any], scan: SimulatedScan) -> float:
    """Distance of magnitudes to what the coils together see of the truth, after the best factor."""
    truth = np.abs(scan.truth.image()) * np.sqrt((np.abs(scan.truth.maps[0]) ** 2).sum(0))
    found = np.abs(image).astype(np.float64)
    return float(
        np.linalg.norm(found * (found * truth).sum() / (found**2).sum() - truth) / np.linalg.norm(truth)
    )


@pytest.mark.parametrize("n_partitions", [1, 2, 4])
@pytest.mark.parametrize("pipeline", CLASSICAL)
def test_fully_sampled(reconstruct: Any, pipeline: str, n_partitions: int) -> None:
    scan = slab((48, 40, n_partitions))
    done = reconstruct(pipeline, scan.header_xml, scan.items())
    assert nrmse(done.voxels(), scan) < (0.2 if pipeline == "grappa-filtered" else 0.1)
    assert done.scan.warnings == []
    if n_partitions > 1:
        assert nrmse(np.roll(done.voxels(), 1, 0), scan) > 1.5 * nrmse(done.voxels(), scan), "they differ"


@pytest.mark.parametrize("n_partitions", [2, 4])
@pytest.mark.parametrize("sampling", [R2, PARTIAL], ids=["accelerated", "partial Fourier"])
@pytest.mark.parametrize("pipeline", ["grappa", "sense"])
def test_not_fully_sampled(
    reconstruct: Any, pipeline: str, sampling: SamplingConfig, n_partitions: int
) -> None:
    scan = slab((48, 40, n_partitions), sampling)
    done = reconstruct(pipeline, scan.header_xml, scan.items())
    assert nrmse(done.voxels(), scan) < 0.13
    assert done.scan.warnings == []


@pytest.mark.parametrize("side", ["early", "late"])
@pytest.mark.parametrize("n_partitions", [3, 4])
@pytest.mark.parametrize("pipeline", ["grappa", "sense"])
def test_partial_fourier_along_partitions(
    reconstruct: Any, pipeline: str, n_partitions: int, side: Any
) -> None:
    """Of so few partitions there may be none on one side of the centre: nothing tells the phase, and that is told."""
    sampling = SamplingConfig(partial_fourier=(1.0, 0.75), partial_fourier_side=side)
    scan = slab((48, 40, n_partitions), sampling)
    done = reconstruct(pipeline, scan.header_xml, scan.items())
    assert nrmse(done.voxels(), scan) < 0.2
    told = any("along k2 is left zero-filled" in text for text in done.scan.warnings)
    assert told == (n_partitions == 4 and side == "late")


@pytest.mark.parametrize("pipeline", CINE)
def test_films(reconstruct: Any, pipeline: str) -> None:
    sampling = SamplingConfig(acceleration=(2, 1), acs=(16, 0), vary=True)
    scan = slab((32, 32, 2), sampling, dynamics=DynamicsConfig(repetitions=8))
    done = reconstruct(pipeline, scan.header_xml, scan.items())
    assert len(done.images) == 8
    assert nrmse(done.voxels(3), scan) < 0.2


@pytest.mark.parametrize("n_lines", [2, 3])
@pytest.mark.parametrize("pipeline", CLASSICAL)
def test_few_lines(reconstruct: Any, pipeline: str, n_lines: int) -> None:
    """A matrix of a few phase-encoding lines gives the image that it can give."""
    scan = slab((48, n_lines, 1))
    done = reconstruct(pipeline, scan.header_xml, scan.items())
    assert nrmse(done.voxels(), scan) < 0.35


@pytest.mark.parametrize("pipeline", ["grappa", "sense"])
def test_few_calibration_lines(reconstruct: Any, pipeline: str) -> None:
    """Eight of them give an image, as exact as they allow, and the operator is told."""
    scan = slab((48, 48, 1), SamplingConfig(acceleration=(2, 1), acs=(8, 0)))
    done = reconstruct(pipeline, scan.header_xml, scan.items())
    assert nrmse(done.voxels(), scan) < 0.12
    (told,) = done.scan.warnings
    assert "kernel" in told
    assert done.images[0].meta["ScansideWarning"] == [told]


@pytest.mark.parametrize("n_encoded", [2, 16])
@pytest.mark.parametrize("pipeline", ["grappa", "sense"])
def test_slice_whose_header_names_partitions(reconstruct: Any, pipeline: str, n_encoded: int) -> None:
    """Limits of a single partition: nothing is encoded along k2, whatever the encoded matrix says."""
    scan = slab((48, 40, 1), R2)
    expected = reconstruct(pipeline, scan.header_xml, scan.items()).voxels()
    xml = scan.header_xml.decode() if isinstance(scan.header_xml, bytes) else scan.header_xml
    encoded, rest = xml.split("</encodedSpace>")
    encoded = encoded.replace("<z>1</z>", f"<z>{n_encoded}</z>")
    one = "<minimum>0</minimum><maximum>0</maximum><center>0</center>"
    limits = f"<kspace_encoding_step_2>{one}</kspace_encoding_step_2>"
    if "kspace_encoding_step_2>" not in rest.split("</encodingLimits>")[0]:
        rest = rest.replace("</encodingLimits>", f"{limits}</encodingLimits>")
    done = reconstruct(pipeline, f"{encoded}</encodedSpace>{rest}", scan.items())
    np.testing.assert_array_equal(done.voxels(), expected)


def with_an_empty_partition(scan: SimulatedScan) -> list[Item]:
    """The scan with the same samples in both partitions of k-space, so that one of the image holds nothing at all."""
    items, lines = [], {}
    for item in scan.items():
        if isinstance(item, Readouts):
            item = item.copy()
            imaging = item.headers["flags"] & np.uint64(int(AcquisitionFlag.NOISE_MEASUREMENT)) == 0
            for i in np.flatnonzero(imaging):
                k1 = int(item.headers["idx"]["kspace_encode_step_1"][i])
                item.samples[i] = lines.setdefault(k1, item.samples[i].copy())
        items.append(item)
    return items


@pytest.mark.parametrize("pipeline", ["grappa", "sense"])
def test_partition_beyond_the_object(reconstruct: Any, pipeline: str) -> None:
    full, accelerated = slab((48, 40, 2)), slab((48, 40, 2), R2)
    truth = np.abs(reconstruct("fft", full.header_xml, with_an_empty_partition(full)).voxels())
    done = reconstruct(pipeline, accelerated.header_xml, with_an_empty_partition(accelerated))
    found = np.abs(done.voxels())
    power = np.square(truth).sum((1, 2))
    inside, empty = int(power.argmax()), int(power.argmin())
    assert power[empty] < 1e-6 * power[inside]
    assert np.square(found[empty]).sum() < 1e-6 * np.square(found[inside]).sum()
    scale = (found[inside] * truth[inside]).sum() / np.square(found[inside]).sum()
    error = np.linalg.norm(scale * found[inside] - truth[inside]) / np.linalg.norm(truth[inside])
    assert error < 0.15
