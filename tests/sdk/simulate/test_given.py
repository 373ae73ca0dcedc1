"""A scan of k-space that is given goes through the stages as any other, and comes back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from scanside.errors import ConfigError, ShapeError
from scanside.items import Item, KSpace
from scanside.mrd.hdf5 import Hdf5Writer
from scanside.pipeline import Pipeline
from scanside.replay import replay
from scanside.simulate import CoilConfig, GeometryConfig, GivenScan, NoiseConfig, SamplingConfig, ScanConfig

CONFIG = ScanConfig(
    coils=CoilConfig(n_coils=3),
    geometry=GeometryConfig(matrix=(24, 20, 1)),
    sampling=SamplingConfig(acceleration=(2, 1), acs=(6, 0), oversampling=1),
    noise=NoiseConfig(std=0.5),
)


@pytest.fixture(scope="module")
def kspace() -> np.ndarray:
    rng = np.random.default_rng(1)
    parts = rng.standard_normal((2, 3, 1, 20, 24))
    return (parts[0] + 1j * parts[1]).astype(np.complex64)


def accumulated(scan: GivenScan, path: Path, stages: list[str]) -> KSpace:
    with Hdf5Writer(path, scan.header_xml) as writer:
        for item in scan.items():
            writer.write(item)
    found: list[KSpace] = []

    def take(label: str, item: Item) -> None:
        if label == "accumulate" and isinstance(item, KSpace):
            found.append(item)

    pipeline = Pipeline.from_config({"name": "test", "stages": [*stages, "accumulate", "fourier", "finish"]})
    replay(path, pipeline, device="cpu", threads=False, observe=take)
    return found[0]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_its_lines_are_those_that_were_given(kspace: np.ndarray, tmp_path: Path) -> None:
    item = accumulated(GivenScan(CONFIG, kspace, noisy=False), tmp_path / "a.h5", [])
    lines = item.mask.reshape(20).numpy()
    assert 10 < lines.sum() < 20
    assert item.data.reshape(3, 20, 24)[:, lines].equal(torch.from_numpy(kspace[:, 0, lines]))


def test_noise_readouts_are_the_same_with_and_without_noise_of_the_lines(
    kspace: np.ndarray, tmp_path: Path
) -> None:
    noisy = accumulated(GivenScan(CONFIG, kspace), tmp_path / "a.h5", ["noise"])
    clean = accumulated(GivenScan(CONFIG, kspace, noisy=False), tmp_path / "b.h5", ["noise"])
    lines = noisy.mask.reshape(20)
    noise = (noisy.data - clean.data).reshape(3, 20, 24)[:, lines]
    # Both are whitened by the same matrix: what is left is white noise of unit variance.
    assert float(noise.real.std()) == pytest.approx(1, abs=0.15)
    assert not clean.data.reshape(3, 20, 24).equal(torch.from_numpy(kspace[:, 0]))


def test_what_does_not_fit(kspace: np.ndarray) -> None:
    with pytest.raises(ShapeError, match=r"is \(2, 1, 20, 24\), and the scan encodes \(3, 1, 20, 24\)"):
        GivenScan(CONFIG, kspace[:2])
    with pytest.raises(ConfigError, match="does not know its truth"):
        _ = GivenScan(CONFIG, kspace).truth
