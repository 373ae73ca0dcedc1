"""Lets torch-tensorrt be imported where there is neither TensorRT nor a GPU.

Its Python bindings for TensorRT come from the package index, the libraries behind them do not. The bindings'
undefined functions are read from their symbol table, and a library that defines them as functions returning null
is compiled and loaded in their place: enough to import, as nothing of TensorRT is called before an engine is
built. torch-tensorrt then takes its own path for installations without its C++ runtime, and what it asks of the
GPU on the way is answered for it.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from unittest import mock

import torch

from scanside.errors import BackendUnavailable

__all__ = ["torch_tensorrt_without_tensorrt"]

_BINDINGS = "tensorrt_bindings"
_LIBRARY = "libnvinfer.so"
_RUNTIME_LIBRARIES = ("libtorchtrt.so", "libtorchtrt_runtime.so")
_CAPABILITY = (9, 0)  # of the GPU that is answered for; torch-tensorrt asks to tell embedded boards apart
_GPU_MEMORY = 80 * 2**30


@contextmanager
def torch_tensorrt_without_tensorrt() -> Iterator[ModuleType]:
    """The module ``torch_tensorrt``, usable inside the block for everything but building and running engines.

    Raises:
        BackendUnavailable: a package or a compiler that this takes is missing; says which.
    """
    for package in ("torch_tensorrt", _BINDINGS):
        if importlib.util.find_spec(package) is None:
            raise BackendUnavailable(
                f"the dry run needs the package '{package}', which is not installed: use make tensorrt-dryrun"
            )
    if _BINDINGS not in sys.modules:
        _load_stand_in()
    # The package `tensorrt`, which fetches the libraries, has these same bindings under its own name.
    sys.modules.setdefault("tensorrt", importlib.import_module(_BINDINGS))
    with ExitStack() as answers:
        for name, answer in (
            ("current_device", 0),
            ("get_device_capability", _CAPABILITY),
            ("mem_get_info", (_GPU_MEMORY, _GPU_MEMORY)),
        ):
            answers.enter_context(mock.patch.object(torch.cuda, name, mock.Mock(return_value=answer)))
        if not hasattr(torch._C, "_CudaDeviceProperties"):  # noqa: SLF001 — named in an annotation of theirs
            answers.enter_context(mock.patch.object(torch._C, "_CudaDeviceProperties", object, create=True))  # noqa: SLF001
        yield _import_without_runtime()


def _import_without_runtime() -> ModuleType:
    """Import it with its C++ runtime, which needs CUDA, out of sight."""
    is_file = os.path.isfile

    def is_visible(path: str) -> bool:
        return os.path.basename(path) not in _RUNTIME_LIBRARIES and is_file(path)  # noqa: PTH119 — stands in for os.path

    logging.getLogger("torch_tensorrt").setLevel(logging.ERROR)
    with mock.patch.object(os.path, "isfile", is_visible):
        return importlib.import_module("torch_tensorrt")


def _load_stand_in() -> None:
    """Load libraries with the names and the functions that the bindings ask for."""
    spec = importlib.util.find_spec(_BINDINGS)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    bindings = Path(spec.submodule_search_locations[0]) / "tensorrt.so"
    functions = _missing_functions(_run("nm", "-D", "--undefined-only", str(bindings)))
    needed = [
        line.partition("[")[2].rstrip("]")
        for line in _run("readelf", "-d", str(bindings)).splitlines()
        if "(NEEDED)" in line and "libnv" in line
    ]
    with tempfile.TemporaryDirectory(prefix="scanside-tensorrt-") as folder:
        for name in needed:
            defined = functions if name.startswith(_LIBRARY) else []
            source = "".join(f"void *{function}(void) {{ return 0; }}\n" for function in defined)
            path = Path(folder) / name
            _run(
                "gcc", "-shared", "-fPIC", f"-Wl,-soname,{name}", "-x", "c", "-", "-o", str(path), text=source
            )
            # Loaded under the same name, it is what the bindings get; its file is no longer needed then.
            ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)


def _missing_functions(symbols: str) -> list[str]:
    """Undefined symbols that neither Python nor a versioned system library has, from the output of ``nm``."""
    missing = []
    for line in symbols.splitlines():
        *_, kind, name = line.split()
        if kind == "U" and "@" not in name and not name.startswith(("Py", "_Py")):
            missing.append(name)
    return missing


def _run(program: str, *arguments: str, text: str = "") -> str:
    if shutil.which(program) is None:
        raise BackendUnavailable(
            f"the dry run needs the program '{program}': install a C compiler with binutils"
        )
    done = subprocess.run([program, *arguments], input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BackendUnavailable(f"'{program}' failed: {done.stderr.strip()}")
    return done.stdout
