"""The short check at every load: one real input, and what the eager fp32 network made of it at acceptance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from scanside.engines.backends.base import InputShape, Runner
from scanside.errors import EngineError, MissingExtra

__all__ = ["CHECK_FILE", "StoredCheck", "read_check", "relative_error", "write_check"]

CHECK_FILE = "check.safetensors"
_OUTPUT = "output"


def relative_error(result: torch.Tensor, expected: torch.Tensor, at_least: float = 0.0) -> float:
    """``‖result − expected‖ / ‖expected‖`` in fp64.

    Args:
        result: any shape.
        expected: the same shape.
        at_least: a norm that takes the place of a smaller one of what is expected.
    """
    a, b = result.detach().cpu().double(), expected.detach().cpu().double()
    norm = max(b.norm().item(), at_least)
    return float((a - b).norm().item() / (norm or 1.0))


@dataclass(frozen=True)
class StoredCheck:
    """Inputs and the output that is expected, in the shapes of one engine.

    Attributes:
        names: of the inputs.
        inputs: as the engine takes them.
        expected: what the eager fp32 network made of them.
    """

    names: tuple[str, ...]
    inputs: tuple[torch.Tensor, ...]
    expected: torch.Tensor

    @property
    def shapes(self) -> tuple[InputShape, ...]:
        """What the engine takes."""
        return tuple(
            InputShape(name, tuple(tensor.shape))
            for name, tensor in zip(self.names, self.inputs, strict=True)
        )

    def error_of(self, runner: Runner) -> float:
        """The relative error of an engine; infinite where its result is not finite or of another shape."""
        result = runner(*self.inputs)
        if result.shape != self.expected.shape or not bool(result.isfinite().all()):
            return float("inf")
        return relative_error(result, self.expected)


def write_check(
    folder: Path,
    names: Sequence[str],
    inputs: Sequence[torch.Tensor],
    expected: torch.Tensor,
    repeats: Mapping[int, int] | None = None,
) -> None:
    """Put a check beside an engine.

    Args:
        folder: of the engine.
        names: of its inputs.
        inputs: as it takes them.
        expected: what the network made of them.
        repeats: position of inputs that are the same all along an axis, and that axis: they are stored once.

    Raises:
        MissingExtra: ``safetensors`` is not installed.
    """
    try:
        from safetensors.torch import save_file
    except ImportError as error:
        raise MissingExtra("safetensors", "engines", "checks of engines") from error
    tensors, repeated = {_OUTPUT: expected.contiguous()}, {}
    for i, (name, tensor) in enumerate(zip(names, inputs, strict=True)):
        key, axis = f"{i}.{name}", (repeats or {}).get(i)
        if axis is not None:
            repeated[key] = f"{axis} {tensor.shape[axis]}"
            tensor = tensor.narrow(axis, 0, 1)
        tensors[key] = tensor.contiguous()
    save_file(tensors, folder / CHECK_FILE, metadata=repeated)


def read_check(folder: Path) -> StoredCheck:
    """The check of an engine.

    Raises:
        EngineError: it is missing or damaged.
        MissingExtra: ``safetensors`` is not installed.
    """
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise MissingExtra("safetensors", "engines", "checks of engines") from error
    path = folder / CHECK_FILE
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 — no mapping
            repeated = file.metadata() or {}
        expected = tensors.pop(_OUTPUT)
        for key, text in repeated.items():
            axis, n = map(int, text.split())
            tensors[key] = tensors[key].repeat_interleave(n, dim=axis)
    except (OSError, SafetensorError, KeyError, ValueError, IndexError) as error:
        raise EngineError(
            f"{path}: the engine's check cannot be read ({error}): build the engine again"
        ) from error
    ordered = sorted(tensors, key=lambda key: int(key.partition(".")[0]))
    names = tuple(key.partition(".")[2] for key in ordered)
    return StoredCheck(names, tuple(tensors[key] for key in ordered), expected)
