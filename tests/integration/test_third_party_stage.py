"""Someone else's stage: a package of its own, found by its entry point, used from YAML and certified."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

# What a physicist writes: a project file, a stage, a pipeline, and a test.
FILES = {
    "pyproject.toml": """
        [build-system]
        requires = ["hatchling"]
        build-backend = "hatchling.build"

        [project]
        name = "clip-stages"
        version = "0.1"

        [project.entry-points."scanside.stages"]
        clip = "clip_stages:Clip"
    """,
    "clip_stages.py": '''
        from scanside import Image, Stage, StageConfig

        class Clip(Stage[Image, Image]):
            """Clips the magnitude."""
            class Config(StageConfig):
                """Settings.

                Attributes:
                    top: largest value.
                """
                top: float

            def process(self, item):
                yield item.replace(data=item.data.abs().clamp(max=self.config.top))
    ''',
    "clipped.yaml": """
        name: clipped
        stages: [noise, accumulate, fourier, finish, clip: {top: 0.25}]
    """,
    "test_clip.py": """
        from scanside.testing import StageTests
        from clip_stages import Clip

        class TestClip(StageTests):
            def stage(self):
                return Clip(top=0.5)
    """,
    "describe.py": """
        from scanside.pipeline import pipeline_schema
        from scanside.registry import stage_names

        schema = pipeline_schema()
        (settings,) = [one["properties"] for one in schema["$defs"].values() if "top" in one["properties"]]
        by_name_alone = schema["properties"]["stages"]["items"]["anyOf"][0]["enum"]
        print("clip" in stage_names(), settings["top"]["description"], "clip" in by_name_alone)
    """,
    "run.py": """
        from scanside import Context, Image, Pipeline, ScanEnd
        from scanside.testing import small_readouts, small_scan

        pipeline = Pipeline.load("clipped.yaml")
        pipeline.prepare(Context(device="cpu"))
        with pipeline.open(small_scan()) as run:
            results = [result for item in small_readouts() for result in run.push(item)]
            results += run.finish(ScanEnd())
        (image,) = results
        assert isinstance(image, Image)
        print(*pipeline.labels, tuple(image.data.shape), float(image.data.max()))
    """,
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package's folder, with the package installed in its subfolder ``site``."""
    installed = {one.name for one in importlib.metadata.distributions()}
    if not {"pip", "hatchling"} <= installed:
        pytest.skip("installing a package from its source needs pip and hatchling")
    folder = tmp_path_factory.mktemp("clip-stages")
    for name, text in FILES.items():
        lines = text.strip("\n").splitlines()
        (folder / name).write_text("\n".join(line[8:] for line in lines) + "\n", encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-cache-dir"]
    subprocess.run(
        [*pip, "--no-index", "--no-deps", "--no-build-isolation", "--target", "site", "."],
        cwd=folder,
        check=True,
        timeout=300,
    )
    (folder / "clip_stages.py").unlink()  # what is imported below is the installed one
    return folder


def python(project: Path, *arguments: str, installed: bool = True) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(project / "site") if installed else ""}
    command = [sys.executable, "-W", "error", *arguments]
    return subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def test_it_runs_from_yaml(project: Path) -> None:
    run = python(project, "run.py")
    assert run.returncode == 0, run.stderr
    assert run.stdout.split(" ", 5) == [
        *("noise", "accumulate", "fourier", "finish", "clip"),
        "(1, 1, 24, 24) 0.25\n",
    ]


def test_it_is_listed_and_described(project: Path) -> None:
    run = python(project, "describe.py")
    # It has a setting that must be given, so its name alone is no stage of a file.
    assert run.stdout == "True largest value. False\n", run.stderr


def test_it_can_be_certified(project: Path) -> None:
    run = python(project, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_clip.py")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "passed" in run.stdout


def test_without_it_the_pipeline_says_what_is_missing(project: Path) -> None:
    run = python(project, "run.py", installed=False)
    assert run.returncode == 1
    assert "PipelineError: there is no stage 'clip': known are: accumulate" in run.stderr
