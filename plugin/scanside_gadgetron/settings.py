"""Settings of a node or server that do not belong to a scan."""

from __future__ import annotations

import ipaddress
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, FilePath, IPvAnyNetwork, ValidationError

from scanside.context import Context
from scanside.errors import ConfigError, MissingExtra
from scanside.memory import machine_bytes
from scanside.noise_store import NoiseStore
from scanside.recording.config import RecordingConfig
from scanside.serving import DEFAULT_PIPELINE
from scanside.stage import describe_settings, describe_validation
from scanside_gadgetron.monitor.config import MonitorConfig

__all__ = ["LimitsConfig", "ServerConfig", "Settings", "TlsConfig", "is_loopback"]


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


Device: TypeAlias = Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")]
"""``auto``, ``cpu``, ``cuda`` or ``cuda:N``."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra=describe_settings)


class TlsConfig(_Part):
    """Encryption of the connections, and who may make one.

    Attributes:
        certificate: PEM file with the server's certificate and those that lead to its authority.
        key: PEM file with its private key; None where the certificate's file holds it.
        client_ca: PEM file with authorities; hosts then have to show a certificate of theirs.
    """

    certificate: FilePath
    key: FilePath | None = None
    client_ca: FilePath | None = None


class LimitsConfig(_Part):
    """How much one session may take of time and memory.

    Attributes:
        message_mib: size of one message in MiB.
        scan_gib: size of all that a host sends in one session, in GiB.
        opening_seconds: how long a host may take to send configuration and header, encryption included.
        idle_seconds: how long it may then take for a message: a scanner may pause, but not for ever.
        session_seconds: how long a session may last.
        stage_seconds: how long a stage may work on one item.
        send_seconds: how long a host may take no result before it counts as hung.
        drain_seconds: after a failure, how long a host may go on sending before it is told.
        memory_gib: resident memory of a worker, in GiB. Beyond it, a worker is replaced after its session; beyond
            a quarter more, at once. None shares this machine's memory among the workers.
    """

    message_mib: float = Field(8192, gt=0)
    scan_gib: float = Field(256, gt=0)
    opening_seconds: float = Field(60, gt=0)
    idle_seconds: float = Field(600, gt=0)
    session_seconds: float = Field(4 * 3600, gt=0)
    stage_seconds: float = Field(600, gt=0)
    send_seconds: float = Field(120, gt=0)
    drain_seconds: float = Field(3600, gt=0)
    memory_gib: float | None = Field(None, gt=0)


class ServerConfig(_Part):
    """Everything about a server: ``scanside serve --config server.yaml``.

    Attributes:
        host: address or name to listen on. A name is listened on in all its families: Gadgetron tries only the
            first address that a name resolves to.
        port: 0 for any free one.
        allow: hosts and networks that may connect, for example ``192.168.2.0/24``; this machine always may. Any
            `host` but loopback needs it.
        tls: None for plain connections.
        handover: Unix socket at which a node that Gadgetron executes hands its connection over; ``auto`` for the
            place where nodes of the same user look (`scanside_gadgetron.pool.handover`), ``off`` for none.
        pipeline: name or file, for sessions that ask for none.
        prepare: pipelines that workers have ready besides; others are loaded when they are first asked for.
        pipelines: folder of one's own pipelines: ``NAME.yaml`` there is asked for as ``NAME``.
        noise_store: folder that keeps noise measurements; None for one that lasts as long as the server.
        workers: how many processes, and so how many sessions at once.
        devices: what they compute on, in turn.
        threads: of torch in each worker; None shares this machine's cores among them, unless ``OMP_NUM_THREADS`` is
            set. NumPy has one, unless ``OPENBLAS_NUM_THREADS`` is set.
        queue: how many connections wait for a worker at most.
        limits: of one session.
        prepare_seconds: how long a worker may take to be ready; building an engine can take minutes.
        heartbeat_seconds: how long a worker may give no sign of life.
        grace_seconds: how long running sessions may last once the server is asked to end.
        monitor: the live page and the metrics; None for none.
        record: which sessions' raw streams are kept; None for none.
        series_log: file that says which network made which series, a JSON object in each line; None for none.
        log: ``text`` for people, or ``json``: one object per line.
    """

    host: str = "127.0.0.1"
    port: int = Field(9002, ge=0, le=65535)
    allow: tuple[IPvAnyNetwork, ...] = ()
    tls: TlsConfig | None = None
    handover: Literal["auto", "off"] | Path = "auto"
    pipeline: str = DEFAULT_PIPELINE
    prepare: tuple[str, ...] = ()
    pipelines: Path | None = None
    noise_store: Path | None = None
    workers: int = Field(2, ge=1, le=256)
    devices: tuple[Device, ...] = Field(("auto",), min_length=1)
    threads: int | None = Field(None, ge=1)
    queue: int = Field(32, ge=0)
    limits: LimitsConfig = LimitsConfig()
    prepare_seconds: float = Field(1800, gt=0)
    heartbeat_seconds: float = Field(30, gt=0)
    grace_seconds: float = Field(30, ge=0)
    monitor: MonitorConfig | None = None
    record: RecordingConfig | None = None
    series_log: Path | None = None
    log: Literal["text", "json"] = "text"

    @classmethod
    def load(cls, path: Path | None = None, own: Settings | None = None, **changed: Any) -> ServerConfig:
        """Read a YAML file, and let what is given otherwise go before it.

        Args:
            path: the file; None for the defaults.
            own: what the environment says, where neither file nor `changed` say it.
            **changed: settings that go before the file's; None leaves a setting as it is.

        Raises:
            ConfigError: the file cannot be read, or a setting is unknown or wrong.
            MissingExtra: YAML cannot be read in this environment.
        """
        own = own or Settings()
        where = "server" if path is None else f"server file {path}"
        document: dict[str, Any] = {
            "devices": (own.device,),
            "noise_store": own.noise_store,
            "pipelines": own.pipelines,
        }
        if path is not None:
            document.update(_read_yaml(path))
        document.update({name: value for name, value in changed.items() if value is not None})
        try:
            config = cls.model_validate(document)
        except ValidationError as error:
            raise ConfigError(describe_validation(where, cls, error)) from error
        config.check()
        return config

    def check(self) -> None:
        """See that nobody can connect who should not.

        Raises:
            ConfigError: other machines could connect, and nothing says which may.
        """
        if not is_loopback(self.host) and not self.allow:
            raise ConfigError(
                f"on '{self.host}' every machine that reaches it could send scans: say which may, for example "
                "allow: [192.168.2.0/24], or listen on 127.0.0.1"
            )
        if self.monitor is not None:
            self.monitor.check()

    def remarks(self) -> list[str]:
        """What is allowed and perhaps not meant: each with what to do."""
        found = []
        wide = [
            one
            for one in self.allow
            if not one.is_private and one.prefixlen < (8 if one.version == 4 else 32)
        ]
        if wide:
            found.append(
                f"allow: {' and '.join(map(str, wide))} lets every machine that reaches {self.host} send scans: name "
                "the networks of your hosts"
            )
        if self.tls is not None:
            key = self.tls.key or self.tls.certificate
            if key.stat().st_mode & stat.S_IROTH:
                found.append(f"tls.key: every user of this machine can read {key}: chmod 640, or 600")
        if self.monitor is not None and self.monitor.token is not None and not self.monitor.is_loopback:
            found.append(
                f"monitor.token goes over the network unencrypted to {self.monitor.host}: put a proxy with TLS in "
                "front of the live page, and let it listen on 127.0.0.1"
            )
        return found

    def monitored(self) -> ServerConfig:
        """The same with the live page."""
        return self if self.monitor is not None else self.model_copy(update={"monitor": MonitorConfig()})

    @property
    def worker_threads(self) -> int | None:
        """Threads of each worker; None leaves it to the libraries, or to ``OMP_NUM_THREADS``."""
        if self.threads is not None or self.workers == 1 or "OMP_NUM_THREADS" in os.environ:
            return self.threads
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return max(1, cores // self.workers)

    @property
    def memory_bytes(self) -> int:
        """Resident memory beyond which a worker is replaced."""
        if self.limits.memory_gib is not None:
            return int(self.limits.memory_gib * 2**30)
        return machine_bytes() // self.workers


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens on a host."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        import yaml
    except ImportError as error:
        raise MissingExtra("pyyaml", "torch", f"server file {path}") from error
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        # Its own text quotes the line, which may hold the token of the live page.
        line = "" if error.problem_mark is None else f" in line {error.problem_mark.line + 1}"
        raise ConfigError(f"server file {path} cannot be read{line}: {error.problem}") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"server file {path} cannot be read: {error}") from error
    if document is None:
        return {}
    if not isinstance(document, dict) or not all(isinstance(key, str) for key in document):
        raise ConfigError(f"server file {path} holds no settings; expected lines like 'port: 9002'")
    return document
