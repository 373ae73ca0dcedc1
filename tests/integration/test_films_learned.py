"""Films in a stream through a network that takes windows: the pixels of offline work, and what damage leaves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scanside import KSpace, Readouts
from scanside.engines.build import BundleSource
from scanside.engines.bundle import Bundle
from scanside.engines.graph import bind
from scanside.recon.consistency import film_sampling_inputs
from scanside.recon.fourier import to_image
from scanside.recon.scaling import film_scale
from scanside.simulate import (
    CoilConfig,
    DynamicsConfig,
    GeometryConfig,
    NoiseConfig,
    PhantomConfig,
    SamplingConfig,
    ScanConfig,
    SimulatedScan,
    simulate,
)

N, FRAMES = 64, 9


@pytest.fixture(scope="module")
def scan() -> SimulatedScan:
    """A heart in nine frames of 64 × 64, other random lines in each, R = 3."""
    return simulate(
        ScanConfig(
            geometry=GeometryConfig(matrix=(N, N, 1), fov_mm=(300.0, 300.0, 8.0), offset_mm=(0.0, 0.0, 16.0)),
            phantom=PhantomConfig(kind="cardiac", supersampling=(1, 1, 1)),
            coils=CoilConfig(n_coils=12),
            noise=NoiseConfig(std=0.002),
            sampling=SamplingConfig(
                pattern="variable-density", acceleration=(3, 1), density_power=2.0, acs=(12, 0), vary=True
            ),
            dynamics=DynamicsConfig(repetitions=FRAMES, beat="time"),
        )
    )


def stages(root: Path, *, network: bool = True) -> list[Any]:
    engine = {
        "bundle": str(root / "film"),
        "backend": "eager",
        "sizes": [[N, N]],
        "fallback": {"sense": {}},
    }
    made: list[Any] = [
        "noise",
        "oversampling",
        "accumulate",
        {"window": {"along": "repetition", "size": 4, "stride": 2, "look_ahead": 1}},
        {"coil-compression": {"n_coils": 8}},
        {"coil-maps": {"method": "espirit", "sets": 1}},
    ]
    return [*made, {"engine": engine}, "finish"] if network else made


def repetition(items: Any) -> list[int]:
    return [int(image.header["repetition"]) for image in items]


def single(items: Any) -> Iterator[Any]:
    """Readouts one by one, as a scanner sends them."""
    for item in items:
        if isinstance(item, Readouts):
            yield from (item.select(slice(i, i + 1)) for i in range(len(item)))
        else:
            yield item


def offline(root: Path, windows: list[KSpace]) -> dict[int, torch.Tensor]:
    """Frames ``(y, x)`` by their repetition: the network itself on the k-space of all windows."""
    network = bind(BundleSource(Bundle.open(root / "film"), (N, N), 8))
    found = {}
    for window in windows:
        maps, mask = window.coil_maps, window.mask[:, 0]
        assert maps is not None
        assert window.wanted is not None
        film = (maps[:, 0].conj() * to_image(window.data[:, :, 0])).sum(1)
        scale = film_scale(film, 0.99)
        image = torch.view_as_real(film / scale).permute(3, 0, 1, 2)[None].contiguous()
        planes = torch.view_as_real(maps[:, 0]).permute(0, 3, 1, 2)[None].contiguous()
        p = film_sampling_inputs("pmatrix", mask[None, ..., None].float())
        with torch.inference_mode():
            made = scale * network(image, planes, torch.zeros(1, 1, 1, 1), *p)[0]
        for frame in window.wanted:
            line = int(mask[frame].nonzero()[0, 0])
            number = int(window.headers[frame, 0, line]["idx"]["repetition"])
            assert number not in found, "a frame was wanted twice"
            found[number] = torch.complex(made[0, frame], made[1, frame])
    return found


def test_streaming_equals_offline(film_bundles: Path, reconstruct: Any, scan: SimulatedScan) -> None:
    windows = reconstruct(stages(film_bundles, network=False), scan.header_xml, scan.items()).kspaces
    assert [len(window.wanted) for window in windows] == [3, 2, 2, 2]
    right = offline(film_bundles, windows)
    assert sorted(right) == list(range(FRAMES))
    for items in (scan.items(), single(scan.items())):
        result = reconstruct(stages(film_bundles), scan.header_xml, items)
        assert repetition(result.images) == list(range(FRAMES))
        for i, image in enumerate(result.images):
            assert image.meta["ScansideEngine"] == ["film", "1.0.0"]
            assert image.meta["ScansideWindow"][0] == "repetition"
            assert "ScansideFallback" not in image.meta
            expected = right[i].abs().numpy()
            error = np.linalg.norm(result.voxels(i)[0] - expected) / np.linalg.norm(expected)
            assert error < 1e-5


def test_beats_zero_filling(film_bundles: Path, reconstruct: Any, nrmse: Any, scan: SimulatedScan) -> None:
    """Even this network of a formula, as it shares data between frames."""
    result = reconstruct(stages(film_bundles), scan.header_xml, scan.items())
    zero_filled = reconstruct("fft", scan.header_xml, scan.items())
    for i in range(FRAMES):
        truth = np.abs(scan.truth.image(repetition=i)[0])
        assert nrmse(result.voxels(i)[0], truth) < nrmse(zero_filled.voxels(i)[0], truth)


def without(items: Any, lost: set[int]) -> Iterator[Any]:
    for item in items:
        if isinstance(item, Readouts):
            keep = ~np.isin(item.headers["idx"]["repetition"], sorted(lost))
            item = item.select(keep)
            if not len(item):
                continue
        yield item


def test_frames_that_did_not_come(film_bundles: Path, reconstruct: Any, scan: SimulatedScan) -> None:
    result = reconstruct(stages(film_bundles), scan.header_xml, without(scan.items(), {3, 4}))
    assert repetition(result.images) == [0, 1, 2, 5, 6, 7, 8]
    assert any("frames are missing: repetition 3 to 4" in told for told in result.scan.warnings)


def test_film_that_is_shorter_than_the_window(
    film_bundles: Path, reconstruct: Any, scan: SimulatedScan
) -> None:
    result = reconstruct(stages(film_bundles), scan.header_xml, without(scan.items(), set(range(3, FRAMES))))
    assert repetition(result.images) == [0, 1, 2]
    assert all(image.meta["ScansideEngine"] == ["film", "1.0.0"] for image in result.images)
    assert any("shorter than the window of 4" in told for told in result.scan.warnings)


def test_window_of_another_length_than_the_network(
    film_bundles: Path, reconstruct: Any, scan: SimulatedScan
) -> None:
    chain = stages(film_bundles)
    chain[3] = {"window": {"along": "repetition", "size": 5, "stride": 2, "look_ahead": 1}}
    result = reconstruct(chain, scan.header_xml, scan.items())
    assert repetition(result.images) == list(range(FRAMES))
    for image in result.images:
        assert "set window.size to 4" in image.meta["ScansideFallback"][2]
