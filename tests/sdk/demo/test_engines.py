"""Engines of the demonstration, built by processes beside it."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from scanside.demo import engines
from scanside.demo.engines import Wanted, built_beside, quick_choice
from scanside.engines.build import Workshop

UNROLLED = Wanted("unrolled", (64, 48), 8)


@pytest.fixture(autouse=True)
def bundles(named_bundles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bundle ``gradient`` for the pipeline ``unrolled``, of which no engine was built."""
    monkeypatch.setenv("SCANSIDE_ENGINES", str(named_bundles))
    monkeypatch.setenv("SCANSIDE_ENGINE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What processes were started for."""
    commands: list[list[str]] = []
    start = subprocess.Popen

    def noted(command: list[str], **options: Any) -> Any:
        commands.append(command[3:])
        return start(command, **options)

    monkeypatch.setattr(engines.subprocess, "Popen", noted)
    return commands


def test_a_text_of_it() -> None:
    assert str(UNROLLED) == "unrolled:64x48:8"
    assert Wanted.parse(str(UNROLLED)) == UNROLLED


def test_another_process_builds_it(started: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    def not_here(*_: object) -> None:
        raise AssertionError("it was built in this process")

    monkeypatch.setattr(Workshop, "_build", not_here)
    with built_beside([UNROLLED]):
        while not engines._ready(UNROLLED):
            time.sleep(0.1)
    assert started == [["unrolled:64x48:8"]]
    choice = quick_choice(UNROLLED, lambda _: None)
    assert choice.chosen is not None
    assert choice.chosen.backend == "eager"
    with built_beside([UNROLLED]):
        pass
    assert len(started) == 1, "what is ready was built again"


def test_nobody_builds_what_is_not_to_be_had(
    started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scanside.engines.catalog._SHIPPED", Path("nowhere"))
    with built_beside([Wanted("student", (64, 48), 8), Wanted("unrolled", (4000, 4000), 8)]):
        pass
    assert started == []


def test_no_process_stays(started: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    start = engines.subprocess.Popen

    def kept(*arguments: Any, **options: Any) -> Any:
        made.append(start(*arguments, **options))
        return made[-1]

    monkeypatch.setattr(engines.subprocess, "Popen", kept)
    with pytest.raises(KeyError), built_beside([UNROLLED]):
        raise KeyError
    assert [process.returncode for process in made] == [-9]
