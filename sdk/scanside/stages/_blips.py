"""Phases of slices that are read out at once (blipped CAIPI), told from their lines and single-band references."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from scanside.errors import CalibrationError

__all__ = ["Blips", "blips_of", "ramp"]

_USUAL = 8  # shifts by so small a part of the field of view are looked for
_FITS = 0.25  # of the lines' energy may be left that references do not explain
_AS_GOOD = 0.02  # more than that of the best fit is no worse
_NO_SHIFT = 1e-6
_TINY = 1e-6  # keeps slices apart that are alike


@dataclass(frozen=True)
class Blips:
    """Phases that slices gain from one line of the grid to the next, none in the centre of k-space, in cycles.

    Attributes:
        cycles: of each slice in the lines to separate.
        missing: what of it the references of each slice lack.
    """

    cycles: tuple[float, ...]
    missing: tuple[float, ...]


def blips_of(
    lines: torch.Tensor,
    sampled: torch.Tensor,
    references: torch.Tensor,
    center: int,
    *,
    acceleration: int,
    announced: tuple[float, ...] | None,
    where: str,
) -> Blips:
    """The phases that make the references add up to the lines.

    Args:
        lines: ``(coil, 1, k1, k0)`` of several slices at once.
        sampled: ``(k1,)`` bool, which of them were acquired.
        references: ``(slice, coil, 1, k1, k0)``, the same lines of single slices.
        center: which line is the centre of k-space.
        acceleration: distance of the acquired lines.
        announced: phase of each slice from one acquired line to the next in cycles, by the header or the settings.
        where: which lines they are, for the text of an error.

    Raises:
        CalibrationError: the references do not add up to the lines with the phases announced nor without, or nobody
            tells which phases these are.
    """
    n_slices = len(references)

    def regular(shift: float) -> tuple[float, ...]:
        return tuple(band * shift for band in range(n_slices))

    def unexplained(cycles: tuple[float, ...]) -> float:
        turns = torch.stack([ramp(one / acceleration, lines.shape[-2], center, lines) for one in cycles])
        turned = (references * turns[:, None, None])[..., sampled, :].reshape(n_slices, -1)
        measured = lines[..., sampled, :].reshape(-1, 1)
        normal = turned.conj() @ turned.T
        normal += _TINY * normal.diagonal().real.mean() * torch.eye(n_slices, device=normal.device)
        amplitudes = torch.linalg.solve(normal, turned.conj() @ measured)
        return float((measured - turned.T @ amplitudes).norm() ** 2 / measured.norm() ** 2)

    nothing = regular(0.0)
    expected = [nothing]
    if announced is not None:
        expected += [announced, tuple(-one for one in announced)]
    others = [
        cycles
        for n in range(2, _USUAL + 1)
        for sign in (1, -1)
        if (cycles := regular(sign / n)) not in expected
    ]
    if announced is None:
        expected += others
        others = []
    rest = {cycles: unexplained(cycles) for cycles in dict.fromkeys([*expected, *others])}
    best = min(rest.values())
    if best > _FITS:
        raise CalibrationError(
            f"{where}: the references of its {n_slices} slices leave {100 * best:.0f} % of its lines' energy "
            "unexplained, whatever shift is assumed: they are of other slices, or of another contrast or phase; "
            "acquire references with the same protocol and in the same position"
        )
    found = next(cycles for cycles in rest if rest[cycles] <= best + _AS_GOOD)
    if found not in expected:
        assert announced is not None
        raise CalibrationError(
            f"{where}: the references have another blip pattern: to add up to the lines, each slice is to be shifted "
            f"by {_told(found)} beyond the one before, but the header (or multiband.shift) says {_told(announced)}, "
            "and references carry that wholly or not at all. Acquire references with the same blips or with none, or "
            "correct deltaKz and dZ of the header, or set multiband.shift"
        )
    if found != nothing:
        per_line = tuple(one / acceleration for one in found)
        return Blips(per_line, per_line)
    if announced is None:
        raise CalibrationError(
            f"{where}: the references add up to the lines as they are. Either there are no blips, or the references "
            "carry their phase, and the header does not tell the shift (multiband/deltaKz and dZ): set "
            "multiband.shift, to 0 where there are no blips"
        )
    return Blips(tuple(one / acceleration for one in announced), nothing)


def ramp(cycles: float, n_lines: int, center: int, like: torch.Tensor) -> torch.Tensor:
    """Phase factors ``(k1, 1)`` of so many cycles from line to line, none in the centre.

    Args:
        cycles: from one line to the next.
        n_lines: number of lines.
        center: which line is the centre of k-space.
        like: data that they are for.
    """
    lines = torch.arange(n_lines, device=like.device, dtype=torch.float64) - center
    return torch.exp(2j * torch.pi * cycles * lines)[:, None].to(like.dtype)


def _told(cycles: tuple[float, ...]) -> str:
    """A shift between neighbouring slices in words."""
    shift = cycles[1] - cycles[0]
    if abs(shift) < _NO_SHIFT:
        return "nothing"
    n = 1 / shift
    part = f"FOV/{n:.0f}" if abs(n - round(n)) < 0.01 * abs(n) else f"{shift:.3g} of the FOV"
    return f"{part} (of the undersampled field of view)"
