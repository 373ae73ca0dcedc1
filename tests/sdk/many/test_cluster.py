"""Actors of a real cluster of two nodes on this machine's loopback, one of which is killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scanside.errors import ConfigError, MissingExtra, RunError
from scanside.many import LocalPool, MakeWorker, Pool, RayPool, Task, pool_for, run_many
from scanside.many.files import find_recordings
from scanside.many.journal import JOURNAL
from scanside.many.replays import ManyReplays, Recipe, replay_many
from scanside.replay import replay

SETTINGS = {"grappa.kernel_k1": 2}
SMALL = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}


@pytest.fixture(scope="module")
def ray() -> Any:
    if "ray" not in sys.modules:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # loopback stays loopback
    return pytest.importorskip("ray", reason="Ray is not installed: pip install 'scanside[ray]'")


@pytest.fixture(scope="module")
def cluster(ray: Any) -> Iterator[Any]:
    """Two nodes with a CPU each, so that each takes one worker."""
    from ray.cluster_utils import Cluster

    before = signal.getsignal(signal.SIGTERM)  # Ray puts in its own
    made = Cluster(initialize_head=True, head_node_args={**SMALL, "node_ip_address": "127.0.0.1"})
    made.add_node(**SMALL, node_ip_address="127.0.0.1")
    yield made
    made.shutdown()
    signal.signal(signal.SIGTERM, before)


def test_a_node_is_lost_and_all_files_are_done(cluster: Any, scans: Path, tmp_path: Path) -> None:
    """Alone, by local processes and by the cluster, the same images come out, byte for byte."""
    folder, output = tmp_path / "scans", tmp_path / "ray"
    for i in range(5):
        shutil.copytree(scans, folder / str(i))

    def doomed_worker() -> int | None:
        """The worker on the node that is to be lost, once it has done something."""
        (node,) = cluster.worker_nodes
        raylet = node.all_processes["raylet"][0].process.pid
        return next((pid for pid in map(process_of, journal()) if parent_of(pid) == raylet), None)

    def journal() -> list[str]:
        records = map(json.loads, (output / JOURNAL).read_text("utf-8").splitlines())
        return [record["where"] for record in records if "where" in record]

    stopped: dict[int, int] = {}  # with the number of results by then

    def lose_a_node(done: int, failed: int, total: int) -> None:
        if not cluster.worker_nodes:
            return
        if not stopped:
            if (worker := doomed_worker()) is None:
                time.sleep(0.3)  # until the second worker has done something
            else:
                os.kill(
                    worker, signal.SIGSTOP
                )  # so that it is surely in the middle of a file when it is lost
                stopped[worker] = len(journal())
            return
        ((worker, before),) = stopped.items()
        if sum(process_of(where) != worker for where in journal()[before:]) >= 3:
            cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
            os.kill(worker, signal.SIGKILL)

    lost = replays(folder, output, RayPool(cluster.address), on_progress=lose_a_node)
    assert not cluster.worker_nodes
    assert (lost.count("done"), lost.count("failed")) == (30, 5)
    assert max(one.tries for one in lost.files) == 2

    by_processes = replays(scans, tmp_path / "local", LocalPool(1))
    for one in by_processes.files:
        if one.state == "done":
            single = tmp_path / "single.h5"
            replay(one.recording, "grappa", single, settings=SETTINGS, device="cpu")
            assert (tmp_path / "local" / one.output).read_bytes() == single.read_bytes()
            for i in range(5):
                assert (output / str(i) / one.output).read_bytes() == single.read_bytes()


def process_of(where: str) -> int:
    return int(where.rpartition(" ")[2])


def parent_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except FileNotFoundError:
        return 0


def replays(folder: Path, output: Path, pool: Pool, **options: Any) -> ManyReplays:
    recipe = Recipe.load("grappa", output, settings=SETTINGS, device="cpu")
    return replay_many(find_recordings([folder], output), recipe, pool, **options)


def test_workers_that_find_no_place(
    cluster: Any, evaluates: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scanside.many.cluster._PLACE_SECONDS", 0.5)
    monkeypatch.setattr("scanside.many.cluster._LOOK_SECONDS", 0.2)
    with pytest.raises(RunError, match=r"each asks for 3 CPU\(s\), and the cluster has [12] CPU\(s\)"):
        list(run_many([Task("1", "1")], evaluates, RayPool(cluster.address, threads=3)))


def test_gpus_that_are_not_there(cluster: Any, evaluates: MakeWorker) -> None:
    with pytest.raises(ConfigError, match="has no GPU: use --device cpu"):
        list(run_many([Task("1", "1")], evaluates, RayPool(cluster.address, gpu=True)))


def test_cluster_that_is_lost(
    cluster: Any, ray: Any, evaluates: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: Any, **__: Any) -> Any:
        raise ray.exceptions.RaySystemError("the GCS is gone")

    monkeypatch.setattr(ray, "wait", lost)
    monkeypatch.setattr(ray, "kill", lost)
    with pytest.raises(RunError, match=r"was lost: .*GCS is gone.* run the same command again"):
        list(run_many([Task("1", "1")], evaluates, RayPool(cluster.address)))


def test_nobody_at_the_address(evaluates: MakeWorker) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(ConfigError, match=f"there is no Ray cluster at {address}"):
        list(run_many([Task("1", "1")], evaluates, RayPool(address)))


def test_somebody_else_at_the_address(evaluates: MakeWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scanside.many.cluster._GREETING_SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(ConfigError, match="did not answer as a Ray cluster within 1 s"):
            list(run_many([Task("1", "1")], evaluates, RayPool(address)))


@pytest.mark.parametrize("address", ["cluster", "ray://head:10001", "head:http", ":6379"])
def test_address_that_is_none(address: str) -> None:
    with pytest.raises(ConfigError, match=r"is no address of a Ray cluster: use local, auto, or"):
        RayPool(address)


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"pip install 'scanside\[ray\]'"):
        pool_for(ray="local")
    with pytest.raises(ConfigError, match="Ray chooses the devices"):
        pool_for(ray="local", device="cuda:1")
    assert isinstance(pool_for(2, device="cpu"), LocalPool)
