"""The bench of echo-planar volumes: all of them at the scanner's pace, and figures of all images."""

from __future__ import annotations

import numpy as np
import pytest

from scanside.bench import epi, run
from scanside.errors import ConfigError

SMALL = epi.CONFIG.model_copy(
    update={
        "geometry": epi.CONFIG.geometry.model_copy(update={"matrix": (32, 32, 1), "n_slices": 2}),
        "coils": epi.CONFIG.coils.model_copy(update={"n_coils": 4}),
    }
)


def test_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(epi, "CONFIG", SMALL)
    monkeypatch.setattr(epi, "TR_S", 0.2)
    result = epi.measure(lambda _: None, volumes=4)
    rows = {row["what"]: row for row in result.rows}
    assert rows["readouts of a volume (2 slices, 32², R = 2, 4 coils)"]["median"] == 2 * (16 + 3)
    assert rows["one volume every 0.2 s: all"]["median"] >= 0.7
    late = rows["image, after the last line of its slice"]
    assert late["n"] == 8
    assert 0 < late["median"] <= late["p99"] <= late["max"]
    assert rows["last image of a volume, after its last line"]["n"] == 4
    complete = next(promise for promise in result.headline if "lack or differ" in promise.what)
    assert complete.holds


def test_echoes_of_a_slice_come_in_a_burst() -> None:
    series = epi.Volumes(SMALL, 0.2)
    blocks = list(series.items(3))
    assert [int(block.headers["idx"]["repetition"][0]) for block in blocks] == [0, 1, 2]
    headers = np.concatenate([block.headers for block in blocks])
    ms = headers["acquisition_time_stamp"] * 2.5
    assert (np.diff(ms) >= 0).all()
    of_slice = (headers["idx"]["slice"] == 1) & (headers["idx"]["repetition"] == 2)
    assert np.ptp(ms[of_slice]) < 20
    assert ms[of_slice][-1] == pytest.approx(1e3 * series.due_s(2, 1), abs=2.5)
    assert ms[of_slice][0] == pytest.approx(500, abs=3)
    counters = headers["scan_counter"].astype(int)
    assert (np.diff(counters) == 1).all()


def test_volumes_belong_to_this_bench() -> None:
    with pytest.raises(ConfigError, match="'radial' has no volumes; 'epi' has"):
        run("radial", volumes=3)
    with pytest.raises(ConfigError, match="bench of 0 volumes"):
        run("epi", volumes=0)
