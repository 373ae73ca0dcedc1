"""Compressed sensing against conditions of a minimum, closed forms, and BART's ``pics``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from scanside.errors import ConfigError, ShapeError
from scanside.recon.compressed_sensing.descent import largest_eigenvalue
from scanside.recon.compressed_sensing.pics import Penalties, image_wavelet, penalty, pics
from scanside.recon.compressed_sensing.total_variation import TotalVariation
from scanside.recon.sense import SenseOperator
from scanside.recon.soft_threshold import soft_threshold_
from scanside.testing.adjoint import assert_adjoint


class Scan:
    """Boxes, seen by coils whose maps have Σ |map|² = 1, on a part of the lines."""

    def __init__(self, size: tuple[int, int], frames: int = 0, dtype: torch.dtype = torch.complex128) -> None:
        generator = torch.Generator().manual_seed(2)
        n1, n0 = size
        y, x = torch.meshgrid(torch.linspace(-1, 1, n1), torch.linspace(-1, 1, n0), indexing="ij")
        coils = [torch.exp(-((y - a) ** 2 + (x - b) ** 2)) for a, b in ((1, 1), (1, -1), (-1, 1), (-1, -1.2))]
        maps = torch.stack(coils)[:, None].to(dtype)
        self.maps = maps / maps.abs().square().sum(0).sqrt()
        image = torch.zeros(max(frames, 1), 1, n1, n0, dtype=dtype)
        image[..., n1 // 4 : -n1 // 4, n0 // 5 : -n0 // 5] = 1.0
        for t, frame in enumerate(image):
            frame[..., n1 // 3 + t : n1 // 2 + t, n0 // 2 : n0 // 2 + n0 // 8] = 0.4 + 0.2j
        self.truth = image if frames else image[0]
        self.mask = torch.rand(*((frames,) if frames else ()), 1, n1, generator=generator) < 0.35
        self.mask[..., n1 // 2 - 3 : n1 // 2 + 3] = True
        self.operator = SenseOperator(self.maps, self.mask)
        kspace = self.operator.forward(self.truth)
        noise = torch.randn(kspace.shape, dtype=dtype, generator=generator)
        self.kspace = (kspace + 0.02 * noise) * self.mask[..., None, :, :, None]
        self.right = self.operator.adjoint(self.kspace)

    def objective(self, image: torch.Tensor, penalties: Penalties, **settings: Any) -> float:
        left = self.operator.forward(image) - self.kspace
        return 0.5 * float(left.abs().square().sum()) + penalty(image, penalties, **settings)


def nrmse(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


def test_wavelets_reach_the_minimum() -> None:
    """There, W Aᴴ (y − A x) is λ times the sign of W x, or smaller where W x is zero."""
    scan, weight = Scan((32, 48)), 0.03
    wavelet = image_wavelet((1, 32, 48), "db2")
    result = pics(
        scan.operator.normal,
        scan.right,
        Penalties(wavelet=weight),
        wavelet=wavelet,
        tolerance=1e-9,
        max_iterations=1000,
    )
    assert result.converged
    assert result.iterations < 600
    (shift,) = wavelet.shifts(1)
    coefficients = wavelet.forward(result.solution.roll(shift, (0, 1, 2)))
    force = wavelet.forward((scan.right - scan.operator.normal(result.solution)).roll(shift, (0, 1, 2)))
    zero = coefficients.abs() < 1e-9
    assert 0.3 < float(zero.double().mean()) < 1
    assert float(force[zero].abs().max()) <= weight * (1 + 1e-5)
    torch.testing.assert_close(force[~zero], weight * coefficients[~zero].sgn(), rtol=1e-3, atol=1e-5)


def test_sparse_beats_least_squares() -> None:
    scan = Scan((48, 48))
    wavelet = image_wavelet((1, 48, 48), "db2")

    def error(shifts: int) -> float:
        found = pics(
            scan.operator.normal,
            scan.right,
            Penalties(wavelet=0.02),
            wavelet=wavelet,
            shifts=shifts,
            tolerance=1e-4,
            max_iterations=60,
        )
        return nrmse(found.solution, scan.truth)

    assert error(4) < error(1) < 0.7 * nrmse(scan.right, scan.truth)


@pytest.mark.parametrize("size", [(45, 38), (30, 50)])
def test_sizes_that_do_not_halve(size: tuple[int, int]) -> None:
    """What was added makes hardly a difference to an object that ends before the edge."""
    scan = Scan(size)
    wavelet = image_wavelet((1, *size), "db2")
    assert wavelet.shape != (1, *size)
    found = pics(
        scan.operator.normal,
        scan.right,
        Penalties(wavelet=0.02, tv=0.005),
        wavelet=wavelet,
        tolerance=1e-4,
        max_iterations=150,
    )
    assert found.solution.shape == (1, *size)
    assert nrmse(found.solution, scan.truth) < 0.1


def test_total_variation_takes_a_known_step_off_plateaus() -> None:
    """Around a circle of two plateaus of m voxels, each comes closer to the other by 2 λ / m."""
    image = torch.ones(1, 1, 32, dtype=torch.complex128)
    image[..., 16:] = 3
    found = pics(
        torch.clone, image, Penalties(tv=0.8), wavelet=None, tolerance=1e-9, max_iterations=2000
    ).solution
    assert found[0, 0, 4].real == pytest.approx(1.1, abs=1e-4)
    assert found[0, 0, 20].real == pytest.approx(2.9, abs=1e-4)


def test_differences_and_their_adjoint() -> None:
    variation = TotalVariation(0.5, (-2, -1))
    assert_adjoint(variation.differences, variation.adjoint, (2, 7, 6), (2, 2, 7, 6))
    like = torch.zeros(2, 8, 6, dtype=torch.complex128)
    largest = largest_eigenvalue(lambda x: variation.adjoint(variation.differences(x)), like, 100)
    assert 0.95 * variation.bound < largest <= variation.bound * (1 + 1e-9)


def test_film_is_better_together() -> None:
    scan = Scan((32, 32), frames=8)
    apart = [
        pics(
            SenseOperator(scan.maps, mask).normal,
            right,
            Penalties(wavelet=0.02),
            wavelet=image_wavelet((1, 32, 32), "db2"),
            tolerance=1e-3,
            max_iterations=60,
        ).solution
        for right, mask in zip(scan.right, scan.mask, strict=True)
    ]
    film = pics(
        scan.operator.normal,
        scan.right,
        Penalties(wavelet=0.01, temporal_tv=0.03),
        wavelet=image_wavelet((8, 1, 32, 32), "db2", film=True),
        film=True,
        tolerance=1e-3,
        max_iterations=100,
    ).solution
    assert nrmse(film, scan.truth) < 0.8 * nrmse(torch.stack(apart), scan.truth)


def test_volume() -> None:
    truth = torch.zeros(12, 16, 20, dtype=torch.complex128)
    truth[3:9, 4:12, 5:15] = 1
    mask = torch.rand(12, 16, generator=torch.Generator().manual_seed(1)) < 0.5
    mask[4:8, 6:10] = True
    operator = SenseOperator(torch.ones(1, 12, 16, 20, dtype=torch.complex128), mask)
    right = operator.adjoint(operator.forward(truth))
    found = pics(
        operator.normal,
        right,
        Penalties(wavelet=0.003, tv=0.01),
        wavelet=image_wavelet((12, 16, 20), "haar"),
        tolerance=1e-4,
        max_iterations=150,
    )
    assert nrmse(found.solution, truth) < 0.3 * nrmse(right, truth)


@pytest.mark.parametrize(
    ("penalties", "words", "limit"),
    [
        (Penalties(wavelet=0.02), ("-n", "-R", "W:3:0:0.02"), 1e-2),
        (Penalties(tv=0.02), ("-R", "T:3:0:0.02"), 2e-2),
    ],
    ids=["wavelet", "tv"],
)
def test_image_is_barts(run_bart: Any, penalties: Penalties, words: tuple[str, ...], limit: float) -> None:
    scan = Scan((64, 64), dtype=torch.complex64)
    theirs = torch.from_numpy(
        np.array(
            run_bart("pics", "-w1", *words, "-i400", scan.kspace.numpy(), scan.maps.numpy())[0], np.complex64
        )
    )
    wavelet = image_wavelet((1, 64, 64), "db2") if penalties.wavelet else None
    ours = pics(
        scan.operator.normal, scan.right, penalties, wavelet=wavelet, tolerance=1e-6, max_iterations=800
    ).solution
    if wavelet is not None:
        # BART's FISTA ends with a step of 0.95 along the gradient, and its threshold is left out: taken here.
        (shift,) = wavelet.shifts(1)
        moved = wavelet.forward(theirs.roll(shift, (0, 1, 2)))
        theirs = wavelet.inverse(soft_threshold_(moved, 0.95 * penalties.wavelet))
        theirs = theirs.roll([-distance for distance in shift], (0, 1, 2))
    assert nrmse(ours, theirs) < limit
    settings = {"wavelet": wavelet}
    mine, other = (scan.objective(one, penalties, **settings) for one in (ours, theirs))
    assert mine < 1.01 * other


def test_what_cannot_be_is_told() -> None:
    with pytest.raises(ConfigError, match="all weights are 0: this is SENSE"):
        Penalties()
    with pytest.raises(ConfigError, match="must be 0 or more"):
        Penalties(wavelet=-0.1)
    with pytest.raises(ConfigError, match="must be 0 or more"):
        Penalties(tv=float("nan"))
    with pytest.raises(ShapeError, match="halves axes of 16 voxels or more, and there is none"):
        image_wavelet((1, 12, 10), "db2")
    image = torch.zeros(1, 32, 32, dtype=torch.complex64)
    with pytest.raises(ConfigError, match="needs a film of two frames"):
        pics(torch.clone, image, Penalties(temporal_tv=0.1), wavelet=None, tolerance=0.1, max_iterations=1)


@pytest.mark.cuda
def test_cuda_gives_the_same() -> None:
    scan = Scan((32, 48))
    wavelet, penalties = image_wavelet((1, 32, 48), "db2"), Penalties(wavelet=0.02, tv=0.01)
    settings: dict[str, Any] = {"wavelet": wavelet, "shifts": 2, "tolerance": 1e-6, "max_iterations": 50}
    here = pics(scan.operator.normal, scan.right, penalties, **settings).solution
    operator = SenseOperator(scan.maps.cuda(), scan.mask.cuda())
    there = pics(operator.normal, scan.right.cuda(), penalties, **settings).solution
    torch.testing.assert_close(there.cpu(), here)
