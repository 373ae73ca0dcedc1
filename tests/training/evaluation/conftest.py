"""A small measured scan, written as BART's files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from scanside.recon.fourier import to_kspace
from scanside_training.evaluation.bart_files import write_cfl

N1, N0, N_COILS = 44, 50, 4


@pytest.fixture(scope="session")
def coil_images() -> torch.Tensor:
    """``(coil, y, x)`` complex64: two boxes under smooth coil sensitivities."""
    image = torch.zeros(N1, N0)
    image[8:36, 10:40] = 1.0
    image[14:22, 16:30] = 2.0
    y, x = torch.meshgrid(torch.linspace(-1, 1, N1), torch.linspace(-1, 1, N0), indexing="ij")
    centres = ((-1.2, -1.2), (-1.2, 1.2), (1.2, -1.2), (1.2, 1.2))
    maps = torch.stack(
        [torch.polar(torch.exp(-((y - a) ** 2 + (x - b) ** 2) / 3), a * x + b * y) for a, b in centres]
    )
    return (maps * image).to(torch.complex64)


@pytest.fixture(scope="session")
def kspace(coil_images: torch.Tensor) -> torch.Tensor:
    """``(coil, k1, k0)``, fully sampled, with a little noise."""
    noise = torch.randn(N_COILS, N1, N0, 2, generator=torch.Generator().manual_seed(1))
    return to_kspace(coil_images[:, None], (-2, -1))[:, 0] + 0.01 * torch.view_as_complex(noise)


@pytest.fixture(scope="session")
def mask() -> torch.Tensor:
    """``(k1,)``: every second line, and twelve around the centre."""
    lines = torch.zeros(N1, dtype=torch.bool)
    lines[::2] = True
    lines[N1 // 2 - 6 : N1 // 2 + 6] = True
    return lines


@pytest.fixture(scope="session")
def scan_folder(tmp_path_factory: pytest.TempPathFactory, kspace: torch.Tensor, mask: torch.Tensor) -> Path:
    """Folder with ``scan/full.cfl`` and ``scan/half.npy``."""
    root = tmp_path_factory.mktemp("scans")
    (root / "scan").mkdir()
    write_cfl(root / "scan" / "full", kspace.numpy().transpose(2, 1, 0)[None])
    np.save(root / "scan" / "half.npy", mask.numpy())
    return root
