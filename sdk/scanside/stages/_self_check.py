"""A learned image is checked without the truth: acquired lines are left out, and both reconstructions predict them.

It is a strip of the image that is judged, a quarter of its columns: where whole readouts were sampled, columns have
nothing to do with each other but through the network, so that the check takes about a quarter of the time of what it
checks. What the strip lacks beside it the network lacks at its borders alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from scanside.engines.verdicts import Check
from scanside.items import Calibration, Image, KSpace
from scanside.recon.acquired import Acquired
from scanside.recon.fourier import to_image, to_kspace
from scanside.recon.left_out import Gain, choose_lines, gain, seen_strip
from scanside.stages._axes import readout_of
from scanside.stages._fallback import Fallback
from scanside.stages._lattice import lattice_of

__all__ = ["NOISE_FLOOR", "SIGNAL_FLOOR", "Unseen", "Verdict", "ahead", "strip_width", "unseen", "word_of"]

_PART = 4
_FEWEST_COLUMNS = 48
"""Of fewer a network sees too little: with 32 one of ten decisions was wrong that 48 had right."""

_EVIDENCE, _LEAST_DB = 1.0, 0.1
"""So many standard errors, and dB, the learned image must be behind before the classical one goes out."""

NOISE_FLOOR, SIGNAL_FLOOR = 0.05, 1e-5
"""Errors below these parts of the noise, which is known no better, and of the image's energy do not matter."""

_EVIDENCE_AGAINST_NOTHING, _MORE_THAN_NOTHING = 2.0, 10**0.05
"""The same, where it is behind zeros in place of the lines; and so many times theirs its errors must be."""

_QUIET, _FAR_DB = 0.25, -4.5
"""Where noise is more than this part of the lines, it must be so many dB behind zeros: what a network adds to lines
of noise costs the image less than it gains in others."""


@dataclass(frozen=True)
class Verdict:
    """What the unseen lines say of a learned image.

    Attributes:
        word: ``better`` or ``worse`` than the classical one; ``worse than nothing``: than zeros in place of lines;
            ``undecided``, where they differ by less than that varies from line to line, or by less than 0.1 dB;
            ``none`` where there was no check.
        db: by how much, positive where the learned image is better.
        against: name of the classical reconstruction.
        n_lines: how many lines were predicted.
        why: there was no check.
    """

    word: Check
    db: float = 0.0
    against: str = ""
    n_lines: int = 0
    why: str = ""

    @property
    def meta(self) -> list[str]:
        """For the attribute ``ScansideCheck``: word, dB, against what, and on how many lines; or ``none`` and why."""
        if self.word == "none":
            return [self.word, self.why]
        return [self.word, f"{self.db:+.2f} dB", self.against, f"{self.n_lines} unseen lines"]

    @property
    def is_worse(self) -> bool:
        """Whether there is evidence against the learned image."""
        return self.word in ("worse", "worse than nothing")

    def text(self, network: str) -> str:
        """For an operator."""
        on = f"on {self.n_lines} acquired lines that were kept from both"
        if self.word == "worse than nothing":
            return (
                f"'{network}' predicts lines worse than zeros do, by {-self.db:.1f} dB {on}: coil maps and lines "
                "disagree, or hold more noise than signal; look for a coil that fails, or for an object that is "
                "larger than the field of view"
            )
        return f"'{network}' predicts lines worse than '{self.against}' does, by {-self.db:.1f} dB {on}"


@dataclass(frozen=True)
class Unseen:
    """A strip of a k-space that lacks some acquired lines, and what these are.

    Attributes:
        item: what reconstructions are given, one image or several, or a window.
        lines: ``(frame, coil, k1, x)`` k-space along k1 and image along x, of the frames that are wanted.
        where: ``(frame, k1)`` bool, the lines that were left out.
        outer: ``(frame, k1)`` bool, see `scanside.recon.left_out.LeftOut`.
        fair: the same.
    """

    item: KSpace
    lines: torch.Tensor
    where: torch.Tensor
    outer: torch.Tensor
    fair: torch.Tensor

    def classical(
        self, fallback: Fallback, made: Sequence[Image], data: Acquired
    ) -> tuple[str, torch.Tensor]:
        """Name and errors of the reconstruction that would go out in place of the learned one.

        Args:
            fallback: that makes it.
            made: images of the strip that CG-SENSE has made already.
            data: what was acquired of the strip.
        """
        name, images = "", []
        for choice, image in fallback.images(self.item, made, data):
            name = choice.name
            # A magnitude tells nothing of lines that were not acquired.
            images.append(image.data[0] if image.data.is_complex() else torch.zeros_like(image.data[0]))
        return name, self.errors(torch.stack(images))

    def errors(self, images: torch.Tensor | None) -> torch.Tensor:
        """``(line,)`` energies of the differences between what images say of the lines, and the lines.

        Args:
            images: ``(*frame, 1, y, x)`` complex, the wanted ones, or ``(2, *frame, 1, y, x)`` of two sets of maps;
                None for zeros.
        """
        return self._energies(images)[self.where]

    def judge(
        self, learned: torch.Tensor, against: str, classical: torch.Tensor, noise: torch.Tensor
    ) -> Verdict:
        """Compare.

        Args:
            learned: errors of the learned image.
            against: name of the classical reconstruction.
            classical: its errors.
            noise: standard deviation of the noise's real part in k-space.
        """
        n_coils, n1, n_columns = self.lines.shape[-3:]
        per_line = 2 * float(noise) ** 2 * n_coils * n_columns
        signal = float(self.lines.abs().square().sum()) / (len(self.lines) * n1)
        levels = per_line, NOISE_FLOOR * per_line + SIGNAL_FLOOR * signal
        fair = self.fair[self.where]
        if int(fair.sum()) > 1:
            mine, zeros = learned[fair], self.errors(None)[fair]
            nothing = gain(mine, zeros, *levels)
            far_behind = float(mine.sum()) > _MORE_THAN_NOTHING * float(zeros.sum())
            far_behind &= per_line < _QUIET * float(zeros.mean()) or nothing.db < _FAR_DB
            if nothing.evidence < -_EVIDENCE_AGAINST_NOTHING and far_behind:
                return Verdict("worse than nothing", nothing.db, against, len(mine))
        outer = self.outer[self.where]
        found = gain(learned[outer], classical[outer], *levels)
        return Verdict(word_of(found), found.db, against, int(outer.sum()))

    def _energies(self, images: torch.Tensor | None) -> torch.Tensor:
        difference = self.lines
        if images is not None:
            sets = [maps for maps in (self.item.coil_maps, self.item.second_maps) if maps is not None]
            by_set = images.reshape(len(sets), len(self.lines), 1, *images.shape[-2:])
            views = torch.stack(
                [image * maps[..., 0, :, :] for image, maps in zip(by_set, sets, strict=True)]
            ).sum(0)
            difference = to_kspace(views, (-2,)) - difference
        return difference.abs().square().sum((-3, -1))


def word_of(found: Gain) -> Check:
    """A comparison in one word."""
    if abs(found.evidence) <= _EVIDENCE or abs(found.db) < _LEAST_DB:
        return "undecided"
    return "better" if found.db > 0 else "worse"


def strip_width(n_columns: int, step: int) -> int:
    """How many columns of so many are judged: a multiple of what the network needs."""
    width = max(-(-n_columns // (_PART * step)), -(-_FEWEST_COLUMNS // step)) * step
    return min(width, n_columns)


def unseen(item: KSpace, width: int) -> Unseen | str:
    """Leave lines out of a strip of a k-space with coil maps; or say why that cannot be.

    Args:
        item: one image or several of one slice, or a window.
        width: of the strip, in columns.
    """
    maps = item.coil_maps
    assert maps is not None
    n1, n0 = item.data.shape[-2:]
    if item.data.shape[-3] > 1:
        return "lines were sampled along two axes"
    if readout_of(item) is not None:
        return "parts of the readouts were not acquired, as of an asymmetric echo"
    if not bool(maps.any()):
        return "the coil maps are zero"
    chosen = _chosen(item.mask, item.wanted)
    if isinstance(chosen, str):
        return chosen
    where = chosen[0].reshape(item.mask.shape).to(item.mask.device)
    columns = seen_strip(maps, width)
    hybrid = to_image(item.data, (-1,))[..., columns]
    mask = item.mask & ~where
    x, y, z = item.extent_mm
    strip = item.replace(
        data=to_kspace(hybrid, (-1,)) * mask[..., None, :, :, None],
        mask=mask,
        coil_maps=maps[..., columns].contiguous(),
        second_maps=_second(item, columns),
        contrasts={name: one[..., columns] for name, one in item.contrasts.items()},
        ranges=None,
        field_of_view_mm=(x * hybrid.shape[-1] / n0, y, z),
    )
    wanted = slice(None) if item.wanted is None else [*item.wanted]
    lines = hybrid.reshape(-1, item.n_coils, n1, hybrid.shape[-1])[wanted]
    return Unseen(strip, lines, *(flags[wanted].to(lines.device) for flags in chosen))


def ahead(item: Calibration, width: int) -> Calibration | None:
    """The strip that `unseen` will make of a k-space to come, as far as it is known; None where too little is.

    Args:
        item: calibration lines with coil maps.
        width: of the strip, in columns.
    """
    kspace, lines = item.kspace, item.lines
    maps = kspace.coil_maps
    if maps is None or lines is None or readout_of(kspace) is not None or kspace.data.shape[-3] > 1:
        return None
    chosen = _chosen(lines, None)
    if isinstance(chosen, str):
        return None
    columns = seen_strip(maps, width)
    strip = kspace.replace(
        data=kspace.data[..., columns],
        coil_maps=maps[..., columns].contiguous(),
        second_maps=_second(kspace, columns),
        ranges=None,
    )
    return Calibration(strip, lines & ~chosen[0].reshape(lines.shape).to(lines.device))


def _second(item: KSpace, columns: slice) -> torch.Tensor | None:
    """The second set of maps in some columns, where it sees anything there."""
    if item.second_maps is None:
        return None
    second = item.second_maps[..., columns].contiguous()
    return second if bool(second.any()) else None


def _chosen(
    mask: torch.Tensor, wanted: Sequence[int] | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor] | str:
    """Lines to leave out, and which of them are outer and fair ones, ``(frame, k1)`` bool; or why there are none.

    Args:
        mask: ``(*frame, 1, k1)`` bool.
        wanted: frames to leave lines out of; None for all.
    """
    sampled = mask.reshape(-1, mask.shape[-1]).cpu()
    where, outer, fair = (torch.zeros_like(sampled) for _ in range(3))
    for frame in range(len(sampled)) if wanted is None else wanted:
        found = choose_lines(sampled[frame], _lattice(sampled[frame])) if bool(sampled[frame].any()) else None
        if found is None:
            n, n1 = int(sampled[frame].sum()), sampled.shape[-1]
            return f"there are no lines to leave out: {n} of {n1} were acquired, too few outside the middle"
        where[frame, found.lines] = True
        outer[frame, found.lines] = found.outer
        fair[frame, found.lines] = found.fair
    return where, outer, fair


def _lattice(sampled: torch.Tensor) -> int | None:
    """Distance of the lines of a lattice; None of any other pattern."""
    found = lattice_of(sampled.numpy()[None].astype(np.bool_))
    return None if found is None or found[0] == 1 else found[0]
