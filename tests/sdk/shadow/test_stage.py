"""The shown images are those of their branch alone, whatever happens in the shadow; what differs is kept."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from scanside import Context
from scanside.errors import PipelineError, ScansideError, StageConfigError
from scanside.items import Image, KSpace
from scanside.metrics import nrmse
from scanside.shadow import ComparisonStore, Shadow
from scanside.stages.sense import Sense
from scanside.testing.compare import difference


@pytest.fixture
def shadow(folder: Path, run: Any) -> Callable[..., Shadow]:
    def make(**settings: Any) -> Shadow:
        return Shadow(**{"shown": run.fourier, "beside": run.sense, "folder": folder, **settings})

    return make


def records(folder: Path) -> list[dict[str, Any]]:
    return ComparisonStore(folder, 0).records()


def test_shown_is_what_its_branch_gives_alone(shadow: Any, run: Any, folder: Path) -> None:
    stage = shadow()
    images, scan = run(stage)
    assert difference(images, run.alone(run.fourier)) is None
    assert stage.wait(300)
    assert len(records(folder)) == 2
    assert not scan.warnings
    assert not scan.metrics


def test_comparisons_are_kept(shadow: Any, run: Any, folder: Path) -> None:
    stage = shadow()
    images, _ = run(stage)
    assert stage.wait(300)
    beside = run.alone(run.sense)
    found = records(folder)
    for i, record in enumerate(found):
        one, other = (image[i].data.numpy() for image in (images, beside))
        assert record["nrmse"] == pytest.approx(nrmse(other, one), rel=1e-5)
        assert 0 < record["nrmse"] < 0.5
        assert record["psnr_db"] > 10
        assert 0 < record["ssim"] < 1
        assert record["counters"]["repetition"] == i
        assert record["pipeline"] == "small"
        assert record["beside"]["residual"] == beside[i].meta["SenseResidual"]
        assert record["seconds"] > 0
        with np.load(folder / record["images"]) as pair:
            np.testing.assert_array_equal(pair["shown"], one)
            np.testing.assert_array_equal(pair["beside"], other)
    assert found[0]["scan"] == found[1]["scan"]
    worst = max(found, key=lambda record: record["nrmse"])
    (picture,) = folder.glob("*.png")
    assert picture.name == worst["images"].replace("npz", "png")
    assert imread(picture).std() > 0.1
    run(stage, prepare=False)
    assert stage.wait(300)
    assert len({record["scan"] for record in records(folder)}) == 2


def test_equal_images(shadow: Any, run: Any, folder: Path) -> None:
    stage = shadow(beside=run.fourier)
    run(stage)
    assert stage.wait(300)
    for record in records(folder):
        assert (record["nrmse"], record["psnr_db"], record["ssim"]) == (0, None, pytest.approx(1))


@pytest.mark.parametrize("error", [ScansideError("no"), RuntimeError("segment"), MemoryError()])
def test_failure_in_the_shadow_is_no_failure(
    shadow: Any, run: Any, folder: Path, sense_raises: list[Exception], error: Exception
) -> None:
    sense_raises.append(error)
    stage = shadow()
    images, scan = run(stage)
    assert difference(images, run.alone(run.fourier)) is None
    assert not scan.warnings
    assert stage.wait(300)
    assert ["sense" in record["failed"] for record in records(folder)] == [True, True]
    sense_raises.clear()
    run(stage, prepare=False)
    assert stage.wait(300)
    assert sum("nrmse" in record for record in records(folder)) == 2


def test_failure_to_open_is_no_failure(
    shadow: Any, run: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Sense, scan: object) -> None:
        raise ScansideError("not today")

    monkeypatch.setattr(Sense, "open", refuse)
    stage = shadow()
    images, _ = run(stage)
    assert len(images) == 2
    assert stage.wait(300)
    assert ["not today" in record["dropped"] for record in records(folder)] == [True, True]


def test_slow_shadow_never_delays_the_scan(
    shadow: Any, run: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is blocked for good while the scan runs, and what it cannot take is dropped."""
    go_on, whole = threading.Event(), Sense.process

    def slow(self: Sense, item: KSpace) -> Iterator[Image]:
        assert go_on.wait(300)
        yield from whole(self, item)

    monkeypatch.setattr(Sense, "process", slow)
    stage = shadow(waiting=2)
    images, scan = run(stage, 6)
    assert len(images) == 6
    assert scan.metrics["shadow.dropped"] == 4
    assert records(folder) == []
    go_on.set()
    assert stage.wait(300)
    assert [record["counters"]["repetition"] for record in records(folder)] == [0, 1]


def test_too_late_is_dropped(shadow: Any, run: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Sense.process

    def slow(self: Sense, item: KSpace) -> Iterator[Image]:
        time.sleep(0.6)
        yield from whole(self, item)

    monkeypatch.setattr(Sense, "process", slow)
    stage = shadow(lag_s=0.5)
    run(stage, 3)
    assert stage.wait(300)
    first, *others = records(folder)
    assert first["nrmse"] > 0
    assert all("shadow.lag_s" in record["dropped"] for record in others)


def test_later_changes_of_buffers_do_not_matter(shadow: Any, run: Any, folder: Path) -> None:
    """Whoever gave the k-space overwrites it as soon as the stage has returned."""
    from scanside.testing import small_kspace, small_scan

    stage = shadow()
    stage.prepare(Context(device="cpu"))
    hold = threading.Event()
    stage._beside.background.order(lambda: hold.wait(300))
    stage.open(small_scan())
    item = small_kspace()
    for image in stage.process(item):
        image.data.zero_()
    item.data.zero_()
    item.reference.data.zero_()
    item.headers["version"] = 0
    hold.set()
    stage.close()
    assert stage.wait(300)
    (record,) = records(folder)
    expected = nrmse(run.alone(run.sense, 1)[0].data.numpy(), run.alone(run.fourier, 1)[0].data.numpy())
    assert record["nrmse"] == pytest.approx(expected, rel=1e-5)


def test_only_every_second(shadow: Any, run: Any, folder: Path) -> None:
    stage = shadow(every=2, pairs=1)
    run(stage, 5)
    assert stage.wait(300)
    assert [record["counters"]["repetition"] for record in records(folder)] == [0, 2, 4]
    assert len(list(folder.glob("*.npz"))) == 1
    assert (folder / records(folder)[-1]["images"]).exists()


def test_full_disk_is_no_failure(
    shadow: Any, run: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    stage = shadow(folder=tmp_path / "file")
    images, _ = run(stage)
    assert len(images) == 2
    assert stage.wait(300)
    assert "the scan is not touched" in caplog.text


@pytest.mark.parametrize(
    ("settings", "error", "why"),
    [
        ({"shown": ()}, StageConfigError, "shown"),
        ({"beside": ("sens",)}, PipelineError, "did you mean 'sense'"),
        ({"beside": ("coil-maps",)}, PipelineError, "'beside' end without images"),
        ({"beside": ({"sense": {"l3": 1}}, "finish")}, StageConfigError, "l3"),
        ({"shown": ("accumulate", "fourier")}, PipelineError, "accumulate"),
    ],
)
def test_what_it_refuses(shadow: Any, settings: Any, error: type[Exception], why: str) -> None:
    with pytest.raises(error, match=why):
        shadow(**settings)


def test_folder_from_the_environment(run: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCANSIDE_SHADOW", str(folder))
    stage = Shadow(shown=run.fourier, beside=run.fourier)
    run(stage, 1)
    assert stage.wait(300)
    assert len(records(folder)) == 1


@pytest.mark.usefixtures("learned_bundles")
def test_learned_images_beside_say_what_made_them(shadow: Any, run: Any, folder: Path) -> None:
    engine = {"engine": {"bundle": "gradient", "backend": "eager", "n_coils": [4]}}
    stage = shadow(beside=("coil-maps", engine, "finish"))
    run(stage, 1)
    assert stage.wait(300)
    (record,) = records(folder)
    assert record["beside"]["engine"] == ["gradient", "1.0.0"]
    assert len(record["beside"]["weights"][1]) == 64
    assert float(record["beside"]["data_consistency"][0]) < 0.3
    assert stage.outdated() == []


EXITS = """
import sys
from scanside import Context, ScanEnd
from scanside.shadow import Shadow
from scanside.testing import small_kspace, small_scan

stage = Shadow(shown=["fourier", "finish"], beside=["coil-maps", "sense", "finish"], folder=sys.argv[1])
stage.prepare(Context(device="cpu"))
stage.open(small_scan())
assert len(list(stage.process(small_kspace()))) == 1
stage.close()
"""


def test_process_that_ends_finishes_what_it_took(folder: Path) -> None:
    """A node that Gadgetron executes lives for one scan."""
    ended = subprocess.run([sys.executable, "-c", EXITS, folder], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert len(records(folder)) == 1
