"""Which pool: processes of this machine unless Ray is asked for."""

from __future__ import annotations

import os
from typing import Literal

from scanside.errors import ConfigError
from scanside.many.cluster import RayPool
from scanside.many.local import LocalPool
from scanside.many.run import Pool

__all__ = ["pool_for"]


def pool_for(
    n_workers: int | None = None, ray: str | None = None, *, threads: int = 1, device: str = "auto"
) -> Pool:
    """A pool for the machine or cluster that there is.

    Args:
        n_workers: at once; by default one for each GPU that the device asks for, else as many as there are CPUs for.
        ray: ``local``, ``auto`` or the ``HOST:PORT`` of a Ray cluster; None for processes of this machine.
        threads: CPU threads of each worker.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N`` as its workers will be told.

    Raises:
        MissingExtra: Ray is asked for and is not installed.
        ConfigError: Ray cannot give that device.
    """
    if ray is not None:
        if device.startswith("cuda:"):
            raise ConfigError(f"Ray chooses the devices of its workers: use cuda, cpu or auto, not {device}")
        gpu: bool | Literal["auto"] = "auto" if device == "auto" else device == "cuda"
        return RayPool(ray, n_workers, threads, gpu)
    devices = _cuda_devices() if device in ("auto", "cuda") else ()
    cpus = len(os.sched_getaffinity(0))
    return LocalPool(n_workers or len(devices) or max(1, cpus // threads), threads, devices)


def _cuda_devices() -> tuple[str, ...]:
    """Those that this process may use, as it names them."""
    import torch

    n = torch.cuda.device_count()
    visible = [one.strip() for one in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if one.strip()]
    return tuple(visible[:n] or map(str, range(n)))
