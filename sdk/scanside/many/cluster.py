"""Actors of a Ray cluster as workers, on all its machines or on this one.

Ray is asked for placement and for news of deaths only: who does what, and what is tried again, is decided in
`scanside.many.run` for all pools alike. Nothing is sent to Ray's makers, and no dashboard is started.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any, Literal

from scanside.errors import ConfigError, MissingExtra, RunError
from scanside.many.run import Report
from scanside.many.work import Answer, Desk

__all__ = ["RayPool"]

_CONNECT_SECONDS = 5.0
"""For the first sign of life at an address."""

_GREETING_SECONDS = 30.0
"""For a cluster to take this process in; Ray's own patience is minutes, and ends the process."""

_PLACE_SECONDS = 300.0
"""For the first worker to find a place: clusters may have to start a machine for it."""

_LOOK_SECONDS = 5.0

_OBJECT_STORE_BYTES = 100 * 2**20  # of a cluster of our own: tasks and results are small, images go to files

# Ray puts this machine's outer address in the place of a loopback one, unless it believes that it runs on a system
# where clusters are not supported.
_LOOPBACK_ONLY = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


class RayPool:
    """Actors of a cluster, or of one that is started on this machine for the run, on loopback.

    The files of a run, and the folder of its results, must be seen under the same paths by all machines.

    Args:
        address: ``local`` starts a cluster on this machine, ``auto`` takes the one that runs here, and
            ``HOST:PORT`` is the address that ``ray start`` has told.
        n_workers: how many at once; by default as many as the cluster's CPUs, or its GPUs, suffice for.
        threads: CPU threads of each, and CPUs that are reserved for it.
        gpu: each worker is to have a GPU, or its share of one; workers without do not use any.

    Raises:
        MissingExtra: Ray is not installed.
        ConfigError: the address is none.
    """

    def __init__(
        self,
        address: str,
        n_workers: int | None = None,
        threads: int = 1,
        gpu: bool | Literal["auto"] = False,
    ) -> None:
        self.address = address
        self.n_workers = n_workers
        self.threads = threads
        self.gpu = gpu
        if address not in ("local", "auto"):
            _parsed(address)
        if address == "local" or _is_loopback(address):
            os.environ.setdefault(_LOOPBACK_ONLY, "0")
        _import_ray()

    def open(self, make_worker: bytes) -> RayCrew:
        """See `scanside.many.run.Pool.open`.

        Raises:
            ConfigError: there is no cluster at the address, or it does not answer.
        """
        return RayCrew(self, make_worker)


@dataclass
class _Member:
    """An actor and what it was asked last; `answer` is None until it has found a place."""

    actor: Any
    asked: Any
    since: float
    state: Literal["placing", "making", "idle", "working"] = "placing"
    where: str = ""


class _Actor:
    """What runs on the cluster."""

    def __init__(self) -> None:
        self._desk = Desk()

    def where(self) -> str:
        """Machine and process."""
        return f"{socket.gethostname()}, process {os.getpid()}"

    def make(self, pack: bytes) -> Answer:
        """See `Desk.make`."""
        return self._desk.make(pack)

    def work(self, payload: Any) -> Answer:
        """See `Desk.work`."""
        return self._desk.work(payload)


class RayCrew:
    """The actors of one run; see `scanside.many.run.Crew`."""

    def __init__(self, pool: RayPool, make_worker: bytes) -> None:
        self._ray = _import_ray()
        self._pool = pool
        self._make_worker = make_worker
        self._members: dict[int, _Member] = {}
        self._n_hired = 0
        self._one_was_placed = False
        self._ours = not self._ray.is_initialized()
        if self._ours:
            _connect(self._ray, pool)
        there = self._ray.cluster_resources()
        gpus = there.get("GPU", 0.0) if pool.gpu else 0.0
        if pool.gpu is True and not gpus:
            self.close()
            raise ConfigError(f"the Ray cluster at '{pool.address}' has no GPU: use --device cpu")
        fitting = int(gpus) if gpus else int(there.get("CPU", 0.0) // pool.threads)
        self.size = pool.n_workers or max(1, fitting)
        share = min(1.0, gpus / self.size)
        self._actor = self._ray.remote(_Actor).options(
            num_cpus=pool.threads, num_gpus=share, max_restarts=0, max_task_retries=0
        )

    def hire(self) -> int:
        """See `Crew.hire`."""
        number, self._n_hired = self._n_hired, self._n_hired + 1
        actor = self._actor.remote()
        self._members[number] = _Member(actor, actor.where.remote(), monotonic())
        return number

    def give(self, worker: int, payload: Any) -> None:
        """See `Crew.give`."""
        member = self._members[worker]
        member.state, member.asked = "working", member.actor.work.remote(payload)

    def wait(self) -> list[Report]:
        """See `Crew.wait`."""
        asked = {member.asked: number for number, member in self._members.items() if member.state != "idle"}
        try:
            answered, _ = self._ray.wait(list(asked), num_returns=1, timeout=_LOOK_SECONDS)
        except self._ray.exceptions.RayError as error:
            raise RunError(
                f"the Ray cluster at '{self._pool.address}' was lost: {_how_it_ended(error)}. What is done is kept: "
                "run the same command again when there is a cluster, or without --ray"
            ) from error
        if not answered:
            self._give_up_where_nothing_starts()
        reports = (self._report(asked[one]) for one in answered)
        return [one for one in reports if one is not None]

    def close(self) -> None:
        """See `Crew.close`."""
        with suppress(self._ray.exceptions.RayError):  # a cluster that is gone has no actors to end
            for member in self._members.values():
                self._ray.kill(member.actor, no_restart=True)
        self._members.clear()
        if self._ours:
            self._ray.shutdown()

    def _report(self, number: int) -> Report | None:
        member = self._members[number]
        try:
            answer = self._ray.get(member.asked)
        except self._ray.exceptions.RayError as error:
            del self._members[number]
            self._ray.kill(member.actor, no_restart=True)  # one that is only out of reach must not come back
            return Report(number, None, _how_it_ended(error), member.where)
        if member.state == "placing":
            self._one_was_placed = True
            member.where, member.state = answer, "making"
            member.asked = member.actor.make.remote(self._make_worker)
            return None
        member.state = "idle"
        return Report(number, answer, where=member.where)

    def _give_up_where_nothing_starts(self) -> None:
        """Workers that wait for a place while others work are fine; when all wait for ever, nobody would know."""
        if any(member.state != "placing" for member in self._members.values()):
            return
        waited = monotonic() - min(member.since for member in self._members.values())
        if waited > _PLACE_SECONDS:
            there = self._ray.cluster_resources()
            raise RunError(
                f"no worker found a place on the Ray cluster in {_PLACE_SECONDS:g} s: each asks for "
                f"{self._pool.threads} CPU(s), and the cluster has {there.get('CPU', 0):g} CPU(s) and "
                f"{there.get('GPU', 0):g} GPU(s), which others may be using"
            )


def _import_ray() -> Any:
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise MissingExtra("ray", "ray", "working on a Ray cluster") from error
    return ray


def _connect(ray: Any, pool: RayPool) -> None:
    quiet = {"log_to_driver": False, "configure_logging": False}
    if pool.address == "local":
        n_workers = pool.n_workers or max(1, len(os.sched_getaffinity(0)) // pool.threads)
        ray.init(
            address="local",
            num_cpus=n_workers * pool.threads,
            include_dashboard=False,
            object_store_memory=_OBJECT_STORE_BYTES,
            **quiet,
        )
        return
    if pool.address != "auto":
        _knock(pool.address)
    _try_out(pool.address)
    ray.init(address=pool.address, **quiet)


def _knock(address: str) -> None:
    """Find out quickly that nobody is there, which is the most common mistake."""
    try:
        socket.create_connection(_parsed(address), timeout=_CONNECT_SECONDS).close()
    except OSError as error:
        raise ConfigError(
            f"there is no Ray cluster at {address} ({error}): start one with 'ray start --head', or use "
            "--ray local, or leave --ray out"
        ) from None


def _try_out(address: str) -> None:
    """Connect in a process of its own first: where it fails, Ray ends the process that it runs in."""
    code = "import ray, sys; ray.init(address=sys.argv[1], log_to_driver=False)"
    try:
        tried = subprocess.run(
            [sys.executable, "-c", code, address],
            check=False,
            capture_output=True,
            text=True,
            timeout=_GREETING_SECONDS,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        raise ConfigError(
            f"what listens at '{address}' did not answer as a Ray cluster within {_GREETING_SECONDS:g} s: give the "
            "HOST:PORT that 'ray start --head' has told"
        ) from None
    if tried.returncode:
        said = tried.stderr.strip().splitlines()
        raise ConfigError(
            f"the Ray cluster at '{address}' cannot be used: {said[-1] if said else 'it said nothing'}"
        )


def _parsed(address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    if not colon or not host or "/" in host or not port.isdecimal():
        raise ConfigError(
            f"'{address}' is no address of a Ray cluster: use local, auto, or, on a machine of the cluster, the "
            "HOST:PORT that 'ray start' has told"
        )
    return host, int(port)


def _is_loopback(address: str) -> bool:
    return address.rpartition(":")[0] in ("127.0.0.1", "localhost")


def _how_it_ended(error: Exception) -> str:
    """Ray's reports run over many lines; the last one says most."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
