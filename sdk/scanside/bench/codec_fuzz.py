"""Damaged streams, by the ten thousand, into a session with the limits of production: does each end with a word?

Everything is drawn from a seed and a number, so that a sequence that ends in another way can be made again:
``damaged(seed, number)``.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from scanside.errors import ScansideError
from scanside.items import Readouts
from scanside.mrd.dtypes import ACQUISITION_HEADER, IMAGE_HEADER, SAMPLING_DESCRIPTION, WAVEFORM_HEADER
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
    MessageId,
    ReconBit,
    ReconBuffer,
    ReconData,
    Text,
    Waveform,
)
from scanside.mrd.records import SHAPE_FIELDS
from scanside.mrd.streams import MemoryStream
from scanside.mrd.writer import encode
from scanside.pipeline import Pipeline
from scanside.serving import PipelinePool, serve_stream
from scanside.stage import Stage
from scanside.testing.small import small_scan

__all__ = ["CodecFindings", "damaged", "fuzz_codec"]

_SEED = 11
_TOLD = 5  # of what went wrong, so many are told
_CLOSE = encode(Close())
_EXTREMES = (0, 1, 2, 127, 255, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**33, 2**62, 2**63, 2**64 - 1)


@dataclass
class CodecFindings:
    """What came of damaged streams.

    Attributes:
        n: how many there were.
        ends: how many ended in which way: ``read`` (nothing was wrong with it, or nothing that could be seen) or the
            name of an error.
        wrong: what ended in another way than with CLOSE or an error that was told and CLOSE, each with its number.
    """

    n: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


class _Pass(Stage[Readouts, Readouts]):
    """Looks at all samples."""

    def process(self, item: Readouts) -> Iterator[Readouts]:
        with np.errstate(all="ignore"):
            item.samples.sum()
        yield item


def fuzz_codec(n: int, progress: Callable[[str], None] = lambda _: None, seed: int = _SEED) -> CodecFindings:
    """Serve sessions of damaged bytes, as a worker does.

    Args:
        n: how many.
        progress: is told how many are done.
        seed: of all of them.
    """
    pool = PipelinePool(load=lambda name, _: Pipeline([_Pass()], name=name or "pass"))
    findings = CodecFindings()
    with _quiet():
        for number in range(n):
            if number % 500 == 0:
                progress(f"damaged stream {number} of {n}")
            findings.n += 1
            try:
                end, wrong = _served(damaged(seed, number), pool)
            except Exception as error:  # noqa: BLE001 — that is what is looked for
                end, wrong = "raised", f"{type(error).__name__} was raised: {error}"
            findings.ends[end] += 1
            if wrong and len(findings.wrong) < _TOLD:
                findings.wrong.append(f"seed {seed}, number {number}: {wrong}"[:300])
    return findings


def _served(stream: bytes, pool: PipelinePool) -> tuple[str, str]:
    """How a session of a stream ended, and what was wrong with that."""
    connection = MemoryStream(stream)
    outcome = serve_stream(connection, pool, drain_seconds=60)
    error = outcome.error
    end = "read" if error is None else type(error).__name__
    if not connection.sent.endswith(_CLOSE):
        return end, f"it ended in silence, with {end}: {error}"
    if error is None:
        return end, ""
    if not outcome.reported or str(error)[:30].encode(errors="replace")[:20] not in connection.sent:
        return end, f"it was not told: {error}"
    if not isinstance(error, ScansideError):
        return end, f"an error that nobody foresaw: {end}: {error}"
    return end, ""


def damaged(seed: int, number: int) -> bytes:
    """The bytes of a session with a few things wrong.

    Args:
        seed: of a whole run.
        number: in it.
    """
    random = np.random.default_rng((seed, number))
    messages = list(_session())
    for _ in range(int(random.integers(0, 3))):
        _disorder(messages, random)
    stream = bytearray(b"".join(messages))
    for _ in range(int(random.integers(1, 5))):
        if not stream:
            break
        _DAMAGES[int(random.integers(len(_DAMAGES)))](stream, random)
    return bytes(stream)


@cache
def _session() -> tuple[bytes, ...]:
    """A session with every kind of message, one by one."""
    random = np.random.default_rng(0)

    def array(dtype: npt.DTypeLike, *shape: int) -> npt.NDArray[Any]:
        """Any bytes, but with numbers that stay within bounds."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return np.frombuffer(random.integers(0, 60, size, np.uint8).tobytes(), dtype).reshape(shape).copy()

    def readouts(n: int = 3, coils: int = 2, samples: int = 4, dimensions: int = 0) -> Readouts:
        headers = array(ACQUISITION_HEADER, n)
        for name, value in zip(SHAPE_FIELDS, (samples, coils, dimensions), strict=True):
            headers[name] = value
        headers["encoding_space_ref"] = 0
        trajectory = array("<f4", n, samples, dimensions) if dimensions else None
        return Readouts(headers, array("<c8", n, coils, samples), trajectory)

    def waveform() -> Waveform:
        header = array(WAVEFORM_HEADER, 1)
        header["channels"], header["number_of_samples"] = 2, 3
        return Waveform(header[0], array("<u4", 2, 3))

    def buffer(extras: bool = False) -> ReconBuffer:
        sampling = array(SAMPLING_DESCRIPTION, 1)
        sampling["encoded_matrix"] = sampling["recon_matrix"] = (3, 2, 1)
        return ReconBuffer(
            array("<c8", 1, 1, 1, 2, 1, 2, 3),
            array(ACQUISITION_HEADER, 1, 1, 1, 1, 2),
            sampling[0],
            array("<f4", 1, 1, 1, 1, 2, 3, 2) if extras else None,
            array("<f4", 1, 1, 1, 1, 2, 3) if extras else None,
        )

    messages = (
        ConfigText(b"<configuration><pipeline>pass</pipeline></configuration>"),
        HeaderXml(small_scan().header.xml),
        Text('{"version": "1", "parameters": {"config": "pass"}}'),
        readouts(),
        waveform(),
        readouts(2, dimensions=2),
        ImageMessage.from_array(array("<f4", 1, 1, 3, 4), b"<ismrmrdMeta/>", array(IMAGE_HEADER, 1)[0]),
        ImageArray(
            array("<c8", 1, 1, 2, 1, 1, 3, 4),
            array(IMAGE_HEADER, 1, 1, 2),
            [b"<ismrmrdMeta/>"] * 2,
            [waveform()],
        ),
        ReconData([ReconBit(buffer(extras=True), buffer())]),
        Bucket([readouts(2), readouts(1, 3)], [CounterSets((0, 1), (2,))], [readouts(1)], [], [waveform()]),
        readouts(5, coils=1),
    )
    kept = [encode(message) for message in messages]
    # Most sessions of a host bring readouts alone: without this, most damages would fall into what hosts never send.
    return (encode(ConfigFile("pass")), *kept[1:5], *kept[3:], encode(ErrorText("stop")), _CLOSE)


# What goes wrong with messages, and with bytes


def _disorder(messages: list[bytes], random: np.random.Generator) -> None:
    if not messages:
        return
    i, j = (int(random.integers(len(messages))) for _ in range(2))
    match int(random.integers(3)):
        case 0:
            del messages[i]
        case 1:
            messages.insert(j, messages[i])
        case _:
            messages[i], messages[j] = messages[j], messages[i]


def _place(stream: bytearray, random: np.random.Generator) -> int:
    return int(random.integers(len(stream)))


def _flip(stream: bytearray, random: np.random.Generator) -> None:
    for _ in range(int(random.integers(1, 9))):
        stream[_place(stream, random)] ^= 1 << int(random.integers(8))


def _overwrite(stream: bytearray, random: np.random.Generator) -> None:
    """A number at its limit, where a length or a counter may stand."""
    size = (1, 2, 4, 8)[int(random.integers(4))]
    value = _EXTREMES[int(random.integers(len(_EXTREMES)))] & (1 << 8 * size) - 1
    place = _place(stream, random)
    stream[place : place + size] = value.to_bytes(size, "little")


def _cut(stream: bytearray, random: np.random.Generator) -> None:
    del stream[_place(stream, random) :]


def _lose(stream: bytearray, random: np.random.Generator) -> None:
    place = _place(stream, random)
    del stream[place : place + int(random.integers(1, 600))]


def _repeat(stream: bytearray, random: np.random.Generator) -> None:
    place = _place(stream, random)
    stream[place:place] = stream[place : place + int(random.integers(1, 600))]


def _insert(stream: bytearray, random: np.random.Generator) -> None:
    place = _place(stream, random)
    stream[place:place] = random.bytes(int(random.integers(1, 600)))


def _promise(stream: bytearray, random: np.random.Generator) -> None:
    """A readout whose header announces any number of samples, coils and dimensions."""
    header = np.zeros(1, ACQUISITION_HEADER)
    for name in SHAPE_FIELDS:
        header[name] = (0, 1, 512, 5000, 0xFFFF, int(random.integers(1 << 16)))[int(random.integers(6))]
    place = _place(stream, random)
    stream[place:place] = MessageId.ACQUISITION.to_bytes(2, "little") + header.tobytes()


def _announce(stream: bytearray, random: np.random.Generator) -> None:
    """A message of any kind with any length."""
    kind = list(MessageId)[int(random.integers(len(MessageId)))]
    value = _EXTREMES[int(random.integers(len(_EXTREMES)))]
    place = _place(stream, random)
    stream[place:place] = kind.to_bytes(2, "little") + value.to_bytes(8, "little")


_DAMAGES: tuple[Callable[[bytearray, np.random.Generator], None], ...] = (
    _flip,
    _overwrite,
    _overwrite,
    _cut,
    _lose,
    _repeat,
    _insert,
    _promise,
    _announce,
)


@contextmanager
def _quiet() -> Iterator[None]:
    """Each of them is an error that is logged, as it should be, and would fill the screen."""
    logger = logging.getLogger("scanside")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)
