"""The scan's header as DICOM sees it: fields that no reconstruction needs, read by their names."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias
from xml.etree.ElementTree import Element

from scanside.dicom.uids import derived_uid, fingerprint, is_uid
from scanside.mrd.header import MrdHeader
from scanside.mrd.header_elements import all_of, read_document

__all__ = ["HeaderFields", "Patient"]

Patient: TypeAlias = Literal["anonymous", "header"]
"""Whether the patient is left out (``anonymous``), or told as the scan's header does (``header``)."""


@dataclass(frozen=True)
class HeaderFields:
    """What the header says of study and equipment, and the identifiers that follow from it.

    Attributes:
        header: the parsed header.
        patient: ``anonymous`` hides also the identifiers of the header: a hash takes their place, the same for all
            scans of a study.
    """

    header: MrdHeader
    patient: Patient = "anonymous"

    @cached_property
    def _root(self) -> Element:
        return read_document(self.header.xml)[0]

    def text(self, section: str, name: str) -> str | None:
        """A field as it is written; None where it is absent or empty."""
        for element in all_of(self._root, section, name):
            if text := (element.text or "").strip():
                return text
        return None

    @cached_property
    def measurement(self) -> str:
        """A hash of what was measured."""
        return fingerprint(self._root)

    @cached_property
    def study_uid(self) -> str:
        """Study Instance UID: the header's, or one that follows from study and date, or from the measurement."""
        given = self._uid("studyInformation", "studyInstanceUID")
        if given is not None:
            return given
        study = [self.text("studyInformation", name) for name in ("studyID", "studyDate", "studyTime")]
        station = [self.text("acquisitionSystemInformation", name) for name in ("stationName", "deviceID")]
        # The time alone names no study: headers without a date often have a constant there.
        known = study[0] is not None or study[1] is not None
        return derived_uid("study", self.patient, *(study + station if known else [self.measurement]))

    @cached_property
    def frame_of_reference_uid(self) -> str:
        """Frame of Reference UID: the header's, or one for this measurement."""
        given = self._uid("measurementInformation", "frameOfReferenceUID")
        return given or derived_uid("frame of reference", self.study_uid, self.measurement)

    def _uid(self, section: str, name: str) -> str | None:
        given = self.text(section, name)
        if given is None or not is_uid(given):
            return None
        return given if self.patient == "header" else derived_uid(name, given)
