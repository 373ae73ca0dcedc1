"""A server among hosts that mean harm: nobody ends in silence, no worker is lost, and the others notice nothing."""

from __future__ import annotations

import json
import re
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scanside.bench.attacks import ATTACKS, FORGED, Attack, attack
from scanside.bench.codec_fuzz import CodecFindings, fuzz_codec
from scanside.bench.hosts import Host, after_waiting, understood
from scanside.bench.peers import serving
from scanside.bench.processes import Family
from scanside.bench.result import Headline
from scanside.bench.scans import FrameScan
from scanside.errors import FormatError
from scanside.mrd.messages import Close, ImageMessage, Message, Text
from scanside.mrd.meta import Meta
from scanside.mrd.peers import reported_error
from scanside.mrd.writer import encode

__all__ = ["HostilePlan", "hostile_soak"]

_SCAN = FrameScan(n_coils=4, n_samples=128, n_lines=64, acceleration=2, n_acs=16, noise=False)
_FRAMES = 2
_WORKERS = 2
_AT_ONCE = 4
_SEED = 11
_TOLD = 12
_ANSWER_SECONDS = 300.0
_DRIP_SECONDS = 0.2
_LONGEST_WORDS = 10_000
"""Bytes of an answer besides images."""

_LOG_PER_SESSION = 20_000
_CLOSE = encode(Close())
_RESET = struct.pack("ii", 1, 0)
_SLOW = (
    "drops instead of an opening",
    "silence after the header",
    "drops after the header",
    "junk, then silence",
)
"""Attacks that take a worker for as long as it may be taken: there are fewer of them."""


@dataclass(frozen=True)
class HostilePlan:
    """How much is tried.

    Attributes:
        n_streams: damaged streams for the codec alone.
        n_sessions: sessions with a server.
        healthy: what share of these behaves.
        patience_seconds: the server's limits for openings and for pauses.
        seed: of everything.
    """

    n_streams: int = 20_000
    n_sessions: int = 2_000
    healthy: float = 0.25
    patience_seconds: float = 3.0
    seed: int = _SEED

    @classmethod
    def of_share(cls, share: float) -> HostilePlan:
        """A part of the whole."""
        return cls(max(1, round(share * cls.n_streams)), max(len(ATTACKS), round(share * cls.n_sessions)))

    def sessions(self) -> list[str]:
        """What comes, in order: kinds of attacks, or ``healthy``. Each kind comes, the slow ones seldom."""
        random = np.random.default_rng(self.seed)
        kinds = list(ATTACKS)
        weights = np.array([0.25 if kind in _SLOW else 1.0 for kind in kinds])
        n_hostile = max(len(kinds), round((1 - self.healthy) * self.n_sessions))
        drawn = random.choice(len(kinds), n_hostile - len(kinds), p=weights / weights.sum())
        chosen = [*kinds, *(kinds[i] for i in drawn)]
        chosen += ["healthy"] * max(0, self.n_sessions - n_hostile)
        return [chosen[i] for i in random.permutation(len(chosen))]


@dataclass(frozen=True)
class _Found:
    """What became of a session."""

    kind: str
    seconds: float
    fault: str = ""
    detail: str = ""


def hostile_soak(
    plan: HostilePlan, progress: Callable[[str], None]
) -> tuple[list[dict[str, Any]], list[Headline]]:
    """Damaged streams into the codec, then sessions of a server with hosts that mean harm among others.

    Returns:
        Lines of the table, and promises.
    """
    codec = fuzz_codec(plan.n_streams, progress, plan.seed)
    kinds = plan.sessions()
    with _server(plan) as (port, pid, log):
        family = Family(pid)
        host = Host(_SCAN, _FRAMES, port, family, plan.seed)
        host.visit_all_workers(_WORKERS)
        workers = set(family.children)

        def play(number: int) -> _Found:
            if number % 50 == 0:
                progress(f"hostile session {number} of {len(kinds)}")
            if kinds[number] == "healthy":
                visit = host.visit("healthy", number)
                return _Found(
                    "healthy", visit.seconds, "others disturbed" if visit.wrong else "", visit.wrong
                )
            return _play(attack(kinds[number], _SCAN, _FRAMES, plan.seed, number), port, host.expected)

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            found = list(pool.map(play, range(len(kinds))))
        found += [
            _Found("healthy", visit.seconds, "others disturbed" if visit.wrong else "", visit.wrong)
            for visit in host.visit_all_workers(_WORKERS)
        ]
        lost = len(workers - set(family.children))
        text = log.read_text(encoding="utf-8", errors="replace")
    return _rows(codec, found), _headlines(codec, found, lost, text)


def _rows(codec: CodecFindings, found: list[_Found]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [
        {"what": f"damaged streams that end with {end}", "sent": n} for end, n in codec.ends.most_common()
    ]
    for kind in ("healthy", *ATTACKS):
        own = [one for one in found if one.kind == kind]
        if own:
            rows.append(
                {
                    "what": f"sessions: {kind}",
                    "sent": len(own),
                    "wrong": sum(bool(one.fault) for one in own),
                    "longest s": round(max(one.seconds for one in own), 1),
                }
            )
    rows += [{"what": f"wrong: {text}"} for text in codec.wrong]
    wrong = [one for one in found if one.fault]
    rows += [{"what": f"wrong: {one.kind}: {one.fault}: {one.detail}"[:400]} for one in wrong[:_TOLD]]
    return rows


def _headlines(codec: CodecFindings, found: list[_Found], lost: int, log: str) -> list[Headline]:
    def count(fault: str) -> int:
        return sum(one.fault == fault for one in found)

    n_hostile = sum(one.kind != "healthy" for one in found)
    n_healthy = len(found) - n_hostile
    forged = len(re.findall(rf"^{re.escape(FORGED[:10])}", log, re.MULTILINE)) + log.count("\x1b")
    return [
        Headline.at_most(f"of {codec.n} damaged streams, those that ended in silence", len(codec.wrong), 0),
        Headline.at_most(
            f"of {n_hostile} hostile sessions, those that ended in silence", count("silence"), 0
        ),
        Headline.at_most("images of broken data without a word", count("no word"), 0),
        Headline.at_most(f"answers of more than {_LONGEST_WORDS} bytes of words", count("too many words"), 0),
        Headline.at_most(f"workers of {_WORKERS} that were lost or stuck", lost + count("stuck"), 0),
        Headline.at_most(
            f"of {n_healthy} healthy sessions among them, those that were not byte for byte as undisturbed",
            count("others disturbed"),
            0,
        ),
        Headline.at_most("tracebacks in the server's log", log.count("Traceback"), 0),
        Headline.at_most("lines of the log that a host forged", forged, 0),
        Headline.at_most("bytes of log for each session", len(log) / max(1, len(found)), _LOG_PER_SESSION),
    ]


@contextmanager
def _server(plan: HostilePlan) -> Iterator[tuple[int, int, Path]]:
    """A server of its own that records, so that headers are cleaned: its port, its process, and its log."""
    with tempfile.TemporaryDirectory(prefix="scanside-hostile-") as folder:
        patience = plan.patience_seconds
        settings = {
            "pipeline": "grappa",
            "workers": _WORKERS,
            "devices": ["cpu"],
            "handover": "off",
            "queue": 64,
            "limits": {"opening_seconds": patience, "idle_seconds": patience, "drain_seconds": 60},
            "record": {"folder": f"{folder}/recordings", "gigabytes": 0.2, "spare_gigabytes": 0},
        }
        config, log = Path(folder) / "server.yaml", Path(folder) / "log"
        config.write_text(json.dumps(settings), encoding="utf-8")
        with log.open("wb") as errors:
            arguments = ["scanside_gadgetron", "serve", "--port", "0", "--config", str(config)]
            with serving(arguments, errors) as server:
                yield server.port, server.process.pid, log


def _play(what: Attack, port: int, expected: bytes) -> _Found:
    """Play an attack; it never raises because of what the server does."""
    begun = time.perf_counter()
    try:
        with socket.create_connection(("127.0.0.1", port), _ANSWER_SECONDS) as connection:
            if what.then == "reset":
                with suppress(OSError):
                    connection.sendall(what.stream)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                return _Found(what.kind, time.perf_counter() - begun)
            answer = _converse(connection, what)
    except TimeoutError:
        return _Found(
            what.kind, time.perf_counter() - begun, "stuck", f"no answer within {_ANSWER_SECONDS:g} s"
        )
    fault, detail = _judge(what, after_waiting(answer), expected)
    return _Found(what.kind, time.perf_counter() - begun, fault, detail)


def _converse(connection: socket.socket, what: Attack) -> bytes:
    """Send in a thread of its own, as a server may answer before it has heard all; gives the answer."""
    over = threading.Event()

    def send() -> None:
        with suppress(OSError):
            connection.sendall(what.stream)
            if what.then == "close":
                connection.shutdown(socket.SHUT_WR)
            while what.then == "drip" and not over.wait(_DRIP_SECONDS):
                connection.sendall(b"\0")

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    answer = bytearray()
    with suppress(ConnectionError):
        while piece := connection.recv(1 << 20):
            answer += piece
    over.set()
    sender.join(_ANSWER_SECONDS)
    return bytes(answer)


def _judge(what: Attack, answer: bytes, expected: bytes) -> tuple[str, str]:
    """What is wrong with an answer: a fault and more of it, or nothing."""
    came = understood(answer)
    images = [message for message in came if isinstance(message, ImageMessage)]
    words = len(answer) - sum(len(encode(image)) for image in images)
    errors = [error for message in came if (error := reported_error(message)) is not None]
    if not answer.endswith(_CLOSE) or (what.due == "error" and not errors):
        return "silence", f"{len(images)} images, {len(answer)} bytes, none of them an error and CLOSE"
    if words > _LONGEST_WORDS:
        return "too many words", f"{words} bytes besides images: {str(errors)[:200]}"
    if what.due == "word" and answer != expected and images and not (errors or _told(came, images)):
        return "no word", f"{len(images)} images that say nothing"
    return "", ""


def _told(came: list[Message], images: list[ImageMessage]) -> bool:
    """Whether a host learns that something is wrong with what it got."""
    if any(isinstance(message, Text) and message.text.startswith("WARNING") for message in came):
        return True
    return any("ScansideIncomplete" in _meta(image) for image in images)


def _meta(image: ImageMessage) -> Meta:
    try:
        return Meta.parse(image.attributes)
    except FormatError:
        return Meta()
