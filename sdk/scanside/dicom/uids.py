"""Unique identifiers that depend on what was measured and how it was reconstructed, never on when.

An identifier is a hash of its key in the arc ``2.25`` for UUIDs (DICOM PS3.5 B.2, RFC 4122 version 5). A scan that is
reconstructed again by the same pipeline gets the identifiers that it had, so that an archive recognises its images.
"""

from __future__ import annotations

import hashlib
import json
import re
from uuid import UUID, uuid5
from xml.etree import ElementTree

__all__ = ["IMPLEMENTATION_UID", "derived_uid", "fingerprint", "is_uid"]

_NAMESPACE = UUID("7f7f8b0e-5d1c-5d0b-9c55-2f6a4d1f9a31")
_MEASURED = ("measurementInformation", "experimentalConditions", "encoding", "sequenceParameters")
"""Parts of a scan's header that say what was measured; none of them holds a patient's fields."""

_COMPONENT = "(?:0|[1-9][0-9]*)"
_UID = re.compile(rf"[0-2]\.{_COMPONENT}(?:\.{_COMPONENT})*")


def derived_uid(*key: object) -> str:
    """The identifier of a key; another key gives another one.

    Args:
        key: what it depends on, as texts and numbers.
    """
    text = json.dumps([str(part) for part in key])
    return f"2.25.{uuid5(_NAMESPACE, text).int}"


def is_uid(text: str) -> bool:
    """Whether a text is a unique identifier (DICOM PS3.5, chapter 9)."""
    return len(text) <= 64 and _UID.fullmatch(text) is not None


def fingerprint(root: ElementTree.Element) -> str:
    """SHA-256 of what a scan's header says of the measurement, however the XML is laid out.

    Args:
        root: of the header. Patient and study do not count: removing them changes nothing.
    """
    digest = hashlib.sha256()
    for element in root:
        if element.tag.rpartition("}")[2] in _MEASURED:
            text = ElementTree.tostring(element, encoding="unicode")
            digest.update(
                ElementTree.canonicalize(text, strip_text=True, rewrite_prefixes=True).encode() + b"\n"
            )
    return digest.hexdigest()


IMPLEMENTATION_UID = derived_uid("implementation", "scanside")
"""Identifies Scanside as the writer of a file."""
