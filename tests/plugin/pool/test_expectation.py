"""What a header announces, against what simulated scans then have."""

from __future__ import annotations

from typing import Any

import pytest

from scanside.mrd.flags import AcquisitionFlag, flagged
from scanside.mrd.header import MrdHeader
from scanside.mrd.readouts import Readouts
from scanside.simulate import (
    CoilConfig,
    DynamicsConfig,
    GeometryConfig,
    PhantomConfig,
    QuirkConfig,
    SamplingConfig,
    ScanConfig,
    simulate,
)
from scanside_gadgetron.pool.expectation import expected_readouts

pytestmark = pytest.mark.torch_free


def announced_and_counted(
    matrix: tuple[int, int, int] = (32, 32, 1), n_slices: int = 1, **settings: Any
) -> tuple[int | None, int]:
    scan = simulate(
        ScanConfig(
            phantom=PhantomConfig(kind="shepp-logan", supersampling=(1, 1, 1)),
            coils=CoilConfig(n_coils=2),
            geometry=GeometryConfig(matrix=matrix, n_slices=n_slices),
            **settings,
        )
    )
    n = 0
    for item in scan.items():
        if isinstance(item, Readouts):
            n += int((~flagged(item.headers["flags"], AcquisitionFlag.NOISE_MEASUREMENT)).sum())
    return expected_readouts(MrdHeader.parse(scan.header_xml)), n


def test_full_scans_are_known_exactly() -> None:
    for more in ({}, {"n_slices": 3}, {"dynamics": DynamicsConfig(repetitions=2)}, {"matrix": (32, 24, 8)}):
        announced, counted = announced_and_counted(**more)
        assert announced == counted


@pytest.mark.parametrize(
    ("matrix", "sampling"),
    [
        ((32, 96, 1), {"acceleration": (3, 1), "acs": (24, 0)}),
        ((32, 96, 1), {"acceleration": (4, 1), "acs": (16, 0), "acs_mode": "separate"}),
        ((16, 48, 24), {"acceleration": (2, 2), "acs": (16, 8)}),
    ],
)
def test_accelerated_scans_are_known_nearly(matrix: Any, sampling: dict[str, Any]) -> None:
    settings = {"sampling": SamplingConfig(**sampling), "quirks": QuirkConfig(user_parameters=True)}
    announced, counted = announced_and_counted(matrix, **settings)
    assert announced == pytest.approx(counted, rel=0.05)


def test_nothing_is_guessed() -> None:
    sampling = SamplingConfig(acceleration=(3, 1), acs=(24, 0))
    announced, _ = announced_and_counted(
        (32, 96, 1), sampling=sampling, quirks=QuirkConfig(user_parameters=False)
    )
    assert announced is None
