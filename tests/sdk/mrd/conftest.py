"""Small messages of every kind, and how to compare two messages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

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
    Message,
    Readouts,
    ReconBit,
    ReconBuffer,
    ReconData,
    Text,
    Waveform,
)


class Maker:
    """Makes messages whose every byte is random, but for those that fix shapes."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)

    def array(self, dtype: npt.DTypeLike, *shape: int) -> npt.NDArray[Any]:
        wanted = np.dtype(dtype)
        n = int(np.prod(shape)) * wanted.itemsize
        return np.frombuffer(self.rng.bytes(n), wanted).reshape(shape).copy()

    def readouts(self, n: int = 3, coils: int = 2, samples: int = 4, dimensions: int = 0) -> Readouts:
        headers = self.array(ACQUISITION_HEADER, n)
        headers["number_of_samples"] = samples
        headers["active_channels"] = coils
        headers["trajectory_dimensions"] = dimensions
        trajectory = self.array("<f4", n, samples, dimensions) if dimensions else None
        return Readouts(headers, self.array("<c8", n, coils, samples), trajectory)

    def waveform(self, channels: int = 2, samples: int = 3) -> Waveform:
        header = np.frombuffer(self.rng.bytes(WAVEFORM_HEADER.itemsize), WAVEFORM_HEADER).copy()
        header["version"] = 1
        header["channels"] = channels
        header["number_of_samples"] = samples
        return Waveform(header[0], self.array("<u4", channels, samples))

    def image(
        self,
        dtype: npt.DTypeLike = "<f4",
        shape: tuple[int, int, int, int] = (2, 1, 3, 4),
        attributes: bytes = b"",
    ) -> ImageMessage:
        return ImageMessage.from_array(self.array(dtype, *shape), attributes, self.array(IMAGE_HEADER, 1)[0])

    def image_array(
        self, n: int = 2, waveforms: int | None = None, with_acquisitions: bool = False
    ) -> ImageArray:
        return ImageArray(
            self.array("<c8", 1, 1, n, 2, 1, 3, 4),
            self.array(IMAGE_HEADER, 1, 1, n),
            [b"<ismrmrdMeta/>" for _ in range(n)],
            None if waveforms is None else [self.waveform() for _ in range(waveforms)],
            self.array(ACQUISITION_HEADER, 1, 1, n, 1, 3) if with_acquisitions else None,
        )

    def recon_buffer(self, k1: int = 2, n: int = 1, extras: bool = False) -> ReconBuffer:
        return ReconBuffer(
            self.array("<c8", 1, 1, n, 2, 1, k1, 3),
            self.array(ACQUISITION_HEADER, 1, 1, n, 1, k1),
            self.array(SAMPLING_DESCRIPTION, 1)[0],
            self.array("<f4", 1, 1, n, 1, k1, 3, 2) if extras else None,
            self.array("<f4", 1, 1, n, 1, k1, 3) if extras else None,
        )

    def bucket(self, waveforms: int = 2) -> Bucket:
        data = [self.readouts(2), self.readouts(1, 3, 2, 2), self.readouts(2)]
        stats = [CounterSets((0, 1, 65535), (2,)), CounterSets(average=(3, 4))]
        return Bucket(data, stats, [self.readouts(1)], [], [self.waveform() for _ in range(waveforms)])


@pytest.fixture
def make() -> Maker:
    return Maker()


@pytest.fixture
def maker() -> type[Maker]:
    return Maker


@pytest.fixture
def examples(make: Maker) -> list[Message]:
    """A session with every kind of message, and every optional part present and absent."""
    return [
        ConfigFile("default.xml"),
        ConfigText(b"<configuration/>", nul=True),
        HeaderXml(b"<ismrmrdHeader/>"),
        Text("{}", nul=True),
        make.readouts(),
        make.waveform(),
        make.readouts(2, dimensions=2),
        make.readouts(1, coils=1),
        make.image("<u2"),
        make.image("<c8", attributes=b"<ismrmrdMeta/>"),
        make.image_array(),
        make.image_array(1, waveforms=1, with_acquisitions=True),
        ReconData(
            [ReconBit(make.recon_buffer(extras=True), make.recon_buffer()), ReconBit(make.recon_buffer())]
        ),
        make.bucket(),
        ErrorText("coil 3 is broken"),
        Close(),
    ]


def _assert_same(left: Any, right: Any, where: str = "message") -> None:
    """Equal types, shapes and bits, all the way down; NaN equals NaN, padding counts."""
    if isinstance(left, (np.ndarray, np.void)):
        assert isinstance(right, type(left)), where
        assert (left.dtype, left.shape) == (right.dtype, right.shape), where
        assert left.tobytes() == right.tobytes(), where
        return
    assert type(left) is type(right), where
    if is_dataclass(left):
        for field in fields(left):
            _assert_same(getattr(left, field.name), getattr(right, field.name), f"{where}.{field.name}")
    elif isinstance(left, list):
        assert len(left) == len(right), where
        for index, (one, other) in enumerate(zip(left, right, strict=True)):
            _assert_same(one, other, f"{where}[{index}]")
    else:
        assert left == right, where


@pytest.fixture
def assert_same() -> Callable[..., None]:
    return _assert_same
