"""Networks that tell what errors are to be expected: maps in the stream that nobody takes for images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from scanside import Context, Image
from scanside.engines.bundle import Bundle
from scanside.engines.manifest import Manifest
from scanside.mrd.dtypes import IMAGE_TYPES
from scanside.series import MAPS_BEHIND
from scanside.stages.engine import RunEngine
from scanside.stages.finish import Finish
from scanside.testing import small_kspace, small_scan


@pytest.fixture(scope="module")
def made(doubting_bundle: Path) -> list[Image]:
    """The image of a small scan and its map, before they are finished."""
    stage = RunEngine(bundle=str(doubting_bundle), backend="eager")
    stage.prepare(Context(device="cpu"))
    scan = small_scan()
    stage.open(scan)
    images = list(stage.process(small_kspace(coil_maps=True)))
    assert scan.warnings == []
    assert scan.metrics["engine.images"] == 1
    return images


def test_the_map_follows_its_image_on_the_same_scale_and_in_the_same_place(made: list[Image]) -> None:
    image, doubt = made
    assert (image.what, doubt.what) == ("image", "uncertainty")
    torch.testing.assert_close(doubt.data, 2.0 * 0.1 * image.data.abs(), rtol=1e-4, atol=1e-6)
    for name in ("position", "read_dir", "field_of_view", "repetition", "slice"):
        assert doubt.header[name].tolist() == image.header[name].tolist()
    assert doubt.meta["ScansideEngine"] == image.meta["ScansideEngine"]


@pytest.mark.parametrize("kind", ["magnitude", "phase", "complex"])
def test_it_is_a_series_of_its_own_with_a_name_of_its_own(
    made: list[Image], make_header: Any, run_stage: Any, kind: str
) -> None:
    image, doubt = run_stage(Finish(kind=kind, series=3), make_header(), made).items
    assert image.header["image_series_index"] == 3
    assert doubt.header["image_series_index"] == 3 + MAPS_BEHIND
    assert image.meta["DataRole"] == ["Image"]
    assert doubt.meta["DataRole"] == ["Uncertainty"]
    assert "UNCERTAINTY MAP, NOT AN IMAGE" in doubt.meta["ImageComment"]
    assert doubt.header["image_type"] == IMAGE_TYPES["magnitude"]
    torch.testing.assert_close(doubt.data, made[1].data)


@pytest.mark.parametrize("kind", ["magnitude", "phase"])
def test_integers_have_a_scale_for_images_and_one_for_maps(
    made: list[Image], make_header: Any, run_stage: Any, kind: str
) -> None:
    images = run_stage(Finish(kind=kind, scaling="scan", largest=4095), make_header(), made).items
    _, doubt = images
    assert int(doubt.data.int().max()) == 4095
    slope, intercept = (float(doubt.meta.first(name)) for name in ("RescaleSlope", "RescaleIntercept"))
    back = doubt.data.to(torch.float64) * slope + intercept
    torch.testing.assert_close(back, made[1].data.double(), rtol=0, atol=slope)


def test_a_fallback_has_no_map(doubting_bundle: Path) -> None:
    stage = RunEngine(bundle=str(doubting_bundle), backend="eager", fitness="fallback")
    stage.prepare(Context(device="cpu"))
    stage.open(small_scan())
    item = small_kspace(coil_maps=True)
    (image,) = stage.process(item.replace(mask=torch.ones_like(item.mask)))
    assert image.what == "image"
    assert image.meta["ScansideFallback"][:2] == ["sense", "unfit"]


def test_a_manifest_says_what_the_map_is_worth(doubting_bundle: Path) -> None:
    manifest = Bundle.open(doubting_bundle).manifest
    told = manifest.model_dump(mode="json")
    with pytest.raises(ValueError, match="given exactly if there is one"):
        Manifest.model_validate(told | {"uncertainty": None})
    with pytest.raises(ValueError, match="given exactly if there is one"):
        Manifest.model_validate(told | {"outputs": told["outputs"][:1]})
    others = [told["outputs"][0], told["outputs"][1] | {"name": "class"}]
    with pytest.raises(ValueError, match="outputs are 'image', or 'image' and 'uncertainty'"):
        Manifest.model_validate(told | {"outputs": others})
