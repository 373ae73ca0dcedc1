"""Coils that die in mid-scan: told, and left out, so that images are those of the coils that lived."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from scanside import Context, Pipeline, Scan
from scanside.execution import execute
from scanside.items import Readouts
from scanside.recon.noise import whitening_matrix
from scanside.simulate import (
    CoilConfig,
    DynamicsConfig,
    GeometryConfig,
    NoiseConfig,
    PhantomConfig,
    SamplingConfig,
    ScanConfig,
    simulate,
)
from scanside.stages._dying_coils import dead_coils, without_coils
from scanside.testing import small_kspace

COIL = 3
GRAPPA: list[Any] = ["grappa", "coil-maps", {"fourier": {"combine": "maps"}}]
SENSE: list[Any] = [{"coil-maps": {"method": "espirit"}}, "sense"]
MEASURE: list[Any] = ["noise", "oversampling", "accumulate"]


def scan(sampling: SamplingConfig, noise: NoiseConfig | None = None, **parts: Any) -> Any:
    return simulate(
        ScanConfig(
            geometry=GeometryConfig(matrix=(96, 96, 1), fov_mm=(240.0, 240.0, 6.0), offset_mm=(0, 0, 16.0)),
            coils=CoilConfig(n_coils=8),
            phantom=parts.pop("phantom", PhantomConfig(supersampling=(1, 1, 1))),
            sampling=sampling,
            noise=noise or NoiseConfig(std=0.01, neighbour_correlation=0.3),
            **parts,
        )
    )


def dying(simulated: Any, share: float, level: float = 0.0, until: float = 1.0) -> list[Any]:
    """The stream, with a coil that receives only noise from a part of the readouts to another."""
    items, rng = list(simulated.items()), np.random.default_rng(1)
    n, begun = sum(len(item) for item in items if isinstance(item, Readouts)), 0
    changed = []
    for item in items:
        if isinstance(item, Readouts):
            numbers, samples = begun + np.arange(len(item)), item.samples.copy()
            dead = (numbers >= share * n) & (numbers < until * n)
            shape = samples[dead, COIL].shape
            samples[dead, COIL] = level * (rng.standard_normal(shape) + 1j * rng.standard_normal(shape))
            begun += len(item)
            item = item.with_samples(samples)
        changed.append(item)
    return changed


def run(stages: list[Any], simulated: Any, items: list[Any]) -> tuple[list[Any], Scan]:
    pipeline = Pipeline.from_config({"name": "test", "stages": stages})
    told = Scan.from_xml(simulated.header_xml)
    pipeline.prepare(Context(device="cpu"))
    out: list[Any] = []
    with pipeline.open(told) as running:
        execute(running, items, out.append)
    return out, told


def reference(simulated: Any, without: bool = True) -> torch.Tensor:
    """The root sum of squares of full data without noise, of the coils that lived."""
    config = simulated.config
    clean = simulate(
        ScanConfig(
            geometry=config.geometry,
            coils=config.coils,
            phantom=config.phantom,
            noise=NoiseConfig(std=0.0, scan="none"),
        )
    )
    items = dying(clean, 0.0) if without else list(clean.items())
    (image,), _ = run(["oversampling", "accumulate", "fourier"], clean, items)
    voxels: torch.Tensor = image.data[0, 0].abs()
    return voxels


def error(image: torch.Tensor, wanted: torch.Tensor) -> float:
    """Relative, after the best scalar fit."""
    magnitude = image.abs()
    fitted = magnitude * (magnitude * wanted).sum() / magnitude.square().sum()
    return float((fitted - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("stages", [GRAPPA, SENSE], ids=["grappa", "sense"])
@pytest.mark.parametrize(("mode", "share"), [("integrated", 0.59), ("separate", 0.65)])
@pytest.mark.parametrize("level", [0.0, 0.01])
def test_image_is_that_of_the_coils_that_lived(
    stages: list[Any], mode: Any, share: float, level: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulated = scan(SamplingConfig(acceleration=(2, 1), acs=(24, 0), acs_mode=mode))
    wanted = reference(simulated)
    items = dying(simulated, share, level)
    (image,), told = run([*MEASURE, *stages], simulated, items)
    assert image.meta.first("ScansideCoilsLeftOut").startswith(f"{COIL} (")
    (text,) = [text for text in told.warnings if "received nothing" in text]
    assert f"coil {COIL} (" in text
    assert "it is left out of the image" in text
    found = error(image.data[0, 0], wanted)
    # As of a scan that never had it, with the same noise.
    monkeypatch.setattr("scanside.stages._dying_coils.dead_coils", lambda *_: [])
    (never,), _ = run([*MEASURE, *stages], simulated, dying(simulated, 0.0, 0.01))
    assert found < 1.1 * error(never.data[0, 0], wanted)
    (silent,), told = run([*MEASURE, *stages], simulated, items)
    assert told.warnings == []
    assert (
        min(error(silent.data[0, 0], reference(simulated, without)) for without in (True, False))
        > 1.03 * found
    )


def test_noise_of_the_others_stays_white() -> None:
    """Though whitening had mixed the coil that goes into others: as if it had never been there."""
    rng, item = np.random.default_rng(0), small_kspace()
    factor = rng.standard_normal((4, 4)) + 1j * rng.standard_normal((4, 4))
    covariance = factor @ factor.conj().T
    noise = rng.standard_normal((4, 1, 24, 24)) + 1j * rng.standard_normal((4, 1, 24, 24))
    received = np.einsum("ij,jabc->iabc", factor, noise)
    whitening = whitening_matrix(covariance)
    white = torch.from_numpy(np.einsum("ij,jabc->iabc", whitening, received).astype(np.complex64))
    result = without_coils(item.replace(data=white), frozenset({1}), whitening)
    left = [0, 2, 3]
    wanted = np.einsum("ij,jabc->iabc", whitening_matrix(covariance[np.ix_(left, left)]), received[left])
    torch.testing.assert_close(
        result.data, torch.from_numpy(wanted.astype(np.complex64)), rtol=1e-3, atol=1e-3
    )
    assert result.reference is not None
    assert result.reference.n_coils == 3
    assert set(result.headers["active_channels"][result.headers["version"] > 0].tolist()) == {3}


def test_a_coil_that_lacks_next_to_nothing_stays() -> None:
    """At the end of a scan lines hold little: what would be lost without the coil is more, and it is told."""
    simulated = scan(SamplingConfig(acceleration=(2, 1), acs=(24, 0)))
    (image,), told = run([*MEASURE, *SENSE], simulated, dying(simulated, 0.9))
    assert "ScansideCoilsLeftOut" not in image.meta
    (text,) = [text for text in told.warnings if "received nothing" in text]
    assert "the image lacks 0.0" in text
    assert "received nothing" in image.incomplete


def test_a_coil_that_comes_back() -> None:
    simulated = scan(SamplingConfig(acceleration=(2, 1), acs=(24, 0)))
    (image,), told = run([*MEASURE, *SENSE], simulated, dying(simulated, 0.45, until=0.6))
    assert "ScansideCoilsLeftOut" in image.meta
    assert any("to some lines later" in text for text in told.warnings)


def test_it_is_left_out_of_all_that_follows() -> None:
    """Later repetitions have as many coils, and nothing is told again."""
    simulated = scan(
        SamplingConfig(acceleration=(2, 1), acs=(24, 0), acs_mode="separate"),
        dynamics=DynamicsConfig(repetitions=3),
        phantom=PhantomConfig(kind="cardiac", supersampling=(1, 1, 1)),
    )
    kspaces, told = run(MEASURE, simulated, dying(simulated, 0.5))
    assert [kspace.n_coils for kspace in kspaces] == [8, 7, 7]
    assert len([text for text in told.warnings if "received nothing" in text]) == 1


@pytest.mark.parametrize(
    "noise",
    [
        NoiseConfig(std=0.01),
        NoiseConfig(std=0.1),
        *(NoiseConfig(std=std, scan="none") for std in (0.0, 0.02)),
    ],
)
@pytest.mark.parametrize("pattern", ["equispaced", "random", "variable-density"])
@pytest.mark.parametrize("n_coils", [2, 8, 32])
def test_coils_that_live_are_not_suspected(noise: NoiseConfig, pattern: Any, n_coils: int) -> None:
    simulated = simulate(
        ScanConfig(
            geometry=GeometryConfig(matrix=(64, 96, 1), fov_mm=(240.0, 240.0, 6.0), offset_mm=(0, 0, 16.0)),
            coils=CoilConfig(n_coils=n_coils, radius_mm=125.0),
            phantom=PhantomConfig(supersampling=(1, 1, 1)),
            sampling=SamplingConfig(pattern=pattern, acceleration=(2, 1), acs=(16, 0)),
            noise=noise,
        )
    )
    (kspace,), told = run(MEASURE, simulated, list(simulated.items()))
    assert kspace.n_coils == n_coils
    assert not any("received nothing" in text for text in told.warnings)


def test_a_channel_that_never_received_anything(accumulated: Callable[..., Any]) -> None:
    """It is no coil that died; and all of the lines of one coil alone tell nothing."""
    _, (item,), _ = accumulated()
    empty = item.data.clone()
    empty[2] = 0
    assert dead_coils(item.replace(data=empty), None) == []
    assert dead_coils(item.replace(data=item.data[:1]), None) == []


def test_real_scans(shared_data: Any) -> None:
    from scanside.replay import replay

    result = replay(shared_data / "scanner-ismrmrd" / "skyra_grappa_r3.h5", "grappa", device="cpu")
    assert not any("received nothing" in text for text in result.warnings)
