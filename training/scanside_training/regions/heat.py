"""Heat maps: where in a stack a classifier sees what it says.

Selvaraju et al., *Grad-CAM: visual explanations from deep networks via gradient-based localization*, ICCV 2017.
"""

from __future__ import annotations

import torch
from torch.nn.functional import interpolate

from scanside_training.regions.classifier import StackClassifier

__all__ = ["heat_maps"]


def heat_maps(classifier: StackClassifier, stacks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What speaks for a finding, pixel by pixel.

    Args:
        classifier: a trained one.
        stacks: ``(B, slice, y, x)`` magnitudes.

    Returns:
        Logits ``(B,)``; and maps ``(B, slice, y, x)``, 1 where most in the stack speaks for a finding, and 0 where
        nothing does. They have no gradient.

    Raises:
        ShapeError: as `StackClassifier.seen`.
    """
    # Validations run in inference mode, where nothing can have a gradient: it is left, and its tensors are copied.
    with torch.inference_mode(False), torch.enable_grad():
        features = classifier.seen(stacks.detach().clone()).detach().requires_grad_()
        logits = classifier.judged(features)
        (gradient,) = torch.autograd.grad(logits.sum(), features)
    weights = gradient.mean((-2, -1), keepdim=True)
    coarse = (weights * features.detach()).sum(2).relu()
    heat = interpolate(coarse, stacks.shape[-2:], mode="bilinear")
    largest = heat.amax((1, 2, 3), keepdim=True)
    return logits.detach(), heat / largest.clamp_min(torch.finfo(heat.dtype).tiny)
