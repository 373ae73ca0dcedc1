"""GRAPPA: missing k-space lines as linear combinations of the acquired ones around them.

Griswold et al., *Generalized autocalibrating partially parallel acquisitions (GRAPPA)*, MRM 47:1202 (2002).

The regularly acquired lines form a lattice: every ``R1``-th line along k1, every ``R2``-th along k2. A kernel
sits on a lattice line, reads samples around it in all coils (its neighbours on the lattice along k1 and k2,
adjacent samples along k0), and gives the ``R1 R2 - 1`` missing lines of its lattice cell in all coils::

    k1   o  .  .  O  x  x  o  .  .  o  .  .  o      R1 = 3, kernel of 4 lines: it sits on O,
         |        |        |        |               reads the lines that are marked,
                                                    and gives the two x

CAIPIRINHA shifts the lattice along k2 by some lines from one acquired k1 line to the next; the kernel then reads in
each of these columns the lines that lie nearest to its cell::

    k2   o  .  o  .  o  .      o  .  .  .  o  .
         .  .  .  .  .  .      .  .  o  .  .  .      R1 = R2 = 2, without a shift
         o  .  o  .  o  .      o  .  .  .  o  .      and with a shift of 1
         .  .  .  .  .  .      .  .  o  .  .  .
    k1

Breuer et al., *Controlled aliasing in volumetric parallel imaging (2D CAIPIRINHA)*, MRM 55:549 (2006).

`calibrate` learns the weights from a fully sampled block, `apply` fills the missing lines.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from scanside.errors import CalibrationError, ShapeError
from scanside.recon.kernel_fit import mixing_along_readout, normal_equations, solve_normal

__all__ = [
    "GrappaWeights",
    "apply",
    "calibrate",
    "calibration_block",
    "calibration_region",
    "describe_lines",
    "find_lattice",
    "fitting_kernel",
    "kernels_by_offset",
    "lattice_lines",
    "sources_and_filled",
]

DEFAULT_KERNEL = (5, 4, 4)
"""Samples read along k0, k1 and k2; as in Gadgetron's chains."""


@dataclass(frozen=True)
class GrappaWeights:
    """What `calibrate` learned.

    Attributes:
        values: ``(*other, target, source)`` complex64. Targets in the order (missing line of the cell, coil),
            sources in the order (k0, k2, k1, coil).
        n_coils: number of coils, the same for sources and targets.
        acceleration: ``(R1, R2)`` along k1 and k2.
        kernel: number of samples read along k0, k1 and k2.
        shift: lines along k2 by which the lattice moves from one of its k1 lines to the next.
    """

    values: torch.Tensor
    n_coils: int
    acceleration: tuple[int, int]
    kernel: tuple[int, int, int]
    shift: int = 0


def calibration_region(sampled: torch.Tensor) -> tuple[slice, slice]:
    """The largest rectangle of lines without a gap, where integrated calibration (ACS) lines lie.

    Args:
        sampled: ``(k2, k1)`` bool, which lines were acquired.

    Returns:
        Slices along k2 and k1; both are empty if nothing was acquired.
    """
    rows = sampled.cpu()
    best, region = 0, (slice(0, 0), slice(0, 0))
    for first in range(len(rows)):
        full = torch.ones_like(rows[0])
        for last in range(first, len(rows)):
            full = full & rows[last]
            start, length = _longest_run(full)
            if length * (last + 1 - first) > best:
                best = length * (last + 1 - first)
                region = (slice(first, last + 1), slice(start, start + length))
    return region


def calibration_block(
    kspace: torch.Tensor,
    sampled: torch.Tensor,
    acceleration: tuple[int, int],
    kernel: tuple[int, int, int] = DEFAULT_KERNEL,
    shift: int = 0,
) -> torch.Tensor:
    """Cut the integrated calibration lines out of k-space, for `calibrate`.

    Args:
        kspace: ``(*other, coil, k2, k1, k0)`` complex64.
        sampled: ``(k2, k1)`` bool, which lines were acquired.
        acceleration: ``(R1, R2)`` along k1 and k2.
        kernel: number of samples that the kernel reads along k0, k1 and k2.
        shift: of the lattice along k2, as in `calibrate`.

    Returns:
        A view ``(*other, coil, acs k2, acs k1, k0)``.

    Raises:
        CalibrationError: there are not enough lines side by side; says which lines were acquired.
    """
    along_k2, along_k1 = calibration_region(sampled)
    block = kspace[..., along_k2, along_k1, :]
    try:
        _check_amount(block, acceleration, _flat_if_2d(kernel, kspace, acceleration), shift)
    except CalibrationError as error:
        k1, k2 = (describe_lines(sampled.any(axis).nonzero().flatten().tolist()) for axis in (0, 1))
        raise CalibrationError(f"{error}. Acquired were the k1 lines {k1} and the k2 lines {k2}") from None
    return block


def fitting_kernel(
    acs: torch.Tensor,
    acceleration: tuple[int, int],
    kernel: tuple[int, int, int] = DEFAULT_KERNEL,
    shift: int = 0,
) -> tuple[int, int, int]:
    """The kernel, or where the calibration lines do not suffice for it, the largest one for which they do.

    A smaller kernel is one that the lines determine well: with twice as many equations as weights where there is such
    a one. It keeps lattice lines on both sides of the missing ones.

    Args:
        acs: ``(*other, coil, k2, k1, k0)``, fully sampled.
        acceleration: ``(R1, R2)`` along k1 and k2.
        kernel: number of samples to read along k0 (odd), k1 and k2.
        shift: of the lattice along k2, as in `calibrate`.

    Raises:
        CalibrationError: there are too few lines for any kernel.
    """
    kernel = _flat_if_2d(kernel, acs, acceleration)
    if _determination(acs, acceleration, kernel, shift) >= 1:
        return kernel
    least1, least2 = (min(n, 2) if r > 1 else 1 for n, r in zip(kernel[1:], acceleration, strict=True))
    smaller = [
        (w0, w1, w2)
        for w0 in range(1, kernel[0] + 1, 2)
        for w1 in range(least1, kernel[1] + 1)
        for w2 in range(least2, kernel[2] + 1)
    ]
    for enough in (2, 1):
        fitting = [small for small in smaller if _determination(acs, acceleration, small, shift) >= enough]
        if fitting:
            return max(fitting, key=lambda w: (w[0] * w[1] * w[2], w[1], w[2]))
    _check_amount(acs, acceleration, (1, least1, least2), shift, remedy="acquire more")
    return kernel


def calibrate(
    acs: torch.Tensor,
    acceleration: tuple[int, int],
    kernel: tuple[int, int, int] = DEFAULT_KERNEL,
    regularisation: float = 5e-4,
    shift: int = 0,
) -> GrappaWeights:
    """Learn GRAPPA weights from fully sampled calibration lines.

    Every position at which the kernel fits into the block gives one equation per target; they are solved
    together in the least-squares sense with Tikhonov regularisation. The defaults are those of Gadgetron's
    ``Generic_Cartesian_Grappa`` chain. Frames are calibrated independently, all in one batch.

    Args:
        acs: ``(*other, coil, k2, k1, k0)`` complex64, fully sampled.
        acceleration: ``(R1, R2)`` along k1 and k2.
        kernel: number of samples to read along k0 (odd), k1 and k2. Where there is only one k2 line, the
            last is taken as 1.
        regularisation: Tikhonov weight relative to the mean eigenvalue of the normal matrix.
        shift: lines along k2, fewer than R2, by which the lattice moves from one of its k1 lines to the next
            (CAIPIRINHA).

    Raises:
        CalibrationError: too few calibration lines, or calibration data that give no solution.
        ShapeError: not a k-space block, or an impossible kernel or acceleration.
    """
    if acs.ndim < 4:
        raise ShapeError(
            f"GRAPPA calibration needs k-space (*other, coil, k2, k1, k0), got {tuple(acs.shape)}"
        )
    kernel = _flat_if_2d(kernel, acs, acceleration)
    if min(*kernel, *acceleration) < 1 or kernel[0] % 2 == 0:
        raise ShapeError(
            f"GRAPPA kernel {kernel} (k0, k1, k2) at acceleration {acceleration} (R1, R2): "
            "all must be at least 1, and the kernel odd along k0"
        )
    if not 0 <= shift < acceleration[1]:
        raise ShapeError(
            f"a lattice with R2 = {acceleration[1]} along k2 can be shifted by 0 to {acceleration[1] - 1} lines, got "
            f"{shift}"
        )
    _check_amount(acs, acceleration, kernel, shift)

    reads, gives = _taps(acceleration, kernel, shift), _missing_in_cell(acceleration)
    if not gives:
        raise ShapeError("GRAPPA at acceleration 1 x 1 has nothing to fill: leave it out")
    (low2, span2), (low1, span1) = _extent(acceleration, kernel, shift)
    n_windows1, n_windows2 = acs.shape[-2] - span1 + 1, acs.shape[-3] - span2 + 1
    lines = acs.movedim(-4, -1)  # (*other, k2, k1, k0, coil)

    def of_windows(n2: int, n1: int) -> torch.Tensor:
        """The line of every window that lies so far along (k2, k1): ``(*other, window, k0, coil)``."""
        n2, n1 = n2 - low2, n1 - low1
        return lines[..., n2 : n2 + n_windows2, n1 : n1 + n_windows1, :, :].flatten(-4, -3)

    sources, targets = ([of_windows(*tap) for tap in taps] for taps in (reads, gives))
    normal, rhs = normal_equations(torch.cat(sources, -1), torch.cat(targets, -1), kernel[0])
    values = solve_normal(normal, rhs, regularisation)
    if values is None:
        raise CalibrationError(
            f"GRAPPA calibration data {tuple(acs.shape)} give no solution: they are zero or not finite, "
            "or the regularisation is too small"
        )
    return GrappaWeights(values, acs.shape[-4], acceleration, kernel, shift)


def apply(weights: GrappaWeights, kspace: torch.Tensor, sampled: torch.Tensor) -> torch.Tensor:
    """Fill the missing lines; every acquired line, calibration lines too, stays as it is.

    A line is filled if the lattice lines around it were acquired: nothing grows beyond the sampled band, so
    reduced phase resolution and partial Fourier stay what they are. Where the kernel reaches beyond the band,
    it reads zeros. Along k0 the kernel is applied as a product in the image domain, hence wraps around at the
    ends of the readout.

    Args:
        weights: from `calibrate`; their ``other`` axes broadcast against those of the k-space.
        kspace: ``(*other, coil, k2, k1, k0)`` complex64.
        sampled: ``(k2, k1)`` bool, which lines were acquired.

    Returns:
        K-space of the same shape.

    Raises:
        ShapeError: k-space, mask and weights do not fit, or the lines do not form a regular lattice.
    """
    n_coils, n_k2, n_k1, n_k0 = kspace.shape[-4:]
    if n_coils != weights.n_coils or sampled.shape != (n_k2, n_k1):
        raise ShapeError(
            f"GRAPPA weights for {weights.n_coils} coils and a mask {tuple(sampled.shape)} do not fit "
            f"k-space {tuple(kspace.shape)}: expected (*other, coil, k2, k1, k0) and (k2, k1)"
        )
    (r1, r2), (_, w1, w2), shift = weights.acceleration, weights.kernel, weights.shift
    first1, first2 = find_lattice(sampled, weights.acceleration, shift)
    n_columns = -(-(n_k1 - first1) // r1)
    # Where the lattice begins in each of its columns; after a period they come again.
    period = r2 // math.gcd(shift, r2)
    starts = [(first2 + column * shift) % r2 for column in range(period)]
    n2 = -(-(n_k2 - min(starts)) // r2)

    # Sources: lattice lines in (x, k2, k1), coils last, a row of the lattice as a row, zeros around.
    lattice = kspace.new_zeros(*kspace.shape[:-3], n2, n_columns, n_k0)
    for column, start in enumerate(starts):
        of_column = kspace[..., start::r2, first1 + column * r1 :: r1 * period, :]
        lattice[..., : of_column.shape[-3], column::period, :] = of_column
    hybrid = torch.fft.ifft(lattice, dim=-1).movedim((-1, -4), (-4, -1))
    lowest = -1 if shift else 0  # lines before the first one of a column belong to a cell beyond the grid
    before1, before2 = _steps_before(w1), _steps_before(w2) + (1 - lowest if shift else 0)
    behind2 = w2 + (1 if shift else 0)
    padded = hybrid.new_zeros(*hybrid.shape[:-4], n_k0, before2 + n2 + behind2, n_columns + w1 - 1, n_coils)
    padded[..., before2 : before2 + n2, before1 : before1 + n_columns, :] = hybrid

    mixing = mixing_along_readout(weights.values, weights.kernel[0], n_k0)
    reads, cell = _taps(weights.acceleration, weights.kernel, shift), _missing_in_cell(weights.acceleration)
    between = _between(sampled, (first1, first2), weights).to(kspace.device)
    result = kspace.clone()
    n_rows = n2 - lowest
    for column, start in enumerate(starts):
        neighbours = []
        n_of_column = len(range(column, n_columns, period))
        for tap2, tap1 in reads:
            step1 = tap1 // r1
            row = before2 + lowest + (start + tap2 - starts[(column + step1) % period]) // r2
            first = before1 + column + step1
            last = first + (n_of_column - 1) * period + 1
            neighbours.append(padded[..., row : row + n_rows, first:last:period, :])
        filled = torch.cat(neighbours, -1).flatten(-3, -2) @ mixing
        filled = filled.reshape(*filled.shape[:-2], n_rows, n_of_column, len(cell), n_coils)
        filled = torch.fft.fft(
            filled.movedim(-5, -1).contiguous(), dim=-1
        )  # (*other, n2, n1, cell, coil, k0)
        for i, (o2, o1) in enumerate(cell):
            at2 = start + o2 + lowest * r2
            skipped = 1 if at2 < 0 else 0
            here = (
                ...,
                slice(at2 + skipped * r2, None, r2),
                slice(first1 + column * r1 + o1, None, r1 * period),
            )
            into = result[(*here, slice(None))]
            m2, m1 = into.shape[-3:-1]
            values = filled[..., skipped : skipped + m2, :m1, i, :, :].movedim(-2, -4)
            into.copy_(torch.where(between[here][..., None], values, into))
    return result


def sources_and_filled(weights: GrappaWeights, sampled: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The lines that `apply` reads, and those that it fills.

    Args:
        weights: from `calibrate`.
        sampled: ``(k2, k1)`` bool, which lines were acquired.

    Returns:
        Two masks ``(k2, k1)`` bool: the acquired lines of the lattice, and the missing ones that they surround.

    Raises:
        ShapeError: the lines do not form a regular lattice.
    """
    first = find_lattice(sampled, weights.acceleration, weights.shift)
    lattice = lattice_lines(sampled.shape, weights.acceleration, weights.shift, first)
    return sampled & lattice.to(sampled.device), _between(sampled, first, weights).to(sampled.device)


def kernels_by_offset(weights: GrappaWeights) -> tuple[torch.Tensor, torch.Tensor]:
    """The weights by how far the filled line is from the line that is read.

    Args:
        weights: of one image: ``values`` is ``(target, source)``.

    Returns:
        offsets ``(offset, 2)`` along k2 and k1, and kernels ``(offset, target coil, source coil, k0)``.
    """
    cell, n = _missing_in_cell(weights.acceleration), weights.n_coils
    reads = _taps(weights.acceleration, weights.kernel, weights.shift)
    offsets = [(o2 - tap2, o1 - tap1) for o2, o1 in cell for tap2, tap1 in reads]
    kernels = weights.values.reshape(len(cell), n, weights.kernel[0], len(reads), n).permute(0, 3, 1, 4, 2)
    return torch.tensor(offsets, device=weights.values.device), kernels.flatten(0, 1)


def _flat_if_2d(
    kernel: tuple[int, int, int], kspace: torch.Tensor, acceleration: tuple[int, int]
) -> tuple[int, int, int]:
    return (*kernel[:2], 1) if kspace.shape[-3] <= 1 and acceleration[1] == 1 else kernel


def _steps_before(n: int) -> int:
    """How many of a kernel's ``n`` lattice lines come before the one on which it sits."""
    return (n - 1) // 2


def _taps(acceleration: tuple[int, int], kernel: tuple[int, int, int], shift: int) -> list[tuple[int, int]]:
    """Where a kernel reads, as offsets ``(k2, k1)`` from the line on which it sits.

    Columns of a shifted lattice have no lines at the same k2: those are read that lie about the cell evenly.
    """
    (r1, r2), (_, w1, w2) = acceleration, kernel
    off_middle = r2 * (w2 - 1) / 2 - _steps_before(w2) * r2 - (r2 - 1) / 2
    taps = []
    for i2 in range(w2):
        for step1 in range(-_steps_before(w1), w1 - _steps_before(w1)):
            moved = step1 * shift % r2
            start = min((moved, moved - r2), key=lambda at: abs(at + off_middle))
            taps.append((start + (i2 - _steps_before(w2)) * r2, step1 * r1))
    return taps


def _extent(
    acceleration: tuple[int, int], kernel: tuple[int, int, int], shift: int
) -> tuple[tuple[int, int], tuple[int, int]]:
    """The lowest offset of a kernel, read or given, and the number of lines to the highest, along k2 and k1."""
    offsets = [*_taps(acceleration, kernel, shift), *_missing_in_cell(acceleration)]
    low2, low1 = (min(along) for along in zip(*offsets, strict=True))
    high2, high1 = (max(along) for along in zip(*offsets, strict=True))
    return (low2, high2 - low2 + 1), (low1, high1 - low1 + 1)


def _missing_in_cell(acceleration: tuple[int, int]) -> list[tuple[int, int]]:
    """Where the missing lines of a lattice cell lie, as offsets ``(k2, k1)`` from its acquired line."""
    r1, r2 = acceleration
    return [(o2, o1) for o2 in range(r2) for o1 in range(r1)][1:]


def _determination(
    acs: torch.Tensor, acceleration: tuple[int, int], kernel: tuple[int, int, int], shift: int
) -> float:
    """Equations for each weight."""
    n_coils, *sizes = acs.shape[-4:]
    spans = (*(span for _, span in _extent(acceleration, kernel, shift)), kernel[0])
    equations = math.prod(max(n - span + 1, 0) for n, span in zip(sizes, spans, strict=True))
    return equations / (n_coils * math.prod(kernel))


def _check_amount(
    acs: torch.Tensor,
    acceleration: tuple[int, int],
    kernel: tuple[int, int, int],
    shift: int,
    remedy: str = "acquire more, or use a smaller kernel",
) -> None:
    """Refuse calibration blocks that give fewer equations than there are weights per target."""
    n_coils, n_k2, n_k1, n_k0 = acs.shape[-4:]
    unknowns = n_coils * kernel[0] * kernel[1] * kernel[2]
    per_window = max(n_k0 - kernel[0] + 1, 0)
    (_, span2), (_, span1) = _extent(acceleration, kernel, shift)
    if _determination(acs, acceleration, kernel, shift) >= 1:
        return
    needed2 = max(n_k2, span2)
    per_line = max((needed2 - span2 + 1) * per_window, 1)
    needed1 = span1 - 1 + -(-unknowns // per_line)
    raise CalibrationError(
        f"GRAPPA calibration (ACS) block of {n_k1} k1 x {n_k2} k2 lines with {n_k0} samples is too small: "
        f"acceleration {acceleration[0]} x {acceleration[1]} with a kernel of {kernel} (k0, k1, k2) and "
        f"{n_coils} coils needs at least {needed1} x {needed2} fully sampled lines; {remedy}"
    )


def find_lattice(sampled: torch.Tensor, acceleration: tuple[int, int], shift: int = 0) -> tuple[int, int]:
    """The first k1 and k2 line of the regular lattice, told from calibration lines by its number of lines."""
    r1, r2 = acceleration
    mask = sampled.cpu()
    count, first1, first2 = max(
        (int((mask & lattice_lines(mask.shape, acceleration, shift, (o1, o2))).sum()), -o1, -o2)
        for o2 in range(r2)
        for o1 in range(r1)
    )
    first1, first2 = -first1, -first2
    # Of a shifted lattice the rows are not straight: an ellipse cuts gaps into them.
    rows = mask[:, first1::r1].mT if shift else mask[first2::r2, first1::r1]
    for number, row in enumerate(rows):
        on_lattice = row[(first2 + number * shift) % r2 :: r2] if shift else row
        lines = on_lattice.nonzero().flatten()
        if len(lines) and int(lines[-1] - lines[0]) + 1 != len(lines):
            found = describe_lines(mask.any(0).nonzero().flatten().tolist())
            shifted = f" with a shift of {shift}" if shift else ""
            raise ShapeError(
                f"GRAPPA at acceleration {r1} x {r2}{shifted} needs a regular lattice of lines; "
                f"found k1 lines {found}: irregular sampling is for CG-SENSE, pipeline 'sense'"
            )
    if count == 0:
        raise ShapeError("GRAPPA has no acquired line to start from: the sampling mask is empty")
    return first1, first2


def lattice_lines(
    shape: Sequence[int], acceleration: tuple[int, int], shift: int = 0, first: tuple[int, int] = (0, 0)
) -> torch.Tensor:
    """The lines ``(k2, k1)`` of a lattice that has a line at ``first`` ``(k1, k2)``.

    Args:
        shape: ``(k2, k1)``, number of lines.
        acceleration: ``(R1, R2)`` along k1 and k2.
        shift: lines along k2 by which it moves from one of its k1 lines to the next.
        first: position of one of its lines, along k1 and k2.
    """
    (r1, r2), (n2, n1) = acceleration, shape
    along1, along2 = torch.arange(n1) - first[0], torch.arange(n2)[:, None] - first[1]
    column = torch.div(along1, r1, rounding_mode="floor")
    return (along1 % r1 == 0) & ((along2 - column * shift) % r2 == 0)


def _between(sampled: torch.Tensor, first: tuple[int, int], weights: GrappaWeights) -> torch.Tensor:
    """The missing lines ``(k2, k1)`` that acquired ones of the lattice surround.

    Of the columns beside a line, the lattice lines before and behind must have been acquired; at the ends of a
    shifted lattice, where not all columns have a further line, the last one.
    """
    (r1, r2), shift, (first1, first2) = weights.acceleration, weights.shift, first
    mask = sampled.cpu()
    n2, n1 = mask.shape
    on_lattice = mask & lattice_lines((n2, n1), weights.acceleration, shift, first)
    rows = torch.nn.functional.pad(on_lattice, (0, 0, 0, -n2 % r2)).reshape(-1, r2, n1)
    acquired = rows.any(1)  # (row of the lattice, k1)
    starts = [(first2 + column * shift) % r2 for column in range(r2)]
    beyond = torch.nn.functional.pad(acquired, (0, 0, 1, 1))
    before, behind = acquired & beyond[:-2], acquired & beyond[2:]
    between = torch.empty(n2, n1, dtype=torch.bool)
    for k2 in range(n2):
        row, place = divmod(k2, r2)
        lines = before if place < min(starts) else behind if place > max(starts) else acquired
        between[k2] = lines[row]
    columns = between[:, first1::r1]
    result = torch.zeros_like(between)
    beside = torch.nn.functional.pad(columns[:, 1:], (0, 1))
    for o1 in range(r1):
        into = result[:, first1 + o1 :: r1]
        into.copy_((columns if o1 == 0 else columns & beside)[:, : into.shape[1]])
    return result & ~mask


def _longest_run(row: torch.Tensor) -> tuple[int, int]:
    """Start and length of the longest run of True."""
    best, start, length = 0, 0, 0
    for i, value in enumerate(row.tolist()):
        length = length + 1 if value else 0
        if length > best:
            best, start = length, i + 1 - length
    return start, best


def describe_lines(lines: list[int]) -> str:
    """Line numbers in few words: ``0..254 in steps of 2, 120..136``."""
    parts, start = [], 0
    while start < len(lines):
        stop = start + 1
        step = lines[stop] - lines[start] if stop < len(lines) else 1
        while stop < len(lines) and lines[stop] - lines[stop - 1] == step:
            stop += 1
        if stop - start > 2:
            steps = f" in steps of {step}" if step > 1 else ""
            parts.append(f"{lines[start]}..{lines[stop - 1]}{steps}")
        else:
            stop = start + 1
            parts.append(str(lines[start]))
        start = stop
    return ", ".join(parts) or "(none)"
