"""What is shipped can be trained again from what is in it, and may be given away with all that it goes back to."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from scanside.cli.options import nested, settings_from
from scanside.engines.bundle import Bundle
from scanside.engines.catalog import available_bundles
from scanside_training.config import load_config
from scanside_training.data.sources import Synthetic

SHIPPED = ("brain-student", "cine", "multicoil-unrolled")
SEEDS = {"brain-student": {0}, "cine": {1, 2, 3}, "multicoil-unrolled": {0}}
"""Of the samples that the shipped weights have seen."""


@pytest.mark.parametrize("name", SHIPPED)
def test_all_commands_of_the_data_sheet_work_in_their_order(name: str) -> None:
    """Each trains a network from a configuration of the bundle; what it names as a parent was trained before it."""
    folder = available_bundles()[name]
    bundle = Bundle.open(folder)
    training = bundle.manifest.training
    assert training is not None
    assert training.datasheet is not None
    sheet = (folder / training.datasheet).read_text("utf-8")
    (block,) = re.findall(r"```sh\n(.*?)```", sheet, re.DOTALL)
    commands = [shlex.split(line) for line in block.splitlines()]
    assert [words[2] for words in commands] == [*(one.config for one in training.ancestors), training.config]
    trained: set[Path] = set()
    seeds: list[int] = []
    for words in commands:
        settings = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
        config = load_config(folder / words[2], nested(settings_from(settings)))
        teacher = None if config.distillation is None else config.distillation.teacher
        assert {config.initial, teacher} - {None} <= trained
        seeds.append(config.data.drawn_from)
        trained.add(Path(words[words.index("--output") + 1]))
    assert set(seeds) == SEEDS[name]


@pytest.mark.parametrize("name", SHIPPED)
def test_no_ancestor_is_unknown_or_of_research(name: str) -> None:
    manifest = Bundle.open(available_bundles()[name]).manifest
    training = manifest.training
    assert training is not None
    assert manifest.licence == "clean"
    assert all(one.trained_on and one.config for one in training.ancestors)
    config = load_config(available_bundles()[name] / training.config)
    assert (config.initial is None) == (training.initial is None)
    assert (config.distillation is None) == (training.teacher is None)
    assert all(len(one.seen) > 0 for one in manifest.trained_on)


def test_origins_do_not_change_by_chance() -> None:
    """What was seen is kept in manifests by hashes of this text."""
    assert Synthetic(n_subjects=3).origin(5) == (
        "kind synthetic, seed 5, slices_per_subject 6, shapes 0.4, hearts 0.1, size 288"
    )
