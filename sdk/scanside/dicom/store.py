"""Sending to an archive by C-STORE (DICOM PS3.4 B, PS3.7 9.1.1), until everything has arrived."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import takewhile
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from scanside.dicom._pydicom import ExplicitVRLittleEndian, MRImageStorage, dcmread
from scanside.dicom.destination import Destination
from scanside.dicom.spool import Spool, Waiting
from scanside.errors import MissingExtra

if TYPE_CHECKING:
    from pynetdicom.association import Association

try:
    from pynetdicom import AE
    from pynetdicom.status import code_to_category
except ImportError as error:
    raise MissingExtra("pynetdicom", "dicom", "sending DICOM to an archive") from error

__all__ = ["Delivery", "Sender", "deliver"]

logger = logging.getLogger(__name__)

_FIRST_RETRY_S = 2.0
_LONGEST_RETRY_S = 900.0
_IMPLICIT_VR = "1.2.840.10008.1.2"


@dataclass(slots=True)
class Delivery:
    """What became of one attempt to send.

    Attributes:
        sent: instances that arrived.
        refused: instances that the archive refused, and why.
        away: why nothing more could be sent: the archive is away, refuses us, or has no room; None where it took
            or refused each one.
    """

    sent: int = 0
    refused: list[tuple[Waiting, str]] = field(default_factory=list)
    away: str | None = None

    @property
    def problem(self) -> str | None:
        """One sentence about what went wrong, None where nothing did."""
        if self.away is not None or not self.refused:
            return self.away
        return f"{len(self.refused)} refused, the last one because: {self.refused[-1][1]}"


class _Away(Exception):
    """Nothing can be sent at present."""


def deliver(spool: Spool, destination: Destination, waiting: Iterable[Waiting]) -> Delivery:
    """Send instances over one association; what arrives leaves the spool, all else stays.

    An instance that the archive refuses does not hold up those behind it.

    Args:
        spool: from which they are sent; the caller holds `Spool.sending`.
        destination: where to.
        waiting: which ones, in this order.
    """
    delivery = Delivery()
    try:
        with _associated(destination) as association:
            for one in waiting:
                reason = _store(association, one)
                if reason is None:
                    spool.sent(one)
                    delivery.sent += 1
                else:
                    delivery.refused.append((one, reason))
                    spool.refused(one, reason)
    except _Away as away:
        delivery.away = str(away)
    return delivery


@contextmanager
def _associated(destination: Destination) -> Iterator[Association]:
    entity = AE(ae_title=destination.calling)
    entity.add_requested_context(MRImageStorage, [ExplicitVRLittleEndian, _IMPLICIT_VR])
    for name in ("acse_timeout", "dimse_timeout", "network_timeout", "connection_timeout"):
        setattr(entity, name, destination.timeout_s)
    association = entity.associate(destination.host, destination.port, ae_title=destination.called)
    try:
        if not association.is_established:
            raise _Away(_why_not(association, destination))
        yield association
    finally:
        if association.is_established:
            association.release()


def _why_not(association: Association, destination: Destination) -> str:
    if association.is_rejected:
        answer: Any = association.acceptor.primitive
        return f"{destination} rejects us, '{destination.calling}': {answer.reason_str}"
    if association.rejected_contexts:
        return f"{destination} does not take MR images (abstract syntax MR Image Storage was rejected)"
    return f"{destination} cannot be reached, or gave no answer within {destination.timeout_s:g} s"


def _store(association: Association, one: Waiting) -> str | None:
    """Send one instance; None if it arrived, else why not.

    Raises:
        _Away: the association is lost, or the archive has no room: no other would fare better.
    """
    try:
        dataset = dcmread(one.path)
    except OSError as error:
        return f"its file cannot be read: {error.strerror or error}"
    except Exception as error:  # noqa: BLE001 — whatever a damaged file makes pydicom raise, it is damaged
        return f"its file is damaged: {type(error).__name__}: {error}"
    try:
        status = association.send_c_store(dataset)
    except (ValueError, AttributeError) as error:
        return f"it cannot be sent: {error}"
    except RuntimeError:
        raise _Away("the archive closed the association") from None
    if "Status" not in status:
        raise _Away("the archive broke off, or gave no answer in time")
    code = int(status.Status)
    told = f"status 0x{code:04X}" + (f", {status.ErrorComment}" if "ErrorComment" in status else "")
    category = code_to_category(code)
    if category == "Warning":
        logger.warning("the archive took %s with a warning: %s", dataset.SOPInstanceUID, told)
    if category in ("Success", "Warning"):
        return None
    if 0xA700 <= code <= 0xA7FF:
        raise _Away(f"the archive is out of resources ({told})")
    return f"the archive refused it ({told})"


class Sender(Thread):
    """Sends from a spool in the background, again and again until it is empty, from the start of a process on.

    Failures are told to the log. After one, the next attempt waits twice as long as the last, for all instances if
    the archive is away, for those that it refused if it is not.

    Args:
        spool: from which.
        destination: where to.
        first_retry_s: wait after the first failure.
        longest_retry_s: longest wait.
        clock: seconds; for tests.

    Attributes:
        spool: from which.
        problem: why something waits, as of the last attempt; None where nothing hinders.
    """

    def __init__(
        self,
        spool: Spool,
        destination: Destination,
        *,
        first_retry_s: float = _FIRST_RETRY_S,
        longest_retry_s: float = _LONGEST_RETRY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(name="scanside-dicom-sender", daemon=True)
        self.problem: str | None = None
        self.spool, self._destination = spool, destination
        self._first_s, self._longest_s, self._clock = first_retry_s, longest_retry_s, clock
        self._wake, self._stopped = Event(), Event()
        self._failures = 0
        self._not_before = 0.0
        self._retry_at: dict[str, float] = {}

    def run(self) -> None:
        """Send until `stop`."""
        while not self._stopped.is_set():
            self._wake.clear()
            try:
                pause_s = self._attempt()
            except Exception as error:
                # The thread must outlive whatever happens to one attempt: what waits would never be sent.
                logger.exception("sending to %s failed", self._destination)
                self.problem = f"{type(error).__name__}: {error}"
                pause_s = self._pause_s(self._failures)
                self._failures += 1
            self._wake.wait(pause_s)

    def wake(self) -> None:
        """Something new waits."""
        self._wake.set()

    def stop(self, timeout_s: float | None = None) -> None:
        """End after the instance that is being sent; what still waits stays in the spool.

        Args:
            timeout_s: longest wait for the end; 0 for none.
        """
        self._stopped.set()
        self._wake.set()
        if self.is_alive() and timeout_s != 0:
            self.join(timeout_s)

    def settle(self, timeout_s: float) -> int:
        """Wait until all is sent, or something hinders it, or the time is over; how many still wait."""
        until = time.monotonic() + timeout_s
        while (n := self.spool.n_waiting) and self.problem is None and time.monotonic() < until:
            time.sleep(0.02)
        return n

    def _attempt(self) -> float:
        """Send what is due; gives the seconds until something is due again."""
        now = self._clock()
        if now < self._not_before:
            return self._not_before - now
        with self.spool.sending() as ours:
            if not ours:
                return self._first_s  # another process sends; it may die
            waiting = self.spool.waiting()
            due = [one for one in waiting if self._retry_at.get(one.path.name, 0.0) <= now]
            until_stopped = takewhile(lambda _: not self._stopped.is_set(), due)
            delivery = deliver(self.spool, self._destination, until_stopped) if due else Delivery()
        return self._after(delivery, self.spool.waiting())

    def _after(self, delivery: Delivery, waiting: list[Waiting]) -> float:
        """Note what became of an attempt, and what still waits; gives the seconds until the next."""
        now = self._clock()
        if delivery.problem is not None and delivery.problem != self.problem:
            logger.warning("DICOM images wait in %s: %s", self.spool.folder, delivery.problem)
        self.problem = delivery.problem
        for one, _ in delivery.refused:
            self._retry_at[one.path.name] = now + self._pause_s(one.attempts)
        if delivery.away is None:
            self._failures = 0
        else:
            self._not_before = now + self._pause_s(self._failures)
            self._failures += 1
        due_at = {one.path.name: self._retry_at.get(one.path.name, 0.0) for one in waiting}
        self._retry_at = {name: at for name, at in due_at.items() if at > 0}
        return max(min(due_at.values()), self._not_before) - now if due_at else self._longest_s

    def _pause_s(self, failures: int) -> float:
        return min(self._first_s * 2.0 ** min(failures, 30), self._longest_s)
