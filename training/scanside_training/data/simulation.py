"""From a slice to a training sample: object, coils, noise and sampling of an imaginary scan.

The scan is Cartesian and two-dimensional, images are ``(k1, k0)``. Its readout k0 is fully sampled, so that it
separates: noise of orthonormal transforms is added between image and k-space, and columns may be left out at the end
without anything wrapping. Along k1 the whole field of view is kept, as aliasing asks for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from scanside.metrics import object_mask
from scanside.recon.film_start import Start
from scanside.recon.fourier import to_image, to_kspace
from scanside.recon.scaling import image_scale
from scanside.recon.sense import cg_sense
from scanside_training.data.appearance import AppearanceConfig, random_appearance
from scanside_training.data.calibration import EspiritConfig, espirit_maps
from scanside_training.data.coils import CoilsConfig, random_maps
from scanside_training.data.placement import PlacementConfig, random_scan_of
from scanside_training.data.sampling import FrameMaskConfig, MaskConfig, random_mask
from scanside_training.data.settings import FloatRange, IntRange, Settings

__all__ = [
    "DynamicTask",
    "ImageTask",
    "SampleShape",
    "SimulationConfig",
    "UnrolledTask",
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


class UnrolledTask(Settings):
    """The network gets ``Aᴴ y``, coil maps and mask, and applies the scan's operator itself."""

    kind: Literal["unrolled"] = "unrolled"


class ImageTask(Settings):
    """The network gets an image, and puts out an image."""

    kind: Literal["image"] = "image"
    input: Literal["zero-filled", "cg-sense"] = "zero-filled"
    """How the image that goes in is made."""
    channels: Literal["magnitude", "complex"] = "magnitude"
    """One channel, or two (real, imaginary)."""
    iterations: int = Field(default=10, ge=1)
    """``cg-sense``: conjugate gradient steps at most."""
    tolerance: float = Field(default=1e-5, gt=0)
    """``cg-sense``: residual at which they stop, as that of the stage ``sense``."""
    l2: float = Field(default=0.002, ge=0)
    """``cg-sense``: Tikhonov weight, relative to the largest eigenvalue of ``Aᴴ A``."""


class DynamicTask(Settings):
    """The network gets the zero-filled frames of a film, and of those that apply the scan's operator coil maps and
    masks; `scanside_training.data.films` tells how a film is scanned.
    """

    kind: Literal["dynamic"] = "dynamic"
    time: int = Field(default=12, ge=2)
    """Frames of a sample: consecutive ones of a beat, from any of it on; the beat closes."""
    masks: FrameMaskConfig = FrameMaskConfig()
    """Which lines each frame acquires; ``simulation.masks`` is for single images."""
    start: Start | None = None
    """The film that networks begin with, where they take one: made of the whole film, before columns are left out."""


class SimulationConfig(Settings):
    """Which scans are simulated, and what the network gets of them."""

    task: Annotated[UnrolledTask | ImageTask | DynamicTask, Field(discriminator="kind")] = UnrolledTask()
    """What a sample holds."""
    k1: IntRange = (160, 208)
    """Matrix along phase encoding, drawn for every batch."""
    k0: IntRange = (192, 256)
    """Matrix along the readout, drawn for every batch."""
    multiple: int = Field(default=16, ge=2)
    """Matrices are multiples of this, as networks that halve images several times need them."""
    readout_crop: int | None = Field(default=96, ge=16)
    """Neighbouring columns of the image that make a sample, to save time; ``null`` keeps all."""
    placement: PlacementConfig = PlacementConfig()
    appearance: AppearanceConfig = AppearanceConfig()
    coils: CoilsConfig = CoilsConfig()
    masks: MaskConfig = MaskConfig()
    snr: FloatRange = (15.0, 200.0)
    """Bright tissue (99 % quantile of the magnitude) over the standard deviation of the real and of the imaginary
    part of the noise, in the fully sampled combined image. Logarithms are drawn with equal weight."""
    espirit: EspiritConfig = EspiritConfig()

    @model_validator(mode="after")
    def _consistent(self) -> SimulationConfig:
        for name, (low, high) in (("k1", self.k1), ("k0", self.k0)):
            if high // self.multiple < max(math.ceil(low / self.multiple), 1):
                raise ValueError(f"{name}: there is no multiple of {self.multiple} within {(low, high)}")
        crop = self.readout_crop
        if crop is not None and (crop % self.multiple or crop > self.k0[0]):
            raise ValueError(
                f"readout_crop {crop} must be a multiple of {self.multiple} and not larger than k0 {self.k0}"
            )
        least = 2 * self.espirit.kernel - 1
        masks = self.task.masks if isinstance(self.task, DynamicTask) else self.masks
        if self.espirit.probability and self.coils.n_coils[1] > 1 and masks.acs[0] < least:
            raise ValueError(
                f"masks.acs starts at {masks.acs[0]}, but ESPIRiT with a kernel of {self.espirit.kernel} needs "
                f"{least} lines: raise masks.acs, lower espirit.kernel, or set espirit.probability to 0"
            )
        if self.snr[0] <= 0:
            raise ValueError(f"snr must be positive, got {self.snr}")
        return self


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


def simulate_sample(
    config: SimulationConfig,
    pixels: Tensor,
    shape: SampleShape,
    rng: np.random.Generator,
    measured: Tensor | None = None,
) -> Sample:
    """Scan a slice.

    Args:
        config: what may be drawn.
        pixels: ``(y, x)`` real or complex slice of any size.
        shape: coils and matrix.
        rng: draws everything.
        measured: ``config.coils.load()``.

    Returns:
        float32 tensors, all intensities divided by ``scale``:
        ``image``: what goes in, ``(1 or 2, k1, k0)``;
        ``target``: what should come out, of the same shape: the noise-free coil images combined with the maps that
        the network gets, ``Σ_coil conj(map) · image_coil``, so that their phases agree;
        ``maps``: ``(coil, 2, k1, k0)``, unrolled task only;
        ``mask``: ``(k1, 1)``, 1 where a line was acquired, the centre of k-space at ``k1 // 2``;
        ``roi``: ``(1, k1, k0)``, 1 inside the object;
        ``scale``: ``()``, `scanside.recon.scaling.image_scale` of the image that goes in;
        ``noise``: ``()``, standard deviation of the noise's real and imaginary part per coil and voxel.

    Raises:
        ConfigError: the ACS lines are more than the acceleration leaves.
    """
    task = config.task
    assert not isinstance(task, DynamicTask)
    grid = (shape.k1, shape.k0)
    object_ = random_scan_of(
        config.placement, random_appearance(config.appearance, complex_of(pixels), rng), grid, rng
    )
    maps = random_maps(config.coils, measured, shape.n_coils, grid, rng)
    coils = maps * object_
    noise = float(image_scale(object_)) / math.exp(rng.uniform(*np.log(config.snr)))
    lines, n_acs = random_mask(config.masks, shape.k1, rng)
    mask = torch.from_numpy(lines)[:, None]

    hybrid = to_kspace(coils, (-2,)) * mask
    hybrid[:, lines] += noise * white((shape.n_coils, int(lines.sum()), shape.k0), rng)
    if shape.n_coils > 1 and rng.random() < config.espirit.probability:
        first = shape.k1 // 2 - n_acs // 2
        maps = espirit_maps(config.espirit, to_kspace(hybrid[:, first : first + n_acs], (-1,)), grid)
    target = (maps.conj() * coils).sum(0)
    image = _input(task, hybrid, maps, mask)
    scale = image_scale(image)
    roi = object_of(target)
    columns = some_columns(config.readout_crop, roi, rng)
    sample = {
        "mask": mask.float(),
        "roi": roi[None, :, columns].float(),
        "scale": scale,
        "noise": noise / scale,
    }
    if isinstance(task, ImageTask) and task.channels == "magnitude":
        magnitudes = {"image": image.abs(), "target": target.abs()}
        return sample | {name: values[None, :, columns] / scale for name, values in magnitudes.items()}
    sample["image"] = real_pairs(image[:, columns] / scale)
    sample["target"] = real_pairs(target[:, columns] / scale)
    if isinstance(task, UnrolledTask):
        sample["maps"] = real_pairs(maps[..., columns])
    return sample


def _input(task: UnrolledTask | ImageTask, hybrid: Tensor, maps: Tensor, mask: Tensor) -> Tensor:
    """The image that goes in, complex ``(k1, k0)``.

    `hybrid` is k-space along k1, 0 where nothing was acquired, and image along k0.
    """
    if isinstance(task, ImageTask) and task.input == "cg-sense":
        result = cg_sense(
            to_kspace(hybrid, (-1,))[:, None],
            maps[:, None],
            mask.mT,
            l2=task.l2,
            tolerance=task.tolerance,
            max_iterations=task.iterations,
        )
        return result.solution[0]
    return (maps.conj() * to_image(hybrid, (-2,))).sum(0)


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
