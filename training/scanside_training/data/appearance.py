"""Another look of the same anatomy: contrast, receive shading, and phase."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from scanside.recon.scaling import film_scale, image_scale
from scanside_training.data.resample import smooth_field
from scanside_training.data.settings import FloatRange, Probability, Settings

__all__ = ["AppearanceConfig", "random_appearance"]

_KNOTS = 6
_BRIGHTEST = 1.5
"""Intensity, relative to the scale of the image, up to which the curve of a remapping is defined."""


class AppearanceConfig(Settings):
    """How far images stray from what was measured."""

    contrast: Probability = 0.7
    """How often intensities are remapped by a random smooth curve through the origin, monotone or not."""
    contrast_spread: float = 0.35
    """Standard deviation of the logarithm of the curve's slope from the origin to each of its knots."""
    gamma: FloatRange = (0.75, 1.35)
    """Exponent of magnitudes, drawn where intensities are remapped."""
    inverted: Probability = 0.0
    """How often intensities are turned around within the object: fluid, dark in T1-weighted images, becomes the
    brightest, as in T2-weighted ones. It comes before the remapping."""
    scalp: Probability = 0.0
    """How often the outermost layer is made brighter: fat under the skin, next to the coils, outshines the brain if
    it is not suppressed, and rings through the whole image where lines near the centre are missing."""
    scalp_gain: FloatRange = (1.5, 4.0)
    """By what it is multiplied; logarithms are drawn with equal weight."""
    scalp_depth: FloatRange = (0.015, 0.04)
    """How deep it reaches, relative to the edge of the image."""
    bias: Probability = 0.7
    """How often a smooth shading is applied."""
    bias_spread: float = 0.3
    """Standard deviation of the logarithm of the shading's knots."""
    phase: Probability = 0.9
    """How often a smooth phase is added to that of the image."""
    phase_rad: FloatRange = (0.1, 2.0)
    """Standard deviation of the phase that is added."""


def random_appearance(config: AppearanceConfig, image: Tensor, rng: np.random.Generator) -> Tensor:
    """The image with another contrast, shading and phase.

    Args:
        config: what may happen and how often.
        image: complex ``(y, x)``, or a film ``(t, y, x)``, all frames of which change alike.
        rng: draws it.

    Returns:
        Complex, the same shape; a pixel that was 0 stays 0.
    """
    shape = (image.shape[-2], image.shape[-1])
    gain: Tensor | None = None
    if config.inverted and rng.random() < config.inverted:
        image = _inverted(image, rng)
    if rng.random() < config.contrast:
        gain = _contrast_gain(config, image.abs(), rng)
    if config.scalp and rng.random() < config.scalp:
        brighter = _scalp_gain(config, image.abs(), rng)
        gain = brighter if gain is None else gain * brighter
    if rng.random() < config.bias:
        n = int(rng.integers(2, 5))
        shading = torch.exp(config.bias_spread * smooth_field(_normal(rng, 1, n, n), shape)[0])
        gain = shading if gain is None else gain * shading
    if gain is not None:
        image = image * gain
    if rng.random() < config.phase:
        image = image * _smooth_phase(rng.uniform(*config.phase_rad), shape, rng)
    return image


def _contrast_gain(config: AppearanceConfig, magnitude: Tensor, rng: np.random.Generator) -> Tensor:
    """Factor by which the remapping changes each pixel: exp of a curve over intensity, times a power of it."""
    level = (magnitude / _scale(magnitude)).clamp_max(_BRIGHTEST)
    curve = smooth_field(_normal(rng, 1, 1, _KNOTS).expand(1, 2, _KNOTS), (2, 256))[0, 0]
    gain = torch.exp(config.contrast_spread * curve)[(level * (255 / _BRIGHTEST)).long()]
    gamma = rng.uniform(*config.gamma)
    return gain * level.clamp_min(0.02) ** (gamma - 1)


def _inverted(image: Tensor, rng: np.random.Generator) -> Tensor:
    """What was dark within the object is bright; phases stay, and what is around the object stays dark."""
    magnitude = image.abs()
    level = (magnitude / _scale(magnitude)).clamp_max(_BRIGHTEST)
    white, power = rng.uniform(0.9, 1.3), rng.uniform(0.7, 2.0)
    turned = (1 - level / white).clamp_min(0.05) ** power
    still = magnitude if magnitude.ndim == 2 else magnitude.mean(0)
    # A soft border: the surface is darkened by air within its pixels, which would else become a bright line.
    inside = 1 - _surface(still, rng.uniform(0.005, 0.015))
    return torch.polar(_scale(magnitude) * inside * turned, image.angle())


def _surface(magnitude: Tensor, depth: float) -> Tensor:
    """1 at the surface of the object ``(y, x)`` and around it, 0 from some depth on (as a share of the image's edge).

    Inside is what has something of the object on all four sides, so that dark bone is inside too.
    """
    occupied = (magnitude > 0.1 * image_scale(magnitude)).float()
    inside = torch.ones_like(occupied)
    for axis in (0, 1):
        inside *= occupied.cummax(axis).values * occupied.flip(axis).cummax(axis).values.flip(axis)
    pixels = max(1, round(depth * max(magnitude.shape)))
    mean = torch.nn.functional.avg_pool2d(
        inside[None, None], 2 * pixels + 1, stride=1, padding=pixels, count_include_pad=True
    )
    return (2 * (1 - mean[0, 0])).clamp_max(1)


def _scalp_gain(config: AppearanceConfig, magnitude: Tensor, rng: np.random.Generator) -> Tensor:
    """Factor that falls from its largest value at the surface of the object to 1 some way below."""
    still = magnitude if magnitude.ndim == 2 else magnitude.mean(0)
    surface = _surface(still, rng.uniform(*config.scalp_depth))
    largest = math.exp(rng.uniform(*np.log(config.scalp_gain)))
    return 1 + (largest - 1) * surface


def _scale(magnitude: Tensor) -> Tensor:
    return image_scale(magnitude) if magnitude.ndim == 2 else film_scale(magnitude)


def _smooth_phase(spread: float, shape: tuple[int, int], rng: np.random.Generator) -> Tensor:
    """exp(iφ), φ a polynomial of second order plus a random field of low frequency, of this standard deviation."""
    y, x = (torch.linspace(-1, 1, n) for n in shape)
    terms = [y[:, None], x[None], y[:, None] * x, y[:, None] ** 2, x[None] ** 2]
    phase = torch.zeros(shape)
    for term, weight in zip(terms, rng.standard_normal(len(terms)), strict=True):
        phase = phase + float(weight) * term
    n = int(rng.integers(3, 5))
    phase = phase + 0.7 * smooth_field(_normal(rng, 1, n, n), shape)[0]
    phase = phase * (spread / phase.std()) + rng.uniform(-math.pi, math.pi)
    return torch.polar(torch.ones(shape), phase)


def _normal(rng: np.random.Generator, *shape: int) -> Tensor:
    return torch.from_numpy(rng.standard_normal(shape, np.float32))
