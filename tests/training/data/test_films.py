"""Samples of films obey the equations of the scans that they stand for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from scanside.recon.film_start import film_start
from scanside.recon.scaling import film_scale
from scanside_training.data import (
    BeatingHearts,
    DataConfig,
    Drawn,
    ReconstructionData,
    SampleKey,
    SampleShape,
    SimulationConfig,
    simulate_sample,
)
from scanside_training.data.films import film_window
from scanside_training.models import TemporalConfig

N = 48


@pytest.fixture(scope="module")
def film() -> torch.Tensor:
    """``(t, y, x)``: a bright disc that grows and shrinks over a grey one."""
    axis = torch.arange(N) - N // 2
    radius = torch.hypot(axis[:, None].float(), axis.float())
    sizes = 8 + 3 * torch.sin(2 * torch.pi * torch.arange(6) / 6)
    return 0.4 * (radius < 18) + 0.6 * (radius < sizes[:, None, None]).float()


def plain(**changes: object) -> SimulationConfig:
    """A small scan of an object as it is, with its true maps, nearly without noise."""
    settings: dict[str, object] = {
        "task": {"kind": "dynamic", "time": 4, "masks": {"acceleration": (3, 3), "acs": (6, 6)}},
        "k1": (N, N),
        "k0": (N, N),
        "readout_crop": None,
        "placement": {"native": 1, "flips": 0, "transpose": 0},
        "appearance": {"contrast": 0, "bias": 0},
        "coils": {"n_coils": (3, 3), "measured": 0},
        "snr": (1e7, 1e7),
        "espirit": {"probability": 0},
    }
    return SimulationConfig.model_validate(settings | changes)


def scanned(
    film: torch.Tensor, config: SimulationConfig, n_coils: int = 3, seed: int = 0
) -> dict[str, torch.Tensor]:
    return simulate_sample(film, Drawn(config, SampleShape(n_coils, N, N), np.random.default_rng(seed)))


def cplx(pairs: torch.Tensor, axis: int) -> np.ndarray:
    return np.asarray(torch.complex(*pairs.double().unbind(axis)))


def test_normal_equations_frame_by_frame(film: torch.Tensor) -> None:
    sample = scanned(film, plain())
    assert {name: tuple(one.shape) for name, one in sample.items()} == {
        "image": (2, 4, N, N),
        "target": (2, 4, N, N),
        "maps": (3, 2, N, N),
        "mask": (4, N, 1),
        "roi": (1, N, N),
        "scale": (),
        "noise": (),
    }
    image, target, maps = cplx(sample["image"], 0), cplx(sample["target"], 0), cplx(sample["maps"], 1)
    index = np.arange(N) - N // 2
    dft = np.exp(-2j * np.pi * np.outer(index, index) / N) / np.sqrt(N)
    masks = sample["mask"].numpy()
    for t in range(4):
        coils = dft.conj().T @ (masks[t] * (dft @ (maps * target[t])))
        np.testing.assert_allclose(image[t], (maps.conj() * coils).sum(0), atol=1e-5)
        assert masks[t].sum() == N / 3
        assert masks[t, N // 2 - 3 : N // 2 + 3].all()
    assert len({one.tobytes() for one in masks}) == 4
    assert float(film_scale(torch.from_numpy(image))) == pytest.approx(1, rel=1e-5)


def test_the_film_to_begin_with_is_that_of_the_whole_film(film: torch.Tensor) -> None:
    """As in use, where no columns are left out; and what networks make of a sample that does not hold it."""
    begun: dict[str, Any] = {
        "kind": "dynamic",
        "time": 4,
        "masks": {"acceleration": (3, 3), "acs": (6, 6)},
        "start": "low_rank_sparse",
    }
    whole = scanned(film, plain(task=begun))
    part = scanned(film, plain(task=begun, readout_crop=32))
    made = film_start(
        torch.complex(*whole["image"]), torch.complex(*whole["maps"].unbind(1)), whole["mask"][..., 0]
    )
    expected = torch.stack((made.real, made.imag))
    torch.testing.assert_close(whole["low_rank_sparse"], expected, rtol=1e-4, atol=1e-5)
    (first,) = [n for n in range(N - 31) if torch.equal(whole["image"][..., n : n + 32], part["image"])]
    assert torch.equal(part["low_rank_sparse"], whole["low_rank_sparse"][..., first : first + 32])
    without = {name: one[None] for name, one in whole.items() if name != "low_rank_sparse"}
    inputs = TemporalConfig(n_frames=4, start="low_rank_sparse").build().inputs(without)
    torch.testing.assert_close(inputs[3][0], expected, rtol=1e-4, atol=1e-5)


def test_the_beat_closes() -> None:
    film = torch.arange(5.0)[:, None, None]
    windows = {
        tuple(film_window(film, 4, np.random.default_rng(seed))[:, 0, 0].tolist()) for seed in range(40)
    }
    assert windows == {tuple(float((first + n) % 5) for n in range(4)) for first in range(5)}
    assert len(film_window(film, 7, np.random.default_rng(0))) == 7


def test_frames_differ_by_their_motion_alone(film: torch.Tensor) -> None:
    """Position, contrast, shading and phase are those of the whole film."""
    changed = plain(
        appearance={"contrast": 1, "bias": 1, "phase": 1},
        placement={"rotation_deg": (10, 10)},
        coils={"n_coils": (1, 1)},
    )
    still = film[:1].expand(6, -1, -1)
    target = cplx(scanned(still, changed, 1)["target"], 0)
    np.testing.assert_allclose(target, np.broadcast_to(target[:1], target.shape), atol=1e-6)
    moving = cplx(scanned(film, changed, 1)["target"], 0)
    assert np.abs(np.diff(moving, axis=0)).max() > 0.1


def test_noise_is_what_the_sample_says(film: torch.Tensor) -> None:
    noisy, quiet = (scanned(film, plain(snr=(snr, snr)), seed=3) for snr in (20.0, 1e7))
    noise = noisy["image"] * noisy["scale"] - quiet["image"] * quiet["scale"]
    sampled = float(noisy["mask"].mean())
    assert float(noise.std()) == pytest.approx(
        float(noisy["noise"] * noisy["scale"]) * sampled**0.5, rel=0.03
    )


def test_maps_as_the_scanner_finds_them(film: torch.Tensor) -> None:
    config = plain(espirit={"probability": 1, "kernel": 3}, snr=(200, 200))
    maps = cplx(scanned(film, config)["maps"], 1)
    power = (np.abs(maps) ** 2).sum(0)
    assert set(np.round(power, 4).flat) == {0.0, 1.0}
    true = cplx(scanned(film, plain(snr=(200, 200)))["maps"], 1)
    inside = film.amax(0).numpy() > 0
    alike = np.abs((maps.conj() * true).sum(0))[inside]
    assert np.median(alike) > 0.99


@pytest.fixture
def settings() -> dict[str, Any]:
    return {
        "sources": [
            {"kind": "beating-hearts", "n_subjects": 6, "films_per_subject": 1, "frames": 5, "size": 40}
        ],
        "simulation": {
            "task": {"kind": "dynamic", "time": 3, "masks": {"acceleration": [2, 2], "acs": [4, 4]}},
            "k1": [32, 32],
            "k0": [32, 32],
            "readout_crop": 16,
            "coils": {"n_coils": [1, 2], "measured": 0},
            "espirit": {"probability": 0},
        },
        "batch_size": 2,
        "validation_samples": 2,
    }


def test_batches(settings: dict[str, Any]) -> None:
    data = ReconstructionData(DataConfig.model_validate(settings))
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (2, 2, 3, 32, 16)
    samples = data.samples("validation")
    first, again = (samples[SampleKey(0, 0, 1)] for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["image"], samples[SampleKey(0, 0, 0)]["image"])


def test_films_and_slices_do_not_mix(settings: dict[str, Any]) -> None:
    slices = settings | {"sources": [*settings["sources"], {"kind": "synthetic"}]}
    with pytest.raises(
        ValidationError, match="the task 'dynamic' is made from films, and synthetic gives slices"
    ):
        DataConfig.model_validate(slices)
    with pytest.raises(
        ValidationError, match="'unrolled' is made from slices, and beating-hearts gives films"
    ):
        DataConfig.model_validate({"sources": settings["sources"]})


def test_hearts_beat_and_differ() -> None:
    hearts = BeatingHearts(n_subjects=3, films_per_subject=2, frames=8, size=48).open()
    assert (len(hearts), len(set(hearts.subjects))) == (6, 3)
    films = [np.asarray(hearts[n], np.float32) for n in range(6)]
    for film in films:
        assert film.shape == (8, 48, 48)
        assert film.min() >= 0
        assert np.isfinite(film).all()
        steps = [np.abs(film[n] - film[n - 1]).mean() for n in range(8)]
        assert min(steps) > 0
        # The first frame follows the last one as others follow each other.
        assert steps[0] < 3 * np.median(steps[1:])
    assert all(not np.allclose(films[n], films[n + 1]) for n in range(5))
