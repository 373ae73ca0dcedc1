"""Echo-planar readouts are told by what they are, and the echo of reversed ones is read as its producer means it."""

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

REVERSE = np.uint64(int(AcquisitionFlag.REVERSE))


@pytest.mark.parametrize("block", [None, 1, 5])
def test_lines_of_one_image_in_both_directions(make_scan: Callable[..., Any], block: int | None) -> None:
    told, found = make_scan(sampling={"reverse": "alternate"}).compare(block=block)
    assert [finding.level for finding in told] == ["warning"]
    assert "run in both directions" in told[0].text
    assert "ghosts and ramp sampling are not corrected" in told[0].text
    assert [finding.level for finding in found] == ["warning"]
    assert "16 of 32 are flagged REVERSE" in found[0].text


def test_header_that_says_epi(make_scan: Callable[..., Any]) -> None:
    scan = make_scan()
    scan.change_header("<trajectory>cartesian<", "<trajectory>EPI<")
    (text,) = scan.texts()
    assert text.startswith("warning: these are echo-planar readouts (the header's trajectory is epi)")


def test_phase_correction_lines_in_both_directions(make_scan: Callable[..., Any]) -> None:
    scan = make_scan(quirks={"phase_correction_lines": 3})
    assert scan.texts() == []  # in one direction they may as well belong to an echo train
    for block in scan.blocks:
        correction = np.flatnonzero(block.headers["flags"] & np.uint64(int(AcquisitionFlag.PHASECORR_DATA)))
        block.headers["flags"][correction[1:2]] |= REVERSE
        block.headers["center_sample"][correction[1:2]] = 31
    (text,) = scan.texts()
    assert "phase-correction lines in both directions" in text


def test_directions_of_different_images_are_no_echo_train(make_scan: Callable[..., Any]) -> None:
    """Echoes of a multi-echo scan may be read in turn forwards and backwards."""
    scan = make_scan(dynamics={"te_ms": (5, 10)})
    for block in scan.blocks:
        second = block.headers["idx"]["contrast"] == 1
        block.headers["flags"][second] |= REVERSE
        block.headers["center_sample"][second] = 31
        block.samples[second] = block.samples[second, :, ::-1]
    assert scan.texts() == []


def reversed_lines(make_scan: Callable[..., Any], habit: str, *, first: str = "forward") -> Any:
    """Alternating lines with the echo at 16 of 48, whose reversed ones count it as a habit has it."""
    scan = make_scan(sampling={"reverse": "alternate", "partial_echo": 0.75})
    lines = scan.lines
    backwards = (lines.headers["flags"] & REVERSE) != 0
    assert set(lines.headers["center_sample"][backwards].tolist()) == {48 - 1 - 16}
    if habit == "mirrored":
        lines.headers["center_sample"][backwards] = 16
    if first == "reversed":
        scan.blocks[-1] = Readouts(lines.headers[1:].copy(), lines.samples[1:].copy())
    return scan


def read(scan: Any, block: int) -> tuple[list[int], list[str]]:
    comparison = Comparison(MrdHeader.parse(scan.xml))
    centers: list[int] = []
    for start in range(0, len(scan.lines), block):
        part = scan.lines.select(slice(start, start + block))
        before = part.headers.tobytes()
        taken = comparison.take(part)
        assert part.headers.tobytes() == before, "the received headers stay as they are"
        assert taken.samples is part.samples
        centers += taken.headers["center_sample"].tolist()
    return centers, [finding.text for finding in comparison.findings() if "center_sample" in finding.text]


@pytest.mark.parametrize("block", [1, 3, 100])
def test_echo_by_the_standard(make_scan: Callable[..., Any], block: int) -> None:
    assert read(reversed_lines(make_scan, "standard"), block) == ([16, 31] * 16, [])


@pytest.mark.parametrize("block", [1, 3, 100])
def test_echo_counted_after_turning(make_scan: Callable[..., Any], block: int) -> None:
    """What follows reads all headers by the standard, and the operator is told."""
    centers, (text,) = read(reversed_lines(make_scan, "mirrored"), block)
    assert centers == [16, 31] * 16
    assert "center_sample is 16 of 48 for readouts of both directions" in text
    assert "would be 31 in a reversed readout" in text


@pytest.mark.parametrize("block", [1, 3, 100])
def test_nothing_to_compare_with_yet(make_scan: Callable[..., Any], block: int) -> None:
    """A reversed readout before the first forward one is read by the standard, and that is told."""
    centers, texts = read(reversed_lines(make_scan, "mirrored", first="reversed"), block)
    assert centers == [16, 16, *[31, 16] * 14, 31]
    assert "but for the 1 that came before the first readout that runs forwards" in texts[0]


@pytest.mark.parametrize("epi", [False, True])
def test_echoes_sampled_symmetrically_in_time_have_one_echo_in_both_directions(
    make_scan: Callable[..., Any], epi: bool
) -> None:
    """Between two samples, so that both of them are as right."""
    scan = make_scan(sampling={"reverse": "alternate"})
    if epi:
        scan.change_header("<trajectory>cartesian<", "<trajectory>epi<")
    middle = scan.lines.samples.shape[2] // 2
    scan.lines.headers["center_sample"] = middle
    centers, texts = read(scan, 100)
    assert bool(texts) != epi
    assert centers == ([middle] * 32 if epi else [middle, middle - 1] * 16)


def test_stage_epi_takes_care_of_echo_planar_readouts(make_scan: Callable[..., Any]) -> None:
    told, _ = make_scan(sampling={"reverse": "alternate"}).compare()
    assert [finding.corrected_by for finding in told] == ["epi"]
    assert "take the pipeline 'epi'" in told[0].text


def test_only_reversed_readouts_follow_the_standard(make_scan: Callable[..., Any]) -> None:
    scan = make_scan(sampling={"reverse": "all", "partial_echo": 0.75})
    assert read(scan, 100) == ([31] * 32, [])


def test_odd_number_of_samples_reads_the_same_both_ways(make_scan: Callable[..., Any]) -> None:
    scan = make_scan(sampling={"reverse": "alternate", "oversampling": 1}, geometry={"matrix": (31, 32, 1)})
    assert read(scan, 100) == ([15] * 32, [])
