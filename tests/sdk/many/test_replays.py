"""Many recordings with one pipeline: what is made, what is left out the next time, and how it can end."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from scanside import replay as replay_module
from scanside.context import Context
from scanside.errors import ConfigError, RunError
from scanside.many.files import find_recordings
from scanside.many.replays import ManyReplays, Recipe, replay_many
from scanside.many.report import many_report
from scanside.mrd.hdf5 import Hdf5Writer
from scanside.pipeline import Pipeline
from scanside.replay import replay
from scanside.testing import small_readouts, small_scan
from scanside.testing.pools import ThisProcess

SETTINGS = {"grappa.kernel_k1": 2}


@pytest.fixture
def folder(scans: Path, tmp_path: Path) -> Path:
    """The recordings, to be changed."""
    return Path(shutil.copytree(scans, tmp_path / "scans"))


def run(folder: Path, output: Path, **options: Any) -> tuple[ManyReplays, list[str]]:
    """Reconstruct a folder; also gives the recordings that were begun."""
    settings = options.pop("settings", SETTINGS)
    recipe = options.pop("recipe", None) or Recipe.load("grappa", output, settings=settings, device="cpu")
    pool = ThisProcess()
    results = replay_many(find_recordings([folder], output), recipe, pool, **options)
    return results, [job.recording.name for job in pool.payloads]


def test_images_are_those_of_single_replays(
    scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared: list[Context] = []
    prepare = Pipeline.prepare
    with monkeypatch.context() as patch:
        patch.setattr(
            Pipeline, "prepare", lambda self, context: prepared.append(context) or prepare(self, context)
        )
        results, _ = run(scans, tmp_path / "out")
    assert len(prepared) == 1  # engines stay warm from one recording to the next
    states = {Path(one.recording).relative_to(scans).as_posix(): one.state for one in results.files}
    assert states.pop("broken.h5") == "failed"
    assert set(states) == {"a.h5", "b.h5", "c.h5", "d.h5", "more/a.h5", "more/e.h5"}
    assert set(states.values()) == {"done"}
    for name in states:
        replay(scans / name, "grappa", tmp_path / "single.h5", settings=SETTINGS, device="cpu")
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "single.h5").read_bytes(), name
    (failure,) = json.loads((tmp_path / "out" / "failures.json").read_text("utf-8"))
    assert failure["recording"] == str(scans / "broken.h5")
    assert "neither an ISMRMRD HDF5 file nor an ISMRMRD stream" in failure["error"]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text("utf-8"))
    assert (summary["n_done"], summary["n_failed"], summary["n_images"]) == (6, 1, 6)
    many_report(results, tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text("utf-8")
    for text in ("<h2>Failures</h2>", "broken.h5", "neither an ISMRMRD", results.identity):
        assert text in html
    assert not (tmp_path / "out" / ".unfinished").exists()


def test_what_is_done_is_not_done_again(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    run(folder, output)
    results, begun = run(folder, output)
    assert begun == ["broken.h5"]
    assert (results.count("before"), results.count("failed")) == (6, 1)
    assert sum(one.n_images for one in results.files) == 6

    os.utime(folder / "a.h5", ns=(0, 1))  # another recording under the same name
    (output / "b.h5").unlink()
    (folder / "new.h5").write_bytes((folder / "c.h5").read_bytes())
    (folder / "broken.h5").write_bytes((folder / "c.h5").read_bytes())
    results, begun = run(folder, output)
    assert sorted(begun) == ["a.h5", "b.h5", "broken.h5", "new.h5"]
    assert not results.failures
    assert (output / "b.h5").is_file()
    assert json.loads((output / "failures.json").read_text("utf-8")) == []

    assert len(run(folder, output, settings={"grappa.kernel_k1": 4})[1]) == 8
    assert len(run(folder, output, again=True)[1]) == 8


def test_what_decides_about_the_images(bundle_folder: Path, tmp_path: Path) -> None:
    def identity(**choices: Any) -> str:
        return Recipe.load("student", tmp_path, **choices).identity

    own = {"engine.bundle": str(bundle_folder)}
    plain = identity(settings=own)
    assert identity(settings=own, device="cpu") == plain
    manifest = bundle_folder / "manifest.json"
    others = [
        identity(settings={**own, "engine.residual": "0.2"}),
        identity(settings=own, group="other"),
        identity(settings=own, undersample=[1, 0]),
        identity(),
    ]
    manifest.write_bytes(manifest.read_bytes() + b"\n")
    assert len({plain, *others, identity(settings=own)}) == 6


def test_bundles_that_changed_under_the_run(bundle_folder: Path, scans: Path, tmp_path: Path) -> None:
    recipe = Recipe.load("student", tmp_path / "out", settings={"engine.bundle": str(bundle_folder)})
    manifest = bundle_folder / "manifest.json"
    manifest.write_bytes(manifest.read_bytes() + b"\n")
    with pytest.raises(RunError, match="bundles of this machine are not those that the run began with"):
        run(scans, tmp_path / "out", recipe=recipe)


def test_interruption_leaves_what_is_done(scans: Path, tmp_path: Path) -> None:
    def stop(done: int, failed: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(scans, tmp_path / "out", on_progress=stop)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text("utf-8"))
    assert (summary["n_done"], summary["n_left"]) == (2, 5)
    _, begun = run(scans, tmp_path / "out")
    assert sorted(begun) == ["a.h5", "broken.h5", "c.h5", "d.h5", "e.h5"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        OSError("Can't synchronously write data (file write failed: errno = 28, error message = 'No space')"),
        RuntimeError("Disable slist on flush dest failure failed (file write failed: errno = 28, error …)"),
    ],
)
def test_full_disk_ends_the_run(
    scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    begun: list[Path] = []

    def fails(recording: Path, *arguments: Any, **options: Any) -> Any:
        begun.append(recording)
        if len(begun) == 2:
            raise error
        return replay_module.replay(recording, *arguments, **options)

    monkeypatch.setattr("scanside.many.replays.replay", fails)
    with pytest.raises(RunError, match=r"no space left for .*make room and run the same command again"):
        run(scans, tmp_path / "out")
    assert len(begun) == 2
    summary = json.loads((tmp_path / "out" / "summary.json").read_text("utf-8"))
    assert (summary["n_done"], summary["n_left"]) == (1, 6)


def test_recordings_do_not_know_of_one_another(tmp_path: Path) -> None:
    """The noise of one recording would whiten the next one only where the same worker had both."""
    folder = tmp_path / "scans"
    folder.mkdir()
    header = small_scan().header.xml
    depends = (
        b"<measurementDependency><dependencyType>Noise</dependencyType><measurementID>small_1</measurementID>"
    )
    end = b"</measurementInformation>"
    with Hdf5Writer(folder / "1.h5", header) as writer:
        for block in small_readouts():
            writer.write(block)
    dependent = header.replace(b"small_1", b"small_2").replace(
        end, depends + b"</measurementDependency>" + end
    )
    with Hdf5Writer(folder / "2.h5", dependent) as writer:
        for block in small_readouts()[1:]:
            writer.write(block)
    results, _ = run(folder, tmp_path / "out")
    assert not results.files[0].warnings
    assert any("not prewhitened" in warning for warning in results.files[1].warnings)
    kept = Recipe.load("grappa", tmp_path / "kept", settings=SETTINGS, noise_store=tmp_path / "noise")
    results, _ = run(folder, tmp_path / "kept", recipe=kept)
    assert not results.files[1].warnings


def test_a_machine_that_does_not_see_the_folder(scans: Path, tmp_path: Path) -> None:
    recipe = Recipe.load("grappa", tmp_path / "elsewhere", settings=SETTINGS)
    with pytest.raises(ConfigError, match="is not the same on this machine"):
        recipe()
