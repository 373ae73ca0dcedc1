"""The benchmark beside BART, in little."""

from __future__ import annotations

import pytest

from scanside.bench import pics
from scanside.errors import ConfigError


def test_a_small_one(bart: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("_N", 48), ("_COILS", 4), ("_ITERATIONS", 20), ("_RUNS", 1)):
        monkeypatch.setattr(pics, name, value)
    told: list[str] = []
    result = pics.measure(told.append)
    assert told == ["a scan", "run 1 of 1"]
    assert len(result.rows) == 8
    agreement = {one.what: one for one in result.headline[2:]}
    assert agreement["objective over BART's"].value == pytest.approx(1, abs=0.02)
    assert agreement["NRMSE to BART's image"].value < 0.05


def test_without_bart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(ConfigError, match="the program 'bart' is not installed"):
        pics.measure(lambda _: None)
