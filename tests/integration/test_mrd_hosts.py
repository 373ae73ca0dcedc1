"""Hosts whose clients know no ERROR: they keep their images and show the text, whenever a session fails."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from scanside.bench.peers import scanside_server
from scanside.items import Readouts
from scanside.mrd.encoding import pieces
from scanside.mrd.flags import NOT_IMAGING, flagged
from scanside.simulate import (
    CoilConfig,
    GeometryConfig,
    NoiseConfig,
    PhantomConfig,
    SamplingConfig,
    ScanConfig,
    SimulatedScan,
    simulate,
)

_CONFIG_FILE, _CONFIG_TEXT, _HEADER, _CLOSE, _TEXT, _IMAGE = 1, 2, 3, 4, 5, 1022
_IMAGE_HEADER_BYTES = 198
_SAMPLE_BYTES = {1: 2, 2: 2, 3: 4, 4: 4, 5: 4, 6: 8, 7: 8, 8: 16}


class Aborted(Exception):
    """The client has met a message that it does not know, and lost all it had."""


@dataclass
class Host:
    """A client that is none of ours: it knows TEXT, IMAGE and CLOSE, and ends at anything else.

    So do ``gadgetron_ismrmrd_client`` and the client of python-ismrmrd-server, which write images at the end only.
    """

    port: int
    texts: list[str] = field(default_factory=list)
    images: list[bytes] = field(default_factory=list)

    @property
    def errors(self) -> list[str]:
        """Of the texts, those that tell of a failure; others say that a scan waits."""
        return [text for text in self.texts if text.startswith("ERROR")]

    def run(self, sent: bytes) -> None:
        """Send all, and take what comes until CLOSE."""
        with socket.create_connection(("127.0.0.1", self.port), 300) as self._sock:
            self._sock.sendall(sent)
            while (number := struct.unpack("<H", self._take(2))[0]) != _CLOSE:
                if number == _TEXT:
                    (length,) = struct.unpack("<I", self._take(4))
                    self.texts.append(self._take(length).rstrip(b"\0").decode())
                elif number == _IMAGE:
                    self.images.append(self._image())
                else:
                    raise Aborted(f"unknown message {number} after {len(self.images)} images")

    def _image(self) -> bytes:
        header = self._take(_IMAGE_HEADER_BYTES)
        (data_type,) = struct.unpack_from("<H", header, 2)
        matrix, (channels,) = struct.unpack_from("<3H", header, 16), struct.unpack_from("<H", header, 34)
        (n_attributes,) = struct.unpack("<Q", self._take(8))
        self._take(n_attributes)
        return self._take(int(np.prod(matrix)) * channels * _SAMPLE_BYTES[data_type])

    def _take(self, n: int) -> bytes:
        taken = b""
        while len(taken) < n:
            piece = self._sock.recv(n - len(taken))
            assert piece, "the server left without CLOSE"
            taken += piece
        return taken


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with scanside_server("fft") as server:
        yield server.port


@pytest.fixture(scope="module")
def scan() -> SimulatedScan:
    """Two slices."""
    return simulate(
        ScanConfig(
            geometry=GeometryConfig(matrix=(32, 32, 1), n_slices=2),
            phantom=PhantomConfig(kind="shepp-logan", supersampling=(1, 1, 1)),
            coils=CoilConfig(n_coils=2),
            noise=NoiseConfig(std=0.002),
            sampling=SamplingConfig(),
        )
    )


def opening(scan: SimulatedScan, config: str | bytes = "fft") -> bytes:
    header = struct.pack("<HI", _HEADER, len(scan.header_xml)) + scan.header_xml
    if isinstance(config, str):
        return struct.pack("<H1024s", _CONFIG_FILE, config.encode()) + header
    return struct.pack("<HI", _CONFIG_TEXT, len(config)) + config + header


def data(scan: SimulatedScan, *, spoiled: bool = False) -> bytes:
    sent = []
    for item in scan.items():
        if spoiled and isinstance(item, Readouts):
            imaging = ~flagged(item.headers["flags"], NOT_IMAGING)
            item = item.copy()
            item.samples[imaging & (item.headers["idx"]["slice"] == 1)] = np.nan
        sent += list(pieces(item))  # type: ignore[arg-type]
    return b"".join(map(bytes, sent)) + struct.pack("<H", _CLOSE)


def test_images_stay_when_a_later_slice_fails(port: int, scan: SimulatedScan) -> None:
    good, bad = Host(port), Host(port)
    good.run(opening(scan) + data(scan))
    bad.run(opening(scan) + data(scan, spoiled=True))
    assert len(good.images) == 2
    assert not good.errors
    assert bad.images == good.images[:1], "the first slice is as ever"
    (error,) = bad.errors
    assert "NaN or infinite" in error


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("fourier-transform", "there is no pipeline 'fourier-transform'"),
        (b'{"pipeline": "fft"}', "not well-formed XML"),
        (b"<configuration><pipeline>", "not well-formed XML"),
        (b"<configuration><version>2</version><readers/><stream/></configuration>", "whole Gadgetron chain"),
    ],
)
def test_configurations_that_a_host_cannot_have(
    port: int, scan: SimulatedScan, config: Any, says: str
) -> None:
    host = Host(port)
    host.run(opening(scan, config) + data(scan))
    (error,) = host.errors
    assert error.startswith("ERROR Scanside: ")
    assert says in error


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        (struct.pack("<H", 4711) + bytes(100), "unknown id 4711"),
        (struct.pack("<HI", _HEADER, 2) + b"<a", "a configuration was expected"),
        (
            struct.pack("<H1024s", _CONFIG_FILE, b"fft") + struct.pack("<HI", _HEADER, 2**31),
            "would be 2147483648 bytes",
        ),
        (
            struct.pack("<H1024s", _CONFIG_FILE, b"fft") + struct.pack("<HI", _HEADER, 2) + b"<a",
            "not well-formed",
        ),
    ],
)
def test_openings_that_are_none(port: int, sent: bytes, says: str) -> None:
    host = Host(port)
    host.run(sent + struct.pack("<H", _CLOSE))
    (error,) = host.errors
    assert error.startswith("ERROR Scanside: ")
    assert says in error
