"""Reading a file once and telling what is in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scanside.errors import FileFormatError, FormatError, HeaderError, StreamError
from scanside.inspection.checks import Finding, check
from scanside.inspection.orientation import describe_orientation, direction_letters
from scanside.inspection.pattern import describe_band
from scanside.inspection.survey import Collector, EncodingSurvey, Survey
from scanside.mrd.files import Hdf5Recording, Recording, open_recording
from scanside.mrd.flags import AcquisitionFlag, flagged
from scanside.mrd.geometry import Geometry
from scanside.mrd.hdf5 import groups
from scanside.mrd.header import MrdHeader

__all__ = ["TICK_MS", "Inspection", "inspect_file"]

_STEPS = ("kspace_encode_step_1", "kspace_encode_step_2")

TICK_MS = 2.5
"""Unit of time stamps on Siemens scanners; the standard leaves it to the vendor."""


@dataclass(slots=True)
class Inspection:
    """What is in a file.

    Attributes:
        path: the file.
        format: ``ISMRMRD HDF5`` or ``ISMRMRD stream``.
        group: the HDF5 group that was read; empty for a stream.
        header: the scan's header; None where there is none or it cannot be used.
        survey: what was read.
        findings: what looks wrong, errors first.
    """

    path: Path
    format: str
    group: str
    header: MrdHeader | None
    survey: Survey
    findings: list[Finding]

    @property
    def n_readouts(self) -> int:
        """All readouts, noise and navigators included."""
        return len(self.survey.headers)

    @property
    def encodings(self) -> list[EncodingSurvey]:
        """Encoding spaces that occur."""
        return self.survey.encodings

    @property
    def duration_s(self) -> float | None:
        """From the first to the last readout, if time stamps count 2.5 ms; None without time stamps."""
        stamps = self.survey.headers["acquisition_time_stamp"].astype(np.int64)
        if not len(stamps) or not stamps.any():
            return None
        return float(np.ptp(stamps)) * TICK_MS / 1e3

    def facts(self) -> list[tuple[str, str]]:
        """The scan in a few lines: what it is, and from where; only what the header tells."""
        return list(_facts(self))

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON-ready values."""
        return {
            "path": str(self.path),
            "format": self.format,
            "group": self.group,
            "facts": dict(self.facts()),
            "n_readouts": self.n_readouts,
            "waveforms": {str(number): n for number, n in sorted(self.survey.waveforms.items())},
            "images": [
                {"series": s.series, "n_images": s.n_images, "shape": list(s.shape), "dtype": s.dtype}
                for s in self.survey.images
            ],
            "others": dict(self.survey.others),
            "flags": self.survey.flags,
            "noise": _noise_dict(self.survey),
            "dependencies": [
                {"kind": d.kind, "measurement_id": d.measurement_id}
                for d in (self.header.dependencies if self.header else ())
            ],
            "encodings": [_encoding_dict(space) for space in self.encodings],
            "findings": [{"level": f.level, "text": f.text} for f in self.findings],
        }


def inspect_file(path: str | Path, group: str | None = None) -> Inspection:
    """Read a file to its end and tell what is in it.

    A file that is damaged further on is inspected as far as it can be read; the rest is an error among the
    findings.

    Args:
        path: an ISMRMRD HDF5 file or an ISMRMRD stream.
        group: the HDF5 group; by default ``dataset``, or the only one there is.

    Raises:
        FileFormatError: the file is neither, or has no such group.
        StreamError: a stream breaks off before its header.
        FileNotFoundError: there is no such file.
    """
    path = Path(path)
    findings: list[Finding] = []
    group = _choose_group(path) if group is None else group
    with open_recording(path, group) as recording:
        is_hdf5 = isinstance(recording, Hdf5Recording)
        header = _header(recording, findings)
        collector = Collector()
        try:
            for item in recording.items():
                collector.take(item)
        except (FormatError, StreamError) as error:
            findings.append(Finding("error", f"reading ended early: {error}"))
    survey = collector.survey(header)
    if header is not None:
        findings += check(header, survey)
    elif not findings and len(survey.headers):
        findings.append(Finding("error", "there are readouts, but no header says what they are"))
    return Inspection(
        path=path,
        format="ISMRMRD HDF5" if is_hdf5 else "ISMRMRD stream",
        group=group if is_hdf5 else "",
        header=header,
        survey=survey,
        findings=findings,
    )


def _choose_group(path: Path) -> str:
    try:
        present = groups(path)
    except FileFormatError:
        return (
            "dataset"  # a stream has no groups, and for what is neither open_recording has the better error
        )
    return present[0] if len(present) == 1 else "dataset"


def _header(recording: Recording, findings: list[Finding]) -> MrdHeader | None:
    try:
        return MrdHeader.parse(recording.header_xml)
    except FileFormatError:
        return None  # files that hold images only need none
    except HeaderError as error:
        findings.append(Finding("error", str(error)))
    return None


def calibration_statement(space: EncodingSurvey) -> str | None:
    """How many calibration lines there are and which counters they have; None without any."""
    flags = (AcquisitionFlag.PARALLEL_CALIBRATION, AcquisitionFlag.PARALLEL_CALIBRATION_AND_IMAGING)
    lines = space.headers[flagged(space.headers["flags"], *flags)]
    if not len(lines):
        return None
    mode = (space.encoding.calibration_mode if space.encoding else None) or "mode not given"
    parts = [f"{len(np.unique(lines['idx'][list(_STEPS)]))} calibration lines ({mode})"]
    for name in _STEPS:
        values = np.unique(lines["idx"][name])
        if len(values) > 1:
            parts.append(f"{name} {values[0]} to {values[-1]}")
    return ", ".join(parts)


def _facts(found: Inspection) -> Iterator[tuple[str, str]]:
    header = found.header
    if header is not None:
        strength = f"{header.field_strength_t:.4g} T" if header.field_strength_t else ""
        system = " ".join(filter(None, (header.vendor, strength)))
        told = {
            "protocol": header.protocol_name,
            "system": system,
            "measurement": header.measurement_id,
            "patient position": header.patient_position,
        }
        yield from ((name, text) for name, text in told.items() if text)
        for name, values in header.sequence_ms.items():
            unit = "°" if name == "flipAngle_deg" else " ms"
            label = "flip angle" if name == "flipAngle_deg" else name.replace("_", " ")
            yield label, ", ".join(f"{value:.5g}{unit}" for value in values)
        for dependency in header.dependencies:
            yield f"depends on ({dependency.kind})", dependency.measurement_id
    channels = np.unique(found.survey.headers["active_channels"]).tolist()
    if channels:
        yield "coils", " or ".join(map(str, channels))
    if found.duration_s is not None:
        yield "duration", f"{found.duration_s:.1f} s (time stamps of {TICK_MS} ms)"


def _noise_dict(survey: Survey) -> dict[str, Any] | None:
    if survey.noise is None:
        return None
    noise = survey.noise
    std = None if noise.covariance is None else np.sqrt(np.diag(noise.covariance).real).tolist()
    return {
        "n_readouts": noise.n_readouts,
        "n_samples": noise.n_samples,
        "dwell_us": noise.dwell_us,
        "std_per_coil": std,
    }


def _encoding_dict(space: EncodingSurvey) -> dict[str, Any]:
    result: dict[str, Any] = {"index": space.index, "n_readouts": len(space.headers)}
    encoding, pattern = space.encoding, space.sampling
    if encoding is not None:
        result |= {
            "encoded": {
                "matrix": encoding.encoded.matrix,
                "field_of_view_mm": encoding.encoded.field_of_view_mm,
            },
            "recon": {"matrix": encoding.recon.matrix, "field_of_view_mm": encoding.recon.field_of_view_mm},
            "trajectory": encoding.trajectory,
            "acceleration": encoding.acceleration,
            "calibration_mode": encoding.calibration_mode,
            "oversampling": encoding.oversampling,
        }
    result["shapes"] = [
        {"n_readouts": n, "n_coils": s.n_coils, "n_samples": s.n_samples, "center_sample": s.center_sample}
        for s, n in space.shapes.items()
    ]
    result["counters"] = {
        c.name: {
            "minimum": c.minimum,
            "maximum": c.maximum,
            "n_values": c.n_values,
            "limit": None if c.limit is None else [c.limit.minimum, c.limit.maximum, c.limit.center],
        }
        for c in space.counters
    }
    result["dwell_us"] = list(space.dwell_us)
    if pattern is not None:
        calibration = pattern.calibration_range
        result["sampling"] = {
            "text": pattern.describe(),
            "n_lines": pattern.n_lines,
            "acceleration": pattern.acceleration,
            "spacing": list(pattern.spacing),
            "n_kspaces": pattern.n_kspaces,
            "n_patterns": pattern.n_patterns,
            "calibration_k1": None if calibration is None else list(calibration[0]),
            "calibration_k2": None if calibration is None else list(calibration[1]),
            "bands": {
                axis: {"first": band.first, "last": band.last, "n": band.n, "kind": band.kind}
                for axis, band in zip(("k1", "k2"), pattern.bands, strict=True)
            },
        }
    if space.readout_band is not None:
        band = space.readout_band
        result["readout"] = {"first": band.first, "last": band.last, "n": band.n, "kind": band.kind}
    result["statements"] = statements(space)
    result["geometry"] = {str(number): _geometry_dict(g) for number, g in space.geometries.items()}
    return result


def statements(space: EncodingSurvey) -> list[str]:
    """What the sampled bands say about resolution and partial Fourier, axis by axis, and the calibration lines."""
    told = []
    calibration = calibration_statement(space)
    if space.readout_band is not None and space.readout_band.first >= 0:
        text = describe_band(space.readout_band, "samples", "reduced resolution", "asymmetric echo")
        told.append(f"readout: {text}")
    if space.sampling is not None:
        for axis, band in zip(("phase", "partition"), space.sampling.bands, strict=True):
            if band.n > 1:
                text = describe_band(band, "lines", "reduced resolution", "partial Fourier")
                told.append(f"{axis}: {text}")
    if calibration is not None:
        told.append(calibration)
    return told


def _geometry_dict(geometry: Geometry) -> dict[str, Any]:
    return {
        "position_mm": geometry.position.tolist(),
        "read_dir": geometry.read_dir.tolist(),
        "phase_dir": geometry.phase_dir.tolist(),
        "slice_dir": geometry.slice_dir.tolist(),
        "voxel_mm": geometry.voxel_size_mm.tolist(),
        "orientation": describe_orientation(geometry),
        "directions": [direction_letters(d) for d in geometry.directions.T],
        "handedness": "left" if geometry.is_left_handed else "right",
        "assumed": geometry.assumed,
    }
