"""How an image was acquired: sequence, timing and parallel imaging."""

from __future__ import annotations

import re

import numpy as np

from scanside.dicom._pydicom import Dataset
from scanside.dicom.header import HeaderFields
from scanside.dicom.texts import date, decimal, positive, short, time_of_day, time_of_ticks
from scanside.mrd.dtypes import TICK_MS
from scanside.mrd.header import Encoding

__all__ = ["describe_acquisition", "describe_timing"]

_POSITIONS = {a + b for a in ("HF", "FF") for b in ("S", "P", "DR", "DL")}
_SEQUENCES = (
    (re.compile(r"epi|planar"), "EP"),
    (re.compile(r"tse|fse|haste|space|spin|(?:^|[^a-z])se(?:$|[^a-z])"), "SE"),
    (re.compile(r"flash|gre|gradient|ssfp|trufi|spgr|mprage|ffe"), "GR"),
)
"""What the free texts of ``sequence_type`` and ``sequenceName`` say of the sequence's family."""
_INVERSION = re.compile(r"inversion|mp2?rage|flair|tir|molli|(?:^|[^a-z])ir(?:$|[^a-z])")
"""What they say where the magnetisation is inverted."""

_PAIRED = re.compile(
    "ANKLE|ARM|BREAST|CALF|CLAVICLE|EAR|ELBOW|EXTREMITY|EYE|FINGER|FOOT|FOREARM|HAND|HIP|HUMERUS|KIDNEY|KNEE|LEG|LUNG|"
    "OVARY|SCAPULA|SHOULDER|TESTIS|THIGH|THUMB|TOE|WRIST"
)
"""Body parts that people have two of."""

_GATING = {0: "CG", 1: "PPG"}
"""Scan options by the number of a waveform: ECG and peripheral pulse."""


def describe_acquisition(dataset: Dataset, fields: HeaderFields, encoding: Encoding, header: np.void) -> None:
    """MR image module (PS3.3 C.8.3.1) but pixels and geometry; for parallel imaging the names of C.8.13.5.

    Args:
        dataset: is added to.
        fields: of the scan.
        encoding: encoding space of the image.
        header: scalar of `IMAGE_HEADER`.
    """
    mrd = fields.header
    times = mrd.sequence_ms
    echo_times, inversion_times = times.get("TE", ()), times.get("TI", ())
    contrast = int(header["contrast"])
    is_3d = encoding.encoded.matrix[2] > 1
    position = (mrd.patient_position or "").upper()
    dataset.PatientPosition = position if position in _POSITIONS else ""
    _describe_body_part(dataset, (fields.text("studyInformation", "bodyPartExamined") or "").upper())
    dataset.ScanningSequence = _scanning_sequence(fields)
    dataset.SequenceVariant = "NONE"
    dataset.MRAcquisitionType = "3D" if is_3d else "2D"
    if name := fields.text("measurementInformation", "sequenceName"):
        dataset.SequenceName = short(name, 16)
    dataset.RepetitionTime = decimal(times["TR"][0]) if "TR" in times else ""
    # One echo time stands for all contrasts; several are those of the contrasts, in order.
    echo_time = echo_times[0] if len(echo_times) == 1 else dict(enumerate(echo_times)).get(contrast)
    dataset.EchoTime = "" if echo_time is None else decimal(echo_time)
    dataset.EchoNumbers = contrast + 1
    dataset.EchoTrainLength = encoding.echo_train_length or ""
    # Converters copy an inversion time also from protocols that invert nothing.
    if "IR" in dataset.ScanningSequence and len(inversion_times) == 1:
        dataset.InversionTime = decimal(inversion_times[0])
    if "flipAngle_deg" in times:
        dataset.FlipAngle = decimal(times["flipAngle_deg"][0])
    if mrd.field_strength_t is not None:
        dataset.MagneticFieldStrength = decimal(mrd.field_strength_t)
    frequency_hz = positive(fields.text("experimentalConditions", "H1resonanceFrequency_Hz"))
    if frequency_hz is not None:
        dataset.ImagingFrequency = decimal(frequency_hz / 1e6)
        dataset.ImagedNucleus = "1H"
    dataset.NumberOfAverages = encoding.limit("average").n
    _describe_sampling(dataset, encoding)


def describe_timing(dataset: Dataset, fields: HeaderFields, encoding: Encoding, header: np.void) -> None:
    """When an image was acquired, within the day, the series, and the cardiac cycle.

    Time stamps of readouts and images count 2.5 ms from midnight. All times are those of the acquisition: an image
    that is reconstructed again says the same.
    """
    measurement, study = "measurementInformation", "studyInformation"
    day = date(fields.text(measurement, "seriesDate")) or date(fields.text(study, "studyDate"))
    begun = time_of_day(fields.text(measurement, "seriesTime"))
    begun = begun or time_of_day(fields.text(study, "studyTime"))
    acquired = time_of_ticks(int(header["acquisition_time_stamp"]))
    for keyword, value in (
        ("SeriesDate", day),
        ("SeriesTime", begun),
        ("AcquisitionDate", day if acquired else None),
        ("AcquisitionTime", acquired),
        ("ContentDate", day),
        ("ContentTime", acquired or begun),
    ):
        if value is not None:
            setattr(dataset, keyword, value)
    dataset.AcquisitionNumber = int(header["repetition"]) + 1
    if (n := encoding.limit("repetition").n) > 1:
        dataset.TemporalPositionIdentifier = int(header["repetition"]) + 1
        dataset.NumberOfTemporalPositions = n
    n_phases = encoding.limit("phase").n
    # Readouts have a physiological time stamp also where nothing was recorded that could trigger.
    gating = _GATING.get(min(fields.header.waveform_names, default=-1), "CG" if n_phases > 1 else "")
    dataset.ScanOptions = gating
    if gating:
        dataset.TriggerTime = decimal(int(header["physiology_time_stamp"][0]) * TICK_MS)
    if n_phases > 1:
        dataset.CardiacNumberOfImages = n_phases


def _describe_body_part(dataset: Dataset, name: str) -> None:
    """Body part, and, where it is or could be one of a pair, that its side is not known (C.7.3.1.1.1)."""
    if re.fullmatch("[A-Z0-9_ ]{1,16}", name):
        dataset.BodyPartExamined = name
    if "BodyPartExamined" not in dataset or _PAIRED.fullmatch(name):
        dataset.Laterality = ""


def _describe_sampling(dataset: Dataset, encoding: Encoding) -> None:
    """Phase is encoded along a column of the image, y, whatever the directions in the patient are."""
    # Without the readout's oversampling, which is no property of the image.
    n0 = max(round(encoding.encoded.matrix[0] / encoding.oversampling), 1)
    n1 = encoding.limit("kspace_encode_step_1").n
    dataset.InPlanePhaseEncodingDirection = "COL"
    dataset.AcquisitionMatrix = [0, n0, n1, 0]
    dataset.NumberOfPhaseEncodingSteps = n1
    x_mm, y_mm, _ = encoding.recon.field_of_view_mm
    dataset.PercentPhaseFieldOfView = decimal(round(100 * y_mm / x_mm, 4))
    r1, r2 = encoding.acceleration
    dataset.ParallelAcquisition = "YES" if r1 * r2 > 1 else "NO"
    dataset.ParallelReductionFactorInPlane = float(r1)
    dataset.ParallelReductionFactorOutOfPlane = float(r2)


def _scanning_sequence(fields: HeaderFields) -> list[str]:
    told = " ".join(
        (
            fields.text("sequenceParameters", "sequence_type") or "",
            fields.text("measurementInformation", "sequenceName") or "",
        )
    ).lower()
    families = [family for pattern, family in _SEQUENCES if pattern.search(told)]
    # RM, "research mode", stands for a sequence of which nothing is known.
    return [*(families[:1] or ["RM"]), *(["IR"] if _INVERSION.search(told) else [])]
