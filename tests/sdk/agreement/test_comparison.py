"""One comparison for a whole scan: encoding spaces apart, each finding told once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from scanside.agreement import Comparison
from scanside.mrd.flags import AcquisitionFlag
from scanside.mrd.header import MrdHeader
from scanside.mrd.readouts import Readouts

pytestmark = pytest.mark.torch_free


def doubled(scan: Any) -> Any:
    """The scan with a second encoding space of the same kind."""
    start, end = scan.xml.index("<encoding>"), scan.xml.index("</encoding>") + len("</encoding>")
    scan.xml = scan.xml[:end] + scan.xml[start:end] + scan.xml[end:]
    return scan


@pytest.mark.parametrize("block", [None, 1, 7])
def test_told_once_however_the_stream_is_cut(make_scan: Callable[..., Any], block: int | None) -> None:
    scan = make_scan(sampling={"reverse": "alternate"}, dynamics={"repetitions": 3})
    scan.change_header("<center>16</center>", "<center>2</center>")
    told, found = scan.compare(block=block)
    assert len(told) == len(found) == 2
    assert sorted(finding.level for finding in told) == sorted(finding.level for finding in found)


def test_encoding_spaces_within_a_block(make_scan: Callable[..., Any]) -> None:
    scan = doubled(make_scan(sampling={"reverse": "alternate", "partial_echo": 0.75}))
    headers = scan.lines.headers
    headers["encoding_space_ref"][16:] = 1
    headers["center_sample"][17::2] = 16
    comparison = Comparison(MrdHeader.parse(scan.xml))
    assert comparison.take(scan.lines).headers["center_sample"].tolist() == [16, 31] * 16
    texts = [finding.text for finding in comparison.news()]
    assert len(texts) == 3
    assert sum(text.startswith("encoding space 1: ") for text in texts) == 2
    assert comparison.news(ended=True) == []


def test_readouts_that_are_no_lines_say_nothing(make_scan: Callable[..., Any]) -> None:
    """Nor do those of an encoding space that the header lacks: whoever places them refuses them."""
    scan = make_scan(quirks={"navigator_every": 4})
    for block in scan.blocks:
        other = (block.headers["flags"] & np.uint64(int(AcquisitionFlag.NAVIGATION_DATA))) != 0
        block.headers["idx"]["slice"][other] = 7
        block.headers["flags"][other] |= np.uint64(int(AcquisitionFlag.REVERSE))
        block.samples[other] *= 1e3
    scan.blocks[0].headers["encoding_space_ref"] = 5
    assert scan.texts() == []


def test_echoes_are_read_among_readouts_of_other_kinds(make_scan: Callable[..., Any]) -> None:
    scan = make_scan(sampling={"reverse": "alternate", "partial_echo": 0.75}, quirks={"navigator_every": 4})
    lines = scan.lines
    other = (lines.headers["flags"] & np.uint64(int(AcquisitionFlag.NAVIGATION_DATA))) != 0
    right = lines.headers["center_sample"].copy()
    lines.headers["center_sample"] = 16
    taken = Comparison(MrdHeader.parse(scan.xml)).take(lines)
    assert (taken.headers["center_sample"][~other] == right[~other]).all()
    assert (taken.headers["center_sample"][other] == 16).all()
    assert taken.samples is lines.samples


def test_empty_block(make_scan: Callable[..., Any]) -> None:
    scan = make_scan()
    empty = Readouts(scan.lines.headers[:0], scan.lines.samples[:0])
    comparison = Comparison(MrdHeader.parse(scan.xml))
    assert comparison.take(empty) is empty
    assert comparison.news(ended=True) == []
