"""Codespecs for Tyger: a run that reads a scan from one named pipe and writes its images to another.

Tyger makes a pipe for each buffer, names it in the variable ``NAME_PIPE`` and puts that into arguments for
``$(NAME_PIPE)``; see https://microsoft.github.io/tyger/guides/codespecs.html. The one in ``deploy/tyger`` is what
this module writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scanside.errors import ConfigError
from scanside.pipeline import Pipeline, pipeline_names

__all__ = ["codespec"]

_INPUT, _OUTPUT = "input", "output"
_COMMENT = """\
# A codespec for Tyger: a scan comes through one pipe, its images leave through another as they are made.
#   tyger codespec create -f codespec.yaml
#   tyger run exec --codespec {name} < scan.mrd > images.mrd
"""


def codespec(
    pipeline: str = "grappa",
    settings: Mapping[str, str] | None = None,
    *,
    image: str = "scanside:cpu",
    gpu: bool = False,
    cpu: str = "2",
    memory: str = "4Gi",
) -> str:
    """Write a codespec.

    Args:
        pipeline: name of one that is shipped, and so is in the image.
        settings: changed settings of the pipeline, as ``"stage.setting": value``.
        image: Scanside's image.
        gpu: ask for a GPU.
        cpu: CPU cores to ask for, as Kubernetes writes them.
        memory: memory to ask for, likewise.

    Raises:
        ConfigError: the pipeline is a file, which the image does not have.
        PipelineError: there is no such pipeline, or it cannot be loaded.
        StageConfigError: a setting is unknown or wrong.
    """
    import yaml

    given = dict(settings or {})
    Pipeline.load(pipeline, given)
    if pipeline not in pipeline_names():
        raise ConfigError(
            f"{pipeline} is a file, and a run has only what is in its image: name a pipeline that is shipped "
            f"({', '.join(pipeline_names())})"
        )
    changes = [word for name, value in given.items() for word in ("--set", _literal(f"{name}={value}"))]
    name = f"scanside-{pipeline}"
    resources: dict[str, Any] = {"requests": {"cpu": cpu, "memory": memory}}
    if gpu:
        resources["gpu"] = 1
    spec = {
        "kind": "job",
        "name": name,
        "buffers": {"inputs": [_INPUT], "outputs": [_OUTPUT]},
        "image": image,
        # The image's own entry point is the server.
        "command": ["scanside", "stream", pipeline],
        "args": ["--input", _pipe(_INPUT), "--output", _pipe(_OUTPUT), *changes],
        "resources": resources,
    }
    return _COMMENT.format(name=name) + yaml.safe_dump(spec, sort_keys=False)


def _pipe(buffer: str) -> str:
    return f"$({buffer.upper()}_PIPE)"


def _literal(text: str) -> str:
    """A text in which nothing is taken for a variable."""
    return text.replace("$(", "$$(")
