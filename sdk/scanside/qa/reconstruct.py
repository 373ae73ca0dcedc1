"""Images of the phantom, as they are and with noise added."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from scanside.context import Context
from scanside.convert import items_of
from scanside.errors import ScanError
from scanside.execution import execute
from scanside.items import Image, Item, Readouts
from scanside.mrd.files import open_recording
from scanside.mrd.flags import AcquisitionFlag, flagged
from scanside.mrd.header import MrdHeader
from scanside.pipeline import Pipeline
from scanside.recon.noise import NoiseStatistics
from scanside.scan import Scan

__all__ = ["Reconstructor"]

_NOISE = AcquisitionFlag.NOISE_MEASUREMENT


@dataclass
class Reconstructor:
    """Runs one pipeline over one raw file, as often as need be.

    Attributes:
        path: an ISMRMRD HDF5 file or stream.
        pipeline: name or file.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        group: of an HDF5 file; by default ``dataset`` or the only one.
    """

    path: Path
    pipeline: str
    device: str = "auto"
    group: str | None = None

    def __post_init__(self) -> None:
        self._context = Context(self.device)
        self._pipeline = Pipeline.load(self.pipeline)
        self._pipeline.prepare(replace(self._context, builds_engines=False))
        self.name = self._pipeline.name

    def header(self) -> MrdHeader:
        """The scan's header."""
        with open_recording(self.path, self.group) as recording:
            return MrdHeader.parse(recording.header_xml)

    def images(self, noise: np.random.Generator | None = None) -> list[Image]:
        """The images of the scan.

        Args:
            noise: draws noise of the scan's own covariance that is added to its readouts (pseudo replicas: Robson et
                al., Magn Reson Med 2008;60:895); None adds none.

        Raises:
            ScanError: the scan makes no images, or noise is asked for and it has no noise readouts.
            ScansideError: whatever is wrong with file or pipeline.
        """
        images: list[Image] = []

        def keep(item: Item) -> None:
            if isinstance(item, Image):
                images.append(item)

        with open_recording(self.path, self.group) as recording:
            scan = Scan.from_xml(recording.header_xml)
            items = (item for message in recording.items() for item in items_of(message, scan, self._context))
            self._pipeline.expect(scan.header)  # builds engines that are missing
            with self._pipeline.open(scan) as run:
                execute(run, items if noise is None else _noisier(items, scan.header, noise), keep)
        if not images:
            raise ScanError(
                f"{self.path} gives no image with pipeline '{self.name}': look at 'scanside inspect'"
            )
        return images


def _noisier(items: Iterator[Item], header: MrdHeader, generator: np.random.Generator) -> Iterator[Item]:
    """The scan with noise of its own covariance added to all but its noise readouts.

    A receiver's noise power is proportional to its bandwidth: noise readouts of another dwell time tell it by their
    ratio, times the receiver's relative noise bandwidth (Kellman and McVeigh, Magn Reson Med 2005;54:1439).
    """
    statistics, dwell_us = NoiseStatistics(), 0.0
    factor: npt.NDArray[np.complex128] | None = None
    for item in items:
        if not isinstance(item, Readouts):
            yield item
            continue
        measures = flagged(item.headers["flags"], _NOISE)
        if measures.any():
            statistics.add(item.samples[measures])
            dwell_us = float(item.headers["sample_time_us"][measures][0])
            factor = None
        if measures.all():
            yield item
            continue
        if not statistics.n_samples:
            raise ScanError("the scan has no noise readouts, which tell how much noise to add")
        if factor is None:
            # By eigenvalues, as a dead channel has no noise at all.
            values, vectors = np.linalg.eigh(statistics.covariance())
            factor = vectors * np.sqrt(np.maximum(values, 0))
        known = (item.headers["sample_time_us"] > 0) & (dwell_us > 0)
        ratio = np.where(known, item.headers["sample_time_us"] / (dwell_us or 1.0), 1.0)
        ratio *= header.receiver_noise_bandwidth or 1.0
        drawn = generator.standard_normal((*item.samples.shape, 2)).view(np.complex128)[..., 0] * np.sqrt(0.5)
        added = (factor @ drawn) / np.sqrt(ratio)[:, None, None]
        added[measures] = 0
        yield Readouts(item.headers, (item.samples + added).astype(np.complex64), item.trajectory)
