"""``scanside evaluate --readers`` and ``scanside readers``."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import Result

from scanside.cli import readers
from scanside.recon.fourier import to_kspace

pytest.importorskip("starlette", reason="needs starlette: pip install 'scanside[server]'")
pytest.importorskip("uvicorn", reason="needs uvicorn: pip install 'scanside[server]'")

Scanside = Callable[..., Result]

QUESTION = {
    "name": "quality",
    "kind": "likert",
    "text": "How good?",
    "labels": ["bad", "fair", "good"],
    "noninferiority": {"control": "zero-filled", "margin": 0.5, "power": {"sd": 0.3}},
}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Two masks of a box seen by two coils."""
    import torch

    from scanside_training.evaluation.bart_files import write_cfl

    image = torch.zeros(2, 32, 32, dtype=torch.complex64)
    image[:, 8:24, 8:24] = 1.0
    image[0] *= torch.linspace(0.2, 1, 32)[:, None]
    image[1] *= torch.linspace(1, 0.2, 32)[:, None]
    write_cfl(tmp_path / "box", to_kspace(image, (-2, -1)).numpy().transpose(2, 1, 0)[None])
    for every in (2, 3):
        lines = np.arange(32) % every == 0
        lines[10:22] = True
        np.save(tmp_path / f"every{every}.npy", lines)
    (tmp_path / "box.yaml").write_text(
        f"name: box\ndata: {{kind: cfl, root: {tmp_path}, kspace: box, "
        "masks: {half: every2.npy, third: every3.npy}}\ncandidates: [{kind: zero-filled}, {kind: cg-sense}]\n"
    )
    return tmp_path / "box.yaml"


@pytest.fixture
def form(tmp_path: Path) -> Path:
    path = tmp_path / "form.yaml"
    path.write_text(yaml.safe_dump({"title": "Boxes", "readers": ["anna", "ben"], "questions": [QUESTION]}))
    return path


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C as soon as the page is served."""

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(readers, "sleep", interrupt)


@pytest.mark.usefixtures("interrupted")
def test_a_study_from_its_form_to_its_results(
    scanside: Scanside, config: Path, form: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    first = scanside("evaluate", config, "--readers", form, "-o", out)
    links = re.findall(r"(anna|ben) +0 of 4 +(http://127\.0\.0\.1:\d+/r/\S+/)", first.stdout)
    assert [name for name, _ in links] == ["anna", "ben"]
    assert "quality: no power, as all cases are of one subject" in first.stdout
    assert "Research use only" in first.stdout
    folder = out / "readers"
    assert (folder / "results" / "report.html").is_file()
    again = scanside("evaluate", config, "--readers", form, "-o", out)
    ends = [
        [link.rsplit("/", 2)[1] for link in re.findall(r"http://\S+/r/\S+/", one.stdout)]
        for one in (first, again)
    ]
    assert ends[0] == ends[1]  # links stay, as the readers have them

    alone = scanside("readers", "serve", folder, "--reader", "ben")
    assert "anna" not in alone.stdout.partition("Each link")[0]
    scanside("readers", "results", folder, "-o", tmp_path / "elsewhere")
    document = json.loads((tmp_path / "elsewhere" / "results.json").read_text("utf-8"))
    assert [one["total"] for one in document["standings"]] == [4, 4]


def test_what_cannot_be_served(
    scanside: Scanside, config: Path, form: Path, tmp_path: Path, interrupted: None
) -> None:
    assert "holds no reader study" in scanside("readers", "serve", tmp_path, status=1).stderr
    assert "holds no reader study" in scanside("readers", "results", tmp_path, status=1).stderr
    out = tmp_path / "out"
    scanside("evaluate", config, "--readers", form, "-o", out)
    told = scanside("readers", "serve", out / "readers", "--reader", "zoe", status=1)
    assert "'zoe' is no reader of this study; they are anna, ben" in told.stderr
    told = scanside("evaluate", config, "--readers", form, "--workers", 2, status=2)
    assert "leave --workers, --ray and --again out" in told.stderr
    form.write_text(form.read_text().replace("margin: 0.5", "margin: 1.5"))
    told = scanside("evaluate", config, "--readers", form, "-o", out, status=1)
    assert "prepared with another form (questions)" in told.stderr
