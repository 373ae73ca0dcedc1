"""Streams of MRD 2, written and read in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from scanside.mrd.messages import Close, HeaderXml, Message, Readouts
from scanside.mrd.streams import MemoryStream
from scanside.mrd.v2.reader import ItemReader
from scanside.mrd.v2.schemas import known_schema
from scanside.mrd.v2.writer import ItemWriter

HEADER = b"""<?xml version="1.0"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
  <experimentalConditions><H1resonanceFrequency_Hz>63500000</H1resonanceFrequency_Hz></experimentalConditions>
  <encoding>
    <encodedSpace>
      <matrixSize><x>8</x><y>4</y><z>1</z></matrixSize>
      <fieldOfView_mm><x>80</x><y>40</y><z>5</z></fieldOfView_mm>
    </encodedSpace>
    <reconSpace>
      <matrixSize><x>4</x><y>4</y><z>1</z></matrixSize>
      <fieldOfView_mm><x>40</x><y>40</y><z>5</z></fieldOfView_mm>
    </reconSpace>
    <encodingLimits/>
    <trajectory>cartesian</trajectory>
  </encoding>
</ismrmrdHeader>
"""


@pytest.fixture
def header() -> bytes:
    return HEADER


def _wire(
    messages: Iterable[Message], version: str = "2.2", header: bytes = HEADER, end: bool = True
) -> bytes:
    stream = MemoryStream()
    ItemWriter(stream, known_schema(version)).write(HeaderXml(header), *messages, *([Close()] if end else []))
    return bytes(stream.sent)


@pytest.fixture
def wire() -> Callable[..., bytes]:
    """The bytes of a stream with these messages."""
    return _wire


def _unwire(data: bytes, chunks: Any = None, **options: Any) -> tuple[list[Message], ItemReader]:
    reader = ItemReader(MemoryStream(data, chunks), **options)
    found: list[Message] = []
    while not found or not isinstance(found[-1], Close):
        message = reader.read()
        found.append(message.copy() if isinstance(message, Readouts) else message)
    return found[1:-1], reader


@pytest.fixture
def unwire() -> Callable[..., tuple[list[Message], ItemReader]]:
    """What a stream holds between header and end, and what read it."""
    return _unwire
