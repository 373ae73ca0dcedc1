"""Which network made which series can be read later."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scanside import Image
from scanside.serving.series_log import SeriesLog
from scanside.testing.small import small_image, small_waveform


def image(series: int = 1, *, meta: dict[str, Any] | None = None, incomplete: str | None = None) -> Image:
    made = small_image()
    made.header["image_series_index"] = series
    made.meta["ScansidePipeline"] = "student"
    for name, value in (meta or {}).items():
        made.meta[name] = value
    return made.replace(incomplete=incomplete)


LEARNED = {
    "ScansideEngine": ["brain-student", "1.2.0"],
    "ScansideWeights": ["9f2a00000000", "9f2a" * 16],
    "ScansideBackend": ["openvino", "bf16", "320×320"],
    "PatientName": "Jane",
}


def test_lines(tmp_path: Path) -> None:
    log = SeriesLog(tmp_path / "series.jsonl")
    session = log.begin("s1")
    session.take(image(1))
    session.take(image(2, meta=LEARNED))
    session.take(small_waveform())
    session.take(image(2, meta={"ScansideFallback": ["sense", "deadline", "it took too long for Jane"]}))
    session.take(image(2, meta=LEARNED, incomplete="cut off"))
    before = log.records()
    assert [(one["event"], one["series"], one["bundle"]) for one in before] == [
        ("begun", 1, ""), ("begun", 2, "brain-student"), ("begun", 2, ""),
    ]  # fmt: skip
    session.finish()
    session.finish()
    first, learned, fallback = log.records()[3:]
    assert (first["event"], first["n_images"], first["pipeline"], first["weights"]) == (
        "ended",
        1,
        "student",
        "",
    )
    assert {name: learned[name] for name in ("session", "series", "n_images", "n_incomplete", "fallbacks")} == {
        "session": "s1", "series": 2, "n_images": 2, "n_incomplete": 1, "fallbacks": {},
    }  # fmt: skip
    assert (learned["bundle_version"], learned["weights"]) == ("1.2.0", "9f2a" * 16)
    assert (learned["backend"], learned["precision"]) == ("openvino", "bf16")
    assert (fallback["n_images"], fallback["fallbacks"]) == (1, {"sense:deadline": 1})
    assert "Jane" not in (tmp_path / "series.jsonl").read_text("utf-8")


def test_log_that_cannot_be_written_ends_no_session(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    session = SeriesLog(tmp_path / "file" / "series.jsonl").begin("s1")
    session.take(image())
    session.finish()
    assert "lacks a line of session s1" in caplog.text
