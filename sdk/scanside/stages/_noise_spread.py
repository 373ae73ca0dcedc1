"""How far the noise of a k-space reaches into the images that stages make of it: by formula, or by replicas."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import torch

from scanside.errors import ConfigError
from scanside.items import Image, KSpace
from scanside.recon.noise_maps import grappa_deviation, matched_deviation, sense_deviation
from scanside.recon.resize import crop_or_pad
from scanside.recon.stacked import StackedMaps
from scanside.stage import Stage
from scanside.stages._axes import readout_of
from scanside.stages.fourier import Fourier
from scanside.stages.grappa import Grappa
from scanside.stages.partial_fourier import one_sided
from scanside.stages.sense import Sense

__all__ = ["Run", "analytic", "by_replicas", "frames_of", "without_formula"]

Run: TypeAlias = Callable[[KSpace], list[Image]]
"""The stages that make the images of a k-space."""

_REPLICAS = "set noise-maps.method to 'replicas'"


def analytic(stages: Sequence[Stage[Any, Any]], item: KSpace, images: Sequence[Image]) -> list[torch.Tensor]:
    """Standard deviation of each image's real part where that of the samples' is 1, by formula.

    Args:
        stages: that made the images, just now.
        item: of this k-space.
        images: these.

    Returns:
        ``(z, y, x)`` for each.

    Raises:
        ConfigError: there is no formula for these stages, or for this k-space.
    """
    if item.second_maps is not None:
        raise ConfigError(
            f"there is no formula for the noise of images of two sets of coil maps: {_REPLICAS}"
        )
    if (why := without_formula(stages)) is not None:
        raise ConfigError(why)
    first = stages[0]
    if isinstance(first, Sense):
        frames = _of_sense(first, item)
    else:
        assert isinstance(first, Grappa)
        frames = _of_grappa(first, item)
    return [
        crop_or_pad(frame, (image.data.shape[-1],), (-1,))
        for frame, image in zip(frames, images, strict=True)
    ]


def without_formula(stages: Sequence[Stage[Any, Any]]) -> str | None:
    """Why there is no formula for the noise of what stages make; None where there is one."""
    match stages:
        case [Sense()]:
            return None
        case [Grappa(), Fourier() as transform] if transform.config.combine == "maps":
            return None
    return (
        "there are formulas for the noise of 'sense', and of 'grappa' followed by 'fourier' with combine 'maps', not "
        f"for {' and '.join(type(stage).__name__ for stage in stages)}: {_REPLICAS}"
    )


def _of_sense(sense: Sense, item: KSpace) -> list[torch.Tensor]:
    if (why := sense.columns.cannot(item)) is not None:
        raise ConfigError(f"there is no formula for the noise of this SENSE image, as {why}: {_REPLICAS}")
    if sense.weight == 0:
        raise ConfigError(f"the formula for the noise of SENSE images needs sense.l2 > 0; else {_REPLICAS}")
    if sense.config.partial_fourier == "pocs" and one_sided(item):
        raise ConfigError(
            f"there is no formula for the noise of images that POCS completes: {_REPLICAS}, or sense.partial_fourier "
            "to 'none'"
        )
    assert item.coil_maps is not None
    maps = item.coil_maps.expand(*item.data.shape)
    factors = sense.factor.expand(*item.mask.shape[:-2], 1, 1, 1)
    return [
        sense_deviation(
            sense.columns.system(StackedMaps.of(maps[index], None), item.mask[index][0], sense.weight)
        )
        * factors[index]
        for index in frames_of(item)
    ]


def _of_grappa(filling: Grappa, item: KSpace) -> list[torch.Tensor]:
    weights = filling.weights_of(item)
    assert item.coil_maps is not None
    maps = item.coil_maps.expand(*item.data.shape)
    if weights is None:
        return [matched_deviation(maps[index], item.mask[index]) for index in frames_of(item)]
    values = weights.values.expand(*item.data.shape[:-4], *weights.values.shape[-2:])
    return [
        grappa_deviation(replace(weights, values=values[index]), item.mask[index], maps[index])
        for index in frames_of(item)
    ]


def by_replicas(run: Run, item: KSpace, n: int, strength: float, seed: int) -> list[torch.Tensor]:
    """The same for whatever makes the images, by adding noise to the samples and looking at what changes.

    Calibration lines stay as they are. What adds little noise finds how images answer to it where they are, whatever
    else they would do with more; what is linear does not tell the difference.

    Args:
        run: makes the images.
        item: k-space.
        n: number of replicas; the result is uncertain by 1 / √(2 n) of itself.
        strength: standard deviation of the noise that is added.
        seed: of the noise.

    Returns:
        ``(z, y, x)`` for each image: the deviation along the phase that it has there.
    """
    calibrated = item.replace(reference=item.reference or item)
    undisturbed = [image.data[0] for image in run(calibrated)]
    turns = [torch.sgn(image).conj() if image.is_complex() else None for image in undisturbed]
    squares = [torch.zeros_like(image.real) for image in undisturbed]
    generator = torch.Generator(item.data.device).manual_seed(seed)
    sampled = item.mask[..., None, :, :, None]
    readout = readout_of(item)
    for _ in range(n):
        noise = torch.randn(
            item.data.shape, dtype=item.data.dtype, device=item.data.device, generator=generator
        )
        noise *= 2**0.5 * strength * sampled
        if readout is not None:
            noise[..., : readout.start] = 0
            noise[..., readout.stop :] = 0
        for i, image in enumerate(run(calibrated.replace(data=item.data + noise))):
            change = image.data[0] - undisturbed[i]
            turn = turns[i]
            squares[i] += (change if turn is None else (change * turn).real).square()
    return [(one / n).sqrt() / strength for one in squares]


def frames_of(item: KSpace) -> list[tuple[int, ...]]:
    """Places along the leading axes whose images are made, in the order in which they are made."""
    return [
        index for index in np.ndindex(*item.mask.shape[:-2]) if item.wanted is None or index[0] in item.wanted
    ]
