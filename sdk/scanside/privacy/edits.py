"""Changes to bytes that keep their length."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple

from scanside.privacy.document import Span

__all__ = ["Change", "Edit", "apply", "in_order", "masked"]

_MASK = bytes(byte if byte in b"\0 \t\n\r\v\f" else ord("x") for byte in range(256))
_ONES = bytes.maketrans(b"0123456789", b"1111111111")


class Change(Enum):
    """What becomes of a place."""

    BLANK = "blank"
    """Spaces: the place is as if it had never been."""
    MASK = "mask"
    """An ``x`` for every byte that is none of white space: something stood there."""
    DIGITS = "digits"
    """Ones for all digits: some number stood there."""
    PSEUDONYM = "pseudonym"
    """Other letters, the same ones wherever the same stood."""


class Edit(NamedTuple):
    """A change of a place."""

    span: Span
    change: Change


def in_order(edits: Iterable[Edit]) -> list[Edit]:
    """Changes by their places, without those that lie inside another."""
    apart: list[Edit] = []
    for edit in sorted(edits, key=lambda edit: edit.span):
        if not apart or edit.span.start >= apart[-1].span.end:
            apart.append(edit)
    return apart


def apply(text: bytes, edits: Iterable[Edit]) -> bytes:
    """The text with its changes, of the same length."""
    changed = bytearray(text)
    for (start, end), change in in_order(edits):
        old = text[start:end]
        if change is Change.BLANK:
            changed[start:end] = b" " * len(old)
        elif change is Change.MASK:
            changed[start:end] = masked(old)
        elif change is Change.DIGITS:
            changed[start:end] = old.translate(_ONES)
        else:
            changed[start:end] = old.replace(old.strip(), _pseudonym(old.strip()))
    return bytes(changed)


def masked(text: bytes) -> bytes:
    """Text of which only white space and NULs are left."""
    return text.translate(_MASK)


def _pseudonym(identifier: bytes) -> bytes:
    """Letters and digits of the identifier's length that come from nothing but the identifier."""
    letters = bytearray()
    block = identifier
    while len(letters) < len(identifier):
        block = hashlib.sha256(b"scanside pseudonym " + block).digest()
        letters += base64.b32encode(block).rstrip(b"=").lower()
    return bytes(letters[: len(identifier)])
