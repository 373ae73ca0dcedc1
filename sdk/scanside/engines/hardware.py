"""What an engine is bound to: the instructions of a CPU, or the kind of a GPU and its driver."""

from __future__ import annotations

import hashlib
import platform
import re
from functools import cache
from pathlib import Path

from scanside.errors import BackendUnavailable, MissingExtra

__all__ = ["cpu_fingerprint", "gpu_fingerprint"]

_CPUINFO = Path("/proc/cpuinfo")
_NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
_TELLING = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve", "bf16")


@cache
def cpu_fingerprint() -> str:
    """The instructions that this machine's CPUs have: ``cpu x86_64 avx2 avx512f amx_bf16 4f1a…``.

    Engines are compiled for the CPU they are built on (``-march=native``), and another one may lack instructions.
    """
    try:
        text = _CPUINFO.read_text(encoding="utf-8")
    except OSError:
        text = ""  # no Linux: the processor's name is all that is known
    return cpu_fingerprint_of(text, platform.machine(), platform.processor())


def cpu_fingerprint_of(cpuinfo: str, machine: str, processor: str = "") -> str:
    """The fingerprint of a machine.

    Args:
        cpuinfo: text of ``/proc/cpuinfo``; empty where there is none.
        machine: architecture: ``x86_64``.
        processor: name of the processor, used where ``cpuinfo`` says nothing.
    """
    lists = re.findall(r"^(?:flags|Features)\s*:(.*)$", cpuinfo, re.MULTILINE)
    # Where CPUs differ, as on big.LITTLE machines, what all of them have is what can be relied on.
    flags = set.intersection(*(set(one.split()) for one in lists)) if lists else {processor}
    digest = hashlib.sha256(" ".join(sorted(flags)).encode()).hexdigest()[:16]
    return " ".join(["cpu", machine, *(flag for flag in _TELLING if flag in flags), digest])


def gpu_fingerprint(index: int = 0) -> str:
    """A GPU with its compute capability and driver: ``cuda NVIDIA H100 80GB HBM3 sm90 driver 570.124.06``.

    Args:
        index: of the CUDA device.

    Raises:
        BackendUnavailable: there is no such device.
        MissingExtra: torch is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise MissingExtra("torch", "engines", "engines on a GPU") from error
    if not torch.cuda.is_available() or index >= torch.cuda.device_count():
        raise BackendUnavailable(f"torch {torch.__version__} sees no CUDA device {index} on this machine")
    properties = torch.cuda.get_device_properties(index)
    return f"cuda {properties.name} sm{properties.major}{properties.minor} driver {_driver()}"


def _driver() -> str:
    try:
        found = re.search(r"\s(\d+\.\d+(\.\d+)?)\s", _NVIDIA_DRIVER.read_text(encoding="utf-8"))
    except OSError:
        found = None
    return found[1] if found else "unknown"
