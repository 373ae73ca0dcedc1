"""The networks: real-valued tensors at every boundary, complex numbers as pairs of planes.

>>> model = build_model(UnetConfig(channels=8, pools=3))
>>> model.task, model.multiple_of
('image', 8)
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from scanside_training.models.base import Batch, Model
from scanside_training.models.dual import DualUnet, DualUnetConfig, FusionBody
from scanside_training.models.exact import Exact, ExactConfig
from scanside_training.models.temporal import Temporal, TemporalBody, TemporalConfig
from scanside_training.models.unet import Unet, UnetBody, UnetConfig
from scanside_training.models.unrolled import Unrolled, UnrolledConfig

__all__ = [
    "BODIES",
    "Batch",
    "DualUnet",
    "DualUnetConfig",
    "Exact",
    "ExactConfig",
    "Model",
    "ModelConfig",
    "Temporal",
    "TemporalConfig",
    "Unet",
    "UnetConfig",
    "Unrolled",
    "UnrolledConfig",
    "build_model",
]

ModelConfig = Annotated[
    UnetConfig | UnrolledConfig | ExactConfig | DualUnetConfig | TemporalConfig, Field(discriminator="kind")
]
"""Any model's settings, told apart by ``kind``."""


BODIES = (UnetBody, FusionBody, TemporalBody)
"""Parts of networks that compute in the precision of their weights, and take and give float32."""


def build_model(
    config: UnetConfig | UnrolledConfig | ExactConfig | DualUnetConfig | TemporalConfig,
) -> Unet | Unrolled | Exact | DualUnet | Temporal:
    """The model with fresh weights, from the global random generator of torch."""
    return config.build()
