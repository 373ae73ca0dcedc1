"""Every kind of image has a series number of its own, and every image of a series its number."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from scanside.items import Image
from scanside.mrd.files import open_recording
from scanside.mrd.header import Encoding, Limit, MrdHeader
from scanside.mrd.messages import ImageArray, ImageMessage
from scanside.series import ImageNumbers, SeriesNumbers, grid_of
from scanside.testing import small_image, small_scan


def test_numbers() -> None:
    numbers = SeriesNumbers()
    assert [numbers.number(kind, 1) for kind in "abacb"] == [1, 2, 1, 3, 2]
    assert numbers.number("d", 2) == 4, "the next free one"
    assert numbers.number("e", 9) == 9
    assert numbers.number("f", 65535) == 65535
    assert numbers.number("g", 65535) == 0, "headers hold 16 bits"


@pytest.mark.parametrize(("changed", "same"), [(1e-6, True), (0.01, False)])
def test_field_of_view(changed: float, same: bool) -> None:
    """Headers round lengths: that makes no other series, but another voxel does."""
    one, other = small_image(), small_image()
    other.header["field_of_view"] *= 1 + changed
    assert (grid_of(one) == grid_of(other)) == same


def test_matrix() -> None:
    """The samples tell it: what a header says of it is corrected when an image is sent."""
    one = small_image()
    other = one.replace(data=one.data[..., :-1])
    assert grid_of(one) != grid_of(other)


# Images of a series.


def encoding_of(**sizes: int) -> Encoding:
    limits = {name: Limit(0, size - 1, 0) for name, size in sizes.items()}
    return replace(small_scan().encoding(), limits=limits)


def image_of(encoding: Encoding | None, channels: int = 1, partitions: int = 1, **counters: int) -> Image:
    one = small_image()
    for name, value in counters.items():
        one.header[name] = value
    data = one.data[:1, :1].expand(channels, partitions, -1, -1)
    return one.replace(data=data, encoding=encoding)


@pytest.mark.parametrize("name", ["waveforms.image", "waveforms.image_array", "grappa.image_array"])
def test_as_gadgetron_numbers_them(shared_data: Path, name: str) -> None:
    with open_recording(shared_data / "gadgetron-captures" / f"{name}.bin.xz") as recording:
        (encoding,) = MrdHeader.parse(recording.header_xml).encodings
        numbers, headers = ImageNumbers(), []
        for message in recording.items():
            if isinstance(message, ImageMessage):
                headers.append(message.header)
            elif isinstance(message, ImageArray):
                headers += list(message.headers.ravel())
    assert headers
    for header in headers:
        image = replace(image_of(encoding), header=header)
        assert numbers.number(image) == header["image_index"]


def test_slices_have_their_numbers_in_whatever_order_they_come() -> None:
    encoding, numbers = encoding_of(slice=5, repetition=2), ImageNumbers()
    order = (0, 2, 4, 1, 3)
    found = [numbers.number(image_of(encoding, slice=i, repetition=r)) for r in (0, 1) for i in order]
    assert found == [1, 3, 5, 2, 4, 6, 8, 10, 7, 9]


def test_which_counter_runs_faster() -> None:
    """Slice, contrast, phase, set, repetition, average, in steps of channels times partitions."""
    sizes = {"average": 2, "repetition": 3, "set": 4, "phase": 5, "contrast": 6, "slice": 7}
    encoding, numbers = encoding_of(**sizes), ImageNumbers()
    step = 2 * 3
    for name, size in reversed(sizes.items()):
        assert numbers.number(image_of(encoding, 2, 3, **{name: 1})) == 1 + step
        step *= size
    last = image_of(encoding, 2, 3, **{name: size - 1 for name, size in sizes.items()})
    assert numbers.number(last) == 1 + step - 2 * 3


FILMS = (
    (encoding_of(repetition=2), 9),  # more than the header announces
    (encoding_of(), 9),  # which it does not announce at all
    (encoding_of(repetition=60000, phase=60000), 9),  # so many that numbers do not suffice
)


@pytest.mark.parametrize(("encoding", "n"), FILMS, ids=["more", "none", "too many"])
def test_no_two_images_share_a_number(encoding: Encoding, n: int) -> None:
    numbers = ImageNumbers()
    found = [numbers.number(image_of(encoding, repetition=i)) for i in range(n)]
    assert found == list(range(1, n + 1))
    assert numbers.number(image_of(encoding, repetition=0)) == n + 1, "the same counters once more"


def test_images_that_have_a_number_keep_it() -> None:
    numbers = ImageNumbers()
    assert [numbers.number(image_of(None, image_index=i)) for i in (4, 2, 2, 0, 4)] == [4, 2, 1, 3, 5]
