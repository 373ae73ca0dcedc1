"""Blinded reader studies: people judge the images of several methods without knowing which is whose.

::

    config, form = load_evaluation(Path("evaluate.yaml")), load_form(Path("readers.yaml"))
    study = prepare(config, form, Path("evaluations/knees/readers"))
    with ReaderServer(study) as server:  # of scanside_training.readers.server
        print(server.address("anna"))
        ...
    write_results(read_results(study), study.folder / "results")

Everything stays on this machine: the page is served to it alone, and loads nothing from elsewhere. Needs the extra
``server`` beside ``training``.
"""

from __future__ import annotations

from scanside_training.readers.form import Form, load_form
from scanside_training.readers.report import write_results
from scanside_training.readers.results import ReaderResults, read_results
from scanside_training.readers.study import ReaderStudy, open_study, prepare

__all__ = [
    "Form",
    "ReaderResults",
    "ReaderStudy",
    "load_form",
    "open_study",
    "prepare",
    "read_results",
    "write_results",
]
