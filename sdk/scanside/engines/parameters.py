"""Numbers of a scan that a network may be told, and how they are brought to the order of one.

================== ================================================ =================
name               what it is                                       what a network gets
================== ================================================ =================
``acceleration``   lines of the matrix over acquired lines, ACS     R / 4
                   lines counted, as the mask has them
``field_strength`` B₀ in T                                          ln(B₀ / 1.5 T)
``te``             echo time in ms                                  ln(TE / 50 ms)
``tr``             repetition time in ms                            ln(TR / 1 s)
``ti``             inversion time in ms                             ln(TI / 1 s)
``flip_angle``     of the excitation in degrees                     α / 90°
================== ================================================ =================

The rule is the same for all networks and never learned, so that a number means the same in every bundle. Which of
them a network takes, and in which order, stands in its manifest.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

if TYPE_CHECKING:  # manifests are read without torch, too
    import torch

__all__ = ["PARAMETERS", "SEQUENCE", "Parameter", "SequenceParameter", "acceleration_of", "normalised"]

SequenceParameter: TypeAlias = Literal["field_strength", "te", "tr", "ti", "flip_angle"]
"""What the header of a scan says."""

Parameter: TypeAlias = Literal["acceleration"] | SequenceParameter
"""All that there are; the acceleration follows from the mask."""

SEQUENCE: tuple[SequenceParameter, ...] = get_args(SequenceParameter)
PARAMETERS: tuple[Parameter, ...] = ("acceleration", *SEQUENCE)

_USUAL: dict[Parameter, float] = {
    "acceleration": 4.0,
    "field_strength": 1.5,
    "te": 50.0,
    "tr": 1000.0,
    "ti": 1000.0,
    "flip_angle": 90.0,
}
_LINEAR = ("acceleration", "flip_angle")


def normalised(name: Parameter, value: torch.Tensor) -> torch.Tensor:
    """What a network gets for values ``(B,)`` of a number, in the unit of the table above; float32.

    All are positive: of others the logarithm is not finite.
    """
    relative = value.float() / _USUAL[name]
    return relative if name in _LINEAR else relative.log()


def acceleration_of(mask: torch.Tensor) -> torch.Tensor:
    """Acceleration ``(B,)`` of masks ``(B, *time, k1, 1 or k0)``; of a film that of all its frames together."""
    return math.prod(mask.shape[1:]) / mask.flatten(1).sum(1).clamp_min(1)
