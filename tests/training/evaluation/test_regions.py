"""Measures in boxes, segmentations and marks, and contrast between them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scanside.errors import ConfigError, ShapeError
from scanside_training.evaluation.case import Case, Recorded
from scanside_training.evaluation.regions import Boxes, Contrast, Marked, Segmentation, contrast_and_cnr
from scanside_training.evaluation.scores import Measuring, score


def case(**more: Any) -> Case:
    truth = np.full((40, 40), 0.5)
    truth[10:20, 10:20] = 2.0
    return Case("c", {"subject": "s"}, truth, truth, truth > 0, **more)


BOX = Boxes(boxes=((10, 10, 10, 10),))


def test_a_box_after_the_fit_of_the_whole_image() -> None:
    one = case()
    rng = np.random.default_rng(0)
    image = np.abs(one.whole + 0.1 * rng.normal(size=one.whole.shape))
    measuring = Measuring(regions={"box": BOX}, contrasts={"lesion": Contrast(of="box")})
    values = score("x", one, torch.from_numpy(3 * image), measuring=measuring).values
    fitted = image * (image * one.whole).sum() / (image**2).sum()
    inside = np.s_[10:20, 10:20]
    mse = ((fitted - one.whole)[inside] ** 2).mean()
    assert values["psnr@box"] == pytest.approx(10 * np.log10(4 / mse), abs=1e-6)
    assert values["nmse@box"] == pytest.approx(mse / 4, rel=1e-6)
    assert set(values) >= {"ssim@box", "contrast@lesion", "cnr@lesion"}
    assert values["contrast@lesion"] == pytest.approx(1, abs=0.05)
    assert "cnr@lesion" not in score("x", one, torch.from_numpy(one.whole), measuring=measuring).values


def test_contrast_by_hand() -> None:
    image = np.array([[1.0, 3.0, 5.0, 9.0]])
    one, other = np.array([[0, 0, 1, 1]]) > 0, np.array([[1, 1, 0, 0]]) > 0
    assert contrast_and_cnr(image, one, other) == pytest.approx((5, 5 / np.sqrt((4 + 1) / 2)))


def test_surroundings_leave_a_gap() -> None:
    region = np.zeros((40, 40), dtype=bool)
    region[18:22, 18:22] = True
    pair = Contrast(of="a").masks({"a": region}, np.ones_like(region))
    assert pair is not None
    rows = np.flatnonzero(pair[1][:, 20])
    assert rows.tolist() == [12, 13, 14, 15, 24, 25, 26, 27]
    assert Contrast(of="b").masks({"a": region}, region) is None
    assert Contrast(of="a", against="b").masks({"a": region}, region) is None


def test_marks_come_with_samples() -> None:
    marked = torch.zeros(1, 40, 40)
    assert Marked().mask(case()) is None
    assert Marked().mask(case(sample={"marked": marked})) is None
    marked[0, 3:6] = 1
    found = Marked().mask(case(sample={"marked": marked}))
    assert found is not None
    assert found.sum() == 120


def test_labels_of_a_slice(tmp_path: Path) -> None:
    labels = np.zeros((2, 40, 40), np.uint8)
    labels[1, 5:15, 5:15] = 2
    np.save(tmp_path / "s.npy", labels)
    region = Segmentation(files={"s": tmp_path / "s.npy"}, label=2)
    first, second, third = (case(recorded=Recorded(tmp_path, None, n, 0)) for n in range(3))
    assert region.mask(first) is None
    found = region.mask(second)
    assert found is not None
    assert found.sum() == 100
    with pytest.raises(ConfigError, match="labels of 2 slices, and c is none of them"):
        region.mask(third)
    assert Segmentation(files={"other": tmp_path / "s.npy"}).mask(second) is None


def test_regions_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match="does not lie within the 40 × 40 pixels of c"):
        Boxes(boxes=((35, 0, 10, 10),)).mask(case())
    with pytest.raises(ConfigError, match="there is no segmentation"):
        Segmentation(files={"s": tmp_path / "none.npy"}).mask(case())
    np.save(tmp_path / "wide.npy", np.zeros((40, 41), np.uint8))
    with pytest.raises(ShapeError, match=r"\(40, 41\) pixels, and c has \(40, 40\)"):
        Segmentation(files={"s": tmp_path / "wide.npy"}).mask(case())
    np.save(tmp_path / "float.npy", np.zeros((40, 40)))
    with pytest.raises(ShapeError, match="labels are whole"):
        Segmentation(files={"s": tmp_path / "float.npy"}).mask(case())
