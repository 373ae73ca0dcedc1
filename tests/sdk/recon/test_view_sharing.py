"""View sharing against a search line by line."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from scanside.errors import ShapeError
from scanside.recon.view_sharing import share_views
from scanside.sampling.temporal import frame_masks


def film(n_frames: int = 7, n_lines: int = 24, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Random samples ``(time, 2, 2, k1, 5)`` where lines were acquired, and the mask."""
    rng = np.random.default_rng(seed)
    masks = frame_masks("variable-density", 2 * n_lines, n_frames, acceleration=5, acs=3, rng=rng)
    mask = masks.reshape(n_frames, 2, n_lines)
    samples = rng.standard_normal((2, n_frames, 2, 2, n_lines, 5))
    data = (samples[0] + 1j * samples[1]) * mask[:, None, :, :, None]
    return torch.from_numpy(data.astype(np.complex64)), torch.from_numpy(mask)


def searched(
    data: npt.NDArray[np.complex64], mask: npt.NDArray[np.bool_], reach: int
) -> tuple[npt.NDArray[np.complex64], npt.NDArray[np.int64]]:
    result, distance = np.zeros_like(data), np.full(mask.shape, -1)
    n = len(mask)
    for t, k2, k1 in np.ndindex(*mask.shape):
        for away in range(reach + 1):
            near = [s for s in {t - away, t + away} if 0 <= s < n and mask[s, k2, k1]]
            if near:
                result[t, :, k2, k1] = np.mean([data[s, :, k2, k1] for s in near], axis=0)
                distance[t, k2, k1] = away
                break
    return result, distance


@pytest.mark.parametrize("reach", [None, 1, 2, 6])
@pytest.mark.parametrize("n_frames", [1, 2, 7])
def test_as_a_search_line_by_line(reach: int | None, n_frames: int) -> None:
    data, mask = film(n_frames)
    found, distance = share_views(data, mask, reach)
    expected, away = searched(data.numpy(), mask.numpy(), n_frames if reach is None else reach)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)
    np.testing.assert_array_equal(distance.numpy(), away)
    assert torch.equal(found.movedim(1, -2)[mask], data.movedim(1, -2)[mask])
    some, of_some = share_views(data, mask, reach, wanted=[n_frames - 1, 0])
    assert torch.equal(some, found[[n_frames - 1, 0]])
    assert torch.equal(of_some, distance[[n_frames - 1, 0]])


def test_what_keeps_still_comes_out_whole() -> None:
    rng = np.random.default_rng(1)
    whole = torch.from_numpy(rng.standard_normal((3, 1, 20, 8)).astype(np.complex64))
    mask = torch.from_numpy(frame_masks("kt", 20, 4, acceleration=4, acs=0, rng=rng))[:, None]
    found, distance = share_views(whole * mask[:, None, :, :, None], mask)
    assert torch.equal(found, whole.expand(4, -1, -1, -1, -1))
    assert int(distance.max()) == 3


def test_shapes_that_do_not_fit_are_refused() -> None:
    data, mask = film()
    with pytest.raises(ShapeError, match="needs k-space"):
        share_views(data[0], mask)
    with pytest.raises(ShapeError, match="needs k-space"):
        share_views(data, mask[:-1])
