"""Encoding and decoding undo each other, and agree with what Gadgetron really sends."""

from __future__ import annotations

import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scanside.errors import MessageError
from scanside.mrd.dtypes import IMAGE_DTYPES, IMAGE_HEADER
from scanside.mrd.messages import (
    Bucket,
    Close,
    ConfigFile,
    ConfigText,
    CounterSets,
    ErrorText,
    HeaderXml,
    ImageArray,
    ImageMessage,
    Message,
    Readouts,
    ReconBit,
    ReconData,
    Text,
    Waveform,
)
from scanside.mrd.reader import decode
from scanside.mrd.writer import encode

pytestmark = pytest.mark.torch_free

CAPTURES = (
    "grappa.image_array",
    "grappa.recon_data_with_reference",
    "plain.bucket",
    "waveforms.acquisitions",
    "waveforms.bucket",
    "waveforms.image",
    "waveforms.image_array",
    "waveforms.recon_data",
)


@pytest.fixture
def capture(shared_data: Path) -> Callable[[str], bytes]:
    return lambda name: lzma.decompress((shared_data / "gadgetron-captures" / f"{name}.bin.xz").read_bytes())


@pytest.mark.parametrize("name", CAPTURES)
def test_what_gadgetron_sent_decodes_and_encodes_to_the_same_bytes(
    name: str, capture: Callable[[str], bytes]
) -> None:
    wire = capture(name)
    messages = decode(wire)
    assert isinstance(messages[0], ConfigText)
    assert isinstance(messages[1], HeaderXml)
    assert isinstance(messages[-1], Close)
    assert encode(*messages) == wire


def test_no_capture_is_left_out(shared_data: Path) -> None:
    there = {
        path.name.removesuffix(".bin.xz") for path in (shared_data / "gadgetron-captures").glob("*.bin.xz")
    }
    assert there == set(CAPTURES)


def test_the_capture_of_acquisitions_holds_the_whole_scan(capture: Callable[[str], bytes]) -> None:
    messages = decode(capture("waveforms.acquisitions"))
    blocks = [message for message in messages if isinstance(message, Readouts)]
    headers = np.concatenate([block.headers for block in blocks])
    assert {block.samples.shape[1:] for block in blocks} == {(4, 128)}
    np.testing.assert_array_equal(headers["idx"]["repetition"], np.repeat(np.arange(4), 64))
    np.testing.assert_array_equal(headers["idx"]["kspace_encode_step_1"], np.tile(np.arange(64), 4))
    waveforms = [message for message in messages if isinstance(message, Waveform)]
    assert [waveform.data.shape for waveform in waveforms] == [(2, 25)] * 40
    assert {float(waveform.header["sample_time_us"]) for waveform in waveforms} == {2.5}


def test_bucket_recon_data_and_acquisitions_of_one_scan_hold_the_same_samples(
    capture: Callable[[str], bytes],
) -> None:
    """Axis orders: Gadgetron made all three of one scan, so line, coil and sample must meet."""
    acquisitions = [m for m in decode(capture("waveforms.acquisitions")) if isinstance(m, Readouts)]
    oversampled = np.concatenate([block.samples for block in acquisitions])
    # The bucket and the recon data come from behind the gadget that removes the oversampling of the readout.
    profiles = _centred(np.fft.ifft, oversampled)[..., 32:96]
    lines = _centred(np.fft.fft, profiles).reshape(4, 64, 4, 64)
    buckets = [m for m in decode(capture("waveforms.bucket")) if isinstance(m, Bucket)]
    recons = [m for m in decode(capture("waveforms.recon_data")) if isinstance(m, ReconData)]
    for repetition in range(4):
        (block,) = buckets[repetition].data
        scale = np.vdot(lines[repetition], block.samples) / np.vdot(lines[repetition], lines[repetition])
        np.testing.assert_allclose(
            block.samples, scale * lines[repetition], atol=1e-5 * np.abs(block.samples).max()
        )
        (bit,) = recons[repetition].bits
        assert bit.data.data.shape == (1, 1, 1, 4, 1, 64, 64)
        np.testing.assert_array_equal(bit.data.data[0, 0, 0, :, 0], block.samples.transpose(1, 0, 2))
        np.testing.assert_array_equal(bit.data.headers.ravel(), block.headers)


def _centred(transform: Callable[..., Any], samples: Any) -> Any:
    return np.fft.fftshift(transform(np.fft.ifftshift(samples, axes=-1)), axes=-1)


def test_gadgetrons_bucket_statistics_are_those_of_its_readouts(capture: Callable[[str], bytes]) -> None:
    buckets = [m for m in decode(capture("waveforms.bucket")) if isinstance(m, Bucket)]
    assert len(buckets) == 4
    for bucket in buckets:
        assert CounterSets.by_encoding_space(bucket.data) == bucket.data_stats
        assert CounterSets.by_encoding_space(bucket.reference) == bucket.reference_stats


def test_the_recon_data_of_the_skyra_scan_carry_their_reference(capture: Callable[[str], bytes]) -> None:
    (recon,) = (m for m in decode(capture("grappa.recon_data_with_reference")) if isinstance(m, ReconData))
    (bit,) = recon.bits
    assert bit.reference is not None
    assert bit.data.data.shape[-1] == bit.reference.data.shape[-1] == 192
    assert bit.data.sampling["recon_matrix"].tolist() == [192, 144, 1]
    assert bit.data.sampling["limits"]["center"].tolist() == [96, 72, 0]


def test_every_kind_of_message_survives(examples: list[Message], assert_same: Callable[..., None]) -> None:
    wire = encode(*examples)
    assert_same(decode(wire), examples)
    assert encode(*decode(wire)) == wire


sizes = st.integers(0, 4)
seeds = st.integers(0, 2**32)
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
octets = st.binary(max_size=40).map(lambda text: text.rstrip(b"\0"))
counters = st.lists(st.integers(0, 65535), max_size=3).map(tuple)
counter_sets = st.builds(CounterSets, *([counters] * 9))


@pytest.fixture
def survives(assert_same: Callable[..., None]) -> Callable[[Message], None]:
    def check(message: Message) -> None:
        wire = encode(message)
        (back,) = decode(wire)
        assert_same(back, message)
        assert encode(back) == wire

    return check


with_fixtures = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


@with_fixtures
@given(message=st.one_of(
    st.builds(ConfigFile, texts),
    st.builds(ConfigText, octets, st.booleans()),
    st.builds(HeaderXml, octets, st.booleans()),
    st.builds(Text, texts, st.booleans()),
    st.builds(ErrorText, texts),
    st.just(Close()),
))  # fmt: skip
def test_texts_survive(message: Message, survives: Callable[[Message], None]) -> None:
    survives(message)


@with_fixtures
@given(seed=seeds, n=st.integers(1, 5), coils=sizes, samples=sizes, dimensions=sizes)
def test_readouts_survive(
    seed: int,
    n: int,
    coils: int,
    samples: int,
    dimensions: int,
    maker: Any,
    survives: Callable[[Message], None],
) -> None:
    survives(maker(seed).readouts(n, coils, samples, dimensions))


@with_fixtures
@given(seed=seeds, channels=sizes, samples=sizes)
def test_waveforms_survive(
    seed: int, channels: int, samples: int, maker: Any, survives: Callable[[Message], None]
) -> None:
    survives(maker(seed).waveform(channels, samples))


@with_fixtures
@given(
    seed=seeds,
    shape=st.tuples(sizes, sizes, sizes, sizes),
    dtype=st.sampled_from(sorted(IMAGE_DTYPES.values(), key=str)),
    attributes=octets,
    nul=st.booleans(),
)
def test_images_survive(
    seed: int,
    shape: tuple[int, int, int, int],
    dtype: np.dtype[Any],
    attributes: bytes,
    nul: bool,
    maker: Any,
    survives: Callable[[Message], None],
) -> None:
    image = maker(seed).image(dtype, shape, attributes)
    image.nul = nul
    survives(image)


@with_fixtures
@given(seed=seeds, n=sizes, waveforms=st.none() | sizes, with_acquisitions=st.booleans())
def test_image_arrays_survive(
    seed: int,
    n: int,
    waveforms: int | None,
    with_acquisitions: bool,
    maker: Any,
    survives: Callable[[Message], None],
) -> None:
    survives(maker(seed).image_array(n, waveforms, with_acquisitions))


@with_fixtures
@given(seed=seeds, bits=st.lists(st.tuples(sizes, sizes, st.booleans(), st.booleans()), max_size=3))
def test_recon_data_survive(
    seed: int, bits: list[tuple[int, int, bool, bool]], maker: Any, survives: Callable[[Message], None]
) -> None:
    make = maker(seed)
    survives(
        ReconData([
            ReconBit(make.recon_buffer(k1, n, extras), make.recon_buffer() if reference else None)
            for k1, n, extras, reference in bits
        ])
    )  # fmt: skip


@with_fixtures
@given(
    seed=seeds,
    shapes=st.lists(st.tuples(st.integers(1, 3), sizes, sizes, sizes), max_size=4, unique_by=lambda s: s[1:]),
    stats=st.lists(counter_sets, max_size=2),
    reference_stats=st.lists(counter_sets, max_size=2),
    waveforms=sizes,
)
def test_buckets_survive(
    seed: int,
    shapes: list[tuple[int, int, int, int]],
    stats: list[CounterSets],
    reference_stats: list[CounterSets],
    waveforms: int,
    maker: Any,
    survives: Callable[[Message], None],
) -> None:
    make = maker(seed)
    # Shapes differ from block to block, so that blocks come back as they were cut.
    data = [make.readouts(*shape) for shape in shapes]
    reference = [make.readouts(*shape) for shape in reversed(shapes)]
    parts = [make.waveform(k, 2) for k in range(waveforms)]
    survives(Bucket(data, stats, reference, reference_stats, parts))


def test_a_bucket_with_equal_neighbours_comes_back_as_one_block(
    make: Any, assert_same: Callable[..., None]
) -> None:
    first, second = make.readouts(2), make.readouts(3)
    (bucket,) = decode(encode(Bucket([first, second], [])))
    assert isinstance(bucket, Bucket)
    (block,) = bucket.data
    assert_same(block.samples, np.concatenate([first.samples, second.samples]))
    assert_same(block.headers, np.concatenate([first.headers, second.headers]))


def test_a_large_block_is_written_in_order(make: Any, assert_same: Callable[..., None]) -> None:
    """More than one piece, and a last piece that is not full."""
    block = make.readouts(1500, 4, 40)
    wire = encode(block)
    assert len(wire) > 2 << 20
    assert_same(decode(wire), [block])


def test_strided_and_non_contiguous_arrays_are_written_as_they_read(
    make: Any, assert_same: Callable[..., None]
) -> None:
    block = make.readouts(6, 4, 8)
    half = block.select(slice(None, None, 2))
    assert not half.samples.flags.c_contiguous
    assert_same(decode(encode(half)), [half.copy()])
    image = ImageMessage.from_array(make.array("<f4", 2, 1, 4, 3).swapaxes(2, 3))
    (back,) = decode(encode(image))
    assert isinstance(back, ImageMessage)
    np.testing.assert_array_equal(back.data, image.data)
    assert back.header["matrix_size"].tolist() == [4, 3, 1]


def test_an_empty_block_is_no_message(make: Any) -> None:
    assert encode(make.readouts(0)) == b""
    with_empty = Bucket([make.readouts(0), make.readouts(1)], [])
    (back,) = decode(encode(with_empty))
    assert isinstance(back, Bucket)
    assert [len(block) for block in back.data] == [1]


def test_an_array_without_dimensions_is_empty(make: Any) -> None:
    wire = bytearray(encode(ImageArray(make.array("<c8", 0), make.array(IMAGE_HEADER, 0))))
    # One dimension of size 0 becomes no dimension.
    assert wire[2:18] == b"\1" + bytes(15)
    wire[2:18] = bytes(8)
    (back,) = decode(wire)
    assert isinstance(back, ImageArray)
    assert back.data.size == 0


def test_a_trailing_nul_belongs_to_the_wire_not_to_the_text() -> None:
    (text,) = decode(b"\5\0" + b"\3\0\0\0" + b"ab\0")
    assert text == Text("ab", nul=True)


def test_bytes_that_are_not_utf8_can_be_read() -> None:
    (error,) = decode(b"\x08\0" + b"\2" + bytes(7) + b"\xe9!")
    assert error == ErrorText("\\xe9!")


def test_texts_with_surrogates_can_be_sent() -> None:
    """Names of files that are not UTF-8 reach Python as surrogates, and then an error's text."""
    (error,) = decode(encode(ErrorText("no file caf\udce9")))
    assert error == ErrorText("no file caf\\udce9")


def test_a_header_that_does_not_fit_its_samples_is_not_sent(make: Any) -> None:
    block = make.readouts(3)
    block.headers["active_channels"][1] = 7
    with pytest.raises(MessageError, match=r"readout 1 of 3 says active_channels = 7, but its arrays have 2"):
        encode(block)


def test_a_trajectory_that_does_not_fit_its_samples_is_not_sent(make: Any) -> None:
    block = make.readouts(3, samples=4, dimensions=2)
    block.trajectory = block.trajectory[:, :3]
    with pytest.raises(MessageError, match=r"trajectory for 4 samples .* got \(3, 3, 2\)"):
        encode(block)


@pytest.mark.parametrize(
    ("field", "value"), [("data_type", 2), ("data_type", 99), ("channels", 3), ("matrix_size", (1, 2, 3))]
)
def test_an_image_header_that_does_not_fit_its_data_is_not_sent(make: Any, field: str, value: Any) -> None:
    image = make.image("<f4")
    image.header[field] = value
    with pytest.raises(MessageError, match="header announces"):
        encode(image)


def test_a_waveform_header_that_does_not_fit_its_data_is_not_sent(make: Any) -> None:
    waveform = make.waveform()
    waveform.header["channels"] = 5
    with pytest.raises(MessageError, match="header announces"):
        encode(waveform)


@pytest.mark.parametrize("name", ["x" * 1024, "a\0b"])
def test_an_impossible_configuration_name_is_not_sent(name: str) -> None:
    with pytest.raises(MessageError, match="at most 1023 bytes and no NUL"):
        encode(ConfigFile(name))


def test_the_longest_configuration_name_is_sent() -> None:
    assert decode(encode(ConfigFile("x" * 1023))) == [ConfigFile("x" * 1023)]
