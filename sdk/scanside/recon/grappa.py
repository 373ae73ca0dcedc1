"""GRAPPA: missing k-space lines as linear combinations of the acquired ones around them.

Griswold et al., *Generalized autocalibrating partially parallel acquisitions (GRAPPA)*, MRM 47:1202 (2002).

The regularly acquired lines form a lattice: every ``R1``-th line along k1, every ``R2``-th along k2. A kernel
sits on a lattice line, reads samples around it in all coils (its neighbours on the lattice along k1 and k2,
adjacent samples along k0), and gives the ``R1 R2 - 1`` missing lines of its lattice cell in all coils::

    k1   o  .  .  O  x  x  o  .  .  o  .  .  o      R1 = 3, kernel of 4 lines: it sits on O,
         |        |        |        |               reads the lines that are marked,
                                                    and gives the two x

`calibrate` learns the weights from a fully sampled block, `apply` fills the missing lines.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from scanside.errors import CalibrationError, ShapeError

__all__ = [
    "GrappaWeights",
    "apply",
    "calibrate",
    "calibration_block",
    "calibration_region",
    "describe_lines",
    "fitting_kernel",
    "kernels_by_offset",
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
    """

    values: torch.Tensor
    n_coils: int
    acceleration: tuple[int, int]
    kernel: tuple[int, int, int]


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
) -> torch.Tensor:
    """Cut the integrated calibration lines out of k-space, for `calibrate`.

    Args:
        kspace: ``(*other, coil, k2, k1, k0)`` complex64.
        sampled: ``(k2, k1)`` bool, which lines were acquired.
        acceleration: ``(R1, R2)`` along k1 and k2.
        kernel: number of samples that the kernel reads along k0, k1 and k2.

    Returns:
        A view ``(*other, coil, acs k2, acs k1, k0)``.

    Raises:
        CalibrationError: there are not enough lines side by side; says which lines were acquired.
    """
    along_k2, along_k1 = calibration_region(sampled)
    block = kspace[..., along_k2, along_k1, :]
    try:
        _check_amount(block, acceleration, _flat_if_2d(kernel, kspace, acceleration))
    except CalibrationError as error:
        k1, k2 = (describe_lines(sampled.any(axis).nonzero().flatten().tolist()) for axis in (0, 1))
        raise CalibrationError(f"{error}. Acquired were the k1 lines {k1} and the k2 lines {k2}") from None
    return block


def fitting_kernel(
    acs: torch.Tensor, acceleration: tuple[int, int], kernel: tuple[int, int, int] = DEFAULT_KERNEL
) -> tuple[int, int, int]:
    """The kernel, or where the calibration lines do not suffice for it, the largest one for which they do.

    A smaller kernel is one that the lines determine well: with twice as many equations as weights where there is such
    a one. It keeps lattice lines on both sides of the missing ones.

    Args:
        acs: ``(*other, coil, k2, k1, k0)``, fully sampled.
        acceleration: ``(R1, R2)`` along k1 and k2.
        kernel: number of samples to read along k0 (odd), k1 and k2.

    Raises:
        CalibrationError: there are too few lines for any kernel.
    """
    kernel = _flat_if_2d(kernel, acs, acceleration)
    if _determination(acs, acceleration, kernel) >= 1:
        return kernel
    least1, least2 = (min(n, 2) if r > 1 else 1 for n, r in zip(kernel[1:], acceleration, strict=True))
    smaller = [
        (w0, w1, w2)
        for w0 in range(1, kernel[0] + 1, 2)
        for w1 in range(least1, kernel[1] + 1)
        for w2 in range(least2, kernel[2] + 1)
    ]
    for enough in (2, 1):
        fitting = [small for small in smaller if _determination(acs, acceleration, small) >= enough]
        if fitting:
            return max(fitting, key=lambda w: (w[0] * w[1] * w[2], w[1], w[2]))
    _check_amount(acs, acceleration, (1, least1, least2), remedy="acquire more")
    return kernel


def calibrate(
    acs: torch.Tensor,
    acceleration: tuple[int, int],
    kernel: tuple[int, int, int] = DEFAULT_KERNEL,
    regularisation: float = 5e-4,
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
    _check_amount(acs, acceleration, kernel)

    (r1, r2), (w0, w1, w2) = acceleration, kernel
    n_windows1 = acs.shape[-2] - _span(w1, r1) + 1
    n_windows2 = acs.shape[-3] - _span(w2, r2) + 1
    lines = acs.movedim(-4, -1)  # (*other, k2, k1, k0, coil)

    def nth_of_window(n2: int, n1: int) -> torch.Tensor:
        """The n-th line of every window along k2 and k1: ``(*other, window, k0, coil)``."""
        return lines[..., n2 : n2 + n_windows2, n1 : n1 + n_windows1, :, :].flatten(-4, -3)

    sources = [nth_of_window(i2 * r2, i1 * r1) for i2 in range(w2) for i1 in range(w1)]
    base1, base2 = _steps_before(w1) * r1, _steps_before(w2) * r2
    targets = [nth_of_window(base2 + o2, base1 + o1) for o2, o1 in _missing_in_cell(acceleration)]
    if not targets:
        raise ShapeError("GRAPPA at acceleration 1 x 1 has nothing to fill: leave it out")
    normal, rhs = _normal_equations(torch.cat(sources, -1), torch.cat(targets, -1), w0)

    diagonal = normal.diagonal(dim1=-2, dim2=-1)
    mean_eigenvalue = diagonal.real.mean(-1, keepdim=True)
    diagonal += regularisation * mean_eigenvalue
    factor, failed = torch.linalg.cholesky_ex(normal)
    if bool(failed.any()):
        raise CalibrationError(
            f"GRAPPA calibration data {tuple(acs.shape)} give no solution: they are zero or not finite, "
            "or the regularisation is too small"
        )
    values = torch.cholesky_solve(rhs, factor).mT.contiguous()
    return GrappaWeights(values, acs.shape[-4], acceleration, kernel)


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
    (r1, r2), (w0, w1, w2) = weights.acceleration, weights.kernel
    first1, first2 = _find_lattice(sampled, weights.acceleration)
    on_lattice = sampled[first2::r2, first1::r1].to(kspace.device)
    n2, n1 = on_lattice.shape

    # Sources: lattice lines in (x, k2, k1) with coils last, zeros around them.
    hybrid = torch.fft.ifft(kspace[..., first2::r2, first1::r1, :], dim=-1)
    before1, before2 = _steps_before(w1), _steps_before(w2)
    padded = hybrid.new_zeros(*hybrid.shape[:-4], n_k0, n2 + w2 - 1, n1 + w1 - 1, n_coils)
    padded[..., before2 : before2 + n2, before1 : before1 + n1, :] = hybrid.movedim((-1, -4), (-4, -1))
    neighbours = padded.unfold(-3, w2, 1).unfold(-3, w1, 1)  # (*other, x, n2, n1, coil, w2, w1)
    neighbours = neighbours.movedim(-3, -1).flatten(-3).flatten(-3, -2)  # (*other, x, n2 n1, w2 w1 coil)

    # Shifts along k0 are phase ramps along x, so every x has one small matrix from sources to targets.
    position = torch.arange(n_k0, device=kspace.device, dtype=torch.float64)[:, None]
    shift = torch.arange(w0, device=kspace.device, dtype=torch.float64) - w0 // 2
    ramps = torch.exp(-2j * torch.pi / n_k0 * position * shift).to(kspace.dtype)
    by_shift = weights.values.reshape(*weights.values.shape[:-1], w0, -1)
    mixing = torch.einsum("xd,...tdp->...xpt", ramps, by_shift)

    cell = _missing_in_cell(weights.acceleration)
    filled = neighbours @ mixing
    filled = filled.reshape(*filled.shape[:-2], n2, n1, len(cell), n_coils)
    filled = torch.fft.fft(filled.movedim(-5, -1).contiguous(), dim=-1)  # (*other, n2, n1, cell, coil, k0)

    result = kspace.clone()
    missing = sources_and_filled(sampled, weights.acceleration)[1].to(kspace.device)
    for i, (o2, o1) in enumerate(cell):
        into = result[..., first2 + o2 :: r2, first1 + o1 :: r1, :]
        m2, m1 = into.shape[-3:-1]
        values = filled[..., :m2, :m1, i, :, :].movedim(-2, -4)
        into.copy_(torch.where(missing[first2 + o2 :: r2, first1 + o1 :: r1, None], values, into))
    return result


def sources_and_filled(
    sampled: torch.Tensor, acceleration: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The lines that `apply` reads, and those that it fills.

    Args:
        sampled: ``(k2, k1)`` bool, which lines were acquired.
        acceleration: ``(R1, R2)`` along k1 and k2.

    Returns:
        Two masks ``(k2, k1)`` bool: the acquired lines of the lattice, and the missing ones that they surround.

    Raises:
        ShapeError: the lines do not form a regular lattice.
    """
    r1, r2 = acceleration
    first1, first2 = _find_lattice(sampled, acceleration)
    sources, filled = torch.zeros_like(sampled), torch.zeros_like(sampled)
    on_lattice = sampled[first2::r2, first1::r1]
    sources[first2::r2, first1::r1] = on_lattice
    for o2, o1 in _missing_in_cell(acceleration):
        into = filled[first2 + o2 :: r2, first1 + o1 :: r1]
        into.copy_(_surrounded(on_lattice, o2, o1)[: into.shape[0], : into.shape[1]])
    return sources, filled & ~sampled


def kernels_by_offset(weights: GrappaWeights) -> tuple[torch.Tensor, torch.Tensor]:
    """The weights by how far the filled line is from the line that is read.

    Args:
        weights: of one image: ``values`` is ``(target, source)``.

    Returns:
        offsets ``(offset, 2)`` along k2 and k1, and kernels ``(offset, target coil, source coil, k0)``.
    """
    (r1, r2), (w0, w1, w2) = weights.acceleration, weights.kernel
    cell, n = _missing_in_cell(weights.acceleration), weights.n_coils
    offsets = [
        (o2 - (i2 - _steps_before(w2)) * r2, o1 - (i1 - _steps_before(w1)) * r1)
        for o2, o1 in cell
        for i2 in range(w2)
        for i1 in range(w1)
    ]
    kernels = weights.values.reshape(len(cell), n, w0, w2, w1, n).permute(0, 3, 4, 1, 5, 2)
    return torch.tensor(offsets, device=weights.values.device), kernels.flatten(0, 2)


def _flat_if_2d(
    kernel: tuple[int, int, int], kspace: torch.Tensor, acceleration: tuple[int, int]
) -> tuple[int, int, int]:
    return (*kernel[:2], 1) if kspace.shape[-3] <= 1 and acceleration[1] == 1 else kernel


def _steps_before(n: int) -> int:
    """How many of a kernel's ``n`` lattice lines come before the one on which it sits."""
    return (n - 1) // 2


def _span(n: int, r: int) -> int:
    """The number of lines from a kernel's first line, read or given, to its last."""
    return max((n - 1) * r + 1, (_steps_before(n) + 1) * r)


def _missing_in_cell(acceleration: tuple[int, int]) -> list[tuple[int, int]]:
    """Where the missing lines of a lattice cell lie, as offsets ``(k2, k1)`` from its acquired line."""
    r1, r2 = acceleration
    return [(o2, o1) for o2 in range(r2) for o1 in range(r1)][1:]


def _normal_equations(
    sources: torch.Tensor, targets: torch.Tensor, w0: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """``Aᴴ A`` and ``Aᴴ B`` of the equations ``A x = B``.

    A row of ``A`` holds ``w0`` adjacent k0 samples of one window, a row of ``B`` the targets at their middle.
    ``Aᴴ A`` is made of ``w0 x w0`` blocks, one per pair of shifts along k0. Block ``(a + 1, b + 1)`` sums the
    same products as block ``(a, b)`` but for one sample at each end of the readout, so only the first row of
    blocks is computed in full: ``w0`` times less work.

    Args:
        sources: ``(*other, window, k0, source line and coil)``.
        targets: ``(*other, window, k0, target)``.
        w0: the kernel's length along k0.

    Returns:
        ``(*other, source, source)`` and ``(*other, source, target)``, sources ordered (k0, line, coil).
    """
    n = sources.shape[-2] - w0 + 1
    p = sources.shape[-1]
    a = sources.unfold(-2, w0, 1).mT.flatten(-2).flatten(-3, -2)  # (*other, equation, w0 p)
    b = targets[..., w0 // 2 : w0 // 2 + n, :].flatten(-3, -2)
    products = torch.cat([a[..., :p], b], -1).mH @ a
    rhs = products[..., p:, :].mH

    first, last = sources[..., : w0 - 1, :].flatten(-2), sources[..., n:, :].flatten(-2)
    step = last.mH @ last - first.mH @ first  # what block (a, b) has to gain to become (a + 1, b + 1)
    normal = products.new_empty(*products.shape[:-2], w0 * p, w0 * p)
    normal[..., :p, :] = products[..., :p, :]
    for i in range(1, w0):
        now, before = slice(i * p, (i + 1) * p), slice((i - 1) * p, i * p)
        normal[..., now, i * p :] = normal[..., before, (i - 1) * p : -p] + step[..., before, (i - 1) * p :]
        normal[..., now, : i * p] = normal[..., : i * p, now].mH
    return normal, rhs


def _determination(acs: torch.Tensor, acceleration: tuple[int, int], kernel: tuple[int, int, int]) -> float:
    """Equations for each weight."""
    n_coils, *sizes = acs.shape[-4:]
    spans = (_span(kernel[2], acceleration[1]), _span(kernel[1], acceleration[0]), kernel[0])
    equations = math.prod(max(n - span + 1, 0) for n, span in zip(sizes, spans, strict=True))
    return equations / (n_coils * math.prod(kernel))


def _check_amount(
    acs: torch.Tensor,
    acceleration: tuple[int, int],
    kernel: tuple[int, int, int],
    remedy: str = "acquire more, or use a smaller kernel",
) -> None:
    """Refuse calibration blocks that give fewer equations than there are weights per target."""
    n_coils, n_k2, n_k1, n_k0 = acs.shape[-4:]
    unknowns = n_coils * kernel[0] * kernel[1] * kernel[2]
    per_window = max(n_k0 - kernel[0] + 1, 0)
    span1, span2 = _span(kernel[1], acceleration[0]), _span(kernel[2], acceleration[1])
    if _determination(acs, acceleration, kernel) >= 1:
        return
    needed2 = max(n_k2, span2)
    per_line = max((needed2 - span2 + 1) * per_window, 1)
    needed1 = span1 - 1 + -(-unknowns // per_line)
    raise CalibrationError(
        f"GRAPPA calibration (ACS) block of {n_k1} k1 x {n_k2} k2 lines with {n_k0} samples is too small: "
        f"acceleration {acceleration[0]} x {acceleration[1]} with a kernel of {kernel} (k0, k1, k2) and "
        f"{n_coils} coils needs at least {needed1} x {needed2} fully sampled lines; {remedy}"
    )


def _find_lattice(sampled: torch.Tensor, acceleration: tuple[int, int]) -> tuple[int, int]:
    """The first k1 and k2 line of the regular lattice, told from calibration lines by its number of lines."""
    r1, r2 = acceleration
    mask = sampled.cpu()
    count, first1, first2 = max(
        (int(mask[o2::r2, o1::r1].sum()), -o1, -o2) for o2 in range(r2) for o1 in range(r1)
    )
    first1, first2 = -first1, -first2
    for row in mask[first2::r2, first1::r1]:
        lines = row.nonzero().flatten()
        if len(lines) and int(lines[-1] - lines[0]) + 1 != len(lines):
            found = describe_lines(mask.any(0).nonzero().flatten().tolist())
            raise ShapeError(
                f"GRAPPA at acceleration {r1} x {r2} needs a regular lattice of lines; "
                f"found k1 lines {found}: irregular sampling is for CG-SENSE, pipeline 'sense'"
            )
    if count == 0:
        raise ShapeError("GRAPPA has no acquired line to start from: the sampling mask is empty")
    return first1, first2


def _surrounded(on_lattice: torch.Tensor, o2: int, o1: int) -> torch.Tensor:
    """Cells in which the lattice lines around the missing line ``(o2, o1)`` were all acquired."""
    beyond = torch.nn.functional.pad(on_lattice, (0, 1, 0, 1))
    n2, n1 = on_lattice.shape
    where = on_lattice
    for step2, step1 in {(0, min(o1, 1)), (min(o2, 1), 0), (min(o2, 1), min(o1, 1))}:
        where = where & beyond[step2 : step2 + n2, step1 : step1 + n1]
    return where


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
