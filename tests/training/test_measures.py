"""The measures agree with the SDK's, with scikit-image and with the shared definition, also over processes."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from skimage.metrics import normalized_root_mse, peak_signal_noise_ratio, structural_similarity

from scanside import metrics
from scanside.errors import NonFiniteError, ScanError, ShapeError
from scanside_training.measures import Measures, ReconstructionMeasures, measure, measure_slices

Volume = npt.NDArray[np.complex128]


@pytest.fixture
def pair() -> tuple[Volume, Volume]:
    """Two slices ``(2, 30, 25)`` of an object, the second dimmer, and a noisy image on another scale."""
    rng = np.random.default_rng(11)
    y, x = np.mgrid[-1:1:30j, -1:1:25j]
    truth = np.where(np.hypot(y, x) < 0.8, 1 + 0.4 * np.cos(7 * x), 0.01) * np.exp(1j * (x + y))
    truth = np.stack([truth, 0.5 * truth[::-1]])
    return 3.0 * (truth + 0.05 * (rng.normal(size=truth.shape) + 1j * rng.normal(size=truth.shape))), truth


def test_frames_of_films_are_measured_one_by_one() -> None:
    output, target = torch.rand(2, 2, 2, 3, 12, 10, generator=torch.Generator().manual_seed(4))
    roi = torch.zeros(2, 1, 12, 10)
    roi[:, :, 3:9, 2:8] = 1
    films, frames = ReconstructionMeasures(), ReconstructionMeasures()
    films.update(output, {"target": target, "roi": roi})
    for t in range(3):
        frames.update(output[:, :, t], {"target": target[:, :, t], "roi": roi})
    expected = frames.compute()
    for name, value in films.compute().items():
        assert float(value) == pytest.approx(float(expected[name]), rel=1e-9)


def test_slice_as_the_sdk_has_it(pair: tuple[Volume, Volume]) -> None:
    image, truth = (volume[0] for volume in pair)
    found = measure(image, truth)
    assert found.psnr == pytest.approx(metrics.psnr(image, truth), abs=1e-9)
    assert found.ssim == pytest.approx(metrics.ssim(image, truth), abs=1e-9)
    assert found.nmse == pytest.approx(metrics.nrmse(image, truth) ** 2, rel=1e-9)
    assert found.mse == pytest.approx(np.mean(np.square(np.subtract(*metrics.fitted(image, truth)))))


def test_inside_as_the_sdk_has_it(pair: tuple[Volume, Volume]) -> None:
    image, truth = (volume[0] for volume in pair)
    mask = metrics.object_mask(truth)
    found = measure(image, truth, mask)
    assert found.psnr == pytest.approx(metrics.psnr(image, truth, mask), abs=1e-9)
    assert found.nmse == pytest.approx(metrics.nrmse(image, truth, mask) ** 2, rel=1e-9)
    scaled, reference = metrics.fitted(image, truth, mask)
    _, similarity = structural_similarity(scaled, reference, data_range=reference.max(), full=True)
    windowed = np.zeros_like(mask)
    windowed[3:-3, 3:-3] = mask[3:-3, 3:-3]
    assert found.ssim == pytest.approx(similarity[windowed].mean(), abs=1e-9)
    assert measure(np.where(mask, image, 9), truth, mask).nmse == pytest.approx(found.nmse)


def test_as_the_shared_measures_have_it(shared_data: Path, pair: tuple[Volume, Volume]) -> None:
    path = shared_data / "metrics.py"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    spec = importlib.util.spec_from_file_location("shared_metrics", path)
    assert spec is not None
    assert spec.loader is not None
    theirs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(theirs)
    image, truth = (volume[0] for volume in pair)
    assert measure(image, truth)[2:] == pytest.approx(theirs.whole(image, truth), abs=1e-9)
    inside = measure(image, truth, metrics.object_mask(truth))
    assert inside.psnr == pytest.approx(theirs.inside(image, truth), abs=1e-9)


@pytest.mark.parametrize("index", [0, slice(None)], ids=["slice", "volume"])
def test_without_fit_as_scikit_image_has_it(index: Any, pair: tuple[Volume, Volume]) -> None:
    image, truth = (np.abs(volume[index]) for volume in pair)
    image /= 2.9  # close, but not the best scale
    found = measure(image, truth, fit=False)
    peak = truth.max()
    assert found.psnr == pytest.approx(peak_signal_noise_ratio(truth, image, data_range=peak))
    assert found.nmse == pytest.approx(normalized_root_mse(truth, image) ** 2)
    slices = zip(np.atleast_3d(image.T).T, np.atleast_3d(truth.T).T, strict=True)
    expected = [structural_similarity(a, b, data_range=peak) for a, b in slices]
    assert found.ssim == pytest.approx(np.mean(expected), abs=1e-9)
    assert measure(image, truth).mse < found.mse


def test_volume_has_one_fit_and_one_peak(pair: tuple[Volume, Volume]) -> None:
    image, truth = pair
    image = image * np.array([1.0, 0.7])[:, None, None]
    scaled, reference = metrics.fitted(image, truth)
    found = measure(image, truth)
    assert found.psnr == pytest.approx(metrics.psnr(image, truth), abs=1e-9)
    expected = [
        structural_similarity(a, b, data_range=reference.max())
        for a, b in zip(scaled, reference, strict=True)
    ]
    assert found.ssim == pytest.approx(np.mean(expected), abs=1e-9)
    slices = measure_slices(image, truth)
    assert slices == [measure(a, b) for a, b in zip(image, truth, strict=True)]
    assert np.mean([one.mse for one in slices]) < found.mse
    mask = np.abs(truth) > 0.3
    assert measure_slices(image, truth, mask, fit=False)[1] == measure(image[1], truth[1], mask[1], fit=False)


def test_equal_images(pair: tuple[Volume, Volume]) -> None:
    assert measure(pair[1], pair[1], fit=False) == Measures(0, 0, float("inf"), pytest.approx(1))


def test_what_cannot_be_compared(pair: tuple[Volume, Volume]) -> None:
    image, truth = pair
    with pytest.raises(ShapeError, match=r"\(2, 30, 25\).*\(30, 25\)"):
        measure(image, truth[0])
    with pytest.raises(ShapeError, match="region"):
        measure(image, truth, np.ones((30, 25), dtype=bool))
    edge = np.zeros((30, 25), dtype=bool)
    edge[:, :2] = True
    with pytest.raises(ShapeError, match="no pixel of the region"):
        measure(image[0], truth[0], edge)
    with pytest.raises(NonFiniteError):
        measure(np.where(np.abs(truth) > 1, np.nan, image), truth, fit=False)
    with pytest.raises(ScanError, match="reference is zero"):
        measure(image, 0 * truth)
    with pytest.raises(ShapeError, match=r"both must be \(z, y, x\)"):
        measure_slices(image[0], truth[0])


def planes(image: Volume) -> torch.Tensor:
    return torch.from_numpy(np.stack([image.real, image.imag], axis=1)).float()


@pytest.fixture
def batches(pair: tuple[Volume, Volume]) -> list[tuple[torch.Tensor, dict[str, torch.Tensor]]]:
    """Three batches of two slices, with regions."""
    rng = np.random.default_rng(12)
    image, truth = pair
    made = []
    for spread in (0.02, 0.05, 0.2):
        noisy = image + spread * rng.normal(size=image.shape)
        roi = torch.from_numpy(np.abs(truth) > 0.3).float().unsqueeze(1)
        made.append((planes(noisy), {"target": planes(truth), "roi": roi}))
    return made


def expected(batches: Any, *, fit: bool = True) -> dict[str, float]:
    """Mean and spread by NumPy, of the slices one by one."""
    figures = {}
    for suffix in ("", "_inside"):
        rows = []
        for output, batch in batches:
            for image, target, roi in zip(output, batch["target"], batch["roi"], strict=True):
                where = roi[0].numpy() > 0 if suffix else None
                arrays = (np.hypot(*one.double().numpy()) for one in (image, target))
                rows.append(measure(*arrays, where, fit=fit))
        for name, column in zip(Measures._fields, np.transpose(rows), strict=True):
            figures[name + suffix] = column.mean()
            figures[f"{name}{suffix}_std"] = column.std()
    return figures


@pytest.mark.parametrize("fit", [True, False])
def test_mean_and_spread_over_slices(batches: Any, fit: bool) -> None:
    validation = ReconstructionMeasures(fit=fit)
    for output, batch in batches:
        validation.update(output, batch)
    found = {name: float(value) for name, value in validation.compute().items()}
    assert found == pytest.approx(expected(batches, fit=fit), rel=1e-6)
    validation.reset()
    output, batch = batches[0]
    validation.update(output, {"target": batch["target"]})
    figures = validation.compute()
    assert float(figures["psnr"]) != pytest.approx(found["psnr"])
    assert not any("inside" in name for name in figures)


def test_magnitude_images(batches: Any) -> None:
    output, batch = batches[0]
    complex_ones, magnitudes = ReconstructionMeasures(), ReconstructionMeasures()
    complex_ones.update(output, batch)
    magnitudes.update(output.norm(dim=1, keepdim=True), {"target": batch["target"].norm(dim=1, keepdim=True)})
    assert float(magnitudes.compute()["ssim"]) == pytest.approx(
        float(complex_ones.compute()["ssim"]), rel=1e-6
    )


def test_slices_without_signal_or_region_are_left_out(batches: Any) -> None:
    output, batch = batches[0]
    alone, padded = ReconstructionMeasures(), ReconstructionMeasures()
    alone.update(output, batch)
    empty = {name: torch.cat((value, 0 * value[:1])) for name, value in batch.items()}
    padded.update(torch.cat((output, output[:1])), empty)
    assert padded.compute() == alone.compute()
    without = {**batch, "roi": 0 * batch["roi"]}
    padded.update(output, without)
    assert padded.moments[:, 0, 0].tolist() == [4, 2]


def test_processes_compute_the_same(batches: Any) -> None:
    """Two ranks with unequal shares; the gathering of states, which a backend would do, is played."""

    def gather_with(other: ReconstructionMeasures) -> Any:
        theirs: Iterator[torch.Tensor] = iter([other.moments.clone()])
        return lambda mine, group=None: [mine, next(theirs)]

    ranks = [ReconstructionMeasures(distributed_available_fn=lambda: True) for _ in range(2)]
    for output, batch in batches[:2]:
        ranks[0].update(output, batch)
    output, batch = batches[2]
    ranks[1].update(output, batch)
    gathers = [gather_with(ranks[1]), gather_with(ranks[0])]
    for rank, gather in zip(ranks, gathers, strict=True):
        rank.dist_sync_fn = gather
    first, second = ({name: float(value) for name, value in rank.compute().items()} for rank in ranks)
    assert first == pytest.approx(second)
    assert first == pytest.approx(expected(batches), rel=1e-6)


def test_output_that_is_not_finite(batches: Any) -> None:
    output, batch = batches[0]
    with pytest.raises(NonFiniteError):
        ReconstructionMeasures().update(output * float("nan"), batch)
