from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from scanside_training.evaluation.measured import CflData
from scanside_training.evaluation.scores import Score, score, summaries


def test_measures_are_those_of_the_data(shared_data: Path) -> None:
    spec = importlib.util.spec_from_file_location("shared_metrics", shared_data / "metrics.py")
    assert spec is not None
    assert spec.loader is not None
    theirs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(theirs)
    masks = {"r33": Path("brain-8ch/mask_r33.npy")}
    data = CflData(root=shared_data, kspace=Path("brain-8ch/full"), masks=masks)
    case = next(iter(data.open()))
    assert case.problem is not None
    assert (case.strata["acceleration"], case.strata["n_coils"]) == ("3.3", "8")
    image = case.problem.adjoint
    found = score("x", case, image).values
    psnr, ssim = theirs.whole(image.numpy(), case.whole)
    assert found["psnr"] == pytest.approx(psnr, abs=1e-6)
    assert found["ssim"] == pytest.approx(ssim, abs=1e-6)
    assert found["psnr_inside"] == pytest.approx(theirs.inside(image.numpy(), case.inside), abs=1e-6)
    # The reference point that came with the data, whose coil maps are BART's.
    assert found["psnr"] == pytest.approx(23.2, abs=0.2)


def made(candidate: str, case: str, psnr: float, **strata: str) -> Score:
    return Score(candidate, case, strata, {"psnr": psnr})


def test_summaries() -> None:
    scores = [
        made("a", "1", 30.0, mask="x", acceleration="3", subject="s"),
        made("a", "2", 20.0, mask="y", acceleration="10", subject="s"),
        made("a", "3", 22.0, mask="y", acceleration="10", subject="s"),
        made("b", "1", 31.0, mask="x", acceleration="3", subject="s"),
    ]
    rows = summaries(scores)
    # The acceleration divides the images as the mask does, and there is one subject.
    assert [(row.candidate, row.stratum, row.value, row.n) for row in rows] == [
        ("a", "all", "", 3),
        ("b", "all", "", 1),
        ("a", "mask", "x", 1),
        ("b", "mask", "x", 1),
        ("a", "mask", "y", 2),
    ]
    assert rows[0].means["psnr"] == pytest.approx(24.0)
    assert rows[0].deviations["psnr"] == pytest.approx(np.std([30, 20, 22], ddof=1))
    assert rows[1].deviations["psnr"] == 0


def test_numbers_are_in_order() -> None:
    scores = [made("a", str(i), 1.0, acceleration=value) for i, value in enumerate(("10", "4", "all", "3.3"))]
    assert [row.value for row in summaries(scores)[1:]] == ["3.3", "4", "10", "all"]


def test_no_object_no_figures_inside(scan_folder: Path) -> None:
    data = CflData(root=scan_folder, kspace=Path("scan/full"), masks={"half": Path("scan/half.npy")})
    case = next(iter(data.open()))
    object.__setattr__(case, "roi", np.zeros_like(case.roi))
    assert "psnr_inside" not in score("x", case, torch.from_numpy(case.whole)).values
