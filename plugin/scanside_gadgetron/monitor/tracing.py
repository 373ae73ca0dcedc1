"""OpenTelemetry traces: one span for each session, and in it one for each piece of work of a stage.

Where they go, the variables of the OpenTelemetry specification say: ``OTEL_EXPORTER_OTLP_ENDPOINT`` and its like,
``OTEL_SERVICE_NAME``, ``OTEL_RESOURCE_ATTRIBUTES``, ``OTEL_TRACES_EXPORTER`` (``otlp``, ``console`` or ``none``).
https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

from __future__ import annotations

import os

from scanside._version import __version__
from scanside.errors import ConfigError, MissingExtra
from scanside_gadgetron.pool.events import (
    Event,
    ImageMade,
    SessionEnded,
    SessionOpened,
    SessionStarted,
    StageRan,
    Warned,
)

try:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
    from opentelemetry.trace import Span, Status, StatusCode, set_span_in_context
except ImportError as error:
    raise MissingExtra(error.name or "opentelemetry", "tracing", "traces") from error

__all__ = ["Tracing"]

_STOP_MS = 3_000


class Tracing:
    """Turns events into spans and sends them from a thread of their own.

    Args:
        exporter: where they go; None asks the environment.

    Raises:
        ConfigError: ``OTEL_TRACES_EXPORTER`` names one that there is not.
    """

    def __init__(self, exporter: SpanExporter | None = None) -> None:
        resource = Resource.create({} if "OTEL_SERVICE_NAME" in os.environ else {SERVICE_NAME: "scanside"})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        exporter = exporter or _exporter()
        if exporter is not None:
            self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("scanside", __version__)
        self._sessions: dict[str, Span] = {}
        self._opened: dict[str, float] = {}

    def take(self, event: Event) -> None:
        """Learn of an event."""
        if isinstance(event, SessionStarted):
            span = self._tracer.start_span("session", start_time=_ns(event.time))
            span.set_attribute("scanside.session", event.session)
            span.set_attribute("scanside.worker", event.worker)
            span.set_attribute("scanside.waited_s", event.waited_s)
            self._sessions[event.session] = span
            return
        session = getattr(event, "session", None)
        if session in self._sessions:
            self._within(self._sessions[session], event)

    def _within(self, span: Span, event: Event) -> None:
        match event:
            case SessionOpened():
                self._opened[event.session] = event.time
                span.update_name(f"session {event.pipeline}")
                span.set_attribute("scanside.pipeline", event.pipeline)
            case StageRan():
                begin = self._opened.get(event.session, event.time) + event.begin
                work = self._tracer.start_span(
                    event.stage,
                    set_span_in_context(span),
                    start_time=_ns(begin),
                    attributes={"items": event.items},
                )
                work.end(_ns(begin + event.duration_ms / 1e3))
            case ImageMade():
                told: dict[str, str | int | float] = {
                    "index": event.index,
                    "latency_ms": event.latency_ms,
                    "fallback": event.fallback or "",
                }
                span.add_event("image", told, _ns(event.time))
            case Warned():
                span.add_event("warning", {"text": event.text}, _ns(event.time))
            case SessionEnded():
                self._end(span, event)

    def _end(self, span: Span, event: SessionEnded) -> None:
        span.set_attribute("scanside.outcome", event.outcome)
        span.set_attribute("scanside.readouts", event.n_readouts)
        span.set_attribute("scanside.images", event.n_images)
        if event.outcome in ("failed", "lost"):
            span.set_status(Status(StatusCode.ERROR, event.error))
        span.end(_ns(event.time))
        del self._sessions[event.session]
        self._opened.pop(event.session, None)

    def stop(self) -> None:
        """Send what is left; sessions that still run are left out."""
        self._provider.force_flush(_STOP_MS)
        self._provider.shutdown()


def _exporter() -> SpanExporter | None:
    chosen = os.environ.get("OTEL_TRACES_EXPORTER", "otlp") or "otlp"
    if chosen == "none":
        return None
    if chosen == "console":
        return ConsoleSpanExporter()
    if chosen != "otlp":
        raise ConfigError(f"OTEL_TRACES_EXPORTER is '{chosen}', known are otlp, console and none")
    return OTLPSpanExporter()


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
