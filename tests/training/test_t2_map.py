"""Maps of T2: the samples, the loss, and a network that learns to be nearer to the truth than a voxelwise fit."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from pydantic import ValidationError
from scipy.optimize import curve_fit
from torch.utils.data import default_collate

from scanside.errors import ConfigError
from scanside.testing import NetworkTests
from scanside_training.checkpoint import load_model
from scanside_training.config import load_config
from scanside_training.data import DataConfig, MultiEchoTask, SampleKey, SimulatedSamples
from scanside_training.losses.relaxation import MultiEchoSignalConfig
from scanside_training.losses.term import no_networks
from scanside_training.models import Batch, Network, NetworkConfig, T2MapConfig
from scanside_training.relaxation import T2_UNIT_MS, multi_echo_signal
from scanside_training.trainer import train

CONFIG = Path(__file__).resolve().parents[2] / "training" / "configs" / "t2-map.yaml"
SMALL: dict[str, Any] = {
    "data": {
        "sources": [{"kind": "synthetic-tissues", "n_subjects": 24, "slices_per_subject": 1, "size": 64}],
        "validation_samples": 4,
    },
    "max_steps": 200,
    "ema_decay": None,
    "accelerator": "cpu",
    "validation": {"every_steps": 1000, "images": 0},
}
TIMES = torch.tensor([[20.0, 50.0, 100.0]])
_BOUNDS_MS = (1.0, 5000.0)


def fitted_t2(
    echoes: npt.NDArray[np.floating], echo_times_ms: npt.NDArray[np.floating]
) -> npt.NDArray[np.float64]:
    """T2 in ms ``(voxel)`` by scipy's non-linear least squares of ``M0 exp(−TE / T2)``, each voxel for itself.

    Args:
        echoes: ``(echo, voxel)``, magnitudes.
        echo_times_ms: ``(echo)``.
    """
    times = np.asarray(echo_times_ms, np.float64)

    def signal(te: npt.NDArray[np.float64], m0: float, t2: float) -> npt.NDArray[np.float64]:
        return np.asarray(m0 * np.exp(-te / t2))

    def of_voxel(values: npt.NDArray[np.float64]) -> float:
        # The straight line through the logarithms is where it begins.
        slope, offset = np.polyfit(times, np.log(np.maximum(values, 1e-6)), 1)
        start = np.clip(-1 / slope if slope < 0 else _BOUNDS_MS[1], *_BOUNDS_MS)
        bounds = ((0, _BOUNDS_MS[0]), (np.inf, _BOUNDS_MS[1]))
        (_, t2), _ = curve_fit(signal, times, values, (np.exp(offset), start), bounds=bounds)
        return float(t2)

    return np.array([of_voxel(values) for values in np.asarray(echoes, np.float64).T])


class TestT2Map(NetworkTests):
    def config(self) -> NetworkConfig:
        return T2MapConfig(n_echoes=3, channels=4, pools=1)

    def batch(self, network: Network) -> Batch:
        m0 = torch.rand(1, 1, 24, 32, generator=torch.Generator().manual_seed(0))
        t2 = 40 + 100 * m0
        return {"image": multi_echo_signal(m0, t2, TIMES), "target": t2 / T2_UNIT_MS}


def samples(**simulation: Any) -> SimulatedSamples:
    data = load_config(CONFIG, SMALL).data.model_dump(mode="json")
    data["simulation"] |= simulation
    return SimulatedSamples(DataConfig.model_validate(data), "validation")


def test_signal_of_a_voxel() -> None:
    found = multi_echo_signal(torch.full((1, 1, 1, 1), 2.0), torch.full((1, 1, 1, 1), 50.0), TIMES)
    expected = [2 * math.exp(-te / 50) for te in (20, 50, 100)]
    assert found.flatten().tolist() == pytest.approx(expected)
    air = torch.zeros(1, 1, 1, 1)
    assert not multi_echo_signal(air, air, TIMES).any()


@pytest.mark.usefixtures("slice_cache")
def test_without_noise_a_fit_finds_the_map_of_a_sample() -> None:
    sample = samples(snr=[1e6, 1e6])[SampleKey(0, 0, 0)]
    inside = sample["roi"][0] > 0
    assert 100 < int(inside.sum()) < 3000
    found = fitted_t2(sample["image"][:, inside][:, :60].numpy(), sample["echo_times_ms"].numpy())
    np.testing.assert_allclose(found, T2_UNIT_MS * sample["target"][0][inside][:60].numpy(), rtol=1e-2)


@pytest.mark.usefixtures("slice_cache")
def test_noise_of_a_sample_is_what_it_says() -> None:
    """Far outside there is noise alone, whose magnitude has a mean of √(π/2) standard deviations (Rayleigh)."""
    sample = samples(snr=[10, 10], placement={"fill": [0.6, 0.6]})[SampleKey(0, 0, 0)]
    corner = sample["image"][:, :6, :6]
    assert float(corner.mean()) == pytest.approx(math.sqrt(math.pi / 2) * float(sample["noise"]), rel=0.1)


def test_the_loss_is_the_misfit_of_the_echoes() -> None:
    term = MultiEchoSignalConfig().build(no_networks)
    t2, m0 = torch.full((1, 1, 2, 2), 0.5), torch.full((1, 1, 2, 2), 2.0)
    batch = {
        "image": multi_echo_signal(m0, T2_UNIT_MS * t2, TIMES),
        "echo_times_ms": TIMES,
        "parameter-map:M0": m0,
    }
    assert float(term(t2, t2, batch).abs().max()) < 1e-12
    off = term(t2, t2, batch | {"parameter-map:M0": 2 * m0})
    expected = sum((2 * math.exp(-te / 50)) ** 2 for te in (20, 50, 100)) / 3
    assert off.flatten().tolist() == pytest.approx([expected] * 4, rel=1e-5)
    with pytest.raises(ConfigError, match=r"no 'parameter-map:M0'.*t2-map"):
        term(t2, t2, {"image": batch["image"], "echo_times_ms": TIMES})
    with pytest.raises(ConfigError, match=r"no 'echo_times_ms'.*multi-echo"):
        term(t2, t2, {"image": batch["image"], "parameter-map:M0": m0})


@pytest.mark.parametrize("times", [[30.0, 20.0], [0.0, 10.0], [10.0, 10.0]])
def test_echo_times(times: list[float]) -> None:
    with pytest.raises(ValidationError, match="positive and increase"):
        MultiEchoTask.model_validate({"echo_times_ms": times})


def test_no_engine_can_be_made_of_it() -> None:
    assert "no place in the stream" in T2MapConfig().unfit


@pytest.mark.slow
@pytest.mark.usefixtures("slice_cache", "one_thread")
def test_it_learns_to_be_nearer_to_the_truth_than_a_fit(tmp_path: Path) -> None:
    config = load_config(CONFIG, SMALL)
    train(config, tmp_path / "run")
    network, _ = load_model(tmp_path / "run")
    found = SimulatedSamples(config.data, "validation")
    batch = default_collate([found[SampleKey(0, 0, number)] for number in range(4)])
    with torch.inference_mode():
        learned, _ = network.split(network(*network.inputs(batch)))
    inside = batch["roi"] > 0
    some = torch.randperm(int(inside.sum()), generator=torch.Generator().manual_seed(0))[:600]
    echoes = batch["image"].movedim(1, -1)[inside[:, 0]][some].T
    truth, of_network = (T2_UNIT_MS * one[inside][some].numpy() for one in (batch["target"], learned))
    of_fit = fitted_t2(echoes.numpy(), batch["echo_times_ms"][0].numpy())
    errors = [float(np.median(np.abs(one - truth) / truth)) for one in (of_network, of_fit)]
    assert errors[0] < 0.8 * errors[1], errors
