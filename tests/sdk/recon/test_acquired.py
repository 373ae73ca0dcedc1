"""K-space beside the coil maps that explain it."""

from __future__ import annotations

import pytest
import torch

from scanside.errors import ShapeError
from scanside.recon.acquired import acquired
from scanside.recon.fourier import to_kspace


def a_case(
    n1: int, n0: int, *, margin: int = 0, other: tuple[int, ...] = (), seed: int = 1
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """K-space with noise in it, maps that are zero in a margin of columns, a mask, and an image; complex128."""
    generator = torch.Generator().manual_seed(seed)

    def numbers(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=torch.complex128, generator=generator)

    maps = numbers(3, 1, n1, n0)
    maps[..., :margin] = 0
    maps[..., n0 - margin :] = 0
    mask = torch.rand(*other, 1, n1, generator=generator) < 0.4
    mask[..., 0, :2] = True
    kspace = numbers(*other, 3, 1, n1, n0) * mask[..., None, :, :, None]
    return kspace, maps, mask, numbers(*other, 1, n1, n0)


def plain(maps: torch.Tensor, mask: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """``A x`` in so many words."""
    return to_kspace(maps * image.unsqueeze(-4), (-2, -1)) * mask[..., None, :, :, None]


@pytest.mark.parametrize(("n1", "n0"), [(12, 10), (11, 9)])
@pytest.mark.parametrize("margin", [0, 2])
@pytest.mark.parametrize("other", [(), (1,), (3,)])
def test_adjoint_and_distance(n1: int, n0: int, margin: int, other: tuple[int, ...]) -> None:
    kspace, maps, mask, image = a_case(n1, n0, margin=margin, other=other)
    data = acquired(kspace, maps, mask)
    left = torch.linalg.vecdot(image.flatten(-3), data.right.flatten(-3))
    right = torch.linalg.vecdot(plain(maps, mask, image).flatten(-4), kspace.flatten(-4))
    torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-4)  # phases of SenseOperator are of fp32
    misfit = (plain(maps, mask, image) - kspace).flatten(-4).norm(dim=-1)
    expected = float((misfit / kspace.flatten(-4).norm(dim=-1)).max())
    assert data.distance(image) == pytest.approx(expected, rel=1e-5)


def test_distance_of_the_very_image() -> None:
    _, maps, mask, image = a_case(12, 10, margin=2)
    single = [one.to(torch.complex64) for one in (plain(maps, mask, image), maps, image)]
    assert acquired(single[0], single[1], mask).distance(single[2]) < 1e-6


@pytest.mark.parametrize("readout", [None, slice(3, 10)])
@pytest.mark.parametrize("other", [(), (3,)])
def test_of_nothing_but_noise_all_is_noise(other: tuple[int, ...], readout: slice | None) -> None:
    _, maps, mask, _ = a_case(64, 48, other=other)
    parts = torch.randn(*other, 3, 1, 64, 48, 2, generator=torch.Generator().manual_seed(1))
    kspace = 0.2 * torch.view_as_complex(parts) * mask[..., None, :, :, None]
    if readout is not None:
        kspace[..., :3] = kspace[..., 10:] = 0
    data = acquired(kspace, maps.to(torch.complex64), mask, readout)
    assert data.noise_share(torch.tensor(0.2)) == pytest.approx(1, abs=0.1)
    assert data.noise_share(torch.tensor(0.1)) == pytest.approx(0.5, abs=0.05)
    # Of several images that with the least.
    assert data.noise_share(torch.full(other, 0.1)) == data.noise_share(torch.tensor(0.1))
    assert acquired(0 * kspace, maps.to(torch.complex64), mask).noise_share(torch.tensor(0.2)) == 0


def test_part_of_the_readout() -> None:
    kspace, maps, mask, image = a_case(12, 10)
    readout = slice(3, 10)
    kspace[..., :3] = 0
    expected = plain(maps, mask, image)
    expected[..., :3] = 0
    misfit = float((expected - kspace).norm() / kspace.norm())
    assert acquired(kspace, maps, mask, readout).distance(image) == pytest.approx(misfit, rel=1e-6)
    whole = acquired(kspace, maps, mask, slice(0, 10))
    torch.testing.assert_close(whole.right, acquired(kspace, maps, mask).right)


def test_nothing_acquired() -> None:
    kspace, maps, mask, image = a_case(12, 10)
    assert acquired(0 * kspace, maps, mask).distance(image) == 0
    assert acquired(0 * kspace, maps, torch.zeros_like(mask)).distance(image) == 0


def test_maps_of_zero() -> None:
    kspace, maps, mask, image = a_case(12, 10)
    data = acquired(kspace, 0 * maps, mask)
    assert data.distance(image) == pytest.approx(1)
    assert not data.right.any()
    assert not data.operator.normal(image).any()


def test_what_does_not_fit() -> None:
    kspace, maps, mask, _ = a_case(12, 10)
    with pytest.raises(ShapeError):
        _ = acquired(kspace, maps[..., :-1, :], mask).right
