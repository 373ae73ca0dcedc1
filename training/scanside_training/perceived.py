"""How like images look: measures that follow what people see or say of them, beside PSNR and SSIM.

High-frequency error norm: Ravishankar & Bresler, IEEE TMI 30:1028-1041 (2011). Visual information fidelity: Sheikh &
Bovik, IEEE Trans Image Process 15:430-444 (2006), in pixels, computed by torchmetrics. HaarPSI: Reisenhofer et al.,
*A Haar wavelet-based perceptual similarity index for image quality assessment*, Signal Process Image Commun
61:33-43 (2018). Of knees and brains that networks made, radiologists agree with VIF and HFEN more than with PSNR and
SSIM: Mason et al., IEEE TMI 39:1064-1072 (2020).
"""

from __future__ import annotations

import torch
from torch.nn.functional import avg_pool2d, conv2d, pad
from torchmetrics.functional.image import visual_information_fidelity

from scanside.metrics import Real
from scanside_training.losses.frequencies import laplacian_of_gaussian

__all__ = ["LEAST", "perceived"]

LEAST = 41
"""Width and height that images must have: VIF halves them three times, and its last window is large."""

_GREY = 255.0
"""The peak of images for which the constants of VIF and HaarPSI were found."""
_HAAR_C, _HAAR_ALPHA = 30.0, 4.2


def perceived(image: Real, reference: Real) -> dict[str, float]:
    """Measures of a magnitude image; the reference's maximum is the peak.

    Args:
        image: ``(y, x)``, on the scale of the reference.
        reference: the same shape, at least 41 × 41, not zero.

    Returns:
        ``hfen``, 0 for equal images; ``vif`` and ``haarpsi``, 1 for equal images. Nothing for a reference without
        structure.
    """
    scale = _GREY / float(reference.max())
    a, b = (torch.from_numpy(scale * one)[None, None].double() for one in (image, reference))
    high_a, high_b = laplacian_of_gaussian(a), laplacian_of_gaussian(b)
    if float(reference.min()) == float(reference.max()):
        return {}
    return {
        "hfen": float((high_a - high_b).norm() / high_b.norm()),
        "vif": float(visual_information_fidelity(a, b)),
        "haarpsi": _haarpsi(a, b),
    }


def _haarpsi(image: torch.Tensor, reference: torch.Tensor) -> float:
    """From ``(1, 1, y, x)``, after halving, which is what an eye at some distance sees."""
    a, b = (_haar(avg_pool2d(one, 2)) for one in (image, reference))
    fine_a, fine_b = a[:, :, :2].abs(), b[:, :, :2].abs()
    similar = ((2 * fine_a * fine_b + _HAAR_C) / (fine_a.square() + fine_b.square() + _HAAR_C)).mean(2)
    weights = torch.maximum(a[:, :, 2].abs(), b[:, :, 2].abs())
    share = (torch.sigmoid(_HAAR_ALPHA * similar) * weights).sum() / weights.sum()
    return float((torch.logit(share) / _HAAR_ALPHA).square())


def _haar(image: torch.Tensor) -> torch.Tensor:
    """Haar wavelets of three scales, horizontal and vertical: ``(1, direction, scale, y, x)``."""
    found = []
    for scale in (1, 2, 3):
        n = 2**scale
        step = torch.full((n, n), 2.0**-scale, dtype=image.dtype)
        step[n // 2 :] *= -1
        padded = pad(image, (n // 2 - 1, n // 2, n // 2 - 1, n // 2))
        found.append(torch.cat([conv2d(padded, one[None, None]) for one in (step, step.mT)], dim=1))
    return torch.stack(found, dim=2)
