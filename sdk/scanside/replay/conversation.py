"""The client's part of a replay: its configuration, the scan in a thread, images until the other side closes."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from time import perf_counter
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from scanside.convert import Form
from scanside.errors import PeerGone, PeerReported, StreamError
from scanside.items import Image
from scanside.mrd.messages import ConfigFile, ConfigText, Data
from scanside.mrd.session import ClientSession
from scanside.mrd.streams import SocketStream
from scanside.replay.peers import tail
from scanside.replay.result import ANSWER_SECONDS
from scanside.replay.sending import Sending
from scanside.replay.taking import Taking, take_images
from scanside.scan import Scan

__all__ = [
    "configuration",
    "converse",
]

logger = logging.getLogger(__name__)


def configuration(
    pipeline: str | None = None, settings: Mapping[str, Any] | None = None, form: Form | None = None
) -> bytes:
    """A node's configuration, as Gadgetron prints its ``<configuration>`` element.

    Args:
        pipeline: name or file.
        settings: changed settings, as ``"stage.setting": value``; what is no text is written as JSON.
        form: in what kind of message images are to go out.
    """
    lines = []
    if pipeline is not None:
        lines.append(f"\t<pipeline>{escape(pipeline)}</pipeline>\n")
    for name, value in (settings or {}).items():
        text = value if isinstance(value, str) else json.dumps(value)
        lines.append(f"\t<property name={quoteattr(name)} value={quoteattr(text)} />\n")
    if form is not None:
        lines.append(f"\t<output>{form}</output>\n")
    body = f"<configuration>\n{''.join(lines)}</configuration>" if lines else "<configuration />"
    return f'<?xml version="1.0"?>\n{body}\n'.encode()


def converse(
    stream: SocketStream, opening: ConfigFile | ConfigText, sending: Sending, take: Taking, log: Any
) -> None:
    """Play the client: send in a thread, take images here until the other side has closed."""
    session = ClientSession(stream)
    scan = Scan.from_xml(sending.header_xml)
    sent = _Sender(session, opening, sending)
    overdue = threading.Event()

    def give_up() -> None:
        overdue.set()
        session.shutdown()

    started = perf_counter()
    try:
        sent.start(ANSWER_SECONDS, give_up)
        for message in session:
            take_images(message, scan, take)
    except PeerReported:
        raise
    except StreamError as error:
        if sent.error is not None:
            raise sent.error from None
        late = f"nothing came for {ANSWER_SECONDS:g} s after the whole scan had been sent"
        raise PeerGone(f"{late if overdue.is_set() else error}{tail(log)}") from error
    finally:
        sending.cancel.set()
        sent.end()
    take.result.seconds = perf_counter() - started
    take.result.warnings = [text.removeprefix("WARNING ") for text in session.texts] or _warnings_of(
        take.result.images
    )
    if sent.error is not None:
        raise sent.error


def _warnings_of(images: Iterable[Image]) -> list[str]:
    """What the images' attributes say: to Gadgetron there is no other way to tell."""
    texts = (text for image in images for text in image.meta.get("ScansideWarning", []))
    return list(dict.fromkeys(texts))


class _Sender:
    """Sends a scan in a thread of its own."""

    def __init__(self, session: ClientSession, opening: ConfigFile | ConfigText, sending: Sending) -> None:
        self.error: Exception | None = None
        self._session = session
        self._opening = opening
        self._sending = sending
        self._timer: threading.Timer | None = None
        self._thread = threading.Thread(target=self._send, name="scanside-replay", daemon=True)

    def start(self, answer_seconds: float, give_up: Callable[[], None]) -> None:
        """Send the opening here, everything else in the thread; then the other side has so long to end."""
        self._timer = threading.Timer(answer_seconds, give_up)
        self._timer.daemon = True
        self._session.open(self._opening, self._sending.header_xml)
        self._thread.start()

    def end(self) -> None:
        """Wait for the thread, which has been cancelled or is done."""
        self._session.shutdown()
        if self._timer is not None:
            self._timer.cancel()
        if self._thread.is_alive():
            self._thread.join()

    def _send(self) -> None:
        assert self._timer is not None
        try:
            for item in self._sending:
                if not self._hand_over(self._session.send, item):
                    return
            self._hand_over(self._session.finish)
        except Exception as error:  # noqa: BLE001 — handed to the thread that waits for the images
            self.error = error
            self._session.shutdown()
        self._timer.start()

    def _hand_over(self, send: Callable[..., None], *items: Data) -> bool:
        """Send; False where the other side is gone: the receiving thread finds out why, and says more."""
        try:
            send(*items)
        except StreamError as error:
            logger.debug("sending ended: %s", error)
            return False
        return True
