"""A scan's XML header without what identifies a person.

What goes follows the Basic Application Level Confidentiality Profile of DICOM PS3.15, Annex E, for the elements
that the ISMRMRD schema has: everything about the subject, names of physicians and of the institution, names and
descriptions of the study and the protocol, dates and times, and unique identifiers. Texts that a site may fill as it
likes go too: user parameters of text, comments, and elements that the schema does not have. Numbers stay, and so do
the words of the schema and short texts about the machine (`KEPT`), unless the name or number of the subject stands in
them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from scanside.errors import FormatError, HeaderError
from scanside.privacy.document import Attribute, Element, read_document
from scanside.privacy.edits import Change, Edit, apply, in_order
from scanside.privacy.vocabulary import Vocabulary

__all__ = ["IDENTIFYING", "KEPT", "identifying_elements", "without_identity"]

IDENTIFYING = frozenset(
    {
        "subjectInformation",
        "studyDate",
        "studyTime",
        "studyID",
        "accessionNumber",
        "referringPhysicianName",
        "studyDescription",
        "studyInstanceUID",
        "seriesDate",
        "seriesTime",
        "seriesDescription",
        "seriesInstanceUIDRoot",
        "frameOfReferenceUID",
        "referencedImageSequence",
        "protocolName",
        "institutionName",
        "stationName",
        "deviceID",
        "deviceSerialNumber",
    }
)
"""Elements of the ISMRMRD schema that are taken out whole."""

KEPT = frozenset(
    {
        "systemVendor",
        "systemModel",
        "sequenceName",
        "bodyPartExamined",
        "coilName",
        "identifier",
        "sequence_type",
        "diffusionScheme",
        "waveformName",
    }
)
"""Elements of free text that say what the machine is and does. Reconstruction may depend on them."""

_SCHEMA = """
ismrmrdHeader version studyInformation measurementInformation acquisitionSystemInformation
experimentalConditions encoding sequenceParameters userParameters waveformInformation measurementID
patientPosition relativeTablePosition initialSeriesNumber measurementDependency dependencyType
systemFieldStrength_T relativeReceiverNoiseBandwidth receiverChannels coilLabel coilNumber
H1resonanceFrequency_Hz encodedSpace reconSpace encodingLimits trajectory trajectoryDescription comment
parallelImaging echoTrainLength matrixSize fieldOfView_mm x y z rl ap fh minimum maximum center
kspace_encoding_step_0 kspace_encoding_step_1 kspace_encoding_step_2 kspace_encode_step_0 kspace_encode_step_1
kspace_encode_step_2 average slice contrast phase repetition set segment user_0 user_1 user_2 user_3 user_4
user_5 user_6 user_7 accelerationFactor calibrationMode interleavingDimension multiband spacing dZ deltaKz
multiband_factor calibration calibration_encoding TR TE TI flipAngle_deg echo_spacing diffusionDimension
diffusion gradientDirection bvalue waveformType userParameterLong userParameterDouble userParameterString
userParameterBase64 name value
"""
_OTHERS = frozenset(_SCHEMA.split())
"""What else the schema has, in all its versions."""

_LISTED = """
true false hfp hfs hfdr hfdl ffp ffs ffdr ffdl cartesian epi radial goldenangle spiral other embedded
interleaved separate external phase repetition contrast average set segment user_0 user_1 user_2 user_3 user_4
user_5 user_6 user_7 separable2d full3d noise surfacecoilcorrection senmap ecg pulse respiratory trigger
gradientwaveform
"""
_WORDS = frozenset(_LISTED.split())
"""Texts that the schema lists, and the kinds of dependencies in use."""

_SUBJECT = frozenset({"patientName", "patientID", "patientBirthdate", "referringPhysicianName"})
_LONGEST_KEPT = 64
_KEPT_TEXT = re.compile(r"[\w .,:;/+()*=-]*")
_SHORTEST_WORD = 3

_SHORTEST_PSEUDONYM = 8
"""Letters below which a pseudonym of an identifier's length would not be unique."""

_PARAMETERS = {"userParameterLong": True, "userParameterDouble": True, "userParameterString": False}
"""User parameters that hold numbers, and others."""

_PARAMETER_NAME = re.compile(r"[A-Za-z][\w.:\[\]-]*")

_SUSPICIOUS = re.compile(
    r"patient|subject|person|birth|gender|physician|operator|technologist|accession|institution|hospital|address",
    re.IGNORECASE,
)

_LONGEST_SPACE = 512
_HARMLESS_SPACES = re.compile(r"(?:http://www\.(?:ismrm|w3)\.org/[\w/.-]*|ismrmrd\.xsd|\s)*")


def without_identity(xml: bytes, keep: Collection[str] = ()) -> bytes:
    """A header that names nobody, of the same length.

    Identifying elements and all comments become blanks, other texts that could hold a name become ``x``, and
    measurement IDs become pseudonyms, equal in all headers that had the same: scans refer to each other by them, and
    scanners put numbers of patient and study in. Every other byte is as it was, so positions in a stream stay what
    they are.

    Args:
        xml: the header as it was sent, in an encoding that holds ASCII; a trailing NUL is allowed.
        keep: names of elements and user parameters that stay as they are.

    Raises:
        HeaderError: it cannot be told what is in it: malformed, with a document type of its own, in UTF-16, or too
            large.
    """
    return apply(xml, _edits(xml, keep))


def identifying_elements(xml: bytes) -> list[bytes]:
    """What `without_identity` would change, in order, as it stands in the header.

    Raises:
        HeaderError: as there.
    """
    return [xml[start:end] for (start, end), _ in _edits(xml, ())]


def _edits(xml: bytes, keep: Collection[str]) -> list[Edit]:
    try:
        root, asides = read_document(xml)
    except FormatError as error:
        raise HeaderError(
            f"it cannot be told where the scan's header names a person: {error}; have the converter mended"
        ) from error
    # Elements that go whole take the comments inside them along.
    blanks = [Edit(span, Change.BLANK) for span in asides]
    return in_order([*_judged(root, frozenset(keep), _subject_words(root)), *blanks])


def _subject_words(root: Element) -> frozenset[str]:
    """Names and numbers of the people that the header speaks of."""
    texts = [element.text for element in root.walk() if element.name in _SUBJECT]
    return frozenset(word for text in texts for word in _words(text) if len(word) >= _SHORTEST_WORD)


def _words(text: str) -> list[str]:
    return [word.lower() for word in re.findall(r"[^\W_]+", text)]


def _judged(root: Element, keep: frozenset[str], subject: frozenset[str]) -> Iterator[Edit]:
    waiting = [root]
    while waiting:
        element = waiting.pop()
        if element.name in keep:
            continue
        if element.name in _PARAMETERS and element.child_text("name") in keep:
            continue
        if element is not root and _goes(element, subject):
            yield Edit(element.span, Change.BLANK)
            continue
        for attribute in element.attributes:
            if not _is_harmless(attribute):
                yield Edit(attribute.span, Change.MASK)
        if element.name == "measurementID":
            yield from _pseudonyms(element)
        elif not _stays(element, subject):
            for span in element.texts:
                yield Edit(span, Change.MASK)
        waiting.extend(reversed(element.children))


def _goes(element: Element, subject: frozenset[str]) -> bool:
    """Whether an element is taken out whole."""
    if element.name in IDENTIFYING or element.name not in KEPT | _OTHERS:
        return True
    if element.name == "userParameterBase64":
        return True
    if element.name not in _PARAMETERS:
        return False
    name, value = element.child_text("name"), element.child_text("value")
    if not _PARAMETERS[element.name] and not Vocabulary.is_number(value):
        return True
    return (
        _SUSPICIOUS.search(name) is not None
        or _PARAMETER_NAME.fullmatch(name) is None
        or not subject.isdisjoint(_words(f"{name} {value}"))
    )


def _stays(element: Element, subject: frozenset[str]) -> bool:
    """Whether an element's own text says nothing of a person."""
    text = element.text.strip()
    if not text:
        return True
    if element.children:
        return False
    if Vocabulary.is_number(text) or text.lower() in _WORDS:
        return True
    # The name of a user parameter that stays has been looked at.
    if element.name == "name":
        return _PARAMETER_NAME.fullmatch(text) is not None
    return (
        element.name in KEPT
        and len(text) <= _LONGEST_KEPT
        and _KEPT_TEXT.fullmatch(text) is not None
        and subject.isdisjoint(_words(text))
    )


def _pseudonyms(element: Element) -> Iterator[Edit]:
    text = element.text.strip()
    if len(text) < _SHORTEST_PSEUDONYM and re.fullmatch(r"[\d_.-]*", text):
        return
    for span in element.texts:
        yield Edit(span, Change.PSEUDONYM)


def _is_harmless(attribute: Attribute) -> bool:
    """Name spaces and where their schemas are; nothing else stands in attributes."""
    text = attribute.text
    return len(text) <= _LONGEST_SPACE and _HARMLESS_SPACES.fullmatch(text) is not None
