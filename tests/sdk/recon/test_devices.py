"""The building blocks give on a CUDA device what they give on the CPU, and stay there."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from scanside.recon.combine import combine_with_maps, root_sum_of_squares
from scanside.recon.filters import apply_window, gaussian
from scanside.recon.fourier import to_image, to_kspace
from scanside.recon.partial_fourier import homodyne, pocs
from scanside.recon.resize import crop_or_pad, resample_fov

BLOCKS: dict[str, Callable[[Tensor], Tensor]] = {
    "to_image": to_image,
    "to_kspace_odd": lambda x: to_kspace(x[..., :15], (-3, -2, -1)),
    "apply_window": lambda x: apply_window(x, gaussian(16, 2, 14), -1),
    "homodyne": lambda x: homodyne(x, -1, (0, 11)),
    "pocs": lambda x: pocs(x, {-1: (0, 11), -2: (5, 17)}),
    "root_sum_of_squares": root_sum_of_squares,
    "combine_with_maps": lambda x: combine_with_maps(x, x.conj()),
    "crop_or_pad": lambda x: crop_or_pad(x, (24, 12)),
    "resample_fov": lambda x: resample_fov(x, (180, 160), (150, 190), (20, 21)),
}


@pytest.mark.cuda
@pytest.mark.parametrize("name", BLOCKS)
def test_cuda_agrees_with_cpu(name: str) -> None:
    data = torch.randn(3, 2, 18, 16, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    there = BLOCKS[name](data.cuda())
    assert there.is_cuda
    torch.testing.assert_close(there.cpu(), BLOCKS[name](data), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", BLOCKS)
def test_nothing_falls_back_to_the_cpu(name: str) -> None:
    """Tensors of the meta device refuse elementwise operations with those of another."""
    data = torch.zeros(3, 2, 18, 16, dtype=torch.complex64, device="meta")
    assert BLOCKS[name](data).device == data.device
