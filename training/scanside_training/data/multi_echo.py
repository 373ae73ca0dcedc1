"""Task of T2 mapping: magnitude images of a slice at several echo times, and the map that they come from."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from scanside.recon.scaling import image_scale
from scanside_training.data.contrast import Times, spin_echo
from scanside_training.data.placement import random_scan_of
from scanside_training.data.simulation import (
    Drawn,
    Sample,
    TaskConfig,
    complex_of,
    object_of,
    some_columns,
    white,
)
from scanside_training.relaxation import T2_UNIT_MS, multi_echo_signal

__all__ = ["MultiEchoTask"]

_LONGEST = 3.0
"""T2 of more than so many times the last echo time is not measured by the echoes: fluid, mostly."""


def _one_after_the_other(times: tuple[float, ...]) -> tuple[float, ...]:
    if times[0] <= 0 or any(later <= earlier for earlier, later in pairwise(times)):
        raise ValueError(f"echo times are positive and increase, got {', '.join(f'{te:g}' for te in times)}")
    return times


class MultiEchoTask(TaskConfig):
    """The network gets the magnitude of all echoes of a fully sampled slice, with the noise of one coil.

    Samples hold ``image`` ``(echo, k1, k0)``, divided by ``scale``, that of the first echo; ``target``
    ``(1, k1, k0)``, T2 in units of `scanside_training.relaxation.T2_UNIT_MS`; ``echo_times_ms`` ``(echo)``; ``roi``,
    where there is an object whose T2 the echoes can tell; ``mask`` and ``noise`` as those of other tasks.
    """

    takes: ClassVar = "tissues"

    kind: Literal["multi-echo"] = "multi-echo"
    echo_times_ms: Annotated[tuple[float, ...], Field(min_length=2), AfterValidator(_one_after_the_other)] = (
        15.0,
        30.0,
        45.0,
        60.0,
        75.0,
        90.0,
        105.0,
        120.0,
    )
    """When they are."""
    tr: Times = (2000.0, 4000.0)
    """Repetition time in ms."""

    def sample(self, pixels: Tensor, drawn: Drawn) -> Sample:
        """Scan a slice."""
        config, rng = drawn.config, drawn.rng
        tissues = random_scan_of(config.placement, complex_of(pixels), drawn.grid, rng)
        tissues = tissues.real.clamp_min(0)
        m0, t2 = spin_echo(tissues, 0.0, rng.uniform(*self.tr)), tissues[2]
        times = torch.tensor(self.echo_times_ms)
        echoes = multi_echo_signal(m0[None, None], t2[None, None], times[None])[0]
        noise = float(image_scale(echoes[0])) / math.exp(rng.uniform(*np.log(config.snr)))
        images = (echoes + noise * white(tuple(echoes.shape), rng)).abs()
        scale = image_scale(images[0])
        roi = object_of(echoes[0]) & (t2 >= times[0]) & (t2 <= _LONGEST * times[-1])
        columns = some_columns(config.readout_crop, roi, rng)
        return {
            "image": images[..., columns] / scale,
            "target": t2[None, :, columns] / T2_UNIT_MS,
            "echo_times_ms": times,
            "mask": torch.ones(drawn.shape.k1, 1),
            "roi": roi[None, :, columns].float(),
            "scale": scale,
            "noise": noise / scale,
        }
