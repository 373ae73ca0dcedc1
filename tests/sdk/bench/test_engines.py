"""The bench of engines: every backend has a row, with figures or with the reason why it has none."""

from __future__ import annotations

from pathlib import Path

import pytest

from scanside.bench import engines
from scanside.bench.engines import measure
from scanside.engines.backends import NAMES
from scanside.engines.build import Workshop
from scanside.engines.bundle import Bundle
from scanside.engines.cache import EngineCache
from scanside.errors import ConfigError


def test_all_backends_are_in_the_table(
    bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Compiling takes half a minute; that engines are compiled is another test's matter.
    monkeypatch.setattr("scanside.engines.backends.aoti_cpu.shutil.which", lambda _: None)
    said: list[str] = []
    result = measure(said.append, {"tiny": bundle_folder}, EngineCache(tmp_path / "engines"))
    rows = {(row["backend"], row["precision"]): row for row in result.rows}
    assert {name for name, _ in rows} == set(NAMES)
    eager = rows["eager", "fp32"]
    assert eager["times_faster"] == 1.0
    assert eager["relative_error"] == 0.0
    assert eager["size"] == "128×96", "the bucket nearest to 256×256"
    assert 0 < eager["median_ms"] <= eager["p90_ms"]
    for row in result.rows:
        assert (row["median_ms"] is None) == bool(row["note"]), f"neither figures nor a reason: {row}"
    assert "no C++ compiler" in rows["aoti-cpu", "fp32"]["note"]
    (promise,) = result.headline
    assert promise.what.startswith("tiny: fastest accepted engine")
    assert promise.target == ">= 4"
    assert promise.value == max(row["times_faster"] or 0 for row in result.rows)
    assert said[-1] == "tiny: timing"


def test_without_bundles_it_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="scanside engines build"):
        measure(lambda _: None, {}, EngineCache(tmp_path))


def test_films_are_timed_by_the_frame(film_bundles: Path, tmp_path: Path) -> None:
    source = engines._source(Bundle.open(film_bundles / "film"))
    (one,) = Workshop(source, EngineCache(tmp_path / "engines")).candidates(("eager",), "fp32")
    row = engines._row("film", source, one, [6.0, 8.0, 10.0], None, "")
    assert row["size"] == "4 frames of 64×64 8 coils"
    assert row["median_ms"] == 8.0
    assert row["ms_per_frame"] == 2.0


def test_exact_form_is_measured_beside_the_principal_one(
    learned_bundles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scanside.engines.backends.aoti_cpu.shutil.which", lambda _: None)
    folder = learned_bundles / "exact"
    cache = EngineCache(tmp_path / "engines")
    result = measure(lambda _: None, {"exact": folder}, cache)
    rows = {(row["form"], row["backend"]): row for row in result.rows if row["median_ms"]}
    assert {form for form, _ in rows} == {"principal", "columns"}
    notes = {
        (row["form"], row["backend"]): row["note"] for row in result.rows if row.get("precision") == "fp32"
    }
    assert "no C++ compiler" in notes["columns", "aoti-cpu"]
    assert "form 'columns' takes its place" in notes["principal", "aoti-cpu"]
    assert rows["columns", "factorisation"]["median_ms"] > 0
    factorising, at_hand = result.headline
    assert "factorising for each image" in factorising.what
    assert (factorising.target, at_hand.target) == (">= 4", ">= 8")
    fastest = {
        form: min(
            row["median_ms"] for (own, name), row in rows.items() if own == form and name != "factorisation"
        )
        for form in ("principal", "columns")
    }
    assert at_hand.value == pytest.approx(fastest["principal"] / fastest["columns"], rel=0.05)
    assert factorising.value < at_hand.value
