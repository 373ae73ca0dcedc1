"""Compares reconstructions: networks in training form, engines, and classical methods, on the same data.

::

    config = load_evaluation(Path("evaluate.yaml"))
    result = compare(config)
    write_evaluation(result, Path("evaluations") / config.name)

`compare_many` does the same by many processes, or on many machines.
"""

from __future__ import annotations

from scanside_training.evaluation.config import EvaluationConfig, load_evaluation
from scanside_training.evaluation.failures import Failure
from scanside_training.evaluation.many import compare_many
from scanside_training.evaluation.report import write_evaluation
from scanside_training.evaluation.run import Evaluation, compare

__all__ = [
    "Evaluation",
    "EvaluationConfig",
    "Failure",
    "compare",
    "compare_many",
    "load_evaluation",
    "write_evaluation",
]
