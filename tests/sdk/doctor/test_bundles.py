"""Bundles: whole or not, and accepted here or not."""

from __future__ import annotations

import shutil
from datetime import datetime, timezone
from pathlib import Path

import pytest

from scanside.doctor.bundles import check_bundles
from scanside.doctor.check import Check
from scanside.engines import catalog
from scanside.engines.backends.eager import Eager
from scanside.engines.bundle import Bundle
from scanside.engines.cache import EngineCache, engine_cache_folder
from scanside.engines.engine import Engine
from scanside.engines.taken_times import EngineTime, Times


def by_name() -> dict[str, Check]:
    return {check.name: check for check in check_bundles()}


@pytest.fixture
def own_cache(learned_bundles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SCANSIDE_ENGINE_CACHE", str(tmp_path / "cache"))
    # The shipped ones are large; they are looked at elsewhere.
    monkeypatch.setattr(catalog, "_SHIPPED", tmp_path / "none")
    return tmp_path / "cache"


@pytest.mark.usefixtures("own_cache")
def test_before_and_after_an_engine_was_accepted(
    learned_bundles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = by_name()["bundle smooth"]
    assert check.status == "missing"
    assert "scanside engines build smooth --bucket 24x24" in check.advice
    Engine.load(Bundle.open(learned_bundles / "smooth"), (24, 24), name="eager")
    check = by_name()["bundle smooth"]
    assert check.status == "ok"
    assert "not signed; accepted here: eager fp32 24×24 " in check.found
    # Another torch would build it anew, and says so.
    monkeypatch.setattr(Eager, "versions", lambda self: {"torch": "0.0"})
    check = by_name()["bundle smooth"]
    assert check.status == "missing"
    assert "other versions" in check.found


@pytest.mark.usefixtures("own_cache")
def test_times_that_were_taken_on_a_busy_machine(learned_bundles: Path) -> None:
    """Until they are taken again."""
    bundle = Bundle.open(learned_bundles / "smooth")
    Engine.load(bundle, (24, 24), name="eager")
    cache = EngineCache()
    (entry,) = cache.entries()

    def keep(day: int, ms: float, busy: float) -> None:
        one = EngineTime(engine=entry.key.digest, backend="eager", precision="fp32", ms=ms, busy=busy)
        times = Times(
            weights_sha256=bundle.manifest.weights_sha256,
            shape=(24, 24),
            n_coils=None,
            threads=2,
            created=datetime(2026, 1, day, tzinfo=timezone.utc),
            engines=(one,),
        )
        cache.keep_note("times", f"day-{day}", times.model_dump_json().encode())

    keep(1, 31_931.0, 0.43)
    assert "eager fp32 24×24 31931.0 ms" in by_name()["bundle smooth"].found
    check = by_name()["times of smooth, 24x24, 2 threads"]
    assert check.status == "missing"
    assert "on 2 threads while the machine was busy" in check.found
    assert "43% of the time" in check.found
    assert "eager fp32 31931.0 ms" in check.found
    assert "scanside engines build smooth --bucket 24x24" in check.advice
    keep(2, 12.0, 0.01)
    assert "eager fp32 24×24 12.0 ms" in by_name()["bundle smooth"].found
    assert "times of smooth, 24x24, 2 threads" not in by_name()


@pytest.mark.usefixtures("own_cache")
def test_engines_of_the_exact_form_are_found(learned_bundles: Path) -> None:
    bundle = Bundle.open(learned_bundles / "exact")
    Engine.load(bundle, (24, 24), name="eager")
    assert "accepted here: eager fp32 24×24" in by_name()["bundle exact"].found


@pytest.mark.usefixtures("own_cache")
def test_damaged(learned_bundles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(learned_bundles / "smooth", tmp_path / "bundles" / "smooth")
    weights = tmp_path / "bundles" / "smooth" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    monkeypatch.setenv("SCANSIDE_ENGINES", str(tmp_path / "bundles"))
    check = by_name()["bundle smooth"]
    assert check.status == "problem"
    assert "weights.safetensors" in check.found


def test_cache_that_others_can_write(own_cache: Path) -> None:
    own_cache.mkdir()
    own_cache.chmod(0o777)
    assert engine_cache_folder() == EngineCache().folder == own_cache
    (check,) = check_bundles()
    assert (check.name, check.status) == ("engine cache", "problem")
