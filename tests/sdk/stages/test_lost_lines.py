"""Whatever protocol is scanned and whatever is lost of it: it is marked or told, and nothing whole is marked.

Every protocol goes with every loss, with right, useless and renumbered scan counters, and with all kinds of limits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest

from scanside.losses import recorded_losses
from scanside.mrd.flags import AcquisitionFlag as Flag
from scanside.mrd.header import Limit, MrdHeader
from scanside.mrd.readouts import Readouts
from scanside.simulate.config import SamplingConfig
from scanside.simulate.sampling import phase_bands, sampling_pattern
from scanside.stages.accumulate import Accumulate

Counters = Literal["right", "zero", "renumbered"]
Limits = Literal["given", "full", "absent"]
Keep = npt.NDArray[np.bool_]

FIRST = Flag.FIRST_IN_SLICE
LAST = Flag.LAST_IN_SLICE | Flag.LAST_IN_REPETITION
N1, N2 = 64, 24


@dataclass(frozen=True)
class Protocol:
    """Lines in the order in which they are acquired, as positions on a grid of N1 x n2."""

    k1: npt.NDArray[np.intp]
    k2: npt.NDArray[np.intp]
    n2: int = 1
    acceleration: tuple[int, int] = (1, 1)
    calibration: str | None = None
    acs: tuple[range, range] = (range(0), range(1))
    band: tuple[int, int] | None = None

    def header(self, make_header: Callable[..., str], limits: Limits, **more: Limit) -> str:
        told = {}
        for name, k, n in (("kspace_encode_step_1", self.k1, N1), ("kspace_encode_step_2", self.k2, self.n2)):
            if limits == "given":
                low, high = self.band or (int(k.min()), int(k.max()))
                told[name] = Limit(low, min(high, n - 1), n // 2)
            elif limits == "full":
                told[name] = Limit(0, n - 1, n // 2)
        return make_header(
            (16, N1, self.n2),
            limits={**told, **more},
            acceleration=self.acceleration,
            calibration=self.calibration,
        )

    def readouts(self, lines: Any, keep: Keep, counters: Counters, **fields: Any) -> Readouts:
        """What came: flags of the first and the last line are lost with them, unless a converter set them anew."""
        block = lines(self.k1, k2=self.k2, first=FIRST, last=LAST, **fields)
        flags = block.headers["flags"]
        in_acs = np.isin(self.k1, list(self.acs[0])) & np.isin(self.k2, list(self.acs[1]))
        flags[in_acs] |= np.uint64(Flag.PARALLEL_CALIBRATION_AND_IMAGING)
        came: Readouts = block.select(keep)
        if counters == "zero":
            came.headers["scan_counter"] = 0
        elif counters == "renumbered":
            came.headers["scan_counter"] = np.arange(len(came)) + 7
            came.headers["flags"][0] |= np.uint64(FIRST)
            came.headers["flags"][-1] |= np.uint64(LAST)
        return came


def plane(mask: npt.NDArray[np.bool_], **settings: Any) -> Protocol:
    k2, k1 = np.nonzero(np.atleast_2d(mask))
    return Protocol(k1, k2, n2=len(np.atleast_2d(mask)), **settings)


def lattice(r: int, acs: int = 0, band: tuple[int, int] = (0, N1)) -> Protocol:
    mask = np.zeros(N1, bool)
    mask[N1 // 2 % r :: r] = True
    block = range(N1 // 2 - acs // 2, N1 // 2 + acs // 2)
    mask[list(block)] = True
    mask[: band[0]] = mask[band[1] :] = False
    return plane(mask, acceleration=(r, 1), calibration="embedded" if acs else None, acs=(block, range(1)))


def drawn(acceleration: float, acs: int, announced: int, *, n2: int = 1, seed: int = 0) -> Protocol:
    sampling = SamplingConfig(
        pattern="variable-density",
        acceleration=(acceleration, 1),
        acs=(acs, acs // 2 if n2 > 1 else 0),
        seed=seed,
    )
    pattern, _ = sampling_pattern(sampling, phase_bands(sampling, (16, N1, n2)))
    mask = np.zeros((n2, N1), bool)
    mask[pattern.k2, pattern.k1] = True
    block = range(N1 // 2 - acs // 2, N1 // 2 + acs // 2), range(n2 // 2 - acs // 4, n2 // 2 + acs // 4)
    return plane(
        mask, acceleration=(announced, 1), acs=block if n2 > 1 else (block[0], range(1)), band=(0, N1)
    )


def volume(r1: int, r2: int, *, acs: bool = False, ellipse: bool = False, band: int = N1) -> Protocol:
    k2, k1 = np.mgrid[:N2, :N1]
    mask = (k1 % r1 == N1 // 2 % r1) & (k2 % r2 == N2 // 2 % r2) & (k1 < band)
    block = range(24, 40), range(8, 16)
    if acs:
        mask |= np.isin(k1, list(block[0])) & np.isin(k2, list(block[1]))
    if ellipse:
        mask &= np.hypot((k1 - N1 // 2) / (N1 // 2), (k2 - N2 // 2) / (N2 // 2)) < 1
    return plane(
        mask,
        acceleration=(r1, r2),
        calibration="embedded" if acs else None,
        acs=block if acs else (range(0), range(1)),
    )


PROTOCOLS = {
    "R1": lattice(1),
    "R2": lattice(2),
    "R3": lattice(3),
    "R2 acs": lattice(2, 16),
    "R3 acs": lattice(3, 16),
    "R4 acs": lattice(4, 12),
    "partial 5/8 low": lattice(1, band=(24, 64)),
    "partial 6/8 high": lattice(1, band=(0, 48)),
    "partial 7/8 low": lattice(1, band=(8, 64)),
    "R2 acs partial 6/8 high": lattice(2, 16, band=(0, 48)),
    "R3 acs partial 6/8 low": lattice(3, 16, band=(16, 64)),
    "reduced": lattice(1, band=(12, 52)),
    "random R4, told": drawn(4, 10, 4),
    "random R4, not told": drawn(4, 10, 1),
    "random R2, not told": drawn(2, 16, 1),
    "3-D R1": volume(1, 1),
    "3-D R2x1 acs": volume(2, 1, acs=True),
    "3-D R2x2 acs": volume(2, 2, acs=True),
    "3-D ellipse": volume(1, 1, ellipse=True),
    "3-D R2x2 acs ellipse": volume(2, 2, acs=True, ellipse=True),
    "3-D partial": volume(1, 1, band=44),
    "3-D random R4": drawn(4, 12, 4, n2=N2),
}


DRAWN = ("random R4, told", "3-D random R4")
"""Undersampled at random, by a header that says so."""


def one_line(p: Protocol) -> Keep:
    return np.arange(len(p.k1)) != len(p.k1) // 3


def at_random(share: float, seed: int) -> Callable[[Protocol], Keep]:
    def keep(p: Protocol) -> Keep:
        generator = np.random.default_rng(seed)
        kept = np.ones(len(p.k1), bool)
        kept[generator.choice(len(kept), max(round(share * len(kept)), 1), replace=False)] = False
        return kept

    return keep


def first(share: float) -> Callable[[Protocol], Keep]:
    return lambda p: np.arange(len(p.k1)) >= share * len(p.k1)


def last(share: float) -> Callable[[Protocol], Keep]:
    return lambda p: np.arange(len(p.k1)) < (1 - share) * len(p.k1)


def centre(p: Protocol) -> Keep:
    return np.hypot((p.k1 - N1 // 2) / N1, (p.k2 - p.n2 // 2) / p.n2) > 0.08


def all_but_ends(p: Protocol) -> Keep:
    return np.isin(np.arange(len(p.k1)), (0, len(p.k1) - 1))


LOSSES: dict[str, Callable[[Protocol], Keep]] = {
    "one": one_line,
    "random 15 %": at_random(0.15, 1),
    "random 50 %": at_random(0.5, 2),
    "random 85 %": at_random(0.85, 3),
    "first 10 %": first(0.1),
    "first 60 %": first(0.6),
    "last 10 %": last(0.1),
    "last 60 %": last(0.6),
    "centre": centre,
    "all but the ends": all_but_ends,
}


def recorded(came: Readouts, xml: str) -> set[str]:
    """What `inspect` tells of the same lines."""
    header = MrdHeader.parse(xml)
    texts = {}
    headers = came.headers
    for name, found in recorded_losses(headers, header, header.encodings[0], headers["scan_counter"]):
        if found.lost:
            texts["lost"] = f"lines were lost: {name}: {'; '.join(found.lost)}"
        for doubt in found.doubts:
            texts.setdefault(doubt.kind, f"lines may have been lost: {name}: {doubt.text}")
    return set(texts.values())


def told_of_images(warnings: list[str]) -> set[str]:
    return {text for text in warnings if text.startswith("lines")}


COUNTERS: tuple[Counters, ...] = ("right", "zero", "renumbered")
LIMITS: tuple[Limits, ...] = ("given", "full", "absent")


@pytest.mark.parametrize("name", PROTOCOLS)
def test_whole(make_header: Any, lines: Any, run_stage: Any, name: str) -> None:
    protocol = PROTOCOLS[name]
    for counters, limits in product(COUNTERS, LIMITS):
        whole = protocol.readouts(lines, np.ones(len(protocol.k1), bool), counters)
        ran = run_stage(Accumulate(), protocol.header(make_header, limits), [whole])
        assert ran.one.incomplete is None, (counters, limits)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", PROTOCOLS)
def test_lost(make_header: Any, lines: Any, run_stage: Any, name: str, loss: str) -> None:
    protocol = PROTOCOLS[name]
    silent = []
    for counters, limits in product(COUNTERS, LIMITS):
        came = protocol.readouts(lines, LOSSES[loss](protocol), counters)
        ran = run_stage(Accumulate(), protocol.header(make_header, limits), [came])
        told = [text for text in ran.scan.warnings if "lost" in text]
        assert len(ran.scan.warnings) == len(set(ran.scan.warnings))
        assert len(told) <= (2 if ran.one.incomplete else 4), ran.scan.warnings
        if not ran.one.incomplete and not told:
            silent.append(counters)
        # Of lines that are drawn, as the header says they may be, nobody can miss some once they were counted anew.
        if not any("calibration lines were lost" in text for text in told):
            assert recorded(came, protocol.header(make_header, limits)) == told_of_images(ran.scan.warnings)
    undecidable = name in DRAWN and loss in ("one", "random 15 %", "first 10 %", "last 10 %")
    assert set(silent) <= ({"renumbered"} if undecidable else set())


def test_only_what_is_damaged_is_marked(make_header: Any, lines: Any, run_stage: Any) -> None:
    """Interleaved slices, repetitions and segments; one line of one of them is lost, whatever is counted."""
    limits = {name: Limit(0, 2, 0) for name in ("slice", "repetition")}
    xml = make_header((16, 24, 1), limits={"kspace_encode_step_1": Limit(0, 23, 12), **limits})
    for counters in COUNTERS:
        blocks = []
        for repetition, segment, slice_ in product(range(3), range(2), (0, 2, 1)):
            block = lines(
                range(segment, 24, 2),
                first=FIRST if segment == 0 else 0,
                last=LAST if segment == 1 else 0,
                slice=slice_,
                repetition=repetition,
            )
            if (repetition, segment, slice_) == (1, 0, 2):
                block = block.select(np.arange(12) != 5)
            blocks.append(block)
        if counters != "right":
            n = 0
            for block in blocks:
                block.headers["scan_counter"] = 0 if counters == "zero" else n + np.arange(len(block))
                n += len(block)
        ran = run_stage(Accumulate(), xml, blocks)
        damaged = [item.counters for item in ran.items if item.incomplete]
        assert [(one["slice"], one["repetition"]) for one in damaged] == [(2, 1)]
        (told,) = ran.scan.warnings
        assert (
            "slice 2, contrast 0, phase 0, repetition 1, set 0: kspace_encode_step_1 10 did not come" in told
        )


@pytest.mark.parametrize("n_averages", [2, 3])
def test_a_line_of_one_average(make_header: Any, lines: Any, run_stage: Any, n_averages: int) -> None:
    protocol = lattice(2, 16)
    xml = protocol.header(make_header, "full", average=Limit(0, n_averages - 1, 0))
    for counters, lost in product(COUNTERS, (None, 20, 30)):
        blocks = []
        for average in range(n_averages):
            keep = protocol.k1 != (lost if average == 1 else -1)
            blocks.append(protocol.readouts(lines, keep, counters, average=average))
        if counters == "renumbered":
            blocks[1].headers["scan_counter"] += 100
        ran = run_stage(Accumulate(), xml, blocks)
        assert bool(ran.one.incomplete) == (lost is not None), (counters, lost)


def test_the_centre_may_be_averaged_more_often(make_header: Any, lines: Any, run_stage: Any) -> None:
    protocol = lattice(1)
    blocks = [protocol.readouts(lines, np.ones(N1, bool), "right")]
    blocks.append(lines(range(20, 44), average=1, last=LAST))
    ran = run_stage(Accumulate(), protocol.header(make_header, "full", average=Limit(0, 1, 0)), blocks)
    assert ran.one.incomplete is None
    assert "came in fewer averages than the lines about the centre" in ran.scan.warnings[0]


def test_an_image_of_some_repetition(make_header: Any, lines: Any, run_stage: Any) -> None:
    limits = {"slice": Limit(0, 2, 0), "repetition": Limit(0, 3, 0)}
    xml = make_header(limits=limits)
    blocks = [
        lines(range(12), last=LAST, slice=slice_, repetition=repetition)
        for repetition, slice_ in product(range(4), range(3))
    ]
    assert run_stage(Accumulate(), xml, blocks).scan.warnings == []
    ran = run_stage(Accumulate(), xml, blocks[:7] + blocks[8:])
    (told,) = ran.scan.warnings
    assert "1 of 12 images did not come, the first of slice 1, " in told


@pytest.mark.parametrize("counters", COUNTERS)
def test_separate_calibration_lines(make_header: Any, lines: Any, run_stage: Any, counters: Any) -> None:
    xml = make_header(
        (16, N1, 1),
        limits={"kspace_encode_step_1": Limit(0, N1 - 1, N1 // 2)},
        acceleration=(2, 1),
        calibration="separate",
    )
    for lost in ((), (30,), range(26, 36)):
        acs = lines(range(20, 44), flags=Flag.PARALLEL_CALIBRATION)
        acs = acs.select(~np.isin(acs.headers["idx"]["kspace_encode_step_1"], list(lost)))
        if counters != "right":
            acs.headers["scan_counter"] = 0
        ran = run_stage(Accumulate(), xml, [acs, lines(range(0, N1, 2), first=FIRST, last=LAST)])
        assert bool(ran.one.incomplete) == bool(lost)
        assert [text for text in ran.scan.warnings if "calibration lines were lost" in text] == (
            [] if not lost else [ran.one.incomplete]
        )


@pytest.mark.parametrize("acs", [8, 12, 16])
@pytest.mark.parametrize("factor", [2, 3, 4])
def test_random_sampling_that_the_header_conceals(
    make_header: Any, make_lines: Any, run_stage: Any, factor: int, acs: int
) -> None:
    """It is told, for the header contradicts it, and no image is marked."""
    for seed in range(8):
        protocol = drawn(factor, acs, 1, seed=seed)
        whole = protocol.readouts(make_lines(), np.ones(len(protocol.k1), bool), "right")
        ran = run_stage(Accumulate(), protocol.header(make_header, "full"), [whole])
        assert ran.one.incomplete is None, seed
        assert 1 <= len(ran.scan.warnings) <= 2


@pytest.mark.parametrize("n_lost", [10, 20, 35, 56])
def test_a_full_scan_that_loses_lines_at_random(
    make_header: Any, make_lines: Any, run_stage: Any, n_lost: int
) -> None:
    """However it is counted afterwards: never silent, and nearly always marked."""
    n_marked = 0
    for seed, counters in product(range(12), COUNTERS):
        protocol = lattice(1)
        keep = at_random(n_lost / N1, seed)(protocol)
        ran = run_stage(
            Accumulate(),
            protocol.header(make_header, "full"),
            [protocol.readouts(make_lines(), keep, counters)],
        )
        n_marked += bool(ran.one.incomplete)
        assert ran.scan.warnings, (seed, counters)
    assert n_marked >= 34


def test_random_sampling_without_flags(make_header: Any, lines: Any, run_stage: Any) -> None:
    """Some producers flag no line as the last: where sampling is irregular, an end says nothing."""
    protocol = drawn(3, 16, 3)
    block = protocol.readouts(lines, np.ones(len(protocol.k1), bool), "right")
    block.headers["flags"] = 0
    ran = run_stage(Accumulate(), protocol.header(make_header, "full"), [block])
    assert ran.one.incomplete is None
    assert ran.scan.warnings == []
