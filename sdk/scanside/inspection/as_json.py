"""An inspection as JSON."""

from __future__ import annotations

from typing import Any

import numpy as np

from scanside.inspection.describe import facts, statements
from scanside.inspection.inspect import Inspection
from scanside.inspection.orientation import describe_orientation, direction_letters
from scanside.inspection.survey import EncodingSurvey, Survey
from scanside.mrd.geometry import Geometry

__all__ = ["as_dict"]


def as_dict(found: Inspection) -> dict[str, Any]:
    """Everything that was found as JSON-ready values; samples and headers of single readouts are left out."""
    survey, header = found.survey, found.header
    return {
        "path": str(found.path),
        "format": found.format,
        "group": found.group,
        "facts": dict(facts(found)),
        "n_readouts": found.n_readouts,
        "waveforms": {str(number): n for number, n in sorted(survey.waveforms.items())},
        "images": [
            {"series": s.series, "n_images": s.n_images, "shape": list(s.shape), "dtype": s.dtype}
            for s in survey.images
        ],
        "others": dict(survey.others),
        "flags": survey.flags,
        "noise": _noise_dict(survey),
        "dependencies": [
            {"kind": dependency.kind, "measurement_id": dependency.measurement_id}
            for dependency in (header.dependencies if header is not None else ())
        ],
        "encodings": [_encoding_dict(space) for space in found.encodings],
        "findings": [{"level": finding.level, "text": finding.text} for finding in found.findings],
    }


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
        if (multiband := encoding.multiband) is not None:
            result["multiband"] = {
                "factor": multiband.factor,
                "spacing_mm": multiband.spacing_mm,
                "delta_kz": multiband.delta_kz,
                "calibration_encoding": multiband.calibration_encoding,
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
    result["statements"] = dict(statements(space))
    result["geometry"] = {str(number): _geometry_dict(g) for number, g in space.geometries.items()}
    return result


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
