"""Folders, ports, clock and limits."""

from __future__ import annotations

import resource
import shutil
import socket
from pathlib import Path
from typing import NamedTuple

import pytest

from scanside.doctor import machine as module
from scanside.doctor.check import Check
from scanside.doctor.machine import check_machine
from scanside.registry import stage_names
from scanside_gadgetron.settings import ServerConfig


def by_name(*, running: bool = False, **settings: object) -> dict[str, Check]:
    config = ServerConfig.model_validate({"port": 0, **settings})
    return {check.name: check for check in check_machine(config, running=running)}


class Usage(NamedTuple):
    total: int
    used: int
    free: int


class TestFolders:
    def test_one_that_would_be_made(self, tmp_path: Path) -> None:
        folder = tmp_path / "a" / "noise"
        check = by_name(noise_store=folder)["noise store"]
        assert check.status == "ok"
        assert not folder.exists()

    def test_one_that_cannot_be_written(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        def refuse(dir: Path) -> None:  # noqa: A002 — its name in the standard library
            raise PermissionError(13, "Permission denied", str(dir))

        monkeypatch.setattr("tempfile.TemporaryFile", refuse)
        check = by_name(noise_store=tmp_path)["noise store"]
        assert check.status == "problem"
        assert "Permission denied" in check.found

    def test_no_folder(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        check = by_name(noise_store=tmp_path / "file")["noise store"]
        assert (check.status, "is no folder" in check.found) == ("problem", True)

    def test_full_disk(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 10**12 - 10**8, 10**8))
        check = by_name()["temporary files"]
        assert check.status == "problem"
        assert "0.1 GiB free" in check.found

    def test_engine_cache(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("SCANSIDE_ENGINE_CACHE", str(tmp_path))
        assert str(tmp_path) in by_name()["engine cache"].found

    def test_what_a_pipeline_writes(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        if "dicom" not in stage_names():
            pytest.skip("the stage 'dicom' is not registered in this environment: install scanside anew")
        pipeline = tmp_path / "own.yaml"
        pipeline.write_text(
            f"{{name: own, stages: [accumulate, fourier, finish, dicom: {{folder: {tmp_path}/file/kept}}]}}"
        )
        check = by_name(pipeline=str(pipeline))["own: dicom.folder"]
        assert check.status == "problem"
        assert "is no folder" in check.found

    def test_recordings(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("SCANSIDE_RECORDINGS", str(tmp_path))
        assert by_name()["recordings"].status == "ok"


class TestPorts:
    def test_taken(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            assert by_name(port=port)[f"port {port}"].status == "missing"
            assert by_name(port=port, running=True)[f"port {port}"].status == "ok"
        assert by_name(port=port)[f"port {port}"].status == "ok"

    def test_live_page(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            assert by_name(monitor={"port": port})[f"port {port}"].status == "missing"


class TestClock:
    def test_not_set_by_a_time_server(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "_clock_state", lambda: 5)
        assert by_name()["clock"].status == "missing"
        monkeypatch.setattr(module, "_clock_state", lambda: 0)
        assert by_name()["clock"].status == "ok"

    def test_kernel_answers(self) -> None:
        # States of the clock in adjtimex(2).
        assert module._clock_state() in range(6)

    def test_behind(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        import os

        later = tmp_path / "machine.py"
        later.touch()
        os.utime(later, (4e9, 4e9))
        monkeypatch.setattr(module, "__file__", str(later))
        assert by_name()["clock"].status == "problem"


def test_open_files() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, before[1]))
        check = by_name()["open files"]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert check.status == "missing"
    assert "LimitNOFILE" in check.advice


def test_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(64 * 2**20, 0, 10**12))
    check = by_name()["shared memory"]
    assert check.status == "missing"
    assert "--shm-size" in check.advice
