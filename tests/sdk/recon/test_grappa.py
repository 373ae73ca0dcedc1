"""GRAPPA against a plain loop over its definition, an exact toy problem and Gadgetron's recorded result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from scanside.errors import CalibrationError, ShapeError
from scanside.recon import grappa
from scanside.recon.coil_maps import calibration_images, inati
from scanside.recon.combine import combine_with_maps
from scanside.recon.filters import apply_window, gaussian
from scanside.recon.fourier import to_image, to_kspace
from scanside.recon.noise import whiten
from scanside.recon.resize import crop_or_pad, remove_oversampling

CASES = {
    "R=3 x 1, 2-D": ((3, 1, 23, 12), (3, 1), (3, 4, 1)),
    "R=2 x 2": ((2, 7, 7, 12), (2, 2), (3, 2, 2)),
    "R=1 x 2": ((2, 6, 9, 12), (1, 2), (5, 1, 3)),
    "R=3 x 2, one line read": ((2, 6, 9, 12), (3, 2), (1, 2, 1)),
}


class Loop:
    """Where a kernel reads and what it gives, position by position."""

    def __init__(self, acceleration: tuple[int, int], kernel: tuple[int, int, int], shift: int = 0) -> None:
        r1, r2 = acceleration
        w0, w1, w2 = kernel
        if shift:
            self._of_shifted(r1, r2, kernel, shift)
            return
        taps1 = [(i - (w1 - 1) // 2) * r1 for i in range(w1)]
        taps2 = [(i - (w2 - 1) // 2) * r2 for i in range(w2)]
        taps0 = range(-(w0 // 2), w0 // 2 + 1)
        self.sources = [(d2, d1, d0) for d0 in taps0 for d2 in taps2 for d1 in taps1]
        self.targets = [(o2, o1) for o2 in range(r2) for o1 in range(r1) if (o2, o1) != (0, 0)]

    def _of_shifted(self, r1: int, r2: int, kernel: tuple[int, int, int], shift: int) -> None:
        """In each column the lines of the lattice whose mean lies nearest to that of the cell."""
        w0, w1, w2 = kernel
        self.sources = []
        for d0 in range(-(w0 // 2), w0 // 2 + 1):
            columns = []
            for step in range(-((w1 - 1) // 2), w1 - (w1 - 1) // 2):
                on_it = [d2 for d2 in range(-9 * r2, 9 * r2) if (d2 - step * shift) % r2 == 0]
                runs = [on_it[i : i + w2] for i in range(len(on_it) - w2)]
                best = min(runs, key=lambda run: (abs(sum(run) / w2 - (r2 - 1) / 2), -run[0]))
                columns.append([(d2, step * r1, d0) for d2 in best])
            self.sources += [column[i] for i in range(w2) for column in columns]
        self.targets = [(o2, o1) for o2 in range(r2) for o1 in range(r1) if (o2, o1) != (0, 0)]

    def equations(self, acs: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        _, n2, n1, n0 = acs.shape
        for y2, y1, x in np.ndindex(n2, n1, n0):
            reads = [(y2 + d2, y1 + d1, x + d0) for d2, d1, d0 in self.sources]
            gives = [(y2 + o2, y1 + o1, x) for o2, o1 in self.targets]
            if all(0 <= a < n2 and 0 <= b < n1 and 0 <= c < n0 for a, b, c in reads + gives):
                yield (
                    torch.cat([acs[(slice(None), *p)] for p in reads]),
                    torch.cat([acs[(slice(None), *p)] for p in gives]),
                )


@pytest.mark.parametrize(("shape", "acceleration", "kernel"), CASES.values(), ids=CASES)
def test_weights_solve_the_regularised_least_squares_problem(
    shape: tuple[int, ...], acceleration: tuple[int, int], kernel: tuple[int, int, int]
) -> None:
    acs = torch.randn(2, *shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(1))
    weights = grappa.calibrate(acs, acceleration, kernel, regularisation=0.01)
    for frame in range(2):
        sources, targets = map(
            torch.stack, zip(*Loop(acceleration, kernel).equations(acs[frame]), strict=True)
        )
        damping = (0.01 * sources.square().abs().sum() / sources.shape[1]).sqrt()
        a = torch.cat([sources, damping * torch.eye(sources.shape[1], dtype=sources.dtype)])
        b = torch.cat([targets, torch.zeros(sources.shape[1], targets.shape[1], dtype=targets.dtype)])
        expected = torch.linalg.lstsq(a, b).solution.mT
        torch.testing.assert_close(weights.values[frame], expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("shape", "acceleration", "kernel"), CASES.values(), ids=CASES)
def test_filling_is_the_weighted_sum_around_every_missing_line(
    shape: tuple[int, ...], acceleration: tuple[int, int], kernel: tuple[int, int, int]
) -> None:
    generator = torch.Generator().manual_seed(2)
    (r1, r2), (n_coils, n2, n1, n0) = acceleration, shape
    first2, first1 = n2 % 2 % r2, 2 % r1
    lattice = torch.zeros(n2, n1, dtype=torch.bool)
    lattice[first2::r2, first1::r1] = True
    if n2 == 1:
        lattice[:, :3] = False  # a band that starts and ends inside the grid
        lattice[:, -3:] = False
    sampled = lattice.clone()
    sampled[n2 // 2, n1 // 2 - 1 : n1 // 2 + 1] = True  # a few calibration lines
    kspace = torch.randn(2, *shape, dtype=torch.complex128, generator=generator) * sampled[:, :, None]
    loop = Loop(acceleration, kernel)
    values = torch.randn(2, len(loop.targets) * n_coils, len(loop.sources) * n_coils, dtype=torch.complex128)
    weights = grappa.GrappaWeights(values, n_coils, acceleration, kernel)

    def is_on(y2: int, y1: int) -> bool:
        return 0 <= y2 < n2 and 0 <= y1 < n1 and bool(lattice[y2, y1])

    expected, n_filled = kspace.clone(), 0
    for y2, y1 in np.ndindex(n2, n1):
        for i, (o2, o1) in enumerate(loop.targets):
            at = y2 + o2, y1 + o1
            corners = [(y2 + s2, y1 + s1) for s2 in {0, r2 * (o2 > 0)} for s1 in {0, r1 * (o1 > 0)}]
            if not all(is_on(*corner) for corner in corners) or sampled[at]:
                continue
            n_filled += 1
            for x in range(n0):
                read = [
                    kspace[:, :, y2 + d2, y1 + d1, (x + d0) % n0]
                    if 0 <= y2 + d2 < n2 and 0 <= y1 + d1 < n1
                    else torch.zeros_like(kspace[:, :, 0, 0, 0])
                    for d2, d1, d0 in loop.sources
                ]
                given = values @ torch.cat(read, -1)[..., None]
                expected[(..., *at, x)] = given[:, i * n_coils : (i + 1) * n_coils, 0]
    assert n_filled > 4
    torch.testing.assert_close(grappa.apply(weights, kspace, sampled), expected)


SHIFTED = {
    "2 x 2, shift 1": ((2, 9, 9, 6), (2, 2), (3, 2, 2), 1),
    "2 x 3, shift 1": ((2, 10, 8, 5), (2, 3), (1, 3, 2), 1),
    "2 x 3, shift 2": ((2, 11, 8, 5), (2, 3), (1, 2, 2), 2),
    "3 x 2, shift 1": ((2, 9, 11, 5), (3, 2), (3, 2, 3), 1),
    "1 x 4, shift 2": ((2, 14, 7, 5), (1, 4), (1, 3, 2), 2),
}


@pytest.mark.parametrize(("shape", "acceleration", "kernel", "shift"), SHIFTED.values(), ids=SHIFTED)
def test_shifted_lattice(
    shape: tuple[int, ...], acceleration: tuple[int, int], kernel: tuple[int, int, int], shift: int
) -> None:
    """CAIPIRINHA: weights and filled lines are those of loops over all positions."""
    generator = torch.Generator().manual_seed(4)
    (r1, r2), (n_coils, n2, n1, n0) = acceleration, shape
    loop = Loop(acceleration, kernel, shift)
    acs = torch.randn(*shape, dtype=torch.complex128, generator=generator)
    weights = grappa.calibrate(acs, acceleration, kernel, 0.01, shift)
    sources, targets = map(torch.stack, zip(*loop.equations(acs), strict=True))
    damping = (0.01 * sources.square().abs().sum() / sources.shape[1]).sqrt()
    a = torch.cat([sources, damping * torch.eye(sources.shape[1], dtype=sources.dtype)])
    b = torch.cat([targets, torch.zeros(sources.shape[1], targets.shape[1], dtype=targets.dtype)])
    expected = torch.linalg.lstsq(a, b).solution.mT
    torch.testing.assert_close(weights.values, expected, rtol=1e-8, atol=1e-8)

    first1 = 1 % r1
    lattice = grappa.lattice_lines((n2, n1), acceleration, shift, (first1, 1))
    assert [(k2, k1) for k2, k1 in np.ndindex(n2, n1) if lattice[k2, k1]] == [
        (k2, k1)
        for k2, k1 in np.ndindex(n2, n1)
        if (k1 - first1) % r1 == 0 and (k2 - 1 - shift * ((k1 - first1) // r1)) % r2 == 0
    ]
    sampled = lattice.clone()
    sampled[n2 // 2, n1 // 2 - 1 : n1 // 2 + 1] = True
    measured = acs * sampled[:, :, None]
    filled = grappa.apply(weights, measured, sampled)
    assert torch.equal(filled[:, sampled], measured[:, sampled])
    n_filled = 0
    for y2, y1 in np.ndindex(2 * n2, n1):
        y2 -= n2
        if (y1 - first1) % r1 or (y2 - 1 - shift * ((y1 - first1) // r1)) % r2:
            continue
        for i, (o2, o1) in enumerate(loop.targets):
            at2, at1 = y2 + o2, y1 + o1
            inside = 0 <= at2 < n2 and at1 < n1
            if not inside or sampled[at2, at1] or not filled[:, at2, at1].any():
                continue
            n_filled += 1
            for x in range(n0):
                read = [
                    measured[:, y2 + d2, y1 + d1, (x + d0) % n0]
                    if 0 <= y2 + d2 < n2 and 0 <= y1 + d1 < n1 and lattice[y2 + d2, y1 + d1]
                    else torch.zeros_like(measured[:, 0, 0, 0])
                    for d2, d1, d0 in loop.sources
                ]
                given = weights.values @ torch.cat(read)
                torch.testing.assert_close(
                    filled[:, at2, at1, x], given[i * n_coils : (i + 1) * n_coils], rtol=1e-8, atol=1e-8
                )
    missing = int((~sampled[:, first1:]).sum())
    assert n_filled > 0.7 * missing


def test_ends_of_a_shifted_lattice_are_filled() -> None:
    """Not every column begins with a line, but rows at the ends are as full as others."""
    kspace, _ = smooth_coils((18, 24, 8), 4)
    sampled = grappa.lattice_lines((18, 24), (2, 3), 1)
    filled = grappa.apply(
        grappa.calibrate(kspace, (2, 3), (3, 2, 2), shift=1), kspace * sampled[:, :, None], sampled
    )
    assert bool(filled[0, :, :23].abs().amin(-1).gt(0).all())


def smooth_coils(shape: tuple[int, int, int], n_coils: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Coil images of a random object, and their k-space; the maps have 3 Fourier coefficients per axis."""
    generator = torch.Generator().manual_seed(3)
    few = torch.randn(n_coils, *(min(n, 3) for n in shape), dtype=torch.complex64, generator=generator)
    maps = to_image(crop_or_pad(few, shape, (-3, -2, -1)), (-3, -2, -1))
    kspace = to_kspace(maps * torch.randn(shape, dtype=torch.complex64, generator=generator), (-3, -2, -1))
    return kspace, maps


@pytest.mark.parametrize(
    ("shape", "acceleration"), [((1, 48, 32), (2, 1)), ((1, 48, 32), (3, 1)), ((16, 24, 24), (2, 2))]
)
def test_smooth_coils_make_missing_lines_predictable(
    shape: tuple[int, int, int], acceleration: tuple[int, int]
) -> None:
    kspace = smooth_coils(shape, 16)[0].to(torch.complex128)
    (r1, r2), (n2, n1, _) = acceleration, shape
    sampled = torch.zeros(n2, n1, dtype=torch.bool)
    sampled[::r2, ::r1] = True
    weights = grappa.calibrate(kspace, acceleration, (5, 4, 2 if n2 > 1 else 1), regularisation=1e-9)
    filled = grappa.apply(weights, kspace * sampled[:, :, None], sampled)
    # Away from the edges, where the kernel reads zeros.
    inner = (..., slice(4, -4) if n2 > 1 else slice(None), slice(8, -8), slice(4, -4))
    error = (filled - kspace)[inner].norm() / kspace[inner].norm()
    assert error < 2e-2
    assert (kspace * ~sampled[:, :, None])[inner].norm() / kspace[inner].norm() > 0.5  # what was to be filled


def test_acquired_lines_stay_and_nothing_grows_beyond_the_band() -> None:
    kspace, _ = smooth_coils((1, 48, 16), 8)
    sampled = torch.zeros(1, 48, dtype=torch.bool)
    sampled[:, 7:38:3] = True
    sampled[:, 20:29] = True
    measured = kspace * sampled[:, :, None]
    weights = grappa.calibrate(kspace, (3, 1))
    filled = grappa.apply(weights, measured, sampled)
    assert torch.equal(filled[:, sampled], measured[:, sampled])
    assert not filled[:, :, :7].any()
    assert not filled[:, :, 38:].any()
    assert filled[:, 0, 7:38].abs().amin((0, 2)).gt(0).all()


def test_single_precision_is_enough() -> None:
    kspace, _ = smooth_coils((1, 48, 64), 8)
    # A dynamic range as in measured k-space: the centre a thousand times stronger than the edge.
    distance = (torch.arange(48)[:, None] - 24).square() / 24**2 + (torch.arange(64) - 32).square() / 32**2
    kspace = kspace * torch.exp(-3.5 * distance)
    single = grappa.calibrate(kspace, (2, 1)).values
    double = grappa.calibrate(kspace.to(torch.complex128), (2, 1)).values
    assert (single - double).norm() / double.norm() < 1e-3


def test_weights_do_not_depend_on_the_scale_of_the_data() -> None:
    kspace, _ = smooth_coils((1, 24, 32), 4)
    small = grappa.calibrate(kspace * 2**-20, (2, 1)).values
    assert torch.equal(small, grappa.calibrate(kspace, (2, 1)).values)


def test_integrated_calibration_lines_are_found() -> None:
    sampled = torch.zeros(9, 40, dtype=torch.bool)
    sampled[::2, 1::3] = True
    sampled[3:6, 12:25] = True
    assert grappa.calibration_region(sampled) == (slice(3, 6), slice(12, 25))
    assert grappa.calibration_region(torch.zeros(2, 5, dtype=torch.bool)) == (slice(0, 0), slice(0, 0))


def test_missing_calibration_lines_are_an_error_that_names_the_acquired_ones() -> None:
    sampled = torch.zeros(1, 256, dtype=torch.bool)
    sampled[:, ::2] = True
    sampled[:, 121] = True
    kspace = torch.zeros(8, 1, 256, 64, dtype=torch.complex64)
    with pytest.raises(CalibrationError) as error:
        grappa.calibration_block(kspace, sampled, (2, 1))
    # 8 coils x 5 x 4 = 160 weights; a line position gives 60 equations; the kernel spans 7 lines.
    assert "3 k1 x 1 k2 lines" in str(error.value)
    assert "at least 9 x 1" in str(error.value)
    assert "k1 lines 0..120 in steps of 2, 121, 122..254 in steps of 2 and the k2 lines 0" in str(error.value)
    sampled[:, 120:128] = True
    with pytest.raises(CalibrationError, match="9 k1"):
        grappa.calibration_block(kspace[..., :40], sampled, (2, 1))
    assert grappa.calibration_block(kspace, sampled, (2, 1)).shape == (8, 1, 9, 64)


def test_empty_or_broken_calibration_data_are_an_error() -> None:
    acs = torch.zeros(4, 1, 24, 32, dtype=torch.complex64)
    with pytest.raises(CalibrationError, match="zero or not finite"):
        grappa.calibrate(acs, (2, 1))
    acs[0, 0, 3, 4] = float("nan")
    with pytest.raises(CalibrationError, match="zero or not finite"):
        grappa.calibrate(acs, (2, 1))


def test_what_does_not_fit_is_an_error() -> None:
    kspace, _ = smooth_coils((1, 24, 32), 4)
    weights = grappa.calibrate(kspace, (2, 1))
    sampled = torch.zeros(1, 24, dtype=torch.bool)
    with pytest.raises(ShapeError, match="empty"):
        grappa.apply(weights, kspace, sampled)
    sampled[:, [0, 2, 3, 8, 11, 12, 20]] = True
    with pytest.raises(ShapeError, match=r"regular lattice.*0, 2, 3, 8, 11, 12, 20"):
        grappa.apply(weights, kspace, sampled)
    with pytest.raises(ShapeError, match="mask"):
        grappa.apply(weights, kspace, sampled[:, :20])
    with pytest.raises(ShapeError, match="for 4 coils"):
        grappa.apply(weights, kspace[:3], sampled)
    with pytest.raises(ShapeError, match="odd"):
        grappa.calibrate(kspace, (2, 1), (4, 4, 1))
    with pytest.raises(ShapeError, match=r"R2 = 2 along k2 can be shifted by 0 to 1 lines, got 2"):
        grappa.calibrate(kspace, (2, 2), shift=2)
    with pytest.raises(ShapeError, match="nothing to fill"):
        grappa.calibrate(kspace, (1, 1))


@pytest.mark.cuda
def test_cuda_gives_the_same() -> None:
    kspace, _ = smooth_coils((16, 24, 24), 8)
    sampled = torch.zeros(16, 24, dtype=torch.bool)
    sampled[::2, ::2] = True
    weights = grappa.calibrate(kspace, (2, 2), (5, 2, 2))
    on_cuda = grappa.calibrate(kspace.cuda(), (2, 2), (5, 2, 2))
    filled = grappa.apply(on_cuda, kspace.cuda(), sampled.cuda())
    torch.testing.assert_close(filled.cpu(), grappa.apply(weights, kspace, sampled), rtol=1e-2, atol=1e-2)


# Real data: Gadgetron's recorded result of a Skyra scan, R = 3 with integrated calibration lines.


def nrmse(image: npt.ArrayLike, reference: npt.ArrayLike) -> float:
    """Of magnitudes after one scalar fit."""
    a, b = (
        np.abs(np.asarray(image)).astype(float).squeeze(),
        np.abs(np.asarray(reference)).astype(float).squeeze(),
    )
    return float(np.linalg.norm(a * (a * b).sum() / (a * a).sum() - b) / np.linalg.norm(b))


class Reconstructed:
    """The Skyra scan with this project's functions."""

    def __init__(self, lines: npt.NDArray[np.complex64], rows: npt.NDArray[np.int64]) -> None:
        n_coils, n_k0 = lines.shape[1:]
        self.kspace = torch.zeros(n_coils, 1, 144, n_k0, dtype=torch.complex64)
        self.kspace[:, 0, rows] = torch.from_numpy(lines).movedim(0, 1)
        self.sampled = torch.zeros(1, 144, dtype=torch.bool)
        self.sampled[0, rows] = True
        self.maps = inati(calibration_images(self.kspace, grappa.calibration_region(self.sampled)))
        weights = grappa.calibrate(grappa.calibration_block(self.kspace, self.sampled, (3, 1)), (3, 1))
        self.filled = grappa.apply(weights, self.kspace, self.sampled)

    def image(self, kspace: torch.Tensor) -> torch.Tensor:
        return combine_with_maps(to_image(kspace), self.maps)


def gaussian_filtered(kspace: torch.Tensor) -> torch.Tensor:
    return apply_window(apply_window(kspace, gaussian(144, 18, 123), -2), gaussian(192, 0, 191), -1)


@pytest.fixture(scope="module")
def reconstructed(skyra: Any) -> Reconstructed:
    return Reconstructed(remove_oversampling(whiten(skyra.lines, skyra.whitening), 2), skyra.rows)


Recorded = Callable[[str, tuple[int, ...]], npt.NDArray[np.complex64]]


def test_skyra_scan_comes_out_as_gadgetron_has_it(
    reconstructed: Reconstructed, gadgetron_image: npt.NDArray[np.float64], recorded_array: Recorded
) -> None:
    unfiltered = recorded_array("grappa.image_array", (192, 144, 1, 1, 1, 1, 1))
    image = reconstructed.image(reconstructed.filled)
    assert nrmse(image, unfiltered) <= 0.012
    assert nrmse(image, gadgetron_image) <= 0.03
    assert nrmse(reconstructed.image(gaussian_filtered(reconstructed.filled)), gadgetron_image) <= 0.009


def test_skyra_scan_is_the_nearer_the_less_of_its_calibration_lines_is_in_the_image(
    reconstructed: Reconstructed, gadgetron_image: npt.NDArray[np.float64], recorded_array: Recorded
) -> None:
    """Gadgetron takes embedded calibration lines for calibration only; without them the match is closer."""
    lattice = torch.zeros_like(reconstructed.sampled)
    lattice[:, 18:124:3] = True
    weights = grappa.calibrate(
        grappa.calibration_block(reconstructed.kspace, reconstructed.sampled, (3, 1)), (3, 1)
    )
    filled = grappa.apply(weights, reconstructed.kspace * lattice[:, :, None], lattice)
    unfiltered = recorded_array("grappa.image_array", (192, 144, 1, 1, 1, 1, 1))
    assert nrmse(reconstructed.image(filled), unfiltered) <= 0.009
    assert nrmse(reconstructed.image(gaussian_filtered(filled)), gadgetron_image) <= 0.006


def test_skyra_bounds_bite(
    reconstructed: Reconstructed,
    skyra: Any,
    gadgetron_image: npt.NDArray[np.float64],
) -> None:
    zero_filled = reconstructed.image(reconstructed.kspace)
    assert nrmse(zero_filled, gadgetron_image) > 0.04
    unwhitened = Reconstructed(remove_oversampling(skyra.lines, 2), skyra.rows)
    assert nrmse(unwhitened.image(unwhitened.filled), gadgetron_image) > 0.06
    half_a_voxel = torch.exp(1j * torch.pi / 144 * (torch.arange(144) - 72))[:, None]
    shifted = combine_with_maps(to_image(reconstructed.filled * half_a_voxel), reconstructed.maps)
    assert nrmse(shifted, gadgetron_image) > 0.04


def test_grappa_alone_equals_gadgetrons(recorded_array: Recorded) -> None:
    """From Gadgetron's own whitened k-space, with its habit of filling two more kernel steps at the edges."""
    name = "grappa.recon_data_with_reference"
    data = torch.from_numpy(recorded_array(name, (192, 144, 1, 11, 1, 1, 1))[0, 0, 0].copy())
    reference = torch.from_numpy(recorded_array(name, (192, 48, 1, 11, 1, 1, 1))[0, 0, 0].copy())
    sampled = data.abs().sum((0, 3)) > 0
    assert sampled.nonzero()[:, 1].tolist() == list(range(18, 124, 3))
    weights = grappa.calibrate(reference, (3, 1))
    with_calibration = torch.zeros_like(data)
    with_calibration[:, :, 48:96] = reference
    maps = inati(calibration_images(with_calibration, (slice(0, 1), slice(48, 96))))
    expected = recorded_array("grappa.image_array", (192, 144, 1, 1, 1, 1, 1))
    sampled[:, [12, 15, 126, 129]] = True  # lines of zeros beyond the band
    filled = grappa.apply(weights, data, sampled)
    assert nrmse(combine_with_maps(to_image(filled), maps), expected) <= 0.005
