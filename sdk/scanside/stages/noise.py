"""Noise prewhitening."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from scanside.context import Context
from scanside.errors import CalibrationError
from scanside.items import Readouts
from scanside.mrd.flags import AcquisitionFlag, flagged
from scanside.noise_store import NoiseRecord
from scanside.recon.noise import NoiseStatistics, dead_channels, whiten, whitening_matrix
from scanside.scan import Scan, ScanEnd
from scanside.stage import Stage, StageConfig

__all__ = ["PrewhitenNoise"]


class PrewhitenNoise(Stage[Readouts, Readouts]):
    """Makes the noise of all channels uncorrelated and of variance 1 in real and imaginary part.

    The covariance comes from the noise readouts that come before the scan's first other readout. Without any, it
    comes from the noise scan that the header names as a dependency, if that scan went through this worker or lies
    in the noise store. Without that either, the data pass unchanged and the operator is warned with the
    measurement ID that is missing. Noise readouts that come later are taken out and not used, so that all lines of
    an image are whitened alike.

    Noise readouts have another dwell time than the image's: the covariance is scaled by the ratio of the dwell
    times and by the relative receiver noise bandwidth of the header (1 where it is absent).

    A channel without noise is disconnected or empty, and whitening would blow up whatever it holds: it leaves the
    data, and later stages see fewer channels.

    Kellman, McVeigh: Image reconstruction in SNR units, Magn Reson Med 2005;54:1439.
    """

    class Config(StageConfig):
        """Settings.

        Attributes:
            missing: what to do without noise data: ``warn`` and pass on, or end with an ``error``.
            dead_channels: what to do with channels without noise, which are disconnected or empty: ``remove`` them
                from the scan and tell the operator, or end with an ``error``.
            enabled: false where an earlier step, such as a gadget, has whitened the data: readouts pass
                unchanged, noise readouts are taken out.
        """

        missing: Literal["warn", "error"] = "warn"
        dead_channels: Literal["remove", "error"] = "remove"
        enabled: bool = True

    config: Config

    def prepare(self, context: Context) -> None:
        """Find the store of noise covariances."""
        self._store = context.noise_store

    def open(self, scan: Scan) -> None:
        """A new scan: no noise is known yet."""
        self._scan = scan
        self._statistics = NoiseStatistics()
        self._noise_dwell_us = 0.0
        self._record: NoiseRecord | None = None
        self._live: list[int] = []
        self._looked_up = False
        self._matrices: dict[float, npt.NDArray[np.complex128]] = {}

    def process(self, item: Readouts) -> Iterator[Readouts]:
        """Take noise readouts in, whiten all others."""
        noise = flagged(item.headers["flags"], AcquisitionFlag.NOISE_MEASUREMENT)
        if noise.any():
            if self.config.enabled:
                self._take_in(item, noise)
            item = item.select(~noise)
        if not self.config.enabled:
            yield item
            return
        dwell_us = item.headers["sample_time_us"]
        ends = np.flatnonzero(dwell_us[1:] != dwell_us[:-1]) + 1
        for start, end in zip([0, *ends], [*ends, len(item)], strict=True):
            if end > start:
                yield self._whitened(item if end - start == len(item) else item.select(slice(start, end)))

    def finish(self, end: ScanEnd) -> Iterator[Readouts]:
        """Keep the covariance of a scan that held noise only: later scans may depend on it."""
        self._own_record()
        return iter(())

    def close(self) -> None:
        """Forget the scan's noise; what the store holds stays."""
        self._statistics = NoiseStatistics()
        self._matrices = {}

    def _take_in(self, item: Readouts, noise: npt.NDArray[np.bool_]) -> None:
        """Add the noise readouts of a block to the statistics, as far as they come before anything else."""
        n_before = 0 if self._looked_up else int(np.append(noise, False).argmin())
        if n_before:
            readouts = item.select(slice(0, n_before))
            self._statistics.add(readouts.samples)
            self._noise_dwell_us = float(readouts.headers["sample_time_us"][0])
        if n_before < int(noise.sum()):
            self._scan.warn("noise readouts came after the first line and are not used")

    def _whitened(self, item: Readouts) -> Readouts:
        matrix = self._matrix(item)
        if matrix is None:
            return item
        samples = item.samples
        if len(self._live) < samples.shape[1]:
            samples = samples[:, self._live]
        return item.with_samples(whiten(samples, matrix))

    def _own_record(self) -> NoiseRecord | None:
        """The covariance of the scan's own noise readouts, also put into the store."""
        if not self._statistics.n_samples:
            return None
        header = self._scan.header
        record = NoiseRecord(
            self._statistics.covariance(), self._noise_dwell_us, self._statistics.n_samples, header.coil_names
        )
        if header.measurement_id:
            try:
                self._store.put(header.measurement_id, record)
            except OSError as error:  # this scan can be whitened all the same
                self._scan.warn(
                    f"the noise covariance of {header.measurement_id} could not be kept for later scans ({error})"
                )
        return record

    def _find_record(self) -> NoiseRecord | None:
        own = self._own_record()
        if own is not None:
            return own
        wanted = self._scan.header.depends_on("noise")
        for measurement_id in wanted:
            if (record := self._store.get(measurement_id)) is not None:
                return self._in_channel_order(record, measurement_id)
        told = (
            f"the header depends on noise measurement {' or '.join(wanted)}, which this worker has not seen: "
            "send that scan first, or keep the noise store between runs"
            if wanted
            else "the scan has no noise readouts and names no noise measurement"
        )
        if self.config.missing == "error":
            raise CalibrationError(f"no noise data: {told}")
        self._scan.warn(f"data are not prewhitened: {told}")
        return None

    def _in_channel_order(self, record: NoiseRecord, measurement_id: str) -> NoiseRecord:
        """The record with its channels in the order of this scan, told by the coils' names."""
        theirs, ours = record.coil_names, self._scan.header.coil_names
        n = len(record.covariance)
        if theirs == ours or len(set(theirs)) != n or len(set(ours)) != len(ours) or not ours:
            return record
        if not set(ours) <= set(theirs):
            absent = ", ".join(name for name in ours if name not in theirs)
            raise CalibrationError(
                f"noise measurement {measurement_id} has no channel {absent}: take the noise scan with the same coils"
            )
        order = [theirs.index(name) for name in ours]
        covariance = record.covariance[np.ix_(order, order)]
        return replace(record, covariance=covariance, coil_names=ours)

    def _live_channels(self, record: NoiseRecord) -> list[int]:
        """The channels that have noise; says what becomes of the others."""
        n, dead = len(record.covariance), dead_channels(record.covariance)
        if dead:
            names = dict(enumerate(self._scan.header.coil_names))
            told = ", ".join(
                f"{channel} ({names[channel]})" if names.get(channel) else str(channel) for channel in dead
            )
            found = f"no noise in channels (counted from 0) {told} of {n}: disconnected or empty"
            if self.config.dead_channels == "error":
                raise CalibrationError(f"{found}; set noise.dead_channels to 'remove' to go on without them")
            if len(dead) == n:
                raise CalibrationError(f"{found}; check the noise readouts, none of them can be used")
            self._scan.warn(f"{found}; they are left out of the reconstruction")
        return [channel for channel in range(n) if channel not in dead]

    def _matrix(self, item: Readouts) -> npt.NDArray[np.complex128] | None:
        if not self._looked_up:
            self._record, self._looked_up = self._find_record(), True
            self._live = [] if self._record is None else self._live_channels(self._record)
        record = self._record
        if record is None:
            return None
        if record.covariance.shape[0] != item.samples.shape[1]:
            raise CalibrationError(
                f"the noise data have {record.covariance.shape[0]} channels, the readout with scan counter "
                f"{int(item.headers['scan_counter'][0])} has {item.samples.shape[1]}: "
                "take the noise scan with the same coils"
            )
        dwell_us = float(item.headers["sample_time_us"][0])
        if dwell_us not in self._matrices:
            self._matrices[dwell_us] = self._scaled_matrix(record, dwell_us)
        return self._matrices[dwell_us]

    def _scaled_matrix(self, record: NoiseRecord, dwell_us: float) -> npt.NDArray[np.complex128]:
        noise_dwell_us = record.dwell_time_us
        if dwell_us <= 0 or noise_dwell_us <= 0:
            self._scan.warn(
                f"dwell times are missing (noise {noise_dwell_us} µs, image {dwell_us} µs): "
                "the whitened noise has equal but unknown variance in all channels"
            )
            dwell_us = noise_dwell_us = 1.0
        return whitening_matrix(
            record.covariance[np.ix_(self._live, self._live)],
            noise_dwell_us=noise_dwell_us,
            dwell_us=dwell_us,
            receiver_bandwidth_ratio=self._scan.header.receiver_noise_bandwidth or 1.0,
        )
