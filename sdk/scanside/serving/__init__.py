"""The server's side of a scan: what a host asks for, the pipelines that it is lent, and its session."""

from scanside.serving.outcome import Outcome, SessionObserver
from scanside.serving.pipelines import DEFAULT_PIPELINE, PipelinePool
from scanside.serving.request import Request
from scanside.serving.session import DRAIN_SECONDS, node_reader, run_session, serve_stream, without_images

__all__ = [
    "DEFAULT_PIPELINE",
    "DRAIN_SECONDS",
    "Outcome",
    "PipelinePool",
    "Request",
    "SessionObserver",
    "node_reader",
    "run_session",
    "serve_stream",
    "without_images",
]
