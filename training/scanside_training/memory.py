"""How much memory the tensors of a computation, or of a training step, take at most."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.data import default_collate
from torch.utils.weak import WeakIdKeyDictionary

from scanside_training.checkpoint import network_of
from scanside_training.config import TrainConfig
from scanside_training.data import SampleKey, SimulatedSamples
from scanside_training.losses import build_loss

__all__ = ["peak_memory", "training_memory"]


def training_memory(config: TrainConfig) -> int:
    """Bytes of the tensors of one training step on a batch, at most: features, gradients, and what lies between.

    Weights, the state of the optimiser and a distillation's teacher do not count.

    Raises:
        ConfigError: the data are not there.
    """
    samples = SimulatedSamples(config.data, "train")
    batch = default_collate([samples[SampleKey(0, 0, index)] for index in range(config.data.batch_size)])
    model, loss = config.model.build().train(), build_loss(config.loss, network_of)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bf16-mixed"):
            output = model(*model.inputs(batch))
        loss(output.float(), batch)["total"].backward()

    return peak_memory(step)


def peak_memory(work: Callable[[], object]) -> int:
    """Bytes of all tensors that are made while something runs and are there at one time, at most.

    Those that were there before do not count. It is the same on every machine, unlike what a process occupies.

    Args:
        work: what runs; it may compute gradients.
    """
    watch = _Watch()
    with watch:
        work()
    return watch.peak


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak: int = 0
        self._now = 0
        self._known: Any = WeakIdKeyDictionary()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        before = {
            id(one.untyped_storage()) for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)
        }
        out = func(*args, **(kwargs or {}))
        for one in tree_leaves(out):
            if isinstance(one, torch.Tensor):
                self._see(one.untyped_storage(), before)
        return out

    def _see(self, storage: torch.UntypedStorage, before: set[int]) -> None:
        if storage in self._known or id(storage) in before:
            return
        size = storage.nbytes()
        self._known[storage] = size
        self._now += size
        self.peak = max(self.peak, self._now)
        weakref.finalize(storage, self._free, size)

    def _free(self, size: int) -> None:
        self._now -= size
