"""The XML header of a simulated scan, after the ISMRMRD schema.

Written with the standard library so that optional parts can be left out as freely as converters leave them out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from scanside.mrd.header import REORDERING_SHIFT
from scanside.simulate.config import EchoPlanarConfig, MultibandConfig, ScanConfig
from scanside.simulate.geometry import ScanGrid
from scanside.simulate.sampling import Band

__all__ = ["NOISE_ID", "Limit", "noise_header", "scan_header"]

NAMESPACE = "http://www.ismrm.org/ISMRMRD"
NOISE_ID = "scanside_1_1_1"
"""Measurement ID of the noise scan that it depends on."""

Tree = Mapping[str, object]
Encoded = tuple[ScanConfig, ScanGrid, tuple[Band, Band]]


@dataclass(frozen=True)
class Limit:
    """Encoding limits of one counter."""

    maximum: int = 0
    center: int = 0

    def tree(self) -> Tree:
        """As elements of the header."""
        return {"minimum": 0, "maximum": self.maximum, "center": self.center}


def scan_header(
    config: ScanConfig, grid: ScanGrid, bands: tuple[Band, Band], reference: Encoded | None = None
) -> bytes:
    """Header of the imaging scan.

    Args:
        config: the scan.
        grid: its geometry.
        bands: along (k1, k2).
        reference: the scan of the calibration lines that lie in a second encoding space.
    """
    depends = NOISE_ID if config.noise.scan == "separate" else None
    encodings = [_encoding(config, grid, bands)]
    if reference is not None:
        # Converters say of both spaces how the calibration lines come.
        parallel = {"accelerationFactor": _factors((1, 1)), "calibrationMode": "separate"}
        encodings.append({**_encoding(*reference), "parallelImaging": parallel})
    if config.sampling.multiband is not None:
        encodings.append(_single_band(encodings[0], config.geometry.n_slices))
    return _document(config, encodings, config.measurement_id, config.name, depends)


def noise_header(config: ScanConfig, n_samples: int) -> bytes:
    """Header of a noise scan that was measured on its own."""
    space = {
        "matrixSize": {"x": n_samples, "y": 1, "z": 1},
        "fieldOfView_mm": dict(zip("xyz", config.geometry.fov_mm, strict=True)),
    }
    limits = {"kspace_encoding_step_1": Limit().tree()}
    encoding = {
        "encodedSpace": space,
        "reconSpace": space,
        "encodingLimits": limits,
        "trajectory": "cartesian",
    }
    return _document(config, [encoding], NOISE_ID, "AdjCoilSens", None)


def _single_band(encoding: Tree, n_slices: int) -> Tree:
    """The encoding of references of single slices."""
    limits = encoding["encodingLimits"]
    assert isinstance(limits, Mapping)
    if "slice" in limits:
        limits = {**limits, "slice": Limit(n_slices - 1).tree()}
    return {
        **{name: tree for name, tree in encoding.items() if name != "parallelImaging"},
        "encodingLimits": limits,
    }


def _multiband(config: ScanConfig, multiband: MultibandConfig) -> Tree:
    """In cycles per mm and mm, for which the standard names no units."""
    distance = (config.geometry.fov_mm[2] + config.geometry.slice_gap_mm) * (
        config.geometry.n_slices // multiband.factor
    )
    return {
        "spacing": {"dZ": [band * distance for band in range(multiband.factor)]},
        "deltaKz": multiband.cycles / distance,
        "multiband_factor": multiband.factor,
        "calibration": "separable2D",
        "calibration_encoding": 1,
    }


def _document(
    config: ScanConfig, encodings: Sequence[Tree], identity: str, name: str, depends: str | None
) -> bytes:
    measurement: dict[str, object] = {
        "measurementID": identity,
        "patientPosition": "HFS",
        "protocolName": name,
    }
    if depends is not None:
        measurement["measurementDependency"] = {"dependencyType": "Noise", "measurementID": depends}
    sections: dict[str, object] = {
        "studyInformation": {"studyTime": "12:00:00"},
        "measurementInformation": measurement,
        "acquisitionSystemInformation": {
            "systemVendor": _vendor(config),
            "systemModel": "simulator",
            "systemFieldStrength_T": 3.0,
            "relativeReceiverNoiseBandwidth": config.noise.relative_receiver_bandwidth,
            "receiverChannels": config.coils.n_coils,
            "coilLabel": [
                {"coilNumber": coil, "coilName": f"Loop:{coil + 1}"} for coil in range(config.coils.n_coils)
            ],
        },
        "experimentalConditions": {"H1resonanceFrequency_Hz": 127_740_000},
        "encoding": encodings,
        "sequenceParameters": {"TR": config.timing.tr_ms, "TE": list(config.dynamics.te_ms)},
    }
    if config.quirks.user_parameters and (long := _user_parameters(config)):
        sections["userParameters"] = {
            "userParameterLong": [{"name": name, "value": value} for name, value in long.items()]
        }
    if config.waveforms.ecg:
        sections["waveformInformation"] = {
            "waveformName": "ECG",
            "waveformType": "ecg",
            "userParameters": {"userParameterLong": {"name": "TriggerChannel", "value": 1}},
        }
    kept = {key: value for key, value in sections.items() if key not in config.quirks.absent}
    root = ElementTree.Element("ismrmrdHeader", xmlns=NAMESPACE)
    _fill(root, kept)
    ElementTree.indent(root, " ")
    text: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def _user_parameters(config: ScanConfig) -> dict[str, int]:
    """Of Siemens' protocol, by the names that it has in its card or in the converter's map."""
    named = {}
    if any(config.sampling.acs):
        named = {f"EmbeddedRefLinesE{axis + 1}": count for axis, count in enumerate(config.sampling.acs)}
    if config.sampling.shift:
        named[REORDERING_SHIFT] = config.sampling.shift
    return named


def _vendor(config: ScanConfig) -> str:
    """SIEMENS where a reader has to know that the centre of k-space stands in user counters."""
    return "SIEMENS" if config.quirks.center_in_user and config.quirks.limits != "full" else "Scanside"


def _encoding(config: ScanConfig, grid: ScanGrid, bands: tuple[Band, Band]) -> Tree:
    encoding: dict[str, object] = {
        "encodedSpace": _space(grid.encoded_matrix, grid.encoded_fov_mm),
        "reconSpace": _space(grid.recon_matrix, grid.recon_fov_mm),
        "encodingLimits": _limits(config, bands),
        "trajectory": _trajectory(config),
    }
    sampling = config.sampling
    if sampling.epi is not None and sampling.epi.identifier is not None:
        encoding["trajectoryDescription"] = _description(config, sampling.epi, grid)
    if any(sampling.acs) or max(sampling.acceleration) > 1 or sampling.multiband is not None:
        mode = "embedded" if any(sampling.acs) and sampling.acs_mode == "integrated" else "separate"
        parallel: dict[str, object] = {
            "accelerationFactor": _factors(sampling.acceleration),
            "calibrationMode": mode if any(sampling.acs) or sampling.reference else "other",
        }
        if sampling.multiband is not None:
            parallel["multiband"] = _multiband(config, sampling.multiband)
        encoding["parallelImaging"] = parallel
    return {key: value for key, value in encoding.items() if key not in config.quirks.absent}


def _factors(acceleration: tuple[float, float]) -> Tree:
    return {f"kspace_encoding_step_{axis + 1}": round(factor) for axis, factor in enumerate(acceleration)}


def _trajectory(config: ScanConfig) -> str:
    """The kind of trajectory in the words of the standard."""
    trajectory = config.sampling.trajectory
    if trajectory is None:
        return "cartesian" if config.sampling.epi is None else "epi"
    if trajectory.kind == "spiral":
        return "spiral"
    return "goldenangle" if trajectory.angles == "golden" else "radial"


def _description(config: ScanConfig, epi: EchoPlanarConfig, grid: ScanGrid) -> Tree:
    """Of an echo train, as the converter of Siemens' raw data writes it: times in µs."""
    dwell_us = config.timing.dwell_us
    n_samples = epi.samples or grid.encoded_matrix[0]
    whole = {
        "numberOfNavigators": epi.navigators,
        "rampUpTime": epi.ramp_us,
        "rampDownTime": epi.ramp_us,
        "flatTopTime": round(epi.flat_top_us(n_samples, dwell_us)),
        "echoSpacing": round(epi.echo_spacing_us(n_samples, dwell_us)),
        "acqDelayTime": epi.acq_delay_us,
        "numSamples": n_samples,
    }
    return {
        "identifier": epi.identifier,
        "userParameterLong": [{"name": name, "value": value} for name, value in whole.items()],
        "userParameterDouble": {"name": "dwellTime", "value": dwell_us},
    }


def _limits(config: ScanConfig, bands: tuple[Band, Band]) -> Tree:
    if config.quirks.limits == "none":
        return {}
    step_1 = {"kspace_encoding_step_1": Limit(bands[0].maximum, bands[0].center).tree()}
    if config.quirks.limits == "step_1":
        return step_1
    dynamics, multiband = config.dynamics, config.sampling.multiband
    counts = {
        "average": dynamics.averages,
        "slice": config.geometry.n_slices // multiband.factor if multiband else config.geometry.n_slices,
        "contrast": len(dynamics.te_ms),
        "phase": dynamics.phases,
        "repetition": dynamics.repetitions,
        "set": dynamics.sets,
        "segment": dynamics.segments,
    }
    return {
        **step_1,
        "kspace_encoding_step_2": Limit(bands[1].maximum, bands[1].center).tree(),
        **{name: Limit(count - 1).tree() for name, count in counts.items()},
    }


def _space(matrix: tuple[int, int, int], fov_mm: tuple[float, float, float]) -> Tree:
    return {
        "matrixSize": dict(zip("xyz", matrix, strict=True)),
        "fieldOfView_mm": dict(zip("xyz", fov_mm, strict=True)),
    }


def _fill(element: ElementTree.Element, tree: Mapping[str, object]) -> None:
    for name, value in tree.items():
        for entry in value if isinstance(value, Sequence) and not isinstance(value, str) else [value]:
            child = ElementTree.SubElement(element, name)
            if isinstance(entry, Mapping):
                _fill(child, entry)
            else:
                child.text = str(entry)
