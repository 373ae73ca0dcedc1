"""The words of a worker's pipelines, which recordings may keep."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from scanside.engines.catalog import available_bundles
from scanside.errors import ScansideError
from scanside.privacy import Vocabulary
from scanside.recording.words import SHIPPED, pipeline_words
from scanside.registry import load_stage, stage_names

__all__ = ["known_words"]


def known_words(folder: str | None) -> Vocabulary:
    """What a session's configuration and parameters may say that names nobody.

    Those are the names of pipelines, stages, their settings and the values that these choose from, and of bundles.

    Args:
        folder: of the site's own pipelines.
    """
    words = [*pipeline_words(SHIPPED), *available_bundles(), *_stage_words()]
    if folder is not None:
        words += pipeline_words(Path(folder))
    return Vocabulary(words)


def _stage_words() -> Iterator[str]:
    for name in stage_names():
        yield name
        try:
            schema = load_stage(name).Config.model_json_schema()
        except ScansideError:
            continue  # what is not installed runs in no session
        yield from schema.get("properties", ())
        yield from re.findall(r'"(?:enum|const)": (\[[^\]]*\]|"[^"]*")', json.dumps(schema))
