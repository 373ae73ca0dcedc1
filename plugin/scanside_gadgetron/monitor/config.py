"""Where the live page listens, who may look, and what it keeps."""

from __future__ import annotations

import ipaddress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from scanside.errors import ConfigError

__all__ = ["PICTURES", "MonitorConfig"]

PICTURES = "scanside-live-"
"""What the names of folders with pictures begin with."""


class MonitorConfig(BaseModel):
    """Settings of the live page, its metrics and its traces.

    Attributes:
        host: address to listen on; any but loopback asks for a token.
        port: 0 for any free one.
        token: what a browser or Prometheus has to show; at least 16 characters.
        keep_sessions: how many sessions that are over remain to be looked at.
        keep_images: how many images of a session remain, the latest.
        folder: where the sessions' pictures lie while they are kept; None takes the system's place for temporary
            files. What a server of the same user left there that died is removed.
        tracing: send OpenTelemetry traces; where to, the standard variables ``OTEL_*`` say.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    host: str = "127.0.0.1"
    port: int = Field(9003, ge=0, le=65535)
    token: SecretStr | None = Field(None, min_length=16)
    keep_sessions: int = Field(20, ge=1)
    keep_images: int = Field(512, ge=1)
    folder: Path | None = None
    tracing: bool = False

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def check(self) -> None:
        """See that nobody can look who should not.

        Raises:
            ConfigError: other machines could look, and there is no token.
        """
        if not self.is_loopback and self.token is None:
            raise ConfigError(
                f"the live page on '{self.host}' would show images to every machine that reaches it: set a token "
                "of at least 16 characters, or listen on 127.0.0.1"
            )
