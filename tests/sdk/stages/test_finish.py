"""The form in which images leave: recon space, kind, scaling without loss, and what their attributes tell."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from scanside import Image
from scanside.errors import NonFiniteError, StageConfigError
from scanside.mrd.dtypes import IMAGE_HEADER, IMAGE_TYPES
from scanside.mrd.header import MrdHeader
from scanside.stages.finish import Finish


def image_of(data: Any, **fields: Any) -> Image:
    tensor = torch.as_tensor(data)[None, None]
    header = np.zeros(1, IMAGE_HEADER)[0]
    header["matrix_size"] = tensor.shape[:0:-1]
    header["field_of_view"] = tensor.shape[:0:-1]
    header["position"] = (10, 20, 30)
    for name, value in fields.items():
        header[name] = value
    return Image(tensor, header)


@pytest.fixture
def complex_image() -> Image:
    generator = torch.Generator().manual_seed(0)
    return image_of(torch.randn(12, 16, dtype=torch.complex64, generator=generator))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("magnitude", torch.abs),
        ("phase", torch.angle),
        ("real", torch.real),
        ("imag", torch.imag),
        ("complex", lambda data: data),
    ],
)
def test_kinds(make_header: Any, run_stage: Any, complex_image: Image, kind: str, expected: Any) -> None:
    image = run_stage(Finish(kind=kind), make_header(), [complex_image]).one
    torch.testing.assert_close(image.data, expected(complex_image.data))
    assert image.header["image_type"] == IMAGE_TYPES[kind]
    assert image.data.dtype == (torch.complex64 if kind == "complex" else torch.float32)


@pytest.mark.parametrize("kind", ["magnitude", "phase", "real"])
@pytest.mark.parametrize("size", [1e-30, 1e-6, 1.0, 1e6])
def test_fill_loses_nothing(
    make_header: Any, run_stage: Any, complex_image: Image, kind: str, size: float
) -> None:
    """uint16 from end to end, no voxel cut off, and slope and intercept lead back."""
    image = complex_image.replace(data=complex_image.data * size)
    plain = run_stage(Finish(kind=kind), make_header(), [image]).one.data
    ran = run_stage(Finish(kind=kind, scaling="fill"), make_header(), [image])
    filled = ran.one
    assert filled.data.dtype == torch.uint16
    assert int(filled.data.to(torch.int64).max()) == 65535
    slope, intercept = (float(filled.meta.first(f"Rescale{name}")) for name in ("Slope", "Intercept"))
    back = filled.data.to(torch.float64) * slope + intercept
    span = float(plain.max()) - min(float(plain.min()), 0.0)
    assert float((back - plain).abs().max()) <= 0.51 * span / 65535 * (1 + 1e-3)
    assert ran.scan.warnings == []


def test_fill_of_nothing(make_header: Any, run_stage: Any) -> None:
    image = run_stage(Finish(scaling="fill"), make_header(), [image_of(torch.zeros(12, 16))]).one
    assert not image.data.to(torch.int64).any()


def test_factor(make_header: Any, run_stage: Any) -> None:
    data = torch.linspace(0, 700, 12 * 16).reshape(12, 16)
    ran = run_stage(Finish(scaling="factor", factor=100), make_header(), [image_of(data)])
    n_cut = int((data * 100 > 65535.5).sum())
    assert n_cut > 0
    assert f"{n_cut} voxels" in ran.scan.warnings[0]
    assert ran.one.meta["ScansideWarning"] == ran.scan.warnings
    expected = (data * 100).round().clamp(max=65535).to(torch.int64)
    assert torch.equal(ran.one.data[0, 0].to(torch.int64), expected)
    assert float(ran.one.meta.first("RescaleSlope")) == pytest.approx(0.01)
    assert run_stage(Finish(scaling="factor"), make_header(), [image_of(data)]).scan.warnings == []


def test_none_keeps_values(make_header: Any, run_stage: Any) -> None:
    data = torch.rand(12, 16) * 1e9
    image = run_stage(Finish(), make_header(), [image_of(data)]).one
    assert torch.equal(image.data[0, 0], data)
    assert "RescaleSlope" not in image.meta


def test_complex_cannot_be_scaled() -> None:
    with pytest.raises(StageConfigError, match="complex images cannot be scaled"):
        Finish(kind="complex", scaling="fill")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_non_finite_images_do_not_leave(make_header: Any, run_stage: Any, value: float) -> None:
    data = torch.ones(12, 16)
    data[3, 4] = value
    with pytest.raises(NonFiniteError, match=r"image 1 \(slice 2, repetition 5\)"):
        run_stage(Finish(), make_header(), [image_of(data, slice=2, repetition=5)])


def test_recon_space(make_header: Any, run_stage: Any) -> None:
    """Cropped to the recon matrix about the voxel at the header's position, which stays the same."""
    xml = make_header((32, 12, 1), (16, 8, 1))
    data = torch.arange(12 * 32, dtype=torch.float32).reshape(12, 32)
    image = image_of(data).replace(encoding=MrdHeader.parse(xml).encoding(0))
    finished = run_stage(Finish(), xml, [image]).one
    assert torch.equal(finished.data[0, 0], data[2:10, 8:24])
    assert finished.data[0, 0, 4, 8] == data[6, 16]
    assert finished.header["matrix_size"].tolist() == [16, 8, 1]
    assert finished.header["field_of_view"].tolist() == [16, 8, 1]
    assert finished.header["position"].tolist() == [10, 20, 30]
    assert image.header["matrix_size"].tolist() == [32, 12, 1], "the item that came in stays as it was"


def test_numbers_and_attributes(make_header: Any, run_stage: Any, complex_image: Image) -> None:
    xml = make_header(measurement="<measurementID>m_7</measurementID>")
    complex_image.meta["Mine"] = "kept"
    first, second = run_stage(
        Finish(series=4), xml, [complex_image, complex_image.replace(incomplete="half of it")]
    ).items
    assert [int(image.header["image_index"]) for image in (first, second)] == [1, 2]
    assert int(first.header["image_series_index"]) == 4
    assert first.meta["Mine"] == ["kept"]
    assert first.meta["measurementID"] == ["m_7"]
    assert first.meta["DataRole"] == ["Image"]
    assert first.meta["ImageComment"] == ["Research use only"]
    assert "ScansideIncomplete" not in first.meta
    assert second.meta["ScansideIncomplete"] == ["half of it"]
    assert "INCOMPLETE DATA" in second.meta["ImageComment"]
    assert list(complex_image.meta) == ["Mine"], "attributes of the item that came in stay as they were"


class TestScaleOfAScan:
    """What MRD hosts expect: integers of 12 bits, comparable between the images of a scan."""

    def test_one_factor_for_all_images(self, make_header: Any, run_stage: Any) -> None:
        images = [image_of(torch.full((12, 16), value)) for value in (1.0, 4.0, 2.0)]
        ran = run_stage(Finish(scaling="scan", largest=4095), make_header(), images)
        assert [int(image.data.to(torch.int64).max()) for image in ran.items] == [1024, 4095, 2048]
        assert [int(image.header["image_index"]) for image in ran.items] == [1, 2, 3]
        for image, given in zip(ran.items, images, strict=True):
            assert image.data.dtype == torch.uint16
            slope = float(image.meta.first("RescaleSlope"))
            back = image.data.to(torch.float64) * slope
            torch.testing.assert_close(back, given.data.to(torch.float64), atol=slope / 2, rtol=0)
            assert image.meta.first("WindowCenter") == "2048"
            assert image.meta.first("WindowWidth") == "4096"

    def test_phases_cover_the_circle(self, make_header: Any, run_stage: Any) -> None:
        angles = torch.tensor([[0.0, torch.pi / 2, -torch.pi / 2, torch.pi - 1e-3]])
        image = image_of(torch.polar(torch.ones(1, 4), angles))
        ran = run_stage(Finish(kind="phase", scaling="scan", largest=4095), make_header(), [image])
        found = ran.one.data[0, 0, 0].to(torch.int64).tolist()
        assert found == pytest.approx([2047.5, 3071.25, 1023.75, 4094], abs=1)

    def test_nothing_is_kept_for_the_next_scan(self, make_header: Any, run_stage: Any) -> None:
        stage = Finish(scaling="scan")
        for value in (7.0, 1.0):
            ran = run_stage(stage, make_header(), [image_of(torch.full((12, 16), value))])
            assert float(ran.one.meta.first("RescaleSlope")) == pytest.approx(value / 65535)

    def test_scan_without_images(self, make_header: Any, run_stage: Any) -> None:
        assert run_stage(Finish(scaling="scan"), make_header(), []).items == []


def of_space(make_header: Any, index: int, **fields: Any) -> Image:
    """An image of one of two encoding spaces of equal size."""
    encoding = MrdHeader.parse(make_header((16, 12, 1), n_encodings=2)).encodings[index]
    image = image_of(np.ones((12, 16), np.float32), **fields)
    image.header["field_of_view"] = (16, 12, 1)
    return image.replace(encoding=encoding)


@pytest.mark.parametrize("order", [(0, 1, 0), (1, 0, 1)])
def test_encoding_spaces_have_their_own_series(
    make_header: Any, run_stage: Any, order: tuple[int, ...]
) -> None:
    """Whichever comes first, and however alike they are."""
    images = [of_space(make_header, index) for index in order]
    made = run_stage(Finish(series=5), make_header(), images).items
    assert [int(image.header["image_series_index"]) for image in made] == [5 + index for index in order]


def test_matrix_and_voxel_size_have_their_own_series(make_header: Any, run_stage: Any) -> None:
    """Images without an encoding space, as those from a Gadgetron chain: in the order in which they come."""
    first, other_voxel, other_matrix = (
        image_of(np.ones(shape, np.float32)) for shape in [(12, 16)] * 2 + [(16, 12)]
    )
    other_voxel.header["field_of_view"] = (32, 12, 1)
    made = run_stage(Finish(), make_header(), [first, other_voxel, other_matrix, first, other_voxel]).items
    assert [int(image.header["image_series_index"]) for image in made] == [1, 2, 3, 1, 2]
