"""What a worker offers its stages: device, store, settings that hold for every scan."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scanside.errors import ConfigError, MissingExtra
from scanside.noise_store import NoiseStore

if TYPE_CHECKING:
    import torch

__all__ = ["Context"]


@dataclass(slots=True)
class Context:
    """The surroundings of a pipeline in one worker.

    Attributes:
        device: ``auto`` (CUDA where there is one), ``cpu``, ``cuda`` or ``cuda:N``.
        noise_store: noise covariances by measurement ID, shared by the scans of a worker.
    """

    device: str = "auto"
    noise_store: NoiseStore = field(default_factory=NoiseStore)

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
