"""Keeps the raw streams of chosen sessions, so that what went wrong at the scanner can be played again.

::

    recorder = Recorder(RecordingConfig(folder=Path("/var/lib/scanside/recordings")))
    stream, recording = recorder.begin("s000042", stream)
    ...  # the session runs over the returned stream
    recording.finish("failed", pipeline="grappa", error="…")

A recording never delays or ends a session: whatever happens to it, the bytes go on to the session first.
"""

from __future__ import annotations

from scanside.recording.config import RecordingConfig
from scanside.recording.entry import Outcome, RecordingEntry
from scanside.recording.recorder import Recorder, SessionRecording
from scanside.recording.ring import RecordingRing
from scanside.recording.stream import RecordingStream

__all__ = [
    "Outcome",
    "Recorder",
    "RecordingConfig",
    "RecordingEntry",
    "RecordingRing",
    "RecordingStream",
    "SessionRecording",
]
