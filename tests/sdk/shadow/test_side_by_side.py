"""Two series that nobody can confuse, of which the first is what it would be alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from scanside import Context
from scanside.errors import ScansideError, StageConfigError
from scanside.shadow import SideBySide
from scanside.testing import small_kspace, small_scan
from scanside.testing.compare import difference


def without_names(images: list[Any]) -> list[Any]:
    """The images without what the stage adds to them."""
    plain = []
    for image in images:
        meta, header = image.meta.copy(), image.header.copy()
        del meta["SequenceDescriptionAdditional"]
        del meta["GADGETRON_SeqDescription"]
        meta["ImageComment"] = meta["ImageComment"][:-1]
        header["image_series_index"] = 1
        plain.append(image.replace(meta=meta, header=header))
    return plain


def test_both_series(run: Any) -> None:
    images, _ = run(SideBySide(first=run.fourier, second=run.sense, names=("plain", "sense"), series=(3, 7)))
    assert [int(image.header["image_series_index"]) for image in images] == [3, 7, 3, 7]
    assert [int(image.header["image_index"]) for image in images] == [1, 1, 2, 2]
    for image, name in zip(images, ["plain", "sense"] * 2, strict=True):
        assert image.meta["SequenceDescriptionAdditional"] == image.meta["GADGETRON_SeqDescription"] == [name]
        assert image.meta["ImageComment"][-1] == name
        assert image.meta["ScansidePipeline"] == ["small"]
    assert difference(without_names(images[::2]), run.alone(run.fourier)) is None
    assert difference(without_names(images[1::2]), run.alone(run.sense)) is None


@pytest.mark.parametrize("error", [ScansideError("no"), RuntimeError("segment")])
def test_failure_of_the_second_is_told_and_no_more(
    run: Any, sense_raises: list[Exception], error: Exception
) -> None:
    stage = SideBySide(first=run.fourier, second=run.sense)
    sense_raises.append(error)
    images, scan = run(stage)
    assert difference(without_names(images)[:1], run.alone(run.fourier)[:1]) is None
    assert [int(image.header["image_series_index"]) for image in images] == [1, 1]
    (warning,) = scan.warnings
    assert "series 'learned' ends here" in warning
    assert scan.metrics["side-by-side.failed"] == 1
    sense_raises.clear()
    images, _ = run(stage, prepare=False)
    assert len(images) == 4


def test_failure_of_the_first_is_one(run: Any, sense_raises: list[Exception]) -> None:
    sense_raises.append(ScansideError("no"))
    with pytest.raises(ScansideError, match="no"):
        run(SideBySide(first=run.sense, second=run.fourier))


@pytest.mark.usefixtures("learned_bundles")
def test_learned_series_holds_learned_images_only(run: Any) -> None:
    engine = {"bundle": "gradient", "backend": "eager", "n_coils": [4]}
    learned: Any = ("coil-maps", {"engine": engine}, "finish")
    images, _ = run(SideBySide(first=run.sense, second=learned))
    assert ["ScansideEngine" in image.meta for image in images] == [False, True] * 2
    refused: Any = ("coil-maps", {"engine": {**engine, "residual": 1e-6}}, "finish")
    images, scan = run(SideBySide(first=run.sense, second=refused))
    assert [int(image.header["image_series_index"]) for image in images] == [1, 1]
    assert scan.metrics["side-by-side.left-out"] == 2
    assert scan.metrics["engine.fallback.data-consistency"] == 2
    assert any("series 'learned': images come from the classical fallback" in text for text in scan.warnings)
    assert not any("ScansideWarning" in image.meta for image in images)


@pytest.mark.parametrize(
    "settings", [{"names": ("a", "a")}, {"series": (1, 1)}, {"series": (1, 70000)}, {"names": ("", "a")}]
)
def test_series_are_told_apart(run: Any, settings: Any) -> None:
    with pytest.raises(StageConfigError, match="series"):
        SideBySide(first=run.fourier, second=run.sense, **settings)


@pytest.mark.parametrize("numbers", [(1, 2), (2, 1), (3, 7)])
def test_encoding_spaces_have_their_own_series(run: Any, numbers: tuple[int, int]) -> None:
    """Two reconstructions of two encoding spaces are four series."""
    stage = SideBySide(first=run.fourier, second=run.sense, series=numbers)
    stage.prepare(Context(device="cpu"))
    scan = small_scan()
    (encoding,) = scan.header.encodings
    found = []
    for index in (1, 0, 1):
        stage.open(scan)
        kspace = small_kspace().replace(encoding=replace(encoding, index=index))
        found.append([int(image.header["image_series_index"]) for image in stage.process(kspace)])
        stage.close()
    assert found[0] == found[2]
    assert found[1] == list(numbers)
    assert len({*found[0], *found[1]}) == 4
