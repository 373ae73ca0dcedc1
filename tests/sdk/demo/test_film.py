"""The film of the demonstration."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from scanside.demo import DemoResult
from scanside.demo.film import film_scan, run_film
from scanside.errors import ScansideError
from scanside.simulate import ScanConfig


def test_frames_that_help_each_other_are_nearer_to_the_truth(made: DemoResult) -> None:
    film = made.film
    assert list(film.films) == ["fft", "cine-view-sharing"]
    assert film.truth.shape == film.films["fft"].shape == (14, 64, 64)
    zero_filled, shared = film.quality["fft"], film.quality["cine-view-sharing"]
    assert shared.psnr_db > zero_filled.psnr_db + 2
    assert shared.ssim > zero_filled.ssim
    assert "there is no" in film.method.missing


def test_what_moves_is_the_heart(made: DemoResult) -> None:
    film = made.film
    assert 0.01 < film.moving.mean() < 0.2
    still = film.truth.std(axis=0)[~film.moving]
    assert still.max() < film.truth.std(axis=0)[film.moving].max()


def test_the_film_plays_at_the_pace_of_the_scan(made: DemoResult) -> None:
    with PillowImage.open(io.BytesIO((made.folder / "film.gif").read_bytes())) as gif:
        assert getattr(gif, "n_frames") == 14  # noqa: B009
        assert gif.size == (3 * 64, 64)
        assert gif.info["duration"] == pytest.approx(made.film.frame_ms, abs=10)
    assert made.film.frame_ms == 13 * 8.0


def test_a_frame_that_is_missing_is_no_film(
    small_film: ScanConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scanside.demo import film as module

    def replay(*args: object, **settings: object) -> object:
        made = real(*args, **settings)  # type: ignore[arg-type]
        del made.images[3]
        return made

    monkeypatch.setattr("scanside.engines.catalog._SHIPPED", tmp_path)
    monkeypatch.setenv("SCANSIDE_ENGINES", "")
    real = module.replay
    monkeypatch.setattr(module, "replay", replay)
    with pytest.raises(ScansideError, match="'fft' gave 13 images of the 14 frames"):
        run_film(tmp_path, config=small_film, on_step=lambda _: None)


def test_the_shipped_scan_is_the_preset() -> None:
    config = film_scan(3)
    assert (config.name, config.dynamics.repetitions) == ("cine", 3)
    assert np.prod(config.geometry.matrix) == 192 * 192
