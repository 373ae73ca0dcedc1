"""Completion of k-space that was sampled on one side only, and only of that."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from scanside import KSpace
from scanside.errors import StageConfigError
from scanside.simulate import SamplingConfig
from scanside.stages.partial_fourier import PartialFourier

PARTIAL = SamplingConfig(partial_fourier=(0.7, 1.0))


def error(kspace: KSpace, full: KSpace) -> float:
    return float((kspace.data - full.data).norm() / full.data.norm())


@pytest.fixture
def full(accumulated: Any) -> KSpace:
    _, (item,), _ = accumulated()
    return item  # type: ignore[no-any-return]


@pytest.mark.parametrize(("method", "gain"), [("pocs", 0.4), ("homodyne", 0.6), ("zero-fill", 1.0)])
@pytest.mark.parametrize("side", ["early", "late"])
def test_missing_side(
    accumulated: Any, run_stage: Any, full: KSpace, method: str, gain: float, side: str
) -> None:
    scan, (item,), _ = accumulated(sampling=PARTIAL.model_copy(update={"partial_fourier_side": side}))
    ran = run_stage(PartialFourier(method=method), scan.header_xml, [item])
    assert ran.scan.warnings == []
    if method == "zero-fill":
        assert ran.one is item
        return
    assert error(ran.one, full) < gain * error(item, full)
    assert ran.one.meta["ScansidePartialFourier"] == [method, "k1"]
    assert "ScansidePartialFourier" not in item.meta
    # What a filter or another stage takes for sampled is now the band that reaches as far on both sides.
    k1 = ran.one.ranges[1]
    assert k1.first <= 1
    assert k1.last == 35
    assert ran.one.ranges[0] == item.ranges[0]


def test_acquired_lines_stay(accumulated: Any, run_stage: Any) -> None:
    scan, (item,), _ = accumulated(sampling=PARTIAL)
    completed = run_stage(PartialFourier(), scan.header_xml, [item]).one
    acquired = item.mask[0]
    torch.testing.assert_close(
        completed.data[..., acquired, :], item.data[..., acquired, :], rtol=1e-4, atol=1e-4
    )
    assert torch.equal(completed.mask, item.mask)


@pytest.mark.parametrize(
    "sampling",
    [
        SamplingConfig(),
        SamplingConfig(phase_resolution=0.6),
        SamplingConfig(acceleration=(3, 1), acs=(12, 0)),
        SamplingConfig(pattern="variable-density", acceleration=(2, 1), acs=(8, 0)),
    ],
    ids=["full", "reduced-resolution", "accelerated", "random"],
)
def test_symmetric_bands_pass(accumulated: Any, run_stage: Any, sampling: SamplingConfig) -> None:
    scan, (item,), _ = accumulated(sampling=sampling)
    ran = run_stage(PartialFourier(), scan.header_xml, [item])
    assert ran.one is item
    assert ran.scan.warnings == []


def test_asymmetric_echo(accumulated: Any, run_stage: Any, full: KSpace) -> None:
    scan, (item,), _ = accumulated(sampling=SamplingConfig(partial_echo=0.7))
    completed = run_stage(PartialFourier(), scan.header_xml, [item]).one
    assert completed.meta["ScansidePartialFourier"] == ["pocs", "k0"]
    assert error(completed, full) < 0.5 * error(item, full)


def test_two_axes(accumulated: Any, run_stage: Any, full: KSpace) -> None:
    sampling = PARTIAL.model_copy(update={"partial_echo": 0.75})
    scan, (item,), _ = accumulated(sampling=sampling)
    both = run_stage(PartialFourier(), scan.header_xml, [item])
    assert both.one.meta["ScansidePartialFourier"] == ["pocs", "k1", "k0"]
    assert error(both.one, full) < 0.6 * error(item, full)
    one = run_stage(PartialFourier(method="homodyne"), scan.header_xml, [item])
    assert one.one.meta["ScansidePartialFourier"] == ["homodyne", "k1"]
    assert "completes k1 only and k0 stays" in one.scan.warnings[0]


def test_three_dimensions(accumulated: Any, run_stage: Any) -> None:
    scan, (item,), _ = accumulated((16, 20, 20), sampling=SamplingConfig(partial_fourier=(0.7, 0.75)))
    _, (full,), _ = accumulated((16, 20, 20))
    completed = run_stage(PartialFourier(), scan.header_xml, [item]).one
    assert completed.meta["ScansidePartialFourier"] == ["pocs", "k1", "k2"]
    assert error(completed, full) < 0.8 * error(item, full)


def test_gaps_are_left_to_grappa(accumulated: Any, run_stage: Any) -> None:
    from scanside.stages.grappa import Grappa

    sampling = SamplingConfig(acceleration=(2, 1), acs=(14, 0), partial_fourier=(0.7, 1.0))
    scan, (item,), _ = accumulated(sampling=sampling)
    ran = run_stage(PartialFourier(), scan.header_xml, [item])
    assert ran.one is item
    assert "put 'grappa' before" in ran.scan.warnings[0]
    filled = run_stage(Grappa(), scan.header_xml, [item]).one
    ran = run_stage(PartialFourier(), scan.header_xml, [filled])
    assert ran.one.meta["ScansidePartialFourier"] == ["pocs", "k1"]
    assert ran.scan.warnings == []


def test_no_iterations() -> None:
    with pytest.raises(StageConfigError, match="iterations"):
        PartialFourier(iterations=0)
