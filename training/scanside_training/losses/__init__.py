"""What a training minimises: weighted sums of errors between an output and its target.

>>> import torch
>>> config = LossConfig.model_validate({"terms": [{"kind": "l1"}, {"kind": "ssim", "weight": 0.1}]})
>>> image = torch.ones(1, 2, 8, 8)
>>> {name: float(value) for name, value in build_loss(config)(image, {"target": image}).items()}
{'l1': 0.0, 'ssim': 0.0, 'total': 0.0}
"""

from __future__ import annotations

from scanside_training.losses.combination import Loss, LossConfig, build_loss
from scanside_training.losses.edges import EdgeConfig
from scanside_training.losses.perceptual import PerceptualConfig
from scanside_training.losses.pixelwise import L1Config, L2Config, WeightedL2Config
from scanside_training.losses.ssim import SsimConfig, ssim_map
from scanside_training.losses.term import Term, TermConfig, magnitude
from scanside_training.losses.weights import (
    BatchWeights,
    BoxWeights,
    CentreWeights,
    FileWeights,
    HeatMapWeights,
    centre_weights,
)

__all__ = [
    "BatchWeights",
    "BoxWeights",
    "CentreWeights",
    "EdgeConfig",
    "FileWeights",
    "HeatMapWeights",
    "L1Config",
    "L2Config",
    "Loss",
    "LossConfig",
    "PerceptualConfig",
    "SsimConfig",
    "Term",
    "TermConfig",
    "WeightedL2Config",
    "build_loss",
    "centre_weights",
    "magnitude",
    "ssim_map",
]
