"""The header of a scan: MRD 1's XML document and MRD 2's record.

Both have the same elements under names that differ in capitals and underscores, so the schema tells how to go from
one to the other. What one of them demands and the other does not have, and what has no place, is told once.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Mapping
from typing import Any
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np

from scanside.mrd.header_elements import name_of, read_document
from scanside.mrd.v2.told import Told
from scanside.mrd.v2.types import INTEGERS, Enum, Record, Scalar, Type, Union, Vector
from scanside.mrd.v2.values import default

__all__ = ["header_value", "header_xml"]

_NAMESPACE = "http://www.ismrm.org/ISMRMRD"
_EPOCH = datetime.date(1970, 1, 1)
_ELEMENTS = {
    "patientWeightKg": "patientWeight_kg",
    "patientHeightM": "patientHeight_m",
    "systemFieldStrengthT": "systemFieldStrength_T",
    "h1resonanceFrequencyHz": "H1resonanceFrequency_Hz",
    "fieldOfViewMm": "fieldOfView_mm",
    "multibandFactor": "multiband_factor",
    "calibrationEncoding": "calibration_encoding",
    "tR": "TR",
    "tE": "TE",
    "tI": "TI",
    "flipAngleDeg": "flipAngle_deg",
    "sequenceType": "sequence_type",
    "echoSpacing": "echo_spacing",
    **{f"kspaceEncodingStep{i}": f"kspace_encoding_step_{i}" for i in range(3)},
    **{f"user{i}": f"user_{i}" for i in range(8)},
}
"""Elements of the XML document that are not named as the record's fields."""
_IN_CAPITALS = ("PatientPosition", "PatientGender")
_WORDS = {f"user{i}": f"user_{i}" for i in range(8)}
_NOT_SAID = {("CalibrationMode", "noacceleration")}
"""Words that mean in MRD 2 what an absent element means in MRD 1."""
_DATE = re.compile(r"(\d{4})-?(\d\d)-?(\d\d)(.*)", re.ASCII)
_TIME = re.compile(r"(\d\d):?(\d\d):?(\d\d)(?:\.(\d+))?(.*)", re.ASCII)
_WHOLE = re.compile(r"[+-]?\d{1,20}", re.ASCII)
_MOST_TOLD = 8


def _below(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name


def _plain(name: str) -> str:
    """A name without what the two versions disagree about."""
    return name.replace("_", "").lower()


def header_value(xml: bytes, kind: Record, told: Told) -> dict[str, Any]:
    """The record of MRD 2 that an XML header makes.

    Args:
        xml: the document.
        kind: the record's type in the schema.
        told: takes what MRD 2 cannot say, and what it demands and the document does not have.

    Raises:
        HeaderError: malformed beyond mending.
    """
    root, mended = read_document(xml)
    for text in mended:
        told.once(text)
    reading = _Reading()
    value = reading.record(root, kind, "")
    _tell(
        told,
        reading.missing,
        "MRD 2 demands of a header, and it has not; they are written empty or as in the encoded space",
    )
    _tell(told, reading.lost, "of the scan's header has no place in MRD 2 and is lost")
    return value


def _tell(told: Told, names: list[str], what: str) -> None:
    if names:
        names = list(dict.fromkeys(names))
        rest = f" and {len(names) - _MOST_TOLD} more" * (len(names) > _MOST_TOLD)
        told.once(f"{', '.join(names[:_MOST_TOLD])}{rest}: {what}")


class _Reading:
    """Makes values of elements."""

    def __init__(self) -> None:
        self.missing: list[str] = []
        self.lost: list[str] = []

    def record(self, element: Element, kind: Record, path: str) -> dict[str, Any]:
        children: dict[str, list[Element]] = {}
        for child in element:
            children.setdefault(_plain(name_of(child)), []).append(child)
        value = {}
        for name, of in kind.fields.items():
            value[name] = self._field(
                children.pop(_plain(name), []), of, _below(path, _ELEMENTS.get(name, name))
            )
        self.lost += [f"<{_below(path, name_of(one))}>" for rest in children.values() for one in rest[:1]]
        if kind.name == "EncodingType" and not any(_plain(name_of(one)) == "reconspace" for one in element):
            value["reconSpace"] = value["encodedSpace"]
        return value

    def _field(self, found: list[Element], kind: Type, path: str) -> Any:
        if isinstance(kind, Vector):
            values = (self._one(one, kind.items, path) for one in found)
            return [value for value in values if value is not None]
        if len(found) > 1:
            self.lost.append(f"<{path}> but for the first")
        inner = kind.optional if isinstance(kind, Union) else kind
        value = self._one(found[0], inner, path) if found and inner is not None else None
        if value is None and not isinstance(kind, Union):
            if not isinstance(kind, Record) or kind.name != "EncodingLimitsType":
                self.missing.append(f"<{path}>")
            return default(kind)
        return value

    def _one(self, element: Element, kind: Type, path: str) -> Any:
        if isinstance(kind, Record):
            return self.record(element, kind, path)
        text = (element.text or "").strip()
        try:
            return _value(kind, element.text or "" if kind == Scalar("string") else text)
        except ValueError:
            self.lost.append(f"<{path}> that is not what it should be")
            return None


def _value(kind: Type, text: str) -> Any:
    if isinstance(kind, Enum):
        for word, number in kind.symbols.items():
            if _plain(word) == _plain(text):
                return number
        raise ValueError(text)
    assert isinstance(kind, Scalar)
    if kind.name == "string":
        return text
    if kind.name == "date":
        return _days(text)
    if kind.name == "time":
        return _ns(text)
    if kind.name not in INTEGERS:
        return float(text)
    signed, bits = INTEGERS[kind.name]
    low, high = (-(1 << bits - 1), 1 << bits - 1) if signed else (0, 1 << bits)
    whole = int(text) if _WHOLE.fullmatch(text) else int(float(text))
    if not (low <= whole < high and (_WHOLE.fullmatch(text) or whole == float(text))):
        raise ValueError(text)
    return whole


def _days(text: str) -> int:
    found = _DATE.fullmatch(text)
    if found is None:
        raise ValueError(text)
    return (datetime.date(int(found[1]), int(found[2]), int(found[3])) - _EPOCH).days


def _ns(text: str) -> int:
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError(text)
    fraction = int((found[4] or "0")[:9].ljust(9, "0"))
    return ((int(found[1]) * 60 + int(found[2])) * 60 + int(found[3])) * 10**9 + fraction


def header_xml(value: Mapping[str, Any], kind: Record, told: Told) -> bytes:
    """The XML document that a record of MRD 2 makes.

    Args:
        value: the record.
        kind: its type in the schema.
        told: takes what MRD 1 cannot say.
    """
    root = Element("ismrmrdHeader", {"xmlns": _NAMESPACE})
    lost: list[str] = []
    _append(root, kind, value, "", lost)
    _tell(told, lost, "of the scan's header has no place in MRD 1 and is lost")
    indent(root, " ")
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + bytes(tostring(root, "utf-8"))


def _append(parent: Element, kind: Record, value: Mapping[str, Any], path: str, lost: list[str]) -> None:
    for name, of in kind.fields.items():
        found = value[name]
        inner: Type | None = of
        if isinstance(of, Union):
            inner = of.optional
            found = [] if found is None else [found]
        elif isinstance(of, Vector):
            inner = of.items
        else:
            found = [found]
        if inner is None:
            lost.append(f"{path}{name}")
            continue
        for one in found:
            tag = _ELEMENTS.get(name, name)
            if isinstance(inner, Record):
                _append(SubElement(parent, tag), inner, one, f"{path}{name}.", lost)
            elif (text := _text(inner, one)) is None:
                lost.append(f"{path}{name}")
            elif not (isinstance(inner, Enum) and (inner.name, text) in _NOT_SAID):
                SubElement(parent, tag).text = text


def _text(kind: Type, value: Any) -> str | None:
    """What stands in an element; an empty text for None would be a value of its own."""
    if isinstance(kind, Enum):
        word = next((word for word, number in kind.symbols.items() if number == value), None)
        if word is None:
            return None
        return word.upper() if kind.name in _IN_CAPITALS else _WORDS.get(word, word)
    if not isinstance(kind, Scalar):
        return None
    return _TEXTS.get(kind.name, str)(value)


def _real(value: float) -> str:
    """As few digits as a float32 needs."""
    text = str(np.float32(value))
    return text.removesuffix(".0")


def _date(days: int) -> str | None:
    try:
        return (_EPOCH + datetime.timedelta(days)).isoformat()
    except OverflowError:
        return None


def _time(ns: int) -> str:
    seconds, fraction = divmod(ns, 10**9)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    digits = f".{fraction:09d}".rstrip("0").rstrip(".")
    return f"{hour:02d}:{minute:02d}:{second:02d}{digits}"


_TEXTS: Mapping[str, Callable[[Any], str | None]] = {"float32": _real, "date": _date, "time": _time}
