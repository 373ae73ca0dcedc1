"""Training data: pairs of image and truth, simulated from slices while the network trains.

::

    data = ReconstructionData(DataConfig(sources=(Synthetic(), BrainT1w())))
    batch = next(iter(data.train_dataloader()))     # image, target, maps, mask, roi, scale, noise
"""

from __future__ import annotations

from scanside_training.data.appearance import AppearanceConfig
from scanside_training.data.calibration import EspiritConfig
from scanside_training.data.coils import CoilsConfig
from scanside_training.data.contrast import SpinEchoConfig
from scanside_training.data.films import DynamicTask
from scanside_training.data.module import (
    DataConfig,
    EpochKeys,
    Provenance,
    ReconstructionData,
    SampleKey,
    SampleKeys,
    SimulatedSamples,
)
from scanside_training.data.multi_echo import MultiEchoTask
from scanside_training.data.noncartesian import NonCartesianTask
from scanside_training.data.placement import PlacementConfig
from scanside_training.data.sampling import (
    FrameMaskConfig,
    LimitsConfig,
    MaskConfig,
    PlaneMaskConfig,
    random_mask,
    random_plane_mask,
)
from scanside_training.data.self_supervised import RecordedScans, SelfSupervisedTask
from scanside_training.data.simulation import (
    Drawn,
    SampleShape,
    SimulationConfig,
    TaskConfig,
    draw_shape,
    middle_shape,
    simulate_sample,
)
from scanside_training.data.slices import ImageTask, ImageToImage, UnrolledTask
from scanside_training.data.sources import (
    BeatingHearts,
    BrainT1w,
    BrainT2Complex,
    CardiacMagnitude,
    CineSax,
    CineSaxFilms,
    CoilMapsBrain,
    MrdFolder,
    MrdScans,
    PhantomArray16,
    SliceSource,
    SourceConfig,
    Synthetic,
    SyntheticTissues,
)
from scanside_training.data.splits import (
    LeaveOneOut,
    SharedSubjects,
    SubjectFolds,
    SubjectFractions,
    SubjectLists,
    SubjectSplit,
)

__all__ = [
    "AppearanceConfig",
    "BeatingHearts",
    "BrainT1w",
    "BrainT2Complex",
    "CardiacMagnitude",
    "CineSax",
    "CineSaxFilms",
    "CoilMapsBrain",
    "CoilsConfig",
    "DataConfig",
    "Drawn",
    "DynamicTask",
    "EpochKeys",
    "EspiritConfig",
    "FrameMaskConfig",
    "ImageTask",
    "ImageToImage",
    "LeaveOneOut",
    "LimitsConfig",
    "MaskConfig",
    "MrdFolder",
    "MrdScans",
    "MultiEchoTask",
    "NonCartesianTask",
    "PhantomArray16",
    "PlacementConfig",
    "PlaneMaskConfig",
    "Provenance",
    "ReconstructionData",
    "RecordedScans",
    "SampleKey",
    "SampleKeys",
    "SampleShape",
    "SelfSupervisedTask",
    "SharedSubjects",
    "SimulatedSamples",
    "SimulationConfig",
    "SliceSource",
    "SourceConfig",
    "SpinEchoConfig",
    "SubjectFolds",
    "SubjectFractions",
    "SubjectLists",
    "SubjectSplit",
    "Synthetic",
    "SyntheticTissues",
    "TaskConfig",
    "UnrolledTask",
    "draw_shape",
    "middle_shape",
    "random_mask",
    "random_plane_mask",
    "simulate_sample",
]
