"""The network as PyTorch runs it: what all other backends are compared with, and what is always there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from scanside.engines.backends.base import Backend, InputShape, Precision, Runner, Source
from scanside.engines.graph import BoundGraph, bind

__all__ = ["Eager", "EagerRunner"]


class Eager(Backend):
    """Runs the graph operator by operator; its engine is the bundle itself, so that nothing is built."""

    name = "eager"
    carries_network = False

    def available(self) -> None:
        """Always there."""

    def versions(self) -> dict[str, str]:
        """Of PyTorch."""
        return {"torch": torch.__version__}

    def precisions(self) -> tuple[Precision, ...]:
        """All that there are graphs for."""
        return ("fp32", "bf16")

    def build(self, source: Source, precision: Precision, folder: Path) -> None:
        """Nothing is to be built."""

    def load(self, folder: Path, source: Source, precision: Precision) -> Runner:
        """Bind the weights to the graph."""
        return EagerRunner(source.inputs, bind(source, precision))


class EagerRunner(Runner):
    """A network in one of the sizes that it takes.

    Args:
        inputs: what it takes.
        network: that may be shared by runners of other sizes.
    """

    def __init__(self, inputs: Sequence[InputShape], network: BoundGraph) -> None:
        super().__init__(inputs)
        self._network = network

    def _run(self, tensors: tuple[torch.Tensor, ...]) -> torch.Tensor:
        with torch.inference_mode():
            result: torch.Tensor = self._network(*tensors)
        return result.float()
