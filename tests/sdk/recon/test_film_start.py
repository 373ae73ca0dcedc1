"""The film that networks begin with: nearer to the truth than the acquired lines, whatever the scale."""

from __future__ import annotations

import torch

from scanside.recon.film_start import film_start
from scanside.recon.fourier import to_image, to_kspace

TIME, N, N_COILS = 8, 32, 4


def scanned() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Truth and ``Aᴴ y`` ``(time, k1, k0)`` of a disc that grows and shrinks, maps, and lines that move."""
    axis = torch.arange(N) - N // 2
    radius = torch.hypot(axis[:, None].float(), axis.float())
    sizes = 8 + 3 * torch.sin(2 * torch.pi * torch.arange(TIME) / TIME)
    truth = (0.4 * (radius < 13) + 0.6 * (radius < sizes[:, None, None])).to(torch.complex64)
    angle = 2 * torch.pi * torch.arange(N_COILS)[:, None, None] / N_COILS
    distance = (axis[:, None] / N - torch.sin(angle)).square() + (axis / N - torch.cos(angle)).square()
    maps = torch.polar(torch.exp(-distance), angle.expand_as(distance))
    maps = maps / maps.abs().square().sum(0).sqrt()
    mask = (torch.arange(N) + torch.arange(TIME)[:, None]) % 4 == 0
    mask[:, N // 2 - 3 : N // 2 + 3] = True
    lines = mask[:, None, :, None]
    image = (maps.conj() * to_image(lines * to_kspace(maps * truth[:, None]))).sum(1)
    return truth, image, maps, mask


def error(film: torch.Tensor, truth: torch.Tensor) -> float:
    return float((film - truth).norm() / truth.norm())


def test_nearer_to_the_truth_than_the_lines() -> None:
    truth, image, maps, mask = scanned()
    assert error(film_start(image, maps, mask), truth) < 0.8 * error(image, truth)


def test_scale_is_that_of_the_lines() -> None:
    _, image, maps, mask = scanned()
    right = film_start(image, maps, mask)
    for scale in (1e-4, 1e4):
        torch.testing.assert_close(film_start(scale * image, maps, mask) / scale, right, rtol=1e-3, atol=1e-4)


def test_of_nothing_comes_nothing() -> None:
    _, image, maps, mask = scanned()
    empty = torch.zeros_like(image)
    assert torch.equal(film_start(empty, maps, mask), empty)
    assert torch.isfinite(torch.view_as_real(film_start(image, torch.zeros_like(maps), mask))).all()
