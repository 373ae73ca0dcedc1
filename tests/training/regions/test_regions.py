"""Classifier, heat maps, and the weights that they make of errors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.functional import interpolate

from scanside.errors import ConfigError, FormatError, ShapeError
from scanside_training.losses import LossConfig, build_loss
from scanside_training.regions import (
    ClassifierConfig,
    StackClassifier,
    heat_maps,
    load_classifier,
    train_classifier,
)
from scanside_training.regions.training import generated_stacks

SMALL = ClassifierConfig(
    channels=8, stride=1, size=48, n_slices=2, n_stacks=480, n_validation=60, steps=120, seed=1
)


@pytest.fixture
def classifier() -> StackClassifier:
    torch.manual_seed(3)
    return StackClassifier(4, 1).eval()


@pytest.fixture(scope="module")
def stacks() -> torch.Tensor:
    return torch.rand(2, 3, 32, 40, generator=torch.Generator().manual_seed(1))


def test_the_network_is_that_of_alexnet() -> None:
    """Sizes from the paper, on one device; it has biases where this has normalisation, and three colours."""
    convolutions = [layer for layer in StackClassifier(64, 4).features if isinstance(layer, torch.nn.Conv2d)]
    assert [tuple(layer.weight.shape) for layer in convolutions] == [
        (64, 1, 11, 11),
        (192, 64, 5, 5),
        (384, 192, 3, 3),
        (256, 384, 3, 3),
        (256, 256, 3, 3),
    ]


def test_the_order_of_slices_and_their_units_do_not_matter(
    classifier: StackClassifier, stacks: torch.Tensor
) -> None:
    with torch.no_grad():
        logits = classifier(stacks)
        torch.testing.assert_close(classifier(stacks.flip(1)), logits)
        torch.testing.assert_close(classifier(50 * stacks), logits, rtol=1e-3, atol=1e-3)


def test_heat_of_one_slice_in_closed_form(classifier: StackClassifier, stacks: torch.Tensor) -> None:
    """Behind a mean and a linear layer, Grad-CAM is the features' sum under that layer's weights."""
    logits, heat = heat_maps(classifier, stacks[:, :1])
    with torch.no_grad():
        weights = classifier.last.weight[0]
        coarse = torch.einsum("c,bscyx->bsyx", weights, classifier.seen(stacks[:, :1])).relu()
    expected = interpolate(coarse, (32, 40), mode="bilinear")
    expected = expected / expected.amax((1, 2, 3), keepdim=True)
    torch.testing.assert_close(heat, expected)
    torch.testing.assert_close(logits, classifier(stacks[:, :1]).detach())
    with torch.inference_mode():
        again = heat_maps(classifier, 1 * stacks[:, :1])
    torch.testing.assert_close(again, (logits, heat))


def test_what_is_not_the_largest_of_the_slices_has_no_heat(
    classifier: StackClassifier, stacks: torch.Tensor
) -> None:
    """A slice of air beside two others: every feature is largest elsewhere, or as large."""
    features = classifier.seen(stacks).detach()
    features[:, 1] = 0
    classifier.seen = lambda stacks: features  # type: ignore[method-assign]
    assert not heat_maps(classifier, stacks)[1][:, 1].any()
    features[:] = 0
    assert not heat_maps(classifier, stacks)[1].any(), "and no NaN where there is none at all"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("classifier")
    record = train_classifier(SMALL, folder)
    torch.set_num_threads(threads)
    assert record.auc > 0.9
    assert record.hits > 0.5, "of which chance is a twelfth at most"
    assert record.chance < 1 / 12
    return folder


@pytest.mark.slow
def test_errors_on_the_finding_weigh_more(trained: Path) -> None:
    term = {"kind": "weighted_l2", "map": {"source": "heat-map", "classifier": str(trained), "factor": 5}}
    loss = build_loss(LossConfig.model_validate({"terms": [term]}))
    assert not list(loss.parameters())
    assert not loss.state_dict()
    drawn = generated_stacks(SMALL, 20, 7)
    inside, outside = [], []
    for slices, findings in zip(drawn.pixels, drawn.findings, strict=True):
        for pixels, finding in zip(slices, findings, strict=True):
            if finding.any():
                target = torch.stack((0.6 * pixels, 0.8 * pixels))[None]
                for where, found in ((finding, inside), ((pixels > 0.02) & ~finding, outside)):
                    error = where.float() / where.sum()
                    value = loss(target + error.sqrt(), {"target": target})["total"]
                    found.append(float(value) * error.numel() / 2)
    assert min(outside + inside) >= 1 - 1e-3
    assert sum(inside) > 1.5 * sum(outside)
    assert max(inside) < 5 + 1e-3


@pytest.mark.slow
def test_damaged_files(trained: Path, tmp_path: Path) -> None:
    load_classifier(trained)
    for path in trained.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = tmp_path / "classifier.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    with pytest.raises(FormatError, match=r"is damaged: train it again"):
        load_classifier(tmp_path)


def test_what_cannot_work(classifier: StackClassifier, tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match=r"slices of at least 7 × 7, got \(1, 1, 6, 40\)"):
        classifier(torch.zeros(1, 1, 6, 40))
    with pytest.raises(ConfigError, match=r"is no folder of a classifier: it has no classifier\.json"):
        load_classifier(tmp_path)
    with pytest.raises(ValueError, match="less than 1"):
        ClassifierConfig(share=1.0)
