"""How far an image is from a reference: NRMSE, PSNR and SSIM of magnitudes after the best scalar fit.

The scale of a magnitude image is arbitrary, so it is fitted first: the image is multiplied by the factor that
brings it closest to the reference in the least-squares sense. The peak that PSNR and SSIM refer to is the
reference's maximum.

SSIM is that of Wang et al., "Image quality assessment: from error visibility to structural similarity", IEEE
Trans Image Process 13:600 (2004), with a uniform 7 × 7 window and sample covariances, as scikit-image has it
by default.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from scanside.errors import NonFiniteError, ShapeError

__all__ = ["fill_holes", "fitted", "nrmse", "object_mask", "psnr", "ssim", "ssim_map"]

Real = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_WINDOW = 7
_K1, _K2 = 0.01, 0.03


def fitted(image: npt.ArrayLike, reference: npt.ArrayLike, where: Mask | None = None) -> tuple[Real, Real]:
    """Magnitudes of both, the image's scaled to fit the reference best.

    Args:
        image: any shape, real or complex.
        reference: the same shape.
        where: the fit looks at these elements only; same shape.

    Returns:
        The scaled image and the reference, float64.

    Raises:
        ShapeError: the shapes differ.
        NonFiniteError: a value is NaN or infinite: no figure could be trusted.
    """
    scaled, truth = (
        np.abs(np.asarray(image)).astype(np.float64),
        np.abs(np.asarray(reference)).astype(np.float64),
    )
    if scaled.shape != truth.shape:
        raise ShapeError(f"an image of shape {scaled.shape} cannot be compared with one of {truth.shape}")
    if not (np.isfinite(scaled).all() and np.isfinite(truth).all()):
        raise NonFiniteError("images with NaN or infinite values cannot be compared")
    inside = slice(None) if where is None else where
    power = float((scaled[inside] ** 2).sum())
    factor = float((scaled * truth)[inside].sum()) / power if power else 0.0
    return scaled * factor, truth


def nrmse(image: npt.ArrayLike, reference: npt.ArrayLike, where: Mask | None = None) -> float:
    """Root mean square difference after the fit, relative to the reference's root mean square.

    Args:
        image: any shape, real or complex.
        reference: the same shape, not zero everywhere.
        where: elements to look at, by default all.

    Raises:
        ShapeError: the shapes differ.
        NonFiniteError: a value is NaN or infinite.
    """
    scaled, truth = fitted(image, reference, where)
    inside = slice(None) if where is None else where
    return float(np.linalg.norm((scaled - truth)[inside]) / np.linalg.norm(truth[inside]))


def psnr(image: npt.ArrayLike, reference: npt.ArrayLike, where: Mask | None = None) -> float:
    """Peak signal-to-noise ratio in dB after the fit; infinite for equal images.

    Args:
        image: any shape, real or complex.
        reference: the same shape; its maximum, wherever it lies, is the peak.
        where: elements to look at, by default all.

    Raises:
        ShapeError: the shapes differ.
        NonFiniteError: a value is NaN or infinite.
    """
    scaled, truth = fitted(image, reference, where)
    inside = slice(None) if where is None else where
    mean_square = float(((scaled - truth)[inside] ** 2).mean())
    return float(10 * np.log10(truth.max() ** 2 / mean_square)) if mean_square else float("inf")


def ssim(image: npt.ArrayLike, reference: npt.ArrayLike) -> float:
    """Mean structural similarity after the fit, 1 for equal images.

    Args:
        image: ``(y, x)``, real or complex, at least 7 × 7.
        reference: ``(y, x)``.

    Raises:
        ShapeError: the shapes differ, are not two-dimensional or smaller than the window.
        NonFiniteError: a value is NaN or infinite.
    """
    return float(ssim_map(image, reference).mean())


def ssim_map(image: npt.ArrayLike, reference: npt.ArrayLike) -> Real:
    """Structural similarity around every pixel whose window lies within the image.

    Args:
        image: ``(y, x)``, real or complex, at least 7 × 7.
        reference: ``(y, x)``.

    Returns:
        ``(y - 6, x - 6)``.

    Raises:
        ShapeError: the shapes differ, are not two-dimensional or smaller than the window.
        NonFiniteError: a value is NaN or infinite.
    """
    a, b = fitted(image, reference)
    if a.ndim != 2 or min(a.shape) < _WINDOW:
        raise ShapeError(
            f"SSIM needs two-dimensional images of at least {_WINDOW} × {_WINDOW}, got {a.shape}"
        )
    peak = b.max()
    c1, c2 = (_K1 * peak) ** 2, (_K2 * peak) ** 2
    mean_a, mean_b = _window_mean(a), _window_mean(b)
    n = _WINDOW**2
    unbiased = n / (n - 1)
    variance_a = unbiased * (_window_mean(a * a) - mean_a**2)
    variance_b = unbiased * (_window_mean(b * b) - mean_b**2)
    covariance = unbiased * (_window_mean(a * b) - mean_a * mean_b)
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * covariance + c2) / (variance_a + variance_b + c2)
    similarity: Real = luminance * structure
    return similarity


def object_mask(combined: npt.ArrayLike) -> Mask:
    """Where the object is: above 8 % of the maximum, without thin bridges and specks, holes filled.

    Args:
        combined: ``(y, x)``, best the fully sampled and coil-combined image.

    Returns:
        ``(y, x)``: the thresholded magnitude, opened twice and filled with 4-neighbour connectivity.
    """
    magnitude = np.abs(np.asarray(combined))
    opened = magnitude > 0.08 * magnitude.max()
    for _ in range(2):
        opened = ~_grown(~opened, outside=True)
    for _ in range(2):
        opened = _grown(opened, outside=False)
    return fill_holes(opened)


def fill_holes(mask: Mask) -> Mask:
    """The mask ``(y, x)`` and everything that cannot be reached from outside over 4-neighbours."""
    reached = np.pad(np.zeros_like(mask), 1, constant_values=True)
    free = np.pad(~mask, 1, constant_values=True)
    n_before = 0
    # From what is reached to the end of its runs, row by row and column by column, until nothing is added.
    while (n := int(np.count_nonzero(reached))) > n_before:
        n_before = n
        reached = _whole_runs(_whole_runs(reached, free).T, free.T).T
    filled: Mask = ~reached[1:-1, 1:-1]
    return filled


def _whole_runs(reached: Mask, free: Mask) -> Mask:
    """Those runs of free pixels along rows that hold a pixel that is reached.

    A run may go on from the end of a row to the begin of the next: both lie in the margin, all of which is reached.
    """
    run = np.cumsum(~free, axis=None)
    found = np.zeros(run[-1] + 1, np.bool_)
    found[run[reached.ravel()]] = True
    return free & found[run].reshape(free.shape)


def _grown(mask: Mask, *, outside: bool) -> Mask:
    """The mask and its 4-neighbours; ``outside`` says whether the surroundings belong to it."""
    padded = np.pad(mask, 1, constant_values=outside)
    grown: Mask = (
        padded[1:-1, 1:-1] | padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]
    )
    return grown


def _window_mean(image: Real) -> Real:
    """Mean over the window around each pixel that has a whole one."""
    windows = np.lib.stride_tricks.sliding_window_view(image, (_WINDOW, _WINDOW))
    mean: Real = windows.sum(axis=-1).sum(axis=-1) / _WINDOW**2
    return mean
