"""Evaluations of films: classical ones and networks, frame by frame as validations have it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scanside.errors import ConfigError, ShapeError
from scanside.metrics import psnr
from scanside_training.config import merged, read_config, read_settings
from scanside_training.data import DataConfig
from scanside_training.evaluation import EvaluationConfig, compare, write_evaluation
from scanside_training.evaluation.candidates import ZeroFilled, candidate_of
from scanside_training.evaluation.candidates.engine import EngineOf
from scanside_training.evaluation.candidates.films import LowRankSparseFilm, ViewSharing
from scanside_training.evaluation.candidates.network import Run
from scanside_training.evaluation.case import Case
from scanside_training.evaluation.pictures import Shown, case_figure
from scanside_training.evaluation.scores import score
from scanside_training.evaluation.simulated import SimulatedData
from scanside_training.trainer import train

pytestmark = pytest.mark.usefixtures("slice_cache", "one_thread")


def case_of(settings: Mapping[str, Any], number: int = 0) -> Case:
    data = DataConfig.model_validate(settings)
    return SimulatedData(data=data, part="validation").open()[number]


def test_classical_ones_know_what_frames_share(tiny_films: dict[str, Any]) -> None:
    tiny_films["data"]["sources"][0]["frames"] = 24  # so that little changes between neighbours
    case = case_of(tiny_films["data"])
    assert case.is_film
    assert case.n_images == 4
    assert case.strata["acceleration"] == "2"
    found = {
        one.kind: score(one.label, case, one.open().job(case)()).values
        for one in (ZeroFilled(), ViewSharing(), LowRankSparseFilm())
    }
    for name in ("view-sharing", "low-rank-sparse"):
        assert found[name]["psnr"] > found["zero-filled"]["psnr"] + 2, name
        assert found[name]["ssim_inside"] > found["zero-filled"]["ssim_inside"], name


def test_scores_are_means_over_frames(tiny_films: dict[str, Any]) -> None:
    case = case_of(tiny_films["data"])
    film = case.whole * np.array([1.0, 2, 3, 4])[:, None, None] + 0.1
    found = score("x", case, torch.from_numpy(film)).values
    expected = np.mean([psnr(a, b) for a, b in zip(film, case.whole, strict=True)])
    assert found["psnr"] == pytest.approx(float(expected))
    with pytest.raises(ShapeError, match="cannot be compared"):
        score("x", case, torch.from_numpy(film[1:]))


def test_view_sharing_needs_the_data_of_the_coils(tiny_films: dict[str, Any]) -> None:
    settings = merged(tiny_films["data"], {"simulation": {"coils": {"n_coils": [2, 2]}}})
    with pytest.raises(ConfigError, match="not the k-space of 2 coils"):
        ViewSharing().open().job(case_of(settings))


def test_films_and_images_do_not_mix(
    tiny: dict[str, Any], tiny_films: dict[str, Any], tmp_path: Path
) -> None:
    train(read_config(tiny_films, "films"), tmp_path / "run")
    network = Run(folder=tmp_path / "run").open()
    image = case_of(tiny["data"])
    with pytest.raises(ConfigError, match="this network takes films"):
        network.job(image)
    with pytest.raises(ConfigError, match="this one reconstructs films"):
        candidate_of("low-rank-sparse").open().job(image)
    with pytest.raises(ConfigError, match="this one reconstructs single images"):
        candidate_of("cg-sense").open().job(case_of(tiny_films["data"]))
    longer = merged(tiny_films["data"], {"simulation": {"task": {"time": 6}}})
    with pytest.raises(ConfigError, match=r"films of 4 frames .* and these are \(6, 32, 32\)"):
        network.job(case_of(longer))


def test_figures_are_those_of_validation(tiny_films: dict[str, Any], tmp_path: Path) -> None:
    record = train(read_config(tiny_films, "films"), tmp_path / "run")
    document = {
        "name": "films",
        "data": {"kind": "simulated", "data": tiny_films["data"], "part": "validation"},
        "candidates": [{"kind": "view-sharing"}, {"kind": "run", "folder": str(tmp_path / "run")}],
        "speed": {"repeats": 1},
        "pictures": 1,
    }
    result = compare(read_settings(EvaluationConfig, document, "test", "an evaluation"))
    assert not result.failures
    means = {one.candidate: one.means for one in result.summaries if one.stratum == "all"}
    for name in ("psnr", "ssim", "nmse", "psnr_inside"):
        assert means["run"][name] == pytest.approx(record.validation[name], rel=1e-4), name
    assert set(result.milliseconds) == {"view sharing", "run"}
    write_evaluation(result, tmp_path / "out")
    pictures = {one.name for one in (tmp_path / "out" / "pictures").iterdir()}
    assert pictures == {"001.png", "worst-of-run.png", "worst-of-view-sharing.png"}


def test_pictures_show_two_frames_and_a_course(tiny_films: dict[str, Any]) -> None:
    case = case_of(tiny_films["data"])
    figure = case_figure(Shown(case, {"zero-filled": ZeroFilled().open().job(case)()}))
    shown = figure.axes[0].images[0].get_array()
    assert shown is not None
    assert shown.shape == (32, 32 + 32 + 4 * 4)
    np.testing.assert_array_equal(shown[:, :32], case.whole[0])
    np.testing.assert_array_equal(shown[:, 32:64], case.whole[2])
    np.testing.assert_array_equal(shown[:, 64::4], case.whole[:, :, 16].T)


def test_engines(
    film_bundles: Path, learned_bundles: Path, tiny: dict[str, Any], tiny_films: dict[str, Any]
) -> None:
    case = case_of(merged(tiny_films["data"], {"simulation": {"coils": {"n_coils": [4, 4]}}}))

    def engine(path: Path) -> Any:
        return EngineOf(bundle=str(path), backend="eager", precision="fp32").open()

    film = torch.complex(*case.sample["image"])
    expected = film + 0.25 * (film.roll(1, 0) + film.roll(-1, 0) - 2 * film)
    torch.testing.assert_close(engine(film_bundles / "film-smooth").job(case)(), expected)
    made = engine(film_bundles / "film").job(case)()
    assert score("film", case, made).values["psnr"] > score("zero-filled", case, film).values["psnr"]
    with pytest.raises(ConfigError, match=r"are films, and bundle 'gradient' takes single images"):
        engine(learned_bundles / "gradient").job(case)
    with pytest.raises(ConfigError, match=r"are single images, and bundle 'film' takes films"):
        engine(film_bundles / "film").job(case_of(tiny["data"]))
    longer = case_of(merged(tiny_films["data"], {"simulation": {"task": {"time": 6}}}))
    with pytest.raises(ConfigError, match=r"takes films of 4 frames, and these are \(6, 32, 32\)"):
        engine(film_bundles / "film").job(longer)
