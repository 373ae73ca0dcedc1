"""The bench of golden-angle spokes: an image for every step, and figures of all of them."""

from __future__ import annotations

import pytest

from scanside.bench import radial
from scanside.simulate import ScanConfig, preset


def small(name: str) -> ScanConfig:
    config = preset(name)
    return config.model_copy(
        update={
            "geometry": config.geometry.model_copy(update={"matrix": (48, 48, 1)}),
            "coils": config.coils.model_copy(update={"n_coils": 4}),
            "dynamics": config.dynamics.model_copy(update={"repetitions": 4}),
        }
    )


def test_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(radial, "preset", small)
    monkeypatch.setattr(radial, "STACK", (4, 16, 16))
    result = radial.measure(lambda _: None)
    ours, alone, rate, planes, whole = result.rows
    assert ours["what"] == "34 spokes, 48², 4 coils: last spoke to image"
    assert alone["median"] > 0
    assert ours["p99"] >= ours["median"] > 0
    assert rate["median"] == pytest.approx(1e3 / ours["median"], rel=0.1)
    assert [planes["contender"], whole["contender"]] == ["planes", "3-D"]
    assert min(planes["median"], whole["median"]) > 0
    assert len(result.headline) == 3
