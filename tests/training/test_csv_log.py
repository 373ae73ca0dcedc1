"""The figures of a run as a CSV file."""

from __future__ import annotations

import csv
from pathlib import Path

from scanside_training.csv_log import CsvLog


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_columns_grow_as_figures_come(tmp_path: Path) -> None:
    log = CsvLog(tmp_path / "m.csv")
    log.log_metrics({"loss": 1.0, "epoch": 0}, 1)
    log.log_metrics({"psnr": 30.0}, 1)
    log.log_metrics({"loss": 0.5}, 2)
    assert rows(log.path) == [
        {"step": "1", "loss": "1.0", "psnr": ""},
        {"step": "1", "loss": "", "psnr": "30.0"},
        {"step": "2", "loss": "0.5", "psnr": ""},
    ]


def test_resumed_run_replaces_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    before = CsvLog(path)
    for step in range(1, 6):
        before.log_metrics({"loss": 10.0 * step}, step)
    after = CsvLog(path, resumed_step=3)
    after.log_metrics({"loss": 4.0}, 4)
    after.log_metrics({"loss": 5.0}, 5)
    assert [(row["step"], row["loss"]) for row in rows(path)] == [
        ("1", "10.0"), ("2", "20.0"), ("3", "30.0"), ("4", "4.0"), ("5", "5.0"),
    ]  # fmt: skip


def test_new_run_begins_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    CsvLog(path).log_metrics({"old": 1.0}, 1)
    CsvLog(path).log_metrics({"new": 2.0}, 1)
    assert rows(path) == [{"step": "1", "new": "2.0"}]
