"""Undersampled films, from the stream to the film."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from scanside.mrd.readouts import Readouts
from scanside.simulate import preset, simulate


@pytest.fixture(scope="module")
def cine() -> Any:
    """The preset in small: a beat and a half."""
    config = preset("cine")
    return simulate(
        config.model_copy(
            update={
                "geometry": config.geometry.model_copy(update={"matrix": (72, 72, 1)}),
                "coils": config.coils.model_copy(update={"n_coils": 6}),
                "sampling": config.sampling.model_copy(update={"acs": (7, 0)}),
                "timing": config.timing.model_copy(update={"tr_ms": 6.5}),
                "dynamics": config.dynamics.model_copy(update={"repetitions": 16}),
            }
        )
    )


def psnr_db(scan: Any, images: list[Any]) -> float:
    """Mean over the frames, of magnitudes that were scaled by one factor to fit the truth best."""
    shading = np.linalg.norm(scan.truth.maps[0], axis=0)
    expected = np.stack(
        [np.abs(scan.truth.image(repetition=int(image.header["repetition"]))) * shading for image in images]
    )
    found = np.stack([image.data[0].numpy() for image in images])
    found = found * (found * expected).sum() / (found * found).sum()
    errors = ((found - expected) ** 2).mean(axis=(1, 2, 3))
    return float((10 * np.log10(expected.max() ** 2 / errors)).mean())


def test_frames_that_help_each_other_are_better(reconstruct: Any, cine: Any) -> None:
    found = {}
    for name in ("fft", "cine-view-sharing", "cine-low-rank-sparse"):
        ran = reconstruct(name, cine.header_xml, cine.items())
        assert sorted(int(image.header["repetition"]) for image in ran.images) == list(range(16))
        assert [image.incomplete for image in ran.images] == [None] * 16
        found[name] = psnr_db(cine, ran.images)
    assert found["cine-view-sharing"] > found["fft"] + 2
    assert found["cine-low-rank-sparse"] > found["fft"] + 4


def test_images_leave_while_the_scan_goes_on(reconstruct: Any, cine: Any) -> None:
    """The image of a frame needs three later ones, and no more of the scan."""
    some = [
        item.select(item.headers["idx"]["repetition"] < 9) if isinstance(item, Readouts) else item
        for item in cine.items()
    ]
    early = reconstruct("cine-view-sharing", cine.header_xml, some).images
    whole = reconstruct("cine-view-sharing", cine.header_xml, cine.items()).images
    assert [int(image.header["repetition"]) for image in early] == list(range(9))
    for a, b in zip(early[:6], whole, strict=False):
        np.testing.assert_array_equal(a.data.numpy(), b.data.numpy())


def test_a_lost_frame_is_told_and_the_others_are_made(reconstruct: Any, cine: Any) -> None:
    some = [
        item.select(item.headers["idx"]["repetition"] != 5) if isinstance(item, Readouts) else item
        for item in cine.items()
    ]
    ran = reconstruct("cine-view-sharing", cine.header_xml, some)
    assert [int(image.header["repetition"]) for image in ran.images] == [*range(5), *range(6, 16)]
    assert any("frames are missing: repetition 5 did not come" in text for text in ran.scan.warnings)
    assert any("15 of 16 repetitions came" in text for text in ran.scan.warnings)
