"""Trajectories in the readouts against the kind of trajectory in the header."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from scanside.agreement.finding import Finding
from scanside.mrd.header import Encoding
from scanside.mrd.readouts import Readouts

__all__ = ["Trajectories"]

_SAME = 0.02  # of a readout's length: so far points of parallel readouts may lie apart
_PLACES = np.array([0, 0.25, 0.5, 0.75, 1])

Points = npt.NDArray[np.float64]


class Trajectories:
    """Looks whether readouts under a Cartesian header are parallel lines, where they carry their trajectory.

    Args:
        encoding: the encoding space of the readouts.
    """

    def __init__(self, encoding: Encoding) -> None:
        self.changed = False
        self._named = encoding.trajectory
        self._is_cartesian = encoding.trajectory in ("cartesian", "epi")
        self._first: Points | None = None
        self._n_lines = 0
        self._n_carry = 0
        self._n_others = 0
        self._largest_angle = 0.0
        self._first_other = 0
        self._n_dimensions = 0
        self._is_curved = False
        self._uneven = 0.0

    def take(self, lines: Readouts, flags: int) -> None:
        """Look at a block."""
        self._n_lines += len(lines)
        trajectory = lines.trajectory
        if trajectory is None or not trajectory.size:
            return
        n_samples = trajectory.shape[1]
        points = trajectory[:, np.rint(_PLACES * (n_samples - 1)).astype(np.intp)].astype(np.float64)
        self._n_carry += int(points.any(axis=(1, 2)).sum())
        if not self._is_cartesian or not points.any():
            return
        shape = points - points[:, :1]
        if self._first is None:
            # The first that goes anywhere: some producers leave those of calibration lines at zero.
            self._first = shape[int(np.flatnonzero(shape.any(axis=(1, 2)))[0])] if shape.any() else None
        if self._first is None:
            return
        self._n_dimensions = trajectory.shape[2]
        length = float(np.linalg.norm(self._first[-1]))
        extent = float(np.abs(self._first).max())
        if not (self._n_others or self._is_curved or self._uneven):
            self._look_at_first(self._first, length, extent)
        turned = shape[:, ::-1] - shape[:, -1:]
        apart = np.minimum.reduce(
            [
                np.linalg.norm(way - self._first, axis=2).max(axis=1)
                for way in (shape, -shape, turned, -turned)
            ]
        )
        others = ~(apart <= _SAME * max(length, extent))
        if not others.any():
            return
        if not self._n_others:
            self.changed = True
            self._first_other = int(lines.headers["scan_counter"][others][0])
        self._n_others += int(others.sum())
        ends = shape[others, -1]
        norms = np.linalg.norm(ends, axis=1) * length
        cosines = np.abs(ends @ self._first[-1])[norms > 0] / norms[norms > 0]
        angles = np.degrees(np.arccos(np.clip(cosines, 0, 1)))
        self._largest_angle = max(self._largest_angle, float(angles.max(initial=0)))

    def _look_at_first(self, points: Points, length: float, extent: float) -> None:
        """A Cartesian readout is straight, and its samples lie at equal distances."""
        along = points[-1] / length if length else points[-1]
        places = points @ along
        across = float(np.linalg.norm(points - places[:, None] * along, axis=1).max())
        uneven = float(np.abs(places - length * _PLACES).max())
        self._is_curved = across > _SAME * extent
        self._uneven = uneven / length if uneven > _SAME * extent and not self._is_curved else 0.0
        self.changed |= self._is_curved or self._uneven > 0

    def findings(self, *, ended: bool) -> Iterator[tuple[str, Finding]]:
        """What contradicts, each with a name."""
        if self._is_cartesian and (self._n_others or self._is_curved):
            ways = ["they are curved"] if self._is_curved else []
            if self._n_others:
                angle = f", by up to {self._largest_angle:.0f}°" if self._largest_angle > 1 else ""
                ways.append(
                    f"{self._n_others} of {self._n_carry} run otherwise than the first{angle}, first that with scan "
                    f"counter {self._first_other}"
                )
            text = (
                f"the header's trajectory is {self._named}, but the readouts carry a trajectory of "
                f"{self._n_dimensions} dimensions in which they are no parallel lines: {'; '.join(ways)}. Placed by "
                "their counters they give no image: correct <trajectory> in the header, and take a pipeline that "
                "grids by the trajectory"
            )
            yield "trajectory", Finding("error", text)
        elif self._is_cartesian and self._uneven:
            text = (
                f"the header's trajectory is {self._named}, but by the trajectory that readouts carry their samples "
                f"do not lie at equal distances (up to {100 * min(self._uneven, 1):.0f} % of a readout's length "
                "apart): they are placed as if they did; put the stage 'epi' before 'accumulate'"
            )
            yield "sample spacing", Finding("warning", text, corrected_by="epi")
        if ended and not self._is_cartesian and self._n_lines and not self._n_carry:
            text = (
                f"the header's trajectory is {self._named}, but no readout carries a trajectory: where the samples "
                "lie must be known from elsewhere"
            )
            yield "no trajectory", Finding("warning", text)
