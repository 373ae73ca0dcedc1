"""Where the pixels of an instance lie in the patient: against DICOM's equation, NIfTI, and a simulated object."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from scanside import Context, Image, Pipeline, Scan
from scanside.dicom.dataset import DicomExporter
from scanside.errors import FormatError
from scanside.execution import execute
from scanside.mrd.dtypes import IMAGE_HEADER, IMAGE_TYPES
from scanside.mrd.geometry import Geometry
from scanside.simulate import CoilConfig, GeometryConfig, NoiseConfig, PhantomConfig, ScanConfig, simulate
from scanside.testing import small_scan

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # nibabel calls its DICOM readers experimental
    from nibabel.nicom.dicomwrappers import wrapper_from_data


def make(axes: Any, matrix: Any, voxel: Any, position: Any) -> Image:
    """An image whose every voxel has another value."""
    header = np.zeros(1, IMAGE_HEADER)[0]
    header["matrix_size"], header["position"] = matrix, position
    header["field_of_view"] = np.multiply(matrix, voxel)
    header["read_dir"], header["phase_dir"], header["slice_dir"] = axes.T
    header["image_type"] = IMAGE_TYPES["magnitude"]
    values = torch.arange(int(np.prod(matrix)), dtype=torch.int32).to(torch.uint16)
    return Image(values.reshape(1, *matrix[::-1]), header)


def pixel_position(dataset: Dataset, row: Any, column: Any) -> npt.NDArray[np.float64]:
    """Equation C.7.6.2.1-1 of PS3.3; row and column count from 0."""
    orientation = np.array(dataset.ImageOrientationPatient, np.float64)
    along_row, along_column = orientation[:3], orientation[3:]
    between_rows, between_columns = (float(value) for value in dataset.PixelSpacing)
    start = np.array(dataset.ImagePositionPatient, np.float64)
    return np.asarray(
        start
        + along_row * between_columns * np.asarray(column)[..., None]
        + along_column * between_rows * np.asarray(row)[..., None]
    )


@st.composite
def directions(draw: Any) -> npt.NDArray[np.float64]:
    """Any three perpendicular directions, right- or left-handed."""
    numbers = draw(
        st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > 0.1)
    )
    w, x, y, z = np.array(numbers) / np.linalg.norm(numbers)
    turned = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    return turned * np.array([1, 1, draw(st.sampled_from([1, -1]))])


@settings(max_examples=30)
@given(
    axes=directions(),
    matrix=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4)),
    voxel=st.tuples(*[st.floats(0.1, 20)] * 3),
    position=st.tuples(*[st.floats(-500, 500)] * 3),
)
def test_positions(axes: Any, matrix: Any, voxel: Any, position: Any) -> None:
    """Every pixel of every slice lies where the header and the rule of N // 2 put it."""
    image = make(axes, matrix, voxel, position)
    instances = list(DicomExporter(small_scan()).export([image]))
    assert len(instances) == matrix[2]
    header = image.header
    for z, dataset in enumerate(instances):
        assert (dataset.Rows, dataset.Columns) == (matrix[1], matrix[0])
        for row, column in ((0, 0), (matrix[1] - 1, matrix[0] - 1), (matrix[1] // 2, 0)):
            steps = np.array([column, row, z]) - np.array(matrix) // 2
            expected = np.array(header["position"], np.float64)
            for step, size, n, name in zip(
                steps, header["field_of_view"], matrix, ("read_dir", "phase_dir", "slice_dir"), strict=True
            ):
                expected = expected + step * float(size) / n * np.array(header[name], np.float64)
            np.testing.assert_allclose(pixel_position(dataset, row, column), expected, atol=1e-4)
            index = row * matrix[0] + column
            assert int(dataset.pixel_array.flat[index]) == image.data[0, z, row, column]
    locations = [float(dataset.SliceLocation) for dataset in instances]
    np.testing.assert_allclose(np.diff(locations), voxel[2], rtol=1e-4)


@settings(max_examples=25)
@given(axes=directions(), matrix=st.tuples(st.integers(2, 6), st.integers(2, 6), st.integers(1, 2)))
def test_nifti(axes: Any, matrix: Any) -> None:
    """The affine that nibabel finds in an instance, and our own, put all voxels into the same places."""
    image = make(axes, matrix, (1.5, 2.5, 4.0), (10, -20, 30))
    geometry = Geometry.from_image_header(image.header)
    for z, dataset in enumerate(DicomExporter(small_scan()).export([image])):
        found = wrapper_from_data(dataset)
        x, y = np.meshgrid(range(matrix[0]), range(matrix[1]))
        # nibabel counts rows first, and has DICOM's LPS as we do.
        index = np.stack([y, x, np.zeros_like(x), np.ones_like(x)])
        places = np.tensordot(found.affine, index, axes=1)[:3]
        ours = geometry.centre_of(np.stack([x, y, np.full_like(x, z)], axis=-1))
        np.testing.assert_allclose(np.moveaxis(places, 0, -1), ours, atol=1e-3)
        np.testing.assert_allclose(found.get_data(), image.data[0, z].numpy(), rtol=1e-6)


CAPSULE = np.array([66.0, -58.0, 26.0])
"""An oil capsule on the left of the simulated head, in front: 12 mm from foot to head, 7 mm thick (LPS)."""


@pytest.mark.parametrize(
    "geometry",
    [
        {"plane": "axial"},
        {"plane": "axial", "left_handed": True},
        {"plane": "coronal"},
        {"plane": "sagittal", "left_handed": True},
        {"plane": "axial", "rotation_deg": (-14.0, 5.0, 24.0), "in_plane_deg": 35.0},
        {"plane": "sagittal", "rotation_deg": (10.0, -8.0, 12.0), "in_plane_deg": -70.0, "left_handed": True},
    ],
    ids=lambda geometry: "-".join(map(str, geometry.values())),
)
def test_landmark(geometry: dict[str, Any]) -> None:
    """The capsule of the simulated head is found in the DICOM image where it lies in the patient."""
    offset = CAPSULE + [-20, 30, 0] * (
        np.arange(3) != {"axial": 2, "coronal": 1, "sagittal": 0}[geometry["plane"]]
    )
    if "rotation_deg" in geometry:
        offset = CAPSULE
    config = ScanConfig(
        phantom=PhantomConfig(supersampling=(1, 1, 1)),
        coils=CoilConfig(n_coils=2, model="uniform"),
        noise=NoiseConfig(std=0.0, scan="none"),
        geometry=GeometryConfig(
            matrix=(112, 96, 1), fov_mm=(280.0, 280.0, 3.0), offset_mm=tuple(offset), **geometry
        ),
    )
    scan = simulate(config)
    pipeline = Pipeline.load("fft")
    pipeline.prepare(Context(device="cpu"))
    mrd, images = Scan.from_xml(scan.header_xml), []
    with pipeline.open(mrd) as run:
        execute(run, scan.items(), images.append)
    (dataset,) = (one for image in images for one in DicomExporter(mrd).export([image]))
    pixels = dataset.pixel_array.astype(np.float64)
    rows, columns = np.indices(pixels.shape)
    distance = np.linalg.norm(pixel_position(dataset, rows, columns) - CAPSULE, axis=-1)
    near = np.where(distance < 9, pixels, 0)
    assert near.max() > 0.5 * pixels.max(), "nothing bright lies where the capsule is"
    bright = near > 0.5 * near.max()
    centre = np.average(pixel_position(dataset, rows, columns)[bright], axis=0, weights=near[bright])
    assert np.linalg.norm(centre - CAPSULE) < 2.5


def test_needs_a_geometry(parts: Any, export: Any) -> None:
    with pytest.raises(FormatError, match=r"cannot be placed in the patient.*perpendicular"):
        export(parts.image(read_dir=(1, 1, 0)))
    with pytest.raises(FormatError, match="field of view"):
        export(parts.image(field_of_view=(0, 0, 0)))
