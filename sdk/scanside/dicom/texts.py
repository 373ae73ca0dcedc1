"""Values as DICOM wants them written (PS3.5, 6.2)."""

from __future__ import annotations

import datetime
import re

from scanside.dicom._pydicom import format_number_as_ds
from scanside.mrd.dtypes import TICK_MS

__all__ = ["date", "decimal", "long_text", "positive", "short", "time_of_day", "time_of_ticks"]

_DAY_MS = 24 * 3600 * 1000
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")


def short(text: str, length: int = 64) -> str:
    """One line without backslashes, which separate values, cut to a length (LO: 64, SH: 16 characters)."""
    return _CONTROL.sub(" ", text).replace("\\", "/").strip()[:length].rstrip()


def long_text(text: str, length: int = 1024) -> str:
    """Text cut to a length (ST: 1024, LT: 10240 characters); line breaks stay."""
    return re.sub(r"[^\S\n]*[\x00-\x09\x0b-\x1f\x7f]", " ", text).replace("\\", "/").strip()[:length].rstrip()


def decimal(value: float) -> str:
    """A number in at most 16 characters (DS).

    Raises:
        ValueError: it is not finite.
    """
    return str(format_number_as_ds(float(value)))


def positive(text: str | None) -> float | None:
    """The number that a text holds; None where it holds none, or one that is not positive and finite."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 < value < float("inf") else None


def date(text: str | None) -> str | None:
    """``20260131`` of ``2026-01-31``, as the header writes it; None where there is no date."""
    found = re.match(r"(\d{4})-?(\d{2})-?(\d{2})", text or "", re.ASCII)
    if found is None:
        return None
    year, month, day = (int(part) for part in found.groups())
    try:
        return f"{datetime.date(year, month, day):%Y%m%d}" if year > 999 else None
    except ValueError:
        return None


def time_of_day(text: str | None) -> str | None:
    """``120103.5`` of ``12:01:03.5``; None where there is no time."""
    pattern = r"([01]\d|2[0-3]):?([0-5]\d):?([0-5]\d)(\.\d{1,6})?"
    found = re.match(pattern, text or "", re.ASCII)
    return "".join(part or "" for part in found.groups()) if found else None


def time_of_ticks(ticks: int) -> str | None:
    """Time of day of a time stamp; None for zero and for what is no time of day (a clock that counts otherwise)."""
    ms = ticks * TICK_MS
    if not 0 < ms < _DAY_MS:
        return None
    seconds, rest_ms = divmod(ms, 1000)
    minutes, second = divmod(int(seconds), 60)
    return f"{minutes // 60:02d}{minutes % 60:02d}{second:02d}.{round(rest_ms * 1000):06d}"
