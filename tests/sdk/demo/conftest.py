"""The demonstration on small scans, with small networks under the names of the shipped ones."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest

from scanside.demo import DemoResult, run_demo
from scanside.simulate import (
    CoilConfig,
    GeometryConfig,
    NoiseConfig,
    PhantomConfig,
    SamplingConfig,
    ScanConfig,
    preset,
)

SCAN = ScanConfig(
    phantom=PhantomConfig(supersampling=(1, 1, 1)),
    coils=CoilConfig(n_coils=8),
    noise=NoiseConfig(std=0.005, readouts=32),
    sampling=SamplingConfig(acceleration=(2, 1), acs=(20, 0)),
    geometry=GeometryConfig(
        matrix=(64, 64, 1),
        n_slices=3,
        slice_order="interleaved",
        rotation_deg=(-14, 5, 4),
        offset_mm=(0, 0, 16),
    ),
)


@pytest.fixture(scope="session")
def small_scan() -> ScanConfig:
    """Three slices of 64 × 64, 8 coils, R = 2."""
    return SCAN


@pytest.fixture(scope="session")
def small_noisy() -> ScanConfig:
    """One slice of the same with fifty times the noise."""
    return SCAN.model_copy(
        update={
            "noise": NoiseConfig(std=0.25, readouts=32),
            "geometry": SCAN.geometry.model_copy(update={"n_slices": 1}),
        }
    )


_CINE = preset("cine")
FILM = _CINE.model_copy(
    update={
        "phantom": _CINE.phantom.model_copy(update={"supersampling": (1, 1, 1)}),
        "coils": CoilConfig(n_coils=4),
        "sampling": _CINE.sampling.model_copy(update={"acs": (7, 0)}),
        "geometry": _CINE.geometry.model_copy(update={"matrix": (64, 64, 1)}),
        "dynamics": _CINE.dynamics.model_copy(update={"repetitions": 14}),
        "timing": _CINE.timing.model_copy(update={"tr_ms": 8.0}),
    }
)


@pytest.fixture(scope="session")
def small_film() -> ScanConfig:
    """14 frames of 64 × 64, 4 coils, R = 5."""
    return FILM


@pytest.fixture(scope="session")
def named_bundles(learned_bundles: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``gradient`` as the bundle of pipeline ``unrolled``; that of ``student`` is not there."""
    folder = tmp_path_factory.mktemp("named")
    (folder / "multicoil-unrolled").symlink_to(learned_bundles / "gradient")
    return folder


@pytest.fixture(scope="session")
def made(
    small_scan: ScanConfig,
    small_noisy: ScanConfig,
    small_film: ScanConfig,
    named_bundles: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> DemoResult:
    """A whole demonstration."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scanside.engines.catalog._SHIPPED", named_bundles)
        patch.setenv("SCANSIDE_ENGINES", str(named_bundles))
        # The quickest to judge, and one that is not needed then.
        patch.setattr("scanside.demo.engines.QUICK", (("eager", "fp32"), ("eager", "bf16")))
        patch.setattr("scanside.demo.run.built_beside", lambda _: nullcontext())
        folder = tmp_path_factory.mktemp("demo") / "new"
        return run_demo(folder, config=small_scan, learned=small_scan, noisy=small_noisy, film=small_film)
