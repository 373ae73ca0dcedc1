from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from scanside.errors import ConfigError, FormatError
from scanside.metrics import psnr
from scanside_training.data import MaskConfig
from scanside_training.evaluation.candidates.classical import CgSense
from scanside_training.evaluation.candidates.pipeline import PipelineRun
from scanside_training.evaluation.measured import CflData, MrdData


def test_drawn_masks_are_the_same_again(scan_folder: Path) -> None:
    masks = {"drawn": MaskConfig(patterns=("random",), acceleration=(2, 2), acs=(12, 12))}
    data = CflData(root=scan_folder, kspace=Path("scan/full"), masks=masks, seed=3)
    first, again = (data.mask("drawn", 44, 0) for _ in range(2))
    assert first.equal(again)
    assert int(first.sum()) == 22
    assert not first.equal(data.mask("drawn", 44, 1))
    assert not first.equal(data.model_copy(update={"seed": 4}).mask("drawn", 44, 0))


def test_files_that_do_not_fit(scan_folder: Path) -> None:
    data = CflData(root=scan_folder, kspace=Path("scan/full"), masks={"half": Path("scan/half.npy")})
    with pytest.raises(FormatError, match=r"half\.npy has the shape \(44,\), and the scan has 45 lines"):
        data.mask("half", 45, 0)
    with pytest.raises(ConfigError, match="SCANSIDE_DATA"):
        data.model_copy(update={"kspace": Path("scan/none")}).open()


def test_references_of_full_data(scan_folder: Path, coil_images: torch.Tensor) -> None:
    data = CflData(root=scan_folder, kspace=Path("scan/full"), masks={"half": Path("scan/half.npy")})
    case = next(iter(data.open()))
    truth = np.sqrt((np.abs(coil_images.numpy()) ** 2).sum(0))
    # What is left is the noise, which the root sum of squares does not average to zero in air.
    assert psnr(case.whole, truth) > 35
    assert psnr(case.inside, truth, case.roi) > 40
    assert case.roi[20, 24]
    assert not case.roi[2, 2]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_pipeline_and_recon_agree_on_a_recorded_scan(shared_data: Path) -> None:
    data = MrdData(
        root=shared_data,
        files={"phantom": Path("scanner-ismrmrd/phantom_array16.h5")},
        masks={"three": MaskConfig(patterns=("equispaced",), acceleration=(3, 3), acs=(24, 24))},
    )
    (case,) = data.open()
    assert case.strata["n_coils"] == "16"
    ours = CgSense(l2=0.0, iterations=30).open().job(case)()
    theirs = PipelineRun(pipeline="sense").open().job(case)()
    assert theirs.shape == ours.shape
    # The same position, orientation and lines: the pipeline has other stopping rules only.
    assert psnr(theirs.numpy(), ours.abs().numpy(), case.roi) > 35
