"""Texts from outside, made fit for an error, a log and a page.

What a peer or a file says may be of any length, and may hold line breaks that forge a line of the log, escape
sequences that a terminal obeys, and halves of characters that no encoding can write.
"""

from __future__ import annotations

import reprlib

__all__ = ["encodable", "indented", "printable", "shortened", "shown"]

_ITEMS = 6
_LEVELS = 4


def shown(value: object, most: int = 80) -> str:
    """A value in quotation marks as Python writes it, on one line, for an error that quotes what came from outside.

    Args:
        value: a text or bytes, of which the beginning is shown; or anything that a file or a message was read into.
        most: characters or bytes of it.
    """
    if isinstance(value, (str, bytes)):
        unit = "characters" if isinstance(value, str) else "bytes"
        return repr(value) if len(value) <= most else f"{value[:most]!r}… ({len(value)} {unit})"
    # Nothing is written out in full first: a document of a few bytes can stand for gigabytes.
    short = reprlib.Repr()
    short.maxlevel, short.maxstring, short.maxother, short.maxlong = _LEVELS, most, most, most
    short.maxlist = short.maxtuple = short.maxdict = short.maxset = short.maxfrozenset = _ITEMS
    return shortened(short.repr(value), 4 * most)


def shortened(text: str, most: int) -> str:
    """The beginning of a text, and how long it is where that is not all."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text)} characters)"


def printable(text: str) -> str:
    r"""A text on one line: what does not print (line breaks, escapes, marks of direction) as ``\n``, ``\x1b``."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else _escape(one) for one in text)


def indented(text: str) -> str:
    """A text whose further lines are set off: none of them passes for a message of its own."""
    return "\n    ".join(printable(line.expandtabs()) for line in text.split("\n"))


def encodable(text: str) -> str:
    r"""A text that UTF-8 can write: a lone half of a character, as JSON may hold it, becomes ``\udNNN``."""
    return text.encode("utf-8", "backslashreplace").decode()


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
