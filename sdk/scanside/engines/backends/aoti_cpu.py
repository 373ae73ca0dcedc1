"""AOTInductor on the CPU: PyTorch's own compiler, for every network, Fourier transforms included."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from scanside.engines.backends.base import Backend, InputShape, Precision, Runner, Source
from scanside.engines.backends.foreign import converting
from scanside.engines.graph import specialise
from scanside.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["AotiCpu"]

_PACKAGE = "engine.pt2"
_TARGET = "target.json"


class AotiCpu(Backend):
    """Compiles graph and weights to a shared library for this very CPU (``-march=native``).

    Building takes a C++ compiler and about half a minute, loading neither. With *freezing*, weights are constants
    that are laid out for the CPU's matrix units beforehand.
    """

    name = "aoti-cpu"
    native_code = True

    def available(self) -> str | None:
        """Part of PyTorch."""
        return None

    def buildable(self) -> str | None:
        """A C++ compiler is needed."""
        compiler = os.environ.get("CXX", "g++")  # where torch._inductor.config.cpp.cxx looks
        if shutil.which(compiler) is None:
            return f"there is no C++ compiler '{compiler}': install g++, or set CXX"
        return None

    def versions(self) -> dict[str, str]:
        """Of PyTorch, to whose run time the library is linked."""
        return {"torch": torch.__version__}

    def precisions(self) -> tuple[Precision, ...]:
        """As the graphs are."""
        return ("fp32", "bf16")

    def build(self, source: Source, precision: Precision, folder: Path) -> None:
        """Compile, and record for which CPU."""
        if reason := self.buildable():
            raise EngineError(f"{self.name}: {reason}")
        from torch._inductor import aoti_compile_and_package

        program = specialise(source, precision)
        try:
            with converting(), torch.no_grad():
                aoti_compile_and_package(
                    program, package_path=str(folder / _PACKAGE), inductor_configs={"freezing": True}
                )
        except Exception as error:  # the compiler's own errors have no common base but Exception
            raise EngineError(
                f"AOTInductor cannot compile the graph: {type(error).__name__}: {error}"
            ) from error
        target = {"CPU": self.hardware(), **self.versions()}
        (folder / _TARGET).write_text(json.dumps(target, indent=2), encoding="utf-8")

    def load(self, folder: Path, source: Source, precision: Precision) -> Runner:
        """Load the library, if it was compiled for this CPU and this PyTorch."""
        check_target(folder / _TARGET, {"CPU": self.hardware(), **self.versions()})
        return _Runner(source.inputs, load_package(folder / _PACKAGE))


def check_target(path: Path, here: dict[str, str]) -> None:
    """Refuse native code of another machine, which would crash, or be subtly wrong.

    Raises:
        EngineError: what it was built for differs from what is here.
    """
    try:
        target = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EngineError(f"{path}: cannot be read ({error}): build the engine again") from error
    for what, found in here.items():
        if target.get(what) != found:
            raise EngineError(
                f"{path.parent}: the engine was built for {what} {target.get(what)}, this is {found}: "
                "build it again here"
            )


def load_package(path: Path, *, single_threaded: bool = False) -> Any:
    """What ``torch._inductor.aoti_compile_and_package`` wrote, as a function on tensors.

    Args:
        path: the package.
        single_threaded: without locks between calls, which CUDA graphs do not allow.

    Raises:
        EngineError: the file is damaged.
    """
    from torch._inductor import aoti_load_package

    try:
        with converting():
            return aoti_load_package(str(path), run_single_threaded=single_threaded)
    except Exception as error:  # RuntimeError, OSError and zip errors of its own
        raise EngineError(f"{path}: AOTInductor cannot load it ({error}): build the engine again") from error


class _Runner(Runner):
    def __init__(self, inputs: Sequence[InputShape], package: Any) -> None:
        super().__init__(inputs)
        self._package = package

    def _run(self, tensors: tuple[torch.Tensor, ...]) -> torch.Tensor:
        with torch.inference_mode():
            result: torch.Tensor = self._package(*tensors)
        return result.float()
