"""The order of readouts and their headers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from scanside.mrd.dtypes import Headers
from scanside.mrd.flags import AcquisitionFlag, flagged
from scanside.mrd.readouts import Readouts
from scanside.simulate.config import ScanConfig
from scanside.simulate.echo_planar import as_echo_trains
from scanside.simulate.geometry import ScanGrid
from scanside.simulate.sampling import Band, Pattern, Readout, readout_of

__all__ = ["Schedule"]

# From the counter that holds all others to the innermost: FIRST and LAST flags of a counter mark the ends of all
# readouts that share it and every counter before it, whatever the order of acquisition.
_CONTAINMENT = ("repetition", "set", "phase", "contrast", "slice", "average")


class Schedule:
    """Headers of all readouts of a scan, repetition by repetition.

    Args:
        config: the scan.
        grid: its geometry.
        bands: bands along (k1, k2).
    """

    def __init__(self, config: ScanConfig, grid: ScanGrid, bands: tuple[Band, Band]) -> None:
        self._config = config
        self._grid = grid
        self._bands = bands
        self._readout: Readout = readout_of(config.sampling, grid.encoded_matrix[0])

    def noise(self) -> Headers:
        """Headers ``(n,)`` of the noise readouts."""
        noise = self._config.noise
        headers = Readouts.empty_headers(noise.readouts)
        headers["flags"] = int(AcquisitionFlag.NOISE_MEASUREMENT)
        headers["number_of_samples"] = noise.samples or self._grid.encoded_matrix[0]
        headers["sample_time_us"] = noise.dwell_us
        return self._common(headers)

    def calibration(self, pattern: Pattern) -> Headers:
        """Headers ``(n,)`` of a separate calibration scan: its lines for every slice in turn."""
        slices = np.repeat(self._slice_order(self._grid.n_slices), len(pattern))
        headers = self._lines(pattern, np.tile(np.arange(len(pattern)), self._grid.n_slices))
        headers["idx"]["slice"] = slices
        headers["flags"] |= int(AcquisitionFlag.PARALLEL_CALIBRATION)
        headers["encoding_space_ref"] = 0 if self._config.sampling.multiband is None else 1
        headers = self._in_trains(headers)
        epi = self._config.sampling.epi
        if epi is not None and epi.both_directions:
            lines = headers[~flagged(headers["flags"], AcquisitionFlag.PHASECORR_DATA)]
            lines["flags"] &= ~np.uint64(int(AcquisitionFlag.REVERSE))
            again = as_echo_trains(lines, epi, self._center, begins_backwards=True)
            headers = np.concatenate([headers, again])
        return self._finish(headers, headers["idx"]["slice"])

    def repetition(self, number: int, patterns: list[Pattern]) -> Headers:
        """Headers ``(n,)`` of one repetition in the order of acquisition.

        Args:
            number: which repetition.
            patterns: the lines of each cardiac phase.
        """
        dynamics = self._config.dynamics
        parts = []
        multiband = self._config.sampling.multiband
        n_excited = self._grid.n_slices // (1 if multiband is None else multiband.factor)
        rank_of_slice = np.argsort(self._slice_order(n_excited))
        ranks: dict[str, list[npt.NDArray[np.int64]]] = {"slice": [], "line": []}
        counters = np.ndindex(
            dynamics.averages, dynamics.sets, len(dynamics.te_ms), dynamics.phases, n_excited
        )
        for average, set_, contrast, phase, slice_ in counters:
            lines = np.arange(len(patterns[phase]))
            headers = self._lines(patterns[phase], lines)
            _flag_calibration(headers, patterns[phase])
            idx = headers["idx"]
            idx["average"], idx["set"], idx["contrast"] = average, set_, contrast
            idx["phase"], idx["slice"], idx["repetition"] = phase, slice_, number
            idx["segment"] = lines % dynamics.segments
            parts.append(headers)
            ranks["slice"].append(np.full(len(lines), rank_of_slice[slice_]))
            ranks["line"].append(lines)
        headers = np.concatenate(parts)
        keys = {name: np.concatenate(rank) for name, rank in ranks.items()}
        for name in dynamics.order:
            keys.setdefault(name, headers["idx"][name].astype(np.int64) if name != "line" else keys["line"])
        order = np.lexsort([keys[name] for name in reversed(dynamics.order)])
        headers, lines = headers[order], keys["line"][order]
        if self._config.sampling.reverse != "none":
            backwards = (
                np.ones(len(lines), bool) if self._config.sampling.reverse == "all" else lines % 2 == 1
            )
            headers["flags"][backwards] |= np.uint64(int(AcquisitionFlag.REVERSE))
        _flag_ends(headers)
        headers = self._inject(self._in_trains(headers))
        return self._finish(headers, headers["idx"]["slice"])

    def _lines(self, pattern: Pattern, lines: npt.NDArray[np.int64]) -> Headers:
        headers = Readouts.empty_headers(len(lines))
        headers["idx"]["kspace_encode_step_1"] = (pattern.k1 - self._bands[0].first)[lines]
        headers["idx"]["kspace_encode_step_2"] = (pattern.k2 - self._bands[1].first)[lines]
        return headers

    def _in_trains(self, headers: Headers) -> Headers:
        epi = self._config.sampling.epi
        if epi is None:
            return headers
        return as_echo_trains(headers, epi, self._center)

    @property
    def _center(self) -> tuple[int, int]:
        """Counters of the central line along (k1, k2)."""
        return self._bands[0].center, self._bands[1].center

    def _inject(self, headers: Headers) -> Headers:
        """Put navigator and phase correction readouts between the lines."""
        quirks = self._config.quirks
        places: list[npt.NDArray[np.int64]] = []
        flags: list[int] = []
        if quirks.navigator_every:
            after = np.arange(quirks.navigator_every, len(headers), quirks.navigator_every)
            places.append(after)
            flags += [int(AcquisitionFlag.NAVIGATION_DATA)] * len(after)
        if quirks.phase_correction_lines:
            first = np.flatnonzero(headers["flags"] & np.uint64(int(AcquisitionFlag.FIRST_IN_AVERAGE)))
            places.append(np.repeat(first, quirks.phase_correction_lines))
            flags += [int(AcquisitionFlag.PHASECORR_DATA)] * len(places[-1])
        if not places:
            return headers
        where = np.concatenate(places)
        extra = headers[where].copy()
        extra["flags"] = flags
        extra["idx"]["kspace_encode_step_1"] = self._bands[0].center
        extra["idx"]["kspace_encode_step_2"] = self._bands[1].center
        return np.insert(headers, where, extra)

    def _finish(self, headers: Headers, slices: npt.NDArray[np.integer]) -> Headers:
        readout, quirks = self._readout, self._config.quirks
        headers["number_of_samples"] = readout.n_samples
        backwards = flagged(headers["flags"], AcquisitionFlag.REVERSE)
        last = readout.n_samples - 1
        headers["center_sample"] = np.where(backwards, last - readout.center_sample, readout.center_sample)
        headers["discard_pre"], headers["discard_post"] = readout.discard
        headers["sample_time_us"] = self._config.timing.dwell_us
        if quirks.center_in_user:
            headers["idx"]["user"][:, 5] = self._bands[0].center
            headers["idx"]["user"][:, 6] = self._bands[1].center
        headers["position"] = self._grid.positions[slices]
        return self._common(headers)

    def _common(self, headers: Headers) -> Headers:
        n_coils = self._config.coils.n_coils
        headers["available_channels"] = headers["active_channels"] = n_coils
        mask = [(1 << min(max(n_coils - 64 * word, 0), 64)) - 1 for word in range(16)]
        headers["channel_mask"] = np.array(mask, np.uint64)
        headers["read_dir"] = self._grid.directions.read
        headers["phase_dir"] = self._grid.directions.phase
        headers["slice_dir"] = self._grid.directions.slice
        if self._config.quirks.zero_directions:
            for name in ("position", "read_dir", "phase_dir", "slice_dir", "sample_time_us"):
                headers[name] = 0
        return headers

    def _slice_order(self, n: int) -> npt.NDArray[np.int64]:
        slices = np.arange(n)
        if self._config.geometry.slice_order == "interleaved":
            slices = np.concatenate([slices[::2], slices[1::2]])
        return slices


def _flag_calibration(headers: Headers, pattern: Pattern) -> None:
    """Lines in the calibration region serve both purposes where the pattern holds them anyway."""
    both = int(AcquisitionFlag.PARALLEL_CALIBRATION_AND_IMAGING)
    only = int(AcquisitionFlag.PARALLEL_CALIBRATION)
    headers["flags"] |= np.where(pattern.calibration, np.where(pattern.imaging, both, only), 0).astype(
        np.uint64
    )


def _flag_ends(headers: Headers) -> None:
    """Set the FIRST and LAST flags of every counter."""
    idx = headers["idx"]
    columns = [idx[name].astype(np.int64) for name in _CONTAINMENT]
    image = columns
    step_2 = [*image, idx["kspace_encode_step_2"].astype(np.int64)]
    segment = [*image, idx["segment"].astype(np.int64)]
    groups = {name.upper(): columns[: n + 1] for n, name in enumerate(_CONTAINMENT)}
    groups |= {"SEGMENT": segment, "ENCODE_STEP2": image, "ENCODE_STEP1": step_2}
    for name, keys in groups.items():
        _, group = np.unique(np.stack(keys, axis=1), axis=0, return_inverse=True)
        group = group.reshape(-1)
        _, first = np.unique(group, return_index=True)
        _, last = np.unique(group[::-1], return_index=True)
        headers["flags"][first] |= np.uint64(int(AcquisitionFlag[f"FIRST_IN_{name}"]))
        headers["flags"][len(headers) - 1 - last] |= np.uint64(int(AcquisitionFlag[f"LAST_IN_{name}"]))
