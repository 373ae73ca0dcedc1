"""SPIRiT against convolutions in k-space, a dense solution in double precision, and the truth."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
import torch

from scanside.errors import CalibrationError, ShapeError
from scanside.recon.compressed_sensing.descent import largest_eigenvalue
from scanside.recon.compressed_sensing.pics import image_wavelet
from scanside.recon.fourier import to_image, to_kspace
from scanside.recon.spirit import SelfConsistency, calibrate, fill, fill_sparse

Array = npt.NDArray[np.complex128]


def coils(shape: tuple[int, int], n: int = 4) -> torch.Tensor:
    """Smooth sensitivities ``(coil, 1, y, x)``: phases and magnitudes of low order."""
    y, x = torch.meshgrid(
        *(torch.linspace(-1, 1, size, dtype=torch.float64) for size in shape), indexing="ij"
    )
    angles = torch.arange(n, dtype=torch.float64) * (2 * torch.pi / n)
    along = torch.cos(angles)[:, None, None] * y + torch.sin(angles)[:, None, None] * x
    return (torch.exp(0.7 * along) * torch.exp(0.8j * along))[:, None]


def scan(shape: tuple[int, int], frames: int = 0) -> torch.Tensor:
    """K-space ``(*time, coil, 1, k1, k0)`` of boxes in complex128."""
    n1, n0 = shape
    image = torch.zeros(max(frames, 1), 1, 1, n1, n0, dtype=torch.complex128)
    image[..., n1 // 5 : -n1 // 5, n0 // 4 : -n0 // 4] = 1
    for t, frame in enumerate(image):
        frame[..., n1 // 3 + t % 4 : n1 // 2 + t % 4, n0 // 3 : n0 // 2] = 0.3j
    kspace = to_kspace(coils(shape) * image)
    return kspace if frames else kspace[0]


def middle(kspace: torch.Tensor, n: int) -> torch.Tensor:
    centre = kspace.shape[-2] // 2
    return kspace[..., centre - n // 2 : centre + n // 2, :]


def convolved(kernels: Array, kspace: Array) -> Array:
    """``G k`` on a circle, sample by sample."""
    result = np.zeros_like(kspace)
    widths = kernels.shape[2:]
    for offset in itertools.product(*map(range, widths)):
        shift = [width // 2 - at for width, at in zip(widths, offset, strict=True)]
        moved = np.roll(kspace, shift, axis=(1, 2, 3))
        result += np.einsum("ts,szyx->tzyx", kernels[(..., *offset)], moved)
    return result


def test_kernels_explain_kspace() -> None:
    kspace = scan((40, 36))
    kernels = calibrate(middle(kspace, 20), (5, 5, 5), 1e-6)
    assert kernels.shape == (4, 4, 1, 5, 5)
    assert all(kernels[coil, coil, 0, 2, 2] == 0 for coil in range(4))
    explained = convolved(kernels.numpy(), kspace.numpy())
    assert np.linalg.norm(explained - kspace.numpy()) < 0.02 * np.linalg.norm(kspace.numpy())


@pytest.mark.parametrize(("shape", "widths"), [((1, 9, 8), (1, 3, 5)), ((5, 6, 7), (3, 1, 3))])
def test_consistency_is_a_convolution(shape: tuple[int, int, int], widths: tuple[int, int, int]) -> None:
    random = torch.Generator().manual_seed(1)
    kernels = torch.randn(3, 3, *widths, dtype=torch.complex128, generator=random)
    kspace, other = torch.randn(2, 3, *shape, dtype=torch.complex128, generator=random)
    dims = (-3, -2, -1)
    applied = to_kspace(SelfConsistency(kernels, shape)(to_image(kspace, dims)), dims)
    left, right = (convolved(kernels.numpy(), one.numpy()) - one.numpy() for one in (other, kspace))
    # ⟨other, (G − 1)ᴴ (G − 1) k⟩, and the energy of (G − 1) k.
    assert np.vdot(other.numpy(), applied.numpy()) == pytest.approx(np.vdot(left, right), rel=1e-9)
    consistency = SelfConsistency(kernels, shape)
    by_power = largest_eigenvalue(consistency, kspace, 200)
    assert by_power == pytest.approx(consistency.largest_eigenvalue, rel=1e-2)


@pytest.mark.parametrize("l2", [0.0, 0.05])
def test_missing_lines_are_the_dense_solution(l2: float) -> None:
    kspace = scan((12, 10))
    kernels = calibrate(kspace, (3, 3, 3))
    missing = torch.tensor([[line % 3 == 1 for line in range(12)]])
    acquired = kspace * ~missing[:, :, None]
    holes = np.flatnonzero(np.broadcast_to(missing[:, :, None].numpy(), kspace.shape))
    columns = []
    for hole in holes:
        unit = np.zeros(kspace.numel(), np.complex128)
        unit[hole] = 1
        unit = unit.reshape(kspace.shape)
        columns.append((convolved(kernels.numpy(), unit) - unit).ravel())
    known = acquired.numpy()
    right = -(convolved(kernels.numpy(), known) - known).ravel()
    matrix = np.vstack([np.stack(columns, 1), np.sqrt(l2) * np.eye(len(holes))])
    dense, *_ = np.linalg.lstsq(matrix, np.concatenate([right, np.zeros(len(holes))]), rcond=None)
    result = fill(
        SelfConsistency(kernels, (1, 12, 10)),
        acquired,
        missing,
        l2=l2,
        tolerance=1e-10,
        max_iterations=2000,
    )
    np.testing.assert_allclose(result.solution.numpy().ravel()[holes], dense, atol=1e-6)
    assert float(result.solution[:, ~missing].abs().max()) == 0
    single = SelfConsistency(kernels.to(torch.complex64), (1, 12, 10))
    coarse = acquired.to(torch.complex64)
    default = fill(single, coarse, missing, l2=l2, tolerance=2e-3, max_iterations=200)
    whole, found = acquired + result.solution, acquired + default.solution
    assert float((found - whole).norm() / whole.norm()) < 2e-2


def test_lines_of_a_known_object_are_found() -> None:
    kspace = scan((48, 40))
    kernels = calibrate(middle(kspace, 18), (5, 5, 5), 1e-5)
    missing = torch.arange(48)[None] % 3 != 0
    missing[:, 15:33] = False
    acquired = kspace * ~missing[:, :, None]
    found = fill(SelfConsistency(kernels, (1, 48, 40)), acquired, missing, tolerance=1e-4, max_iterations=200)
    left = (acquired + found.solution - kspace).norm()
    assert left < 0.15 * (acquired - kspace).norm()


class Film:
    """A film of noisy, undersampled frames."""

    def __init__(self) -> None:
        self.truth = scan((32, 32), frames=8)
        random = torch.Generator().manual_seed(1)
        noise = torch.randn(self.truth.shape, dtype=torch.complex128, generator=random)
        self.missing = torch.rand(8, 1, 32, generator=random) > 0.4
        self.missing[..., 12:20] = False
        self.kspace = (self.truth + 0.05 * noise) * ~self.missing[..., None, :, :, None]
        lines = middle((self.truth + 0.05 * noise).mean(0), 16)
        self.kernels = calibrate(lines, (5, 5, 5))
        self.consistency = SelfConsistency(self.kernels, (1, 32, 32))
        self.wavelet = image_wavelet((8, 1, 32, 32), "db2", film=True)

    def error(self, images: torch.Tensor) -> float:
        truth = to_image(self.truth)
        return float((images - truth).norm() / truth.norm())


def test_wavelets_in_time_reach_the_minimum_and_help() -> None:
    film = Film()
    settings = {"wavelet": film.wavelet, "weight": 0.05}
    converged = fill_sparse(
        film.consistency, film.kspace, film.missing, tolerance=1e-8, max_iterations=1500, **settings
    )
    assert converged.converged
    # There, the gradient's coefficients have the length of the weight over all coils, or less where there is nothing.
    x = converged.solution
    data = to_image(to_kspace(x) * ~film.missing[..., None, :, :, None])
    force = to_image(film.kspace) - data - film.consistency(x)
    (shift,) = film.wavelet.shifts(1)
    coefficients, length = (
        film.wavelet.forward(one.transpose(0, 1).contiguous().roll(shift, (1, 2, 3, 4))).norm(dim=0)
        for one in (x, force)
    )
    assert float(length.max()) <= 0.05 * (1 + 1e-4)
    assert float((length[coefficients > 1e-3] / 0.05 - 1).abs().max()) < 1e-2
    single = SelfConsistency(film.kernels.to(torch.complex64), (1, 32, 32))
    early = fill_sparse(
        single, film.kspace.to(torch.complex64), film.missing, tolerance=2e-3, max_iterations=100, **settings
    )
    assert float((early.solution - x).norm() / x.norm()) < 2e-2
    linear = fill(film.consistency, film.kspace, film.missing, tolerance=1e-3, max_iterations=100)
    assert film.error(x) < 0.7 * film.error(to_image(film.kspace + linear.solution))


def test_what_does_not_fit_is_told() -> None:
    kspace = scan((40, 36))
    with pytest.raises(CalibrationError, match=r"SPIRiT calibration \(ACS\) block of 6 k1 x 1 k2 lines"):
        calibrate(middle(kspace, 6))
    with pytest.raises(ShapeError, match="kernel of odd lengths"):
        calibrate(kspace, (4, 5, 5))
    with pytest.raises(CalibrationError, match="give no solution"):
        calibrate(torch.zeros(4, 1, 20, 36, dtype=torch.complex128))
    with pytest.raises(ShapeError, match="do not fit the grid"):
        SelfConsistency(torch.zeros(2, 2, 1, 5, 5, dtype=torch.complex64), (1, 4, 8))


@pytest.mark.cuda
def test_cuda_gives_the_same() -> None:
    kspace = scan((24, 20))
    missing = torch.arange(24)[None] % 2 == 1
    kernels = calibrate(middle(kspace, 16), (3, 3, 3))
    found = [
        fill(
            SelfConsistency(kernels.to(device), (1, 24, 20)),
            (kspace * ~missing[:, :, None]).to(device),
            missing.to(device),
            tolerance=1e-8,
            max_iterations=300,
        ).solution.cpu()
        for device in ("cpu", "cuda")
    ]
    torch.testing.assert_close(*found)
