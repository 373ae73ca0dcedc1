from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import Result

from scanside.recon.fourier import to_kspace

Scanside = Callable[..., Result]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A box seen by two coils, and every second line of it."""
    import torch

    from scanside_training.evaluation.bart_files import write_cfl

    image = torch.zeros(2, 32, 32, dtype=torch.complex64)
    image[:, 8:24, 8:24] = 1.0
    image[0] *= torch.linspace(0.2, 1, 32)[:, None]
    image[1] *= torch.linspace(1, 0.2, 32)[:, None]
    write_cfl(tmp_path / "box", to_kspace(image, (-2, -1)).numpy().transpose(2, 1, 0)[None])
    lines = np.arange(32) % 2 == 0
    lines[10:22] = True
    np.save(tmp_path / "half.npy", lines)
    (tmp_path / "box.yaml").write_text(
        f"name: box\ndata: {{kind: cfl, root: {tmp_path}, kspace: box, masks: {{half: half.npy}}}}\n"
        "candidates: [{kind: zero-filled}]\n"
    )
    return tmp_path / "box.yaml"


def test_evaluate(scanside: Scanside, config: Path, tmp_path: Path) -> None:
    result = scanside("evaluate", config, "-c", "mine=cg-sense", "-c", "grappa", "-o", tmp_path / "out")
    assert "zero-filled" in result.stdout
    assert "mine" in result.stdout
    assert "Research use only" in result.stdout
    assert (tmp_path / "out" / "report.html").is_file()


def perturbed(*place: int) -> list[str]:
    """Options that add a disc to the scan at a place."""
    settings = {"diameters": [2], "contrasts": [0.5], "realisations": 0, "places": [list(place)]}
    return [one for name in settings for one in ("--set", f"perturbation.structures.{name}={settings[name]}")]


def test_evaluate_perturbed_scans(scanside: Scanside, config: Path, tmp_path: Path) -> None:
    result = scanside("evaluate", config, *perturbed(16, 16), "-o", tmp_path / "out")
    assert "small structures" in result.stdout
    assert (tmp_path / "out" / "perturbation.json").is_file()
    told = scanside("evaluate", config, "--set", "perturbation.worst_case.steps=1", status=1).stderr
    assert "has no noise, to which the bound of changes is relative" in told
    refused = scanside("evaluate", config, *perturbed(1, 1), "-o", tmp_path / "none", status=1)
    assert "does not lie in the object" in refused.stderr


def test_a_candidate_that_is_not_there(scanside: Scanside, config: Path) -> None:
    result = scanside("evaluate", config, "-c", "no-such-run", status=1)
    assert "candidate 'no-such-run' is none of zero-filled" in result.stderr


def test_a_setting_with_a_typo(scanside: Scanside, config: Path) -> None:
    result = scanside("evaluate", config, "--set", "pictres=2", status=1)
    assert "has no setting 'pictres' (did you mean 'pictures'?)" in result.stderr


def test_evaluate_by_processes(scanside: Scanside, config: Path, tmp_path: Path) -> None:
    arguments = ("evaluate", config, "-c", "cg-sense", "--threads", "1", *perturbed(16, 16))
    scanside(*arguments, "-o", tmp_path / "one")
    scanside(*arguments, "-o", tmp_path / "many", "--workers", 1)
    one, many = (
        json.loads((tmp_path / name / "results.json").read_text("utf-8")) for name in ("one", "many")
    )
    assert many["images"] == one["images"]
    assert many["perturbation"]["responses"] == one["perturbation"]["responses"]
    assert len(many["images"]) == 2
    pictures = [path.name for path in (tmp_path / "one" / "pictures").iterdir()]
    assert [path.name for path in (tmp_path / "many" / "pictures").iterdir()] == pictures != []


def test_what_has_changed(scanside: Scanside, config: Path, tmp_path: Path) -> None:
    scanside("evaluate", config, "-c", "cg-sense", "-o", tmp_path / "out")
    old = tmp_path / "out" / "results.json"
    arguments = ("evaluate", config, "-c", "cg-sense", "-o", tmp_path / "out", "--check", old)
    same = scanside(*arguments)
    assert "0 of " in same.stdout
    assert "moved by more than 0.001 of themselves" in same.stdout
    document = json.loads(old.read_text("utf-8"))
    document["summaries"][0]["means"]["psnr"] += 1
    document["provenance"]["versions"]["torch"] = "1.0"
    old.write_text(json.dumps(document))
    moved = scanside(*arguments, status=1)
    assert "versions: torch was 1.0, is " in moved.stdout
    assert "moved: zero-filled, all images, psnr" in moved.stdout
    scanside(*arguments)  # what moved is written now
    lenient = scanside(
        "evaluate", config, "-o", tmp_path / "other", "--check", old, "--tolerance", "1", status=1
    )
    assert "CG-SENSE, all images, psnr: was" in lenient.stdout


def test_results_that_are_none(scanside: Scanside, config: Path, tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text('{"config": ')
    result = scanside("evaluate", config, "--check", tmp_path / "old.json", status=1)
    assert "old.json is damaged, it is no JSON" in result.stderr
    (tmp_path / "old.json").write_text('{"config": {"name": "other"}, "summaries": []}')
    result = scanside("evaluate", config, "--check", tmp_path / "old.json", status=1)
    assert "is of the evaluation 'other', and this one is 'box'" in result.stderr
