"""SPIRiT as a stage: regular and random lines, films, and what it does not touch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from scanside import Scan, ScanEnd
from scanside.errors import CalibrationError, ConfigError, StageConfigError
from scanside.items import KSpace
from scanside.recon.fourier import to_kspace
from scanside.simulate import CoilConfig, DynamicsConfig, NoiseConfig, PhantomConfig, SamplingConfig
from scanside.stages.spirit import Spirit
from scanside.stages.window import JoinFrames


def truth_of(scan: Any, **which: int) -> torch.Tensor:
    image = torch.from_numpy(scan.truth.maps[0] * scan.truth.image(**which))
    return to_kspace(image.to(torch.complex64), (-2, -1))


def missed(item: KSpace, truth: torch.Tensor) -> float:
    """What is missing of the truth on lines that were not acquired, 1 where they are zero."""
    holes = ~item.mask[..., None, :, :, None]
    return float(((item.data - truth) * holes).norm() / (truth * holes).norm())


@pytest.mark.parametrize(("pattern", "acs", "limit"), [("equispaced", 24, 0.3), ("random", 24, 0.75)])
def test_lines_are_filled(accumulated: Any, run_stage: Any, pattern: Any, acs: int, limit: float) -> None:
    """Of regular lines as by GRAPPA, which misses 0.21; random ones have gaps wider than the kernel."""
    sampling = SamplingConfig(pattern=pattern, acceleration=(2, 1), acs=(acs, 0))
    scan, (item,), _ = accumulated((72, 64, 1), sampling=sampling, coils=CoilConfig(n_coils=6))
    ran = run_stage(Spirit(), scan.header_xml, [item])
    filled = ran.one
    acquired = item.mask[0]
    assert torch.equal(filled.data[:, 0, acquired], item.data[:, 0, acquired])
    assert torch.equal(filled.mask, item.mask)
    assert missed(filled, truth_of(scan)) < limit
    assert ran.scan.warnings == []
    assert int(filled.meta.first("SpiritIterations")) > 3


def test_partial_fourier_stays_what_it_is(accumulated: Any, run_stage: Any) -> None:
    scan, (item,), _ = accumulated(
        sampling=SamplingConfig(acceleration=(2, 1), acs=(16, 0)), coils=CoilConfig(n_coils=4)
    )
    mask, data = item.mask.clone(), item.data.clone()
    mask[..., :9], data[..., :9, :] = False, 0
    filled = run_stage(
        Spirit(kernel_k0=3, kernel_k1=3), scan.header_xml, [item.replace(mask=mask, data=data)]
    ).one
    first = int(mask[0].nonzero()[0])
    assert float(filled.data[..., :first, :].abs().max()) == 0
    last = int(mask[0].nonzero()[-1])
    assert float(filled.data[..., first : last + 1, :].abs().sum((0, 1, 3)).min()) > 0


def test_wavelets_help_films(accumulated: Any, run_stage: Any) -> None:
    scan, frames, _ = accumulated(
        phantom=PhantomConfig(kind="cardiac"),
        dynamics=DynamicsConfig(phases=8),
        sampling=SamplingConfig(pattern="variable-density", acceleration=(2, 1), acs=(10, 0), vary=True),
        noise=NoiseConfig(std=0.05, neighbour_correlation=0.0, spread=0.0, scan="none"),
    )
    stage = JoinFrames(along="phase", size=8, stride=8, look_ahead=0)
    stage.open(Scan.from_xml(scan.header_xml))
    (window,) = (*(one for frame in frames for one in stage.process(frame)), *stage.finish(ScanEnd()))
    truth = torch.stack([truth_of(scan, phase=phase) for phase in range(8)])
    small = {"kernel_k0": 3, "kernel_k1": 3}
    sparse = run_stage(Spirit(**small, wavelet=0.01, max_iterations=60), scan.header_xml, [window]).one
    linear = run_stage(Spirit(**small), scan.header_xml, [window]).one
    assert missed(sparse, truth) < 0.85 * missed(linear, truth)


def test_what_cannot_be_is_told(accumulated: Any, run_stage: Any) -> None:
    scan, (item,), _ = accumulated(sampling=SamplingConfig(acceleration=(2, 1), acs=(16, 0)))
    lone = item.mask & (torch.arange(item.mask.shape[-1]) % 4 == 0)
    with pytest.raises(CalibrationError, match=r"SPIRiT needs calibration \(ACS\) lines"):
        run_stage(Spirit(), scan.header_xml, [item.replace(mask=lone, reference=None)])
    with pytest.raises(CalibrationError, match="use a smaller kernel"):
        run_stage(Spirit(kernel_k1=15), scan.header_xml, [item])
    with pytest.raises(StageConfigError, match="must be odd"):
        Spirit(kernel_k0=4)
    (warning,) = run_stage(Spirit(max_iterations=1), scan.header_xml, [item]).scan.warnings
    assert "raise spirit.max_iterations or spirit.tolerance" in warning
    sets = item.replace(
        data=item.data[None], mask=item.mask[None], headers=item.headers[None], other=("contrast",)
    )
    with pytest.raises(ConfigError, match="SPIRiT with wavelets needs frames along one axis"):
        run_stage(Spirit(wavelet=0.01), scan.header_xml, [sets])


def test_complete_kspace_passes(accumulated: Any, run_stage: Any) -> None:
    scan, (item,), _ = accumulated()
    assert np.shares_memory(run_stage(Spirit(), scan.header_xml, [item]).one.data.numpy(), item.data.numpy())
