"""Coils that die in mid-scan: found by what they receive beside the others, and left out.

A coil whose lines end in zeros or in noise while the others go on leaves an image of lines that contradict each
other. Of every line the middle of the readout is asked, where signal is strongest. The part of all coils' energy that
a coil has around the centre of k-space says what it should receive. That varies; but where it should
be far above the noise, no coil that lives is as quiet as noise for many lines one after the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from scanside.items import KSpace
from scanside.scan import Scan
from scanside.stages._axes import readout_of

__all__ = ["DeadCoil", "DyingCoils", "dead_coils", "without_coils"]

_MIDDLE = 4  # this part of the readout is asked
_ENDS = 16  # this part at each end tells the noise where it is not known
_TOLD = 32  # of so many lines
_CENTRE = 8  # this part of the lines, those nearest to the centre, tells what a coil should receive
_PARTS = 3  # in each of so many parts of the scan, a coil may have lived
_EXPECTED = 12.0  # so many times its noise's energy a coil should receive, for a line to tell anything
_QUIET = 1.7  # with no more than so many times its noise's energy, a coil receives nothing
_SILENT = 1e-4  # with no more than this part of its noise's energy, it receives not even noise
_MATTERS = 1e-3  # with less than this part of the energy of all coils lost, the coil is worth more than what it lacks
_RUN = 5  # so many telling lines one after the other

_Matrix = npt.NDArray[np.complex128]


@dataclass(frozen=True)
class DeadCoil:
    """A coil that received nothing for a while.

    Attributes:
        coil: its index.
        counter: scan counter of the first line without it.
        line: ``kspace_encode_step_1`` of that line.
        to_the_end: it received nothing from there on.
        lost: what it should have received meanwhile, as a part of the energy of all coils.
    """

    coil: int
    counter: int
    line: int
    to_the_end: bool
    lost: float


class DyingCoils:
    """Watches the coils of a scan: those that die are told, and left out of this k-space and of all that follow.

    Args:
        scan: is told; knows what made the noise white.
    """

    def __init__(self, scan: Scan) -> None:
        self._scan = scan
        self._gone: set[int] = set()

    def __call__(self, item: KSpace, *, together: bool) -> KSpace:
        """The k-space of the coils that lived.

        Args:
            item: of all coils.
            together: others are averaged with it, so that it must keep its coils; what died is told all the same.
        """
        found = dead_coils(item, self._scan.whitening)
        new = [one for one in found if one.coil not in self._gone]
        gone = self._gone | {one.coil for one in found if one.lost >= _MATTERS}
        left_out = bool(gone) and not together and len(gone) < item.n_coils
        flaws = [] if item.incomplete is None else [item.incomplete]
        for one in new:
            text = self._text(one, item)
            if left_out and one.coil in gone:
                remedy = "it is left out of the image"
            else:
                remedy = f"the image lacks {one.lost:.2%} of its energy"
                flaws.append(text)
            self._scan.warn(f"{text}: {remedy}; check the coil and its cable")
        self._gone |= {one.coil for one in found if one.to_the_end}
        item = item.replace(incomplete="; ".join(flaws) or None)
        if not left_out:
            return item
        meta = item.meta.copy()
        meta["ScansideCoilsLeftOut"] = [self._name(coil) for coil in sorted(gone)]
        return without_coils(item, frozenset(gone), self._scan.whitening).replace(meta=meta)

    def _text(self, one: DeadCoil, item: KSpace) -> str:
        where = ", ".join(f"{name} {value}" for name, value in item.counters.items())
        until = "the last line" if one.to_the_end else "some lines later"
        return (
            f"coil {self._name(one.coil)} received nothing from scan counter {one.counter} "
            f"(kspace_encode_step_1 {one.line}{f', {where}' if where else ''}) to {until}, though others did"
        )

    def _name(self, coil: int) -> str:
        """Of a coil by the place in the data, as the header numbers and names it."""
        channel = self._scan.channels[coil] if coil < len(self._scan.channels) else coil
        names = self._scan.header.coil_names
        named = channel < len(names) and names[channel]
        return f"{channel} ({names[channel]})" if named else f"{channel} (counted from 0)"


def dead_coils(item: KSpace, whitening: _Matrix | None) -> list[DeadCoil]:
    """The coils that received nothing for some of the lines, though they did for others.

    Args:
        item: with its calibration lines.
        whitening: the matrix that made its noise white, where one did: it mixes coils, so that they are judged as
            they were before.
    """
    rows = _in_order(item)
    if item.n_coils < 2 or len(rows) < 2 * _RUN:
        return []
    energies, noise = _energies(item, rows, whitening)
    signal = np.maximum(energies - noise, 0)
    total = signal.sum(0)
    shares = [_share(item, rows, signal)]
    if item.reference is not None:
        of_reference = _in_order(item.reference)
        received, its_noise = _energies(item.reference, of_reference, whitening)
        shares.append(_share(item.reference, of_reference, np.maximum(received - its_noise, 0)))
    should = np.max(shares, axis=0)[:, None] * total
    telling = should > np.maximum(_EXPECTED * noise, 1e-6 * should.max())
    quiet = energies <= np.maximum(_QUIET * noise, 1e-6 * should)
    # Even where there is no signal, a coil that lives has noise.
    silent = (energies <= _SILENT * noise) & (total > 0)
    telling |= silent & (energies > _SILENT * noise).any(1, keepdims=True)
    headers = item.headers.reshape(-1)
    found = []
    for coil in range(item.n_coils):
        lines = np.flatnonzero(telling[coil])
        first, stop = _longest_run(quiet[coil, lines])
        if stop - first >= _RUN:
            header = headers[rows[lines[first]]]
            line = int(header["idx"]["kspace_encode_step_1"])
            lost = float(should[coil, lines[first:stop]].sum() / total.sum())
            found.append(DeadCoil(coil, int(header["scan_counter"]), line, stop == len(lines), lost))
    return found


def without_coils(item: KSpace, coils: frozenset[int], whitening: _Matrix | None) -> KSpace:
    """The k-space, and its calibration lines, without some coils; white noise stays white.

    Args:
        item: of all coils.
        coils: those that go.
        whitening: the matrix that made its noise white, where one did. What mixed the coils is undone, and done anew
            without those that go.
    """
    mixing = torch.from_numpy(_remixed(item.n_coils, coils, whitening)).to(item.data)

    def reduced(kspace: KSpace) -> KSpace:
        headers = kspace.headers.copy()
        headers["active_channels"][headers["version"] > 0] = len(mixing)
        data = mixing @ kspace.data.flatten(-3)
        return kspace.replace(data=data.reshape(*data.shape[:-1], *kspace.data.shape[-3:]), headers=headers)

    reference = item.reference
    return reduced(item).replace(reference=None if reference is None else reduced(reference))


def _remixed(n_coils: int, coils: frozenset[int], whitening: _Matrix | None) -> _Matrix:
    """The matrix ``(coil left, coil)`` that makes white channels of the coils that are left."""
    left = [coil for coil in range(n_coils) if coil not in coils]
    if whitening is None:
        return np.eye(n_coils, dtype=np.complex128)[left]
    before = np.linalg.inv(whitening)[left]
    again: _Matrix = np.linalg.inv(np.linalg.cholesky(before @ before.conj().T)) @ before
    return again


def _in_order(item: KSpace) -> npt.NDArray[np.intp]:
    """Rows of all frames that were sampled, in the order of acquisition."""
    rows = np.flatnonzero(item.mask.reshape(-1).cpu().numpy())
    return rows[np.argsort(item.headers["scan_counter"].reshape(-1)[rows], kind="stable")]


def _energies(
    item: KSpace, rows: npt.NDArray[np.intp], whitening: _Matrix | None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """What coils received in the middle of the readout, ``(coil, row)``, and of that what is noise, ``(coil, 1)``."""
    readout = readout_of(item) or slice(0, item.data.shape[-1])
    center, n = item.data.shape[-1] // 2, readout.stop - readout.start
    reach = max(n // (2 * _MIDDLE), 1)
    middle = item.data[..., max(center - reach, readout.start) : min(center + reach, readout.stop)]
    energies = _power(middle, rows, whitening).sum(-1).double().cpu().numpy()
    if whitening is not None:  # to a variance of 1 in the real part
        before = np.linalg.inv(whitening)
        return energies, 2 * middle.shape[-1] * np.square(np.abs(before)).sum(1, keepdims=True)
    end = max(n // _ENDS, 1)
    ends = torch.cat([item.data[..., readout][..., part] for part in (slice(end), slice(-end, None))], -1)
    level = _power(ends, rows[:: max(len(rows) // _TOLD, 1)], None).flatten(1).median(
        1, keepdim=True
    ).values / np.log(2)
    return energies, (middle.shape[-1] * level).double().cpu().numpy()


def _power(data: torch.Tensor, rows: npt.NDArray[np.intp], whitening: _Matrix | None) -> torch.Tensor:
    """The power of each coil's samples ``(coil, row, sample)``."""
    by_coil = data.movedim(-4, 0).flatten(1, -2)[:, torch.from_numpy(rows).to(data.device)]
    if whitening is not None:
        before = torch.from_numpy(np.linalg.inv(whitening)).to(by_coil)
        by_coil = (before @ by_coil.flatten(1)).reshape(by_coil.shape)
    return torch.view_as_real(by_coil).square().sum(-1)


def _share(
    item: KSpace, rows: npt.NDArray[np.intp], signal: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """The part of the energy that each coil receives while it lives, above all around the centre of k-space."""
    n2, n1 = item.mask.shape[-2:]
    centers = (n2 // 2, n1 // 2) if item.ranges is None else (item.ranges[2].center, item.ranges[1].center)
    distance = sum(
        np.square((at - c) / n)
        for at, c, n in zip(np.unravel_index(rows % (n1 * n2), (n2, n1)), centers, (n2, n1), strict=True)
    )
    nearest = np.argsort(distance, kind="stable")[: max(len(rows) // _CENTRE, 2 * _RUN)]
    total = signal[:, nearest].sum(0)
    parts = np.where(total > 0, signal[:, nearest] / np.where(total > 0, total, 1), 0)
    # A coil may have died before the centre came, or be there only after it.
    thirds = [part.sum(1) / max(part.sum(), 1e-300) for part in np.array_split(signal, _PARTS, axis=1)]
    share: npt.NDArray[np.float64] = np.max([np.quantile(parts, 0.75, axis=1), *thirds], axis=0)
    return share


def _longest_run(flags: npt.NDArray[np.bool_]) -> tuple[int, int]:
    """First and behind the last of the longest run of true ones."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flags, [False])).astype(np.int8)))
    if not len(edges):
        return 0, 0
    starts, stops = edges[::2], edges[1::2]
    longest = int(np.argmax(stops - starts))
    return int(starts[longest]), int(stops[longest])
