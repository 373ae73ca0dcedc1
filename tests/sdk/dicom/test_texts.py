from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.valuerep import DSfloat

from scanside.dicom.texts import date, decimal, long_text, positive, short, time_of_day, time_of_ticks


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e12, max_value=1e12))
def test_decimal(value: float) -> None:
    text = decimal(value)
    assert len(text) <= 16
    assert float(DSfloat(text)) == pytest.approx(value, rel=1e-8, abs=1e-14)


@given(st.text())
def test_short(text: str) -> None:
    made = short(text)
    assert len(made) <= 64
    assert not set(made) & {"\\", "\n", "\r", "\0"}
    assert made == made.strip()


def test_long_text() -> None:
    assert long_text("a\\b\nc\x00d  ") == "a/b\nc d"
    assert len(long_text("x" * 5000)) == 1024


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-31", "20260131"),
        ("20260131", "20260131"),
        ("2026-01-31+01:00", "20260131"),
        ("2024-02-29", "20240229"),
        ("2026-02-29", None),
        ("2026-13-01", None),
        ("0000-00-00", None),
        ("", None),
        ("x", None),
    ],
)
def test_date(text: str, expected: str | None) -> None:
    assert date(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12:01:03", "120103"),
        ("12:01:03.25Z", "120103.25"),
        ("120103", "120103"),
        ("noon", None),
        ("25:00:00", None),
        ("12:60:00", None),
        (None, None),
    ],
)
def test_time_of_day(text: str | None, expected: str | None) -> None:
    assert time_of_day(text) == expected


@pytest.mark.parametrize(
    ("ticks", "expected"),
    [
        (0, None),
        (1, "000000.002500"),
        (400 * (13 * 3600 + 14 * 60 + 15) + 399, "131415.997500"),
        (400 * 86_400 - 1, "235959.997500"),
        (400 * 86_400, None),
        (2**32 - 1, None),
    ],
)
def test_time_of_ticks(ticks: int, expected: str | None) -> None:
    assert time_of_ticks(ticks) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("70.5", 70.5), ("0", None), ("-1", None), ("nan", None), ("inf", None), (None, None)],
)
def test_positive(text: str | None, expected: float | None) -> None:
    assert positive(text) == expected
