"""Cases that a bundle brings from its own simulation: some to judge engines on, others to calibrate int8 with."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from scanside.engines.bundle import Bundle, BundleWriter
from scanside.engines.manifest import CALIBRATION_FILE, Lowering, Manifest, Task
from scanside.engines.parameters import Parameter
from scanside.engines.probes import LARGEST_VECTORS, vectors_of
from scanside.errors import ConfigError
from scanside_training.config import load_config
from scanside_training.data import SampleKey, SimulatedSamples
from scanside_training.data.module import DataConfig
from scanside_training.models import known_in

__all__ = ["CaseKind", "add_calibration", "calibration", "reference_vectors"]

_N_CASES = 3
_SIZE, _COILS = 64, 4
_LARGEST_CALIBRATION = 2**19


@dataclass(frozen=True)
class CaseKind:
    """What the cases of a network hold.

    Attributes:
        task: of the network.
        lowering: of data consistency.
        n_frames: of its window; None where it takes single images.
        parameters: numbers of the scan that it takes.
        fixed_size: of its images, where it takes no others: its cases are whole.
    """

    task: Task
    lowering: Lowering
    n_frames: int | None
    parameters: tuple[Parameter, ...] = ()
    fixed_size: tuple[int, int] | None = None

    def cut(
        self, samples: SimulatedSamples, keys: list[SampleKey], n_bytes: int, bytes_each: int
    ) -> dict[str, torch.Tensor]:
        """Samples, cut small enough for a file of so many bytes."""
        cases = []
        for key in keys:
            sample = samples[key]
            case = {"truth": sample["target"], **{k: v for k, v in sample.items() if k != "target"}}
            if self.parameters:
                known = known_in({k: v[None] for k, v in sample.items()}, self.lowering, self.parameters)
                case["parameters"] = known.tensor("parameters")[0]
            cases.append(case)
        # Two planes of each frame for the truth, and as many for the image or those of the maps.
        planes = 2 * (self.n_frames or 1)
        planes += planes if self.lowering == "none" else 2 * _COILS
        fitting = math.isqrt(n_bytes // (len(keys) * bytes_each * planes)) // 8 * 8
        wanted = max(self.fixed_size or (_SIZE,))
        return vectors_of(self.task, cases, min(wanted, fitting), _COILS, self.lowering)


def reference_vectors(kind: CaseKind, config: DataConfig) -> dict[str, torch.Tensor]:
    """A few validation samples, spread over the set, cut small."""
    n = config.validation_samples
    spread = sorted({round(i * (n - 1) / max(_N_CASES - 1, 1)) for i in range(_N_CASES)})
    keys = [SampleKey(0, index // config.batch_size, index) for index in spread]
    return kind.cut(SimulatedSamples(config, "validation"), keys, LARGEST_VECTORS, 4)


def calibration(kind: CaseKind, config: DataConfig) -> dict[str, torch.Tensor]:
    """A few training samples, in half precision, as only ranges are taken from them.

    Raises:
        ConfigError: see `SimulatedSamples`: data of the training are not here.
        FormatError: they are not what they should be.
    """
    keys = [SampleKey(0, index, index * config.batch_size) for index in range(_N_CASES)]
    cases = kind.cut(SimulatedSamples(config, "train"), keys, _LARGEST_CALIBRATION, 2)
    return {name: one.half() for name, one in cases.items()}


def add_calibration(folder: Path) -> Manifest:
    """Give a bundle the cases that int8 is calibrated with, from the simulation that it was trained by.

    Nothing else of it changes, but that no one signed it any more.

    Args:
        folder: of the bundle, which is replaced.

    Raises:
        ConfigError: the bundle does not say how it was trained, or the data of its training are not here.
        BundleError: it is not whole.
    """
    bundle = Bundle.open(folder)
    manifest = bundle.manifest
    if manifest.training is None:
        raise ConfigError(
            f"bundle '{bundle.name}' does not say how it was trained, and so not what to simulate"
        )
    shapes = manifest.shapes
    fixed_size = shapes.buckets[0] if shapes.fixed else None
    told = tuple(one.name for one in manifest.parameters)
    kind = CaseKind(manifest.task, manifest.lowering, shapes.frames, told, fixed_size)
    cases = calibration(kind, load_config(folder / manifest.training.config).data)
    with BundleWriter(folder, replace=True) as writer:
        for path in manifest.files:
            if path != CALIBRATION_FILE:
                writer.path(path).write_bytes(bundle.read(path))
        save_file(cases, writer.path(CALIBRATION_FILE))
        fields = {name: value for name, value in manifest if name != "files"}
        return writer.finish(**{**fields, "calibration": CALIBRATION_FILE})
