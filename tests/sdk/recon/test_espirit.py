"""ESPIRiT against BART's ``ecalib``."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

import scanside.recon.espirit as module
from scanside.errors import CalibrationError, ShapeError
from scanside.recon.espirit import espirit, fitting_kernel
from scanside.recon.fourier import to_image, to_kspace
from scanside.recon.resize import crop_or_pad


def overlap(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a.conj() * b).sum(0)


def simulated(shape: tuple[int, int, int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """K-space of a cylinder or a cube seen by 8 smooth coils, the maps and where the object is."""
    few = torch.randn(
        8, *(min(n, 3) for n in shape), dtype=torch.complex64, generator=torch.Generator().manual_seed(1)
    )
    few[(slice(None), *(n // 2 for n in few.shape[1:]))] *= 3
    maps = to_image(crop_or_pad(few, shape, (-3, -2, -1)), (-3, -2, -1))
    maps = maps / torch.linalg.vector_norm(maps, dim=0)
    inside = torch.zeros(shape, dtype=torch.bool)
    inside[tuple(slice(n // 4, n - n // 4) if n > 1 else slice(None) for n in shape)] = True
    texture = 1 + torch.rand(shape, generator=torch.Generator().manual_seed(2))
    return to_kspace(maps * inside * texture, (-3, -2, -1)), maps, inside


@pytest.mark.parametrize(("kernel", "calibration"), [(6, 24), (5, 18)])
def test_maps_agree_with_bart(
    brain: npt.NDArray[np.complex64], run_bart: Any, kernel: int, calibration: int
) -> None:
    ours = espirit(torch.from_numpy(brain), (1, *brain.shape[-2:]), kernel, calibration)
    theirs = torch.from_numpy(run_bart("ecalib", f"-k{kernel}", f"-r{calibration}", "-m1", brain))
    assert theirs.shape == ours.shape
    in_ours, in_theirs = ours.abs().sum(0) > 0, theirs.abs().sum(0) > 0
    assert (in_ours != in_theirs).float().mean() < 5e-3  # both cropped in the same place
    head = in_ours & in_theirs
    assert 0.5 < head.float().mean() < 0.95
    correlation = overlap(ours, theirs)[head]
    assert correlation.abs().mean() > 0.999
    assert (
        torch.quantile(correlation.abs(), 0.02) > 0.99
    )  # BART's 30 power iterations do not converge everywhere
    # The same phase reference: one constant phase is all that is left between the two.
    constant = torch.sgn(correlation.sum())
    assert torch.angle(correlation / constant).abs().mean() < 0.02
    # Maps of a neighbouring voxel, or those without the conjugate, would not pass.
    assert overlap(ours.roll(8, -1), theirs)[head].abs().mean() < 0.99
    assert overlap(ours.conj(), theirs)[head].abs().mean() < 0.9


@pytest.mark.parametrize("shape", [(1, 48, 40), (20, 24, 28)])
def test_known_maps_are_found(shape: tuple[int, int, int]) -> None:
    kspace, maps, inside = simulated(shape)
    found = espirit(kspace, shape, kernel=4, calibration=16)
    assert overlap(found, maps)[inside].abs().mean() > 0.999
    length = found.abs().square().sum(0)
    torch.testing.assert_close(length[length > 0], torch.ones_like(length[length > 0]))


def test_maps_of_another_size_than_the_block_and_of_several_frames() -> None:
    kspace, maps, inside = simulated((1, 48, 40))
    acs = kspace[:, :, 12:36, 8:32]
    found = espirit(torch.stack([acs, 1e-6 * acs]), (1, 48, 40), kernel=4)
    assert found.shape == (2, 8, 1, 48, 40)
    assert overlap(found[0], maps)[inside].abs().mean() > 0.999
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("floor", "largest_solved"), [(1e-5, 50), (0.5, 400)])
def test_leading_eigenvectors_of_a_large_matrix(
    monkeypatch: pytest.MonkeyPatch, floor: float, largest_solved: int
) -> None:
    """Those of a known spectrum are found: from a small problem where few are wanted, else from the whole matrix."""
    generator = torch.Generator().manual_seed(5)
    vectors = torch.linalg.qr(torch.randn(400, 400, dtype=torch.complex64, generator=generator)).Q
    values = torch.full((400,), floor)
    values[:20] = torch.logspace(0, -2, 20)
    sizes, eigh = [], torch.linalg.eigh
    monkeypatch.setattr(torch.linalg, "eigh", lambda matrix: sizes.append(len(matrix)) or eigh(matrix))
    monkeypatch.setattr(module, "_SMALL", 100)
    found = module._leading_eigenvectors((vectors * values) @ vectors.mH, 1e-3)
    wanted = vectors[:, values > 1e-3]
    assert found.shape == wanted.shape
    torch.testing.assert_close(found @ found.mH, wanted @ wanted.mH, rtol=0, atol=1e-4)
    assert max(sizes) == largest_solved


def test_no_object_no_maps() -> None:
    kspace, _, inside = simulated((1, 48, 40))
    found = espirit(kspace, (1, 48, 40), kernel=4, crop=0.99)
    empty = ~inside[0]
    empty[8:-8, 6:-6] = False  # the border of the object is not sharp at this resolution
    assert found[:, 0, empty].abs().sum(0).gt(0).float().mean() < 0.2


def test_the_smallest_block_is_enough() -> None:
    """One line less and the maps of some coils are noise: that is why it is refused."""
    kspace, maps, inside = simulated((1, 48, 40))
    found = espirit(kspace[:, :, 24 - 3 : 24 + 4], (1, 48, 40), kernel=4)
    assert overlap(found, maps)[inside].abs().mean() > 0.99
    with pytest.raises(CalibrationError):
        espirit(kspace[:, :, 24 - 3 : 24 + 3], (1, 48, 40), kernel=4)


def test_what_does_not_fit_is_an_error() -> None:
    acs = torch.ones(40, 1, 12, 12, dtype=torch.complex64)
    few = (
        r"1 x 10 x 12 lines.*kernel of 1 x 6 x 6: at least 1 x 11 x 11 .*smaller coil-maps.kernel \(5 fits\)"
    )
    with pytest.raises(CalibrationError, match=few):
        espirit(acs[:, :, 1:11], (1, 48, 40))
    with pytest.raises(CalibrationError, match=r"at least 11 x 11 x 11 are needed.*\(4 fits\)"):
        espirit(torch.ones(2, 8, 12, 12, dtype=torch.complex64), (16, 48, 40))
    with pytest.raises(CalibrationError, match=r"1 x 8 x 8 lines.*larger coil-maps.calibration"):
        espirit(acs, (1, 48, 40), calibration=8)
    with pytest.raises(CalibrationError, match="36 patches of 1 x 6 x 6 for 40 coils"):
        espirit(acs[..., :11, :11], (1, 48, 40))
    with pytest.raises(ShapeError, match="both 2-D or both 3-D"):
        espirit(acs, (4, 48, 40))
    with pytest.raises(ShapeError, match="calibration block"):
        espirit(acs[0], (1, 48, 40))


@pytest.mark.parametrize("n_z", [2, 3, 4])
@pytest.mark.parametrize("axis", [-3, -2])
def test_few_voxels_along_an_axis(n_z: int, axis: int) -> None:
    """A thin slab, whose lines along that axis span no space of patches: every voxel has maps of its own."""
    shape = (n_z, 48, 40) if axis == -3 else (1, n_z, 48)
    kspace, maps, inside = simulated(shape)
    inside = inside | torch.zeros(shape, dtype=torch.bool)
    found = espirit(kspace, shape, kernel=5)
    assert found.shape == (8, *shape)
    assert overlap(found, maps)[inside].abs().mean() > 0.99
    # One phase reference for all of them, as without: neighbours along the axis do not differ by any phase.
    middle = tuple(n // 2 for n in shape)
    phases = torch.angle(overlap(found, maps))[inside]
    assert (phases - torch.angle(overlap(found, maps))[middle]).abs().median() < 0.5
    with pytest.raises(AssertionError):
        assert overlap(found.roll(1, axis), maps)[inside].abs().mean() > 0.99


@pytest.mark.parametrize(
    ("block", "shape", "expected"),
    [
        ((1, 24, 24), (1, 64, 64), (1, 6, 6)),
        ((1, 8, 24), (1, 64, 64), (1, 4, 6)),
        ((1, 10, 64), (1, 64, 64), (1, 5, 6)),
        ((6, 24, 24), (6, 64, 64), (3, 6, 6)),
        ((2, 24, 24), (2, 64, 64), (1, 6, 6)),
        ((1, 3, 24), (1, 3, 64), (1, 2, 6)),
    ],
)
def test_kernel_that_the_lines_allow(
    block: tuple[int, int, int], shape: tuple[int, int, int], expected: tuple[int, int, int]
) -> None:
    acs = torch.ones(4, *block, dtype=torch.complex64)
    assert fitting_kernel(acs, shape) == expected
    assert fitting_kernel(acs, shape, kernel=2)[1:] == (2, 2)


@pytest.mark.parametrize(("block", "shape"), [((1, 2, 24), (1, 64, 64)), ((2, 24, 24), (16, 64, 64))])
def test_no_kernel_that_the_lines_allow(block: tuple[int, int, int], shape: tuple[int, int, int]) -> None:
    with pytest.raises(CalibrationError, match=r"at least 3 along each axis are needed.*encoded matrix"):
        fitting_kernel(torch.ones(4, *block, dtype=torch.complex64), shape)


def test_few_lines_give_maps() -> None:
    """Eight calibration lines, with the kernel that they allow."""
    kspace, maps, inside = simulated((1, 48, 40))
    acs = kspace[:, :, 24 - 4 : 24 + 4]
    found = espirit(acs, (1, 48, 40), fitting_kernel(acs, (1, 48, 40)))
    assert overlap(found, maps)[inside].abs().mean() > 0.99
    assert overlap(found.roll(6, -2), maps)[inside].abs().mean() < 0.97


def test_few_patches_span_what_their_gram_matrix_of_the_other_side_says() -> None:
    kspace, *_ = simulated((1, 48, 40))
    block = kspace[:, :, 24 - 7 : 24 + 7, 20 - 7 : 20 + 7]  # 81 patches of 288 samples
    found = module._row_space(block, (1, 6, 6), 0.03).flatten(1)
    patches = block.unfold(1, 1, 1).unfold(2, 6, 1).unfold(3, 6, 1).permute(1, 2, 3, 0, 4, 5, 6).flatten(3)
    _, values, vectors = torch.linalg.svd(patches.reshape(81, 288), full_matrices=False)
    wanted = vectors[values > 0.03 * values[0]]
    assert found.shape == wanted.shape
    torch.testing.assert_close(found.mH @ found, wanted.mH @ wanted, rtol=0, atol=1e-4)


def test_where_no_eigenvalue_can_reach_the_crop_none_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    kspace, *_ = simulated((1, 48, 40))
    solved, eigh = [], torch.linalg.eigh
    monkeypatch.setattr(torch.linalg, "eigh", lambda matrix: solved.append(len(matrix)) or eigh(matrix))
    found = espirit(kspace, (1, 48, 40), kernel=4)
    few = max(solved)
    monkeypatch.setattr(module, "_ROUNDED", 0.0)
    torch.testing.assert_close(found, espirit(kspace, (1, 48, 40), kernel=4), rtol=0, atol=1e-6)
    assert few < 0.9 * max(solved) == 0.9 * 48 * 40


def test_one_coil_has_no_second_set() -> None:
    kspace, *_ = simulated((1, 48, 40))
    maps, second = module.espirit_sets(kspace[:1], (1, 48, 40), kernel=4)
    assert second is None
    assert maps.abs().max() == pytest.approx(1, abs=1e-5)
