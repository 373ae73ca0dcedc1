"""Coil compression, against closed forms and BART."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from scanside.errors import CalibrationError, ShapeError
from scanside.recon.compression import CoilCompression, geometric, pca
from scanside.recon.fourier import to_image, to_kspace

SHAPE = (8, 1, 12, 20)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(seed))


def rank_three() -> torch.Tensor:
    """Eight coils that receive three sources with energies 16 : 4 : 1, mixed by a matrix that keeps lengths."""
    sources = torch.linalg.qr(random(math.prod(SHAPE[1:]), 3)).Q.mT * torch.tensor([4.0, 2.0, 1.0])[:, None]
    mixing = torch.linalg.qr(random(8, 3, seed=1)).Q
    return (mixing @ sources).reshape(SHAPE)


def both(calibration: torch.Tensor, n: int) -> list[CoilCompression]:
    return [pca(calibration, n), geometric(calibration, n, calibration.shape[-1])]


@pytest.mark.parametrize(("n", "energy"), [(1, 16 / 21), (2, 20 / 21), (3, 1.0)])
def test_energy_of_the_components(n: int, energy: float) -> None:
    data = rank_three()
    found = pca(data, n)
    assert found.energy == pytest.approx(energy, abs=1e-6)
    assert float(found.apply(data).norm() ** 2 / data.norm() ** 2) == pytest.approx(energy, abs=1e-5)


def test_nothing_is_lost_of_what_has_few_components() -> None:
    """All combinations of coils can be made from the virtual ones."""
    data = rank_three()
    for compression in both(data, 3):
        virtual = compression.apply(data)
        assert virtual.shape == (3, 1, 12, 20)
        torch.testing.assert_close(
            to_image(virtual).norm(dim=0), to_image(data).norm(dim=0), rtol=1e-4, atol=1e-5
        )


def test_noise_stays_white() -> None:
    for compression in both(random(*SHAPE), 5):
        rows = compression.matrices @ compression.matrices.mH
        torch.testing.assert_close(rows, torch.eye(5, dtype=rows.dtype).expand_as(rows), atol=1e-5, rtol=0)
        noise = compression.apply(random(8, 40, 40, 20, seed=3)).flatten(1)
        covariance = (noise @ noise.mH / noise.shape[1]).numpy()
        assert np.abs(covariance - np.eye(5)).max() < 0.03


def test_scale_of_the_data_does_not_matter() -> None:
    data = rank_three()
    torch.testing.assert_close(pca(1e-12 * data, 3).energy, pca(data, 3).energy)


def test_geometric_needs_fewer_coils() -> None:
    """Each coil sees a piece along x, all of it has rank 8; each position sees one coil."""
    image = torch.zeros(8, 1, 12, 16, dtype=torch.complex64)
    for coil in range(8):
        image[coil, ..., 2 * coil : 2 * coil + 2] = random(1, 12, 2, seed=coil)
    data = to_kspace(image)
    assert geometric(data, 1, 16).energy > 0.999
    assert pca(data, 1).energy < 0.3


def test_geometric_coils_are_aligned(brain: npt.NDArray[np.complex64]) -> None:
    """Neighbouring matrices differ little, which unaligned components do not."""
    block = torch.from_numpy(brain[:, :, 78:102, 103:127])
    found = geometric(block, 4, 230).matrices
    steps = (found[1:] - found[:-1]).flatten(1).norm(dim=1)
    assert float(steps.median()) < 0.15
    hybrid = to_image(torch.from_numpy(brain[:, :, 78:102]), (-1,)).permute(3, 0, 1, 2).flatten(2)
    vectors = torch.linalg.svd(hybrid).U[..., :4].mH
    assert float((vectors[1:] - vectors[:-1]).flatten(1).norm(dim=1).median()) > 0.5


@pytest.mark.parametrize("n", [2, 4, 6])
@pytest.mark.parametrize(
    ("words", "block"),
    # Of the middle of this scan BART takes the 24 samples from 105 on.
    [(("-A",), (slice(None), slice(None))), (("-r", "24"), (slice(78, 102), slice(105, 129)))],
    ids=["all", "middle"],
)
def test_as_bart(
    brain: npt.NDArray[np.complex64],
    run_bart: Any,
    n: int,
    words: tuple[str, ...],
    block: tuple[slice, slice],
) -> None:
    """BART's virtual coils are ours up to a unitary matrix: PCA by one, geometric by one for every position."""
    data = torch.from_numpy(brain)
    calibration = data[..., block[0], block[1]]

    def by_bart(kind: str) -> torch.Tensor:
        return torch.from_numpy(run_bart("cc", "-p", str(n), *words, kind, brain).copy())

    def by_position(kspace: torch.Tensor) -> torch.Tensor:
        return to_image(kspace, (-1,)).movedim(-1, 0).flatten(2)

    principal = pca(calibration, n).apply(data)
    assert _apart(principal.flatten(1), by_bart("-S").flatten(1)) < 1e-5
    by_x = geometric(calibration, n, 230).apply(data)
    assert _apart(by_position(by_x), by_position(by_bart("-G"))) < 5e-5
    # The bounds bite: the two kinds are not the same, nor is one of another block.
    assert _apart(by_position(principal), by_position(by_bart("-G"))) > 1e-3
    assert _apart(pca(data[..., :60, :], n).apply(data).flatten(1), by_bart("-S").flatten(1)) > 1e-4


def _apart(a: torch.Tensor, b: torch.Tensor) -> float:
    """Relative distance of ``(*, coil, sample)`` after the best unitary matrix per entry."""
    left, _, right = torch.linalg.svd(b @ a.mH)
    return float((left @ right @ a - b).norm() / b.norm())


def test_spares_lines_that_are_zero() -> None:
    data = random(2, 8, 3, 12, 20)
    lines = torch.zeros(3, 12, dtype=torch.bool)
    lines[:, ::3] = True
    sampled = data * lines[..., None]
    for compression in both(data, 4):
        torch.testing.assert_close(compression.apply(sampled, lines), compression.apply(sampled))


def test_refusals() -> None:
    with pytest.raises(ShapeError, match="9 virtual coils"):
        pca(random(*SHAPE), 9)
    with pytest.raises(CalibrationError, match="nothing but zeros"):
        geometric(torch.zeros(SHAPE, dtype=torch.complex64), 2, 20)
    found = geometric(random(*SHAPE), 2, 20)
    with pytest.raises(ShapeError, match="8 coils and a readout of 20"):
        found.apply(random(8, 1, 12, 24))
    with pytest.raises(ShapeError, match="8 coils does not fit"):
        pca(random(*SHAPE), 2).apply(random(7, 1, 12, 20))
