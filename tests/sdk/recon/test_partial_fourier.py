"""Partial Fourier against closed forms, against BART, and on what tells it from reduced resolution."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from scanside.errors import ConfigError, ShapeError
from scanside.recon.fourier import to_image, to_kspace
from scanside.recon.partial_fourier import Band, classify, homodyne, pocs, sampled_band


def nrmse(image: torch.Tensor, truth: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(image - truth) / torch.linalg.vector_norm(truth))


def head(n_y: int = 64, n_x: int = 60, *, phase: float = 1.0) -> torch.Tensor:
    """An object with sharp edges and a smooth phase, ``(1, y, x)``."""
    y = ((torch.arange(n_y, dtype=torch.float64) - n_y // 2) / n_y)[:, None]
    x = (torch.arange(n_x, dtype=torch.float64) - n_x // 2) / n_x
    magnitude = ((y / 0.4) ** 2 + (x / 0.35) ** 2 < 1).double()
    magnitude += 0.5 * (((y - 0.1).abs() < 0.08) & ((x + 0.1).abs() < 0.03))
    magnitude -= 0.4 * ((y + 0.15) ** 2 + (x - 0.1) ** 2 < 0.003)
    angle = phase * (1 + 2 * x - 1.5 * y + 3 * x * y + 2 * y * y)
    return torch.polar(magnitude, angle)[None]


def cut(kspace: torch.Tensor, dim: int, band: Band) -> torch.Tensor:
    kept = torch.zeros_like(kspace)
    part = slice(band[0], band[1] + 1)
    index = (..., part) if dim == -1 else (..., part, slice(None))
    kept[index] = kspace[index]
    return kept


def bands(n: int, fraction: float) -> list[Band]:
    """Partial Fourier on either side."""
    n_lines = round(n * fraction)
    return [(0, n_lines - 1), (n - n_lines, n - 1)]


class TestBands:
    def test_band_spans_what_was_sampled_with_gaps(self) -> None:
        mask = torch.zeros(2, 12, 5, dtype=torch.bool)
        mask[0, 3:9:2, 1] = mask[1, 4, 2] = True
        assert sampled_band(mask, 1) == (3, 7)
        assert sampled_band(mask, -1) == (1, 2)
        assert sampled_band(mask[0, :, 1]) == (3, 7)
        with pytest.raises(ShapeError, match="no sample"):
            sampled_band(torch.zeros(4, dtype=torch.bool))

    @pytest.mark.parametrize("n", [64, 65, 144, 256])
    @pytest.mark.parametrize("fraction", [5 / 8, 6 / 8, 7 / 8])
    def test_one_sided_bands_are_partial(self, n: int, fraction: float) -> None:
        for first, last in bands(n, fraction):
            assert classify(first, last, n // 2, n) == "partial"

    @pytest.mark.parametrize("n", [64, 65, 144, 256])
    @pytest.mark.parametrize("acceleration", [1, 2, 3, 4])
    def test_accelerated_full_scans_are_full(self, n: int, acceleration: int) -> None:
        for first in range(acceleration):
            last = first + (n - 1 - first) // acceleration * acceleration
            assert classify(first, last, n // 2, n) == "full"

    def test_centred_bands_are_reduced_resolution(self, skyra) -> None:
        assert classify(20, 43, 32, 64) == "reduced-resolution"
        band = int(skyra.rows.min()), int(skyra.rows.max())
        assert band == (18, 123)
        assert classify(*band, 72, 144) == "reduced-resolution"

    def test_tolerance_decides_and_impossible_bands_are_refused(self) -> None:
        assert classify(18, 123, 72, 144, tolerance=2) == "partial"
        assert classify(18, 123, 72, 144, tolerance=3) == "reduced-resolution"
        for band in [(-1, 9), (0, 16), (9, 15), (0, 7)]:
            with pytest.raises(ShapeError, match="hold the centre"):
                classify(*band, 8, 16)


class TestHomodyne:
    @pytest.mark.parametrize(("n_y", "n_x"), [(64, 60), (63, 61)])
    @pytest.mark.parametrize("fraction", [5 / 8, 6 / 8, 7 / 8])
    def test_objects_of_constant_phase_are_exact(self, n_y: int, n_x: int, fraction: float) -> None:
        # Of either sign, and without symmetry.
        noise = torch.randn(2, n_y, n_x, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        truth = noise * torch.exp(torch.tensor(0.7j, dtype=torch.complex128))
        for dim, n in ((-2, n_y), (-1, n_x)):
            # An even axis that starts one late lacks the highest frequency, which has no mirror image.
            full = cut(to_kspace(truth), dim, (1 - n % 2, n - 1))
            for band in bands(n, fraction):
                kspace = cut(full, dim, band)
                assert nrmse(homodyne(kspace, dim, band), to_image(full)) < 1e-12
                assert nrmse(to_image(kspace), to_image(full)) > 0.3

    def test_highest_frequency_is_kept_where_it_was_sampled(self) -> None:
        truth = torch.randn(1, 16, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0j
        assert nrmse(homodyne(cut(to_kspace(truth), -2, (0, 11)), -2, (0, 11)), truth) < 1e-12

    @pytest.mark.parametrize(("fraction", "gain"), [(5 / 8, 2.2), (6 / 8, 2.5), (7 / 8, 2.0)])
    def test_smooth_phase_is_kept_and_edges_are_sharper(self, fraction: float, gain: float) -> None:
        truth = head(65, 61)
        for dim, n in ((-2, 65), (-1, 61)):
            for band in bands(n, fraction):
                kspace = cut(to_kspace(truth), dim, band)
                assert nrmse(homodyne(kspace, dim, band), truth) < nrmse(to_image(kspace), truth) / gain

    def test_reduced_resolution_stays_reduced(self) -> None:
        truth = head(phase=0)
        reduced = to_image(cut(to_kspace(truth), -2, (12, 52)))
        kspace = cut(to_kspace(truth), -2, (12, 40))
        assert nrmse(homodyne(kspace, -2, (12, 40)), reduced) < 1e-12

    @pytest.mark.skipif(shutil.which("bart") is None, reason="needs BART: apt-get install bart")
    @pytest.mark.parametrize("fraction", [0.625, 0.75])
    def test_magnitude_is_close_to_barts(self, fraction: float, tmp_path: Path) -> None:
        # BART takes the phase off its result, weights the phase estimate otherwise and starts at index 0.
        truth = head()
        band = bands(64, fraction)[0]
        kspace = cut(to_kspace(truth), -2, band)
        (tmp_path / "k.hdr").write_text("# Dimensions\n60 64\n")
        kspace.numpy().astype(np.complex64).tofile(tmp_path / "k.cfl")
        command = ["bart", "homodyne", "1", str(fraction), "k", "out"]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
        theirs = torch.from_numpy(np.fromfile(tmp_path / "out.cfl", np.complex64).reshape(1, 64, 60)).abs()
        ours = homodyne(kspace, -2, band).abs()
        zero_filled = to_image(kspace).abs()
        assert nrmse(ours, theirs) < 0.025
        assert nrmse(zero_filled, theirs) > 2 * nrmse(ours, theirs)
        assert nrmse(ours, truth.abs()) < 1.02 * nrmse(theirs, truth.abs())


class TestPocs:
    def test_measured_samples_stay(self) -> None:
        kspace = cut(cut(to_kspace(head()), -2, (0, 40)), -1, (14, 59))
        result = to_kspace(pocs(kspace, {-2: (0, 40), -1: (14, 59)}))
        torch.testing.assert_close(result[..., :41, 14:], kspace[..., :41, 14:])

    def test_agrees_with_homodyne_on_objects_of_constant_phase(self) -> None:
        noise = torch.randn(2, 33, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        truth = noise * 1j
        kspace = cut(to_kspace(truth), -2, (0, 21))
        assert nrmse(pocs(kspace, {-2: (0, 21)}, n_iterations=8), truth) < 1e-6
        errors = [nrmse(pocs(kspace, {-2: (0, 21)}, n_iterations=i), truth) for i in (1, 2, 3)]
        assert errors[1] == pytest.approx(errors[0] / 10)
        assert errors[2] == pytest.approx(errors[0] / 100)

    @pytest.mark.parametrize("fraction", [5 / 8, 6 / 8, 7 / 8])
    def test_smooth_phase_costs_little(self, fraction: float) -> None:
        truth = head(65, 61)
        for dim, n in ((-2, 65), (-1, 61)):
            for band in bands(n, fraction):
                kspace = cut(to_kspace(truth), dim, band)
                error = nrmse(pocs(kspace, {dim: band}), truth)
                assert error < nrmse(to_image(kspace), truth) / 5
                assert error < nrmse(homodyne(kspace, dim, band), truth) / 2

    def test_two_axes_lose_only_the_corners_that_neither_side_saw(self) -> None:
        truth = head(63, 61)
        full = to_kspace(truth)
        partial = {-2: (0, 41), -1: (20, 60)}
        kspace = cut(cut(full, -2, partial[-2]), -1, partial[-1])
        sampled = kspace != 0
        seen = sampled | sampled.flip(-2, -1)
        unavoidable = nrmse(to_image(full * seen), truth)
        assert nrmse(pocs(kspace, partial), truth) < 1.1 * unavoidable
        assert nrmse(to_image(kspace), truth) > 1.6 * unavoidable

    def test_precision_and_leading_axes_are_kept(self) -> None:
        truth = head().to(torch.complex64).expand(2, 3, 1, 64, 60) * torch.arange(1, 4).reshape(3, 1, 1, 1)
        band = (0, 44)
        kspace = cut(to_kspace(truth), -2, band)
        for image in (pocs(kspace, {-2: band}), homodyne(kspace, -2, band)):
            assert image.dtype == torch.complex64
            assert image.shape == truth.shape
            torch.testing.assert_close(image[0, 0] * 3, image[1, 2], rtol=1e-3, atol=1e-3)

    def test_partitions_can_be_partial(self) -> None:
        truth = head().expand(16, 64, 60) * torch.linspace(0.2, 1, 16, dtype=torch.float64).reshape(16, 1, 1)
        kspace = to_kspace(truth, (-3, -2, -1))
        kspace[..., 11:, :, :] = 0
        for image in (
            pocs(kspace, {-3: (0, 10)}, (-3, -2, -1)),
            homodyne(kspace, -3, (0, 10), (-3, -2, -1)),
        ):
            assert nrmse(image, truth) < nrmse(to_image(kspace, (-3, -2, -1)), truth) / 2


def test_what_cannot_be_completed_is_refused() -> None:
    kspace = to_kspace(head())
    for run in (lambda b: homodyne(kspace, -2, b), lambda b: pocs(kspace, {-2: b})):
        for band in [(0, 63), (10, 53), (10, 54), (12, 52)]:
            with pytest.raises(ShapeError, match="nothing to complete"):
                run(band)
        for band in [(0, 32), (32, 63), (0, 20), (-1, 50), (0, 64)]:
            with pytest.raises(ShapeError, match="at least one line"):
                run(band)
    with pytest.raises(ShapeError, match="one of those"):
        homodyne(kspace, -3, (0, 40))
    with pytest.raises(ShapeError, match="at least one"):
        pocs(kspace, {})
    with pytest.raises(ConfigError, match="iteration"):
        pocs(kspace, {-2: (0, 40)}, n_iterations=0)
    dark = homodyne(torch.zeros_like(kspace), -2, (0, 40))
    assert torch.equal(dark, torch.zeros_like(kspace))
