"""Files of data sets as ISMRMRD scans: ISMRMRD's own library reads them, and pipelines make the data sets' images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from scanside.datasets import MeasuredSlice, Place
from scanside.datasets.as_ismrmrd import write_ismrmrd
from scanside.datasets.fastmri import FastMriFile, write_fastmri
from scanside.errors import FileFormatError

ismrmrd = pytest.importorskip("ismrmrd")


class Headless(FastMriFile):
    """As a data set whose files have no header."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.header, self.first_line = None, 0


@pytest.fixture
def path(tmp_path: Path, coil_images: npt.NDArray[np.complex64]) -> Path:
    made = tmp_path / "file1000001.h5"
    write_fastmri(made, coil_images, patient="somebody", image_size=(32, 32), padding=(3, 2))
    return made


@pytest.mark.parametrize("reader", [FastMriFile, Headless])
def test_lines_are_those_of_the_file(path: Path, tmp_path: Path, reader: type[FastMriFile]) -> None:
    with reader(path) as file:
        write_ismrmrd(file, tmp_path / "scan.h5")
        expected = [file.measured(place) for place in file.places]
    read = ismrmrd.Dataset(str(tmp_path / "scan.h5"), "dataset", create_if_needed=False)
    try:
        n = read.number_of_acquisitions()
        assert n == 3 * 31
        limits = ismrmrd.xsd.CreateFromDocument(read.read_xml_header()).encoding[0].encodingLimits
        center = limits.kspace_encoding_step_1.center
        for number in range(n):
            readout = read.read_acquisition(number)
            line = readout.idx.kspace_encode_step_1 - center + 18
            kspace = expected[readout.idx.slice].kspace
            np.testing.assert_array_equal(readout.data, kspace[:, line])
        assert readout.isFlagSet(ismrmrd.ACQ_LAST_IN_MEASUREMENT)
    finally:
        read.close()


def test_a_pipeline_makes_the_images_of_the_data_set(path: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from scanside.replay import replay

    with FastMriFile(path) as file:
        write_ismrmrd(file, tmp_path / "scan.h5")
        references = [file.reference(place) for place in file.places]
    images = replay(tmp_path / "scan.h5", "fft", device="cpu", settings={"finish.kind": "magnitude"}).images
    assert len(images) == 3
    for image, reference in zip(images, references, strict=True):
        assert reference is not None
        found: Any = np.asarray(image.data).squeeze().astype(np.float64)
        assert found.shape == reference.shape
        scale = (found * reference).sum() / (found**2).sum()
        assert np.linalg.norm(scale * found - reference) < 0.02 * np.linalg.norm(reference)


def test_slices_along_the_readout_are_no_scan(path: Path, tmp_path: Path) -> None:
    class AlongTheReadout(FastMriFile):
        def measured(self, place: Place) -> MeasuredSlice:
            found = super().measured(place)
            return MeasuredSlice(found.kspace, np.broadcast_to(found.acquired, found.kspace.shape[1:]))

    with (
        AlongTheReadout(path) as file,
        pytest.raises(FileFormatError, match=r"file1000001\.h5 holds slices along"),
    ):
        write_ismrmrd(file, tmp_path / "scan.h5")
