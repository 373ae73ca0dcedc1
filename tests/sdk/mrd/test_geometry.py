from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from scanside.errors import FormatError
from scanside.mrd.dtypes import ACQUISITION_HEADER, IMAGE_HEADER
from scanside.mrd.geometry import Geometry
from scanside.mrd.hdf5 import Hdf5Reader

pytestmark = pytest.mark.torch_free

AXES = ([1, 0, 0], [0, 1, 0], [0, 0, 1])


def oblique(matrix: tuple[int, int, int] = (8, 6, 5), left_handed: bool = False) -> Geometry:
    """A geometry turned about all three axes."""
    directions, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))
    if (np.linalg.det(directions) < 0) != left_handed:
        directions[:, 2] *= -1
    return Geometry(np.array([10.0, -20.0, 30.0]), *directions.T, (240, 210, 25), matrix)


def voxel_by_hand(geometry: Geometry, x: float, y: float, z: float) -> npt.NDArray[np.float64]:
    """Position plus so many voxels along each direction, from the rule in words."""
    steps = np.array([x, y, z]) - [n // 2 for n in geometry.matrix]
    point = geometry.position.copy()
    for step, fov, n, direction in zip(
        steps,
        geometry.field_of_view_mm,
        geometry.matrix,
        (geometry.read_dir, geometry.phase_dir, geometry.slice_dir),
        strict=True,
    ):
        point += step * fov / n * direction
    return point


@pytest.mark.parametrize("left_handed", [False, True])
@pytest.mark.parametrize("matrix", [(8, 6, 4), (7, 5, 3), (8, 5, 1)])
def test_affine(matrix: tuple[int, int, int], left_handed: bool) -> None:
    geometry = oblique(matrix, left_handed)
    assert geometry.is_left_handed == left_handed
    centre = [n // 2 for n in matrix]
    np.testing.assert_allclose((geometry.affine @ [*centre, 1])[:3], geometry.position, atol=1e-12)
    for index in ((0, 0, 0), (3, 1, 0), (2.5, -4, 7)):
        expected = voxel_by_hand(geometry, *index)
        np.testing.assert_allclose((geometry.affine @ [*index, 1])[:3], expected, atol=1e-12)
        np.testing.assert_allclose(geometry.centre_of(index), expected, atol=1e-12)
    grid = np.stack(np.meshgrid(*map(np.arange, matrix), indexing="ij"), axis=-1)
    np.testing.assert_allclose(
        geometry.centre_of(grid)[1, 2, 0], voxel_by_hand(geometry, 1, 2, 0), atol=1e-12
    )


def test_nibabel_agrees() -> None:
    nibabel = pytest.importorskip("nibabel")
    geometry = oblique(left_handed=True)
    image = nibabel.Nifti1Image(np.zeros(geometry.matrix, np.float32), geometry.affine_ras)
    np.testing.assert_allclose(image.header.get_zooms(), geometry.voxel_size_mm, rtol=1e-6)
    index = (3, 2, 1)
    expected = voxel_by_hand(geometry, *index) * [-1, -1, 1]
    np.testing.assert_allclose(nibabel.affines.apply_affine(image.affine, index), expected, atol=1e-10)
    supine = Geometry(np.zeros(3), *np.array(AXES, float), (8, 8, 8), (8, 8, 8))
    assert nibabel.aff2axcodes(supine.affine_ras) == ("L", "P", "S")


def test_dicom_plane() -> None:
    """The pixel equation of PS3.3 C.7.6.2.1.1 leads to the same points as the affine."""
    geometry = oblique(left_handed=True)
    orientation = np.array(geometry.image_orientation_patient)
    dx, dy, _ = geometry.voxel_size_mm
    for z in (0, 3):
        origin = np.array(geometry.image_position_patient(z))
        point = origin + orientation[:3] * dx * 5 + orientation[3:] * dy * 2
        np.testing.assert_allclose(point, voxel_by_hand(geometry, 5, 2, z), atol=1e-12)


def test_gadgetrons_image_lies_where_its_readouts_say(shared_data: Path) -> None:
    folder = shared_data / "scanner-ismrmrd"
    with Hdf5Reader(folder / "skyra_grappa_r3.gadgetron-4.7.2.h5", "img") as reader:
        (image,) = reader.images("image_1")
    reference = Geometry.from_image_header(image.header)
    with Hdf5Reader(folder / "skyra_grappa_r3.h5") as reader:
        readout = reader.headers()[-1]
    geometry = Geometry.from_readout(readout, (280, 210, 8), (192, 144, 1))
    assert geometry.same_place(reference, 1e-4)
    assert geometry.is_left_handed
    assert not geometry.assumed
    # Half a voxel further along y would be noticed.
    readout["position"] += geometry.phase_dir * geometry.voxel_size_mm[1] / 2
    assert not Geometry.from_readout(readout, (280, 210, 8), (192, 144, 1)).same_place(reference, 0.5)
    header = np.zeros((), IMAGE_HEADER)[()]
    geometry.to_image_header(header)
    for name in ("position", "read_dir", "phase_dir", "slice_dir", "field_of_view", "matrix_size"):
        np.testing.assert_array_equal(header[name], image.header[name])


def test_sparse_header(shared_data: Path) -> None:
    with Hdf5Reader(shared_data / "scanner-ismrmrd" / "phantom_array16.h5") as reader:
        geometry = Geometry.from_readout(reader.headers()[0], (256, 256, 5), (128, 128, 1))
    assert geometry.assumed
    np.testing.assert_array_equal(geometry.directions, np.eye(3))
    assert geometry.cropped((64, 64, 1)).assumed


@pytest.mark.parametrize("matrix", [(8, 6, 5), (7, 9, 4)])
def test_header_round_trip(matrix: tuple[int, int, int]) -> None:
    geometry = oblique(matrix, left_handed=True)
    header = np.zeros((), IMAGE_HEADER)[()]
    geometry.to_image_header(header)
    again = Geometry.from_image_header(header)
    assert again.same_place(geometry, 1e-4)
    assert again.is_left_handed


@pytest.mark.parametrize("matrix", [(4, 3, 5), (12, 7, 6)])
def test_cropping_keeps_voxels_where_they_are(matrix: tuple[int, int, int]) -> None:
    whole = oblique()
    cropped = whole.cropped(matrix)
    np.testing.assert_allclose(cropped.voxel_size_mm, whole.voxel_size_mm)
    # Cropping or padding about the centre moves an index by the difference of the centres.
    shift = np.array([n // 2 - m // 2 for n, m in zip(whole.matrix, matrix, strict=True)])
    for index in ((0, 0, 0), (3, 2, 4)):
        np.testing.assert_allclose(cropped.centre_of(index), whole.centre_of(index + shift), atol=1e-12)


@pytest.mark.parametrize(("n", "m"), [(8, 16), (8, 12), (9, 12), (12, 9)])
def test_resizing_follows_zero_filling_in_k_space(n: int, m: int) -> None:
    """A blob that is interpolated by a centred transform stays at its place in mm."""
    small = oblique((n, 6, 5))
    large = small.resized((m, 6, 5))
    width = min(n, m) - 2  # so that the squares below are not aliased
    kspace = np.exp(
        -2j * np.pi * np.arange(-(width // 2), width - width // 2) * 1.5 / n
    )  # 1.5 voxels of `small`

    def image(size: int) -> npt.NDArray[np.complex128]:
        padded = np.zeros(size, complex)
        padded[size // 2 - width // 2 :][:width] = kspace
        return np.fft.fftshift(np.fft.ifft(np.fft.ifftshift(padded)))

    def centre(size: int, geometry: Geometry) -> npt.NDArray[np.float64]:
        phase = np.angle(
            np.sum(np.abs(image(size)) ** 2 * np.exp(2j * np.pi * (np.arange(size) - size // 2) / size))
        )
        return geometry.centre_of((phase / 2 / np.pi * size + size // 2, 0, 0))

    np.testing.assert_allclose(centre(m, large), centre(n, small), atol=1e-9)


def test_slice_offset() -> None:
    geometry = Geometry(np.array([3.0, 4.0, 5.0]), [1, 0, 0], [0, 1, 0], [0, 0, -1], (8, 8, 8), (8, 8, 8))  # type: ignore[arg-type]
    assert geometry.slice_offset_mm == -5


def test_same_place_looks_at_the_farthest_voxel() -> None:
    geometry = oblique((100, 100, 1))
    turned = np.deg2rad(0.5)
    read = np.cos(turned) * geometry.read_dir + np.sin(turned) * geometry.phase_dir
    phase = np.cos(turned) * geometry.phase_dir - np.sin(turned) * geometry.read_dir
    other = Geometry(geometry.position, read, phase, geometry.slice_dir, (240, 210, 25), (100, 100, 1))
    off = np.hypot(120, 105) * turned  # the corner voxel (0, 0)
    assert other.same_place(geometry, off * 1.01)
    assert not other.same_place(geometry, off * 0.99)
    assert not geometry.cropped((99, 100, 1)).same_place(geometry, 1e9)
    # Larger voxels, and the first one stays where it is: the last is the farthest.
    grown = Geometry(geometry.position, read, phase, geometry.slice_dir, (480, 420, 25), (100, 100, 1))
    first = geometry.centre_of((0, 0, 0)) - grown.centre_of((0, 0, 0))
    grown = replace(grown, position=grown.position + first)
    assert not grown.same_place(geometry, 100)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"read_dir": [0.9, 0, 0]}, "unit length"),
        ({"phase_dir": [1, 0, 0]}, "perpendicular"),
        ({"slice_dir": [0, 0, 0]}, "unit length"),
        ({"slice_dir": [0, np.nan, 1]}, "slice_dir needs three finite"),
        ({"position": [0, 0]}, "position needs three"),
        ({"field_of_view_mm": (10, 0, 10)}, "field of view"),
        ({"field_of_view_mm": (10, np.inf, 10)}, "field of view"),
        ({"matrix": (4, 4, 0)}, "matrix"),
    ],
)
def test_impossible_geometries_are_refused(change: dict[str, object], message: str) -> None:
    fine = {"position": np.zeros(3), "read_dir": AXES[0], "phase_dir": AXES[1], "slice_dir": AXES[2]}
    grid = {"field_of_view_mm": (8.0, 8.0, 8.0), "matrix": (8, 8, 8)}
    Geometry(**fine, **grid)  # type: ignore[arg-type]
    with pytest.raises(FormatError, match=message):
        Geometry(**{**fine, **grid, **change})  # type: ignore[arg-type]


def test_directions_may_be_as_inexact_as_headers_are() -> None:
    header = np.zeros((), ACQUISITION_HEADER)[()]
    header["read_dir"], header["phase_dir"], header["slice_dir"] = (
        oblique().read_dir,
        oblique().phase_dir,
        oblique().slice_dir,
    )
    geometry = Geometry.from_readout(header, (10, 10, 10), (4, 4, 4))
    np.testing.assert_array_equal(geometry.read_dir, header["read_dir"])


def test_nothing_can_be_changed_from_outside() -> None:
    position = np.zeros(3)
    geometry = Geometry(position, *np.array(AXES, float), (8, 8, 8), (8, 8, 8))
    position[0] = 7
    assert geometry.position[0] == 0
    with pytest.raises(ValueError, match="read-only"):
        geometry.position[0] = 1
