"""OpenVINO: fastest for plain convolutional networks on Intel CPUs, in bf16 where they have matrix units for it."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from scanside.engines.backends.base import Backend, InputShape, Precision, Runner, Source
from scanside.engines.backends.foreign import converting
from scanside.engines.backends.int8 import quantised, what_is_missing
from scanside.engines.graph import fourier_operators, specialise
from scanside.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch.export import ExportedProgram

__all__ = ["OpenVino"]

_MODEL = "model.xml"


def _imported() -> Any:
    """OpenVINO without its telemetry.

    As installed it tells Google Analytics, under an identity that it keeps in ``~/intel``, that it was imported and
    what it converted. Nothing may leave a scanner's network unasked; without that package it uses a stub of its own.

    Raises:
        ImportError: it is not installed.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


class OpenVino(Backend):
    """Converts the graph to OpenVINO's own form; its CPU plugin compiles it at load, in a fraction of a second.

    It runs on as many threads as PyTorch does (``torch.set_num_threads``). In bf16 it computes what the graph says it
    should, and nothing else: left to lower the fp32 graph by itself, it would do so with data consistency as well.
    In int8 are convolutions within network parts, and all else is in fp32.
    """

    name = "openvino"

    def available(self) -> str | None:
        """None if the package and its CPU plugin are there."""
        try:
            devices = _imported().Core().available_devices
        except (ImportError, RuntimeError) as error:
            return f"openvino cannot be imported: {error}; pip install 'scanside[openvino]'"
        return (
            None if "CPU" in devices else f"openvino has no CPU plugin, only {', '.join(devices) or 'none'}"
        )

    def versions(self) -> dict[str, str]:
        """Of the package, and of PyTorch that exports for it."""
        return {"openvino": version("openvino"), "torch": torch.__version__}

    def precisions(self) -> tuple[Precision, ...]:
        """bf16 and int8 only where the CPU computes in them."""
        offered = _imported().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        reduced: tuple[Precision, ...] = ("bf16", "int8")
        return ("fp32", *(one for one in reduced if one.upper() in offered))

    def lacks(self, source: Source, precision: Precision) -> str | None:
        """NNCF, or cases to calibrate with."""
        return what_is_missing(source) if precision == "int8" else None

    def refuses(self, program: ExportedProgram) -> str | None:
        """Graphs with Fourier transforms, whose axes it is known to ignore."""
        found = fourier_operators(program)
        return f"openvino transforms along wrong axes: the graph holds {', '.join(found)}" if found else None

    def build(self, source: Source, precision: Precision, folder: Path) -> None:
        """Convert and save, without compressing weights to fp16 as is the default."""
        openvino = _imported()
        program = specialise(source, self.graph_precision(precision))
        if refusal := self.refuses(program):
            raise EngineError(refusal)
        try:
            with converting():
                model = openvino.convert_model(program if precision == "fp32" else _with_whole_norms(program))
                if precision == "int8":
                    model = quantised(model, source)
                openvino.save_model(model, folder / _MODEL, compress_to_fp16=False)
        except EngineError:
            raise
        except Exception as error:  # OpenVINO's own failures are no RuntimeErrors, and share no other base
            raise EngineError(f"openvino cannot convert the graph: {error}") from error

    def load(self, folder: Path, source: Source, precision: Precision) -> Runner:
        """Compile for this CPU."""
        openvino = _imported()
        settings = {
            # Nothing below what the graph says; left unset, it computes in bf16 wherever it can.
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        path = folder / _MODEL
        try:
            compiled = openvino.Core().compile_model(path, "CPU", settings)
        except RuntimeError as error:
            raise EngineError(f"openvino cannot load {path}: {error}; build the engine again") from error
        return _Runner(source.inputs, compiled)


def _with_whole_norms(program: ExportedProgram) -> Any:
    """A graph whose instance norms are converted to one operator each, and whose sizes are known.

    OpenVINO decomposes them into means and squares, in bf16 too, where what is left of a square after the mean is
    taken off is lost. Its operator computes within in fp32, in one pass instead of several; but it adds a channel up
    pixel by pixel, which costs 1e-5 at 256×256: too much for fp32, which keeps the means.
    """
    from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder
    from openvino.frontend.pytorch.torchdynamo.export_decompositions import ops_to_not_decompose

    table = torch.export.default_decompositions()
    for operator in (*ops_to_not_decompose(), torch.ops.aten.instance_norm.default):
        table.pop(operator, None)  # type: ignore[no-untyped-call]
    graph = program.run_decompositions(table).module(check_guards=False)
    return TorchFXPythonDecoder(graph, dynamic_shapes=False)


class _Runner(Runner):
    def __init__(self, inputs: Sequence[InputShape], compiled: Any) -> None:
        super().__init__(inputs)
        self._request = compiled.create_infer_request()

    def _run(self, tensors: tuple[torch.Tensor, ...]) -> torch.Tensor:
        # The output is copied, because the next call writes into the same memory.
        results = self._request.infer(
            [t.detach().numpy() for t in tensors], share_inputs=True, share_outputs=False
        )
        return torch.from_numpy(results[0])
