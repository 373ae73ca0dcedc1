"""ONNX Runtime: portable fp32, for CPUs and systems that the other backends do not know."""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from scanside.engines.backends.base import Backend, InputShape, Precision, Runner, Source
from scanside.engines.backends.foreign import converting
from scanside.engines.graph import fourier_operators, specialise
from scanside.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch.export import ExportedProgram

__all__ = ["OnnxRuntime"]

_MODEL = "model.onnx"
_TO_BUILD = ("onnx", "onnxscript")


class OnnxRuntime(Backend):
    """Converts the graph to ONNX and runs it on the CPU, on as many threads as PyTorch does."""

    name = "onnxruntime"

    def available(self) -> str | None:
        """None if the package can be imported."""
        try:
            import onnxruntime  # noqa: F401
        except ImportError as error:
            return f"onnxruntime cannot be imported: {error}; pip install 'scanside[onnxruntime]'"
        return None

    def buildable(self) -> str | None:
        """Conversion needs two packages more."""
        missing = [name for name in _TO_BUILD if find_spec(name) is None]
        if missing:
            return f"conversion to ONNX needs {' and '.join(missing)}: pip install 'scanside[onnxruntime]'"
        return self.available()

    def versions(self) -> dict[str, str]:
        """Of the package, and of PyTorch that exports for it."""
        return {"onnxruntime": version("onnxruntime"), "torch": torch.__version__}

    def precisions(self) -> tuple[Precision, ...]:
        """Its CPU kernels compute in fp32."""
        return ("fp32",)

    def refuses(self, program: ExportedProgram) -> str | None:
        """Graphs with Fourier transforms, which it computes a hundred times slower than PyTorch."""
        found = fourier_operators(program)
        return (
            f"onnxruntime's Fourier transform is far too slow: the graph holds {', '.join(found)}"
            if found
            else None
        )

    def build(self, source: Source, precision: Precision, folder: Path) -> None:
        """Convert and save as one file."""
        program = specialise(source, precision)
        if refusal := self.refuses(program):
            raise EngineError(refusal)
        try:
            with converting():
                # Not optimised here: that takes constants below 1e-7 for zero, and what keeps a division from 0/0
                # with them; the session optimises by itself.
                converted = torch.onnx.export(program, dynamo=True, optimize=False, verbose=False)
                assert converted is not None
                converted.save(folder / _MODEL, external_data=False)
        except (RuntimeError, ValueError) as error:  # torch.onnx's own errors are RuntimeErrors
            raise EngineError(f"the graph cannot be converted to ONNX: {error}") from error

    def load(self, folder: Path, source: Source, precision: Precision) -> Runner:
        """Open a session."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        path = folder / _MODEL
        try:
            session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors have no common base but Exception
            raise EngineError(f"onnxruntime cannot load {path}: {error}; build the engine again") from error
        return _Runner(source.inputs, session)


class _Runner(Runner):
    def __init__(self, inputs: Sequence[InputShape], session: Any) -> None:
        super().__init__(inputs)
        self._session = session
        self._names = [entry.name for entry in session.get_inputs()]

    def _run(self, tensors: tuple[torch.Tensor, ...]) -> torch.Tensor:
        feeds = {name: t.detach().numpy() for name, t in zip(self._names, tensors, strict=True)}
        return torch.from_numpy(self._session.run(None, feeds)[0])
