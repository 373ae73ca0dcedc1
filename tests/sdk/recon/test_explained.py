"""How much of calibration lines maps explain: closed-form cases, and where it is left."""

from __future__ import annotations

import pytest
import torch

from scanside.errors import ShapeError
from scanside.recon.explained import explained, second_where_needed
from scanside.recon.fourier import to_kspace

N = 64


def waves(n_coils: int, seed: int) -> torch.Tensor:
    """Smooth maps ``(coil, 1, y, x)`` of length 1."""
    weights = torch.randn(n_coils, 3, 3, dtype=torch.complex64, generator=torch.Generator().manual_seed(seed))
    y = torch.linspace(-1, 1, N)
    powers = torch.stack((torch.ones_like(y), y, y * y)).to(torch.complex64)
    maps = torch.einsum("cab,ay,bx->cyx", weights, powers, powers)[:, None]
    return maps / torch.linalg.vector_norm(maps, dim=0)


def lines_of(coils: torch.Tensor, level: float = 1e-3) -> torch.Tensor:
    """The 24 middle lines of coil images, with noise."""
    noise = torch.randn(coils.shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(9))
    return (to_kspace(coils) + level * noise)[:, :, N // 2 - 12 : N // 2 + 12]


def spot(y: int, x: int) -> torch.Tensor:
    """A round object ``(1, y, x)`` in the middle of nothing."""
    rows, columns = torch.arange(N)[:, None], torch.arange(N)
    return torch.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 60.0)[None]


def test_maps_of_the_coils_explain_all_and_others_do_not() -> None:
    maps = waves(6, 1)
    block = lines_of(maps * spot(32, 32))
    assert explained(block, maps).share > 0.995
    assert explained(block, maps).worst[0] < 0.01
    assert explained(block, waves(6, 2)).share < 0.8
    assert explained(block, maps.conj()).share < 0.8
    assert explained(block, torch.zeros_like(maps)).share < 0.05, "where maps are zero nothing is explained"


@pytest.mark.parametrize("level", [1e-3, 0.05, 0.5])
def test_noise_is_not_held_against_maps(level: float) -> None:
    maps = waves(16, 1)
    block = lines_of(maps * spot(32, 32), level)
    assert explained(block, maps).share > 0.99
    nothing = lines_of(torch.zeros_like(maps), level)
    assert explained(nothing, maps).worst[0] == 0


def test_the_place_of_what_is_left() -> None:
    maps, other = waves(6, 1), waves(6, 2)
    block = lines_of(maps * spot(20, 32) + 0.7 * other * spot(48, 16))
    found = explained(block, maps)
    left, (z, y, x) = found.worst
    assert left > 0.1
    assert (z, abs(y - 48) <= 4, abs(x - 16) <= 4) == (0, True, True)


def test_a_second_set_is_kept_where_something_lies_and_nowhere_else() -> None:
    maps, other = waves(6, 1), waves(6, 2)
    along = torch.linalg.vecdot(maps, other, dim=0)
    second = other - maps * along
    second = second / torch.linalg.vector_norm(second, dim=0)
    block = lines_of(maps * spot(20, 32) + second * spot(48, 16))
    kept = second_where_needed(block, maps, second)
    assert kept is not None
    where = (kept != 0).any(0)[0]
    assert bool(where[44:53, 12:21].all())
    assert not bool(where[:20, 40:].any())
    assert torch.equal(kept[:, 0, where], second[:, 0, where])
    assert explained(block, maps, kept).share > 0.98 > explained(block, maps).share
    assert second_where_needed(lines_of(maps * spot(20, 32)), maps, second) is None


def test_blur_beyond_the_edge_needs_no_second_set() -> None:
    """Of few lines, tissue that ends just inside shows where nothing lies, and where the first set may be any."""
    coils = waves(6, 1)
    other = waves(6, 2)
    other = other - coils * torch.linalg.vecdot(coils, other, dim=0)
    other = other / torch.linalg.vector_norm(other, dim=0)
    rows = torch.arange(N)[:, None]
    maps, second = torch.where(rows < 2, other, coils), coils * (rows < 2)

    def needed(first: int) -> torch.Tensor | None:
        tissue = ((rows >= first) & (rows < 40)).float().expand(N, N)[None]
        return second_where_needed(lines_of(coils * tissue)[:, :, 2:22], maps, second)

    assert needed(5) is None
    assert needed(0) is not None


def test_frames_and_slabs_count_together() -> None:
    maps = waves(6, 1)
    blocks = torch.stack([lines_of(maps * spot(32, 32)), lines_of(maps * spot(20, 40))])
    assert explained(blocks, maps).share > 0.99
    assert explained(blocks, torch.stack([maps, maps])).share > 0.99
    slab = waves(6, 1).expand(6, 16, N, N)
    kspace = to_kspace(slab * spot(32, 32), (-3, -2, -1))[:, 2:14, 20:44]
    assert explained(kspace, slab).share > 0.99
    assert explained(kspace, slab.conj()).share < 0.8


def test_lines_of_other_coils_are_refused() -> None:
    with pytest.raises(ShapeError, match="do not belong together"):
        explained(torch.ones(4, 1, 12, 12, dtype=torch.complex64), waves(6, 1))
