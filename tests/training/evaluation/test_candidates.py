from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scanside.errors import ConfigError
from scanside.metrics import psnr
from scanside_training.config import read_config
from scanside_training.evaluation.candidates import ZeroFilled, candidate_of
from scanside_training.evaluation.candidates.bart import BartPics
from scanside_training.evaluation.candidates.classical import CgSense, GrappaFill, SparseSense
from scanside_training.evaluation.candidates.network import Run
from scanside_training.evaluation.candidates.pipeline import PipelineRun
from scanside_training.evaluation.candidates.tuned import Tuned
from scanside_training.evaluation.case import Case
from scanside_training.evaluation.measured import CflData
from scanside_training.trainer import train


@pytest.fixture(scope="module")
def case(scan_folder: Path) -> Case:
    data = CflData(root=scan_folder, kspace=Path("scan/full"), masks={"half": Path("scan/half.npy")})
    return next(iter(data.open()))


def quality(case: Case, image: torch.Tensor) -> float:
    return psnr(image.numpy(), case.inside, case.roi)


def test_classical_ones_solve_an_easy_scan(case: Case) -> None:
    zero_filled = quality(case, ZeroFilled().open().job(case)())
    for candidate in (CgSense(), GrappaFill(), SparseSense(), SparseSense(wavelet=0, tv=0.002)):
        assert quality(case, candidate.open().job(case)()) > zero_filled + 10, candidate.kind


@pytest.mark.parametrize("maps", ["ecalib", "same"])
def test_bart(case: Case, bart: str, maps: Any) -> None:
    candidate = BartPics(iterations=30, maps=maps).open()
    image = candidate.job(case)()
    assert image.shape == case.whole.shape
    assert quality(case, image) > quality(case, ZeroFilled().open().job(case)()) + 10
    assert candidate.facts["BART"]


def test_compressed_sensing_comes_close_to_barts(case: Case, bart: str) -> None:
    ours = candidate_of("pics").open().job(case)()
    theirs = BartPics(iterations=60, maps="same").open().job(case)()
    assert quality(case, ours) > quality(case, theirs) - 0.5
    assert SparseSense().label == "L1-wavelet"
    assert SparseSense(tv=0.01).label == "L1-wavelet + TV"
    with pytest.raises(ValueError, match="pics needs a weight"):
        SparseSense(wavelet=0)


def test_bart_with_total_variation(case: Case, bart: str) -> None:
    image = BartPics(penalty="tv", weight=0.001, iterations=60).open().job(case)()
    assert quality(case, image) > quality(case, ZeroFilled().open().job(case)()) + 8
    # Of too much of it, nothing is left but what is even.
    much = BartPics(penalty="tv", weight=0.1, iterations=60).open().job(case)()
    assert quality(case, much) < quality(case, image) - 3


def test_a_tuned_setting_is_the_best_of_all_values(case: Case) -> None:
    values = (0.0001, 0.001, 0.01, 0.1, 1.0, 10.0)
    candidate = Tuned(of=CgSense(), setting="l2", values=values).open()
    image = candidate.job(case)()
    psnrs = [psnr(CgSense(l2=value).open().job(case)().numpy(), case.whole) for value in values]
    assert psnr(image.numpy(), case.whole) == max(psnrs)
    assert candidate.told == {"chosen": (f"l2 {values[int(np.argmax(psnrs))]:g}",)}
    assert candidate.n_parameters is None


def test_settings_that_cannot_be_tuned() -> None:
    with pytest.raises(ValueError, match="'cg-sense' has no setting 'weight'"):
        Tuned(of=CgSense(), setting="weight", values=(1, 2))
    with pytest.raises(ValueError, match="not rising"):
        Tuned(of=CgSense(), setting="l2", values=(2, 1))


@pytest.mark.slow
def test_pipelines_run_on_barts_files_and_tell_of_their_images(case: Case) -> None:
    image = PipelineRun(pipeline="sense").open().job(case)()
    assert quality(case, image) > quality(case, ZeroFilled().open().job(case)()) + 10
    refused = PipelineRun(
        pipeline="unrolled", settings={"engine.backend": "eager", "engine.precision": "fp32"}
    ).open()
    image = refused.job(case)()
    assert image.shape == case.whole.shape
    assert any("not prewhitened" in text for text in refused.told["warning"])
    assert refused.told.get("fitness") or refused.told.get("fallback")


def test_without_bart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match="'bart' is not installed"):
        BartPics().open()


def test_grappa_refuses_irregular_lines(kspace: torch.Tensor, case: Case) -> None:
    from scanside_training.evaluation.problem import Problem

    lines = torch.zeros(kspace.shape[-2], dtype=torch.bool)
    lines[[1, 4, 9, 12, *range(16, 28), 31, 36, 38, 43]] = True
    irregular = Case("x", {}, case.whole, case.inside, case.roi, Problem.from_kspace(kspace, lines))
    with pytest.raises(ConfigError, match="equispaced"):
        GrappaFill().open().job(irregular)


@pytest.fixture
def untrained(tiny: dict[str, Any], tmp_path: Path, slice_cache: Path, one_thread: None) -> Path:
    """Folder of a run of an unrolled network that computes at multiples of 8."""
    model = {"kind": "unrolled", "n_cascades": 2, "channels": 4, "pools": 3}
    simulation = tiny["data"]["simulation"] | {
        "task": {"kind": "unrolled"}, "coils": {"n_coils": [2, 2], "measured": 0}
    }  # fmt: skip
    settings = tiny | {"model": model, "data": tiny["data"] | {"simulation": simulation}, "max_steps": 1}
    train(read_config(settings, "tiny"), tmp_path / "run")
    return tmp_path / "run"


def test_unrolled_network_at_another_size(untrained: Path, case: Case) -> None:
    candidate = Run(folder=untrained).open()
    image = candidate.job(case)()
    assert image.shape == case.whole.shape  # 44 × 50 is no multiple of 8
    assert candidate.n_parameters == sum(p.numel() for p in candidate._model.config.build().parameters())
    assert quality(case, image) > 15
    assert torch.isfinite(torch.view_as_real(image)).all()


def test_result_follows_the_scale_of_the_data(untrained: Path, case: Case, kspace: torch.Tensor) -> None:
    from scanside_training.evaluation.problem import Problem

    assert case.problem is not None
    louder = Problem.from_kspace(1000 * kspace, case.problem.mask)
    candidate = Run(folder=untrained).open()
    first = candidate.job(case)()
    second = candidate.job(Case("x", {}, case.whole, case.inside, case.roi, louder))()
    torch.testing.assert_close(second / 1000, first, rtol=1e-3, atol=1e-3 * float(first.abs().max()))


def test_short_forms(untrained: Path) -> None:
    assert candidate_of("zero-filled").kind == "zero-filled"
    named = candidate_of(f"mine={untrained}")
    assert isinstance(named, Run)
    assert (named.name, named.folder) == ("mine", untrained)
    assert candidate_of("pipeline:sense").label == "pipeline sense"
    with pytest.raises(ConfigError, match=r"is none of zero-filled, grappa.*no folder of a run"):
        candidate_of("no-such-thing")
