"""Noise prewhitening."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from scanside.context import Context
from scanside.errors import CalibrationError, FileFormatError
from scanside.items import Readouts
from scanside.mrd.flags import NOT_IMAGING, AcquisitionFlag, flagged
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

    Readouts that are no lines of an image (navigators, prescans, dummies) are whitened where the noise data fit them,
    and pass as they came where not: they may come from other coils, and before the noise readouts.

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
        self._noise: dict[int, _Noise] = {}
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
        aside = flagged(item.headers["flags"], NOT_IMAGING)
        dwell_us = item.headers["sample_time_us"]
        ends = np.flatnonzero((dwell_us[1:] != dwell_us[:-1]) | (aside[1:] != aside[:-1])) + 1
        for start, end in zip([0, *ends], [*ends, len(item)], strict=True):
            if end > start:
                part = item if end - start == len(item) else item.select(slice(start, end))
                yield self._whitened(part, aside=bool(aside[start]))

    def finish(self, end: ScanEnd) -> Iterator[Readouts]:
        """Keep the covariance of a scan that held noise only: later scans may depend on it."""
        self._own_record(self._scan.header.n_coils or 0)
        return iter(())

    def close(self) -> None:
        """Forget the scan's noise; what the store holds stays."""
        self._noise = {}
        self._matrices = {}

    def _take_in(self, item: Readouts, noise: npt.NDArray[np.bool_]) -> None:
        """Add the noise readouts of a block to the statistics, as far as they come before the scan's first line."""
        lines = ~flagged(item.headers["flags"], NOT_IMAGING)
        used = noise if not lines.any() else noise & (np.arange(len(item)) < lines.argmax())
        if self._looked_up:
            used = np.zeros_like(noise)
        if used.any():
            self._noise.setdefault(item.samples.shape[1], _Noise()).add(item.select(used))
        if used.sum() < noise.sum():
            self._scan.warn("noise readouts came after the first line and are not used")

    def _whitened(self, item: Readouts, *, aside: bool) -> Readouts:
        matrix = self._matrix(item, aside=aside)
        if matrix is None:
            return item
        samples = item.samples
        if len(self._live) < samples.shape[1]:
            samples = samples[:, self._live]
        return item.with_samples(whiten(samples, matrix))

    def _own_record(self, n_channels: int) -> NoiseRecord | None:
        """The covariance of the scan's own noise readouts, also put into the store.

        Args:
            n_channels: that it is for; where there are no such noise readouts, those of the most channels are taken.
        """
        if not self._noise:
            return None
        noise = self._noise.get(n_channels) or self._noise[max(self._noise)]
        header = self._scan.header
        record = noise.record(header.coil_names)
        if header.measurement_id:
            try:
                if self._store.put(header.measurement_id, record):
                    self._scan.warn(
                        f"noise measurement {header.measurement_id} came before, with another result, which this "
                        "one replaces: see that measurement IDs are used once"
                    )
            except OSError as error:  # this scan can be whitened all the same
                self._scan.warn(
                    f"the noise covariance of {header.measurement_id} could not be kept for later scans ({error})"
                )
        return record

    def _find_record(self, n_channels: int) -> NoiseRecord | None:
        own = self._own_record(n_channels)
        if own is not None:
            return own
        wanted = self._scan.header.depends_on("noise")
        damaged = ""
        for measurement_id in wanted:
            try:
                record = self._store.get(measurement_id)
            except (FileFormatError, OSError) as error:  # as good as none, and told as the reason
                damaged = f" ({error})"
                continue
            if record is not None:
                if record.replaces:
                    self._scan.warn(
                        f"noise measurement {measurement_id} came more than once, with different results; data are "
                        "whitened with the latest: if that is not the noise of this scan, take it again"
                    )
                return self._in_channel_order(record, measurement_id)
        told = (
            f"the header depends on noise measurement {' or '.join(wanted)}, which this worker has not seen: "
            f"send that scan first, or keep the noise store between runs{damaged}"
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

    def _matrix(self, item: Readouts, *, aside: bool) -> npt.NDArray[np.complex128] | None:
        n_channels = item.samples.shape[1]
        if not self._looked_up:
            depends = not self._noise and self._scan.header.depends_on("noise")
            if aside and n_channels not in self._noise and not depends:
                return None  # the noise readouts may still come
            self._record, self._looked_up = self._find_record(n_channels), True
            self._live = [] if self._record is None else self._live_channels(self._record)
        record = self._record
        if record is None:
            return None
        dwell_us = float(item.headers["sample_time_us"][0])
        if aside and (record.covariance.shape[0] != n_channels or dwell_us <= 0):
            return None
        if record.covariance.shape[0] != n_channels:
            raise CalibrationError(
                f"the noise data have {record.covariance.shape[0]} channels, the readout with scan counter "
                f"{int(item.headers['scan_counter'][0])} has {n_channels}: "
                "take the noise scan with the same coils"
            )
        if dwell_us not in self._matrices:
            self._matrices[dwell_us] = self._scaled_matrix(record, dwell_us)
        if not aside:
            self._scan.whitening, self._scan.channels = self._matrices[dwell_us], tuple(self._live)
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


class _Noise:
    """Noise readouts of one set of channels, scaled to the dwell time of the first of them."""

    def __init__(self) -> None:
        self._statistics = NoiseStatistics()
        self._dwell_us = 0.0

    def add(self, readouts: Readouts) -> None:
        """Take in readouts; noise power goes with the bandwidth."""
        dwell_us = readouts.headers["sample_time_us"].astype(np.float64)
        if not self._statistics.n_samples:
            self._dwell_us = float(dwell_us[0])
        samples = readouts.samples
        if self._dwell_us > 0 and (dwell_us != self._dwell_us).any():
            scale = np.sqrt(np.where(dwell_us > 0, dwell_us / self._dwell_us, 1))
            samples = samples * scale[:, None, None].astype(np.float32)
        self._statistics.add(samples)

    def record(self, coil_names: tuple[str, ...]) -> NoiseRecord:
        """What is known of the channels, in the order of these names."""
        statistics = self._statistics
        return NoiseRecord(statistics.covariance(), self._dwell_us, statistics.n_samples, coil_names)
