"""Trained networks, from the folders that ``scanside train`` writes."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch.utils.data import default_collate

from scanside.engines.roles import inputs_of
from scanside.engines.shapes import Fit
from scanside.errors import ConfigError
from scanside.recon.scaling import image_scale
from scanside_training.checkpoint import load_model
from scanside_training.config import TrainConfig
from scanside_training.data import ImageTask, ImageToImage
from scanside_training.evaluation.candidates.base import CandidateConfig, Job, Silent, image_of, problem_of
from scanside_training.evaluation.case import Case
from scanside_training.evaluation.inputs import image_input, known_of, known_of_image, padded_size
from scanside_training.models import Network

__all__ = ["Run"]


class Run(CandidateConfig):
    """A network that was trained, computed by torch as it is, in float32."""

    kind: Literal["run"] = "run"
    folder: Path
    """Of the run."""
    weights: str = "model.safetensors"
    """File in it: the last weights, or ``best.safetensors``."""
    device: Literal["auto", "cpu", "cuda"] = "cpu"
    """Where it computes."""

    @property
    def label(self) -> str:
        """Name where none is given."""
        return self.folder.resolve().name

    def open(self) -> _Image | _Unrolled | _Exact | _Film:
        """The network with its weights.

        Raises:
            ConfigError: there is no such run, its network takes what no scan gives, or there is no CUDA device.
            FormatError: its weights are damaged.
        """
        model, config = load_model(self.folder, self.weights)
        device = _device(self.device)
        if model.config.unfit:
            raise ConfigError(f"the network of {self.folder} cannot be compared: {model.config.unfit}")
        if model.task == "image":
            return _Image(model.to(device), config)
        if model.task == "dynamic":
            return _Film(model.to(device))
        return _Exact(model.to(device)) if model.lowering == "columns" else _Unrolled(model.to(device))


@dataclass(frozen=True, eq=False)
class _Call:
    """A network with its inputs, to be called.

    Attributes:
        network: that makes the image.
        inputs: on its device.
        place: of the image in what it computes.
        scale: of the data.
    """

    network: Network
    inputs: tuple[torch.Tensor, ...]
    place: Fit
    scale: torch.Tensor

    def image(self) -> torch.Tensor:
        """In the size and on the scale of the data."""
        image, _ = self.network.split(self.network(*self.inputs).cpu())
        return image_of(self.place.crop(image)[0]) * self.scale


class _Learned(Silent):
    timed = True

    def job(self, case: Case) -> Job:
        call = self._prepared(case)

        def run() -> torch.Tensor:
            with torch.inference_mode():
                return call.image()

        return run

    def traced(self, case: Case) -> torch.Tensor:
        """See `Traceable`."""
        call = self._prepared(case)
        for spec, tensor in zip(call.network.offered(), call.inputs, strict=True):
            if spec.name == "maps":
                # Data consistency is then followed through the steps that it takes in use; in training it is solved.
                tensor.requires_grad_()
        return call.image()

    @abstractmethod
    def _prepared(self, case: Case) -> _Call:
        """See `Candidate.job`."""


class _Image(_Learned):
    def __init__(self, model: Network, config: TrainConfig) -> None:
        self._model = model
        task = config.data.simulation.task
        self._task = task if isinstance(task, ImageToImage) else ImageTask()
        self.n_parameters = _count(model)
        self.facts: dict[str, str] = {"backend": "eager fp32"}

    def _prepared(self, case: Case) -> _Call:
        channels = self._model.offered()[0].axes[1]
        if case.problem is not None:
            task = self._task
            image, scale = image_input(case.problem, task.input, task.l2, task.iterations)
            image = image.abs()[None] if channels == 1 else torch.stack((image.real, image.imag))
        else:
            image, scale = case.sample["image"], torch.ones(())
            if len(image) != channels:
                raise ConfigError(
                    f"the data's images have {len(image)} channel(s), and the network takes {channels}"
                )
        size = (image.shape[-2], image.shape[-1])
        place, network = Fit(size, padded_size(size, self._model.multiple_of)), self._model
        given = inputs_of(
            (one.name for one in network.offered()), known_of_image(case, image, network.takes_parameters)
        )
        inputs = tuple(one.to(_device_of(network)) for one in place.reflected(network.offered(), given))

        return _Call(network, inputs, place, scale)


class _Unrolled(_Learned):
    def __init__(self, model: Network) -> None:
        self._model = model
        # The weights are the same whatever the lowering; this one holds for sizes of any kind.
        self._any_size = model.config.lowered("pmatrix").build().eval()
        self._any_size.load_state_dict(model.state_dict())
        self._any_size.to(_device_of(model))
        self.n_parameters = _count(model)
        self.facts: dict[str, str] = {"backend": "eager fp32"}

    def _prepared(self, case: Case) -> _Call:
        problem = problem_of(case)
        n1, n0 = problem.adjoint.shape
        place = Fit((n1, n0), padded_size((n1, n0), self._model.multiple_of))
        network = self._model if place.size == place.bucket else self._any_size
        # Samples are scaled already, by the scale of the image before columns were left out.
        scale = torch.ones(()) if case.sample else image_scale(problem.adjoint.detach())
        offered = network.offered()
        inputs = inputs_of((one.name for one in offered), known_of(problem, network.lowering, scale))
        if place.size != place.bucket:
            inputs = place.surround(offered, inputs)
        inputs = tuple(one.to(_device_of(network)) for one in inputs)

        return _Call(network, inputs, place, scale)


class _Exact(_Learned):
    def __init__(self, model: Network) -> None:
        self._model = model
        self.n_parameters = _count(model)
        self.facts: dict[str, str] = {"backend": "eager fp32"}

    def _prepared(self, case: Case) -> _Call:
        problem, network = problem_of(case), self._model
        n1, n0 = problem.adjoint.shape
        place = Fit((n1, n0), padded_size((n1, n0), network.multiple_of))
        scale = torch.ones(()) if case.sample else image_scale(problem.adjoint.detach())
        known = known_of(problem, network.lowering, scale)
        roles = ("image", "maps", "noise")
        batch = dict(zip(roles, inputs_of(roles, known), strict=True))
        batch |= {"noise": batch["noise"].flatten(), "mask": problem.mask[None, :, None].float()}
        inputs = place.surround(network.offered(), network.inputs(batch))
        inputs = tuple(one.to(_device_of(network)) for one in inputs)

        return _Call(network, inputs, place, scale)


class _Film(_Learned):
    def __init__(self, model: Network) -> None:
        self._model = model
        self.n_parameters = _count(model)
        self.facts: dict[str, str] = {"backend": "eager fp32"}

    def _prepared(self, case: Case) -> _Call:
        network, n, multiple = self._model, self._model.n_frames, self._model.multiple_of
        if not case.is_film:
            raise ConfigError("the data are single images, and this network takes films")
        if len(case.whole) != n or any(size % multiple for size in case.whole.shape[1:]):
            raise ConfigError(
                f"the network takes films of {n} frames whose sizes are multiples of {multiple}, and these are "
                f"{case.whole.shape}"
            )
        inputs = network.inputs(default_collate([case.sample]))
        inputs = tuple(one.to(_device_of(network)) for one in inputs)

        k1, k0 = case.whole.shape[1:]
        return _Call(network, inputs, Fit((k1, k0), (k1, k0)), torch.ones(()))


def _count(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def _device_of(model: torch.nn.Module) -> torch.device:
    return next(model.parameters()).device


def _device(name: str) -> torch.device:
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ConfigError("device 'cuda' was asked for, and torch sees none")
    return torch.device("cuda" if available and name != "cpu" else "cpu")
