"""What every engine backend is: how it says that it is absent, builds an engine, loads it and runs it.

A backend makes an *engine* from a `Source`: an exported graph, its weights, and the static shape of every input.
What it writes goes into one folder, from which it can be loaded by a fresh process. Nothing in here decides
whether an engine is right (`scanside.engines.gate`) or which one is used (`scanside.engines.choice`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

from scanside.engines.hardware import cpu_fingerprint, gpu_fingerprint
from scanside.engines.manifest import Precision
from scanside.errors import ShapeError

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram

    from scanside.engines.plain import PlainGraph
    from scanside.engines.plan_record import PlanRecord

__all__ = ["Backend", "InputShape", "Precision", "Runner", "Source"]


@dataclass(frozen=True)
class InputShape:
    """One input of an engine: contiguous float32 of exactly this shape.

    Attributes:
        name: as in the manifest, for example ``image``.
        shape: all sizes, batch first.
    """

    name: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name} {tuple(self.shape)}"


class Source(Protocol):
    """What an engine is made from: graph, weights and the shapes it is for.

    Graph and weights are asked for only when they are needed, so that an engine that carries its own loads fast.
    """

    @property
    def inputs(self) -> tuple[InputShape, ...]:
        """Static shape of every input, in the order of the call."""
        ...

    def program(self, precision: Precision) -> ExportedProgram:
        """The exported graph whose first argument is the dictionary of weights; see `scanside.engines.graph`.

        Args:
            precision: ``bf16`` for the graph that casts parts of the network to bfloat16 explicitly.

        Raises:
            ConfigError: there is no graph of this precision.
        """
        ...

    def plain(self, precision: Precision) -> PlainGraph:
        """What `program` computes, for those who only run it or trace it anew: there much sooner.

        Args:
            precision: as of `program`.

        Raises:
            ConfigError: there is no graph of this precision.
        """
        ...

    def weights(self) -> Mapping[str, torch.Tensor]:
        """The weights by name, float32 on the CPU."""
        ...

    def calibration(self) -> Sequence[tuple[torch.Tensor, ...]]:
        """Inputs of scans as the network was trained for, from which ranges of int8 are taken; none where none came.

        None of them is one that the engine is judged on.
        """
        ...


class Runner(ABC):
    """A loaded engine. Call it with the tensors that `inputs` describes; it gives the result as float32.

    Shape, type and layout are checked here, for all backends alike, because some compute silently on whatever
    memory they are given: an AOTInductor package for 320² returns a plausible image for 256².

    Args:
        inputs: what it takes.
        device: where it computes. Engines of a GPU take tensors of the CPU as well; results come back to where the
            inputs are.
    """

    def __init__(self, inputs: Sequence[InputShape], device: str = "cpu") -> None:
        self.inputs = tuple(inputs)
        self.device = device

    def __call__(self, *tensors: torch.Tensor) -> torch.Tensor:
        """Run the engine.

        Args:
            tensors: one per entry of `inputs`, contiguous float32.

        Returns:
            The network's output, float32, a tensor that the next call does not overwrite.

        Raises:
            ShapeError: number, shape, type, layout or device of the inputs are not those it was built for.
        """
        self._check(tensors)
        return self._run(tensors)

    @abstractmethod
    def _run(self, tensors: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Compute; the inputs have been checked."""

    def _check(self, tensors: tuple[torch.Tensor, ...]) -> None:
        if len(tensors) != len(self.inputs):
            raise ShapeError(
                f"the engine takes {len(self.inputs)} inputs ({', '.join(map(str, self.inputs))}), got {len(tensors)}"
            )
        for spec, tensor in zip(self.inputs, tensors, strict=True):
            if tuple(tensor.shape) != spec.shape:
                raise ShapeError(
                    f"input '{spec.name}' has shape {tuple(tensor.shape)}, but the engine was built for "
                    f"{spec.shape}: pad it, or build an engine for this shape"
                )
            kind = str(tensor.dtype).removeprefix("torch.")
            if kind != "float32":
                raise ShapeError(f"input '{spec.name}' is {kind}, but engines take float32: convert it")
            if not tensor.is_contiguous():
                raise ShapeError(
                    f"input '{spec.name}' with strides {tensor.stride()} is not contiguous: call .contiguous()"
                )
            if tensor.device != tensors[0].device or tensor.device.type not in ("cpu", self.device):
                raise ShapeError(
                    f"input '{spec.name}' is on '{tensor.device}', but this engine takes all inputs on "
                    f"{' or '.join(dict.fromkeys((self.device, 'cpu')))}: move it"
                )


class Backend(ABC):
    """One way to run a network.

    An instance holds settings only (such as the number of threads), no engine. Everything that needs the
    backend's own package is imported in its methods, so that `available` can say what is missing.

    Attributes:
        name: how configurations, reports and the cache call it.
        native_code: its engines hold machine code, so they run only where they were built, or signed.
        carries_network: its engines hold graph and weights, so that `load` needs only the shapes of the source.
        device: kind of device on which it computes, ``cpu`` or ``cuda``.
        takes_plans: its engines can be built on another machine, and installed as plans.
    """

    name: ClassVar[str]
    carries_network: ClassVar[bool] = True
    native_code: ClassVar[bool] = False
    device: ClassVar[str] = "cpu"
    takes_plans: ClassVar[bool] = False

    @abstractmethod
    def available(self) -> str | None:
        """None where engines of this backend can be loaded and run, else the exact reason why they cannot."""

    def buildable(self) -> str | None:
        """None where engines can also be built, else why not; loading may need less than building."""
        return self.available()

    @abstractmethod
    def versions(self) -> dict[str, str]:
        """Versions of the packages that an engine depends on, torch among them.

        An engine that was built with others is built again. Asked for only where the backend is available.
        """

    def hardware(self) -> str:
        """Fingerprint of what it runs on; an engine for another machine is built again."""
        return cpu_fingerprint() if self.device == "cpu" else gpu_fingerprint()

    @abstractmethod
    def precisions(self) -> tuple[Precision, ...]:
        """The precisions that it offers on this machine."""

    def graph_precision(self, precision: Precision) -> Precision:
        """The graph from which an engine of some precision is made.

        ``bf16`` engines come from the graph with explicit casts unless the backend casts by itself, ``int8`` ones
        from that in fp32.
        """
        return "fp32" if precision == "int8" else precision

    def lacks(self, source: Source, precision: Precision) -> str | None:
        """What is missing to make an engine of one of its precisions from a source; None where nothing is."""
        return None

    def misfit(self, record: PlanRecord) -> str | None:
        """Why a plan is not for this machine, as the rest of a sentence about it; None where it is.

        Asked only where the backend is available and takes plans.
        """
        return f"is none for {self.name}, which takes no plans"

    def refuses(self, program: ExportedProgram) -> str | None:
        """Why this backend must not be used for a graph, None if it may."""
        return None

    @abstractmethod
    def build(self, source: Source, precision: Precision, folder: Path) -> None:
        """Make an engine.

        Args:
            source: graph, weights and static shapes.
            precision: one of `precisions`.
            folder: an existing empty folder; everything the engine needs, apart from the source, goes there.

        Raises:
            EngineError: it cannot be built here or from this graph.
        """

    @abstractmethod
    def load(self, folder: Path, source: Source, precision: Precision) -> Runner:
        """Load an engine, without a compiler.

        Args:
            folder: what `build` filled.
            source: the same shapes; graph and weights are for backends whose engines do not carry them.
            precision: as built.

        Raises:
            EngineError: the engine was built for another machine or version, or its files are not whole.
        """

    def settle(self, runner: Runner, folder: Path) -> None:  # noqa: B027 — most have nothing to keep
        """Keep what an engine compiled when it first ran on this machine, so that later loads need not.

        Called while an engine is judged, in the process that tries it first and in the one that measures it.

        Args:
            runner: the engine, after it ran.
            folder: that it was loaded from.

        Raises:
            OSError: it cannot be written.
        """
