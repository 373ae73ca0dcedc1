"""Settings of a node or server that do not belong to a scan."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from scanside.context import Context
from scanside.noise_store import NoiseStore

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """Where and with what sessions run.

    Attributes:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        noise_store: folder that keeps noise covariances, so that a scan finds the noise scan it depends on, also
            when another process measured it; None keeps them in this process only.
        pipelines: folder of one's own pipelines.
    """

    device: str = "auto"
    noise_store: Path | None = None
    pipelines: Path | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Read ``SCANSIDE_DEVICE``, ``SCANSIDE_NOISE_STORE`` and ``SCANSIDE_PIPELINES``."""
        found = os.environ if environment is None else environment

        def folder(name: str) -> Path | None:
            return Path(found[name]) if found.get(name) else None

        return cls(
            device=found.get("SCANSIDE_DEVICE") or "auto",
            noise_store=folder("SCANSIDE_NOISE_STORE"),
            pipelines=folder("SCANSIDE_PIPELINES"),
        )

    def context(self) -> Context:
        """What pipelines are prepared with."""
        return Context(self.device, NoiseStore(self.noise_store))
