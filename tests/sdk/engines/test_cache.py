"""Engines kept on the machine that built them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from scanside.engines.cache import EngineCache, EngineKey, engine_cache_folder
from scanside.engines.manifest import AcceptanceReport, Check
from scanside.errors import EngineError

pytestmark = pytest.mark.torch_free

KEY = EngineKey(
    weights_sha256="a" * 64,
    graph_sha256="b" * 64,
    shape=(64, 48),
    n_coils=8,
    precision="fp32",
    backend="aoti-cpu",
    versions={"torch": "2.13.0"},
    hardware="cpu x86_64 avx2 0123",
)


def report(*, passed: bool = True) -> AcceptanceReport:
    return AcceptanceReport(
        backend="aoti-cpu",
        precision="fp32",
        shape=(64, 48),
        hardware=KEY.hardware,
        versions=KEY.versions,
        checks=(Check(name="relative-error", value=1e-6, limit=1e-5, passed=passed),),
        created=datetime(2026, 1, 2, tzinfo=timezone.utc),
    )


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "cache")


def build(cache: EngineCache, key: EngineKey = KEY, *, passed: bool = True, code: bytes = b"code") -> Path:
    with cache.building(key) as draft:
        assert list(draft.folder.iterdir()) == []
        (draft.folder / "parts").mkdir()
        (draft.folder / "parts" / "engine.so").write_bytes(code)
        return draft.keep(report(passed=passed)).folder


def test_engine_is_found_again(cache: EngineCache) -> None:
    assert cache.find(KEY) is None
    folder = build(cache)
    found = EngineCache(cache.folder).find(KEY)
    assert found is not None
    assert (found.key, found.report, found.folder) == (KEY, report(), folder)
    assert (found.folder / "parts" / "engine.so").read_bytes() == b"code"
    assert [entry.key for entry in cache.entries()] == [KEY]


@pytest.mark.parametrize(
    "change",
    [
        {"weights_sha256": "c" * 64},
        {"graph_sha256": "c" * 64},
        {"shape": (48, 64)},
        {"n_coils": 4},
        {"n_coils": None},
        {"precision": "bf16"},
        {"backend": "aoti-cuda"},
        {"versions": {"torch": "2.14.0"}},
        {"hardware": "cpu x86_64 avx2 4567"},
        {"calibration": "c" * 64},
    ],
    ids=lambda change: next(iter(change)),
)
def test_engine_for_anything_else_is_not_found(cache: EngineCache, change: dict[str, Any]) -> None:
    build(cache)
    assert cache.find(EngineKey(**{**dict(KEY), **change})) is None


def test_entry_of_another_machine_under_our_name_is_removed(
    cache: EngineCache, caplog: pytest.LogCaptureFixture
) -> None:
    other = KEY.model_copy(update={"hardware": "cpu of a neighbour"})
    build(cache, other)
    (cache.folder / other.digest).rename(cache.folder / KEY.digest)
    assert cache.find(KEY) is None
    assert "built for another machine" in caplog.text
    assert not (cache.folder / KEY.digest).exists()


def break_code(entry: Path) -> None:
    (entry / "engine" / "parts" / "engine.so").write_bytes(b"Code")


def lose_code(entry: Path) -> None:
    (entry / "engine" / "parts" / "engine.so").unlink()


def add_code(entry: Path) -> None:
    (entry / "engine" / "more.so").write_bytes(b"code")


def cut_record(entry: Path) -> None:
    (entry / "entry.json").write_bytes((entry / "entry.json").read_bytes()[:50])


def open_to_others(entry: Path) -> None:
    (entry / "engine" / "parts" / "engine.so").chmod(0o666)


def link_code(entry: Path) -> None:
    code = entry / "engine" / "parts" / "engine.so"
    code.rename(entry.parent.parent / "engine.so")
    code.symlink_to(entry.parent.parent / "engine.so")


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (break_code, "was changed"),
        (lose_code, "files are missing"),
        (add_code, "more than there should be"),
        (cut_record, "not valid JSON|Invalid JSON"),
        (open_to_others, "mode 0666 lets others write"),
        (link_code, "symbolic link"),
    ],
)
def test_damaged_entry_is_not_used_and_built_again(
    cache: EngineCache, damage: Callable[[Path], None], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    build(cache)
    damage(cache.folder / KEY.digest)
    assert cache.find(KEY) is None
    assert any(part in caplog.text for part in why.split("|"))
    build(cache)
    assert cache.find(KEY) is not None


def test_cache_that_others_can_write_to_is_refused(cache: EngineCache) -> None:
    build(cache)
    cache.folder.chmod(0o777)
    with pytest.raises(EngineError, match=r"cannot be trusted.*mode 0777.*chmod 700"):
        cache.find(KEY)
    with pytest.raises(EngineError, match="cannot be trusted"), cache.building(KEY):
        pass


def test_files_are_for_their_owner(cache: EngineCache) -> None:
    folder = build(cache)
    for path in (cache.folder, folder.parent, folder.parent / "entry.json", folder / "parts" / "engine.so"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_engine_that_failed_leaves_its_report_alone(cache: EngineCache) -> None:
    folder = build(cache, passed=False)
    found = cache.find(KEY)
    assert found is not None
    assert not found.report.passed
    assert list(folder.iterdir()) == []


def test_nothing_is_left_of_what_was_not_kept(cache: EngineCache) -> None:
    with pytest.raises(FileNotFoundError), cache.building(KEY) as draft:
        (draft.folder / "missing" / "engine.so").write_bytes(b"code")
    with cache.building(KEY) as draft:
        (draft.folder / "engine.so").write_bytes(b"code")
    assert list(cache.folder.iterdir()) == []


def test_of_two_that_build_the_same_the_first_stays(cache: EngineCache) -> None:
    with cache.building(KEY) as slow:
        (slow.folder / "engine.so").write_bytes(b"slow")
        build(cache, code=b"fast")
        kept = slow.keep(report())
        assert (kept.folder / "parts" / "engine.so").read_bytes() == b"fast"
    assert cache.find(KEY) is not None
    assert [path.name for path in cache.folder.iterdir()] == [KEY.digest]


def test_folder_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCANSIDE_ENGINE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert engine_cache_folder() == tmp_path / "scanside" / "engines"
    monkeypatch.setenv("SCANSIDE_ENGINE_CACHE", str(tmp_path / "other"))
    assert EngineCache().folder == tmp_path / "other"
    assert list(EngineCache().entries()) == []
