"""Trains a classifier on generated knees, and measures it on others."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from safetensors.torch import save_file
from torch.nn.functional import binary_cross_entropy_with_logits, max_pool2d
from torchmetrics.functional.classification import binary_auroc

from scanside.errors import NonFiniteError
from scanside_training.data.knees import knee
from scanside_training.regions.classifier import SETTINGS, WEIGHTS, ClassifierConfig, StackClassifier
from scanside_training.regions.heat import heat_maps

logger = logging.getLogger(__name__)

__all__ = ["RECORD", "ClassifierRecord", "Stacks", "generated_stacks", "train_classifier"]

RECORD = "record.json"


class ClassifierRecord(BaseModel):
    """How good a classifier is, on stacks that it has not seen.

    Attributes:
        steps: of the training.
        seconds: that it took.
        auc: area under the receiver operating characteristic: 0.5 is chance.
        hits: share of the stacks with a finding whose heat map is largest within it, or beside it by no more than a
            pixel of the features that the map is made of.
        chance: what `hits` would be if the largest value lay anywhere in the tissue.
    """

    model_config = ConfigDict(frozen=True)

    steps: int
    seconds: float
    auc: float
    hits: float
    chance: float


class Stacks:
    """Generated stacks.

    Attributes:
        pixels: ``(n, slice, y, x)``.
        findings: ``(n, slice, y, x)``, where they lie.
        labels: ``(n,)``, 1 for stacks with a finding.
    """

    def __init__(self, pixels: torch.Tensor, findings: torch.Tensor) -> None:
        self.pixels = pixels
        self.findings = findings
        self.labels = findings.flatten(1).any(1).float()


def generated_stacks(config: ClassifierConfig, n: int, part: int) -> Stacks:
    """Draw stacks; as many of them have a finding as the configuration says, but one of each kind at least.

    Args:
        config: size, number of slices, share and seed.
        n: number of stacks.
        part: of the data: those of other parts are others.
    """
    n_with = min(max(round(config.share * n), 1), n - 1)
    made = [
        knee(config.size, config.n_slices, np.random.default_rng([config.seed, part, i]), finding=i < n_with)
        for i in range(n)
    ]
    pixels, findings = (
        torch.from_numpy(np.stack([[one[place] for one in stack] for stack in made])) for place in (0, 1)
    )
    return Stacks(pixels, findings)


def train_classifier(
    config: ClassifierConfig,
    folder: Path,
    on_progress: Callable[[int, int], None] = lambda done, total: None,  # noqa: ARG005
) -> ClassifierRecord:
    """Train a classifier, and write it into a folder.

    Both classes weigh alike in the loss, however many stacks of each there are.

    Args:
        config: of the classifier and its training.
        folder: made if need be.
        on_progress: told how many steps were made, and of how many.

    Raises:
        NonFiniteError: the loss became NaN or infinite.
    """
    begun = monotonic()
    train = generated_stacks(config, config.n_stacks, 0)
    torch.manual_seed(config.seed)
    classifier = StackClassifier(config.channels, config.stride)
    optimiser = torch.optim.Adam(classifier.parameters(), lr=config.lr)
    weight = (len(train.labels) - train.labels.sum()) / train.labels.sum()
    rng = np.random.default_rng([config.seed, 2])
    for step in range(config.steps):
        drawn = torch.from_numpy(rng.choice(len(train.labels), config.batch_size, replace=False))
        logits = classifier(train.pixels[drawn])
        loss = binary_cross_entropy_with_logits(logits, train.labels[drawn], pos_weight=weight)
        if not torch.isfinite(loss):
            raise NonFiniteError(
                f"the classifier's loss at step {step} is {float(loss.detach())}: lower lr ({config.lr:g})"
            )
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        on_progress(step + 1, config.steps)
        if (step + 1) % 50 == 0:
            logger.info("step %d: loss %.4f", step + 1, float(loss.detach()))
    folder.mkdir(parents=True, exist_ok=True)
    save_file(classifier.state_dict(), folder / WEIGHTS)
    (folder / SETTINGS).write_text(config.model_dump_json(indent=2) + "\n", "utf-8")
    auc, hits, chance = _measured(classifier.eval(), generated_stacks(config, config.n_validation, 1))
    record = ClassifierRecord(
        steps=config.steps, seconds=round(monotonic() - begun, 1), auc=auc, hits=hits, chance=chance
    )
    (folder / RECORD).write_text(record.model_dump_json(indent=2) + "\n", "utf-8")
    return record


def _measured(classifier: StackClassifier, stacks: Stacks) -> tuple[float, float, float]:
    found = [heat_maps(classifier, one[None]) for one in stacks.pixels]
    logits = torch.cat([logit for logit, _ in found])
    auc = float(binary_auroc(logits, stacks.labels.int()))
    beside = stacks.pixels.shape[-1] // classifier.seen(stacks.pixels[:1]).shape[-1]
    hits, chances = [], []
    for (_, heat), pixels, finding in zip(found, stacks.pixels, stacks.findings, strict=True):
        if finding.any():
            near = max_pool2d(finding.float(), 2 * beside + 1, 1, beside) > 0
            hits.append(bool(near.flatten()[heat.flatten().argmax()]))
            chances.append(float(near.sum() / (pixels > 0.02).sum()))
    return auc, float(np.mean(hits)), float(np.mean(chances))
