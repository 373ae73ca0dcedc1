"""Trains variations of one configuration with several seeds, and compares them on the same data.

::

    study, base, config = load_study(Path("study.yaml"))
    result = run_study(study, base, config.data, folder)
    write_study(result, folder)
"""

from __future__ import annotations

from scanside_training.study.config import StudyConfig, load_study
from scanside_training.study.report import write_study
from scanside_training.study.run import Study, run_study

__all__ = ["Study", "StudyConfig", "load_study", "run_study", "write_study"]
