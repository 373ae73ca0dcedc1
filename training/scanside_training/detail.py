"""How much of the truth's detail an image has, and how much detail that is not the truth's.

Detail is what a Laplacian of Gaussian lets through (`laplacian_of_gaussian`). Within each window of 11 × 11 pixels
the image's detail is split into a multiple of the truth's, the one that fits best, and what is left over: nothing in
the truth explains that. A smooth image has lost detail and invented none; one that looks as sharp as the truth may
have kept the truth's detail, or invented its own.

Noise and aliasing are left over as well, since nothing in an image tells them from anatomy that is not there: compare
networks on the same scans. Of white noise in a window, by chance about a twenty-fifth counts as explained.
"""

from __future__ import annotations

import torch
from torch.nn.functional import avg_pool2d

from scanside.metrics import Real
from scanside_training.losses.frequencies import laplacian_of_gaussian

__all__ = ["detail"]

_WINDOW = 11


def detail(image: Real, reference: Real) -> dict[str, float]:
    """Detail of a magnitude image, as shares of the energy of the reference's.

    Args:
        image: ``(y, x)``, on the scale of the reference.
        reference: the same shape, at least 25 × 25.

    Returns:
        ``kept``: energy that the reference explains, 1 for equal images; ``invented``: energy that it does not, 0 for
        equal images. Their sum is the energy of the image's detail. Nothing for a reference without detail.
    """
    a, b = (laplacian_of_gaussian(torch.from_numpy(one)[None, None].double()) for one in (image, reference))
    if not float(b.abs().max()) > 1e-9 * float(abs(reference).max()):
        return {}
    aa, ab, bb = (avg_pool2d(product, _WINDOW, stride=1) for product in (a * a, a * b, b * b))
    # Where the reference has no detail there is nothing that it could explain.
    explained = torch.where(bb > 0, ab.square() / bb, 0)
    energy = bb.sum()
    return {"kept": float(explained.sum() / energy), "invented": float((aa - explained).sum() / energy)}
