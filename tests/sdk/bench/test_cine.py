"""The bench of films: figures for what runs, and a reason for what does not."""

from __future__ import annotations

import pytest

from scanside.bench import cine
from scanside.simulate import ScanConfig, preset


def small(name: str) -> ScanConfig:
    config = preset(name)
    return config.model_copy(
        update={
            "geometry": config.geometry.model_copy(update={"matrix": (32, 64, 1)}),
            "coils": config.coils.model_copy(update={"n_coils": 4}),
            "dynamics": config.dynamics.model_copy(update={"repetitions": 12}),
        }
    )


def test_figures_and_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cine, "preset", small)
    monkeypatch.setattr(cine, "PIPELINES", ("cine-view-sharing", "no-such-pipeline"))
    result = cine.measure(lambda _: None)
    first, fastest, paced, delay, computed, skipped = result.rows
    # 13 lines at TR 2.6 ms, by stamps of 2.5 ms.
    assert first["median"] == pytest.approx(13 * 2.6, abs=2.5)
    assert fastest["median"] > 0
    # At its pace the film takes as long as the scan, and no longer than the pipeline needs.
    assert paced["median"] <= 1.1 * 1000 / (13 * 2.6)
    assert delay["n"] == 12
    assert computed["n"] == 12
    # An image waits for three frames; whoever did not wait would have it earlier.
    assert delay["median"] >= 3 * 13 * 2.6 - 5
    assert computed["median"] < delay["median"]
    assert skipped["what"].startswith("skipped: there is no pipeline 'no-such-pipeline'")
    assert [one.what for one in result.headline] == ["cine-view-sharing: frames per second as fast as it can"]
