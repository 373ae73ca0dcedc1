"""Errors of single pixels, against NumPy on complex numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scanside.errors import ConfigError, ShapeError
from scanside_training.losses import CentreWeights, LossConfig, build_loss, centre_weights


def value(output: torch.Tensor, batch: dict[str, torch.Tensor], **term: Any) -> float:
    loss = build_loss(LossConfig.model_validate({"terms": [term]}))
    return float(loss(output, batch)["total"])


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    """Complex images (3, 2, 10, 12)."""
    generator = torch.Generator().manual_seed(1)
    output, target = torch.randn(2, 3, 2, 10, 12, dtype=torch.float64, generator=generator)
    return output, target


def complex_difference(output: torch.Tensor, target: torch.Tensor) -> Any:
    difference = (output - target).numpy()
    return difference[:, 0] + 1j * difference[:, 1]


def test_complex_images(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    output, target = pair
    batch = {"target": target}
    error = complex_difference(output, target)
    assert value(output, batch, kind="l1") == pytest.approx(np.abs(error).mean())
    channels = (np.abs(error.real) + np.abs(error.imag)).mean() / 2
    assert value(output, batch, kind="l1", of="channels") == pytest.approx(channels)
    assert value(output, batch, kind="l2") == pytest.approx((np.abs(error) ** 2).mean())


def test_magnitudes_as_numpy_has_them(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    output, target = pair
    mine, theirs = (np.abs(one[:, 0].numpy() + 1j * one[:, 1].numpy()) for one in (output, target))
    assert value(output, {"target": target}, kind="magnitude") == pytest.approx(np.abs(mine - theirs).mean())


def test_magnitudes_say_nothing_of_the_phase(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    output, _ = pair
    assert value(-output, {"target": output}, kind="magnitude") == pytest.approx(0)
    assert value(-output, {"target": output}, kind="l1") > 1


def test_modulus_does_not_depend_on_the_phase(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    def turned(image: torch.Tensor) -> torch.Tensor:
        c, s = np.cos(0.7), np.sin(0.7)
        return torch.stack((c * image[:, 0] - s * image[:, 1], s * image[:, 0] + c * image[:, 1]), dim=1)

    output, target = pair
    before = {of: value(output, {"target": target}, kind="l1", of=of) for of in ("modulus", "channels")}
    after = {
        of: value(turned(output), {"target": turned(target)}, kind="l1", of=of)
        for of in ("modulus", "channels")
    }
    assert after["modulus"] == pytest.approx(before["modulus"])
    assert after["channels"] != pytest.approx(before["channels"], rel=1e-6)


def test_magnitude_images_as_torch_has_it(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    output, target = (image[:, :1] for image in pair)
    batch = {"target": target}
    assert value(output, batch, kind="l1") == pytest.approx(float(torch.nn.L1Loss()(output, target)))
    assert value(output, batch, kind="l2") == pytest.approx(float(torch.nn.MSELoss()(output, target)))


def test_gradient_is_finite_where_the_images_agree() -> None:
    image = torch.zeros(1, 2, 8, 8, requires_grad=True)
    config = LossConfig.model_validate(
        {"terms": [{"kind": kind} for kind in ("l1", "l2", "magnitude", "weighted_l2", "ssim", "edge")]}
    )
    build_loss(config)(image, {"target": torch.zeros(1, 2, 8, 8)})["total"].backward()
    assert image.grad is not None
    assert not image.grad.any()


@pytest.mark.parametrize("size", [(8, 12), (9, 13)])
def test_centre(size: tuple[int, int]) -> None:
    rectangle = centre_weights(size, CentreWeights())
    assert rectangle.shape == size
    assert set(rectangle.flatten().tolist()) == {1.0, 2.0}
    assert torch.equal(rectangle, rectangle.flip(0, 1))
    assert int((rectangle == 2).sum()) == {(8, 12): 4 * 6, (9, 13): 5 * 7}[size]
    ellipse = centre_weights(size, CentreWeights(shape="ellipse", factor=3.0))
    assert ((ellipse == 3) <= (rectangle == 2)).all()
    assert 0 < (ellipse == 3).sum() < (rectangle == 2).sum()


def test_ellipse_has_the_area_of_one() -> None:
    weights = centre_weights((400, 300), CentreWeights(shape="ellipse", extent=(0.8, 0.5)))
    assert float((weights - 1).sum()) == pytest.approx(np.pi / 4 * 320 * 150, rel=2e-3)


def test_extent_runs_along_k1_then_k0() -> None:
    weights = centre_weights((20, 20), CentreWeights(extent=(1.0, 0.2)))
    assert (weights[:, 8:12] == 2).all()
    assert int((weights == 2).sum()) == 80


def test_centre_counts_twice(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    output, target = pair
    squares = np.abs(complex_difference(output, target)) ** 2
    weights = np.ones((10, 12))
    weights[3:7, 3:9] = 2
    batch = {"target": target}
    expected = (weights * squares).mean()
    # Of ten rows, the five in the middle cannot lie symmetrically: four do.
    centre = {"source": "centre", "extent": (0.4, 0.5)}
    assert value(output, batch, kind="weighted_l2", map=centre) == pytest.approx(expected)
    assert value(output, batch, kind="weighted_l2", map={**centre, "factor": 1.0}) == pytest.approx(
        squares.mean()
    )


def test_maps_from_batch_and_file(pair: tuple[torch.Tensor, torch.Tensor], tmp_path: Path) -> None:
    output, target = pair
    squares = np.abs(complex_difference(output, target)) ** 2
    maps = np.random.default_rng(5).uniform(0, 3, (3, 1, 10, 12)).astype(np.float32)
    batch = {"target": target, "weight": torch.from_numpy(maps)}
    from_batch = value(output, batch, kind="weighted_l2", map={"source": "batch"})
    assert from_batch == pytest.approx((maps[:, 0] * squares).mean())
    np.save(tmp_path / "map.npy", maps[1, 0])
    source = {"source": "file", "path": str(tmp_path / "map.npy")}
    from_file = value(output, batch, kind="weighted_l2", map=source)
    assert from_file == pytest.approx((maps[1, 0] * squares).mean())


def test_boxes_count_more_and_the_centre_where_there_are_none(
    pair: tuple[torch.Tensor, torch.Tensor],
) -> None:
    output, target = pair
    squares = np.abs(complex_difference(output, target)) ** 2
    marked = torch.zeros(3, 1, 10, 12)
    marked[1, 0, 2:5, 3:9] = 1
    weights = np.ones((3, 10, 12))
    weights[1, 2:5, 3:9] = 4
    batch = {"target": target, "marked": marked}
    alone = {"source": "boxes", "factor": 4, "otherwise": None}
    assert value(output, batch, kind="weighted_l2", map=alone) == pytest.approx((weights * squares).mean())
    weights[0] = weights[2] = centre_weights((10, 12), CentreWeights(factor=3)).numpy()
    centred = {**alone, "otherwise": {"factor": 3}}
    assert value(output, batch, kind="weighted_l2", map=centred) == pytest.approx((weights * squares).mean())
    with pytest.raises(ConfigError, match=r"no 'marked'.*take a source with boxes"):
        value(output, {"target": target}, kind="weighted_l2", map=alone)


def test_map_of_a_file_is_not_saved_with_the_model(tmp_path: Path) -> None:
    np.save(tmp_path / "map.npy", np.ones((4, 4)))
    term = {"kind": "weighted_l2", "map": {"source": "file", "path": tmp_path / "map.npy"}}
    assert not build_loss(LossConfig.model_validate({"terms": [term]})).state_dict()


def test_maps_that_do_not_fit(pair: tuple[torch.Tensor, torch.Tensor], tmp_path: Path) -> None:
    output, target = pair
    batch = {"target": target}
    with pytest.raises(ConfigError, match=r"no 'weight', only target.*another source"):
        value(output, batch, kind="weighted_l2", map={"source": "batch"})
    with pytest.raises(ShapeError, match=r"'weight'.*\(3, 10, 12\).*\(3, 1, 10, 12\)"):
        value(output, {**batch, "weight": torch.ones(3, 10, 12)}, kind="weighted_l2", map={"source": "batch"})
    np.save(tmp_path / "map.npy", np.ones((12, 10)))
    with pytest.raises(ShapeError, match=r"map\.npy are \(12, 10\), the images \(10, 12\)"):
        value(output, batch, kind="weighted_l2", map={"source": "file", "path": tmp_path / "map.npy"})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        (np.array([{}], dtype=object), "allow_pickle"),
        (np.ones((2, 3, 4)), "one array"),
        (np.ones((3, 4), dtype=np.complex64), "real numbers"),
        (np.array([[1.0, np.nan]]), "finite"),
        (np.array([[1.0, -1.0]]), "not negative"),
        (np.zeros((3, 4)), "not all zero"),
    ],
)
def test_files_that_hold_no_map(content: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "map.npy"
    if content is not None:
        np.save(path, content, allow_pickle=True)
    config = LossConfig.model_validate(
        {"terms": [{"kind": "weighted_l2", "map": {"source": "file", "path": path}}]}
    )
    with pytest.raises(ConfigError, match=message):
        build_loss(config)
