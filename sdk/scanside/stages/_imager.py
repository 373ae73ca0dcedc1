"""How networks make images of k-space: what they begin with, a call in time, and what binds them to the data."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
import torch

from scanside.engines.engine import Engine
from scanside.errors import ScansideError
from scanside.items import Image, KSpace
from scanside.recon.acquired import Acquired
from scanside.recon.cg import conjugate_gradient
from scanside.recon.columns import on_grid
from scanside.recon.combine import combine_sets
from scanside.stages._axes import readout_of
from scanside.stages._columns import Solve
from scanside.stages._deadline import DeadlineExceeded, DeadlineRunner, StillBusy
from scanside.stages._fallback import wanted_frames
from scanside.stages._finite import check_finite
from scanside.stages._learned import Learned
from scanside.stages._refused import Refused
from scanside.stages._signal import noise_of
from scanside.stages.sense import Sense
from scanside.trace import StageTimes

__all__ = ["Asked", "Imager", "Levels", "Made", "Pull"]

_LEAST_WEIGHT = 5e-4
"""Of the pull back to the data: with less, rounding of fp32 tells in images that are solved for exactly."""

Levels: TypeAlias = dict[tuple[int, ...], tuple[torch.Tensor, torch.Tensor]]
"""Scale of the network's input, and level of the noise in k-space, of the images that are made by one call."""


@dataclass(frozen=True, eq=False)
class Asked:
    """A k-space whose images a network is to make.

    Attributes:
        item: with coil maps, perhaps a window.
        network: that makes them.
        engine: of the network.
        data: what was acquired.
        classical: images by CG-SENSE, where the network improves these.
    """

    item: KSpace
    network: Learned
    engine: Engine
    data: Acquired
    classical: Sequence[Image]

    @property
    def maps(self) -> torch.Tensor:
        """Its coil sensitivities."""
        assert self.item.coil_maps is not None
        return self.item.coil_maps


@dataclass(frozen=True, eq=False)
class Made:
    """What a network made.

    Attributes:
        voxels: ``(*other, z, y, x)`` the wanted images; of two sets of maps those of both, ``(2, *other, z, y, x)``.
        data: what was acquired of them.
        uncertainty: ``(*other, z, y, x)`` real, the error to be expected of their voxels, of networks that tell it.
    """

    voxels: torch.Tensor
    data: Acquired
    uncertainty: torch.Tensor | None


@dataclass(frozen=True)
class Pull:
    """A last step ``argmin ‖A x − y‖² + λ ‖x − z‖²`` from the network's image z back to the data.

    Attributes:
        strength: λ / noise²; None leaves images as they are.
        iterations: of conjugate gradients, where it is not solved by columns.
    """

    strength: float | None
    iterations: int

    def weight(self, variance: torch.Tensor) -> float:
        """λ of the step by columns, for a variance of the noise on the network's scale."""
        assert self.strength is not None
        return on_grid(max(self.strength * float(variance), _LEAST_WEIGHT))


class Imager:
    """Makes images of k-space by networks.

    Args:
        sense: makes the images that some networks begin with, and solves by columns where it is set to.
        pull: back to the data.
        in_time: runs engines that have a deadline.
        deadline_ms: longest time that an engine may take; None for any.

    Attributes:
        times: of the engines' calls in this scan, all else left out.
    """

    def __init__(self, sense: Sense, pull: Pull, in_time: DeadlineRunner, deadline_ms: float | None) -> None:
        self._sense, self._pull, self._in_time, self._deadline_ms = sense, pull, in_time, deadline_ms
        self.times = StageTimes()

    def open(self) -> None:
        """A new scan."""
        self.times = StageTimes()

    def asked(self, item: KSpace, network: Learned, engine: Engine) -> Asked:
        """The k-space as a network is to get it, and CG-SENSE's image of it where the network wants that."""
        assert item.coil_maps is not None
        data = self._sense.acquired(item, item.coil_maps)
        classical = list(self._sense.images(item, data)) if network.wants == "sense" else []
        return Asked(item, network, engine, data, classical)

    def images(self, asked: Asked, levels: Levels) -> Made:
        """The wanted images as the network makes them.

        Args:
            asked: what is to be made.
            levels: of images that are known; those that are not are added.

        Raises:
            Refused: the engine failed, or was not in time; or a number that the network takes is not known.
        """
        item, network, maps, data = asked.item, asked.network, asked.maps, asked.data
        start = _start_of(asked)
        check_finite(start, item, item.reference)
        second, both = item.second_maps, None
        if second is not None:
            second = second.expand(*item.mask.shape[:-2], *maps.shape[-4:])
            if network.wants == "sense":  # it sees one image, of both
                both = self._sense.solution(item, data)
            else:  # it knows of the first image alone
                start, other = start
        voxels, weights = torch.zeros_like(start), start.new_ones(start.shape[:-3], dtype=torch.float32)
        uncertain = torch.zeros_like(voxels.real) if network.manifest.uncertainty else None
        pulls: dict[tuple[int, ...], tuple[float, Solve]] = {}
        by_call = maps if network.n_frames else maps.expand(*item.mask.shape[:-2], *maps.shape[-4:])
        for call in [()] if network.n_frames else np.ndindex(*item.mask.shape[:-2]):
            image = start[call][..., 0, :, :]
            if bool(image.any()):  # of nothing, a network has nothing to make
                if call not in levels:
                    level = noise_of(item.data[call], item.mask[call], readout_of(item))
                    levels[call] = network.scale(image), level
                scale, noise = levels[call]
                image, noise = image / scale, noise / scale
                weights[call] = noise.square()
                if self._pulls_by_columns(item):
                    weight = self._pull.weight(weights[call])
                    # Prepared while the network is busy; SENSE was solved with its own weight.
                    by_weights = (self._sense.weight, weight)
                    solve = self._sense.columns.second(by_call[call], item.mask[call], by_weights)
                    pulls[call] = weight, solve
                beside = None
                if second is not None and both is None:
                    beside = other[call][0] / scale, second[call][:, 0]
                inputs = network.inputs(
                    asked.engine,
                    image,
                    by_call[call][:, 0],
                    item.mask[call][..., 0, :],
                    noise,
                    beside,
                    contrasts={name: one[0] for name, one in item.contrasts.items()},
                    counters=network.counters(item, call),
                )
                output = self._called(partial(asked.engine, *inputs))
                voxels[call][..., 0, :, :] = scale * network.image(output, image)
                if uncertain is not None and (told := network.uncertainty(output)) is not None:
                    uncertain[call][..., 0, :, :] = scale * told
        if item.wanted is not None:
            if uncertain is not None:
                uncertain = uncertain[[*item.wanted]]
            voxels, weights, item = voxels[[*item.wanted]], weights[[*item.wanted]], wanted_frames(item)
            data = self._sense.acquired(item, maps)
        if both is not None:
            whole = combine_sets(both)
            voxels = both * torch.where(whole != 0, voxels / whole, 0)
        elif second is not None:
            voxels = _with_second(asked, data, voxels, second, weights.sqrt())
        if self._pull.strength is not None:
            voxels = self._pulled_back(data, voxels, self._pull.strength * weights, pulls)
        return Made(voxels, data, uncertain)

    def _pulls_by_columns(self, item: KSpace) -> bool:
        """Whether images are pulled back to the data exactly."""
        return (
            self._pull.strength is not None
            and item.wanted is None
            and item.second_maps is None
            and self._sense.config.solver == "columns"
            and self._sense.columns.cannot(item) is None
        )

    def _pulled_back(
        self,
        data: Acquired,
        voxels: torch.Tensor,
        weights: torch.Tensor,
        pulls: Mapping[tuple[int, ...], tuple[float, Solve]],
    ) -> torch.Tensor:
        """The images nearest to the network's that explain the acquired lines as well as noise allows.

        Args:
            data: what was acquired.
            voxels: ``(*other, z, y, x)``, the network's images.
            weights: ``(*other)``, λ of each, for conjugate gradients.
            pulls: λ of each, and what solves for it, where that is done by columns.
        """
        if pulls:
            solution = voxels.clone()
            for call, (weight, solve) in pulls.items():
                solution[call] = solve(data.right[call] + weight * voxels[call], data.right[call])
            return solution
        pull = weights[..., None, None, None]
        result = conjugate_gradient(
            lambda image: data.operator.normal(image) + pull * image,
            data.right + pull * voxels,
            x0=voxels,
            tolerance=1e-6,
            max_iterations=self._pull.iterations,
            dims=data.operator.image_dims,
        )
        return result.solution

    def _called(self, call: Callable[[], torch.Tensor]) -> torch.Tensor:
        """What an engine gives, in time."""
        limit = self._deadline_ms
        begun = time.perf_counter()
        try:
            return call() if limit is None else self._in_time(call, limit)
        except DeadlineExceeded:
            raise Refused(
                "deadline", f"the engine took more than {limit:g} ms (engine.deadline_ms)"
            ) from None
        except StillBusy:
            raise Refused("busy", "the engine is still busy with an image that it was too slow for") from None
        except (
            ScansideError,
            RuntimeError,
        ) as error:  # native code reports whatever it meets as RuntimeError
            raise Refused("failed", f"the engine failed: {error}") from error
        finally:
            self.times.add(1e3 * (time.perf_counter() - begun))


def _start_of(asked: Asked) -> torch.Tensor:
    """The images that the network begins with, ``(*other, z, y, x)``, or ``(2, *other, z, y, x)``."""
    if not asked.classical:
        return asked.data.right
    start = torch.stack([image.data[0] for image in asked.classical])
    return start.reshape(*asked.item.mask.shape[:-2], *start.shape[-3:])


def _with_second(
    asked: Asked, data: Acquired, voxels: torch.Tensor, maps: torch.Tensor, noise: torch.Tensor
) -> torch.Tensor:
    """A network's images, and those of the second set of maps that what they leave of the data gives.

    Args:
        asked: what was to be made.
        data: what was acquired of the wanted images.
        voxels: ``(*other, z, y, x)``, the network's images.
        maps: ``(*other, coil, z, y, x)``, the second set.
        noise: ``(*other)``, as the network's images were scaled.

    Returns:
        ``(2, *other, z, y, x)``.
    """
    images = torch.stack((voxels, torch.zeros_like(voxels)))
    right = data.right[1] - data.operator.normal(images)[1]
    mask = asked.item.mask
    for call in np.ndindex(*mask.shape[:-2]):
        if bool(voxels[call].any()):
            images[1][call][0] = asked.network.second_image(
                asked.engine, right[call][0], maps[call][:, 0], mask[call][0], noise[call]
            )
    return images
