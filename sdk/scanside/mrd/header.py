"""The scan's XML header, read tolerantly.

The schema makes most elements optional and producers leave out even required ones. What a reconstruction
cannot do without (an encoding with its matrix and field of view, and limits of lines that make sense) is
demanded with a clear error; everything else has a documented meaning when absent. An element that is there and
cannot be used counts as absent, and a warning names it. The raw XML stays with the parsed header, so passing it
on loses nothing.

Standard: ISMRMRD XML header schema (Inati et al., Magn Reson Med 2017;77:411).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from xml.etree.ElementTree import Element

from scanside.errors import HeaderError
from scanside.mrd.dtypes import COUNTERS
from scanside.mrd.header_elements import Elements, all_of, name_of, read_document, without_nul
from scanside.texts import shown

__all__ = [
    "CONVENTIONAL_EPI",
    "REORDERING_SHIFT",
    "Dependency",
    "Encoding",
    "Limit",
    "MrdHeader",
    "Multiband",
    "Space",
    "TrajectoryDescription",
]

CONVENTIONAL_EPI = "ConventionalEPI"
"""Identifier of a trajectory description that tells of echoes under a trapezoidal gradient, with times in µs."""

REORDERING_SHIFT = "ReorderingShift3D"
"""User parameter for the shift of a CAIPIRINHA lattice along k2, which the standard has no place for."""

# The schema spells two counters of the encoding limits differently from the acquisition header.
_LIMIT_ELEMENTS = {
    "kspace_encoding_step_0": "kspace_encode_step_0",
    "kspace_encoding_step_1": "kspace_encode_step_1",
    "kspace_encoding_step_2": "kspace_encode_step_2",
}


_TRAJECTORIES = ("cartesian", "epi", "radial", "goldenangle", "spiral", "other")
_CALIBRATION_MODES = ("embedded", "interleaved", "separate", "external", "other")
_PATIENT_POSITIONS = tuple(a + b for a in ("HF", "FF") for b in ("P", "S", "DR", "DL"))
_DATE = ("a date, YYYY-MM-DD", re.compile(r"\d{4}-?(0[1-9]|1[0-2])-?(0[1-9]|[12]\d|3[01])(\D.*)?", re.ASCII))
_TIME = ("a time, hh:mm:ss", re.compile(r"([01]\d|2[0-3]):?[0-5]\d:?[0-5]\d(\D.*)?", re.ASCII))
_TIMES = {
    ("subjectInformation", "patientBirthdate"): _DATE,
    ("studyInformation", "studyDate"): _DATE,
    ("studyInformation", "studyTime"): _TIME,
    ("measurementInformation", "seriesDate"): _DATE,
    ("measurementInformation", "seriesTime"): _TIME,
}
"""What DICOM says of a scan, where it can."""
_LARGEST = 65535
"""Of the counters of readouts, which have 16 bits."""
_PLACING = ("kspace_encode_step_1", "kspace_encode_step_2")
"""Counters whose limits say where lines lie."""


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
class Multiband:
    """Slices that are excited and read out at once.

    The standard names no units; phases are told by distances in mm, and a step along kz in cycles per mm.

    Attributes:
        factor: how many slices each readout holds.
        spacing_mm: for every readout slice, or once for all, where its slices lie along the slice direction from the
            first of them on.
        delta_kz: step along kz from one acquired line to the next (blipped CAIPI); None where not told.
        calibration_encoding: encoding space of the references of single slices; None where the header says nothing.
    """

    factor: int
    spacing_mm: tuple[tuple[float, ...], ...] = ()
    delta_kz: float | None = None
    calibration_encoding: int | None = None

    def offsets_mm(self, slice_: int) -> tuple[float, ...] | None:
        """Where the slices lie that a readout of a slice counter holds, from the first on; None where not told.

        Distances to the next slice, one fewer than there are slices, are understood as well.
        """
        if not self.spacing_mm:
            return None
        told = self.spacing_mm[slice_ if slice_ < len(self.spacing_mm) else 0]
        if len(told) == self.factor:
            return tuple(at - told[0] for at in told)
        if len(told) == self.factor - 1:
            return tuple(accumulate(told, initial=0.0))
        return None


@dataclass(frozen=True, slots=True)
class TrajectoryDescription:
    """What a header tells of a trajectory beyond its kind, in the names and units that go with its identifier."""

    identifier: str
    parameters: Mapping[str, int | float | str] = field(default_factory=dict)

    def number(self, name: str) -> float | None:
        """A parameter that is a number; None where it is absent or a text."""
        value = self.parameters.get(name)
        return None if value is None or isinstance(value, str) else float(value)


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
        multiband: slices that are excited and read out at once; None where the header tells of no more than one.
        description: of the trajectory (``trajectoryDescription``), where there is one.
    """

    index: int
    encoded: Space
    recon: Space
    limits: Mapping[str, Limit] = field(default_factory=dict)
    trajectory: str = "cartesian"
    acceleration: tuple[int, int] = (1, 1)
    calibration_mode: str | None = None
    echo_train_length: int | None = None
    multiband: Multiband | None = None
    description: TrajectoryDescription | None = None

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
        encodings: those that can be used, at least one, in their order.
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
        warnings: what could not be used and counts as absent, and what was mended to read the rest.
        unusable: encoding spaces that no reconstruction can use, by number, and why.
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
    warnings: tuple[str, ...] = ()
    unusable: Mapping[int, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, xml: bytes | str) -> MrdHeader:
        """Read a header.

        Args:
            xml: the document; a trailing NUL is allowed, the namespace may be any or none.

        Raises:
            HeaderError: malformed beyond mending, or no encoding that a reconstruction can use: one with matrix and
                field of view, and with limits of its lines that do not run backwards.
        """
        raw = without_nul(xml.encode(errors="replace") if isinstance(xml, str) else bytes(xml))
        root, mended = read_document(raw)
        read = Elements(mended)
        usable, unusable = [], {}
        for i, element in enumerate(all_of(root, "encoding")):
            try:
                usable.append(_encoding(read, i, element))
            except HeaderError as error:
                unusable[i] = str(error)
        if not usable:
            raise HeaderError(
                next(iter(unusable.values()), "")
                or "the scan's header has no <encoding>: matrix and field of view are unknown; have the converter "
                "write them"
            )
        read.warnings += [f"{why}; only readouts that refer to it are lost" for why in unusable.values()]
        for path, pattern in _TIMES.items():
            read.check(pattern, root, *path)
        system = "acquisitionSystemInformation"
        measurement = "measurementInformation"
        return cls(
            xml=raw,
            encodings=tuple(usable),
            unusable=unusable,
            measurement_id=read.text(root, measurement, "measurementID"),
            dependencies=tuple(
                Dependency(read.text(d, "dependencyType") or "", read.text(d, "measurementID") or "")
                for d in all_of(root, measurement, "measurementDependency")
            ),
            protocol_name=read.text(root, measurement, "protocolName"),
            patient_position=read.one_of(_PATIENT_POSITIONS, root, measurement, "patientPosition"),
            n_coils=read.whole(root, system, "receiverChannels"),
            coil_names=tuple(read.text(c, "coilName") or "" for c in all_of(root, system, "coilLabel")),
            receiver_noise_bandwidth=read.number(root, system, "relativeReceiverNoiseBandwidth"),
            field_strength_t=read.number(root, system, "systemFieldStrength_T"),
            vendor=read.text(root, system, "systemVendor"),
            sequence_ms={
                name: values
                for name in ("TR", "TE", "TI", "flipAngle_deg", "echo_spacing")
                if (values := read.numbers(root, "sequenceParameters", name))
            },
            user_parameters=dict(_user_parameters(read, root, "userParameters")),
            waveform_names={
                number: read.text(w, "waveformName") or ""
                for w in all_of(root, "waveformInformation")
                if (number := _waveform_number(read, w)) is not None
            },
            warnings=read.told(),
        )

    def encoding(self, index: int) -> Encoding:
        """The encoding space that a readout refers to.

        Raises:
            HeaderError: the header has no such encoding, or one that cannot be used.
        """
        for encoding in self.encodings:
            if encoding.index == index:
                return encoding
        if index in self.unusable:
            raise HeaderError(f"a readout refers to encoding space {index}: {self.unusable[index]}")
        raise HeaderError(
            f"a readout refers to encoding space {index}, but the header has {self.n_encodings} "
            "(numbered from 0): the header does not belong to these data"
        )

    @property
    def n_encodings(self) -> int:
        """How many encoding spaces the header has, those that cannot be used included."""
        return len(self.encodings) + len(self.unusable)

    def depends_on(self, kind: str) -> tuple[str, ...]:
        """Measurement IDs of the dependencies of a kind (compared without case), for example ``Noise``."""
        return tuple(d.measurement_id for d in self.dependencies if d.kind.lower() == kind.lower())


def _space(read: Elements, parent: Element, index: int, name: str) -> Space:
    values: list[float] = []
    for group in ("matrixSize", "fieldOfView_mm"):
        for axis in "xyz":
            text = read.text(parent, name, group, axis)
            value = read.as_number(text)
            whole = group == "matrixSize"
            if value is None or value <= 0 or (whole and not value.is_integer()):
                remedy = " or leave <reconSpace> out: images then have the encoded matrix" * (
                    name == "reconSpace"
                )
                raise HeaderError(
                    f"encoding {index} of the scan's header: <{name}/{group}/{axis}> is "
                    f"{'missing' if text is None else shown(text)}, expected a positive {'whole ' * whole}number: "
                    f"correct it in the header or in the converter that wrote it,{remedy}".rstrip(",")
                )
            values.append(value)
    nx, ny, nz, *fov = values
    return Space((int(nx), int(ny), int(nz)), (fov[0], fov[1], fov[2]))


def _recon_space(read: Elements, parent: Element, index: int, encoded: Space) -> Space:
    if all_of(parent, "reconSpace"):
        return _space(read, parent, index, "reconSpace")
    read.warnings.append(
        f"encoding {index} of the scan's header has no <reconSpace>: images have the encoded matrix and field of "
        "view, readout oversampling included"
    )
    return encoded


def _limits(read: Elements, parent: Element, index: int) -> dict[str, Limit]:
    """Limits of counters; those that place lines must make sense, others count as absent where they do not."""
    limits: dict[str, Limit] = {}
    for element in (one for group in all_of(parent, "encodingLimits") for one in group):
        counter = _LIMIT_ELEMENTS.get(name_of(element), name_of(element))
        if counter not in COUNTERS and counter != "kspace_encode_step_0":
            continue
        places_lines = counter in _PLACING
        try:
            limit = _limit(read, element, places_lines=places_lines)
        except HeaderError as error:
            why = f"encoding {index} of the scan's header: limits of {counter} {error}"
            if places_lines:
                raise HeaderError(
                    f"{why}: correct them, or leave the element out if lines fill the encoded matrix"
                ) from None
            read.warnings.append(f"{why}; they count as absent")
            continue
        if limit is None:
            read.warnings.append(
                f"encoding {index} of the scan's header: limits of {counter} have no maximum; they count as absent"
            )
        elif limits.setdefault(counter, limit) != limit:
            read.warnings.append(
                f"encoding {index} of the scan's header: limits of {counter} stand there twice; the first are taken"
            )
    return limits


def _limit(read: Elements, element: Element, *, places_lines: bool) -> Limit | None:
    """The limits of one counter; None where they have no maximum."""
    values: dict[str, int] = {}
    for name in ("minimum", "maximum", "center"):
        text = read.text(element, name)
        value = read.as_number(text)
        if text is not None and (value is None or not value.is_integer()):
            if name == "center" and not places_lines:
                continue  # it has no meaning there
            raise HeaderError(f"have the {name} {shown(text)}, expected a whole number")
        if value is not None:
            values[name] = int(value)
    if "maximum" not in values:
        return None
    minimum, maximum = values.get("minimum", 0), values["maximum"]
    if minimum < 0 or maximum > _LARGEST:
        raise HeaderError(f"run from {minimum} to {maximum}: counters of readouts go from 0 to {_LARGEST}")
    if maximum < minimum:
        raise HeaderError(f"run from {minimum} to {maximum}: the maximum must not be below the minimum")
    center = values.get("center", (minimum + maximum + 1) // 2)
    lacking = [name for name in ("minimum", *("center",) * places_lines) if name not in values]
    if lacking:
        of_lines = f", with the centre of k-space at {center}" if places_lines else ""
        read.warnings.append(
            f"limits of {name_of(element)} in the scan's header lack {' and '.join(lacking)}: the counter is taken "
            f"to run from {minimum} to {maximum}{of_lines}"
        )
    return Limit(minimum, maximum, center)


def _acceleration(read: Elements, parent: Element, counter: str, n_lines: int) -> int:
    path = ("parallelImaging", "accelerationFactor", counter)
    value = read.whole(parent, *path)
    if value is not None and value < 1:
        read.unusable(value, "1 (no acceleration) or more", path)
        return 1
    if value is not None and value > n_lines:
        read.unusable(value, f"no more than the {n_lines} lines of the encoded matrix", path)
        return 1
    return 1 if value is None else value


def _trajectory(read: Elements, parent: Element) -> str:
    text = (read.text(parent, "trajectory", tell_empty=True) or "cartesian").lower()
    if text not in _TRAJECTORIES:
        # It stays: what is not known to be Cartesian must not be taken for it.
        read.warnings.append(
            f"<trajectory> of the scan's header is {shown(text)}, expected one of {', '.join(_TRAJECTORIES)}"
        )
    return text


def _description(read: Elements, parent: Element) -> TrajectoryDescription | None:
    identifier = read.text(parent, "trajectoryDescription", "identifier", tell_empty=True)
    if identifier is None:
        return None
    return TrajectoryDescription(identifier, dict(_user_parameters(read, parent, "trajectoryDescription")))


def _encoding(read: Elements, index: int, element: Element) -> Encoding:
    encoded = _space(read, element, index, "encodedSpace")
    return Encoding(
        index=index,
        encoded=encoded,
        recon=_recon_space(read, element, index, encoded),
        limits=_limits(read, element, index),
        trajectory=_trajectory(read, element),
        acceleration=(
            _acceleration(read, element, "kspace_encoding_step_1", encoded.matrix[1]),
            _acceleration(read, element, "kspace_encoding_step_2", encoded.matrix[2]),
        ),
        calibration_mode=read.one_of(_CALIBRATION_MODES, element, "parallelImaging", "calibrationMode"),
        echo_train_length=read.whole(element, "echoTrainLength"),
        multiband=_multiband(read, element),
        description=_description(read, element),
    )


def _multiband(read: Elements, parent: Element) -> Multiband | None:
    path = ("parallelImaging", "multiband")
    factor = read.whole(parent, *path, "multiband_factor")
    if factor is None or factor <= 1:
        return None
    return Multiband(
        factor,
        tuple(read.numbers(spacing, "dZ") for spacing in all_of(parent, *path, "spacing")),
        read.number(parent, *path, "deltaKz"),
        read.whole(parent, *path, "calibration_encoding"),
    )


def _user_parameters(
    read: Elements, parent: Element, section: str
) -> Iterator[tuple[str, int | float | str]]:
    kinds = {"userParameterLong": int, "userParameterDouble": float, "userParameterString": str}
    for kind, convert in kinds.items():
        for element in all_of(parent, section, kind):
            name, value = read.text(element, "name"), read.text(element, "value") or ""
            if name is None:
                continue
            try:
                yield name, convert(value)
            except ValueError:
                read.unusable(
                    "something else",
                    f"{convert.__name__} as it is a <{kind}>",
                    (f"user parameter {shown(name)}",),
                )


def _waveform_number(read: Elements, element: Element) -> int | None:
    # The schema names the kind; the numbers are those of the ISMRMRD documentation.
    kinds = {"ecg": 0, "pulse": 1, "respiratory": 2, "trigger": 3, "gradientwaveform": 4}
    kind = (read.text(element, "waveformType") or "").lower()
    for parameter in all_of(element, "userParameters", "userParameterLong"):
        if read.text(parameter, "name") == "waveformId":
            return read.whole(parameter, "value")
    return kinds.get(kind)
