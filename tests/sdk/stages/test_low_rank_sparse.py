"""Low-rank plus sparse reconstruction as a stage."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from scanside import Scan, ScanEnd
from scanside.errors import ConfigError
from scanside.items import KSpace
from scanside.simulate import DynamicsConfig, PhantomConfig, SamplingConfig
from scanside.stages.low_rank_sparse import ReconstructLowRankSparse
from scanside.stages.sense import Sense
from scanside.stages.window import JoinFrames
from scanside.testing import small_kspace


@pytest.fixture
def beating(accumulated: Any) -> tuple[Any, KSpace]:
    """A beat in 12 undersampled frames as one window, with the coils' true maps."""
    scan, frames, _ = accumulated(
        phantom=PhantomConfig(kind="cardiac"),
        dynamics=DynamicsConfig(phases=12),
        sampling=SamplingConfig(pattern="variable-density", acceleration=(4, 1), acs=(4, 0), vary=True),
    )
    stage = JoinFrames(along="phase", size=12, stride=12, look_ahead=0)
    stage.open(Scan.from_xml(scan.header_xml))
    (window,) = (*(one for frame in frames for one in stage.process(frame)), *stage.finish(ScanEnd()))
    maps = torch.from_numpy(scan.truth.maps[0])
    return scan, window.replace(coil_maps=maps / maps.norm(dim=0))


def error(scan: Any, images: list[Any]) -> float:
    shading = np.linalg.norm(scan.truth.maps[0], axis=0)
    expected = np.stack([scan.truth.image(phase=int(image.header["phase"])) * shading for image in images])
    found = np.stack([image.data[0].numpy() for image in images])
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def test_better_than_frames_one_by_one(beating: Any, run_stage: Any) -> None:
    scan, window = beating
    ran = run_stage(ReconstructLowRankSparse(), scan.header_xml, [window])
    assert [int(image.header["phase"]) for image in ran.items] == list(range(12))
    alone = run_stage(Sense(), scan.header_xml, [window])
    assert error(scan, ran.items) < 0.85 * error(scan, alone.items)
    assert ran.scan.warnings == []
    assert int(ran.items[0].meta.first("LowRankSparseIterations")) > 5
    assert 1 <= int(ran.items[0].meta.first("LowRankSparseRank")) <= 12


def test_weights_do_not_depend_on_the_gain(beating: Any, run_stage: Any) -> None:
    scan, window = beating
    stage = ReconstructLowRankSparse(max_iterations=5, tolerance=0.5)
    (image, *_) = run_stage(stage, scan.header_xml, [window]).items
    (louder, *_) = run_stage(stage, scan.header_xml, [window.replace(data=512 * window.data)]).items
    torch.testing.assert_close(louder.data, 512 * image.data)


def test_images_of_wanted_frames(beating: Any, run_stage: Any) -> None:
    scan, window = beating
    stage = ReconstructLowRankSparse(max_iterations=2, tolerance=0.9)
    whole = run_stage(stage, scan.header_xml, [window]).items
    some = run_stage(stage, scan.header_xml, [window.replace(wanted=(3, 4))]).items
    assert [int(image.header["phase"]) for image in some] == [3, 4]
    assert torch.equal(some[0].data, whole[3].data)


def test_early_stop_is_told(beating: Any, run_stage: Any) -> None:
    scan, window = beating
    ran = run_stage(ReconstructLowRankSparse(max_iterations=2), scan.header_xml, [window])
    (warning,) = ran.scan.warnings
    assert "stopped after 2 iterations while the film still changed by" in warning


def test_what_is_missing_is_said(beating: Any) -> None:
    _, window = beating
    with pytest.raises(ConfigError, match="add 'coil-maps'"):
        list(ReconstructLowRankSparse().process(window.replace(coil_maps=None)))
    with pytest.raises(ConfigError, match="got single frames: put 'window' before it"):
        list(ReconstructLowRankSparse().process(small_kspace(coil_maps=True)))
