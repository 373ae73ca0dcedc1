"""Everything about a scan that can be told from its header and its readouts, without judging it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from scanside.errors import FormatError, HeaderError
from scanside.inspection.pattern import AxisBand, SamplingPattern
from scanside.mrd.dtypes import COUNTERS, IMAGE_COUNTERS, Headers
from scanside.mrd.flags import NOT_IMAGING, AcquisitionFlag, flagged, names
from scanside.mrd.geometry import Geometry
from scanside.mrd.header import Encoding, Limit, MrdHeader
from scanside.mrd.messages import Data, ImageArray, ImageMessage
from scanside.mrd.meta import Meta
from scanside.mrd.readouts import Readouts, Waveform

__all__ = ["Collector", "CounterRange", "EncodingSurvey", "ImageSeries", "NoiseSurvey", "Shape", "Survey"]

_NOISE = AcquisitionFlag.NOISE_MEASUREMENT
_CALIBRATION_ONLY = AcquisitionFlag.PARALLEL_CALIBRATION
_CALIBRATION_TOO = AcquisitionFlag.PARALLEL_CALIBRATION_AND_IMAGING


@dataclass(frozen=True, slots=True, order=True)
class Shape:
    """Shape of readouts: what must not change within an image; ``center_sample`` after turning reversed ones."""

    n_coils: int
    n_samples: int
    center_sample: int
    n_dimensions: int = 0


@dataclass(frozen=True, slots=True)
class CounterRange:
    """Values of an encoding counter that occur, and what the header announces (None: nothing)."""

    name: str
    minimum: int
    maximum: int
    n_values: int
    limit: Limit | None

    @property
    def is_outside(self) -> bool:
        """Whether a value lies outside the limits."""
        return self.limit is not None and (
            self.minimum < self.limit.minimum or self.maximum > self.limit.maximum
        )


@dataclass(frozen=True, slots=True, eq=False)
class NoiseSurvey:
    """Noise readouts of the scan.

    Attributes:
        n_readouts: how many.
        n_samples: samples per coil in all of them.
        dwell_us: their dwell time.
        covariance: ``(coil, coil)`` complex128, mean of ``sample · conj(sample)ᵀ``, as received; None if their
            samples are not finite or the number of coils changes.
    """

    n_readouts: int
    n_samples: int
    dwell_us: float
    covariance: npt.NDArray[np.complex128] | None


@dataclass(frozen=True, slots=True, eq=False)
class EncodingSurvey:
    """Readouts of one encoding space.

    Attributes:
        encoding: what the header says; None where it has no such encoding space.
        index: its number.
        headers: ``(n,)`` headers of its imaging and calibration readouts.
        shapes: how many readouts there are of each shape.
        counters: range of each counter.
        sampling: sampled lines; None for trajectories that are not Cartesian, or without the header's word.
        readout_band: sampled part of the readout axis; None likewise.
        n_off_grid: readouts whose line would lie outside the matrix.
        n_repeated: readouts whose line had been measured before with equal counters, averages aside.
        dwell_us: dwell times that occur.
        geometries: by slice counter; without those that cannot be used.
        bad_geometry: why a geometry cannot be used; None if all can.
    """

    encoding: Encoding | None
    index: int
    headers: Headers
    shapes: Mapping[Shape, int]
    counters: tuple[CounterRange, ...]
    sampling: SamplingPattern | None
    readout_band: AxisBand | None
    n_off_grid: int
    n_repeated: int
    dwell_us: tuple[float, ...]
    geometries: Mapping[int, Geometry]
    bad_geometry: str | None


@dataclass(slots=True)
class ImageSeries:
    """Images of equal kind.

    Attributes:
        series: series index.
        n_images: how many.
        shape: ``(channel, z, y, x)``.
        dtype: name of the sample type.
        geometry: of the first image; None where its header cannot be used.
        meta: attributes of the first image.
        n_non_finite: images with NaN or infinite samples.
    """

    series: int
    n_images: int
    shape: tuple[int, ...]
    dtype: str
    geometry: Geometry | None
    meta: Meta
    n_non_finite: int = 0


@dataclass(slots=True)
class Survey:
    """What was found while reading a scan once from its beginning to its end.

    Attributes:
        headers: ``(n,)`` headers of all readouts in order.
        n_non_finite: readouts that hold NaN or infinite samples.
        first_non_finite: scan counter of the first of them.
        n_all_zero: imaging readouts without any signal.
        waveforms: pieces by waveform number.
        images: image series.
        others: other messages by kind.
        flags: readouts by flag, in the order of the standard.
        noise: noise readouts; None without any.
        encodings: by encoding space that occurs among readouts that are no noise.
        reach: largest magnitude of the first two coordinates of trajectories, by encoding space.
    """

    headers: Headers
    n_non_finite: int = 0
    first_non_finite: int | None = None
    n_all_zero: int = 0
    waveforms: Counter[int] = field(default_factory=Counter)
    images: list[ImageSeries] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    flags: dict[str, int] = field(default_factory=dict)
    noise: NoiseSurvey | None = None
    encodings: list[EncodingSurvey] = field(default_factory=list)
    reach: dict[int, float] = field(default_factory=dict)


class Collector:
    """Takes the items of a scan one after the other; keeps headers and sums, no samples."""

    def __init__(self) -> None:
        self._headers: list[Headers] = []
        self._finite: list[npt.NDArray[np.bool_]] = []
        self._silent = 0
        self._noise_sum: npt.NDArray[np.complex128] | None = None
        self._noise_usable = True
        self._noise_samples = 0
        self._waveforms: Counter[int] = Counter()
        self._series: dict[tuple[int, tuple[int, ...], str], ImageSeries] = {}
        self._others: Counter[str] = Counter()
        self._reach: dict[int, float] = {}

    def take(self, item: Data) -> None:
        """Look at one item."""
        if isinstance(item, Readouts):
            self._take_readouts(item)
        elif isinstance(item, Waveform):
            self._waveforms[int(item.header["waveform_id"])] += 1
        elif isinstance(item, ImageMessage):
            self._take_image(item)
        else:
            kind = "image array" if isinstance(item, ImageArray) else type(item).__name__.lower()
            self._others[kind] += 1

    def survey(self, header: MrdHeader | None) -> Survey:
        """What was found, sorted by encoding space."""
        empty = Readouts.empty_headers(0)
        headers = np.concatenate([empty, *self._headers])
        finite = np.concatenate([np.zeros(0, bool), *self._finite])
        bad = headers["scan_counter"][~finite]
        encodings = []
        lines = headers[~flagged(headers["flags"], _NOISE)]
        for index in np.unique(lines["encoding_space_ref"]).tolist():
            known = () if header is None else header.encodings
            encoding = next((one for one in known if one.index == index), None)
            encodings.append(_survey_encoding(lines[lines["encoding_space_ref"] == index], index, encoding))
        return Survey(
            headers=headers,
            n_non_finite=len(bad),
            first_non_finite=int(bad[0]) if len(bad) else None,
            n_all_zero=self._silent,
            waveforms=self._waveforms,
            images=list(self._series.values()),
            others=self._others,
            flags=_count_flags(headers),
            noise=self._noise(headers),
            encodings=encodings,
            reach=self._reach,
        )

    def _take_readouts(self, block: Readouts) -> None:
        # Headers may be views of a receive buffer that the next block overwrites.
        self._headers.append(np.array(block.headers))
        power = np.abs(block.samples).sum(axis=(1, 2), dtype=np.float64)
        self._finite.append(np.isfinite(power))
        self._take_trajectory(block)
        noise = flagged(block.headers["flags"], _NOISE)
        self._silent += int((power[~noise] == 0).sum())
        if noise.any() and self._noise_usable:
            self._take_noise(block.samples[noise])

    def _take_trajectory(self, block: Readouts) -> None:
        if block.trajectory is None or not block.trajectory.size:
            return
        reach = np.abs(block.trajectory[..., :2]).max(axis=(1, 2))
        imaging = ~flagged(block.headers["flags"], NOT_IMAGING)
        for index in np.unique(block.headers["encoding_space_ref"][imaging]).tolist():
            found = float(reach[imaging & (block.headers["encoding_space_ref"] == index)].max())
            self._reach[index] = max(found, self._reach.get(index, 0.0))

    def _take_noise(self, samples: npt.NDArray[np.complex64]) -> None:
        n_coils = samples.shape[1]
        same_coils = self._noise_sum is None or len(self._noise_sum) == n_coils
        self._noise_usable = same_coils and bool(np.isfinite(samples).all())
        if self._noise_usable:
            per_coil = samples.swapaxes(0, 1).reshape(n_coils, -1).astype(np.complex128)
            total = per_coil @ per_coil.conj().T
            self._noise_sum = total if self._noise_sum is None else self._noise_sum + total
            self._noise_samples += per_coil.shape[1]

    def _take_image(self, image: ImageMessage) -> None:
        key = (int(image.header["image_series_index"]), image.data.shape, image.data.dtype.name)
        if key not in self._series:
            try:
                geometry = Geometry.from_image_header(image.header)
            except FormatError:
                geometry = None
            try:
                meta = Meta.parse(image.attributes)
            except FormatError:
                meta = Meta()
            self._series[key] = ImageSeries(key[0], 0, key[1], key[2], geometry, meta)
        self._series[key].n_images += 1
        self._series[key].n_non_finite += int(not np.isfinite(image.data).all())

    def _noise(self, headers: Headers) -> NoiseSurvey | None:
        noise = headers[flagged(headers["flags"], _NOISE)]
        if not len(noise):
            return None
        covariance = None
        if self._noise_usable and self._noise_sum is not None and self._noise_samples:
            covariance = self._noise_sum / self._noise_samples
        return NoiseSurvey(len(noise), self._noise_samples, float(noise["sample_time_us"][0]), covariance)


def _count_flags(headers: Headers) -> dict[str, int]:
    values, counts = np.unique(headers["flags"], return_counts=True)
    found: Counter[str] = Counter()
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        found.update(dict.fromkeys(names(value), count))
    known = [str(flag.name) for flag in AcquisitionFlag]
    return {
        name: found[name]
        for name in sorted(found, key=lambda name: known.index(name) if name in known else 99)
    }


def _survey_encoding(headers: Headers, index: int, encoding: Encoding | None) -> EncodingSurvey:
    lines = headers[~flagged(headers["flags"], NOT_IMAGING)]
    sampling, n_off_grid = _sampling(lines, encoding)
    geometries, bad = _geometries(lines, encoding)
    return EncodingSurvey(
        encoding=encoding,
        index=index,
        headers=lines,
        shapes=_shapes(lines),
        counters=_counters(lines, encoding),
        sampling=sampling,
        readout_band=_readout_band(lines, encoding),
        n_off_grid=n_off_grid,
        n_repeated=_n_repeated(lines),
        dwell_us=tuple(np.unique(lines["sample_time_us"]).tolist()),
        geometries=geometries,
        bad_geometry=bad,
    )


def _n_repeated(headers: Headers) -> int:
    """Readouts whose counters all came before; separate calibration lines count by themselves."""
    only_calibration = flagged(headers["flags"], _CALIBRATION_ONLY) & ~flagged(
        headers["flags"], _CALIBRATION_TOO
    )
    parts = (headers["idx"][only_calibration], headers["idx"][~only_calibration])
    return sum(len(part) - len(np.unique(part)) for part in parts)


def _shapes(headers: Headers) -> dict[Shape, int]:
    columns = (
        headers["active_channels"],
        headers["number_of_samples"],
        _turned_center(headers),
        headers["trajectory_dimensions"],
    )
    rows = np.stack(columns, axis=1)
    values, counts = np.unique(rows, axis=0, return_counts=True)
    return {Shape(*row): n for row, n in zip(values.tolist(), counts.tolist(), strict=True)}


def _turned_center(headers: Headers) -> npt.NDArray[np.int64]:
    """The echo's sample in the order of increasing k0."""
    center = headers["center_sample"].astype(np.int64)
    reversed_ = flagged(headers["flags"], AcquisitionFlag.REVERSE)
    return np.where(reversed_, headers["number_of_samples"] - 1 - center, center)


def _counters(headers: Headers, encoding: Encoding | None) -> tuple[CounterRange, ...]:
    if not len(headers):
        return ()
    limits = encoding.limits if encoding is not None else {}
    ranges = []
    for name in COUNTERS:
        values = np.unique(headers["idx"][name])
        ranges.append(CounterRange(name, int(values[0]), int(values[-1]), len(values), limits.get(name)))
    return tuple(ranges)


def _is_cartesian(encoding: Encoding | None) -> bool:
    return encoding is not None and encoding.trajectory in ("cartesian", "epi")


def _sampling(headers: Headers, encoding: Encoding | None) -> tuple[SamplingPattern | None, int]:
    """The pattern of lines, and how many readouts have none on the grid."""
    if encoding is None or not _is_cartesian(encoding) or not len(headers):
        return None, 0
    _, n1, n2 = encoding.encoded.matrix
    positions, bands, within = [], [], []
    for counter, n in (("kspace_encode_step_1", n1), ("kspace_encode_step_2", n2)):
        limit = encoding.limit(counter)
        offset = n // 2 - limit.center
        positions.append(headers["idx"][counter].astype(np.intp) + offset)
        first, last = max(limit.minimum + offset, 0), min(limit.maximum + offset, n - 1)
        bands.append(AxisBand(first, last, n))
        covered = np.zeros(n, bool)
        covered[first : last + 1] = True
        within.append(covered)
    k1, k2 = positions
    on_grid = (k1 >= 0) & (k1 < n1) & (k2 >= 0) & (k2 < n2)
    lines, k1, k2 = headers[on_grid], k1[on_grid], k2[on_grid]
    flags = lines["flags"]
    calibration = flagged(flags, _CALIBRATION_ONLY, _CALIBRATION_TOO)
    imaging = ~flagged(flags, _CALIBRATION_ONLY) | flagged(flags, _CALIBRATION_TOO)
    if encoding.calibration_mode == "embedded":
        imaging |= calibration
    keys = np.stack([lines["idx"][name] for name in IMAGE_COUNTERS], axis=1)
    counters, kspace = np.unique(keys, axis=0, return_inverse=True)
    kspace = kspace.reshape(-1)
    places = k2 * n1 + k1
    patterns: Counter[bytes] = Counter()
    first_mask = np.zeros((n2, n1), bool)
    sizes = []
    film: dict[tuple[int, int], npt.NDArray[np.bool_]] = {}
    numbers = np.unique(kspace[imaging])
    for number in numbers.tolist():
        mask = np.zeros(n2 * n1, bool)
        mask[places[imaging & (kspace == number)]] = True
        patterns[mask.tobytes()] += 1
        sizes.append(int(mask.sum()))
        if len(sizes) == 1:
            first_mask = mask.reshape(n2, n1)
        slice_, contrast, phase, repetition, set_ = counters[number].tolist()
        if [slice_, contrast, set_] == counters[numbers[0]][[0, 1, 4]].tolist():
            film[repetition, phase] = mask
    in_time = np.stack([film[when] for when in sorted(film)]) if n2 == 1 and film else None
    calibrating = np.zeros(n2 * n1, bool)
    calibrating[places[calibration]] = True
    pattern = SamplingPattern(
        imaging=first_mask,
        calibration=calibrating.reshape(n2, n1),
        within=within[1][:, None] & within[0],
        n_kspaces=len(sizes),
        n_patterns=len(patterns),
        fewest=min(sizes, default=0),
        most=max(sizes, default=0),
        bands=(bands[0], bands[1]),
        frames=in_time if in_time is not None and (in_time != in_time[0]).any() else None,
    )
    return pattern, int((~on_grid).sum())


def _readout_band(headers: Headers, encoding: Encoding | None) -> AxisBand | None:
    """Where the most frequent readouts lie on the readout axis, oversampling removed or not."""
    if encoding is None or not _is_cartesian(encoding) or not len(headers):
        return None
    (shape, _), *_ = Counter(_shapes(headers)).most_common(1)
    alike = (headers["number_of_samples"] == shape.n_samples) & (
        _turned_center(headers) == shape.center_sample
    )
    first = headers[alike][:1]
    before, after = int(first["discard_pre"][0]), int(first["discard_post"][0])
    if flagged(first["flags"], AcquisitionFlag.REVERSE)[0]:
        before, after = after, before
    n_samples = shape.n_samples - before - after
    center = shape.center_sample - before
    n_encoded = encoding.encoded.matrix[0]
    n_removed = round(n_encoded / encoding.oversampling)
    n = (
        n_removed
        if center <= n_removed // 2 and n_samples - center <= n_removed - n_removed // 2
        else n_encoded
    )
    return AxisBand(n // 2 - center, n // 2 - center + n_samples - 1, n)


def _geometries(headers: Headers, encoding: Encoding | None) -> tuple[dict[int, Geometry], str | None]:
    """Geometry of each slice by its first readout, and why one cannot be used."""
    found: dict[int, Geometry] = {}
    if encoding is None:
        return found, None
    slices, first = np.unique(headers["idx"]["slice"], return_index=True)
    space = encoding.recon
    for number, i in zip(slices.tolist(), first.tolist(), strict=True):
        try:
            found[number] = Geometry.from_readout(headers[i], space.field_of_view_mm, space.matrix)
        except (FormatError, HeaderError) as error:
            return found, f"slice {number}: {error}"
    return found, None
