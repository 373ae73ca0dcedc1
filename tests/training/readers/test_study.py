"""Studies are made of real reconstructions, once."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.training.readers.conftest import LIKERT, form_of

from scanside.errors import ConfigError, FileFormatError
from scanside_training.config import read_config, read_settings
from scanside_training.data import ReconstructionData
from scanside_training.evaluation import EvaluationConfig
from scanside_training.evaluation.pictures import as_reference
from scanside_training.readers import open_study, prepare
from scanside_training.readers.images import GREYS, WHITE, brightness_of, greys_of
from scanside_training.readers.journal import FolderLock
from scanside_training.trainer import train

pytestmark = pytest.mark.usefixtures("slice_cache", "one_thread")

CANDIDATES = [{"kind": "zero-filled"}, {"kind": "cg-sense", "name": "sense", "iterations": 5}]


def evaluation(tiny: dict[str, Any], **settings: Any) -> EvaluationConfig:
    simulation = {"task": {"kind": "unrolled"}, "coils": {"n_coils": [2, 2], "measured": 0}}
    tiny_data = tiny["data"] | {
        "simulation": tiny["data"]["simulation"] | simulation,
        "validation_samples": 4,
    }
    document = {
        "name": "readers",
        "data": {"kind": "simulated", "data": tiny_data, "part": "validation"},
        "candidates": CANDIDATES,
    }
    return read_settings(
        EvaluationConfig, document | settings, "e.yaml", "the configuration of an evaluation"
    )


def test_images_are_those_of_the_candidates(tiny: dict[str, Any], tmp_path: Path) -> None:
    config, seen = evaluation(tiny), []
    study = prepare(config, form_of(reference="rated"), tmp_path, on_progress=lambda *one: seen.append(one))
    assert seen[-1] == (4, 4)
    assert study.methods == ("zero-filled", "sense", "reference")
    for case in config.data.open():
        white = brightness_of(case.whole)
        for name, candidate in zip(
            study.methods, [*(one.open() for one in config.candidates), None], strict=True
        ):
            image = (
                case.whole if candidate is None else as_reference(candidate.job(case)().numpy(), case.whole)
            )
            shown = study.image(case.name, name)
            assert shown.shape == (1, *case.whole.shape)
            np.testing.assert_allclose(
                shown[0] / WHITE, np.minimum(image / white, GREYS / WHITE), atol=0.6 / WHITE
            )
        assert study.subject(case.name) == case.strata["subject"]


def test_files_tell_nothing(tiny: dict[str, Any], tmp_path: Path) -> None:
    study = prepare(evaluation(tiny), form_of(reference="shown"), tmp_path)
    names = [path.name for path in (tmp_path / "images").iterdir()]
    assert len(names) == 4 * 3
    assert all(re.fullmatch(r"[0-9a-f]{16}\.npy", name) for name in names)
    assert len({path.stat().st_size for path in (tmp_path / "images").iterdir()}) == 1
    assert stat.S_IMODE((tmp_path / "study.json").stat().st_mode) == 0o600
    assert len(set(study.document.links.values())) == 2
    assert all(len(link) >= 32 for link in study.document.links.values())
    assert study.panes(study.trials("anna")[0])[1:] == ("reference",)


def test_what_is_prepared_stays(tiny: dict[str, Any], tmp_path: Path) -> None:
    config, form = evaluation(tiny), form_of()
    first = prepare(config, form, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.[jn]*")}
    assert prepare(config, form, tmp_path).document == first.document == open_study(tmp_path).document
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.[jn]*")} == before
    with pytest.raises(ConfigError, match=r"prepared with another form \(seed\).*Name another folder"):
        prepare(config, form_of(seed=3), tmp_path)
    with pytest.raises(ConfigError, match=r"with another evaluation \(pictures\)"):
        prepare(evaluation(tiny, pictures=0), form, tmp_path)


def test_a_preparation_that_was_cut_off_begins_anew(tiny: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "0123456789abcdef.npy").write_bytes(b"half")
    prepare(evaluation(tiny), form_of(cases=2), tmp_path)
    assert len(list((tmp_path / "images").iterdir())) == 2 * 2


def test_what_cannot_be_prepared(tiny: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the form asks for 9 cases, and the data hold 4"):
        prepare(evaluation(tiny), form_of(cases=9), tmp_path / "a")
    gone = [*CANDIDATES, {"kind": "run", "folder": str(tmp_path / "nowhere")}]
    with pytest.raises(ConfigError, match=r"cannot be opened: nowhere: .*no folder of a training run"):
        prepare(evaluation(tiny, candidates=gone), form_of(), tmp_path / "b")
    with pytest.raises(ConfigError, match="has no candidates"):
        prepare(evaluation(tiny, candidates=[]), form_of(), tmp_path / "c")
    named = [{"kind": "zero-filled", "name": "reference"}]
    with pytest.raises(ConfigError, match="a candidate is named 'reference'"):
        prepare(evaluation(tiny, candidates=named), form_of(reference="shown"), tmp_path / "d")
    one = [{"kind": "zero-filled"}]
    with pytest.raises(ConfigError, match="side by side, which needs two methods"):
        prepare(
            evaluation(tiny, candidates=one), form_of(mode="side-by-side", questions=[LIKERT]), tmp_path / "e"
        )
    with FolderLock(tmp_path / "f"), pytest.raises(ConfigError, match="another server has"):
        prepare(evaluation(tiny), form_of(), tmp_path / "f")
    view_sharing = [{"kind": "zero-filled"}, {"kind": "view-sharing"}]
    with pytest.raises(
        ConfigError, match=r"no case is left to be read: case 000 .* view sharing cannot reconstruct"
    ):
        prepare(evaluation(tiny, candidates=view_sharing), form_of(), tmp_path / "g")


def test_subjects_that_were_learned_are_told(tiny: dict[str, Any], tmp_path: Path) -> None:
    train(read_config(tiny, "tiny"), tmp_path / "run")
    (source,) = tiny["data"]["sources"]
    learned = list(ReconstructionData(read_config(tiny, "tiny").data).samples("train").provenance[0].subjects)
    elsewhere = sorted(set(map(str, range(source["n_subjects"]))) - set(learned))
    data = tiny["data"] | {"sources": [source | {"split": {"train": elsewhere, "test": learned}}]}
    config = evaluation(
        tiny,
        data={"kind": "simulated", "data": data, "samples": 2},
        candidates=[{"kind": "zero-filled"}, {"kind": "run", "folder": str(tmp_path / "run")}],
    )
    study = prepare(config, form_of(), tmp_path / "study")
    told = "run was trained on subjects of 2 of these 2 cases: readers judge what it remembers"
    assert study.cautions == (told,)


def test_films_keep_their_frames(tiny_films: dict[str, Any], tmp_path: Path) -> None:
    config = evaluation(
        tiny_films,
        data={"kind": "simulated", "data": tiny_films["data"], "part": "validation"},
        candidates=[{"kind": "zero-filled"}, {"kind": "view-sharing"}],
    )
    study = prepare(config, form_of(), tmp_path)
    case = config.data.open()[0]
    assert study.image(case.name, "view sharing").shape == case.whole.shape


def test_a_folder_that_is_no_study(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no reader study .*--readers FORM"):
        open_study(tmp_path)
    (tmp_path / "study.json").write_text(json.dumps({"scanside": "1"}))
    with pytest.raises(FileFormatError, match="is no reader study"):
        open_study(tmp_path)


def test_an_image_that_is_damaged(make_study: Any) -> None:
    study = make_study()
    for path in (study.folder / "images").iterdir():
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(FileFormatError, match="is damaged"):
        study.image("casus00", study.methods[0])


def test_greys() -> None:
    image = np.array([[0.0, 1.0], [2.0, 9.0]])
    greys, n_lost = greys_of(image, 2.0)
    assert greys.tolist() == [[[0, WHITE // 2], [WHITE, GREYS]]]
    assert n_lost == 1
    assert brightness_of(np.zeros((4, 4))) == 1
    dark = np.zeros((100, 100))
    dark[0, 0] = 3
    assert brightness_of(dark) == 3
