"""Values of settings from peers."""

from __future__ import annotations

import pytest

from scanside.plain_yaml import read_value

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefg", "bcdefgh", strict=True)
)


@pytest.mark.parametrize(
    ("text", "value"),
    [("4", 4), ("yes", True), ("[a, 1.5]", ["a", 1.5]), ("", None), ("{a: [1]}", {"a": [1]}), ("x y", "x y")],
)
def test_values(text: str, value: object) -> None:
    assert read_value(text) == value


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (BOMB, "alias"),
        ("[&a x, *a]", "alias"),
        ("[" * 100_000, "characters"),
        ("[" * 5_000, "nested"),
        ("{a: " * 2_000, "nested"),
        ("9" * 5_000, "digits"),
        ("2026-99-99", "month"),
        ("!!int ''", "index"),
        ("!!python/object/apply:os.system [true]", "tag"),
        ("[a", "expected"),
        ("\x1b", "special characters"),
    ],
)
def test_what_is_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as caught:
        read_value(text)
    assert len(str(caught.value)) < 400
