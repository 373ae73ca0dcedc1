"""Who was examined, where and when: patient, study and equipment."""

from __future__ import annotations

import hashlib

from scanside.dicom._pydicom import Dataset
from scanside.dicom.header import HeaderFields
from scanside.dicom.texts import date, decimal, positive, short, time_of_day

__all__ = ["describe_patient", "describe_study"]

_SEXES = {"m": "M", "male": "M", "f": "F", "female": "F", "o": "O", "other": "O"}


def describe_patient(dataset: Dataset, fields: HeaderFields) -> None:
    """Patient module (PS3.3 C.7.1.1) and patient study module.

    An anonymous patient has a number that follows from the study, so that an archive does not make one patient of
    all that are anonymous.
    """
    if fields.patient == "anonymous":
        number = hashlib.sha256(fields.study_uid.encode()).hexdigest()[:12]
        dataset.PatientName, dataset.PatientID = "ANON^", f"ANON-{number}"
        dataset.PatientBirthDate = dataset.PatientSex = ""
        dataset.PatientIdentityRemoved = "YES"
        dataset.DeidentificationMethod = [
            "Scanside: patient, accession, physicians and site left out",
            "Scanside: UIDs of the raw data's header replaced by hashes",
        ]
        dataset.LongitudinalTemporalInformationModified = "UNMODIFIED"
        return
    subject = "subjectInformation"
    dataset.PatientName = short(fields.text(subject, "patientName") or "")
    dataset.PatientID = short(fields.text(subject, "patientID") or "")
    dataset.PatientBirthDate = date(fields.text(subject, "patientBirthdate")) or ""
    dataset.PatientSex = _SEXES.get((fields.text(subject, "patientGender") or "").lower(), "")
    for keyword, name in (("PatientWeight", "patientWeight_kg"), ("PatientSize", "patientHeight_m")):
        if (value := positive(fields.text(subject, name))) is not None:
            setattr(dataset, keyword, decimal(value))


def describe_study(dataset: Dataset, fields: HeaderFields) -> None:
    """General study, frame of reference and general equipment modules (PS3.3 C.7.2.1, C.7.4.1, C.7.5.1).

    What names people or places (accession number, physicians, institution, station, serial number, the study's
    description and ID) is left out for an anonymous patient. Dates stay, and the instance says so.
    """
    study, system = "studyInformation", "acquisitionSystemInformation"
    dataset.StudyInstanceUID = fields.study_uid
    dataset.StudyDate = date(fields.text(study, "studyDate")) or ""
    dataset.StudyTime = time_of_day(fields.text(study, "studyTime")) or ""
    dataset.FrameOfReferenceUID = fields.frame_of_reference_uid
    dataset.PositionReferenceIndicator = ""
    dataset.Manufacturer = short(fields.text(system, "systemVendor") or "")
    dataset.AccessionNumber = dataset.ReferringPhysicianName = dataset.StudyID = ""
    if model := fields.text(system, "systemModel"):
        dataset.ManufacturerModelName = short(model)
    if fields.patient == "anonymous":
        return
    for keyword, section, name, length in (
        ("AccessionNumber", study, "accessionNumber", 16),
        ("ReferringPhysicianName", study, "referringPhysicianName", 64),
        ("StudyID", study, "studyID", 16),
        ("StudyDescription", study, "studyDescription", 64),
        ("InstitutionName", system, "institutionName", 64),
        ("StationName", system, "stationName", 16),
        ("DeviceSerialNumber", system, "deviceSerialNumber", 64),
    ):
        if value := fields.text(section, name):
            setattr(dataset, keyword, short(value, length))
