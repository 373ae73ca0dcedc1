"""The networks: real-valued tensors at every boundary, complex numbers as pairs of planes.

>>> network = NetworkConfig.model_validate({"kind": "unet", "channels": 8, "pools": 3}).build()
>>> network.task, network.multiple_of
('image', 8)
"""

from __future__ import annotations

from scanside_training.models.automap import Automap, AutomapConfig
from scanside_training.models.base import (
    Batch,
    Body,
    ExactForm,
    Network,
    NetworkConfig,
    PartConfig,
    known_in,
)
from scanside_training.models.conditioned import ConditionedUnet, ConditionedUnetConfig
from scanside_training.models.dual import DualUnet, DualUnetConfig
from scanside_training.models.exact import Exact, ExactConfig
from scanside_training.models.kiki import Kiki, KikiConfig
from scanside_training.models.noncartesian import NonCartesian, NonCartesianConfig
from scanside_training.models.relaxation import T2Map, T2MapConfig
from scanside_training.models.temporal import Temporal, TemporalConfig
from scanside_training.models.unet import Unet, UnetConfig
from scanside_training.models.unrolled import Unrolled, UnrolledConfig

__all__ = [
    "Automap",
    "AutomapConfig",
    "Batch",
    "Body",
    "ConditionedUnet",
    "ConditionedUnetConfig",
    "DualUnet",
    "DualUnetConfig",
    "Exact",
    "ExactConfig",
    "ExactForm",
    "Kiki",
    "KikiConfig",
    "Network",
    "NetworkConfig",
    "NonCartesian",
    "NonCartesianConfig",
    "PartConfig",
    "T2Map",
    "T2MapConfig",
    "Temporal",
    "TemporalConfig",
    "Unet",
    "UnetConfig",
    "Unrolled",
    "UnrolledConfig",
    "known_in",
]
