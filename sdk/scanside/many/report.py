"""What became of many recordings, as a page."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from statistics import median

from scanside.many.replays import FileResult, ManyReplays
from scanside.report.page import Facts, Page, Part, Rows, Section, Text

__all__ = ["many_report"]

AT_MOST = 500
"""Recordings that the table names; summary.json has all."""


def many_report(results: ManyReplays, path: Path) -> None:
    """Write what became of all recordings.

    Args:
        results: of a run.
        path: the page.
    """
    made = [one for one in results.files if one.state in ("done", "before")]
    highlights = {
        "recordings": str(len(results.files)),
        "reconstructed": str(len(made)),
        "failed": str(len(results.failures)),
        "images": str(sum(one.n_images for one in made)),
    }
    if left := results.count("left"):
        highlights["not begun"] = str(left)
    page = Page(
        title="Many recordings",
        lead=f"Pipeline {results.pipeline}, images in {results.folder}",
        highlights=highlights,
        sections=[
            Section("Failures", _failures(results)),
            Section("Warnings", _warnings(made)),
            Section("Run", [_facts(results, made)]),
            Section("Recordings", _files(results)),
        ],
    )
    page.write(path)


def _failures(results: ManyReplays) -> list[Part]:
    rows = [(one.recording, one.error) for one in results.failures[:AT_MOST]]
    return [Rows(("recording", "why"), rows)] if rows else []


def _warnings(made: list[FileResult]) -> list[Part]:
    counts = Counter(text for one in made for text in one.warnings)
    rows = [(text, str(n)) for text, n in counts.most_common(AT_MOST)]
    return [Rows(("warning", "recordings"), rows, frozenset({"recordings"}))] if rows else []


def _facts(results: ManyReplays, made: list[FileResult]) -> Part:
    now = [one for one in made if one.state == "done"]
    rows = [
        ("pipeline's SHA-256, with settings and bundles", results.identity),
        ("done in this run", f"{len(now)} in {results.seconds:.1f} s"),
        ("done before", str(results.count("before"))),
        ("images by a fallback", str(sum(one.n_fallbacks for one in made))),
    ]
    if now:
        rows.append(("time of a recording, median", f"{median(one.seconds for one in now):.2f} s"))
        by_worker = Counter(one.where for one in now)
        rows += [(where, f"{n} recordings") for where, n in sorted(by_worker.items())]
    return Facts(rows)


def _files(results: ManyReplays) -> list[Part]:
    columns = ("recording", "state", "images", "seconds", "file")
    rows = [
        (one.recording, one.state, str(one.n_images), f"{one.seconds:.2f}", one.output)
        for one in results.files[:AT_MOST]
    ]
    parts: list[Part] = [Rows(columns, rows, frozenset({"images", "seconds"}))]
    if len(results.files) > AT_MOST:
        parts.append(Text(f"The first {AT_MOST} of {len(results.files)}; summary.json has all."))
    return parts
