"""Records sessions and keeps those that a rule asks for."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from time import perf_counter

from scanside.mrd.messages import Message
from scanside.mrd.streams import ByteStream
from scanside.mrd.writer import encode
from scanside.privacy import Vocabulary, clean_message, clean_name
from scanside.recording.cleaning import Cleaner
from scanside.recording.config import RecordingConfig
from scanside.recording.entry import Outcome, RecordingEntry
from scanside.recording.ring import ENDING, PART, RecordingRing, new_id
from scanside.recording.stream import RecordingStream
from scanside.recording.tape import Tape
from scanside.recording.words import ALL, REMAINS, SHIPPED, pipeline_words

__all__ = ["Recorder", "SessionRecording"]

logger = logging.getLogger(__name__)


class Recorder:
    """Records the sessions of a process.

    Args:
        config: what is kept, and where.
        vocabulary: what configurations, hosts' parameters and images' attributes may say; None for the words of the
            pipelines that come with Scanside.

    Attributes:
        trouble: why the latest recordings could not be kept, for the operator; empty where they were.
    """

    def __init__(self, config: RecordingConfig, vocabulary: Vocabulary | None = None) -> None:
        self.config = config
        self.vocabulary = Vocabulary(pipeline_words(SHIPPED)) if vocabulary is None else vocabulary
        self.ring = RecordingRing(config.folder)
        self.trouble = ""

    def begin(
        self, session: str, stream: ByteStream, opening: Sequence[Message] = ()
    ) -> tuple[RecordingStream, SessionRecording]:
        """Record a session from now on.

        Args:
            session: its ID.
            stream: the session's connection.
            opening: configuration and header, where somebody else has read them from the connection already.

        Returns:
            The stream that takes the connection's place, and the recording, which is to be finished.
        """
        recording = SessionRecording(self, session)
        for message in opening:
            recording.tape.put(encode(message))
        return RecordingStream(stream, recording.tape), recording

    def recover(self) -> list[RecordingEntry]:
        """Take in what processes that died have left behind: sessions that were lost.

        Returns:
            Those that the rules keep; the others are removed.
        """
        kept = []
        for part, size in self.ring.left_behind():
            try:
                entry = self._recovered(part, size)
            except OSError as error:
                # On a full disk: it is tried again with the next session.
                self.trouble = f"{part.name}, which a process left that died, could not be taken in: {error}"
                logger.warning("%s", self.trouble)
            else:
                kept += [] if entry is None else [entry]
        return kept

    def _recovered(self, part: Path, size: int) -> RecordingEntry | None:
        """What a process left behind, taken in; None where no rule keeps it."""
        entry = self._entry(
            part.name[: -len(ENDING + PART)],
            outcome="lost",
            begun=datetime.fromtimestamp(part.stat().st_mtime, timezone.utc),
            size=size,
            complete=False,
            problem="the process that recorded it died",
        )
        rules = self._rules(entry)
        if not size or not rules:
            part.unlink(missing_ok=True)
            return None
        entry = entry.model_copy(update={"kept_for": rules})
        self.ring.add(part, entry)
        return entry

    def _entry(self, name: str, **known: object) -> RecordingEntry:
        keep = self.config.keep_patient
        fields = {
            "session": name.partition("-")[2],
            "patient": "kept" if keep else "removed",
            "kept": ALL if keep else (*REMAINS, *self.config.keep_fields),
            **known,
        }
        return RecordingEntry.model_validate({"id": name, **fields})

    def _rules(self, entry: RecordingEntry) -> tuple[str, ...]:
        """The rules that keep a session."""
        if entry.outcome == "query":
            return ()
        keep, every = self.config.keep, self.config.every
        rules = []
        if "errors" in keep and entry.outcome != "done":
            rules.append("errors")
        if "fallbacks" in keep and entry.fallbacks:
            rules.append("fallbacks")
        if every is not None and self.ring.count_session() % every == 0:
            rules.append("every")
        if "all" in keep:
            rules.append("all")
        return tuple(rules)

    def _settle(self, part: Path, entry: RecordingEntry) -> None:
        """Keep or drop a recording that has ended, and make room.

        Raises:
            OSError: it could not be kept; nothing is left of it.
        """
        try:
            rules = self._rules(entry)
            if rules and entry.size:
                self.ring.add(part, entry.model_copy(update={"kept_for": rules}))
            else:
                part.unlink(missing_ok=True)
        except OSError:
            self.ring.discard(part, entry)
            raise
        finally:
            for gone in self.ring.prune(self.config.most_bytes, self.config.days):
                logger.info("recording %s made room", gone.id)
        self.trouble = ""
        self.recover()


class SessionRecording:
    """The recording of one session; made by `Recorder.begin`."""

    def __init__(self, recorder: Recorder, session: str) -> None:
        self._recorder = recorder
        self._session = session
        self._begun = datetime.now(timezone.utc)
        self._started = perf_counter()
        self._id = new_id(session, self._begun)
        config = recorder.config
        self.tape = Tape(
            config.folder / f"{self._id}{ENDING}{PART}",
            None if config.keep_patient else Cleaner(recorder.vocabulary, config.keep_fields),
            most_bytes=config.most_bytes,
            spare_bytes=int(config.spare_gigabytes * 1e9),
            queue_bytes=int(config.queue_megabytes * 1e6),
        )

    @property
    def problem(self) -> str:
        """Why the recording is not whole, for the operator; empty while it is."""
        return self.tape.problem

    def finish(
        self,
        outcome: Outcome,
        *,
        pipeline: str = "",
        error: str = "",
        n_readouts: int = 0,
        n_images: int = 0,
        fallbacks: int = 0,
    ) -> None:
        """The session has ended; keep the recording or drop it. Returns at once: the rest is done aside.

        Args:
            outcome: how the session ended.
            pipeline: that reconstructed it.
            error: what was reported.
            n_readouts: that came.
            n_images: that went.
            fallbacks: images for which a classical reconstruction stood in.
        """
        seconds = perf_counter() - self._started
        config = self._recorder.config
        if not config.keep_patient:
            vocabulary = self._recorder.vocabulary
            error = clean_message(error, vocabulary)
            pipeline = clean_name(pipeline.encode(errors="replace"), vocabulary).decode()

        def settle() -> None:
            entry = self._recorder._entry(  # noqa: SLF001 — one thing in two classes
                self._id,
                session=self._session,
                begun=self._begun,
                seconds=round(seconds, 3),
                pipeline=pipeline,
                outcome=outcome,
                error=error,
                n_readouts=n_readouts,
                n_images=n_images,
                fallbacks=fallbacks,
                size=self.tape.size,
                complete=not self.tape.problem,
                problem=self.tape.problem,
            )
            try:
                self._recorder._settle(self.tape.path, entry)  # noqa: SLF001
            except OSError as failure:
                self._recorder.trouble = (
                    f"the recording of session {self._session} could not be kept: {failure}; make room in "
                    f"{config.folder}, and the next one is"
                )
                logger.warning("%s", self._recorder.trouble)

        self.tape.finish(settle)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until a finished recording is kept or dropped; says whether it is.

        A process that ends earlier leaves it to `Recorder.recover`.
        """
        return self.tape.join(seconds)
