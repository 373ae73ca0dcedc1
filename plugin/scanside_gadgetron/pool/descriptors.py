"""How many descriptors a server's process may open, and who may take how many: scans come first."""

from __future__ import annotations

import logging
import resource
from dataclasses import dataclass

__all__ = ["Shares", "most_descriptors", "share_descriptors"]

logger = logging.getLogger(__name__)

_ENOUGH = 65536
_OWN = 48
"""Of the process itself: libraries, listeners, event loops, files of the live page that are being read."""

_PER_WORKER = 6
_PER_SESSION = 3
_FEWEST = 8
_MOST_SILENT = 256
_MOST_PAGE = 128


@dataclass(frozen=True)
class Shares:
    """What is left when each scan that may run or wait has its own.

    Attributes:
        silent: hosts that have connected and said nothing yet.
        leaving: hosts that are being told that there is no place.
        page: connections to the live page.
    """

    silent: int
    leaving: int
    page: int


def most_descriptors() -> int:
    """How many descriptors this process may have open, once it has asked for all that it may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return _ENOUGH if soft == resource.RLIM_INFINITY else soft


def share_descriptors(most: int, workers: int, queue: int) -> Shares:
    """Share descriptors out.

    Args:
        most: that the process may have open.
        workers: how many processes it looks after, and so how many scans at once.
        queue: how many scans may wait.
    """
    # While workers are replaced, there are twice as many.
    for_scans = 2 * _PER_WORKER * workers + _PER_SESSION * (workers + queue)
    left = (most - _OWN - for_scans) // 3
    if left < _FEWEST:
        logger.warning(
            "this process may have %d files and connections open, which is too few for %d workers and a queue of %d: "
            "give it more (ulimit -n, LimitNOFILE), or make the queue shorter",
            most,
            workers,
            queue,
        )
    share = max(_FEWEST, left)
    return Shares(min(share, _MOST_SILENT), min(share, _MOST_SILENT), min(share, _MOST_PAGE))
