"""The networks: real-valued tensors at every boundary, complex numbers as pairs of planes.

>>> model = build_model(UnetConfig(channels=8, pools=3))
>>> model.task, model.multiple_of
('image', 8)
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from scanside_training.models.base import Batch, Model
from scanside_training.models.unet import Unet, UnetConfig
from scanside_training.models.unrolled import Unrolled, UnrolledConfig

__all__ = [
    "Batch",
    "Model",
    "ModelConfig",
    "Unet",
    "UnetConfig",
    "Unrolled",
    "UnrolledConfig",
    "build_model",
]

ModelConfig = Annotated[UnetConfig | UnrolledConfig, Field(discriminator="kind")]
"""Any model's settings, told apart by ``kind``."""


def build_model(config: UnetConfig | UnrolledConfig) -> Unet | Unrolled:
    """The model with fresh weights, from the global random generator of torch."""
    return config.build()
