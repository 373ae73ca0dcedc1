"""Recordings keep the words that sessions are set up with."""

from __future__ import annotations

from pathlib import Path

from scanside_gadgetron.pool.words import known_words


def test_words_of_pipelines_and_settings(tmp_path: Path) -> None:
    (tmp_path / "knee.yaml").write_text(
        "name: knee\ndescription: made by Jane\nstages:  # for Joe\n  - siteStage: {colour: green}\n"
    )
    words = known_words(str(tmp_path))
    for text in (
        "grappa",
        "low-rank-sparse",
        "engine.deadline_ms",
        "engineDeadlineMs",
        "rss",
        "student",
        "knee",
    ):
        assert words.knows(text), text
    for text in ("siteStage.colour", "green"):
        assert words.knows(text), text
    for text in ("Jane", "Joe", "Mustermann"):
        assert not words.knows(text), text
