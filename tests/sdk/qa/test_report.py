"""The report shows what is out of limits, and the trend."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from scanside.qa import QaResult, QaStore, check
from scanside.qa.report import pictures_figure, trend_figure, write_report


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.text, self.images = "", 0

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.images += tag == "img"


def history(result: QaResult, n: int) -> list[QaResult]:
    return [result.model_copy(update={"time": result.time - timedelta(weeks=n - i)}) for i in range(n)]


def test_report(disk_scan: Callable[..., Path], plain: str, tmp_path: Path) -> None:
    earlier = history(check(disk_scan(), pipeline=plain, nominal_mm=170.0).result, 6)
    checked = check(disk_scan(ghost=0.2), pipeline=plain, learned=plain, nominal_mm=170.0, earlier=earlier)
    write_report(checked, earlier, tmp_path / "new" / "report.html")
    page = _Text()
    page.feed((tmp_path / "new" / "report.html").read_text("utf-8"))
    assert page.images == 2
    for part in (
        "1 out of limits",
        "out of limits: ghosting",
        "OUT OF LIMITS",
        "disk",
        "checks so far",
        "7",
    ):
        assert part in page.text


def test_trend_draws_every_check_and_the_limits(disk_scan: Callable[..., Path], plain: str) -> None:
    result = check(disk_scan(ghost=0.2), pipeline=plain, nominal_mm=170.0).result
    figure = trend_figure(history(result, 4))
    by_title = {axis.get_title(loc="left"): axis for axis in figure.axes if axis.get_visible()}
    assert set(by_title) == {"SNR", "diameters, mm", "ghosting", "uniformity (PIU), %"}
    dots: list[Any] = [line for line in by_title["ghosting"].lines if line.get_marker() == "o"]
    assert len(dots) == 4
    assert {line.get_color() for line in dots} == {"#c0392b"}
    assert len([line for line in by_title["diameters, mm"].lines if line.get_marker() == "o"]) == 16
    assert len(by_title["ghosting"].patches) == 1
    legend = by_title["diameters, mm"].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["x", "y", "diagonal", "other diagonal"]


def test_pictures_mark_what_was_measured(disk_scan: Callable[..., Path], plain: str) -> None:
    checked = check(disk_scan(), pipeline=plain)
    figure = pictures_figure(checked)
    assert len(figure.axes) == 2
    (circle,), boxes = (axis.patches for axis in figure.axes)
    assert circle.get_radius() == pytest.approx(0.866 * 85 / 2.5, rel=0.02)  # type: ignore[attr-defined]
    assert len(boxes) == 4


def test_store(
    disk_scan: Callable[..., Path], plain: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = QaStore(tmp_path / "qa")
    assert store.results() == []
    result = check(disk_scan(), pipeline=plain).result
    first, second = history(result, 2)
    store.add(second)
    store.add(first)
    assert store.results() == [first, second]
    with (tmp_path / "qa" / "qa.jsonl").open("a") as file:
        file.write('{"time": 1}\n')
    with caplog.at_level(logging.WARNING):
        assert store.results() == [first, second]
    assert "is no check" in caplog.text
