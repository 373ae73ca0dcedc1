"""Predicts the trajectory that gradients make from the one that readouts carry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from scanside.context import Context
from scanside.errors import ScanError, ScansideError
from scanside.items import Samples
from scanside.outline import Outline
from scanside.recon.noncartesian.girf import Girf
from scanside.scan import Scan
from scanside.stage import Stage, StageConfig
from scanside.stages._trajectory_files import read_girf

__all__ = ["PredictTrajectory"]


class PredictTrajectory(Stage[Samples, Samples]):
    """Moves points of k-space to where a gradient impulse response says that gradients bring them.

    Where the response tells of a field that comes everywhere (k0), its phase is taken from the samples. The meta
    attribute ``GirfShift`` holds by how far points moved at most, in cycles per field of view. What moves out of the
    image's k-space is held at its edge. Points move about the middle of the image: a slice far off the isocentre
    keeps the phase that the scanner's own shift to its place gives with other gradients than those asked for.

    A gradient that comes later by τ has the transfer ``exp(-2πi f τ)``. Axes are those of the readout (read, phase,
    slice) or of the patient (L, P, S); of a patient who lies straight, these are the scanner's x, y and z but for the
    sign, which matters to cross terms and field alone.

    Vannesjo et al., Magn Reson Med 2013;69:583.
    """

    class Config(StageConfig):
        """Settings.

        Attributes:
            file: the response, an HDF5 file with ``frequencies`` (n) in Hz from 0 on, complex ``transfer`` (3, n), or
                (3, 3, n) with cross terms, where the field comes everywhere complex ``field`` (3, n) in metres, and
                the attribute ``axes``, which is ``readout`` or ``patient``. None where it is not known: samples pass
                unchanged.
        """

        file: Path | None = None

    config: Config

    def foresee(self, outline: Outline) -> Outline:
        """A response that can be read, where one is named."""
        try:
            if self.config.file is not None:
                read_girf(self.config.file)
        except (ScansideError, OSError) as error:
            return outline.refused(str(error))
        return outline

    def prepare(self, context: Context) -> None:
        """Read the response."""
        self._girf = None if self.config.file is None else read_girf(self.config.file)

    def open(self, scan: Scan) -> None:
        """A new scan."""
        self._scan = scan

    def process(self, item: Samples) -> Iterator[Samples]:
        """Move the points of an image's samples."""
        yield item if self._girf is None else _predicted(item, self._girf)


def _predicted(item: Samples, girf: Girf) -> Samples:
    header = item.headers[0, 0]
    dwell_us = float(header["sample_time_us"])
    if dwell_us <= 0:
        raise ScanError(
            f"the readout with scan counter {int(header['scan_counter'])} tells no sample time, which a gradient "
            "impulse response needs: mend sample_time_us, or leave girf.file out"
        )
    voxel_m = 1e-3 * np.array(item.encoding.recon.voxel_mm)
    n = item.points.shape[-1]
    planned = np.zeros((*item.points.shape[:2], 3))
    planned[..., :n] = item.points.cpu().numpy() / voxel_m[:n]
    turn = _directions(header) if girf.axes == "patient" else np.eye(3)
    moved, phase = girf.predicted(planned @ turn.T, dwell_us)
    points = torch.from_numpy((moved @ turn * voxel_m)[..., :n]).to(item.points).clamp(-0.5, 0.5)
    data = item.data
    if girf.field is not None:
        data = data * torch.from_numpy(np.exp(2j * np.pi * phase)).to(data)
    matrix = item.points.new_tensor(item.matrix[:n])
    meta = item.meta.copy()
    meta["GirfShift"] = f"{float(((points - item.points) * matrix).norm(dim=-1).max()):.3f}"
    return item.replace(data=data, points=points, meta=meta)


def _directions(header: np.void) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Columns: read, phase and slice direction in patient coordinates."""
    turn = np.stack([header[name] for name in ("read_dir", "phase_dir", "slice_dir")], axis=-1).astype(float)
    if not np.allclose(turn.T @ turn, np.eye(3), atol=1e-3):
        raise ScanError(
            f"the readout with scan counter {int(header['scan_counter'])} tells no directions, which a gradient "
            "impulse response along the patient's axes needs: mend read_dir, phase_dir and slice_dir, or measure it "
            "along those of the readout"
        )
    return turn
