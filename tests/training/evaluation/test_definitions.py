"""PSNR, SSIM and NMSE by name agree with the tools that they are named after."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torchmetrics.functional.image import structural_similarity_index_measure

from scanside_training.evaluation.case import Case
from scanside_training.evaluation.definitions import DEFINITIONS, DefinitionName
from scanside_training.evaluation.scores import Measuring, measure_volume, score
from scanside_training.evaluation.volumes import Volumes

Volume = npt.NDArray[np.float64]


@pytest.fixture
def pair() -> tuple[Volume, Volume]:
    """Three slices ``(3, 44, 37)`` of different brightness, and a noisy image of nearly the same scale."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[-1:1:44j, -1:1:37j]
    slice_ = np.where(np.hypot(y, x) < 0.8, 1 + 0.4 * np.cos(7 * x) * np.sin(5 * y), 0.02)
    truth = np.stack([slice_, 0.5 * slice_[::-1], 0.2 * slice_[:, ::-1]])
    return np.abs(1.03 * truth + 0.05 * rng.normal(size=truth.shape)), truth


def cases(truth: Volume, volume: str = "v", scales: tuple[float, ...] = (1.0, 1.0, 1.0)) -> list[Case]:
    """Slices whose references are normalised by their scales."""
    return [
        Case(
            f"{volume}-{i}",
            {"subject": "s"},
            one / scale,
            one / scale,
            one > 0.05,
            volume=volume,
            scale=scale,
        )
        for i, (one, scale) in enumerate(zip(truth, scales, strict=True))
    ]


def test_volumes_as_fastmri_has_them(pair: tuple[Volume, Volume]) -> None:
    """The formulas of ``fastmri.evaluate``, written out."""
    image, truth = pair
    peak = truth.max()
    expected = {
        "mse": np.mean((truth - image) ** 2),
        "nmse": np.linalg.norm(truth - image) ** 2 / np.linalg.norm(truth) ** 2,
        "psnr": peak_signal_noise_ratio(truth, image, data_range=peak),
        "ssim": np.mean(
            [structural_similarity(a, b, data_range=peak) for a, b in zip(truth, image, strict=True)]
        ),
    }
    volumes = Volumes(Measuring(DEFINITIONS["fastmri"]))
    # Slices are normalised each by itself, and images are on the scale of their slice.
    scales = (2.0, 0.7, 0.1)
    for case, one in zip(cases(truth, scales=scales), image, strict=True):
        volumes.add(case, {"net": torch.from_numpy(one / case.scale)})
    (found,) = volumes.scores()
    assert (found.candidate, found.case) == ("net", "v")
    assert {name: found.values[name] for name in expected} == pytest.approx(expected, rel=1e-6)
    assert found.values["psnr"] == pytest.approx(10 * math.log10(peak**2 / expected["mse"]), abs=1e-6)


def test_windows_as_scikit_image_and_torchmetrics_have_them(pair: tuple[Volume, Volume]) -> None:
    image, truth = (volume[0] for volume in pair)
    peak = truth.max()
    (case,) = cases(truth[None], scales=(1.0,))
    wang = score("x", case, torch.from_numpy(image), measuring=Measuring(DEFINITIONS["wang"])).values
    theirs = structural_similarity(
        truth, image, data_range=peak, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert wang["ssim"] == pytest.approx(theirs, abs=1e-6)
    a, b = (torch.from_numpy(one)[None, None] for one in (image, truth))
    _, full = structural_similarity_index_measure(
        a, b, sigma=1.5, kernel_size=11, data_range=float(peak), return_full_image=True
    )
    # Theirs has reflected pixels beyond the edges; where the window lies within the image, it is the same.
    assert wang["ssim"] == pytest.approx(float(full[..., 5:-5, 5:-5].mean()), abs=1e-6)
    assert wang["psnr"] == pytest.approx(peak_signal_noise_ratio(truth, image, data_range=peak), abs=1e-6)
    ours = score("x", case, torch.from_numpy(image)).values
    factor = (image * truth).sum() / (image**2).sum()
    assert ours["ssim"] == pytest.approx(
        structural_similarity(truth, factor * image, data_range=peak), abs=1e-6
    )
    assert ours["psnr"] != pytest.approx(wang["psnr"], abs=1e-3)


def test_scanside_fits_a_volume_once(pair: tuple[Volume, Volume]) -> None:
    image, truth = pair
    values = measure_volume(5 * image, truth, truth, truth > 0.05, {}, DEFINITIONS["scanside"])
    factor = (image * truth).sum() / (image**2).sum()
    assert values["nmse"] == pytest.approx(((factor * image - truth) ** 2).sum() / (truth**2).sum(), rel=1e-9)


def test_volumes_are_complete_or_told(pair: tuple[Volume, Volume]) -> None:
    image, truth = pair
    volumes = Volumes(Measuring())
    for case, one in zip(cases(truth), image, strict=True):
        made = {"whole": torch.from_numpy(one), "half": torch.from_numpy(one)}
        volumes.add(case, made if case.name != "v-1" else {"whole": made["whole"]})
    wide = Case("w", {}, truth[0, :, 2:], truth[0, :, 2:], truth[0, :, 2:] > 0.05, volume="v")
    volumes.add(wide, {"whole": torch.from_numpy(image[0, :, 2:])})
    assert [(one.candidate, one.case) for one in volumes.scores()] == [
        ("whole", "v 44×37"),
        ("whole", "v 44×35"),
    ]
    assert volumes.incomplete() == {"half": ["v 44×37"]}
    assert volumes.cases() == {"v 44×37": ["v-0", "v-1", "v-2"], "v 44×35": ["w"]}


@pytest.mark.parametrize("name", ["scanside", "fastmri", "wang"])
def test_parameters_are_printed(name: DefinitionName) -> None:
    said = DEFINITIONS[name].described
    assert ("Gaussian window 11 × 11, σ = 1.5" in said) == (name == "wang")
    assert ("without a fit" in said) == (name != "scanside")
