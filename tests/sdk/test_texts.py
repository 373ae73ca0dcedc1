"""Texts from outside are short, on one line, and can be written."""

from __future__ import annotations

from typing import Any

import pytest

from scanside.texts import encodable, indented, printable, shortened, shown

pytestmark = pytest.mark.torch_free


def test_short_values_are_shown_as_python_writes_them() -> None:
    for value in ("grappa", "it's", b"\0\xff", 4, [1, "a"], {"a": None}):
        assert shown(value) == repr(value)


def test_long_ones_are_cut() -> None:
    assert shown("x" * 1000, 10) == "'xxxxxxxxxx'… (1000 characters)"
    assert shown(b"\0" * 1000, 2) == "b'\\x00\\x00'… (1000 bytes)"
    assert shortened("abc", 3) == "abc"
    assert len(shown([["x" * 10_000] * 1000] * 1000)) < 400
    assert len(shown(10**4000)) < 200


def test_what_stands_for_more_than_it_is() -> None:
    """Nine lists of nine lists of nine …: gigabytes if it were written out."""
    bomb: list[Any] = ["lol"]
    for _ in range(20):
        bomb = [bomb] * 9
    assert len(shown(bomb)) < 400


@pytest.mark.parametrize(
    "evil",
    ["\n2026-03-01 12:00:00.000 error forged", "\x1b[2J", "\r", "\x9b2J", "\u202e", "\u2028", "\ud83d"],
)
def test_nothing_forges_a_line_or_commands_a_terminal(evil: str) -> None:
    for text in (shown(f"a{evil}b"), printable(f"a{evil}b")):
        assert evil[0] not in text
        assert text.isprintable()
        text.encode()


def test_letters_of_all_languages_print() -> None:
    assert printable("Kopf, Größe 5 µm – 頭") == "Kopf, Größe 5 µm – 頭"
    assert encodable("頭\ud83d") == "頭\\ud83d"


def test_further_lines_are_set_off() -> None:
    assert indented("a\nerror: b\tc\x1b") == "a\n    error: b        c\\x1b"
