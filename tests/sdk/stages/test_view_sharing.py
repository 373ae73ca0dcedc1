"""View sharing as a stage."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from scanside import Scan, ScanEnd
from scanside.errors import ConfigError, NonFiniteError
from scanside.items import KSpace
from scanside.simulate import DynamicsConfig, PhantomConfig, SamplingConfig
from scanside.stages.fourier import Fourier
from scanside.stages.view_sharing import ShareViews
from scanside.stages.window import JoinFrames
from scanside.testing import small_kspace, small_scan


@pytest.fixture
def still(accumulated: Any) -> tuple[Any, list[KSpace], KSpace]:
    """Scan, frames that each have another third of the lines, and the whole k-space, of a heart that stands still."""
    parts: dict[str, Any] = {
        "phantom": PhantomConfig(kind="cardiac"),
        "dynamics": DynamicsConfig(repetitions=5, beat="still"),
    }
    scan, frames, _ = accumulated(sampling=SamplingConfig(pattern="kt", acceleration=(3, 1)), **parts)
    _, whole, _ = accumulated(**parts)
    return scan, frames, whole[0]


def windows(scan: Any, frames: list[KSpace], **settings: Any) -> list[KSpace]:
    stage = JoinFrames(**settings)
    stage.open(Scan.from_xml(scan.header_xml))
    return [*(one for frame in frames for one in stage.process(frame)), *stage.finish(ScanEnd())]


def test_what_keeps_still_is_fully_sampled(still: Any, run_stage: Any) -> None:
    scan, frames, whole = still
    shared = run_stage(ShareViews(), scan.header_xml, windows(scan, frames, size=3, look_ahead=1)).items
    assert [len(item.data) for item in shared] == [2, 1, 1, 1]
    for item in shared:
        assert item.wanted is None
        assert bool(item.mask.all())
        torch.testing.assert_close(item.data, whole.data.expand(len(item.data), -1, -1, -1, -1))
        assert int((item.headers["version"] > 0).sum()) == 12 * len(item.data)
        assert item.meta["ScansideViewSharing"][0] == "0.333 of the lines its own"
    images = run_stage(Fourier(), scan.header_xml, shared).items
    assert [int(image.header["repetition"]) for image in images] == list(range(5))
    (expected,) = run_stage(Fourier(), scan.header_xml, [whole]).items
    for image, frame in zip(images, frames, strict=True):
        torch.testing.assert_close(image.data, expected.data)
        # The time is that of the frame's own central line, not of one that it got.
        assert int(image.header["acquisition_time_stamp"]) in frame.headers["acquisition_time_stamp"]


def test_reach(still: Any, run_stage: Any) -> None:
    scan, frames, _ = still
    (window,) = windows(scan, frames, size=5, stride=5, look_ahead=0)
    (item,) = run_stage(ShareViews(reach=1), scan.header_xml, [window]).items
    # The first and the last frame lack a third of the lines, which are two frames away.
    assert item.mask.float().mean(dim=(1, 2)).tolist() == pytest.approx([2 / 3, 1, 1, 1, 2 / 3])
    assert item.meta["ScansideViewSharing"][1:] == [
        "0.533 from up to 1 frames away",
        "0.133 in no frame within reach",
    ]


def test_single_frames_are_refused(run_stage: Any) -> None:
    with pytest.raises(ConfigError, match="got single frames: put 'window' before it"):
        list(ShareViews().process(small_kspace()))


def test_samples_that_are_no_numbers() -> None:
    frames = [small_kspace(repetition=i) for i in range(2)]
    stage = JoinFrames(size=2, look_ahead=0)
    stage.open(small_scan())
    (window,) = (one for frame in frames for one in stage.process(frame))
    window.data[0, 0, 0, 12, 0] = torch.nan
    with pytest.raises(NonFiniteError, match="scan counter"):
        list(ShareViews().process(window))
