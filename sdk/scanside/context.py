"""What a worker offers its stages: device, store, settings that hold for every scan."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from scanside.errors import ConfigError, MissingExtra
from scanside.noise_store import NoiseStore

if TYPE_CHECKING:
    import torch

__all__ = ["Context"]


logger = logging.getLogger(__name__)


def _nothing() -> None:
    """Somebody waits."""


@dataclass(slots=True)
class Context:
    """The surroundings of a pipeline in one worker.

    Attributes:
        device: ``auto`` (CUDA where there is one), ``cpu``, ``cuda`` or ``cuda:N``.
        noise_store: noise covariances by measurement ID, shared by the scans of a worker.
        builds_engines: whether engines that are missing are built, which takes minutes. Not where a scan waits:
            there, those that were built before are used.
        check: called again and again by what takes long; raises where nobody waits for it any more.
        tell: is told what takes long.
    """

    device: str = "auto"
    noise_store: NoiseStore = field(default_factory=NoiseStore)
    builds_engines: bool = True
    check: Callable[[], None] = _nothing
    tell: Callable[[str], None] = logger.info

    def while_a_scan_waits(self, check: Callable[[], None] = _nothing) -> Context:
        """The same for work that a scan waits for.

        Args:
            check: raises where whoever sends the scan has gone.
        """
        return replace(self, builds_engines=False, check=check)

    @property
    def torch_device(self) -> torch.device:
        """The device on which stages compute.

        Raises:
            MissingExtra: torch is not installed.
            ConfigError: the device does not exist on this machine.
        """
        try:
            import torch
        except ImportError as error:
            raise MissingExtra("torch", "torch", "reconstruction") from error
        name = self.device
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            device = torch.device(name)
        except RuntimeError as error:
            raise ConfigError(f"device {name!r} is not known: use auto, cpu, cuda or cuda:N") from error
        if device.type not in ("cpu", "cuda"):
            raise ConfigError(f"device {name!r} is not supported: use auto, cpu, cuda or cuda:N")
        if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
            raise ConfigError(
                f"device {name!r} is not there: torch {torch.__version__} sees "
                f"{torch.cuda.device_count()} CUDA devices; use auto or cpu"
            )
        return device
