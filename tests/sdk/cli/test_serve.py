"""`scanside serve` hands its options on; the server itself has its own tests."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from scanside_gadgetron import server
from scanside_gadgetron.monitor.logs import session_log
from scanside_gadgetron.settings import ServerConfig

Serve = Callable[..., ServerConfig]


class Ready:
    """Stands in for a server that has started."""

    addresses = (("127.0.0.1", 1234),)
    monitor_url = None


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[ServerConfig]:
    """Settings that the server was started with, and those that a reload would take."""
    configs: list[ServerConfig] = []

    def serve(config: ServerConfig, *, read_again: Any, on_ready: Any) -> None:
        on_ready(Ready())
        configs.extend((config, read_again()))

    monkeypatch.setattr(server, "serve", serve)
    return configs


def test_options(
    scanside: Callable[..., Result], served: list[ServerConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCANSIDE_NOISE_STORE", "/somewhere")
    options = ["--port", 0, "--pipeline", "fft", "--workers", 3, "--prepare", "sense", "--prepare", "grappa"]
    result = scanside("serve", *options, "--device", "cuda:0", "--device", "cuda:1")
    assert "listening on 127.0.0.1:1234 with pipeline fft" in result.stderr
    config = served[0]
    assert (config.host, config.port, config.pipeline, config.workers) == ("127.0.0.1", 0, "fft", 3)
    assert config.devices == ("cuda:0", "cuda:1")
    assert config.prepare == ("sense", "grappa")
    assert config.noise_store == Path("/somewhere")
    assert config.monitor is None


def test_options_go_before_the_file_and_the_file_before_the_environment(
    scanside: Callable[..., Result],
    served: list[ServerConfig],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("SCANSIDE_NOISE_STORE", "/somewhere")
    monkeypatch.setenv("SCANSIDE_PIPELINES", "/else")
    file = tmp_path / "server.yaml"
    file.write_text("port: 1\nworkers: 5\nnoise_store: noise\nlimits: {stage_seconds: 9}\n")
    scanside("serve", "--config", file, "--port", 7, "--monitor")
    config = served[0]
    assert (config.port, config.workers, config.limits.stage_seconds) == (7, 5, 9)
    assert (str(config.noise_store), str(config.pipelines)) == ("noise", "/else")
    assert config.monitor is not None
    assert served[1] == config


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("workrs: 5", "has no setting 'workrs'; it has: host"),
        ("workers: 0", "workers = 0"),
        ("host: 0.0.0.0", "say which may, for example allow"),
        ("- 1", "holds no settings"),
        ("a: [", "cannot be read"),
        ("allow: [nowhere]", "allow.0 = 'nowhere'"),
        ("monitor: {host: 0.0.0.0}", "set a token"),
    ],
)
def test_files_that_cannot_work(
    scanside: Callable[..., Result], served: list[ServerConfig], tmp_path: Path, text: str, says: str
) -> None:
    file = tmp_path / "server.yaml"
    file.write_text(text)
    assert says in scanside("serve", "--config", file, status=1).stderr
    assert served == []


@pytest.mark.parametrize("form", ["text", "json"])
def test_log_tells_of_sessions(
    scanside: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, form: str
) -> None:
    def serve(config: ServerConfig, **_: Any) -> None:
        with session_log("s000007"):
            logging.getLogger("scanside_gadgetron.pool").info("somebody came")

    monkeypatch.setattr(server, "serve", serve)
    (tmp_path / "server.yaml").write_text(f"log: {form}\n")
    line = scanside("serve", "--config", tmp_path / "server.yaml").stderr.strip()
    if form == "json":
        assert json.loads(line)["session"] == "s000007"
    else:
        assert line.endswith(" info [s000007] somebody came")


def test_unknown_pipeline_ends_it(scanside: Callable[..., Result]) -> None:
    result = scanside("serve", "--port", 0, "--handover", "off", "--pipeline", "nope", status=1)
    assert "there is no pipeline 'nope'" in result.stderr
    result = scanside("serve", "--port", 0, "--handover", "off", "--prepare", "nope", status=1)
    assert "there is no pipeline 'nope'" in result.stderr
