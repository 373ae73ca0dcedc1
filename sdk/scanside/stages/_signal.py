"""What of a scan's signal decides how well it can be reconstructed: how strong it is, and where it was acquired."""

from __future__ import annotations

import math

import numpy as np
import torch

from scanside.items import KSpace
from scanside.recon.fourier import to_image
from scanside.recon.noise_level import noise_level
from scanside.recon.partial_fourier import Band, sampled_band
from scanside.recon.scaling import image_scale
from scanside.stages._axes import readout_of
from scanside.stages._calibration import calibration_region_of, has_middle
from scanside.stages.partial_fourier import planned_band

__all__ = ["acquired_band", "energy_beyond", "noise_of", "noise_of_item", "snr_of"]

_OUTERMOST = 8  # the energy beyond a band is told from the last of so many parts of its lines


def noise_of(data: torch.Tensor, mask: torch.Tensor, readout: slice | None) -> torch.Tensor:
    """The noise level of an image ``(coil, k2, k1, k0)``, or of a window ``(time, coil, k2, k1, k0)`` of images."""
    if data.ndim == 4:
        return noise_level(data[:, 0], mask[0], readout)
    acquired = [frame for frame, lines in enumerate(mask.flatten(1).any(1).tolist()) if lines]
    levels = [noise_level(data[frame, :, 0], mask[frame, 0], readout) for frame in acquired]
    return torch.stack(levels).square().mean().sqrt()


def noise_of_item(item: KSpace) -> float:
    """The noise level of all images of a k-space together."""
    data, mask = item.data, item.mask
    if data.ndim > 5:
        data, mask = data.flatten(0, -5), mask.flatten(0, -3)
    return float(noise_of(data, mask, readout_of(item)))


def snr_of(item: KSpace, noise: float) -> float | None:
    """Bright tissue over the standard deviation of the noise's real part, as in `Sampling.snr` of a manifest.

    Bright tissue is seen in the image of the lines around the centre, which is complete but coarse along k1: what is
    both bright and thin seems darker there. Where no lines lie around it, the image is folded, and seems brighter.
    Both may be wrong by a factor of 2.

    Args:
        item: a slice, of one frame or several.
        noise: of its lines.

    Returns:
        None where there is no signal, or no noise.
    """
    # Lines of their own for calibration may have another contrast, so that the image's own are asked.
    n1 = item.data.shape[-2]
    data, mask = item.data.reshape(-1, *item.data.shape[-4:])[0][:, 0], item.mask.reshape(-1, n1)[0]
    rows = slice(0, n1)
    if has_middle(item):
        _, (_, rows) = calibration_region_of(item.replace(reference=None), "the signal")
    n_lines = int(mask[rows].sum())
    if noise <= 0 or not n_lines:
        return None
    share = n_lines / (rows.stop - rows.start)
    size = math.sqrt((rows.stop - rows.start) / n1)
    power = to_image(data[:, rows], (-2, -1)).abs().square().sum(0) - 2 * len(data) * share * noise**2
    signal = power.clamp_min(0).sqrt() * (size / share)
    return float(image_scale(signal)) / noise if bool(signal.any()) else None


def acquired_band(item: KSpace) -> Band:
    """First and last row along k1 of the lines that were acquired, or might have been by the header's limits."""
    first, last = sampled_band(item.mask)
    planned = planned_band(item.encoding, 1, item.data.shape[-2])
    return (first, last) if planned is None else (min(first, planned[0]), max(last, planned[1]))


def energy_beyond(item: KSpace, band: Band, noise: float) -> float:
    """The part of a slice's energy that lies in rows of k-space outside a band, by estimate, from 0 to 1.

    It is thought to go on as it is in the outermost lines of the band, so that there is hardly more.
    """
    data = item.data.reshape(-1, *item.data.shape[-4:])[0, :, 0]
    rows = np.flatnonzero(item.mask.reshape(-1, item.mask.shape[-1])[0].cpu().numpy())
    if not len(rows):
        return 0.0
    lines = data[:, rows.tolist()].movedim(1, 0).flatten(1)
    energies = torch.view_as_real(lines).square().sum((1, 2)).cpu().numpy() - 2 * noise**2 * lines.shape[1]
    energies = np.maximum(energies, 0)
    outward = np.argsort(-np.abs(rows - item.mask.shape[-1] // 2))
    edge = energies[outward[: math.ceil(len(rows) / _OUTERMOST)]].mean()
    within = np.interp(np.arange(band[0], band[1] + 1), rows, energies).sum()
    beyond = edge * (item.mask.shape[-1] - (band[1] - band[0] + 1))
    return float(beyond / (within + beyond)) if within > 0 else 0.0
