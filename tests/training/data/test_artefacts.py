"""Motion and ghosts in training samples, against what the Fourier transform says of them."""

from __future__ import annotations

import cmath
import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from scanside.recon.fourier import to_image, to_kspace
from scanside_training.data import SampleKey, SimulatedSamples
from scanside_training.data.artefacts import MotionConfig, ghosted, moved
from scanside_training.data.module import DataConfig

N1, N0 = 24, 20


@pytest.fixture
def coils() -> torch.Tensor:
    """Coil images that leave air around the object."""
    images = torch.zeros(2, N1, N0, dtype=torch.complex64)
    images[:, 8:16, 7:13] = torch.randn(
        2, 8, 6, dtype=torch.complex64, generator=torch.Generator().manual_seed(2)
    )
    return images


def test_lines_of_each_position_are_those_of_the_object_there(coils: torch.Tensor) -> None:
    state = torch.arange(N1) % 3
    positions = torch.tensor([[0.0, 0.0], [2.0, -1.0], [-3.0, 4.0]], dtype=torch.float64)
    found = moved(to_kspace(coils, (-2,)), state, positions)
    for number, (shift1, shift0) in enumerate(positions.int().tolist()):
        there = to_kspace(coils.roll((shift1, shift0), (-2, -1)), (-2,))
        torch.testing.assert_close(found[:, state == number], there[:, state == number], rtol=0, atol=1e-5)


@pytest.mark.parametrize("seed", range(6))
def test_the_centre_of_kspace_says_where_the_object_is(seed: int) -> None:
    state, positions = MotionConfig(states=(2, 5)).draw(N1, np.random.default_rng(seed))
    assert state.shape == (N1,)
    assert sorted(set(state.tolist())) == list(range(len(positions)))
    assert 2 <= len(positions) <= 5
    assert positions[state[N1 // 2]].tolist() == [0.0, 0.0]
    assert float(positions.abs().max()) > 0


def test_a_ghost_is_half_a_field_of_view_away_and_as_bright_as_the_phase_makes_it(
    coils: torch.Tensor,
) -> None:
    phase = 0.7
    found = to_image(ghosted(to_kspace(coils, (-2,)), phase, 0), (-2,))
    # Lines are counted from the first, which is as even as the centre is here.
    own, ghost = (1 + cmath.exp(1j * phase)) / 2, (1 - cmath.exp(1j * phase)) / 2
    expected = own * coils + ghost * coils.roll(N1 // 2, -2)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert abs(ghost) == pytest.approx(math.sin(phase / 2))


def test_a_delay_is_a_shift_of_the_samples_of_odd_lines(coils: torch.Tensor) -> None:
    hybrid = to_kspace(coils, (-2,))
    found = to_kspace(ghosted(hybrid, 0, 1), (-1,))
    whole = to_kspace(hybrid, (-1,))
    torch.testing.assert_close(found[:, ::2], whole[:, ::2], rtol=0, atol=1e-5)
    torch.testing.assert_close(found[:, 1::2], whole[:, 1::2].roll(1, -1), rtol=0, atol=1e-5)


@pytest.mark.usefixtures("slice_cache")
def test_samples_differ_from_the_target_by_the_artefact_alone() -> None:
    def data(**task: object) -> DataConfig:
        simulation = {
            "task": {"kind": "artefacts", "channels": "complex", **task},
            "k1": [64, 64],
            "k0": [48, 48],
            "readout_crop": None,
            "coils": {"n_coils": [3, 3], "measured": 0},
            "masks": {"patterns": ["random"], "acceleration": [1, 1], "acs": [16, 16]},
            "espirit": {"probability": 0},
            "snr": [1e6, 1e6],
        }
        sources = [{"kind": "synthetic", "n_subjects": 12, "slices_per_subject": 1, "size": 64}]
        return DataConfig.model_validate({"sources": sources, "simulation": simulation, "num_workers": 0})

    def error(config: DataConfig) -> float:
        sample = SimulatedSamples(config, "train")[SampleKey(0, 0, 0)]
        return float((sample["image"] - sample["target"]).norm() / sample["target"].norm())

    none = {"probability": 0}
    assert error(data(motion=none, ghost=none)) < 1e-4
    assert error(data(motion=none, ghost={"probability": 1})) > 0.03
    assert error(data(motion={"probability": 1}, ghost=none)) > 0.03


def test_an_object_is_somewhere() -> None:
    with pytest.raises(ValidationError, match="one state or more"):
        MotionConfig(states=(0, 3))
