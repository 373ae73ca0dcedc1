"""Images and waveforms of MRD 2 as those of MRD 1, and the other way round.

An image's meta attributes are texts in MRD 1; MRD 2 has whole and real numbers too. A text that is written exactly
like a number becomes one, so that what goes there and back is the same.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from typing import Any

import numpy as np

from scanside.mrd.dtypes import (
    IMAGE_HEADER,
    IMAGE_TYPES,
    WAVEFORM_HEADER,
    image_data_type,
)
from scanside.mrd.messages import ImageMessage, Waveform
from scanside.mrd.meta import Meta
from scanside.mrd.v2.fields import fitting, padded
from scanside.mrd.v2.times import ns_of_sample_time, ns_of_ticks, sample_time_of_ns, ticks_of_ns
from scanside.mrd.v2.told import Told

__all__ = ["IMAGE_TAGS", "WAVEFORM_TAG", "image_of", "image_value", "waveform_of", "waveform_value"]

IMAGE_TAGS: Mapping[int, str] = {
    1: "imageuint16",
    2: "imageint16",
    3: "imageuint32",
    4: "imageint32",
    5: "imagefloat",
    6: "imagedouble",
    7: "imagecomplexfloat",
    8: "imagecomplexdouble",
}
"""Tag of an image among a stream's items, in lower case, by its samples' type in MRD 1."""

WAVEFORM_TAG = "waveformuint32"

_SAME = ("flags", "average", "slice", "contrast", "phase", "repetition", "set")
_RENAMED = {
    "measurementUid": "measurement_uid",
    "acquisitionTimeStamp": "acquisition_time_stamp",
    "imageType": "image_type",
    "imageIndex": "image_index",
    "imageSeriesIndex": "image_series_index",
}
_NUMBERS = {**{name: name for name in _SAME}, **_RENAMED}
_VECTORS = {
    "fieldOfView": "field_of_view",
    "position": "position",
    "colDir": "read_dir",
    "lineDir": "phase_dir",
    "sliceDir": "slice_dir",
    "patientTablePosition": "patient_table_position",
}
_LISTS = {
    "physiologyTimeStamp": ("physiology_time_stamp", 3),
    "userInt": ("user_int", 8),
    "userFloat": ("user_float", 8),
}
_TICKS = ("acquisitionTimeStamp", "physiologyTimeStamp")
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,17}")
_REAL = re.compile(r"-?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?")


def image_of(value: Mapping[str, Any], told: Told) -> ImageMessage:
    """An image of MRD 1.

    Raises:
        MessageError: a number is too large for a header of MRD 1.
    """
    head = dict(value["head"])
    for name in _TICKS:
        if (ns := head.pop(name + "Ns", None)) is not None:
            ticks = ticks_of_ns(np.array(ns, np.uint64), told)
            head[name] = ticks.tolist()
    header = np.zeros(1, IMAGE_HEADER)
    header["version"] = 1
    for path, name in _NUMBERS.items():
        if head.get(path) is not None:
            header[name] = fitting(np.array([head[path]]), IMAGE_HEADER[name], name)
    for path, name in _VECTORS.items():
        header[name] = head[path]
    for path, (name, length) in _LISTS.items():
        of = IMAGE_HEADER[name].base
        given = np.array([head.get(path) or []], np.float32 if of.kind == "f" else np.int64)
        header[name] = fitting(padded(given, length, name, told), of, name)
    data = value["data"]
    sizes = np.array(data.shape)
    fitting(sizes, np.dtype("<u2"), "an image's size")
    meta = Meta()
    for name, values in value["meta"].items():
        if name and values:
            meta[name] = [one for _, one in values]
        else:
            told.once(
                "an image's attribute without a name or without a value has no place in MRD 1 and is lost"
            )
    return ImageMessage.from_array(data, meta.to_xml(), header[0])


def image_value(image: ImageMessage, told: Told) -> tuple[str, dict[str, Any]]:
    """The tag in lower case, and the value of an image of MRD 2 (2.1 and 2.2: each takes the fields that it has)."""
    header = image.header
    head: dict[str, Any] = {path: header[name].item() for path, name in _NUMBERS.items()}
    head |= {path: header[name] for path, name in _VECTORS.items()}
    head |= {path: header[name].tolist() for path, (name, _) in _LISTS.items()}
    for name in _TICKS:
        head[name + "Ns"] = ns_of_ticks(np.asarray(head[name])).tolist()
    if head["imageType"] == 0:
        head["imageType"] = IMAGE_TYPES["complex" if image.data.dtype.kind == "c" else "magnitude"]
        told.once(
            "MRD 2 has no image without a type: such images go as magnitude, or as complex where they are"
        )
    elif head["imageType"] > IMAGE_TYPES["complex"]:
        told.once(f"MRD 2 has no name for images of type {head['imageType']}; the number is kept")
    meta = {
        name: [_meta_value(text) for text in texts] for name, texts in Meta.parse(image.attributes).items()
    }
    tag = IMAGE_TAGS[image_data_type(image.data.dtype)]
    return tag, {"head": head, "data": image.data, "meta": meta}


def _meta_value(text: str) -> tuple[str, Any]:
    if _WHOLE.fullmatch(text):
        return "int64", int(text)
    if _REAL.fullmatch(text) and repr(float(text)) == text:
        return "float64", float(text)
    return "string", text


def waveform_of(value: Mapping[str, Any], told: Told) -> Waveform:
    """A waveform of MRD 1.

    Raises:
        MessageError: a number is too large for a header of MRD 1.
    """
    header = np.zeros(1, WAVEFORM_HEADER)
    header["version"] = 1
    found = dict(value)
    if "timeStampNs" in found:
        found["timeStamp"] = ticks_of_ns(np.array(found["timeStampNs"], np.uint64), told)
        found["sampleTimeUs"] = sample_time_of_ns(np.array(found["sampleTimeNs"], np.uint64))
    found["channels"], found["samples"] = found["data"].shape
    for path, name in _WAVEFORM.items():
        header[name] = fitting(np.array([found[path]]), WAVEFORM_HEADER[name], name)
    return Waveform(header[0], found["data"])


_WAVEFORM = {
    "flags": "flags",
    "measurementUid": "measurement_uid",
    "scanCounter": "scan_counter",
    "timeStamp": "time_stamp",
    "sampleTimeUs": "sample_time_us",
    "waveformId": "waveform_id",
    "channels": "channels",
    "samples": "number_of_samples",
}


def waveform_value(waveform: Waveform, names: Container[str], told: Told) -> dict[str, Any]:
    """The value of a waveform of MRD 2.

    Args:
        waveform: the waveform.
        names: of the fields that the schema has.
        told: takes what MRD 2 cannot say.
    """
    header = waveform.header
    value: dict[str, Any] = {
        path: header[name].item() for path, name in _WAVEFORM.items() if path not in ("channels", "samples")
    }
    if "timeStampNs" in names:
        value["timeStampNs"] = ns_of_ticks(np.asarray(header["time_stamp"])).item()
        value["sampleTimeNs"] = ns_of_sample_time(np.asarray(header["sample_time_us"]), told).item()
    value["data"] = waveform.data
    return value
