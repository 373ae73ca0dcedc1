"""No place of a stream keeps a name, and nothing that a reconstruction needs is lost."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
import pytest

from scanside.errors import HeaderError, IncompleteRead, MessageError
from scanside.mrd.dtypes import ACQUISITION_HEADER, SAMPLING_DESCRIPTION, WAVEFORM_HEADER
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
    MessageId,
    ReconBit,
    ReconBuffer,
    ReconData,
    Text,
    Waveform,
)
from scanside.mrd.meta import Meta
from scanside.mrd.reader import decode
from scanside.mrd.writer import encode
from scanside.privacy import Vocabulary
from scanside.recording.cleaning import Cleaner
from scanside.testing.small import small_readouts, small_scan, small_waveform

pytestmark = pytest.mark.torch_free

NAME = b"Mustermann^Erika"
VOCABULARY = Vocabulary(["grappa", "kernel_k1"])
HEADER = small_scan().header.xml
EMPTY = encode(ConfigFile("grappa"), HeaderXml(HEADER))


def clean(data: bytes, piece: int = 1 << 20, keep: tuple[str, ...] = ()) -> bytes:
    pieces: Iterator[bytes] = (data[start : start + piece] for start in range(0, len(data), piece))
    return b"".join(Cleaner(VOCABULARY, keep).clean(pieces))


def small_image() -> ImageMessage:
    return ImageMessage.from_array(np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4))


def small_recon_buffer() -> ReconBuffer:
    generator = np.random.default_rng(3)
    data = generator.standard_normal((1, 1, 1, 2, 1, 3, 4, 2), np.float32).view(np.complex64)[..., 0]
    headers = np.zeros((1, 1, 1, 1, 3), ACQUISITION_HEADER)
    trajectory = generator.standard_normal((1, 1, 1, 1, 3, 4, 2), np.float32)
    return ReconBuffer(data, headers, np.zeros(1, SAMPLING_DESCRIPTION)[0], trajectory)


def attributes() -> bytes:
    return Meta({"DataRole": "Image", "ImageComments": NAME.decode(), NAME.decode(): "1"}).to_xml()


def foreign_waveform() -> Waveform:
    """A waveform of a vendor's own kind, with a name in its samples."""
    data = np.frombuffer(NAME.ljust(32), "<u4").reshape(1, 8)
    header = small_waveform().header.copy()
    header["channels"], header["number_of_samples"], header["waveform_id"] = 1, 8, 1024
    return Waveform(header, data)


def image_array() -> ImageArray:
    image = small_image()
    data = np.ones((1, 1, 2, *image.data.shape), np.complex64)
    headers = np.repeat(np.array([image.header]), 2).reshape(1, 1, 2)
    return ImageArray(data, headers, [attributes(), attributes()], [foreign_waveform(), small_waveform()])


def bucket() -> Bucket:
    blocks = [block.copy() for block in small_readouts()]
    stats = CounterSets.by_encoding_space(blocks)
    return Bucket(blocks, stats, blocks[:1], stats, [foreign_waveform(), small_waveform()])


def with_name_in_header(xml: bytes) -> bytes:
    return xml.replace(
        b"<measurementInformation>",
        b"<!-- "
        + NAME
        + b" --><studyInformation><referringPhysicianName>"
        + NAME
        + b"</referringPhysicianName>"
        b"</studyInformation><measurementInformation><protocolName>" + NAME + b"</protocolName>",
    ).replace(
        b"</ismrmrdHeader>",
        b"<userParameters><userParameterString><name>note</name><value>"
        + NAME
        + b"</value></userParameterString>"
        b"</userParameters></ismrmrdHeader>",
    )


def messages_with_names() -> dict[str, list[Message]]:
    image = small_image()
    return {
        "configuration by name": [ConfigFile(NAME.decode()), HeaderXml(HEADER)],
        "configuration": [
            ConfigText(
                b"<configuration><!-- "
                + NAME
                + b" --><property name='grappa.kernel_k1' value='"
                + NAME
                + b"'/>"
                b"</configuration>"
            ),
            HeaderXml(HEADER),
        ],
        "header": [ConfigFile("grappa"), HeaderXml(with_name_in_header(HEADER))],
        "parameters": [
            ConfigFile("grappa"),
            Text('{"parameters": {"comment": "' + NAME.decode() + '"}}'),
            HeaderXml(HEADER),
        ],
        "text before": [ConfigFile("grappa"), Text(NAME.decode()), HeaderXml(HEADER)],
        "text": [ConfigFile("grappa"), HeaderXml(HEADER), Text(NAME.decode())],
        "error": [ConfigFile("grappa"), HeaderXml(HEADER), ErrorText(NAME.decode())],
        "later header": [ConfigFile("grappa"), HeaderXml(HEADER), HeaderXml(with_name_in_header(HEADER))],
        "later header that is none": [ConfigFile("grappa"), HeaderXml(HEADER), HeaderXml(NAME)],
        "later configuration": [
            ConfigFile("grappa"),
            HeaderXml(HEADER),
            ConfigText(NAME),
            ConfigFile(NAME.decode()),
        ],
        "image": [
            ConfigFile("grappa"),
            HeaderXml(HEADER),
            ImageMessage(image.header, attributes(), image.data),
        ],
        "image of strange attributes": [
            ConfigFile("grappa"),
            HeaderXml(HEADER),
            ImageMessage(image.header, NAME, image.data),
        ],
        "waveform": [ConfigFile("grappa"), HeaderXml(HEADER), foreign_waveform()],
        "image array": [ConfigFile("grappa"), HeaderXml(HEADER), image_array()],
        "bucket": [ConfigFile("grappa"), HeaderXml(HEADER), bucket()],
    }


@pytest.mark.parametrize("place", messages_with_names())
@pytest.mark.parametrize("piece", [7, 1 << 20])
def test_name_in_every_place(place: str, piece: int) -> None:
    data = encode(*messages_with_names()[place], *small_readouts(), Close())
    assert NAME in data
    cleaned = clean(data, piece)
    for part in (NAME, b"Mustermann", b"Erika"):
        assert part not in cleaned
    assert len(cleaned) == len(data)
    kinds = [type(message) for message in decode(cleaned)]
    assert kinds == [type(message) for message in decode(data)]


def test_samples_stay_byte_for_byte() -> None:
    """Whatever holds numbers only is the same in every kind of message."""
    buffer = small_recon_buffer()
    body = encode(
        *small_readouts(),
        small_waveform(),
        small_image(),
        ReconData([ReconBit(buffer, buffer), ReconBit(buffer)]),
        *small_readouts(),
        Close(),
    )
    for piece in (1, 333, 1 << 20):
        assert clean(EMPTY + body, piece)[len(EMPTY) :] == body
    (cleaned,), (sent,) = decode(clean(EMPTY + encode(bucket())))[2:], decode(encode(bucket()))
    assert isinstance(cleaned, Bucket)
    assert isinstance(sent, Bucket)
    for ours, theirs in zip([*cleaned.data, *cleaned.reference], [*sent.data, *sent.reference], strict=True):
        assert ours.headers.tobytes() == theirs.headers.tobytes()
        assert ours.samples.tobytes() == theirs.samples.tobytes()
    assert cleaned.data_stats == sent.data_stats
    assert cleaned.waveforms[1].data.tobytes() == small_waveform().data.tobytes()
    assert not cleaned.waveforms[0].data.any()


def test_settings_of_the_session_stay() -> None:
    chosen = b'<pipeline>grappa</pipeline><property name="grappa.kernel_k1" value="4"/>'
    opening = encode(
        ConfigText(b"<configuration>" + chosen + b"</configuration>"),
        HeaderXml(HEADER, nul=True),
        Text('{"version": "1.0", "parameters": {"config": "grappa", "grappaKernelK1": "4"}}', nul=True),
    )
    cleaned, sent = decode(clean(opening)), decode(opening)
    assert (cleaned[0], cleaned[2]) == (sent[0], sent[2])


def test_what_the_site_wants_stays() -> None:
    data = encode(
        ConfigFile("grappa"),
        HeaderXml(with_name_in_header(HEADER)),
        Text('{"site": "' + NAME.decode() + '"}'),
    )
    cleaned = clean(data, keep=("protocolName", "site"))
    assert cleaned.count(NAME) == 2
    assert b"<protocolName>" + NAME in cleaned


def test_padding_is_no_hiding_place() -> None:
    message = bytearray(encode(small_waveform()))
    padding = [2 + place for place in (*range(2, 8), 38, 39)]
    for place, letter in zip(padding, b"Mustermn", strict=True):
        message[place] = letter
    cleaned = clean(EMPTY + bytes(message))[len(EMPTY) :]
    assert [cleaned[place] for place in padding] == [0] * 8
    assert WAVEFORM_HEADER.itemsize == 40


@pytest.mark.parametrize("end", [1, 3, 100, 700, 2000])
def test_stream_that_breaks_off_is_recorded_to_its_end(end: int) -> None:
    body = encode(Text("x" * 600), *small_readouts())
    cleaned = clean(EMPTY + body[:end])
    assert len(cleaned) == len(EMPTY) + end
    with pytest.raises(IncompleteRead):
        decode(cleaned)


def changed(message: bytes, place: int, code: str, value: int) -> bytes:
    data = bytearray(message)
    struct.pack_into(code, data, place, value)
    return bytes(data)


@pytest.mark.parametrize(
    ("message", "kept"),
    [
        (struct.pack("<H", 77) + NAME, 2),
        (changed(encode(small_image()), 4, "<H", 99) + NAME, 200),
        (encode(ReconData([]))[:2] + struct.pack("<QQ", 1, 99) + NAME, 18),
        (encode(bucket())[:2] + struct.pack("<13Q", *[1 << 60] * 13) + NAME, 106),
    ],
)
def test_what_nobody_understands_ends_the_recording(message: bytes, kept: int) -> None:
    pieces = Cleaner(VOCABULARY).clean(iter([EMPTY + message]))
    got = b""

    def read() -> None:
        nonlocal got
        for piece in pieces:
            got += piece

    with pytest.raises(MessageError, match=f"from byte {len(EMPTY) + kept} on"):
        read()
    assert len(got) == len(EMPTY) + kept
    # It tells the same fault when it is played again.
    with pytest.raises((MessageError, IncompleteRead)):
        decode(got)


def test_long_texts_are_masked_unseen() -> None:
    text = NAME.decode() * (1 + (16 << 20) // len(NAME))
    cleaned = clean(encode(ConfigFile("grappa"), HeaderXml(HEADER), Text(text)), 1 << 16)
    assert NAME not in cleaned
    assert len(cleaned) == len(EMPTY) + 6 + len(text)


def test_nothing_before_the_header() -> None:
    cleaner = Cleaner(VOCABULARY).clean(iter([encode(ConfigFile("grappa"), Text("a"))]))
    assert list(cleaner) == []
    for data in (encode(Close()), b"GET / HTTP/1.1\r\n", struct.pack("<H", MessageId.ACQUISITION)):
        with pytest.raises(HeaderError, match="before the header"):
            clean(data)
