"""The scan's XML header, read tolerantly.

The schema makes most elements optional and producers leave out even required ones. What a reconstruction
cannot do without (an encoding with its matrices and fields of view) is demanded with a clear error;
everything else has a documented meaning when absent. The raw XML stays with the parsed header, so passing it on loses
nothing.

Standard: ISMRMRD XML header schema (Inati et al., Magn Reson Med 2017;77:411).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element

from scanside.errors import HeaderError
from scanside.mrd.dtypes import COUNTERS
from scanside.mrd.xml import XmlError, parse_xml
from scanside.texts import shortened, shown

__all__ = ["Dependency", "Encoding", "Limit", "MrdHeader", "Space"]

# The schema spells two counters of the encoding limits differently from the acquisition header.
_LIMIT_ELEMENTS = {
    "kspace_encoding_step_0": "kspace_encode_step_0",
    "kspace_encoding_step_1": "kspace_encode_step_1",
    "kspace_encoding_step_2": "kspace_encode_step_2",
}


@dataclass(frozen=True, slots=True)
class Limit:
    """Range of an encoding counter, both ends included, and the counter of the k-space centre."""

    minimum: int
    maximum: int
    center: int

    @property
    def n(self) -> int:
        """How many values the counter can take."""
        return self.maximum - self.minimum + 1


@dataclass(frozen=True, slots=True)
class Space:
    """An encoded or reconstructed space: matrix and field of view in mm, both in the order (x, y, z)."""

    matrix: tuple[int, int, int]
    field_of_view_mm: tuple[float, float, float]

    @property
    def voxel_mm(self) -> tuple[float, float, float]:
        """Voxel size in mm, (x, y, z)."""
        x, y, z = (fov / n for fov, n in zip(self.field_of_view_mm, self.matrix, strict=True))
        return x, y, z


@dataclass(frozen=True, slots=True)
class Encoding:
    """One encoding space of a scan.

    Attributes:
        index: its number, as in a readout's ``encoding_space_ref``.
        encoded: matrix and field of view as acquired, readout oversampling included.
        recon: matrix and field of view of the images to make.
        limits: by counter name, only those that the header gives.
        trajectory: ``cartesian``, ``epi``, ``radial``, … in lower case; ``cartesian`` where absent.
        acceleration: along (k1, k2); 1 where the header says nothing.
        calibration_mode: ``embedded``, ``separate``, ``external``, ``interleaved``, ``other``, or None.
        echo_train_length: readouts per excitation, where given.
    """

    index: int
    encoded: Space
    recon: Space
    limits: Mapping[str, Limit] = field(default_factory=dict)
    trajectory: str = "cartesian"
    acceleration: tuple[int, int] = (1, 1)
    calibration_mode: str | None = None
    echo_train_length: int | None = None

    def limit(self, counter: str) -> Limit:
        """Limits of a counter; where the header has none, those that a full acquisition would have.

        Without limits, phase and partition encoding run over the encoded matrix with the centre in its
        middle, and every other counter is a single zero.
        """
        if counter in self.limits:
            return self.limits[counter]
        if counter in ("kspace_encode_step_1", "kspace_encode_step_2"):
            n = self.encoded.matrix[int(counter[-1])]
            return Limit(0, n - 1, n // 2)
        return Limit(0, 0, 0)

    @property
    def oversampling(self) -> float:
        """Readout oversampling: how much longer the encoded field of view is than the reconstructed one."""
        return self.encoded.field_of_view_mm[0] / self.recon.field_of_view_mm[0]


@dataclass(frozen=True, slots=True)
class Dependency:
    """Another measurement that this scan needs, for example its noise scan."""

    kind: str
    measurement_id: str


@dataclass(frozen=True, slots=True)
class MrdHeader:
    """What Scanside uses of a scan's header; `xml` is the header as received.

    Attributes:
        xml: the XML document.
        encodings: at least one.
        measurement_id: None where absent.
        dependencies: other measurements that this one names.
        protocol_name: None where absent.
        patient_position: for example ``HFS``; None where absent.
        n_coils: receiver channels; None where absent.
        coil_names: label of each channel, by channel number as the header lists them.
        receiver_noise_bandwidth: relative receiver noise bandwidth; None where absent.
        field_strength_t: in tesla; None where absent.
        vendor: system vendor; None where absent.
        sequence_ms: lists of ``TR``, ``TE``, ``TI``, ``echo_spacing`` in ms and ``flipAngle_deg`` in degrees.
        user_parameters: user parameters of type long, double and string by name.
        waveform_names: waveform name by its number.
    """

    xml: bytes
    encodings: tuple[Encoding, ...]
    measurement_id: str | None = None
    dependencies: tuple[Dependency, ...] = ()
    protocol_name: str | None = None
    patient_position: str | None = None
    n_coils: int | None = None
    coil_names: tuple[str, ...] = ()
    receiver_noise_bandwidth: float | None = None
    field_strength_t: float | None = None
    vendor: str | None = None
    sequence_ms: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    user_parameters: Mapping[str, int | float | str] = field(default_factory=dict)
    waveform_names: Mapping[int, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, xml: bytes | str) -> MrdHeader:
        """Read a header.

        Args:
            xml: the document; a trailing NUL is allowed, the namespace may be any or none.

        Raises:
            HeaderError: malformed XML, or no encoding with matrix sizes and fields of view, or a value that
                is none (a size or an acceleration below 1, limits that run backwards).
        """
        raw = xml.encode(errors="replace") if isinstance(xml, str) else bytes(xml)
        raw = raw.rstrip(b"\0")
        try:
            root = parse_xml(raw)
        except XmlError as error:
            raise HeaderError(
                f"the scan's header is not well-formed XML ({error}); it begins with {shown(raw, 60)}: "
                "check the converter that made the file or stream"
            ) from error
        if _name(root) != "ismrmrdHeader":
            raise HeaderError(
                f"the scan's header is a <{shortened(_name(root), 80)}> document, expected <ismrmrdHeader>: "
                "is this a configuration sent in the header's place?"
            )
        encodings = tuple(_encoding(i, element) for i, element in enumerate(_all(root, "encoding")))
        if not encodings:
            raise HeaderError("the scan's header has no <encoding>: matrix and field of view are unknown")
        system = "acquisitionSystemInformation"
        measurement = "measurementInformation"
        return cls(
            xml=raw,
            encodings=encodings,
            measurement_id=_text(root, measurement, "measurementID"),
            dependencies=tuple(
                Dependency(_text(d, "dependencyType") or "", _text(d, "measurementID") or "")
                for d in _all(root, measurement, "measurementDependency")
            ),
            protocol_name=_text(root, measurement, "protocolName"),
            patient_position=_text(root, measurement, "patientPosition"),
            n_coils=_integer(root, system, "receiverChannels"),
            coil_names=tuple(_text(c, "coilName") or "" for c in _all(root, system, "coilLabel")),
            receiver_noise_bandwidth=_number(root, system, "relativeReceiverNoiseBandwidth"),
            field_strength_t=_number(root, system, "systemFieldStrength_T"),
            vendor=_text(root, system, "systemVendor"),
            sequence_ms={
                name: values
                for name in ("TR", "TE", "TI", "flipAngle_deg", "echo_spacing")
                if (values := _numbers(root, "sequenceParameters", name))
            },
            user_parameters=dict(_user_parameters(root)),
            waveform_names={
                number: _text(w, "waveformName") or ""
                for w in _all(root, "waveformInformation")
                if (number := _waveform_number(w)) is not None
            },
        )

    def encoding(self, index: int) -> Encoding:
        """The encoding space that a readout refers to.

        Raises:
            HeaderError: the header has no such encoding.
        """
        if not 0 <= index < len(self.encodings):
            raise HeaderError(
                f"a readout refers to encoding space {index}, but the header has {len(self.encodings)} "
                "(numbered from 0): the header does not belong to these data"
            )
        return self.encodings[index]

    def depends_on(self, kind: str) -> tuple[str, ...]:
        """Measurement IDs of the dependencies of a kind (compared without case), for example ``Noise``."""
        return tuple(d.measurement_id for d in self.dependencies if d.kind.lower() == kind.lower())


def _name(element: Element) -> str:
    """Tag without its namespace: producers disagree about it."""
    return element.tag.rpartition("}")[2]


def _all(parent: Element, *path: str) -> list[Element]:
    found = [parent]
    for name in path:
        found = [child for element in found for child in element if _name(child) == name]
    return found


def _text(parent: Element, *path: str) -> str | None:
    for element in _all(parent, *path):
        text = (element.text or "").strip()
        return text or None
    return None


def _number(parent: Element, *path: str) -> float | None:
    text = _text(parent, *path)
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        name = "/".join(path) or _name(parent)
        raise HeaderError(f"<{name}> of the scan's header is {shown(text)}, expected a finite number")
    return value


def _numbers(parent: Element, *path: str) -> tuple[float, ...]:
    return tuple(value for element in _all(parent, *path) if (value := _number(element)) is not None)


def _integer(parent: Element, *path: str) -> int | None:
    value = _number(parent, *path)
    if value is None:
        return None
    if not value.is_integer():
        raise HeaderError(f"<{'/'.join(path)}> of the scan's header is {value}, expected a whole number")
    return int(value)


def _space(parent: Element, index: int, name: str) -> Space:
    values: list[float] = []
    for group in ("matrixSize", "fieldOfView_mm"):
        for axis in "xyz":
            value = _number(parent, name, group, axis)
            whole = group == "matrixSize"
            if value is None or value <= 0 or (whole and not value.is_integer()):
                raise HeaderError(
                    f"encoding {index} of the scan's header: <{name}/{group}/{axis}> is "
                    f"{'missing' if value is None else value}, expected a positive {'whole ' * whole}number"
                )
            values.append(value)
    nx, ny, nz, *fov = values
    return Space((int(nx), int(ny), int(nz)), (fov[0], fov[1], fov[2]))


def _limits(parent: Element) -> Iterator[tuple[str, Limit]]:
    for group in _all(parent, "encodingLimits"):
        for element in group:
            counter = _LIMIT_ELEMENTS.get(_name(element), _name(element))
            if counter not in COUNTERS and counter != "kspace_encode_step_0":
                continue
            minimum, maximum = _integer(element, "minimum"), _integer(element, "maximum")
            if minimum is None or maximum is None:
                continue
            if maximum < minimum:
                raise HeaderError(
                    f"encoding limits of {counter} in the scan's header run from {minimum} to {maximum}: "
                    "the maximum must not be below the minimum"
                )
            center = _integer(element, "center")
            yield counter, Limit(minimum, maximum, (minimum + maximum + 1) // 2 if center is None else center)


def _acceleration(parent: Element, index: int, counter: str) -> int:
    path = ("parallelImaging", "accelerationFactor", counter)
    value = _integer(parent, *path)
    if value is not None and value < 1:
        raise HeaderError(
            f"encoding {index} of the scan's header: <{'/'.join(path)}> is {value}, expected 1 (no acceleration) or "
            "more: correct it, or leave the element out"
        )
    return 1 if value is None else value


def _encoding(index: int, element: Element) -> Encoding:
    return Encoding(
        index=index,
        encoded=_space(element, index, "encodedSpace"),
        recon=_space(element, index, "reconSpace"),
        limits=dict(_limits(element)),
        trajectory=(_text(element, "trajectory") or "cartesian").lower(),
        acceleration=(
            _acceleration(element, index, "kspace_encoding_step_1"),
            _acceleration(element, index, "kspace_encoding_step_2"),
        ),
        calibration_mode=_text(element, "parallelImaging", "calibrationMode"),
        echo_train_length=_integer(element, "echoTrainLength"),
    )


def _user_parameters(root: Element) -> Iterator[tuple[str, int | float | str]]:
    kinds = {"userParameterLong": int, "userParameterDouble": float, "userParameterString": str}
    for kind, convert in kinds.items():
        for element in _all(root, "userParameters", kind):
            name, value = _text(element, "name"), _text(element, "value") or ""
            if name is None:
                continue
            try:
                yield name, convert(value)
            except ValueError:
                raise HeaderError(
                    f"user parameter {shown(name)} of the scan's header is {shown(value)}, "
                    f"expected {convert.__name__}"
                ) from None


def _waveform_number(element: Element) -> int | None:
    # The schema names the kind; the numbers are those of the ISMRMRD documentation.
    kinds = {"ecg": 0, "pulse": 1, "respiratory": 2, "trigger": 3, "gradientwaveform": 4}
    kind = (_text(element, "waveformType") or "").lower()
    for parameter in _all(element, "userParameters", "userParameterLong"):
        if _text(parameter, "name") == "waveformId":
            return _integer(parameter, "value")
    return kinds.get(kind)
