"""Images as spin echoes weight tissues."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from scanside_training.data import (
    DataConfig,
    SampleKey,
    SimulatedSamples,
    SpinEchoConfig,
    Synthetic,
    SyntheticTissues,
)
from scanside_training.data.contrast import random_spin_echo, spin_echo

SEQUENCES = [{"te": [10, 12], "tr": [400, 600]}, {"te": [100, 100], "tr": [4000, 4000]}]
SCAN = {"k1": [64, 64], "k0": [64, 64], "readout_crop": None, "coils": {"n_coils": [3, 3], "measured": 0}}


@pytest.fixture(scope="module")
def tissues() -> torch.Tensor:
    source = SyntheticTissues(n_subjects=1, slices_per_subject=1, size=96)
    return torch.from_numpy(source.open()[0])


def test_signal_of_white_matter_and_of_nothing() -> None:
    maps = torch.tensor([[0.7, 0.0], [1084.0, 0.0], [69.0, 0.0]])[:, None]
    found = spin_echo(maps, te=100, tr=500)
    expected = 0.7 * (1 - math.exp(-500 / 1084)) * math.exp(-100 / 69)
    assert found.tolist() == [[pytest.approx(expected), 0]]


def test_heads_have_the_relaxation_of_heads(tissues: torch.Tensor) -> None:
    density, t1, t2 = tissues
    assert tissues.shape == (3, 96, 96)
    inside = density > 0.6
    assert 0.1 < float(inside.float().mean()) < 0.8
    # Between white matter and fluid, fat aside; people differ by a tenth.
    assert 600 < float(t1[inside].median()) < 2400
    assert 50 < float(t2[inside].median()) < 200
    assert float(t2.max()) > 1000
    assert not density[0].any()


def test_fluid_is_dark_in_one_contrast_and_bright_in_the_other(tissues: torch.Tensor) -> None:
    fluid = tissues[2] > 1000
    white = (tissues[2] > 50) & (tissues[2] < 80) & (tissues[1] > 900)
    ratios = [
        float(image[fluid].mean() / image[white].mean())
        for image in (spin_echo(tissues, 12, 500), spin_echo(tissues, 100, 4000))
    ]
    assert ratios[0] < 0.6
    assert ratios[1] > 2


def test_drawn_times_are_those_of_the_image(tissues: torch.Tensor) -> None:
    sequences = tuple(SpinEchoConfig.model_validate(one) for one in SEQUENCES)
    rng = np.random.default_rng(0)
    drawn = [random_spin_echo(sequences, tissues, rng) for _ in range(20)]
    for image, told in drawn:
        te, tr = float(told["te"]), float(told["tr"])
        torch.testing.assert_close(image, spin_echo(tissues, te, tr))
        assert (te == 100 and tr == 4000) or (10 <= te <= 12 and 400 <= tr <= 600)
    assert 3 < sum(float(told["te"]) == 100 for _, told in drawn) < 17


def test_samples_say_their_times() -> None:
    data = DataConfig.model_validate(
        {
            "sources": [{"kind": "synthetic-tissues", "n_subjects": 3, "slices_per_subject": 1, "size": 64}],
            "simulation": {**SCAN, "sequences": SEQUENCES},
        }
    )
    sample = SimulatedSamples(data, "train")[SampleKey(0, 0, 0)]
    assert sample["te"].shape == sample["tr"].shape == ()
    assert sample["image"].shape == (2, 64, 64)


@pytest.mark.parametrize(
    ("sources", "simulation", "message"),
    [
        ([Synthetic()], {"sequences": SEQUENCES}, "is made from tissues, and synthetic gives slices"),
        (
            [SyntheticTissues()],
            {},
            "is made from slices, and synthetic-tissues gives tissues.*simulation.sequences",
        ),
        ([SyntheticTissues()], {"sequences": [{"te": [0, 5], "tr": [1, 1]}]}, "a time is positive"),
        (
            [SyntheticTissues()],
            {"sequences": SEQUENCES, "task": {"kind": "dynamic"}},
            "sequences make slices, and the task 'dynamic' takes films",
        ),
    ],
)
def test_sources_fit_sequences(sources: list[object], simulation: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DataConfig.model_validate({"sources": sources, "simulation": simulation})
