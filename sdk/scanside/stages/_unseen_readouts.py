"""A learned image of spokes or spiral arms is checked without the truth: some are left out, and both reconstructions
predict them, as `scanside.stages._self_check` does it with lines.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from scanside.items import Samples
from scanside.recon.left_out import gain
from scanside.recon.noncartesian.nufft import Nufft
from scanside.stages._samples import flat_points
from scanside.stages._self_check import NOISE_FLOOR, SIGNAL_FLOOR, Verdict, word_of

__all__ = ["UnseenReadouts"]

_ONE_OF, _FEWEST, _MOST = 8, 3, 8
_MIDDLE = 0.1
"""Cycles per voxel around the centre where all readouts meet, and nothing is unseen."""


@dataclass(frozen=True, eq=False)
class UnseenReadouts:
    """Samples of an image, without some of its readouts, and these.

    Attributes:
        seen: what reconstructions are given.
        left_out: the others.
    """

    seen: Samples
    left_out: Samples

    @classmethod
    def of(cls, item: Samples) -> UnseenReadouts | str:
        """Leave readouts out, spread evenly over those of an image; or say why that cannot be."""
        n = item.data.shape[1]
        n_out = min(n // _ONE_OF, _MOST)
        if n_out < _FEWEST:
            return (
                f"there are no readouts to leave out: {n} were acquired, and {_FEWEST * _ONE_OF} are needed"
            )
        where = torch.zeros(n, dtype=torch.bool)
        where[((torch.arange(n_out) + 0.5) * n / n_out).long()] = True
        return cls(_some(item, ~where), _some(item, where))

    def judge(self, learned: torch.Tensor, against: str, classical: torch.Tensor, noise: float) -> Verdict:
        """Compare two images ``(z, y, x)`` by what they say of the readouts that were left out.

        Args:
            learned: the network's.
            against: name of the classical reconstruction.
            classical: its image.
            noise: standard deviation of the noise's real part in a sample.
        """
        outside = self.left_out.points.norm(dim=-1) > _MIDDLE
        mine, theirs = (self._energies(image, outside) for image in (learned, classical))
        n_coils, n_samples = len(self.left_out.data), float(outside.sum()) / len(outside)
        signal = float((self.left_out.data.abs().square() * outside).sum()) / len(outside)
        per_readout = 2 * noise**2 * n_coils * n_samples
        found = gain(mine, theirs, per_readout, NOISE_FLOOR * per_readout + SIGNAL_FLOOR * signal)
        return Verdict(word_of(found), found.db, against, len(mine))

    def _energies(self, image: torch.Tensor, outside: torch.Tensor) -> torch.Tensor:
        """``(readout,)`` energies of what an image is off by."""
        item = self.left_out
        assert item.coil_maps is not None
        views = (item.coil_maps * image).reshape(len(item.data), *item.shape)
        predicted = Nufft(flat_points(item), item.shape).forward(views).reshape(item.data.shape)
        return ((predicted - item.data).abs().square() * outside).sum((0, 2))


def _some(item: Samples, readouts: torch.Tensor) -> Samples:
    return item.replace(
        data=item.data[:, readouts.to(item.data.device)],
        points=item.points[readouts.to(item.points.device)],
        headers=item.headers[:, readouts.numpy()],
    )
