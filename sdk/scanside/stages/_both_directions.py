"""Blocks of lines for dual-polarity GRAPPA: kernels from calibration lines, and the lines that they make agree."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from scanside.items import Readouts
from scanside.recon.epi.dual_polarity import DualPolarity, Lines

__all__ = ["consistent", "kernels_of"]

Ways = Sequence[npt.NDArray[np.bool_]]


def kernels_of(runs: Sequence[Readouts], backwards: Ways) -> DualPolarity:
    """Kernels from calibration lines of one slice; of a line that came again in a direction, the latest counts.

    Args:
        runs: the lines, corrected by navigators, all forwards.
        backwards: ``(n,)`` of each run, which lines were reversed.

    Raises:
        CalibrationError: too few came in both directions.
    """
    ways: tuple[dict[int, Lines], dict[int, Lines]] = {}, {}
    for run, which in zip(runs, backwards, strict=True):
        k1 = run.headers["idx"]["kspace_encode_step_1"].tolist()
        for place, way, samples in zip(k1, which.tolist(), run.samples, strict=True):
            ways[way][place] = samples
    return DualPolarity(*ways)


def consistent(kernels: DualPolarity, runs: Sequence[Readouts], backwards: Ways) -> list[Readouts]:
    """What forward echoes would have measured of the lines of one image.

    Args:
        kernels: of its slice.
        runs: its lines, corrected by navigators, all forwards.
        backwards: ``(n,)`` of each run, which lines were reversed.

    Raises:
        CalibrationError: the references are too few for lines that lie so far apart.
        ShapeError: lines do not fit them, or one line came more than once.
    """
    made = kernels.corrected(
        np.concatenate([run.samples for run in runs]),
        np.concatenate([run.headers["idx"]["kspace_encode_step_1"] for run in runs]),
        np.concatenate(list(backwards)),
    )
    ends = np.cumsum([len(run) for run in runs])[:-1]
    return [run.with_samples(part) for run, part in zip(runs, np.split(made, ends), strict=True)]
