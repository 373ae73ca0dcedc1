"""Versions of packages, and whether they are what another package asks for."""

from __future__ import annotations

import operator
import re
from importlib.metadata import PackageNotFoundError, requires, version
from itertools import zip_longest

__all__ = ["installed", "required", "satisfies"]

_COMPARISONS = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}


def installed(distribution: str) -> str | None:
    """The version of a distribution; None where it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def required(distribution: str, name: str) -> str:
    """What an installed distribution asks of another, as ``<2.14,>=2.13``, its extras included; empty where it asks
    for nothing.
    """
    try:
        needs = requires(distribution) or []
    except PackageNotFoundError:
        return ""
    for need in needs:
        found = re.match(r"([\w.-]+)\s*(?:\[[^\]]*\])?\s*\(?([^);]*)", need)
        if found and _plain(found[1]) == _plain(name):
            return found[2].strip()
    return ""


def satisfies(found: str, specifier: str) -> bool:
    """Whether a version is what is asked for; only the numbers of its release count.

    Args:
        found: as ``2.13.0+cpu``.
        specifier: as ``<2.14,>=2.13``; empty for any. What is not known here (``~=``, ``==2.*``) is taken for true.
    """
    for part in filter(None, (one.strip() for one in specifier.split(","))):
        known = re.fullmatch(r"(>=|<=|==|!=|>|<)\s*([\d.]+)", part)
        if known and not _COMPARISONS[known[1]](*_aligned(found, known[2])):
            return False
    return True


def _aligned(*versions: str) -> list[tuple[int, ...]]:
    """Release numbers of equal length, so that 2.13 is 2.13.0."""
    numbers = []
    for one in versions:
        release = re.match(r"\d+(?:\.\d+)*", one)
        numbers.append([int(part) for part in release[0].split(".")] if release else [])
    return list(zip(*zip_longest(*numbers, fillvalue=0), strict=True))


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
