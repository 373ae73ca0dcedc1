"""Lines that a user's mask left out of a recorded scan: its header tells, so that nobody looks for them."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from scanside.mrd.header import MrdHeader

__all__ = ["left_out_of", "with_left_out"]

_NAME = "ScansideUndersampling"
"""User parameter of type string: for every value of kspace_encode_step_1, from 0 on, 1 if lines were kept, else 0."""

# Where it goes, by the order of the schema; elements may have a prefix.
_END_OF_PARAMETERS = re.compile(rb"</((?:[\w.-]+:)?)userParameters\s*>")
_NO_PARAMETERS = re.compile(rb"<((?:[\w.-]+:)?)waveformInformation[\s>]|</((?:[\w.-]+:)?)ismrmrdHeader\s*>")


def left_out_of(header: MrdHeader) -> tuple[int, ...]:
    """Values of kspace_encode_step_1 that a mask left out; empty without one."""
    mask = str(header.user_parameters.get(_NAME, ""))
    return tuple(value for value, kept in enumerate(mask) if kept == "0")


def with_left_out(xml: bytes, mask: npt.NDArray[np.bool_]) -> bytes:
    """A scan's header that tells of a mask; one that is no header as it is.

    Args:
        xml: the header.
        mask: ``(n,)``, whether lines with this value of kspace_encode_step_1 were kept.
    """
    kept = b"".join(b"1" if value else b"0" for value in mask.tolist())
    place = _END_OF_PARAMETERS.search(xml) or _NO_PARAMETERS.search(xml)
    if place is None:
        return xml
    prefix = next((group for group in place.groups() if group is not None), b"")
    name = b"<%bname>%b</%bname>" % (prefix, _NAME.encode(), prefix)
    value = b"<%bvalue>%b</%bvalue>" % (prefix, kept, prefix)
    parameter = b"<%buserParameterString>%b%b</%buserParameterString>" % (prefix, name, value, prefix)
    if place.re is _NO_PARAMETERS:
        parameter = b"<%buserParameters>%b</%buserParameters>" % (prefix, parameter, prefix)
    return xml[: place.start()] + parameter + xml[place.start() :]
