"""From a slice to a training sample: object, coils, noise and sampling of an imaginary scan.

The scan is Cartesian and two-dimensional, images are ``(k1, k0)``. Its readout k0 is fully sampled, so that it
separates: noise of orthonormal transforms is added between image and k-space, and columns may be left out at the end
without anything wrapping. Along k1 the whole field of view is kept, as aliasing asks for.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from pydantic import ConfigDict, Field, model_validator
from torch import Tensor

from scanside.metrics import object_mask
from scanside.recon.scaling import image_scale
from scanside_training.data.appearance import AppearanceConfig
from scanside_training.data.boxes import Boxes
from scanside_training.data.calibration import EspiritConfig
from scanside_training.data.coils import CoilsConfig
from scanside_training.data.contrast import SpinEchoConfig, random_spin_echo
from scanside_training.data.kept_maps import KeptMaps
from scanside_training.data.placement import PlacementConfig
from scanside_training.data.sampling import FrameMaskConfig, MaskConfig, random_mask
from scanside_training.data.settings import Content, FloatRange, IntRange, Settings
from scanside_training.plugins import PluginSettings

__all__ = [
    "Drawn",
    "Sample",
    "SampleShape",
    "SimulationConfig",
    "TaskConfig",
    "complex_of",
    "draw_shape",
    "middle_shape",
    "object_of",
    "possible_sizes",
    "real_pairs",
    "simulate_sample",
    "some_columns",
    "white",
]

Sample = dict[str, Tensor]


class TaskConfig(PluginSettings):
    """How a slice or a film becomes a sample: what a network gets of it, and what should come out.

    A task of one's own is registered in the entry points ``scanside.tasks``.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)

    GROUP: ClassVar = "scanside.tasks"
    NOUN: ClassVar = "task"

    takes: ClassVar[Content] = "slices"
    """What samples are made from."""
    takes_plane_masks: ClassVar[bool] = False
    """Whether masks may be over two phase encodings (``simulation.masks.plane``)."""
    one_by_one: ClassVar[bool] = False
    """Whether samples differ in shape from each other, so that a batch holds one."""

    @property
    def n_frames(self) -> int | None:
        """Frames of a sample; None where it is a single image."""
        return None

    @property
    def keeps_lines_apart(self) -> bool:
        """Whether networks are judged by lines that no training sees, so that both may be of the same slices."""
        return False

    @property
    def input_image(self) -> str:
        """What the image that goes in is, for the manifest of a bundle: ``Aᴴ y``."""
        return "adjoint"

    def masks_of(self, masks: MaskConfig) -> MaskConfig | FrameMaskConfig:
        """Which lines may be acquired.

        Args:
            masks: of the simulation, for tasks that have none of their own.
        """
        return masks

    def lines_of(self, masks: MaskConfig, n: int, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
        """The lines that one sample acquires, ``(frame, k1)``.

        Args:
            masks: of the simulation.
            n: lines of the matrix.
            rng: draws them.
        """
        return random_mask(masks, n, rng)[0][None]

    @abstractmethod
    def sample(self, pixels: Tensor, drawn: Drawn) -> Sample:
        """Scan a slice or a film: see `simulate_sample`."""


def _unrolled() -> TaskConfig:
    return TaskConfig.model_validate({"kind": "unrolled"})


class SimulationConfig(Settings):
    """Which scans are simulated, and what the network gets of them."""

    task: TaskConfig = Field(default_factory=_unrolled)
    """What a sample holds."""
    k1: IntRange = (160, 208)
    """Matrix along phase encoding, drawn for every batch."""
    k0: IntRange = (192, 256)
    """Matrix along the readout, drawn for every batch."""
    multiple: int = Field(default=16, ge=2)
    """Matrices are multiples of this, as networks that halve images several times need them."""
    readout_crop: int | None = Field(default=96, ge=16)
    """Neighbouring columns of the image that make a sample, to save time; ``null`` keeps all."""
    sequences: tuple[SpinEchoConfig, ...] = ()
    """Contrasts of spin echoes, drawn with equal weight, where sources give tissues; samples then say their echo and
    repetition times."""
    placement: PlacementConfig = PlacementConfig()
    appearance: AppearanceConfig = AppearanceConfig()
    coils: CoilsConfig = CoilsConfig()
    masks: MaskConfig = MaskConfig()
    snr: FloatRange = (15.0, 200.0)
    """Bright tissue (99 % quantile of the magnitude) over the standard deviation of the real and of the imaginary
    part of the noise, in the fully sampled combined image. Logarithms are drawn with equal weight."""
    espirit: EspiritConfig = EspiritConfig()

    @property
    def takes(self) -> Content:
        """What samples are made from."""
        return "tissues" if self.sequences else self.task.takes

    def may_take(self, content: Content) -> bool:
        """Whether samples can be made from something: where slices are scanned, measured k-space is undersampled.

        Lines are left out of k-space with one phase encoding, samples out of planes of two.
        """
        measured = "kspace" if self.masks.plane is None else "planes"
        return content == self.takes or (content, self.takes) == (measured, "slices")

    @model_validator(mode="after")
    def _consistent(self) -> SimulationConfig:
        if self.sequences and self.task.takes != "slices":
            raise ValueError(
                f"sequences make slices, and the task '{self.task.kind}' takes {self.task.takes}: leave them out, or "
                "take another task"
            )
        for name, (low, high) in (("k1", self.k1), ("k0", self.k0)):
            if high // self.multiple < max(math.ceil(low / self.multiple), 1):
                raise ValueError(f"{name}: there is no multiple of {self.multiple} within {(low, high)}")
        crop = self.readout_crop
        if crop is not None and (crop % self.multiple or crop > self.k0[0]):
            raise ValueError(
                f"readout_crop {crop} must be a multiple of {self.multiple} and not larger than k0 {self.k0}"
            )
        if self.masks.plane is not None:
            self._check_planes()
        least = 2 * self.espirit.kernel - 1
        masks = self.masks.plane or self.task.masks_of(self.masks)
        fewest = masks.fewest_acs(self.k1[0])
        if self.espirit.probability and self.coils.n_coils[1] > 1 and fewest < least:
            raise ValueError(
                f"masks.acs starts at {fewest}, but ESPIRiT with a kernel of {self.espirit.kernel} needs {least} "
                "lines: raise masks.acs (or the shares of masks.pairs), lower espirit.kernel, or set "
                "espirit.probability to 0"
            )
        if self.snr[0] <= 0:
            raise ValueError(f"snr must be positive, got {self.snr}")
        return self

    def _check_planes(self) -> None:
        if not self.task.takes_plane_masks:
            raise ValueError(
                f"masks.plane leaves samples of two phase encodings out, and the task '{self.task.kind}' takes whole "
                "lines: leave masks.plane out, or take the task 'unrolled' or 'image'"
            )
        if self.readout_crop is not None:
            raise ValueError(
                f"readout_crop {self.readout_crop} cuts columns out of the image, which masks.plane lets alias along "
                "both axes: set readout_crop to null"
            )


@dataclass(frozen=True)
class SampleShape:
    """What all samples of a batch share.

    Attributes:
        n_coils: number of coils.
        k1: lines of the matrix.
        k0: columns of the matrix, before any are left out.
    """

    n_coils: int
    k1: int
    k0: int


def possible_sizes(config: SimulationConfig) -> list[tuple[str, int]]:
    """All sizes that a network may see of such samples, with the setting that each comes from."""
    found = [("k1", k1) for k1 in _sizes(config.k1, config)]
    if config.readout_crop is not None:
        return [*found, ("readout_crop", config.readout_crop)]
    return [*found, *(("k0", k0) for k0 in _sizes(config.k0, config))]


def _sizes(bounds: tuple[int, int], config: SimulationConfig) -> range:
    first = math.ceil(bounds[0] / config.multiple) * config.multiple
    return range(first, bounds[1] + 1, config.multiple)


@dataclass(frozen=True, eq=False)
class Drawn:
    """What a sample is drawn from, beside its slice or film.

    Attributes:
        config: what may be drawn.
        shape: coils and matrix.
        rng: draws everything.
        measured: coil maps, ``config.coils.load()``.
        boxes: what somebody marked in the slice, see `scanside_training.data.boxes`; None where no source has marks.
        judging: whether networks are judged by the sample, in a validation or test, rather than trained on it.
        kept: coil maps of measured k-space that were estimated before; None where they are not kept.
    """

    config: SimulationConfig
    shape: SampleShape
    rng: np.random.Generator
    measured: Tensor | None = None
    boxes: Boxes | None = None
    judging: bool = False
    kept: KeptMaps | None = None

    @property
    def grid(self) -> tuple[int, int]:
        """``(k1, k0)``, before columns are left out."""
        return self.shape.k1, self.shape.k0


def draw_shape(config: SimulationConfig, rng: np.random.Generator) -> SampleShape:
    """Draw what a batch shares."""
    k1, k0 = (
        int(rng.integers(math.ceil(low / config.multiple), high // config.multiple, endpoint=True))
        * config.multiple
        for low, high in (config.k1, config.k0)
    )
    return SampleShape(int(rng.integers(*config.coils.n_coils, endpoint=True)), k1, k0)


def middle_shape(config: SimulationConfig) -> SampleShape:
    """What `draw_shape` draws on average, for where nothing is left to chance."""
    n_coils, k1, k0 = ((low + high) // 2 for low, high in (config.coils.n_coils, config.k1, config.k0))
    return SampleShape(n_coils, _multiple(k1, config.k1, config), _multiple(k0, config.k0, config))


def _multiple(n: int, bounds: tuple[int, int], config: SimulationConfig) -> int:
    low, high = math.ceil(bounds[0] / config.multiple), bounds[1] // config.multiple
    return min(max(round(n / config.multiple), low), high) * config.multiple


def simulate_sample(pixels: Tensor, drawn: Drawn) -> Sample:
    """Scan a slice or a film, as the task says.

    Args:
        pixels: ``(y, x)``, ``(t, y, x)`` where the task takes films, or tissues ``(3, y, x)`` where there are
            sequences, real or complex, of any size; or measured k-space instead of a slice, ``(coil, k1, x)``, with
            masks over two phase encodings ``(coil, k1, k0)``, or ``(2, coil, k1, k0)`` with coil maps.
        drawn: what else the sample is drawn from.

    Returns:
        float32 tensors, all intensities divided by ``scale``; Scanside's own tasks give:
        ``image``: what goes in, ``(1 or 2, k1, k0)``, of films ``(2, time, k1, k0)``;
        ``target``: what should come out, of the same shape: the noise-free coil images combined with the maps that
        the network gets, ``Σ_coil conj(map) · image_coil``, so that their phases agree;
        ``maps``: ``(coil, 2, k1, k0)``, where networks apply the scan's operator; the same for all frames;
        ``mask``: ``(k1, 1)`` or ``(time, k1, 1)``, 1 where a line was acquired, the centre of k-space at ``k1 // 2``,
        or ``(k1, k0)`` where there are two phase encodings;
        ``roi``: ``(1, k1, k0)``, 1 inside the object, the same for all frames;
        ``scale``: ``()``, `scanside.recon.scaling.image_scale` or `film_scale` of the image that goes in;
        ``noise``: ``()``, standard deviation of the noise's real and imaginary part per coil and voxel;
        ``marked``: ``(1, k1, k0)``, 1 where somebody marked the slice, where some source has marks;
        ``low_rank_sparse``: the film that networks begin with, like ``image``, where the task says so;
        ``te``, ``tr``: ``()`` each, echo and repetition time in ms, where there are `SimulationConfig.sequences`.

    Raises:
        ConfigError: the ACS lines are more than the acceleration leaves.
    """
    config = drawn.config
    told: Sample = {}
    if config.sequences:
        pixels, told = random_spin_echo(config.sequences, pixels, drawn.rng)
    return config.task.sample(pixels, drawn) | told


def some_columns(crop: int | None, roi: Tensor, rng: np.random.Generator) -> slice:
    """Columns of a sample: a window anywhere, but not beside the object, whose region ``(k1, k0)`` is given."""
    n = roi.shape[-1]
    if crop is None:
        return slice(None)
    occupied = torch.nonzero(roi.any(0)).flatten()
    low, high = (int(occupied[0]), int(occupied[-1])) if len(occupied) else (0, n - 1)
    first_middle, last_middle = low + crop // 4, high - crop // 4
    middle = int(rng.integers(first_middle, max(last_middle, first_middle), endpoint=True))
    first = min(max(middle - crop // 2, 0), n - crop)
    return slice(first, first + crop)


def complex_of(pixels: Tensor) -> Tensor:
    """Pixels as complex numbers."""
    return pixels if pixels.is_complex() else torch.complex(pixels, torch.zeros_like(pixels))


def object_of(target: Tensor) -> Tensor:
    """Where the object of an image ``(k1, k0)`` is.

    Unlike with the measure's mask, a few very bright pixels do not make the rest air.
    """
    magnitude = target.abs()
    return torch.from_numpy(object_mask(magnitude.clamp_max(float(image_scale(magnitude))).numpy()))


def white(shape: tuple[int, ...], rng: np.random.Generator) -> Tensor:
    """Complex noise whose real and imaginary part have a standard deviation of 1 each."""
    return torch.view_as_complex(torch.from_numpy(rng.standard_normal((*shape, 2), np.float32)))


def real_pairs(values: Tensor) -> Tensor:
    """Complex ``(*, k1, k0)`` as float32 ``(*, 2, k1, k0)``."""
    return torch.stack([values.real, values.imag], -3)
