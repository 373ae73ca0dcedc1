"""Messages become items and messages again; Gadgetron's recorded streams say what they hold."""

from __future__ import annotations

import lzma
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scanside.convert import Outlet, items_of, message_of
from scanside.errors import HeaderError, IncompleteScan, ShapeError
from scanside.items import Image, KSpace, Readouts, Waveform
from scanside.mrd.dtypes import ACQUISITION_HEADER, IMAGE_HEADER, SAMPLING_DESCRIPTION
from scanside.mrd.flags import AcquisitionFlag
from scanside.mrd.messages import (
    Bucket,
    Close,
    ConfigText,
    HeaderXml,
    ImageArray,
    ImageMessage,
    ReconBit,
    ReconBuffer,
    ReconData,
)
from scanside.mrd.meta import Meta
from scanside.mrd.reader import decode
from scanside.mrd.writer import encode
from scanside.scan import Scan
from scanside.testing.small import small_image, small_kspace, small_readouts, small_scan, small_waveform


class Capture:
    """What Gadgetron sent to a node."""

    def __init__(self, path: Path) -> None:
        messages = decode(lzma.decompress(path.read_bytes()))
        self.data: list[Any] = [
            one for one in messages if not isinstance(one, (ConfigText, HeaderXml, Close))
        ]
        self.scan = Scan.from_xml(next(one.xml for one in messages if isinstance(one, HeaderXml)))

    def items(self) -> list[Any]:
        return [item for message in self.data for item in items_of(message, self.scan)]


@pytest.fixture
def captures(shared_data: Path) -> Any:
    return lambda name: Capture(shared_data / "gadgetron-captures" / f"{name}.bin.xz")


@pytest.mark.parametrize(
    "name",
    [
        "waveforms.acquisitions",
        "waveforms.recon_data",
        "waveforms.image_array",
        "waveforms.image",
        "grappa.recon_data_with_reference",
        "grappa.image_array",
    ],
)
def test_recorded_streams_come_back_to_the_byte(captures: Any, name: str) -> None:
    capture = captures(name)
    outlet = Outlet()
    for message in capture.data:
        outlet.came(message)
        back = [one for item in items_of(message, capture.scan) for one in outlet.messages(item)]
        assert encode(*back) == encode(message)
    assert list(outlet.finish()) == []


def test_recorded_recon_data(captures: Any) -> None:
    # Line 54 is the centre of 106 lines on rows 18 to 123 of 144; every third was sampled. Calibration lines
    # 30 to 77 came cut to 48 rows, with headers on all 144.
    (kspace,) = captures("grappa.recon_data_with_reference").items()
    assert kspace.other == ("loc", "s", "n")
    assert kspace.data.shape == (1, 1, 1, 11, 1, 144, 192)
    assert [(r.first, r.last, r.center) for r in kspace.ranges] == [(0, 191, 96), (18, 123, 72), (0, 0, 0)]
    assert kspace.mask.flatten().nonzero().flatten().tolist() == list(range(18, 124, 3))
    assert kspace.headers.shape == kspace.mask.shape
    assert (kspace.headers["version"] > 0).tolist() == kspace.mask.tolist()
    sampled = kspace.data.abs().sum(dim=(3, 6)) > 0
    assert torch.equal(sampled, kspace.mask)
    assert kspace.encoding.encoded.matrix == (192, 144, 1)
    assert kspace.encoding.oversampling == 1
    assert kspace.counters["slice"] == 0
    reference = kspace.reference
    assert reference.data.shape == (1, 1, 1, 11, 1, 48, 192)
    assert reference.mask.all()
    assert reference.ranges[1].center == 24
    assert reference.headers["idx"]["kspace_encode_step_1"].flatten().tolist() == list(range(30, 78))


def cut(headers: Any, data: Any, last: int) -> None:
    """As if the scan had ended with a scan counter."""
    gone = headers["scan_counter"] > last
    headers[gone] = np.zeros(1, headers.dtype)[0]
    if data is not None:
        data[np.broadcast_to(gone[:, :, :, None, :, :, None], data.shape)] = 0


@pytest.mark.parametrize("last", [20, 40, 60])
@pytest.mark.parametrize("counted", [True, False])
def test_recon_data_of_a_scan_that_ended_early(captures: Any, last: int, counted: bool) -> None:
    capture = captures("grappa.recon_data_with_reference")
    assert [item.incomplete for item in capture.items()] == [None]
    assert capture.scan.warnings == []
    buffer = capture.data[0].bits[0].data
    cut(buffer.headers, buffer.data, last)
    if not counted:
        buffer.headers["scan_counter"] = 0
    (kspace,) = capture.items()
    assert "104" not in (kspace.incomplete or "")
    assert kspace.incomplete is not None
    assert "lines were lost: kspace_encode_step_1" in kspace.incomplete
    assert capture.scan.warnings == [kspace.incomplete]


def test_recon_data_that_lack_lines(captures: Any) -> None:
    for lost in ([54], [0, 3], [51, 54, 57, 60, 63], [102, 105], list(range(3, 105, 3))):
        capture = captures("grappa.recon_data_with_reference")
        buffer = capture.data[0].bits[0].data
        gone = np.isin(buffer.headers["idx"]["kspace_encode_step_1"], lost) & (
            buffer.headers["number_of_samples"] > 0
        )
        buffer.headers[gone] = np.zeros(1, buffer.headers.dtype)[0]
        (kspace,) = capture.items()
        assert f"kspace_encode_step_1 {lost[0]}" in (kspace.incomplete or ""), lost


def test_image_array_of_a_scan_that_ended_early(captures: Any) -> None:
    capture = captures("grappa.image_array")
    assert [image.incomplete for image in capture.items()] == [None]
    cut(capture.data[0].acquisition_headers, None, 40)
    (image,) = capture.items()
    assert "lines were lost" in (image.incomplete or "")
    (message,) = Outlet("image").messages(image)
    assert Meta.parse(message.attributes).first("ScansideIncomplete") == image.incomplete


@pytest.mark.parametrize("name", ["plain.bucket", "waveforms.bucket", "waveforms.recon_data"])
def test_recorded_streams_lack_nothing(captures: Any, name: str) -> None:
    from scanside.execution import execute
    from scanside.pipeline import Pipeline

    capture = captures(name)
    items: list[Any] = []
    pipeline = Pipeline.load("fft")
    pipeline = Pipeline(pipeline.stages, labels=pipeline.labels, input=(Readouts, Waveform, KSpace))
    with pipeline.open(capture.scan) as run:
        execute(run, iter(capture.items()), items.append)
    images = [item for item in items if isinstance(item, Image)]
    assert images
    assert [image.incomplete for image in images] == [None] * len(images)


def test_recorded_bucket_gives_the_readouts_of_the_recorded_acquisitions(captures: Any) -> None:
    lines = [item for item in captures("waveforms.bucket").items() if isinstance(item, Readouts)]
    expected = [item for item in captures("waveforms.acquisitions").items() if isinstance(item, Readouts)]
    counters = np.concatenate([block.headers["scan_counter"] for block in lines])
    assert counters.tolist() == np.concatenate([block.headers["scan_counter"] for block in expected]).tolist()


def test_readouts_that_are_in_both_parts_of_a_bucket_come_once() -> None:
    both = AcquisitionFlag.PARALLEL_CALIBRATION_AND_IMAGING
    data = Readouts(Readouts.empty_headers(4), np.zeros((4, 1, 2), np.complex64))
    data.headers["scan_counter"] = [3, 4, 5, 6]
    data.headers["flags"][1:3] = both
    only = Readouts(Readouts.empty_headers(2), np.zeros((2, 1, 2), np.complex64))
    only.headers["scan_counter"] = [1, 2]
    only.headers["flags"] = AcquisitionFlag.PARALLEL_CALIBRATION
    wave = small_waveform()
    bucket = Bucket([data], [], [only, data.select(slice(1, 3))], [], [wave])
    items = list(items_of(bucket, small_scan()))
    assert [one.headers["scan_counter"].tolist() for one in items[:-1] if isinstance(one, Readouts)] == [
        [1, 2],
        [3, 4, 5, 6],
    ]
    assert items[-1] is wave


def test_kspace_of_a_stage_becomes_recon_data_and_comes_back() -> None:
    kspace = small_kspace()
    assert kspace.reference is not None
    message = message_of(kspace)
    assert isinstance(message, ReconData)
    (bit,) = message.bits
    assert bit.data.data.shape == (1, 1, 1, 4, 1, 24, 24)
    assert bit.data.sampling["encoded_matrix"].tolist() == [24, 24, 1]
    assert bit.data.sampling["encoded_fov"].tolist() == [240, 240, 5]
    assert bit.reference is not None
    assert bit.reference.headers.shape == (1, 1, 1, 1, 24)
    (decoded,) = decode(encode(message))
    (back,) = items_of(decoded, small_scan())  # type: ignore[arg-type]
    assert isinstance(back, KSpace)
    assert back.reference is not None
    assert torch.equal(back.data[0, 0, 0], kspace.data)
    assert torch.equal(back.mask[0, 0, 0], kspace.mask)
    assert (back.headers[0, 0, 0] == kspace.headers).all()
    assert (back.reference.headers[0, 0, 0] == kspace.reference.headers).all()
    assert torch.equal(back.reference.data[0, 0, 0], kspace.reference.data)
    assert back.ranges == kspace.ranges
    assert back.reference.ranges == kspace.reference.ranges


@pytest.mark.parametrize(
    ("other", "sizes", "leading"),
    [
        (("phase",), (3,), (1, 1, 3)),
        (("slice",), (3,), (3, 1, 1)),
        (("contrast", "phase"), (2, 3), (1, 2, 3)),
        (("phase", "slice", "set"), (2, 5, 3), (5, 2, 3)),
    ],
)
def test_leading_axes_find_their_places(other: tuple[str, ...], sizes: tuple[int, ...], leading: Any) -> None:
    one = small_kspace()
    data = one.data.expand(*sizes, *one.data.shape) * torch.arange(np.prod(sizes)).reshape(*sizes, 1, 1, 1, 1)
    kspace = one.replace(
        data=data,
        mask=one.mask.expand(*sizes, *one.mask.shape),
        headers=np.broadcast_to(one.headers, (*sizes, *one.headers.shape)),
        other=other,
        reference=None,
    )
    message = message_of(kspace)
    assert isinstance(message, ReconData)
    buffer = message.bits[0].data
    assert buffer.data.shape[:3] == leading
    assert buffer.headers.shape == (*leading, 1, 24)
    places = [other.index(name) for name in ("slice", *(n for n in other if n != "slice")) if name in other]
    expected = np.transpose(data.numpy(), [*places, *range(len(sizes), data.ndim)])
    np.testing.assert_array_equal(buffer.data.reshape(expected.shape), expected)


def test_too_many_leading_axes() -> None:
    one = small_kspace()
    kspace = one.replace(
        data=one.data[None, None, None],
        mask=one.mask[None, None, None],
        headers=one.headers[None, None, None],
        other=("contrast", "phase", "set"),
    )
    with pytest.raises(ShapeError, match="accumulate"):
        message_of(kspace)


def test_incomplete_kspace_is_not_passed_off_as_whole() -> None:
    with pytest.raises(IncompleteScan, match="12 lines"):
        message_of(small_kspace().replace(incomplete="12 lines are missing"))


def two_space_scan() -> Scan:
    xml = small_scan().header.xml.decode()
    start, end = xml.index("<encoding>"), xml.index("</encoding>") + len("</encoding>")
    return Scan.from_xml(xml[:end] + xml[start:end] + xml[end:])


def test_encoding_spaces_stay_together_and_in_place() -> None:
    scan = two_space_scan()
    first = small_kspace()
    second = first.replace(data=2 * first.data, encoding=scan.encoding(1))
    message = ReconData([bit for one in (first, second) for bit in message_of(one).bits[-1:]])  # type: ignore[union-attr]
    outlet = Outlet()
    outlet.came(message)
    items = list(items_of(message, scan))
    assert [item.encoding.index for item in items if isinstance(item, KSpace)] == [0, 1]
    assert list(outlet.messages(items[1])) == []
    (back,) = outlet.messages(items[0])
    assert encode(back) == encode(message)


def test_space_that_comes_alone_keeps_its_place() -> None:
    scan = two_space_scan()
    message = message_of(small_kspace().replace(encoding=scan.encoding(1)))
    assert isinstance(message, ReconData)
    assert [bit.data.data.size > 0 for bit in message.bits] == [False, True]
    (item,) = items_of(message, scan)
    assert isinstance(item, KSpace)
    assert item.encoding.index == 1
    with pytest.raises(HeaderError, match="encoding space 1"):
        list(items_of(message, small_scan()))


def test_recon_data_whose_headers_do_not_fit() -> None:
    buffer = ReconBuffer(
        np.ones((1, 1, 1, 1, 1, 4, 4), np.complex64),
        np.zeros((1, 1, 1, 1, 9), ACQUISITION_HEADER),
        np.zeros(1, SAMPLING_DESCRIPTION)[0],
    )
    with pytest.raises(ShapeError, match="headers"):
        list(items_of(ReconData([ReconBit(buffer)]), small_scan()))


def array_of(n_loc: int, n_s: int, n: int) -> ImageArray:
    generator = np.random.default_rng(0)
    shape = (n_loc, n_s, n)
    headers = np.zeros(shape, IMAGE_HEADER)
    headers["data_type"], headers["matrix_size"], headers["channels"] = 7, (5, 4, 3), 2
    headers["slice"] = np.arange(n_loc)[:, None, None]
    headers["repetition"] = np.arange(n)
    data = generator.standard_normal((*shape, 2, 3, 4, 5)) + 1j
    meta = [
        f"<ismrmrdMeta>\n<meta><name>i</name><value>{i}</value></meta></ismrmrdMeta>"
        for i in range(headers.size)
    ]
    acquisitions = np.zeros((*shape, 3, 4), ACQUISITION_HEADER)
    return ImageArray(
        data.astype(np.complex64), headers, [one.encode() for one in meta], [small_waveform()], acquisitions
    )


def images_of(array: ImageArray) -> list[Image]:
    return [item for item in items_of(array, small_scan()) if isinstance(item, Image)]


def test_image_arrays_are_put_together_again() -> None:
    outlet = Outlet()
    arrays = [array_of(2, 1, 3), array_of(1, 2, 2)]
    images = []
    for array in arrays:
        outlet.came(array)
        images += images_of(array)
    assert [image.meta.first("i") for image in images[:6]] == list("012345")
    back = [one for image in images for one in outlet.messages(image)]
    assert [encode(one) for one in back] == [encode(one) for one in arrays]


def test_images_of_a_changed_size_are_put_together_too() -> None:
    array = array_of(2, 1, 2)
    outlet = Outlet()
    outlet.came(array)
    smaller = [image.replace(data=image.data[:, :, 1:, 1:].abs()) for image in images_of(array)]
    (back,) = [one for image in smaller for one in outlet.messages(image)]
    assert isinstance(back, ImageArray)
    assert back.data.shape == (2, 1, 2, 2, 3, 3, 4)
    assert back.headers["matrix_size"].reshape(-1, 3).tolist() == [[4, 3, 3]] * 4
    assert back.acquisition_headers is array.acquisition_headers
    np.testing.assert_allclose(back.data, np.abs(array.data[..., 1:, 1:]), rtol=1e-6)


def test_fewer_images_than_came_go_out_alone() -> None:
    # A stage that combines repetitions: nothing of the array that came belongs to its images.
    outlet = Outlet()
    back = []
    for _ in range(2):
        array = array_of(2, 1, 3)
        outlet.came(array)
        back += [one for image in images_of(array)[::3] for one in outlet.messages(image)]
    back += outlet.finish()
    assert len(back) == 4
    for one in back:
        assert isinstance(one, ImageArray)
        assert one.headers.shape == (1, 1, 1)
        assert one.waveforms is None
        assert one.acquisition_headers is None


def test_form_of_images() -> None:
    image = small_image()
    assert isinstance(message_of(image), ImageMessage)
    assert isinstance(message_of(image, "image_array"), ImageArray)
    (only,) = Outlet("image_array").messages(image)
    assert isinstance(only, ImageArray)
    array = array_of(1, 1, 2)
    outlet = Outlet("image")
    outlet.came(array)
    back = [one for one in images_of(array) for one in outlet.messages(one)]
    assert [type(one) for one in back] == [ImageMessage, ImageMessage]


@pytest.mark.parametrize(
    ("dtype", "number"),
    [
        (torch.uint16, 1),
        (torch.int16, 2),
        (torch.int32, 4),
        (torch.float32, 5),
        (torch.float64, 6),
        (torch.complex64, 7),
    ],
)
def test_header_says_what_the_samples_are(dtype: torch.dtype, number: int) -> None:
    image = small_image()
    image = image.replace(data=torch.ones((2, 1, 3, 4)).to(dtype))
    message = message_of(image)
    assert isinstance(message, ImageMessage)
    assert message.header["data_type"] == number
    assert message.header["matrix_size"].tolist() == [4, 3, 1]
    assert message.header["channels"] == 2
    assert image.header["data_type"] == 0, "the image's own header stays as it was"
    (back,) = decode(encode(message))
    assert isinstance(back, ImageMessage)
    np.testing.assert_array_equal(back.data, image.data.numpy())


def test_samples_that_no_image_can_hold() -> None:
    with pytest.raises(ShapeError, match="int64"):
        message_of(small_image().replace(data=torch.ones((1, 1, 2, 2), dtype=torch.int64)))


def test_conjugate_views_are_written_out() -> None:
    image = small_image()
    conjugate = message_of(image.replace(data=image.data.conj()))
    assert isinstance(conjugate, ImageMessage)
    np.testing.assert_array_equal(conjugate.data, image.data.numpy().conj())


@pytest.mark.parametrize("nul", [False, True])
def test_attributes_go_back_as_written_unless_changed(nul: bool) -> None:
    written = b"<ismrmrdMeta>\n\t<meta>\n\t\t<name>a</name>\n\t\t<value>1</value>\n\t</meta></ismrmrdMeta>"
    message = ImageMessage.from_array(np.ones((1, 1, 2, 2), np.float32), written)
    message.nul = nul
    message.header["attribute_string_len"] = len(written) + nul
    (image,) = items_of(message, small_scan())
    assert isinstance(image, Image)
    assert encode(message_of(image)) == encode(message)
    assert encode(message_of(image.replace(meta=image.meta.copy()))) == encode(message)
    image.meta["b"] = 2
    changed = message_of(image)
    assert isinstance(changed, ImageMessage)
    assert dict(Meta.parse(changed.attributes)) == {"a": ["1"], "b": ["2"]}
    assert changed.header["attribute_string_len"] == len(changed.attributes)


def test_incomplete_image_says_so_and_stays_so() -> None:
    message = message_of(small_image().replace(incomplete="the peer left"))
    assert isinstance(message, ImageMessage)
    assert Meta.parse(message.attributes).first("ScansideIncomplete") == "the peer left"
    (back,) = items_of(message, small_scan())
    assert isinstance(back, Image)
    assert back.incomplete == "the peer left"


def test_readouts_and_waveforms_stay_what_they_are() -> None:
    items: list[Readouts | Waveform] = [*small_readouts(), small_waveform()]
    for item in items:
        assert message_of(item) is item
        assert list(items_of(item, small_scan())) == [item]
