"""Trains variations of one configuration with several seeds and folds, and compares them on the same data; or
searches for the settings that validate best.

::

    study, base, config = load_study(Path("study.yaml"))
    result = run_study(study, base, config.data, folder)
    write_study(result, folder)
"""

from __future__ import annotations

from scanside_training.study.config import StudyConfig, load_study
from scanside_training.study.report import write_study
from scanside_training.study.run import Study, run_study
from scanside_training.study.search import Search, run_search
from scanside_training.study.search_report import write_search

__all__ = [
    "Search",
    "Study",
    "StudyConfig",
    "load_study",
    "run_search",
    "run_study",
    "write_search",
    "write_study",
]
