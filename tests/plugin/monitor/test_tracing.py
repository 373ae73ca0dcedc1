"""Spans out of events."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from scanside.errors import ConfigError
from scanside_gadgetron.pool import events

pytest.importorskip("opentelemetry.sdk", reason="needs opentelemetry: pip install 'scanside[tracing]'")

from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from scanside_gadgetron.monitor.tracing import Tracing


def test_a_session_is_a_span_and_its_stages_are_its_children(story: Any) -> None:
    exporter = InMemorySpanExporter()
    tracing = Tracing(exporter)
    for event in (
        *story.worker_ready(),
        *story.opened(),
        story.stage("accumulate", 0.25, 100.0, 3),
        story.image(0, fallback="size: odd"),
        events.Warned(time=story.NOW + 4, session="s1", text="careful"),
        story.stage("engine", 0.5, 40.0),
        story.ended(outcome="failed", error="it broke"),
        *story.opened("unfinished"),
        story.progress(3, session="unknown"),
    ):
        tracing.take(event)
    tracing.stop()
    spans = {span.name: span for span in exporter.get_finished_spans()}
    assert set(spans) == {"session student", "accumulate", "engine"}
    session, engine = spans["session student"], spans["engine"]
    assert engine.parent is not None
    assert session.context is not None
    assert engine.parent.span_id == session.context.span_id
    assert engine.start_time == round((story.NOW + 1.5) * 1e9)
    assert engine.end_time is not None
    assert engine.end_time - engine.start_time == pytest.approx(40e6, abs=1e3)
    assert session.start_time == round((story.NOW + 0.5) * 1e9)
    assert session.attributes is not None
    assert session.attributes["scanside.outcome"] == "failed"
    assert session.status.description == "it broke"
    assert [event.name for event in session.events] == ["image", "warning"]
    assert session.resource.attributes["service.name"] == "scanside"


def test_where_spans_go_is_up_to_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "pigeon")
    with pytest.raises(ConfigError, match="pigeon"):
        Tracing()
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    Tracing().stop()


def test_absent_package_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from scanside.errors import MissingExtra\n"
        "try: import scanside_gadgetron.monitor.tracing\n"
        "except MissingExtra as error: print(error)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install 'scanside[tracing]'" in run.stdout, run.stderr
