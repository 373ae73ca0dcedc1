"""Counters are held against the encoding limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.torch_free


def without(scan: Any, counter: str) -> None:
    start = scan.xml.index(f"<{counter}>")
    end = scan.xml.index(f"</{counter}>") + len(counter) + 3
    scan.xml = scan.xml[:start] + scan.xml[end:]


@pytest.mark.parametrize("block", [None, 1])
@pytest.mark.parametrize(
    ("counter", "settings"), [("average", {"averages": 3}), ("segment", {"segments": 3})]
)
def test_what_fills_an_image_and_is_not_announced(
    make_scan: Callable[..., Any], counter: str, settings: dict[str, int], block: int | None
) -> None:
    scan = make_scan(dynamics=settings)
    assert scan.texts() == []
    without(scan, counter)
    told, (found,) = scan.compare(block=block)
    assert [finding.level for finding in told] == ["warning"]
    assert found.text.startswith(f"{counter} runs from 0 to 2, which the header's limits do not announce")
    assert "accumulate.trigger to 'measurement'" in found.text


@pytest.mark.parametrize(
    ("counter", "settings"),
    [
        ("slice", {"geometry": {"matrix": (16, 16, 1), "n_slices": 3}}),
        ("contrast", {"dynamics": {"te_ms": (5, 10, 15)}}),
        ("repetition", {"dynamics": {"repetitions": 3}}),
        ("set", {"dynamics": {"sets": 3}}),
        ("phase", {"dynamics": {"phases": 3}}),
    ],
)
def test_what_separates_images(make_scan: Callable[..., Any], counter: str, settings: dict[str, Any]) -> None:
    """Each value is an image of its own all the same; but nobody can tell whether all came."""
    scan = make_scan(**settings)
    assert scan.texts() == []
    without(scan, counter)
    assert scan.texts() == [
        f"note: {counter} runs from 0 to 2, which the header's limits do not announce: whole {counter}s that never "
        "came go unnoticed"
    ]
    scan = make_scan(**settings)
    start = scan.xml.index(f"<{counter}>")
    scan.xml = scan.xml[:start] + scan.xml[start:].replace("<maximum>2</maximum>", "<maximum>1</maximum>", 1)
    (text,) = scan.texts()
    assert text.startswith(f"warning: {counter} runs from 0 to 2, outside the header's limits 0 to 1")
    scan.xml = scan.xml.replace(
        "<minimum>0</minimum>\n    <maximum>1<", "<minimum>1</minimum>\n    <maximum>3<"
    )
    (text,) = scan.texts()
    assert "outside the header's limits 1 to 3" in text
