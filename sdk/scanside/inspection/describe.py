"""A scan in words: short facts for people, the same in the terminal and in reports."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from scanside.inspection.inspect import Inspection
from scanside.inspection.orientation import describe_orientation, direction_letters
from scanside.inspection.pattern import describe_band
from scanside.inspection.survey import EncodingSurvey
from scanside.mrd.dtypes import TICK_MS
from scanside.mrd.flags import CALIBRATING, flagged
from scanside.mrd.geometry import Geometry
from scanside.mrd.header import MrdHeader

__all__ = ["contents", "counter_rows", "encoding_facts", "facts", "statements"]

_STEPS = ("kspace_encode_step_1", "kspace_encode_step_2")

Rows = list[tuple[str, str]]
"""Names and values."""


def facts(found: Inspection) -> Rows:
    """What was measured, on what, and on what it depends; only what is told."""
    rows = list(_header_facts(found.header)) if found.header is not None else []
    channels = np.unique(found.survey.headers["active_channels"]).tolist()
    if channels:
        rows.append(("coils", " or ".join(map(str, channels))))
    if found.duration_s is not None:
        rows.append(("duration", f"{found.duration_s:.1f} s (time stamps of {TICK_MS} ms)"))
    return rows


def _header_facts(header: MrdHeader) -> Iterator[tuple[str, str]]:
    strength = f"{header.field_strength_t:.4g} T" if header.field_strength_t else ""
    told = {
        "protocol": header.protocol_name,
        "system": " ".join(filter(None, (header.vendor, strength))),
        "measurement": header.measurement_id,
        "patient position": header.patient_position,
    }
    yield from ((name, text) for name, text in told.items() if text)
    for name, values in header.sequence_ms.items():
        is_angle = name == "flipAngle_deg"
        label = "flip angle" if is_angle else name.replace("_", " ")
        yield label, ", ".join(f"{value:.5g}{'°' if is_angle else ' ms'}" for value in values)
    for dependency in header.dependencies:
        yield f"depends on ({dependency.kind})", dependency.measurement_id


def contents(found: Inspection) -> Rows:
    """How much there is of what."""
    survey = found.survey
    rows = [("readouts", str(found.n_readouts))] if found.n_readouts else []
    if (noise := survey.noise) is not None:
        text = f"{noise.n_readouts}, {noise.n_samples} samples a coil, dwell time {noise.dwell_us:g} µs"
        rows.append(("noise readouts", text))
    for number, n in sorted(survey.waveforms.items()):
        name = found.header.waveform_names.get(number) if found.header is not None else None
        rows.append((f"waveform {number}", f"{n} pieces" + (f" ({name})" if name else "")))
    for series in survey.images:
        matrix = " × ".join(map(str, series.shape))
        text = f"{series.n_images} of {matrix} (channel, z, y, x), {series.dtype}"
        rows.append((f"image series {series.series}", text))
    rows += [(name, f"{n} messages") for name, n in survey.others.items()]
    if survey.flags:
        rows.append(("flags", ", ".join(f"{name} {n}" for name, n in survey.flags.items())))
    return rows


def encoding_facts(space: EncodingSurvey) -> Rows:
    """Matrices, readouts, sampled bands and geometry of an encoding space."""
    rows = []
    if space.encoding is not None:
        for name, matrix in (("encoded", space.encoding.encoded), ("image", space.encoding.recon)):
            size = " × ".join(map(str, matrix.matrix))
            fov = " × ".join(f"{n:g}" for n in matrix.field_of_view_mm)
            voxel = " × ".join(f"{n:.4g}" for n in matrix.voxel_mm)
            rows.append((f"{name} matrix", f"{size}, {fov} mm, voxel {voxel} mm"))
        rows.append(("trajectory", space.encoding.trajectory))
        if (multiband := space.encoding.multiband) is not None:
            references = multiband.calibration_encoding
            where = "not said" if references is None else f"encoding space {references}"
            rows.append(
                ("multiband", f"{multiband.factor} slices at once, references of single ones: {where}")
            )
    for shape, n in space.shapes.items():
        text = (
            f"{n} of {shape.n_coils} coils × {shape.n_samples} samples, echo at sample {shape.center_sample}"
        )
        rows.append(("readouts", text))
    rows.append(("dwell time", ", ".join(f"{dwell:.4g} µs" for dwell in space.dwell_us)))
    rows += statements(space)
    stacks: dict[tuple[object, ...], list[int]] = {}
    for number, geometry in space.geometries.items():
        # Directions that differ by less than some tenths of a degree are the same, rounded.
        stacks.setdefault((geometry.assumed, *geometry.directions.ravel().round(2) + 0.0), []).append(number)
    for numbers in stacks.values():
        rows += _geometry_facts(space.geometries[numbers[0]], numbers)
    return rows


def _geometry_facts(geometry: Geometry, numbers: list[int]) -> Iterator[tuple[str, str]]:
    """Of a stack of slices, all with the same directions."""
    hand = "left" if geometry.is_left_handed else "right"
    yield "orientation", f"{describe_orientation(geometry)}; {hand}-handed"
    if not geometry.assumed:
        read, phase, slice_ = (direction_letters(direction) for direction in geometry.directions.T)
        yield "directions", f"read to {read}, phase to {phase}, slice to {slice_}"
    position = ", ".join(f"{x:.1f}" for x in geometry.position)
    slices = f"; {len(numbers)} slices" if len(numbers) > 1 else ""
    yield "position", f"slice {numbers[0]} at ({position}) mm LPS{slices}"


def statements(space: EncodingSurvey) -> Rows:
    """What the sampled bands say about resolution and partial Fourier, axis by axis, and the calibration lines."""
    rows = []
    if (band := space.readout_band) is not None and band.first >= 0 and band.last < band.n:
        text = describe_band(band, "samples", "reduced resolution", "asymmetric echo")
        rows.append(("along the readout", text))
    if space.sampling is not None:
        for axis, band in zip(("phase", "partition"), space.sampling.bands, strict=True):
            if band.n > 1:
                text = describe_band(band, "lines", "reduced resolution", "partial Fourier")
                rows.append((f"along {axis}", text))
    if (calibration := _calibration(space)) is not None:
        rows.append(("calibration", calibration))
    return rows


def _calibration(space: EncodingSurvey) -> str | None:
    lines = space.headers[flagged(space.headers["flags"], *CALIBRATING)]
    if not len(lines):
        return None
    mode = (space.encoding.calibration_mode if space.encoding is not None else None) or "mode not given"
    parts = [f"{len(np.unique(lines['idx'][list(_STEPS)]))} lines ({mode})"]
    for name in _STEPS:
        values = np.unique(lines["idx"][name])
        if len(values) > 1:
            parts.append(f"{name} {values[0]} to {values[-1]}")
    return ", ".join(parts)


def counter_rows(space: EncodingSurvey) -> list[tuple[str, str, str, str, str]]:
    """Counters that count something: name, range found, number of values, limits, centre."""
    rows = []
    for counter in space.counters:
        limit = counter.limit
        if counter.maximum == 0 and (limit is None or limit.maximum == 0):
            continue
        limits = (
            ("not given", "") if limit is None else (f"{limit.minimum} – {limit.maximum}", str(limit.center))
        )
        rows.append((counter.name, f"{counter.minimum} – {counter.maximum}", str(counter.n_values), *limits))
    return rows
