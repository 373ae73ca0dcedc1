"""Corrects the trajectory of spokes for gradients that lag behind."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Literal

import torch

from scanside.errors import CalibrationError
from scanside.items import Samples
from scanside.recon.noncartesian.delays import Delays, delayed, is_spokes, spoke_delays
from scanside.scan import Scan
from scanside.stage import Stage, StageConfig
from scanside.stages._samples import require_finite

__all__ = ["GradientDelays"]

logger = logging.getLogger(__name__)


class GradientDelays(Stage[Samples, Samples]):
    """Estimates by how many samples the gradients of a plane lag behind the trajectory, and moves its points.

    The estimate comes from the places where spokes cross, as in RING, and needs no readouts but those of the image;
    of a stack of stars, those of the partition in the middle of k-space. That of the first image of a slice and
    contrast serves all later ones, as coil maps do: in real time, that of the first window of spokes.

    The meta attribute ``GradientDelays`` holds the delays along x, y and between both (xy) in samples, and
    ``GradientDelaysError`` their standard error. An estimate that cannot be trusted corrects nothing: the operator
    is warned, and ``GradientDelaysRefused`` says why. Readouts that are no spokes of a plane pass unchanged, and the
    same attribute says so.

    Rosenzweig, Holme, Uecker, Magn Reson Med 2019;81:1898.
    """

    class Config(StageConfig):
        """Settings.

        Attributes:
            enabled: false where the trajectory is known to be right: samples pass unchanged.
            estimate: ``first``, delays of the first image of a slice serve all; ``each``, every image has its own.
        """

        enabled: bool = True
        estimate: Literal["first", "each"] = "first"

    config: Config

    def open(self, scan: Scan) -> None:
        """A new scan: no delays are known."""
        self._scan = scan
        self._known: dict[tuple[int, ...], Delays | str] = {}

    def process(self, item: Samples) -> Iterator[Samples]:
        """Move the points of an image's samples."""
        if not self.config.enabled:
            yield item
            return
        key = (item.encoding.index, item.counters.get("slice", 0), item.counters.get("contrast", 0))
        if self.config.estimate == "each" or key not in self._known:
            self._known[key] = self._estimate(item)
        known = self._known[key]
        meta = item.meta.copy()
        if isinstance(known, str):
            meta["GradientDelaysRefused"] = known
            yield item.replace(meta=meta)
            return
        meta["GradientDelays"] = [f"{one:.3f}" for one in (known.x, known.y, known.xy)]
        meta["GradientDelaysError"] = f"{known.error:.3f}"
        yield item.replace(points=delayed(item.points, known), meta=meta)

    def close(self) -> None:
        """Forget the delays."""
        self._known = {}

    def _estimate(self, item: Samples) -> Delays | str:
        """The delays, or why there are none."""
        chosen = _central_partition(item.points)
        points = item.points[chosen, :, :2]
        if not is_spokes(points):
            return "the readouts are no spokes of a plane"
        require_finite(item.data, item)
        try:
            found = spoke_delays(item.data[:, chosen], points)
        except CalibrationError as error:
            self._scan.warn(f"gradient delays are not corrected: {error}")
            return str(error)
        logger.info(
            "gradient delays of slice %d, contrast %d: x %.3f, y %.3f, xy %.3f samples (standard error %.3f)",
            item.counters.get("slice", 0),
            item.counters.get("contrast", 0),
            found.x,
            found.y,
            found.xy,
            found.error,
        )
        return found


def _central_partition(points: torch.Tensor) -> torch.Tensor:
    """Which readouts ``(readout)`` lie in the plane that is nearest to the centre of k-space; of slices, all."""
    if points.shape[-1] == 2:
        return torch.ones(len(points), dtype=torch.bool, device=points.device)
    height = points[..., 2].abs().amax(1)
    return height <= height.min() + 1e-4
