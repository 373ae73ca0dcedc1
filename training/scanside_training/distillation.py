"""Distillation: a small network learns from the layers or the images of a large one, beside learning from the data.

Hinton et al., *Distilling the knowledge in a neural network*, arXiv 1503.02531; Romero et al., *FitNets: hints for
thin deep nets*, ICLR 2015; Murugesan et al., *KD-MRI: a knowledge distillation framework for image reconstruction and
image restoration in MRI workflow*, MIDL 2020.

The features of chosen layers are compared after a 1 × 1 convolution has brought one side to the other's number of
channels, and after each channel of each sample has been standardised to mean 0 and variance 1. Standardising both
sides last keeps a projection from making the term small by shrinking what it puts out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, NamedTuple

import torch
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from torch import nn
from torch.nn.functional import mse_loss

from scanside.errors import ConfigError
from scanside_training.features import captured, standardised, undisturbed
from scanside_training.losses import magnitude
from scanside_training.models.base import Batch

__all__ = ["Distillation", "DistillationConfig", "LayerPair"]

Features = Mapping[str, torch.Tensor]


class LayerPair(BaseModel):
    """A layer of the teacher and the one of the student that learns from it, by their modules' names."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    teacher: str
    student: str


def _same_name(value: Any) -> Any:
    return {"teacher": value, "student": value} if isinstance(value, str) else value


class DistillationConfig(BaseModel):
    """Settings of a distillation; unknown keys are errors.

    Attributes:
        layers: whose features are compared: names that both networks have, such as ``body.encoder.0``,
            ``body.bottleneck`` or ``body.decoder.2``, or pairs ``{teacher: …, student: …}``. The features of a pair
            must have one size.
        output: compare the images that both put out as well, by the mean modulus of their difference.
        alpha: the total is ``alpha · reconstruction + (1 − alpha) · distillation``.
        project: whose features the trainable convolutions bring to the other's number of channels.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    layers: tuple[Annotated[LayerPair, BeforeValidator(_same_name)], ...] = ()
    output: bool = False
    alpha: float = Field(0.75, ge=0, le=1)
    project: Literal["student", "teacher"] = "student"

    @model_validator(mode="after")
    def _something_is_compared(self) -> DistillationConfig:
        if not self.layers and not self.output:
            raise ValueError("nothing of teacher and student is compared: name layers, or set output")
        return self


class _Seen(NamedTuple):
    """What a batch made of both networks.

    Attributes:
        theirs: features of the teacher.
        ours: those of the student.
        wanted: what the teacher puts out.
        output: what the student puts out.
    """

    theirs: Features
    ours: Features
    wanted: torch.Tensor
    output: torch.Tensor


class Distillation(nn.Module):
    """Runs student and teacher on a batch and adds what their features, or images, differ by to the loss.

    Its parameters are the projections: train them with the student's. The teacher is frozen and always runs in
    evaluation mode, on the student's device, but is no part of this module's ``state_dict``: checkpoints do not carry
    it. The student is handed over at each call and not kept.

    Args:
        teacher: takes the student's batches. It is put into evaluation mode, and its parameters are frozen.
        student: the network that learns.
        config: what is compared, and how.
        example: a batch of training samples; both networks run on it to find the layers' channels.

    Raises:
        ConfigError: a network has no such layer, the features of a pair differ in size or are no images.
    """

    def __init__(
        self, teacher: nn.Module, student: nn.Module, config: DistillationConfig, example: Batch
    ) -> None:
        super().__init__()
        self.config = config
        # In a tuple, the teacher is no submodule: neither saved, nor trained, nor switched to training mode.
        self._unregistered = (teacher.requires_grad_(False).eval(),)
        with undisturbed(student):
            seen = self._run(student, example)
        self.projections = nn.ModuleList(
            self._projection(seen.theirs[pair.teacher].shape[1], seen.ours[pair.student].shape[1])
            for pair in config.layers
        ).to(next(student.parameters()).device)

    @property
    def teacher(self) -> nn.Module:
        """The frozen network."""
        return self._unregistered[0]

    def forward(
        self,
        student: nn.Module,
        batch: Batch,
        loss: Callable[[torch.Tensor, Batch], dict[str, torch.Tensor]],
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Run both networks and compare.

        Args:
            student: the network that learns; its features keep their gradient.
            batch: training samples.
            loss: compares the student's output with the batch's target (`scanside_training.losses.build_loss`).

        Returns:
            The student's output, and scalars: the loss's own terms, its total as ``reconstruction``, the sum over
            layers and images as ``distillation``, and their weighted sum as ``total``, which alone has a gradient.

        Raises:
            ConfigError: the features of a pair differ in size.
        """
        seen = self._run(student, batch)
        losses = loss(seen.output, batch)
        reconstruction = losses["total"]
        distillation = self._difference(seen)
        alpha = self.config.alpha
        return seen.output, {
            **losses,
            "reconstruction": reconstruction.detach(),
            "distillation": distillation.detach(),
            "total": alpha * reconstruction + (1 - alpha) * distillation,
        }

    def _run(self, student: Any, batch: Batch) -> _Seen:
        """Features, whose sizes agree, and outputs."""
        teacher: Any = self.teacher.to(next(student.parameters()).device)
        pairs = self.config.layers
        with captured(teacher, [pair.teacher for pair in pairs]) as theirs, undisturbed(teacher):
            wanted: torch.Tensor = teacher(*teacher.inputs(batch))
        with captured(student, [pair.student for pair in pairs]) as ours:
            output: torch.Tensor = student(*student.inputs(batch))
        for pair in pairs:
            _check_sizes(pair, theirs.get(pair.teacher), ours.get(pair.student))
        return _Seen(theirs, ours, wanted, output)

    def _difference(self, seen: _Seen) -> torch.Tensor:
        """Sum of the layers' mean squared differences of projected and standardised features, and of the images'."""
        differences = []
        if self.config.output:
            differences.append(magnitude(seen.output.float() - seen.wanted.float()).mean())
        for pair, projection in zip(self.config.layers, self.projections, strict=True):
            teacher, student = seen.theirs[pair.teacher].float(), seen.ours[pair.student].float()
            if self.config.project == "student":
                student = projection(student)
            else:
                teacher = projection(teacher)
            differences.append(mse_loss(standardised(student), standardised(teacher)))
        return torch.stack(differences).sum()

    def _projection(self, n_teacher: int, n_student: int) -> nn.Conv2d:
        n_in, n_out = (n_student, n_teacher) if self.config.project == "student" else (n_teacher, n_student)
        return nn.Conv2d(n_in, n_out, 1, bias=False)  # standardising takes any bias away again


def _check_sizes(pair: LayerPair, teacher: torch.Tensor | None, student: torch.Tensor | None) -> None:
    names = f"layer '{pair.student}' of the student and '{pair.teacher}' of the teacher"
    for who, features in (("teacher", teacher), ("student", student)):
        if not isinstance(features, torch.Tensor) or features.ndim != 4:
            found = "nothing" if features is None else str(tuple(getattr(features, "shape", ())))
            raise ConfigError(
                f"{names} cannot be compared: the {who}'s gave {found} instead of (B, channel, y, x); "
                "name a block of convolutions that runs for every batch"
            )
    assert teacher is not None
    assert student is not None
    if teacher.shape[-2:] != student.shape[-2:]:
        raise ConfigError(
            f"{names} cannot be compared: their features are {tuple(student.shape[-2:])} and "
            f"{tuple(teacher.shape[-2:])}; pair layers of one resolution"
        )
