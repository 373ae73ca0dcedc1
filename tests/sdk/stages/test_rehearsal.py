"""What is tried before any scan, so that the first image of one waits for nothing."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from scanside import Context
from scanside.engines.bundle import Bundle
from scanside.engines.catalog import available_bundles
from scanside.engines.engine import Engine
from scanside.errors import EngineError
from scanside.recon.sense import SenseOperator
from scanside.stages._deadline import DeadlineRunner
from scanside.stages._fitness import Fitness, fitness_of
from scanside.stages._rehearsal import rehearsal
from scanside.stages.engine import RunEngine
from scanside.testing import small_scan


@pytest.mark.parametrize("name", ["brain-student", "multicoil-unrolled", "cine"])
def test_it_is_what_shipped_networks_were_trained_for(name: str) -> None:
    manifest = Bundle.open(available_bundles()[name]).manifest
    k1, k0 = min(manifest.shapes.buckets)
    scan, item = rehearsal(manifest, (k1, k0 - 16), 8, torch.device("cpu"))
    assert fitness_of(manifest, item) == Fitness()
    assert item.data.shape[-4:] == (8, 1, k1, k0 - 16)
    assert scan.encoding().encoded.matrix == (k0 - 16, k1, 1)
    maps = item.coil_maps
    assert maps is not None
    torch.testing.assert_close(maps.abs().square().sum(0), torch.ones(1, k1, k0 - 16))
    image = SenseOperator(maps, item.mask).adjoint(item.data)
    assert float(image.abs().max()) > 0.1


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of the images that engines were called with."""
    made: list[tuple[int, ...]] = []
    call = Engine.__call__

    def counted(self: Engine, *inputs: torch.Tensor) -> torch.Tensor:
        made.append(tuple(inputs[0].shape))
        return call(self, *inputs)

    monkeypatch.setattr(Engine, "__call__", counted)
    return made


def stage(**settings: Any) -> RunEngine:
    return RunEngine(bundle="gradient", backend="eager", n_coils=(4,), **settings)


@pytest.mark.usefixtures("learned_bundles")
def test_an_image_of_each_size_is_made_and_nobody_hears_of_it(
    calls: list[tuple[int, ...]], caplog: pytest.LogCaptureFixture
) -> None:
    prepared = stage(sizes=((24, 24), (20, 24)), residual=None)
    prepared.prepare(Context(device="cpu"))
    assert calls == [(1, 2, 24, 24), (1, 2, 20, 24)]
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    scan = small_scan()
    prepared.open(scan)
    assert not scan.metrics
    assert prepared.engine_times.n == 0


def test_a_window_of_a_film(
    film_bundles: Path, calls: list[tuple[int, ...]], caplog: pytest.LogCaptureFixture
) -> None:
    RunEngine(bundle=str(film_bundles / "film"), backend="eager", n_coils=(3,)).prepare(Context(device="cpu"))
    assert calls == [(1, 2, 4, 24, 24)]
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.usefixtures("learned_bundles")
def test_not_while_a_scan_waits(calls: list[tuple[int, ...]]) -> None:
    stage().prepare(Context(device="cpu"))
    del calls[:]
    stage().prepare(Context(device="cpu").while_a_scan_waits())
    assert calls == []


@pytest.mark.usefixtures("learned_bundles")
def test_that_it_fails_is_told_and_keeps_no_server_from_starting(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(self: Engine, *inputs: torch.Tensor) -> torch.Tensor:
        raise EngineError("the library refuses")

    monkeypatch.setattr(Engine, "__call__", fail)
    stage(fallback=None).prepare(Context(device="cpu"))
    assert "a first image by 'gradient', which is none of a scan: the engine failed" in caplog.text


def test_calls_in_time_after_a_fork() -> None:
    """The thread of the process before is not in this one."""
    in_time = DeadlineRunner()
    assert in_time(lambda: 1, 60_000) == 1
    ended = threading.Thread(target=int)
    ended.start()
    ended.join()
    in_time._thread = ended
    assert in_time(lambda: 2, 60_000) == 2
