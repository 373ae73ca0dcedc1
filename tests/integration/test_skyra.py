"""A genuine scan (Siemens Skyra, GRAPPA R = 3, 14 coils) against what Gadgetron 4.7.2 made of it."""

from __future__ import annotations

import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest

from scanside import Readouts, Scan
from scanside.convert import items_of
from scanside.mrd.dtypes import IMAGE_HEADER
from scanside.mrd.geometry import Geometry
from scanside.mrd.hdf5 import Hdf5Reader
from scanside.mrd.messages import HeaderXml, ImageArray, ReconData
from scanside.mrd.reader import decode

Array = npt.NDArray[Any]

IMAGE_BOUND = 0.035
FILTERED_BOUND = 0.012
ARRAY_BOUND = 0.015


class Skyra:
    """The scan, and Gadgetron's results."""

    def __init__(self, folder: Path) -> None:
        with Hdf5Reader(folder / "scanner-ismrmrd" / "skyra_grappa_r3.h5") as reader:
            self.header_xml = reader.header_xml
            self.blocks = [block.copy() for block in reader.items(23) if isinstance(block, Readouts)]
        with h5py.File(folder / "scanner-ismrmrd" / "skyra_grappa_r3.gadgetron-4.7.2.h5") as file:
            self.image = file["img/image_1/data"][0, 0, 0].astype(float)
            self.image_header = file["img/image_1/header"][0]
        captures = folder / "gadgetron-captures"
        self.array = recorded(captures / "grappa.image_array.bin.xz", ImageArray)[1]
        self.recon_header_xml, self.recon_data = recorded(
            captures / "grappa.recon_data_with_reference.bin.xz", ReconData
        )

    @property
    def unfiltered(self) -> Array:
        """Gadgetron's image before its k-space filter, magnitude ``(y, x)``."""
        return np.abs(self.array.data.reshape(self.array.data.shape[-2:]))

    def items(self) -> Iterator[Readouts]:
        return (block.copy() for block in self.blocks)


def recorded(path: Path, kind: type) -> tuple[bytes, Any]:
    """The scan's header and the only message of a kind in a recorded stream."""
    messages = decode(lzma.decompress(path.read_bytes()))
    (header,) = (message for message in messages if isinstance(message, HeaderXml))
    (found,) = (message for message in messages if isinstance(message, kind))
    return header.xml, found


@pytest.fixture(scope="module")
def skyra(shared_data: Path) -> Skyra:
    return Skyra(shared_data)


def test_images_are_gadgetrons(skyra: Skyra, reconstruct: Any, nrmse: Any) -> None:
    grappa = reconstruct("grappa", skyra.header_xml, skyra.items())
    filtered = reconstruct("grappa-filtered", skyra.header_xml, skyra.items())
    assert nrmse(grappa.voxels(), skyra.image) <= IMAGE_BOUND
    assert nrmse(filtered.voxels(), skyra.image) <= FILTERED_BOUND
    assert nrmse(grappa.voxels(), skyra.unfiltered) <= ARRAY_BOUND
    for result in (grappa, filtered):
        assert len(result.items) == 1
        assert result.scan.warnings == []
        assert result.images[0].incomplete is None
        assert "ScansidePartialFourier" not in result.images[0].meta, (
            "reduced resolution is not partial Fourier"
        )


def test_bounds_bite(skyra: Skyra, reconstruct: Any, nrmse: Any) -> None:
    """Leaving out GRAPPA, the whitening or the filter, or shifting by half a pixel, does not pass."""
    stages: list[Any] = [
        "noise",
        "oversampling",
        "accumulate",
        "coil-maps",
        "grappa",
        "filter",
        {"fourier": {"combine": "maps"}},
        "finish",
    ]

    def error(without: str = "", reference: Array = skyra.image) -> float:
        rest = [stage for stage in stages if stage != without]
        return float(nrmse(reconstruct(rest, skyra.header_xml, skyra.items()).voxels(), reference))

    assert error() <= FILTERED_BOUND
    assert error("filter") > FILTERED_BOUND
    stages.remove("filter")
    assert error() <= IMAGE_BOUND
    assert error("grappa") > IMAGE_BOUND
    assert error("grappa", skyra.unfiltered) > ARRAY_BOUND
    # Noise readouts would pass for lines if nothing took them out: 'accumulate' does.
    assert error("noise") > IMAGE_BOUND
    assert error("noise", skyra.unfiltered) > ARRAY_BOUND
    image = reconstruct(stages, skyra.header_xml, skyra.items()).voxels()[0]
    for axis in (0, 1):
        n = image.shape[axis]
        ramp = np.exp(1j * np.pi * np.fft.fftfreq(n)).reshape([-1 if i == axis else 1 for i in range(2)])
        shifted = np.abs(np.fft.ifft(np.fft.fft(image, axis=axis) * ramp, axis=axis))
        assert nrmse(shifted, skyra.image) > IMAGE_BOUND
        assert nrmse(shifted, skyra.unfiltered) > ARRAY_BOUND


@pytest.mark.parametrize("pipeline", ["grappa", "fft", "sense"])
def test_headers_are_gadgetrons(skyra: Skyra, reconstruct: Any, pipeline: str) -> None:
    image = reconstruct(pipeline, skyra.header_xml, skyra.items()).images[0]
    theirs = np.zeros(1, IMAGE_HEADER)[0]
    for name in IMAGE_HEADER.names:
        theirs[name] = skyra.image_header[name]
    for name in (
        "position",
        "read_dir",
        "phase_dir",
        "slice_dir",
        "patient_table_position",
        "field_of_view",
        "matrix_size",
        "measurement_uid",
        "slice",
        "repetition",
        "contrast",
        "phase",
        "set",
        "average",
    ):
        np.testing.assert_allclose(image.header[name], theirs[name], rtol=1e-6, atol=1e-5, err_msg=name)
    geometry = Geometry.from_image_header(image.header)
    assert geometry.is_left_handed
    assert geometry.same_place(Geometry.from_image_header(theirs), 1e-3)
    # Time is that of the line at the centre of k-space, which has counter 54.
    (centre,) = (
        header
        for block in skyra.blocks
        for header in block.headers
        if header["idx"]["kspace_encode_step_1"] == 54 and header["center_sample"] > 0
    )
    assert image.header["acquisition_time_stamp"] == centre["acquisition_time_stamp"]
    assert image.header["physiology_time_stamp"].tolist() == centre["physiology_time_stamp"].tolist()


def test_later_stages_take_gadgetrons_recon_data(skyra: Skyra, reconstruct: Any, nrmse: Any) -> None:
    """Gadgetron whitened, removed the oversampling and accumulated; the stages behind that do the rest."""
    scan = Scan.from_xml(skyra.recon_header_xml)
    items = list(items_of(skyra.recon_data, scan))
    assert len(items) == 1

    def run(*stages: Any) -> Array:
        from scanside import Image, Pipeline
        from scanside.execution import execute

        pipeline = Pipeline.from_config({"name": "test", "input": ["kspace"], "stages": stages})
        out: list[Any] = []
        with pipeline.open(scan) as opened:
            execute(opened, iter(items), out.append)
        (image,) = out
        assert isinstance(image, Image)
        voxels: Array = image.data[0].numpy()
        return voxels

    combine = {"fourier": {"combine": "maps"}}
    image = run("coil-maps", "partial-fourier", "grappa", combine, "finish")
    assert nrmse(image, skyra.unfiltered) <= ARRAY_BOUND
    assert nrmse(run("coil-maps", "grappa", "filter", combine, "finish"), skyra.image) <= FILTERED_BOUND
    assert nrmse(run("coil-maps", combine, "finish"), skyra.unfiltered) > ARRAY_BOUND


def test_reduced_resolution_is_not_completed(skyra: Skyra, reconstruct: Any) -> None:
    stages = ["noise", "oversampling", "accumulate", "grappa"]
    (kspace,) = reconstruct(stages, skyra.header_xml, skyra.items()).kspaces
    (completed,) = reconstruct([*stages, "partial-fourier"], skyra.header_xml, skyra.items()).kspaces
    assert (kspace.ranges[1].first, kspace.ranges[1].last, kspace.ranges[1].center) == (18, 123, 72)
    np.testing.assert_array_equal(completed.data.numpy(), kspace.data.numpy())
    assert completed.ranges == kspace.ranges
    # Acquired lines are those of the scanner, calibration lines as well; nothing grows beyond the band.
    lines = np.flatnonzero(np.abs(kspace.data.numpy()).max(axis=(0, 1, 3)))
    assert (lines.min(), lines.max()) == (18, 123)
    assert len(lines) == 123 - 18 + 1


def test_a_lost_line_is_told(skyra: Skyra, reconstruct: Any, nrmse: Any) -> None:
    """A line of the lattice, one of the calibration block, and the last one."""
    for lost in (30, 70, 105):
        blocks = [
            block.select(block.headers["idx"]["kspace_encode_step_1"] != lost) for block in skyra.items()
        ]
        result = reconstruct("grappa", skyra.header_xml, blocks)
        (image,) = result.images
        assert image.incomplete is not None
        assert f"kspace_encode_step_1 {lost} did not come" in image.incomplete
        assert f"kspace_encode_step_1 {lost} did not come" in " ".join(result.scan.warnings)
        assert image.meta["ScansideIncomplete"] == [image.incomplete]
        assert nrmse(result.voxels(), skyra.image) <= IMAGE_BOUND, "the other lines still make an image"
