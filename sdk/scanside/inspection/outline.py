"""The outline of a scan that was read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from scanside.agreement import Finding
from scanside.inspection.survey import EncodingSurvey, Survey
from scanside.mrd.flags import AcquisitionFlag, flagged
from scanside.mrd.header import MrdHeader
from scanside.outline import Outline

__all__ = ["outline_of"]

_CALIBRATION_ONLY = AcquisitionFlag.PARALLEL_CALIBRATION
_CALIBRATION_TOO = AcquisitionFlag.PARALLEL_CALIBRATION_AND_IMAGING


def outline_of(header: MrdHeader, survey: Survey, contradictions: Sequence[Finding]) -> Outline | None:
    """The outline of a scan; None where it has no readouts of an image in an encoding space that the header has.

    Args:
        header: of the scan.
        survey: what was read.
        contradictions: where header and readouts contradict each other.
    """
    space = next((one for one in survey.encodings if _has_images(one)), None)
    if space is None or space.encoding is None:
        return None
    lines, calibration = _lines(space)
    n1 = space.encoding.encoded.matrix[1]
    shape = max(space.shapes, key=lambda shape: space.shapes[shape])
    band = space.readout_band
    films = space.headers["idx"][["slice", "contrast", "set"]]
    return Outline(
        header=header,
        encoding=space.encoding,
        size=(n1, space.encoding.encoded.matrix[0] if band is None else band.n),
        n_coils=shape.n_coils,
        n_readouts=int(np.unique(films, return_counts=True)[1].max()),
        values={counter.name: counter.n_values for counter in space.counters},
        lines=lines,
        calibration=calibration,
        calibrated_elsewhere=any(
            other is not space and other.sampling is not None and bool(other.sampling.calibration.any())
            for other in survey.encodings
        ),
        whole_readouts=band is None or band.size >= band.n,
        n_dimensions=min(shape.n_dimensions for shape in space.shapes),
        reach=survey.reach.get(space.index),
        findings=tuple(contradictions),
    )


def _has_images(space: EncodingSurvey) -> bool:
    """Whether readouts of an encoding space are lines of an image, and not for calibration alone."""
    if space.encoding is None or not len(space.headers):
        return False
    return space.sampling is None or space.sampling.n_kspaces > 0


def _lines(
    space: EncodingSurvey,
) -> tuple[npt.NDArray[np.bool_] | None, npt.NDArray[np.bool_] | None]:
    """Lines of the k-spaces, and those that calibrate all of them: the box that holds the flagged ones."""
    lines: npt.NDArray[np.bool_]
    calibration: npt.NDArray[np.bool_]
    pattern, encoding = space.sampling, space.encoding
    if pattern is None or encoding is None:
        return None, None
    lines = pattern.imaging[None] if pattern.frames is None else np.unique(pattern.frames, axis=0)[:, None]
    calibration = pattern.calibration
    if encoding.limit("kspace_encode_step_2").n == 1:  # nothing is encoded there, whatever the matrix says
        lines = np.any(lines, axis=1, keepdims=True)
        calibration = np.any(calibration, axis=0, keepdims=True)
    if not calibration.any():
        return lines, None
    flags = space.headers["flags"]
    separate = flagged(flags, _CALIBRATION_ONLY) & ~flagged(flags, _CALIBRATION_TOO)
    if encoding.calibration_mode != "embedded" and separate.any():
        return lines, calibration
    box = np.zeros_like(calibration)
    k2, k1 = (np.flatnonzero(calibration.any(axis=axis)) for axis in (1, 0))
    box[k2[0] : k2[-1] + 1, k1[0] : k1[-1] + 1] = True
    return lines, np.logical_and(box, calibration | np.all(lines, axis=0))
