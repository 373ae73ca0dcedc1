"""What figures hang on: the configuration, the data, the weights, and the versions of what computed them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from scanside.engines.catalog import find_bundle
from scanside.engines.manifest import MANIFEST_FILE
from scanside_training.evaluation.candidates import AnyCandidate
from scanside_training.evaluation.candidates.engine import EngineOf
from scanside_training.evaluation.candidates.network import Run
from scanside_training.evaluation.candidates.pipeline import PipelineRun
from scanside_training.evaluation.config import EvaluationConfig
from scanside_training.evaluation.leaks import bundles_of
from scanside_training.evaluation.scores import Score
from scanside_training.record import versions

__all__ = ["provenance", "provenance_line"]

_DIGITS = 16


def provenance(
    config: EvaluationConfig, scores: Iterable[Score], candidates: Iterable[str]
) -> dict[str, Any]:
    """What the figures of an evaluation hang on.

    Args:
        config: what was asked for.
        scores: of all images.
        candidates: names of those that made some.

    Returns:
        ``configuration``: hash of all settings; ``data``: hash of all references, ``n_cases`` of them; ``weights``:
        by candidate, a hash of its weights; ``versions``: of Scanside, Python and packages; ``definition``: of the
        measures, in words.

    Raises:
        ScansideError: a bundle is not there any more.
    """
    cases = sorted({(one.case, one.data) for one in scores})
    made = set(candidates)
    weights = {
        name: found
        for one in config.candidates
        if (name := one.name or one.label) in made and (found := _weights(one))
    }
    return {
        "configuration": _hash(json.dumps(config.model_dump(mode="json"), sort_keys=True).encode()),
        "data": _hash(json.dumps(cases).encode()),
        "n_cases": len(cases),
        "weights": weights,
        "versions": versions() | {name: version(name) for name in ("scipy", "torchmetrics")},
        "definition": config.measuring.definition.described,
    }


def provenance_line(found: Mapping[str, Any]) -> str:
    """The same in one line, for the foot of tables and pictures."""
    used = found["versions"]
    return (
        f"Configuration {found['configuration']}, data {found['data']} ({found['n_cases']} cases), "
        f"Scanside {used['scanside']}, torch {used['torch']}, NumPy {used['numpy']}"
    )


def _weights(candidate: AnyCandidate) -> str:
    """A hash of all weights that a candidate uses; empty where it has none."""
    if isinstance(candidate, Run):
        files = [candidate.folder / candidate.weights]
    elif isinstance(candidate, EngineOf):
        files = [_manifest(candidate.bundle)]  # which holds the hashes of all other files
    elif isinstance(candidate, PipelineRun):
        files = [_manifest(name) for name in bundles_of(candidate)]
    else:
        files = []
    return _hash(b"".join(sha256(path.read_bytes()).digest() for path in files)) if files else ""


def _manifest(bundle: str) -> Path:
    return find_bundle(bundle) / MANIFEST_FILE


def _hash(content: bytes) -> str:
    return sha256(content).hexdigest()[:_DIGITS]
