"""Copies of scans between ISMRMRD HDF5 files and MRD 2 streams."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scanside.errors import MessageError
from scanside.mrd.files import StreamWriter, open_recording
from scanside.mrd.hdf5 import Hdf5Writer
from scanside.mrd.header import MrdHeader
from scanside.mrd.messages import Readouts
from scanside.mrd.transfer import copy_scan
from scanside.testing.small import small_readouts, small_scan, small_waveform

pytestmark = pytest.mark.torch_free


def items_of(path: Path) -> list[Any]:
    with open_recording(path) as recording:
        return [one.copy() if isinstance(one, Readouts) else one for one in recording.items()]


def test_there_and_back(tmp_path: Path, assert_same: Callable[..., None]) -> None:
    first, stream, last = (tmp_path / name for name in ("a.h5", "b.mrd", "c.h5"))
    with Hdf5Writer(first, small_scan().header.xml) as writer:
        for item in (*small_readouts(), small_waveform()):
            writer.write(item)
    n = sum(map(len, small_readouts()))
    assert copy_scan(first, stream) == n
    assert copy_scan(stream, last) == n
    assert stream.read_bytes().startswith(b"yardl")
    before, after = items_of(first), items_of(last)
    assert sum(len(one) for one in before if isinstance(one, Readouts)) == n
    for ours, theirs in zip(after, before, strict=True):
        if isinstance(theirs, Readouts):
            # MRD 2 numbers the channels; in MRD 1 this scan leaves that open.
            theirs.headers["channel_mask"][:, 0] = 0b1111
        assert_same(ours, theirs)
    with open_recording(last) as recording:
        assert MrdHeader.parse(recording.header_xml).encodings == small_scan().header.encodings


@pytest.mark.parametrize("name", ["out.mrd", "out.h5"])
def test_what_has_no_place_is_told(name: str, tmp_path: Path, make: Any) -> None:
    source = tmp_path / "scan.bin"
    with StreamWriter(source, small_scan().header.xml) as writer:
        writer.write(make.bucket())
    with pytest.raises(MessageError, match=f"holds Bucket, which .*{name} has no place for"):
        copy_scan(source, tmp_path / name)
