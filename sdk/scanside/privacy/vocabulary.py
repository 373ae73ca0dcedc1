"""Words that name nobody."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["Vocabulary"]

_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_]+")
"""``engineDeadlineMs`` and ``engine.deadline_ms`` have the same parts."""

_NUMBER = re.compile(r"\s*[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?\s*")

_PLAIN = re.compile(r"[\w\s.,:;/+*=()\[\]|-]*")

_BASE = (
    # What hosts send with a scan.
    "parameters config configuration version default openrecon pipeline property output name value",
    "readers writers stream true false null none yes no on off auto xml yaml json",
    # Forms of images, and names and values of meta attributes in use.
    "image array images imaging condition recon data bucket acquisitions meta ismrmrd gadgetron scanside",
    "role uncertainty processing history comment comments window center centre width keep geometry",
    "row column slice partition read phase norm normal dir direction position orientation field of view fov matrix",
    "size series number index type magnitude real imag imaginary complex rgb derived original primary",
    "filter raw scale scaling ratio rescale slope intercept sequence description additional pixel spacing",
    "encoding space step encode repetition contrast average set segment echo time inversion flip angle",
    "minimum maximum min max mean sum count sampling pattern mask coil channel acceleration factor",
    "gfactor snr map std noise report incomplete fallback engine bundle backend precision weights deadline ms",
)
"""Kept short: a word that is missing costs a setting, one too many may cost a name."""


class Vocabulary:
    """Tells text made of known words from text that may name somebody.

    Args:
        words: that are known besides those of the format itself; joined ones count by their parts.
    """

    def __init__(self, words: Iterable[str] = ()) -> None:
        self._parts = frozenset(_parts(" ".join([*_BASE, *words])))

    def knows(self, text: str) -> bool:
        """Whether text holds nothing but known words, single letters, digits and plain signs."""
        return _PLAIN.fullmatch(text) is not None and all(
            part in self._parts or len(part) == 1 for part in _parts(text)
        )

    @staticmethod
    def is_number(text: str) -> bool:
        """Whether text is one number."""
        return _NUMBER.fullmatch(text) is not None


def _parts(text: str) -> list[str]:
    return [part.lower() for part in _PARTS.findall(text)]
