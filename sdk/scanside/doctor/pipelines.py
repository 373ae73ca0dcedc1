"""The pipelines of a server's settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from scanside.doctor.check import Check
from scanside.errors import ScansideError

if TYPE_CHECKING:
    from scanside.pipeline import Pipeline

__all__ = ["check_pipeline", "load_pipeline"]


def check_pipeline(name: str, own: Path | None) -> Check:
    """Whether a pipeline can be loaded.

    Args:
        name: as the server's settings name it.
        own: the site's folder of pipelines.
    """
    try:
        pipeline = load_pipeline(name, own)
    except ScansideError as error:
        return Check(
            f"pipeline {name}", "problem", str(error), "scanside pipelines lists those that there are"
        )
    return Check(f"pipeline {name}", "ok", " → ".join(pipeline.labels))


def load_pipeline(name: str, own: Path | None) -> Pipeline:
    """A pipeline as a server finds it: shipped, in the site's folder, or by its path.

    Raises:
        ScansideError: there is none, or it cannot be loaded.
    """
    from scanside.pipeline import Pipeline

    path = None if own is None else own / f"{name}.yaml"
    return Pipeline.load(path if path is not None and path.is_file() else name)
