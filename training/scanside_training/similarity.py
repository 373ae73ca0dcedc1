"""How alike the layers of two networks are: linear centred kernel alignment (CKA).

Kornblith et al., *Similarity of neural network representations revisited*, ICML 2019, in the mini-batch form of
Nguyen et al., *Do wide and deep networks learn the same things?*, ICLR 2021: the unbiased estimates of HSIC (Song et
al., *Feature selection via dependence maximization*, JMLR 13:1393, 2012) are added up over batches before they are
divided, so that neither the features nor the Gram matrices of a whole data set are ever in memory. An example is an
image: layers of any resolution can be compared. Being unbiased, values can lie a little outside 0 to 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import nn

from scanside.errors import ConfigError, ShapeError
from scanside_training.features import captured, undisturbed
from scanside_training.models.base import Batch

__all__ = ["LinearCka", "Similarity", "layer_similarity", "similarity_figure"]

SMALLEST_BATCH = 4
"""Images that the unbiased estimate needs."""


@dataclass(frozen=True)
class Similarity:
    """CKA of each layer of one network with each of another.

    Attributes:
        values: ``(teacher layer, student layer)``, 1 for features that are equal up to rotation and scale.
        teacher_layers: names of the rows.
        student_layers: names of the columns.
    """

    values: npt.NDArray[np.float64]
    teacher_layers: tuple[str, ...]
    student_layers: tuple[str, ...]


class LinearCka:
    """Adds up CKA over batches, for all pairs of layers from two lists."""

    def __init__(self) -> None:
        self._cross: torch.Tensor | float = 0.0
        self._rows: torch.Tensor | float = 0.0
        self._columns: torch.Tensor | float = 0.0

    def add(self, rows: Sequence[torch.Tensor], columns: Sequence[torch.Tensor]) -> None:
        """Look at a batch.

        Args:
            rows: each layer's features, ``(n, …)`` with n ≥ 4 examples.
            columns: those of the other network's layers, for the same examples.

        Raises:
            ShapeError: there are fewer than four examples, or not the same number in all.
        """
        counts = {len(features) for features in (*rows, *columns)}
        if len(counts) != 1 or min(counts) < SMALLEST_BATCH:
            raise ShapeError(
                f"batches of {sorted(counts)} examples: all layers need the same ones, at least {SMALLEST_BATCH} in "
                "each batch; choose larger batches and drop the last one where it is smaller"
            )
        first, second = (torch.stack([_gram(features) for features in side]) for side in (rows, columns))
        self._cross = self._cross + _hsic(first[:, None], second[None, :])
        self._rows = self._rows + _hsic(first, first)
        self._columns = self._columns + _hsic(second, second)

    def values(self) -> npt.NDArray[np.float64]:
        """``(rows, columns)`` over all batches so far; NaN for a layer that puts out the same for all examples.

        Raises:
            ConfigError: there was no batch.
        """
        if (
            isinstance(self._cross, float)
            or isinstance(self._rows, float)
            or isinstance(self._columns, float)
        ):
            raise ConfigError("there is no batch to compare layers on: give at least one")
        values = self._cross / torch.sqrt(self._rows[:, None] * self._columns[None, :])
        return values.cpu().numpy()


def layer_similarity(
    teacher: nn.Module,
    student: nn.Module,
    batches: Iterable[Batch],
    teacher_layers: Sequence[str],
    student_layers: Sequence[str],
) -> Similarity:
    """Compare layers of two networks on the same images, both in evaluation mode.

    Args:
        teacher: a model.
        student: another, on the same device and for the same batches.
        batches: of at least four samples each; the more images, the smaller the estimate's spread.
        teacher_layers: names of modules, such as ``body.encoder.0``.
        student_layers: names of modules.

    Raises:
        ConfigError: a network has no such layer, or there is no batch.
        ShapeError: a batch has fewer than four samples.
    """
    cka = LinearCka()
    networks: tuple[Any, Any] = (teacher, student)
    with undisturbed(teacher, student):
        for batch in batches:
            with captured(teacher, teacher_layers) as theirs, captured(student, student_layers) as ours:
                for network in networks:
                    network(*network.inputs(batch))
            cka.add([theirs[name] for name in teacher_layers], [ours[name] for name in student_layers])
    return Similarity(cka.values(), tuple(teacher_layers), tuple(student_layers))


def similarity_figure(similarity: Similarity) -> Figure:
    """The matrix as a picture with its values, without any global state of Matplotlib.

    Args:
        similarity: as `layer_similarity` gives it.
    """
    n_rows, n_columns = similarity.values.shape
    figure = Figure(figsize=(2.2 + 0.7 * n_columns, 1.4 + 0.5 * n_rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    picture = axes.imshow(similarity.values, vmin=0, vmax=1, cmap="viridis", aspect="auto")
    axes.set_xticks(
        range(n_columns), similarity.student_layers, rotation=40, ha="right", rotation_mode="anchor"
    )
    axes.set_yticks(range(n_rows), similarity.teacher_layers)
    axes.set_xlabel("student")
    axes.set_ylabel("teacher")
    for (row, column), value in np.ndenumerate(similarity.values):
        axes.text(
            column, row, f"{value:.2f}", ha="center", va="center", color="white" if value <= 0.6 else "black"
        )
    figure.colorbar(picture, ax=axes, label="linear CKA")
    return figure


def _gram(features: torch.Tensor) -> torch.Tensor:
    """``(n, …)`` to inner products of the examples ``(n, n)``, float64, zero on the diagonal."""
    flat = features.flatten(1).double()
    flat = flat - flat.mean(dim=0)  # the estimate does not change, and rounds less
    gram = flat @ flat.mT
    return gram.fill_diagonal_(0)


def _hsic(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Unbiased estimate of HSIC (Song et al., eq. 5) from Gram matrices ``(…, n, n)`` with zero diagonals."""
    n = first.shape[-1]
    rows, columns = first.sum(-1), second.sum(-1)
    trace = (first * second).sum((-2, -1))  # of the product, as both are symmetric
    apart = rows.sum(-1) * columns.sum(-1) / ((n - 1) * (n - 2))
    shared = 2 / (n - 2) * (rows * columns).sum(-1)
    return (trace + apart - shared) / (n * (n - 3))
