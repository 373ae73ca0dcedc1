"""What looks wrong with a scan: checks of its survey against its header."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice

import numpy as np
import numpy.typing as npt

from scanside.agreement import Finding, Level
from scanside.agreement.calibration import lines_of_images
from scanside.agreement.echo import lost_echoes
from scanside.inspection.pattern import SamplingPattern
from scanside.inspection.survey import EncodingSurvey, Survey
from scanside.losses import FIRST, LAST, recorded_calibration, recorded_losses
from scanside.mrd.dtypes import IMAGE_COUNTERS, Headers
from scanside.mrd.flags import AcquisitionFlag, flagged
from scanside.mrd.header import CONVENTIONAL_EPI, Encoding, MrdHeader
from scanside.recon.noise import dead_channels

__all__ = ["check"]

_ALL_LINES = 1.2  # fewer than one line for each so many that the limits cover is undersampling
_ESPIRIT = 11  # lines that ESPIRiT needs for its kernel of 6
_GRAPPA = (5, 4)  # GRAPPA's kernel along k0 and k1
_TOLD = 8  # so many damaged k-spaces are told one by one


def check(header: MrdHeader, survey: Survey) -> list[Finding]:
    """Everything that looks wrong, beside what `scanside.agreement` finds."""
    findings = [Finding("warning", text) for text in header.warnings]
    findings += [*_check_samples(survey), *_check_order(survey), *_check_header(header, survey)]
    for space in survey.encodings:
        counters = survey.headers["scan_counter"]
        elsewhere = [
            other.index
            for other in survey.encodings
            if other is not space and other.sampling is not None and other.sampling.calibration.any()
        ]
        findings += _check_encoding(header, space, counters, elsewhere, many=len(survey.encodings) > 1)
    return findings


def _check_samples(survey: Survey) -> Iterator[Finding]:
    if survey.n_non_finite:
        yield Finding(
            "error",
            f"samples are NaN or infinite in {_n(survey.n_non_finite, 'readout')}, first in that with scan counter "
            f"{survey.first_non_finite}: check the receiver or the converter",
        )
    if survey.n_all_zero:
        yield Finding("warning", f"nothing but zeros in {_n(survey.n_all_zero, 'readout')}")
    for series in survey.images:
        if series.n_non_finite:
            yield Finding(
                "error", f"NaN or infinity in {_n(series.n_non_finite, 'image')} of series {series.series}"
            )


def _check_order(survey: Survey) -> Iterator[Finding]:
    counters = survey.headers["scan_counter"].astype(np.int64)
    if len(counters) < 2:
        return
    if not counters.any():
        yield Finding("warning", "no readout has a scan counter: lost readouts would go unnoticed")
        return
    steps = np.diff(counters)
    gaps, repeats = np.flatnonzero(steps > 1), np.flatnonzero(steps == 0)
    if len(gaps):
        lost = int((steps[gaps] - 1).sum())
        yield Finding(
            "warning",
            f"scan counters jump ({_n(len(gaps), 'time')}, first from {counters[gaps[0]]} to "
            f"{counters[gaps[0] + 1]}): {_n(lost, 'readout')} may be lost, or a converter left them out",
        )
    if len(repeats):
        yield Finding(
            "warning", f"scan counters come twice ({_n(len(repeats), 'time')}, first {counters[repeats[0]]})"
        )
    if (steps < 0).any():
        i = int(np.flatnonzero(steps < 0)[0])
        yield Finding(
            "note", f"scan counters run backwards, the first time from {counters[i]} to {counters[i + 1]}"
        )
    stamps = survey.headers["acquisition_time_stamp"].astype(np.int64)
    if not stamps.any():
        yield Finding("note", "readouts have no time stamps: they cannot be replayed at the scanner's pace")
    elif (np.diff(stamps) < 0).any():
        yield Finding("note", "time stamps run backwards")


def _check_header(header: MrdHeader, survey: Survey) -> Iterator[Finding]:
    lacking = {
        "measurementInformation/measurementID": header.measurement_id,
        "acquisitionSystemInformation/receiverChannels": header.n_coils,
        "acquisitionSystemInformation/systemFieldStrength_T": header.field_strength_t,
        "acquisitionSystemInformation/relativeReceiverNoiseBandwidth": header.receiver_noise_bandwidth,
        "sequenceParameters": header.sequence_ms or None,
    }
    absent = [name for name, value in lacking.items() if value is None]
    if absent:
        yield Finding("note", f"the header lacks optional elements: {', '.join(absent)}")
    if not len(survey.headers):
        if not survey.images and not survey.others:
            yield Finding("error", "there are no readouts and no images")
        return
    channels = np.unique(survey.headers["active_channels"]).tolist()
    if header.n_coils is not None and channels != [header.n_coils]:
        found = " and ".join(map(str, channels))
        yield Finding("warning", f"the header announces {header.n_coils} channels, readouts have {found}")
    bandwidth = header.receiver_noise_bandwidth
    if bandwidth is not None and bandwidth <= 0:
        yield Finding(
            "error",
            f"relativeReceiverNoiseBandwidth is {bandwidth:g}, expected a positive number: correct it or leave it "
            "out",
        )
    is_noise = flagged(survey.headers["flags"], AcquisitionFlag.NOISE_MEASUREMENT)
    n_late = int(is_noise[int(np.append(is_noise, False).argmin()) :].sum())
    if n_late:
        yield Finding("warning", f"{_n(n_late, 'noise readout')} came after the first line and are not used")
    if is_noise.all():
        yield Finding("note", "there are noise readouts only: no image can be made of them")
    noise_ids = header.depends_on("Noise")
    if survey.noise is None and noise_ids:
        yield Finding(
            "note", f"no noise readouts: the noise scan is another measurement, {', '.join(noise_ids)}"
        )
    elif survey.noise is None:
        yield Finding("warning", "no noise readouts and no noise dependency: channels cannot be prewhitened")
    elif survey.noise.covariance is None:
        yield Finding("error", "noise readouts are not finite, or differ in the number of their channels")
    elif dead := dead_channels(survey.noise.covariance):
        yield Finding(
            "warning",
            f"no noise in channels (counted from 0) {', '.join(map(str, dead))} of {len(survey.noise.covariance)}: "
            "disconnected or empty; they are left out of the reconstruction",
        )
    elif survey.noise.n_samples < 10 * len(survey.noise.covariance):
        yield Finding(
            "warning",
            f"{survey.noise.n_samples} noise samples are few for the covariance of {channels[0]} coils",
        )


def _check_encoding(
    header: MrdHeader,
    space: EncodingSurvey,
    scan_counters: npt.NDArray[np.uint32],
    elsewhere: list[int],
    *,
    many: bool,
) -> Iterator[Finding]:
    prefix = f"encoding space {space.index}: " if many else ""
    if space.encoding is None:
        why = header.unusable.get(
            space.index,
            f"the header has {header.n_encodings} (numbered from 0): header and data do not belong together",
        )
        yield Finding("error", f"readouts refer to encoding space {space.index}, {why}")
        return
    encoding = space.encoding
    findings = chain(
        _check_shapes(space, encoding),
        _check_limits(encoding),
        _check_counters(space),
        _check_lines(space, encoding),
        _check_losses(header, space, encoding, scan_counters),
        _check_calibration(space, encoding, elsewhere),
        _check_geometry(space),
    )
    for finding in findings:
        yield Finding(finding.level, prefix + finding.text)


def _check_shapes(space: EncodingSurvey, encoding: Encoding) -> Iterator[Finding]:
    shapes = list(space.shapes)
    for name, what in (
        ("n_coils", "channels"),
        ("n_samples", "samples"),
        ("center_sample", "the echo's sample"),
    ):
        values = sorted({getattr(shape, name) for shape in shapes})
        if len(values) > 1:
            level: Level = "error" if name == "n_coils" else "warning"
            yield Finding(level, f"readouts change their {what}: {', '.join(map(str, values))} occur")
    lost = lost_echoes(space.headers)
    if lost.any():
        first = space.headers[lost][0]
        yield Finding(
            "error",
            f"nothing is left of the echo in {_n(int(lost.sum()), 'readout')}, first that with scan counter "
            f"{int(first['scan_counter'])}: of {int(first['number_of_samples'])} samples with the echo at "
            f"{int(first['center_sample'])} the first {int(first['discard_pre'])} and the last "
            f"{int(first['discard_post'])} are marked for discarding; check discard_pre, discard_post and "
            "center_sample in the converter",
        )
    band = space.readout_band
    regridded = _is_described(encoding)  # samples on ramps are more or fewer than the grid's
    if band is not None and not regridded and not lost.any() and (band.first < 0 or band.last >= band.n):
        yield Finding(
            "error",
            f"readouts of {band.size} samples with the echo at sample {band.n // 2 - band.first} do not fit the "
            f"encoded matrix of {encoding.encoded.matrix[0]} samples",
        )
    elif band is not None and encoding.oversampling > 1 and band.n < encoding.encoded.matrix[0]:
        yield Finding("note", f"readouts have {band.n} samples: the oversampling was removed before")
    if 0.0 in space.dwell_us:
        yield Finding(
            "warning", "readouts have no dwell time (sample_time_us = 0): noise cannot be scaled to them"
        )


def _check_limits(encoding: Encoding) -> Iterator[Finding]:
    if not encoding.limits:
        yield Finding("warning", "the header has no encoding limits: those of a full acquisition are assumed")
    for counter, axis in (("kspace_encode_step_1", 1), ("kspace_encode_step_2", 2)):
        limit, n = encoding.limits.get(counter), encoding.encoded.matrix[axis]
        if limit is None:
            continue
        below, above = limit.center - limit.minimum, limit.maximum - limit.center
        if not limit.minimum <= limit.center <= limit.maximum:
            yield Finding(
                "warning",
                f"the centre {limit.center} of {counter} lies outside its limits {limit.minimum} to {limit.maximum}",
            )
        elif below > n // 2 or above > n - 1 - n // 2:
            yield Finding(
                "warning",
                f"the limits of {counter} ({limit.minimum} to {limit.maximum}, centre {limit.center}) reach beyond "
                f"the encoded matrix of {n}",
            )


def _check_counters(space: EncodingSurvey) -> Iterator[Finding]:
    for counter in space.counters:
        if counter.limit is None:
            continue
        if counter.is_outside and counter.name.startswith("kspace"):
            yield Finding(
                "error",
                f"{counter.name} runs from {counter.minimum} to {counter.maximum}, outside the header's limits "
                f"{counter.limit.minimum} to {counter.limit.maximum}",
            )
        elif not counter.name.startswith("kspace") and counter.n_values < counter.limit.n:
            yield Finding(
                "warning",
                f"{counter.n_values} of the {counter.limit.n} values of {counter.name} that the header announces "
                "occur: the scan may have ended early",
            )
    if space.n_off_grid:
        yield Finding(
            "error",
            f"{_n(space.n_off_grid, 'readout')} lie outside the encoded matrix",
        )
    if space.n_repeated:
        yield Finding(
            "warning",
            f"all counters were there before in {_n(space.n_repeated, 'readout')}: repeated lines get averaged",
        )


def _without_trajectory(encoding: Encoding) -> Finding:
    """That readouts are no lines of a grid, and nothing tells where they lie."""
    return Finding(
        "error",
        f"the header's trajectory is {encoding.trajectory}, and no readout carries its trajectory: have the "
        "converter write it into the readouts",
    )


def _echo_planar(encoding: Encoding) -> Finding:
    """Whether the samples of echo trains can be regridded."""
    if _is_described(encoding):
        told = "samples on the gradient's ramps are regridded by its trajectoryDescription"
    else:
        told = f"samples are taken for equidistant, as no trajectoryDescription {CONVENTIONAL_EPI} tells otherwise"
    return Finding("note", f"the header's trajectory is epi: {told}")


def _is_described(encoding: Encoding) -> bool:
    return encoding.description is not None and encoding.description.identifier == CONVENTIONAL_EPI


def _check_lines(space: EncodingSurvey, encoding: Encoding) -> Iterator[Finding]:
    if encoding.trajectory == "epi":
        yield _echo_planar(encoding)
    elif encoding.trajectory != "cartesian" and not any(shape.n_dimensions >= 2 for shape in space.shapes):
        yield _without_trajectory(encoding)
    pattern = space.sampling
    if pattern is None:
        return
    named = encoding.acceleration
    found = pattern.spacing
    regular = tuple(step for step in found if step)
    if len(regular) == 2 and named != found and max(*named, *found) > 1 and not pattern.is_shifted(named):
        yield Finding(
            "warning",
            f"the header says acceleration {named[0]} × {named[1]}, the lines are spaced by {found[0]} × {found[1]}",
        )
    if pattern.fewest < pattern.most:
        yield Finding(
            "note" if pattern.n_patterns > 1 and pattern.most - pattern.fewest <= 1 else "warning",
            f"the number of lines differs between k-spaces: {pattern.fewest} to {pattern.most}",
        )
    late = _after_the_last(space.headers, encoding)
    if late is not None:
        yield Finding(
            "error",
            f"a line of an image comes after the one that is flagged as its last, the first with scan counter "
            f"{late}: the LAST flags of this scan are not reliable; set accumulate.trigger to 'measurement'",
        )
    if not (space.headers["flags"] & np.uint64(LAST)).any():
        yield Finding(
            "warning",
            "no readout is flagged as the last of its slice, repetition or measurement: images come only when the "
            "stream ends",
        )


def _after_the_last(headers: Headers, encoding: Encoding) -> int | None:
    """Scan counter of the first line of an image that comes after its LAST flag and begins no new one."""
    of_images = lines_of_images(headers, int(np.bitwise_or.reduce(headers["flags"])), encoding)
    lines = headers if of_images is None else headers[of_images]
    idx, flags = lines["idx"], lines["flags"]
    is_last = (flags & np.uint64(LAST)) != 0
    for counter in ("segment", "average"):
        is_last &= idx[counter] >= encoding.limit(counter).maximum
    keys = np.stack([idx[name] for name in IMAGE_COUNTERS], axis=1)
    image = np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)
    order = np.argsort(image, kind="stable")
    follows = np.diff(image[order]) == 0
    late = follows & is_last[order][:-1] & ((flags[order][1:] & np.uint64(FIRST)) == 0)
    return int(lines["scan_counter"][order[1:][late]].min()) if late.any() else None


def _check_losses(
    header: MrdHeader, space: EncodingSurvey, encoding: Encoding, scan_counters: npt.NDArray[np.uint32]
) -> Iterator[Finding]:
    """The same that stage `accumulate` tells."""
    if space.sampling is None:
        return
    doubted: set[str] = set()
    n_damaged = 0
    for name, found in recorded_losses(space.headers, header, encoding, scan_counters):
        n_damaged += bool(found.lost)
        if found.lost and n_damaged <= _TOLD:
            yield Finding("warning", f"lines were lost: {name}: {'; '.join(found.lost)}")
        for doubt in found.doubts:
            if doubt.kind not in doubted:
                doubted.add(doubt.kind)
                yield Finding("warning", f"lines may have been lost: {name}: {doubt.text}")
    if n_damaged > _TOLD:
        yield Finding("warning", f"lines were lost of {n_damaged - _TOLD} more images")
    for name, lost in islice(recorded_calibration(space.headers, header, encoding), _TOLD):
        yield Finding("warning", f"calibration lines were lost: {name}: {'; '.join(lost)}")


def _check_calibration(space: EncodingSurvey, encoding: Encoding, elsewhere: list[int]) -> Iterator[Finding]:
    """Calibration lines, which may lie in other encoding spaces (``elsewhere``)."""
    pattern = space.sampling
    if pattern is None:
        return
    undersampled = pattern.n_kspaces > 0 and pattern.acceleration > _ALL_LINES
    if undersampled and not pattern.calibration.any() and elsewhere:
        yield Finding(
            "note",
            f"lines are left out (R = {pattern.acceleration:.2f}), and calibration lines lie in encoding space "
            f"{', '.join(map(str, elsewhere))}: they serve where directions and place agree",
        )
    elif undersampled and not pattern.calibration.any() and pattern.takes_turns:
        yield Finding(
            "note",
            f"lines are left out (R = {pattern.acceleration:.2f}), others in each frame: calibration is over the "
            "frames",
        )
    elif undersampled and not pattern.calibration.any():
        yield Finding(
            "warning",
            f"lines are left out (R = {pattern.acceleration:.2f}), and none is flagged as calibration: GRAPPA and "
            "coil maps need calibration lines or a region that is fully sampled",
        )
    if pattern.calibration.any() and encoding.calibration_mode is None:
        yield Finding("note", "lines are flagged as calibration, and the header has no calibrationMode")
    for axis, found, needed in _few_calibration_lines(space, pattern, encoding):
        yield Finding(
            "warning",
            f"the calibration region has {_n(found, 'line')} along {axis}: the kernels that pipelines use by default "
            f"need {needed}; smaller ones are taken where they fit, and images may be less exact",
        )


def _few_calibration_lines(
    space: EncodingSurvey, pattern: SamplingPattern, encoding: Encoding
) -> Iterator[tuple[str, int, int]]:
    """Axes on which calibration lines do not suffice: their name, how many there are, and how many are needed."""
    if pattern.calibration_range is not None:
        extents = [last - first + 1 for first, last in pattern.calibration_range]
    elif pattern.acceleration <= _ALL_LINES:
        extents = [_about_center(pattern.imaging, axis) for axis in (0, 1)]
    else:
        return
    n_coils = max((shape.n_coils for shape in space.shapes), default=0)
    _, *sizes = encoding.encoded.matrix
    for k, (found, n, r) in enumerate(zip(extents, sizes, encoding.acceleration, strict=True), 1):
        needed = _ESPIRIT
        if r > 1:
            needed = max(needed, (_GRAPPA[1] - 1) * r + 1)
            if sizes[1] == 1:
                # As many equations as weights: of every line, one for each place of the kernel along the readout.
                per_line = max(encoding.recon.matrix[0] - _GRAPPA[0] + 1, 1)
                needed = max(needed, (_GRAPPA[1] - 1) * r + -(-n_coils * _GRAPPA[0] * _GRAPPA[1] // per_line))
        if found < min(needed, n):
            yield f"k{k}", found, min(needed, n)


def _about_center(lines: npt.NDArray[np.bool_], axis: int) -> int:
    """Length of the block of sampled rows or columns that reaches as far below the centre as above."""
    sampled: npt.NDArray[np.bool_] = np.any(lines, axis=axis)
    center = len(sampled) // 2
    gaps = np.flatnonzero(~sampled)
    below = center - max(gaps[gaps <= center], default=-1)
    above = min(gaps[gaps >= center], default=len(sampled)) - center
    return len(sampled) if not len(gaps) else max(2 * min(int(below), int(above)) - 1, 0)


def _check_geometry(space: EncodingSurvey) -> Iterator[Finding]:
    if space.bad_geometry is not None:
        yield Finding("error", space.bad_geometry)
    geometries = list(space.geometries.values())
    if any(geometry.assumed for geometry in geometries):
        yield Finding("warning", "all directions are zero: where the image lies in the patient is unknown")
    if any(geometry.is_left_handed for geometry in geometries):
        yield Finding(
            "note", "read, phase and slice direction form a left-handed triple, as many scanners give them"
        )
    positions = {tuple(geometry.position.tolist()) for geometry in geometries}
    if len(geometries) > 1 and len(positions) < len(geometries):
        yield Finding("warning", f"{len(geometries)} slices share {_n(len(positions), 'position')}")


def _n(n: int, noun: str) -> str:
    return f"{n} {noun}" + "s" * (n != 1)
