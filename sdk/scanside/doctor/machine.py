"""The machine: folders that must be written, ports, clock, shared memory, open files."""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from datetime import datetime, timezone
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from scanside.doctor.check import Check
from scanside.doctor.pipelines import load_pipeline
from scanside.errors import ScansideError

if TYPE_CHECKING:
    from scanside_gadgetron.settings import ServerConfig

__all__ = ["check_machine"]

_LITTLE_GIB = 2.0
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 — looked at, not written
_SHARED_MIB = 256
_OPEN_FILES = 4096
_CLOCK_NOT_SET = 5  # TIME_ERROR of adjtimex(2)


def check_machine(settings: ServerConfig, *, running: bool = False) -> list[Check]:
    """Look at what the machine gives.

    Args:
        settings: of the server.
        running: whether a server runs here, which may have its ports.
    """
    ports = {"MRD": settings.port}
    if settings.monitor is not None:
        ports["live page"] = settings.monitor.port
    return [
        *(_folder(name, folder) for name, folder in _folders(settings).items()),
        *(_port(what, number, running=running) for what, number in ports.items() if number),
        _clock(),
        *_shared_memory(),
        *_open_files(),
    ]


def _folders(settings: ServerConfig) -> dict[str, Path]:
    from scanside.engines.cache import engine_cache_folder

    folders = {"temporary files": Path(tempfile.gettempdir()), "engine cache": engine_cache_folder()}
    if settings.noise_store is not None:
        folders["noise store"] = settings.noise_store
    if named := os.environ.get("SCANSIDE_RECORDINGS"):
        folders["recordings"] = Path(named)
    for name in (settings.pipeline, *settings.prepare):
        folders |= _folders_of(name, settings.pipelines)
    return folders


def _folders_of(name: str, own: Path | None) -> dict[str, Path]:
    """Folders that a pipeline's stages write into; none where it cannot be loaded, which is told elsewhere."""
    if find_spec("torch") is None or find_spec("yaml") is None:
        return {}
    try:
        pipeline = load_pipeline(name, own)
    except ScansideError:
        return {}
    return {
        f"{pipeline.name}: {label}.{setting}": value
        for label, stage in zip(pipeline.labels, pipeline.stages, strict=True)
        for setting, value in stage.config
        if isinstance(value, Path)
    }


def _folder(name: str, folder: Path) -> Check:
    """Whether a folder can be written, or made, and has room."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    advice = f"give {_user()} the right to write it, or name another folder"
    if not place.is_dir():
        return Check(name, "problem", f"{folder}: {place} is no folder", advice)
    try:
        if place == folder:
            with tempfile.TemporaryFile(dir=folder):
                pass
        elif not os.access(place, os.W_OK | os.X_OK):
            return Check(name, "problem", f"{folder} cannot be made in {place}", advice)
        free = shutil.disk_usage(place).free / 2**30
    except OSError as error:
        return Check(name, "problem", f"{folder}: {error}", advice)
    found = f"{folder}, {free:.1f} GiB free"
    if free < _LITTLE_GIB:
        return Check(name, "problem", found, "make room: what is recorded or built there would be cut off")
    return Check(name, "ok", found)


def _user() -> str:
    return f"user {os.getuid()}" if hasattr(os, "getuid") else "this user"


def _port(what: str, port: int, *, running: bool) -> Check:
    name = f"port {port}"
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if running:
                return Check(name, "ok", f"taken ({what}), and a server runs")
            found = f"taken ({error.strerror})"
            return Check(name, "missing", found, "end what has it, or name another in the server's settings")
    return Check(name, "ok", f"free for {what}")


def _clock() -> Check:
    """Whether the clock is set: images, logs and traces carry its time, and certificates are judged by it."""
    name, now = "clock", datetime.now(timezone.utc)
    advice = "let chrony or systemd-timesyncd set it from a time server that this machine reaches"
    found = f"{now:%Y-%m-%d %H:%M:%S} UTC"
    installed_at = Path(__file__).stat().st_mtime
    if now.timestamp() < installed_at:
        return Check(name, "problem", f"{found}, which is before Scanside was installed", advice)
    state = _clock_state()
    if state is None:
        return Check(name, "ok", f"{found}; nothing is known of its source")
    if state == _CLOCK_NOT_SET:
        return Check(name, "missing", f"{found}, not set by any time server", advice)
    return Check(name, "ok", f"{found}, set by a time server")


def _clock_state() -> int | None:
    """The kernel's word on the clock, see adjtimex(2); None where there is none."""
    try:
        ask = ctypes.CDLL(None).adjtimex
    except (OSError, AttributeError, TypeError):
        return None
    # A struct timex of zeros: nothing is to be changed. It has about 200 bytes.
    state = int(ask(ctypes.create_string_buffer(1024)))
    return None if state < 0 else state


def _shared_memory() -> Iterator[Check]:
    if not _SHARED_MEMORY.is_dir():
        return
    size = shutil.disk_usage(_SHARED_MEMORY).total / 2**20
    if size < _SHARED_MIB:
        advice = "give the container more: --shm-size 1g, or an emptyDir of medium Memory at /dev/shm"
        yield Check("shared memory", "missing", f"{size:.0f} MiB", advice)
    else:
        yield Check("shared memory", "ok", f"{size:.0f} MiB")


def _open_files() -> Iterator[Check]:
    try:
        import resource
    except ImportError:  # no POSIX
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    found = "any number" if soft == resource.RLIM_INFINITY else str(soft)
    if soft == resource.RLIM_INFINITY or soft >= _OPEN_FILES:
        yield Check("open files", "ok", found)
    else:
        advice = f"ulimit -n {_OPEN_FILES}, or LimitNOFILE in the systemd unit (at most {hard} as it stands)"
        yield Check("open files", "missing", f"{found} at most", advice)
