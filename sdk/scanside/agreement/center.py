"""The centre of k-space by the header, against where the signal is strongest."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from scanside.agreement.calibration import lines_of_images
from scanside.agreement.finding import Finding
from scanside.agreement.phase_center import USER_COUNTERS, phase_center, told_by_user_counter
from scanside.mrd.dtypes import ACQUISITION_HEADER, Headers
from scanside.mrd.flags import AcquisitionFlag, flagged
from scanside.mrd.header import Encoding, MrdHeader
from scanside.mrd.readouts import Readouts

__all__ = ["SignalCenter"]

_REVERSE = AcquisitionFlag.REVERSE
_ENDS = int(
    AcquisitionFlag.LAST_IN_SLICE | AcquisitionFlag.LAST_IN_REPETITION | AcquisitionFlag.LAST_IN_MEASUREMENT
)
_COILS = 4  # so many of them are enough
_STRONGER = 2.0  # so many times the energy about the header's centre contradicts it,
_STRONGER_THAN_NOISE = 4.0  # and so many times if the floor of the profile is left out of both
_FLOOR = 10  # per cent of the places are below what is taken for noise
_TOGETHER = 64  # so many readouts are looked at together
_PRONOUNCED = 16.0  # a peak so many times above the median leaves no doubt: no more readouts are looked at
_MOST = 1 << 16  # counters are 16 bits wide

_BYTES = np.dtype((np.void, ACQUISITION_HEADER.itemsize))

Profile = npt.NDArray[np.float64]


class SignalCenter:
    """Looks where the signal is strongest along k0, k1 and k2, in the first image of an encoding space.

    The energy of MR images is gathered about the centre of k-space. A few lines more or less mean nothing: the phase
    of the object shifts the peak. So only a peak far from the header's centre, and far above what lies there, is
    told. Beyond a 24th of the axis (an eighth for echo-planar readouts along k1, whose echoes shift where the field
    is inhomogeneous) is far.

    Args:
        header: of the scan.
        encoding: the encoding space of the readouts.
    """

    def __init__(self, header: MrdHeader, encoding: Encoding) -> None:
        self.changed = False
        self._header = header
        self._encoding = encoding
        self._settled = encoding.trajectory not in ("cartesian", "epi")
        # Whether all lines of an image have come: before, the strongest of some lines means nothing.
        self._has_image = False
        self._axes: list[_PhaseAxis] = []
        self._waiting: list[Readouts] = []  # lines that come one by one are looked at together
        self._n_waiting = 0
        self._echoes = {False: _Echo(encoding), True: _Echo(encoding)}

    def take(self, lines: Readouts, flags: int) -> None:
        """Look at a block."""
        if self._settled or not lines.samples.size:
            return
        of_images = lines_of_images(lines.headers, flags, self._encoding)
        if of_images is not None:
            lines = lines.select(of_images)
            if not len(lines):
                return
        if not self._axes:
            self._axes = [_PhaseAxis(self._header, self._encoding, k, lines.headers) for k in (1, 2)]
        # Copies, as blocks may be views of a receive buffer that the next one overwrites.
        some = lines.samples[:, :: -(-lines.samples.shape[1] // _COILS)].copy()
        if self._waiting and self._waiting[0].samples.shape[1:] != some.shape[1:]:
            self._add_waiting()
        self._waiting.append(Readouts(lines.headers.copy(), some))
        self._n_waiting += len(lines)
        if flags & _ENDS or self._n_waiting >= _TOGETHER:
            self._add_waiting()
        if flags & _ENDS:
            self.changed = self._has_image = True
            self._settled = all(axis.is_plain for axis in self._axes)

    def _add_waiting(self) -> None:
        if not self._waiting:
            return
        # Structures would be joined field by field, opaque bytes are at once.
        headers = np.concatenate([lines.headers.view(_BYTES) for lines in self._waiting]).view(
            ACQUISITION_HEADER
        )
        power = _power(np.concatenate([lines.samples for lines in self._waiting]))
        self._waiting, self._n_waiting = [], 0
        energy = power.sum(axis=1, dtype=np.float64)
        for axis in self._axes:
            axis.add(headers, energy)
        reversed_ = flagged(headers["flags"], _REVERSE)
        for backwards, echo in self._echoes.items():
            which = reversed_ == backwards
            if which.any():
                echo.add(headers[which], power[which])

    def findings(self, *, ended: bool) -> Iterator[tuple[str, Finding]]:
        """What contradicts, each with a name."""
        if not self._has_image and not ended:
            return
        if ended:
            self._add_waiting()
        for axis in self._axes:
            found = axis.misplaced(ended=ended)
            if found is None:
                continue
            peak, ratio = found
            text = (
                f"the header says that the centre of k-space lies at {axis.counter} = {axis.center}, but the signal "
                f"is strongest at {peak}, {ratio}: partial Fourier and filters work about the wrong place; correct "
                "the centre in the header's encoding limits"
            )
            if axis.told_by_user and abs(axis.told_by_user - peak) <= axis.far:
                number = USER_COUNTERS[axis.counter]
                text += f" (to {axis.told_by_user}: user counter {number} of the readouts says so)"
            yield axis.counter, Finding("warning", text)
        for backwards, echo in self._echoes.items():
            found = echo.misplaced(ended=ended)
            if found is not None:
                peak, ratio = found
                text = (
                    f"center_sample of {'reversed ' * backwards}readouts says that the echo lies at sample "
                    f"{echo.center} of {echo.n_samples}, but the signal is strongest at {peak}, {ratio}: correct "
                    "center_sample in the converter"
                )
                yield f"echo {backwards}", Finding("warning", text)


class _PhaseAxis:
    """Where the lines with the most energy lie along k1 or k2: of each place the strongest two."""

    def __init__(self, header: MrdHeader, encoding: Encoding, k: int, first: Headers) -> None:
        self.counter = f"kspace_encode_step_{k}"
        self.center = phase_center(header, encoding, k, first).counter
        self.told_by_user = told_by_user_counter(k, first)
        n = encoding.encoded.matrix[k]
        self.far = max(_far(n, wide=k == 1 and encoding.trajectory == "epi"), encoding.acceleration[k - 1])
        self._is_line = n == 1
        size = min(max(n, encoding.limit(self.counter).maximum + 1), _MOST)
        self._strongest, self._second = np.zeros(size), np.zeros(size)

    def add(self, headers: Headers, energy: Profile) -> None:
        if self._is_line:
            return
        at = headers["idx"][self.counter].astype(np.intp)
        on_grid = at < len(self._strongest)
        at, energy = at[on_grid], energy[on_grid]
        before = self._strongest.copy()
        np.maximum.at(self._strongest, at, energy)
        weaker = energy < self._strongest[at]
        np.maximum.at(self._second, at[weaker], energy[weaker])
        self._second = np.where(before < self._strongest, np.maximum(self._second, before), self._second)

    @property
    def is_plain(self) -> bool:
        """Whether there is a peak that leaves no doubt."""
        sampled = self._strongest[self._strongest > 0]
        return self._is_line or (len(sampled) > 1 and sampled.max() > _PRONOUNCED * np.median(sampled))

    def misplaced(self, *, ended: bool) -> tuple[int, str] | None:
        return _misplaced(self._strongest, self.center, self.far, second=self._second, ended=ended)


class _Echo:
    """Where the echo lies along readouts of the first layout that comes.

    Of every sample the second strongest among all readouts counts: the strongest may come from a disturbed one.
    """

    def __init__(self, encoding: Encoding) -> None:
        self.center = self.n_samples = 0
        self._far = _far(encoding.encoded.matrix[0], wide=False)
        self._strongest = np.zeros((2, 0), np.float32)

    def add(self, headers: Headers, power: npt.NDArray[np.float32]) -> None:
        if not self.n_samples:
            self.n_samples, self.center = power.shape[1], int(headers["center_sample"][0])
            self._strongest = np.zeros((2, self.n_samples), np.float32)
        if power.shape[1] != self.n_samples:
            return
        power = np.concatenate([self._strongest, power[headers["center_sample"] == self.center]])
        pre, post = int(headers["discard_pre"][0]), int(headers["discard_post"][0])
        kept = slice(pre, self.n_samples - post)
        self._strongest[:, kept] = np.partition(power[:, kept], -2, axis=0)[-2:]

    def misplaced(self, *, ended: bool) -> tuple[int, str] | None:
        profile = self._strongest[0].astype(np.float64)
        return _misplaced(profile, self.center, self._far, ended=ended) if len(profile) else None


def _power(samples: npt.NDArray[np.complex64]) -> npt.NDArray[np.float32]:
    """Energy ``(n, sample)`` of samples ``(n, coil, sample)``, over the coils; 0 where it is not finite."""
    parts = samples.view(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        power: npt.NDArray[np.float32] = (
            np.einsum("nck,nck->nk", parts, parts).reshape(len(samples), -1, 2).sum(axis=2)
        )
    return np.nan_to_num(power, copy=False, nan=0.0, posinf=0.0)


def _far(n: int, wide: bool) -> int:
    return max(1, n // (8 if wide else 24))


def _misplaced(
    profile: Profile, center: int, far: int, *, second: Profile | None = None, ended: bool
) -> tuple[int, str] | None:
    """Where the peak of a profile lies, and how much it stands out; None where it may well be at the centre.

    Args:
        profile: largest energy by place, 0 where nothing was sampled.
        center: the place where the peak should be.
        far: a peak farther from it than this contradicts.
        second: second largest energy by place, where there is one.
        ended: no more will be sampled.
    """
    peak = int(profile.argmax())
    top = profile[peak]
    if not top or abs(peak - center) <= far:
        return None
    about = profile[max(peak - far, 0) : peak + far + 1]
    at_center = (
        float(profile[max(center - far, 0) : center + far + 1].max(initial=0.0)) if center >= 0 else 0.0
    )
    # A single disturbed line or sample stands alone, a peak has slopes or comes again.
    slope = float(np.partition(about, -2)[-2]) if len(about) > 1 else 0.0
    if second is not None:
        slope = max(slope, float(second[peak]))
    if at_center:
        if _stands_out(profile, top, slope, at_center):
            return peak, f"{top / at_center:.3g} times that near {center}"
        return None
    # Nothing was sampled near the header's centre. A peak between lower places is the centre all the same.
    below = float(profile[: max(peak - far, 0)].max(initial=0.0))
    above = float(profile[peak + far + 1 :].max(initial=0.0))
    if ended and below and above and _stands_out(profile, top, slope, max(below, above)):
        return peak, f"and nothing was sampled near {center}"
    return None


def _stands_out(profile: Profile, top: float, slope: float, other: float) -> bool:
    floor = float(np.percentile(profile[profile > 0], _FLOOR))
    above = top > _STRONGER * other and top - floor > _STRONGER_THAN_NOISE * (other - floor)
    return above and slope > other
