"""Scans of a foreign producer: the ISMRMRD tools' Cartesian Shepp-Logan generator.

It keeps the phantom, the coil sensitivities and the coil images that it made its readouts from in the same file.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest

from scanside import Image, Readouts
from scanside.mrd.flags import AcquisitionFlag, flagged
from scanside.mrd.hdf5 import Hdf5Reader

Array = npt.NDArray[Any]
N = 64


class SheppLogan:
    """A generated scan and what it was made of."""

    def __init__(self, program: str, path: Path, *options: str) -> None:
        subprocess.run(
            [program, "-m", str(N), "-c", "8", "-o", str(path), *options],
            check=True,
            capture_output=True,
            timeout=300,
        )
        with Hdf5Reader(path) as reader:
            self.header_xml = reader.header_xml
            self.blocks = [block.copy() for block in reader.blocks(50)]
        with h5py.File(path) as file:
            group = file["dataset"]
            self.phantom = _complex(group["phantom"])
            self.maps = _complex(group["csm"])

    @property
    def seen(self) -> Array:
        """Magnitude that the coils see together ``(y, x)``."""
        return np.abs(self.phantom) * np.linalg.norm(self.maps, axis=0)


def _complex(dataset: h5py.Dataset) -> Array:
    data = dataset[()]
    array: Array = (data["real"] + 1j * data["imag"]).squeeze()
    return array


@pytest.fixture
def generate(ismrmrd_generate: str, tmp_path: Path) -> Any:
    return lambda *options: SheppLogan(ismrmrd_generate, tmp_path / "scan.h5", *options)


def check(images: list[Image], truth: Array, nrmse: Any, bound: float) -> None:
    for image in images:
        voxels = image.data[0, 0].numpy()
        assert voxels.shape == (N, N)
        assert nrmse(voxels, truth) < bound
        # Neither turned over nor moved by a pixel.
        for other in (voxels[::-1], voxels[:, ::-1], voxels.T, np.roll(voxels, 1, 0), np.roll(voxels, 1, 1)):
            assert nrmse(other, truth) > 3 * bound


def test_full_sampling(generate: Any, reconstruct: Any, nrmse: Any) -> None:
    scan = generate("-n", "0.001")
    result = reconstruct("fft", scan.header_xml, scan.blocks)
    assert len(result.images) == 1
    check(result.images, scan.seen, nrmse, 0.01)
    prewhitening, geometry = result.scan.warnings
    assert "prewhitened" in prewhitening
    assert "tell no directions" in geometry


def test_repetitions_and_noise_scan(generate: Any, reconstruct: Any, nrmse: Any) -> None:
    scan = generate("-n", "0.01", "-r", "3", "-C")
    assert flagged(scan.blocks[0].headers["flags"], AcquisitionFlag.NOISE_MEASUREMENT).any()
    result = reconstruct("fft", scan.header_xml, scan.blocks)
    assert [int(image.header["repetition"]) for image in result.images] == [0, 1, 2]
    check(result.images, scan.seen, nrmse, 0.08)
    # Whitened: the differences between repetitions have twice the variance of one, which is 1 per part.
    stages = ["noise", "oversampling", "accumulate"]
    first, second, _ = reconstruct(stages, scan.header_xml, scan.blocks).kspaces
    difference = (first.data - second.data).numpy().view(np.float32) / np.sqrt(2)
    assert difference.std() == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("pipeline", ["grappa", "sense"])
def test_acceleration(generate: Any, reconstruct: Any, nrmse: Any, pipeline: str) -> None:
    """R = 2 whose lattice moves by one line from repetition to repetition, calibration lines in each."""
    scan = generate("-n", "0.001", "-a", "2", "-w", "24", "-C")
    result = reconstruct(pipeline, scan.header_xml, scan.blocks)
    assert [int(image.header["repetition"]) for image in result.images] == [0, 1]
    # Combined coils see the root sum of squares; SENSE divides by it, as its maps have length one.
    check(result.images, scan.seen, nrmse, 0.09)
    aliased = reconstruct("fft", scan.header_xml, scan.blocks)
    assert all(nrmse(image.data[0, 0].numpy(), scan.seen) > 0.2 for image in aliased.images)
    for scan_warnings in (result.scan.warnings, aliased.scan.warnings):
        assert [warning for warning in scan_warnings if "tell no directions" not in warning] == []
    assert not any(image.incomplete for image in result.images)


def test_without_last_flags_lines_of_the_next_repetition_end_an_image(
    generate: Any, reconstruct: Any, nrmse: Any
) -> None:
    scan = generate("-n", "0.001", "-r", "2")
    for block in scan.blocks:
        block.headers["flags"] = 0
    result = reconstruct("fft", scan.header_xml, scan.blocks)
    assert len(result.images) == 2
    check(result.images, scan.seen, nrmse, 0.01)
    assert not any(image.incomplete for image in result.images)


def test_a_truncated_scan_is_told(generate: Any, reconstruct: Any) -> None:
    """The producer stopped early and closed properly: nothing but the missing lines tells."""
    scan = generate("-n", "0.001", "-r", "2")
    lines = Readouts(
        np.concatenate([block.headers for block in scan.blocks]),
        np.concatenate([block.samples for block in scan.blocks]),
    )
    result = reconstruct("fft", scan.header_xml, [lines.select(slice(0, N + 10))])
    whole, cut = result.images
    assert whole.incomplete is None
    assert "54 more" not in (cut.incomplete or "")
    assert "kspace_encode_step_1 10, 11, 12" in (cut.incomplete or "")
    assert cut.meta["ImageComment"] == ["Research use only", "INCOMPLETE DATA"]
