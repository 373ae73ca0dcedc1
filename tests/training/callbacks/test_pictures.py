"""What the network makes of validation samples, as a picture."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib.image
import numpy as np
import torch

from scanside_training.callbacks import ValidationPictures
from scanside_training.callbacks.pictures import ERROR_GAIN, strip


def test_strip() -> None:
    target = torch.zeros(2, 8, 6)
    target[0], target[1] = 3.0, 4.0  # magnitude 5 everywhere
    shown = strip(0.5 * target, 1.1 * target, target)
    assert shown.shape == (8, 24)
    for column, expected in enumerate((0.5, 1.0, 1.0, ERROR_GAIN * 0.1)):
        np.testing.assert_allclose(shown[:, 6 * column : 6 * column + 6], expected, rtol=1e-5)


def test_strip_of_a_film_has_its_course_along_time() -> None:
    film = torch.zeros(1, 5, 8, 6)
    film[0, 2], film[0, 4, :, 3] = 0.5, 1.0
    shown = strip(film, film, film)
    one = 6 + 5 * 4
    assert shown.shape == (8, 4 * one)
    frame, course = shown[:, :6], shown[:, 6:one].reshape(8, 5, 4)
    white = float(torch.quantile(film.flatten(), 0.995))
    np.testing.assert_allclose(frame, 0.5 / white, rtol=1e-5)
    np.testing.assert_allclose(
        course.mean((0, 2)), np.minimum([0, 0, 0.5 / white, 0, 1 / white], 1), rtol=1e-5
    )


def test_strip_of_magnitudes_of_nothing_and_of_nan() -> None:
    nothing = torch.zeros(1, 4, 4)
    assert not strip(nothing, nothing, nothing).any()
    assert np.isfinite(strip(nothing, torch.full_like(nothing, torch.nan), nothing)).all()


def test_first_samples_are_written(tmp_path: Path) -> None:
    trainer: Any = SimpleNamespace(is_global_zero=True, global_step=12, loggers=[])
    module: Any = None
    pictures = ValidationPictures(tmp_path / "images", 3)
    for size in (8, 6, 10):  # matrices differ from batch to batch
        images = torch.rand(2, 1, size, size, generator=torch.Generator().manual_seed(size))
        batch = {"image": images, "target": images}
        pictures.on_validation_batch_end(trainer, module, images, batch, 0)
    pictures.on_validation_epoch_end(trainer, module)
    written = matplotlib.image.imread(tmp_path / "images" / "step-0000012.png")
    assert written.shape[:2] == (8 + 8 + 6, 4 * 8)
    assert not written[:16, 24:, 0].any(), "the output is the target: no error"
    assert written[:8, :8, 0].std() > 0.1
    pictures.on_validation_epoch_end(trainer, module)  # a validation without samples writes nothing
    assert len(list((tmp_path / "images").iterdir())) == 1
