"""What has changed since an earlier evaluation, and files that are none."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from scanside.errors import ConfigError, FormatError
from scanside_training.evaluation.changes import changes, read_results

OLD: dict[str, Any] = {
    "config": {"name": "e", "data": {"samples": 4}, "candidates": [{"kind": "zero-filled"}]},
    "provenance": {
        "data": "ab",
        "n_cases": 4,
        "weights": {"net": "w1"},
        "versions": {"torch": "2.11", "numpy": "2.4"},
    },
    "summaries": [
        {"candidate": "net", "stratum": "all", "value": "", "n": 4, "means": {"psnr": 30.0, "ssim": 0.8}},
        {"candidate": "net", "stratum": "mask", "value": "r4", "n": 4, "means": {"psnr": 29.0}},
    ],
}


def test_nothing_has_changed() -> None:
    found = changes(OLD, copy.deepcopy(OLD), 0)
    assert (found.circumstances, found.moved, found.n_figures, found.n_new) == ((), (), 3, 0)


def test_what_has_changed() -> None:
    new = copy.deepcopy(OLD)
    new["config"]["data"]["samples"] = 8
    new["provenance"] |= {"data": "cd", "n_cases": 8, "weights": {"net": "w2"}}
    new["provenance"]["versions"]["torch"] = "2.12"
    new["summaries"][0]["means"] = {"psnr": 30.01, "ssim": 0.7, "nmse": 0.1}
    del new["summaries"][1]
    found = changes(OLD, new, 1e-3)
    assert found.circumstances == (
        "configuration: data.samples was 4, is 8",
        "data: fingerprint was ab of 4 cases, is cd of 8",
        "weights: net was w1, is w2",
        "versions: torch was 2.11, is 2.12",
    )
    assert [one.described for one in found.moved] == [
        "net, all images, ssim: 0.8 → 0.7 (-0.1)",
        "net, mask r4 images, psnr: was 29, and is not there any more",
    ]
    assert found.n_new == 1
    assert len(changes(OLD, new, 1e-6).moved) == 3


def test_results_of_earlier_versions() -> None:
    old = {name: OLD[name] for name in ("config", "summaries")}
    assert changes(old, OLD, 0).circumstances == ("data and versions: not recorded then",)


def test_files_that_cannot_be_compared(tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    with pytest.raises(ConfigError, match=r"there is no .*old\.json"):
        read_results(path, "e")
    path.write_text(json.dumps(OLD)[:-20])
    with pytest.raises(FormatError, match="is damaged, it is no JSON"):
        read_results(path, "e")
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FormatError, match="is damaged"):
        read_results(path, "e")
    path.write_text('{"config": {"name": "e"}}')
    with pytest.raises(FormatError, match="holds no results of an evaluation"):
        read_results(path, "e")
    path.write_text(json.dumps(OLD))
    with pytest.raises(ConfigError, match="is of the evaluation 'e', and this one is 'other'"):
        read_results(path, "other")
    assert read_results(path, "e") == OLD
    path.write_text(json.dumps(OLD | {"summaries": [{"candidate": "net"}]}))
    with pytest.raises(FormatError, match="its summaries are not such"):
        read_results(path, "e")
