"""CG-SENSE against BART's ``pics``, sigpy and a known image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from scanside.errors import ShapeError
from scanside.recon.espirit import espirit
from scanside.recon.fourier import to_image
from scanside.recon.sense import SenseOperator, cg_sense
from scanside.testing.adjoint import assert_adjoint

SHAPES = [(1, 14, 11), (6, 9, 8)]
READOUTS = [None, slice(3, None), slice(2, 7)]


def random_operator(shape: tuple[int, int, int], readout: slice | None) -> SenseOperator:
    generator = torch.Generator().manual_seed(1)
    maps = torch.randn(3, *shape, dtype=torch.complex64, generator=generator)
    return SenseOperator(maps, torch.rand(shape[:2], generator=generator) < 0.5, readout)


@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("shape", SHAPES)
def test_adjoint_belongs_to_the_operator(shape: tuple[int, int, int], readout: slice | None) -> None:
    operator = random_operator(shape, readout)
    assert_adjoint(operator.forward, operator.adjoint, shape, (3, *shape))


@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("shape", SHAPES)
def test_normal_is_adjoint_after_forward(shape: tuple[int, int, int], readout: slice | None) -> None:
    operator = random_operator(shape, readout)
    image = torch.randn(2, *shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(operator.normal(image), operator.adjoint(operator.forward(image)))


@pytest.mark.parametrize("readout", [None, slice(0, 11), slice(3, None)])
def test_normal_where_no_coil_sees_the_edges(readout: slice | None) -> None:
    """Whole readouts that are named are whole readouts."""
    maps = torch.randn(3, 1, 14, 11, dtype=torch.complex64, generator=torch.Generator().manual_seed(1))
    maps[..., :2], maps[..., -3:] = 0, 0
    operator = SenseOperator(maps, torch.arange(14)[None] % 2 == 0, readout)
    image = torch.randn(1, 14, 11, dtype=torch.complex64, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(operator.normal(image), operator.adjoint(operator.forward(image)))


def test_samples_that_were_not_acquired_are_unknown() -> None:
    """An object that fits what an asymmetric echo holds is found, whatever stands in the missing samples."""
    generator = torch.Generator().manual_seed(4)
    maps = torch.randn(6, 1, 12, 10, dtype=torch.complex128, generator=generator)
    truth, rubbish = torch.randn(1, 12, 10, 2, dtype=torch.complex128, generator=generator).unbind(-1)
    mask, readout = torch.arange(12)[None] % 2 == 0, slice(3, None)
    kspace = SenseOperator(maps, mask).forward(truth)
    kspace[..., :3] = rubbish[..., :3]
    result = cg_sense(kspace, maps, mask, readout=readout, tolerance=1e-9, max_iterations=200)
    torch.testing.assert_close(result.solution, truth, rtol=1e-5, atol=1e-5)
    taken_for_measured = cg_sense(kspace, maps, mask, tolerance=1e-9, max_iterations=200).solution
    assert float((taken_for_measured - truth).norm() / truth.norm()) > 0.1


class Undersampled:
    """The brain scan with some of its lines, and maps from its centre."""

    def __init__(self, brain: npt.NDArray[np.complex64], lines: npt.NDArray[np.bool_]) -> None:
        self.maps = espirit(torch.from_numpy(brain), (1, *brain.shape[-2:]), 5, 18)
        self.mask = torch.from_numpy(lines)[None]
        self.kspace = torch.from_numpy(brain) * self.mask[:, :, None]


@pytest.fixture(scope="module")
def undersampled(brain: npt.NDArray[np.complex64], shared_data: Path) -> Undersampled:
    return Undersampled(brain, np.load(shared_data / "brain-8ch" / "mask_r33.npy").astype(bool))


def nrmse(a: npt.NDArray[np.complex64], b: npt.NDArray[np.complex64]) -> float:
    """Without any fit: scale and phase count."""
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


@pytest.mark.parametrize(("l2", "scaling"), [(0.002, "-S"), (0.05, "-w1")])
def test_converged_image_is_barts(undersampled: Undersampled, run_bart: Any, l2: float, scaling: str) -> None:
    kspace, maps = undersampled.kspace.numpy(), undersampled.maps.numpy()
    theirs = run_bart("pics", scaling, "-l2", f"-r{l2}", "-i150", kspace, maps)
    result = cg_sense(
        undersampled.kspace, undersampled.maps, undersampled.mask, l2=l2, tolerance=1e-6, max_iterations=300
    )
    assert bool(result.converged)
    # BART's images have the opposite sign where half the matrix size is odd, as with 230 here.
    sign = -1
    assert nrmse(sign * result.solution.numpy(), theirs[0]) <= 1e-4
    # As a measure of that: another weight, and a solution that has not converged.
    other = cg_sense(undersampled.kspace, undersampled.maps, undersampled.mask, l2=1.5 * l2)
    assert nrmse(sign * other.solution.numpy(), theirs[0]) > 1e-3
    early = cg_sense(undersampled.kspace, undersampled.maps, undersampled.mask, l2=l2, max_iterations=8)
    assert not bool(early.converged)
    assert nrmse(sign * early.solution.numpy(), theirs[0]) > 1e-3


def test_converged_image_is_sigpys(undersampled: Undersampled) -> None:
    app = pytest.importorskip("sigpy.mri.app", exc_type=ImportError)
    weights = undersampled.mask[0, :, None].float().expand(180, 230).numpy()
    theirs = app.SenseRecon(
        undersampled.kspace[:, 0].numpy(),
        undersampled.maps[:, 0].numpy(),
        lamda=0.01,
        weights=weights,
        max_iter=60,
        show_pbar=False,
    ).run()
    result = cg_sense(
        undersampled.kspace, undersampled.maps, undersampled.mask, l2=0.01, tolerance=1e-6, max_iterations=200
    )
    assert nrmse(result.solution[0].numpy(), theirs) <= 1e-3


def test_unaliasing_beats_zero_filling(undersampled: Undersampled, brain: npt.NDArray[np.complex64]) -> None:
    full = (undersampled.maps.conj() * to_image(torch.from_numpy(brain))).sum(0)
    zero_filled = (undersampled.maps.conj() * to_image(undersampled.kspace)).sum(0)
    result = cg_sense(undersampled.kspace, undersampled.maps, undersampled.mask, l2=0.005)
    assert nrmse(result.solution.numpy(), full.numpy()) < 0.8 * nrmse(zero_filled.numpy(), full.numpy())


@pytest.mark.parametrize("shape", SHAPES)
def test_frames_with_masks_of_their_own(shape: tuple[int, int, int]) -> None:
    generator = torch.Generator().manual_seed(3)
    maps = torch.randn(6, *shape, dtype=torch.complex128, generator=generator)
    truth = torch.randn(3, *shape, dtype=torch.complex128, generator=generator)
    mask = torch.rand(3, *shape[:2], generator=generator) < 0.7
    kspace = SenseOperator(maps, mask).forward(truth)
    assert kspace.shape == (3, 6, *shape)
    result = cg_sense(kspace, maps, mask, tolerance=1e-9, max_iterations=200)
    assert result.converged.tolist() == [True] * 3
    torch.testing.assert_close(result.solution, truth, rtol=1e-5, atol=1e-5)


def test_what_was_not_acquired_does_not_matter() -> None:
    generator = torch.Generator().manual_seed(3)
    maps, kspace = torch.randn(2, 4, 1, 12, 10, dtype=torch.complex64, generator=generator)
    mask = torch.arange(12)[None] % 2 == 0
    result = cg_sense(kspace, maps, mask, l2=0.1)
    assert torch.equal(cg_sense(kspace * mask[:, :, None], maps, mask, l2=0.1).solution, result.solution)


def test_what_does_not_fit_is_an_error() -> None:
    maps = torch.zeros(4, 1, 12, 10, dtype=torch.complex64)
    mask = torch.ones(1, 12, dtype=torch.bool)
    with pytest.raises(ShapeError, match="same grid"):
        SenseOperator(maps, mask[:, :11])
    with pytest.raises(ShapeError, match="none was acquired"):
        SenseOperator(maps, mask, slice(10, None))
    with pytest.raises(ShapeError, match="grid of the maps"):
        cg_sense(torch.zeros(3, 1, 12, 10, dtype=torch.complex64), maps, mask)


@pytest.mark.cuda
def test_cuda_gives_the_same(undersampled: Undersampled) -> None:
    kspace, maps, mask = undersampled.kspace, undersampled.maps, undersampled.mask
    on_cuda = cg_sense(kspace.cuda(), maps.cuda(), mask.cuda(), l2=0.01)
    assert (
        nrmse(on_cuda.solution.cpu().numpy(), cg_sense(kspace, maps, mask, l2=0.01).solution.numpy()) < 1e-4
    )
    assert espirit(kspace.cuda(), (1, 180, 230)).device.type == "cuda"
