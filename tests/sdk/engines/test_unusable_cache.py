"""A cache is no precondition: full, read-only or not to be trusted, engines are made without it."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from scanside.engines import cache as cache_module
from scanside.engines.backends.eager import Eager
from scanside.engines.build import BundleSource, Workshop
from scanside.engines.bundle import Bundle
from scanside.engines.cache import EngineCache, scratch_cache
from scanside.engines.engine import Engine
from scanside.errors import EngineError, EnginePostponed

FULL = OSError(errno.ENOSPC, "No space left on device")

Break = Callable[[Path, pytest.MonkeyPatch], None]


@pytest.fixture(autouse=True)
def no_scratch_of_others() -> Iterator[None]:
    scratch_cache.cache_clear()
    yield
    scratch_cache.cache_clear()


@pytest.fixture
def bundle(bundle_folder: Path) -> Bundle:
    return Bundle.open(bundle_folder)


def below_a_file(folder: Path, _: pytest.MonkeyPatch) -> None:
    folder.write_bytes(b"")


def full_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = tempfile.mkdtemp

    def mkdtemp(*args: Any, **settings: Any) -> str:
        if str(settings.get("dir", "")).startswith(str(folder)):
            raise FULL
        return made(*args, **settings)

    monkeypatch.setattr(tempfile, "mkdtemp", mkdtemp)


def full_in_the_end(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = cache_module.write_atomically

    def written(path: Path, data: bytes, mode: int) -> None:
        if path.is_relative_to(folder):
            raise FULL
        write(path, data, mode)

    monkeypatch.setattr(cache_module, "write_atomically", written)


def full_for_the_backend(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(_: Eager, __: object, ___: object, place: Path) -> None:
        if place.is_relative_to(folder):
            raise FULL

    monkeypatch.setattr(Eager, "build", build)


def full_without_a_word(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library says only that something went wrong, as OpenVINO does."""

    def build(_: Eager, __: object, ___: object, place: Path) -> None:
        if place.is_relative_to(folder):
            raise EngineError("basic_ios::clear: iostream error")

    monkeypatch.setattr(Eager, "build", build)
    monkeypatch.setattr("scanside.engines.build.has_no_room", lambda place, _: place.is_relative_to(folder))


def open_to_others(folder: Path, _: pytest.MonkeyPatch) -> None:
    folder.mkdir()
    folder.chmod(0o777)


@pytest.mark.parametrize(
    "damage",
    [
        below_a_file,
        full_at_once,
        full_in_the_end,
        full_for_the_backend,
        full_without_a_word,
        open_to_others,
    ],
)
def test_engines_are_made_for_this_process(
    bundle: Bundle,
    tmp_path: Path,
    damage: Break,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = tmp_path / "engines"
    damage(folder, monkeypatch)
    image = torch.randn(1, 2, 64, 64)
    said: list[str] = []
    for _ in range(2):
        engine = Engine.load(
            bundle, (64, 64), cache=EngineCache(folder), name="eager", precision="fp32", progress=said.append
        )
        assert torch.equal(engine(image), 2 * image)
    assert said.count("checking eager fp32 at 64×64") <= 2, "the second time it is found"
    (told,) = {record.getMessage() for record in caplog.records if record.levelname == "WARNING"}
    assert str(folder) in told or "No space left" in told
    assert str(scratch_cache().folder) in told


def test_a_read_only_cache_is_read(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "engines"
    Engine.load(bundle, (64, 64), cache=EngineCache(folder), name="eager")
    full_at_once(folder, monkeypatch)
    assert Engine.load(bundle, (64, 64), cache=EngineCache(folder), name="eager").report.passed
    assert caplog.text == ""


def test_nothing_can_be_written_at_all(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nowhere(*_: object, **__: object) -> str:
        raise FULL

    monkeypatch.setattr(tempfile, "mkdtemp", nowhere)
    with pytest.raises(EnginePostponed, match="No space left on device"):
        Engine.load(bundle, (64, 64), cache=EngineCache(tmp_path / "engines"))


@pytest.mark.parametrize(
    ("failure", "kept"),
    [
        (EngineError("the compiler said: No space left on device"), False),
        (EngineError("a graph with Fourier transforms"), True),
    ],
    ids=["passing", "lasting"],
)
def test_a_refusal_for_a_passing_reason_is_not_kept(
    bundle: Bundle, tmp_path: Path, failure: EngineError, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(*_: object) -> None:
        raise failure

    workshop = Workshop(BundleSource(bundle, (64, 64)), EngineCache(tmp_path / "engines"))
    with monkeypatch.context() as patch:
        patch.setattr(Eager, "build", build)
        (first,) = workshop.candidates(("eager",), "fp32")
    assert str(failure) in (first.reason or first.entry.report.failures[0].note)  # type: ignore[union-attr]
    (second,) = workshop.candidates(("eager",), "fp32")
    assert second.accepted == (not kept)
