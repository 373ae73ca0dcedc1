"""Where images are sent."""

from __future__ import annotations

from dataclasses import dataclass

from scanside.errors import ConfigError

__all__ = ["Destination"]


@dataclass(frozen=True, slots=True)
class Destination:
    """An archive (PACS) or another program that takes images.

    Attributes:
        host: name or address.
        port: TCP port.
        called: its application entity title.
        calling: our own.
        timeout_s: longest wait for the connection, and for each of its answers.

    Raises:
        ConfigError: a title that is none, a port or a time outside its range.
    """

    host: str
    port: int
    called: str = "ANY-SCP"
    calling: str = "SCANSIDE"
    timeout_s: float = 30.0

    def __post_init__(self) -> None:
        for title in (self.called, self.calling):
            if (
                not (title.strip() and len(title) <= 16 and title.isascii() and title.isprintable())
                or "\\" in title
            ):
                raise ConfigError(
                    f"{title!r} is no application entity title: 1 to 16 ASCII characters, no backslash"
                )
        if not self.host or not 0 < self.port < 65536 or not self.timeout_s > 0:
            raise ConfigError(
                f"images cannot be sent to '{self.host}:{self.port}' within {self.timeout_s} s: expected a host, a "
                "port from 1 to 65535 and a positive time"
            )

    @classmethod
    def parse(
        cls, address: str, called: str = "ANY-SCP", calling: str = "SCANSIDE", timeout_s: float = 30.0
    ) -> Destination:
        """A destination from ``host:port``; an IPv6 address stands in brackets.

        Raises:
            ConfigError: the address has another form, or see `Destination`.
        """
        host, colon, port = address.rpartition(":")
        if not colon or not port.isdecimal():
            raise ConfigError(
                f"'{address}' is no address of an archive: expected host:port, as pacs.local:104"
            )
        return cls(host.removeprefix("[").removesuffix("]"), int(port), called, calling, timeout_s)

    def __str__(self) -> str:
        return f"{self.called} at {self.host}:{self.port}"
