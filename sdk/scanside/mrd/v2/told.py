"""What one version of MRD cannot say of the other, told once for a stream and not for each of its items."""

from __future__ import annotations

import logging

__all__ = ["Told"]

_log = logging.getLogger(__name__)


class Told:
    """Warns of each thing once.

    Attributes:
        texts: what was told, in order.
    """

    def __init__(self) -> None:
        self.texts: list[str] = []

    def once(self, text: str) -> None:
        """Warn, if this has not been told yet."""
        if text not in self.texts:
            self.texts.append(text)
            _log.warning("%s", text)
