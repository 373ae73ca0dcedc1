"""`scanside serve` hands its options on; the server itself has its own tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import Result

from scanside_gadgetron import server


def test_options(scanside: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    called: dict[str, Any] = {}

    def serve(host: str, port: int, **options: Any) -> None:
        called.update(options, host=host, port=port)
        options["on_ready"]([(host, 1234)])

    monkeypatch.setattr(server, "serve", serve)
    monkeypatch.setenv("SCANSIDE_NOISE_STORE", "/somewhere")
    result = scanside("serve", "--port", 0, "--pipeline", "fft", "--device", "cpu", "--sessions", 3)
    assert "listening on 127.0.0.1:1234 with pipeline fft" in result.stderr
    assert (called["host"], called["port"], called["pipeline"], called["max_sessions"]) == (
        "127.0.0.1",
        0,
        "fft",
        3,
    )
    assert called["settings"].device == "cpu"
    assert str(called["settings"].noise_store) == "/somewhere"


def test_unknown_pipeline_ends_it(scanside: Callable[..., Result]) -> None:
    assert "there is no pipeline" in scanside("serve", "--port", 0, "--pipeline", "nope", status=1).stderr


def test_folders_go_before_the_environment(
    scanside: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    called: dict[str, Any] = {}
    monkeypatch.setattr(server, "serve", lambda host, port, **options: called.update(options))
    monkeypatch.setenv("SCANSIDE_NOISE_STORE", "/somewhere")
    scanside("serve", "--pipelines", "mine", "--noise-store", "noise")
    assert (str(called["settings"].pipelines), str(called["settings"].noise_store)) == ("mine", "noise")
