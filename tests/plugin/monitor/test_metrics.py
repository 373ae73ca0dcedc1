"""Metrics, read as Prometheus reads them."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from scanside_gadgetron.monitor.metrics import Metrics
from scanside_gadgetron.monitor.state import LiveState
from scanside_gadgetron.pool import events

DEPLOY = Path(__file__).resolve().parents[3] / "deploy"
NAME = re.compile(r"\b(?:scanside|process)_[a-z_]+\b")


class Pool:
    queue_depth = 3

    def not_ready(self) -> str:
        return ""


class Watched:
    """Metrics of a pool that is told of."""

    def __init__(self, folder: Path) -> None:
        self.live = LiveState(folder)
        self.metrics = Metrics(self.live, Pool())

    def tell(self, *told: events.Event) -> None:
        for event in told:
            self.live.take(event)
            self.metrics.take(event)

    def samples(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        text = generate_latest(self.metrics.registry).decode()
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float:
        return self.samples()[name, frozenset(labels.items())]


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


@pytest.fixture
def busy(watched: Watched, story: Any) -> Watched:
    """After some of everything happened."""
    watched.tell(*story.worker_ready(0, pid=os.getpid()))
    watched.tell(events.WorkerMemory(time=1, worker=0, gpu_bytes=123))
    watched.tell(*story.opened("a"), story.progress(60, session="a"), story.progress(90, session="a"))
    watched.tell(story.image(0, session="a"), story.image(1, session="a", fallback="size: 300 × 300"))
    watched.tell(story.stage("engine", 0.0, 40.0, 4, session="a"))
    watched.tell(events.Warned(time=1, session="a", text="careful"), story.ended("a"))
    watched.tell(*story.opened("b"), story.ended("b", "lost", n_readouts=5))
    watched.tell(events.SessionRefused(time=1, session="c", peer="127.0.0.1:1", reason="not-allowed"))
    watched.tell(*story.worker_ready(1, pid=2**22 + 1))
    watched.tell(events.WorkerEnded(time=1, worker=2, pid=5, reason="hung"))
    watched.tell(events.WorkerEnded(time=1, worker=3, pid=6, reason="stopped"))
    watched.tell(*story.opened("d", worker=1))
    return watched


def test_counts(busy: Watched) -> None:
    assert busy.value("scanside_sessions_total", outcome="done") == 1
    assert busy.value("scanside_sessions_total", outcome="lost") == 1
    assert busy.value("scanside_sessions_total", outcome="failed") == 0
    assert busy.value("scanside_sessions_refused_total", reason="not-allowed") == 1
    assert busy.value("scanside_readouts_total") == 105
    assert busy.value("scanside_images_total", pipeline="student") == 2
    assert busy.value("scanside_fallbacks_total", reason="size") == 1
    assert busy.value("scanside_warnings_total") == 1
    assert busy.value("scanside_worker_restarts_total", reason="hung") == 1
    assert ("scanside_worker_restarts_total", frozenset({("reason", "stopped")})) not in busy.samples()


def test_self_checks(watched: Watched, story: Any) -> None:
    watched.tell(*story.opened("a"))
    told = [
        (["better", "+3.25 dB", "sense", "8 unseen lines"], None),
        (
            ["worse than nothing", "-0.75 dB", "sense", "8 unseen lines"],
            "self-check: maps and lines disagree",
        ),
        (["none", "there are no lines to leave out"], None),
        (["a verdict of the future", "+1 dB"], None),
    ]
    for i, (check, fallback) in enumerate(told):
        image = story.image(i, session="a", facts={"ScansideCheck": check}, fallback=fallback)
        watched.tell(image)
    watched.tell(story.image(4, session="a"))
    found = {v: watched.value("scanside_self_checks_total", verdict=v) for v in ("better", "none", "worse")}
    assert found == {"better": 1, "none": 1, "worse": 0}
    assert watched.value("scanside_self_checks_total", verdict="worse than nothing") == 1
    steps = {le: watched.value("scanside_self_check_gain_db_bucket", le=le) for le in ("-1.0", "0.0", "+Inf")}
    assert steps == {"-1.0": 0, "0.0": 1, "+Inf": 2}
    assert watched.value("scanside_fallbacks_total", reason="self-check") == 1


def test_ghosts(watched: Watched, story: Any) -> None:
    watched.tell(*story.opened("a"))
    for i, told in enumerate((["0.0042"], ["0.0800"], ["a word"], [])):
        watched.tell(story.image(i, session="a", facts={"ScansideGhost": told}))
    watched.tell(story.image(4, session="a"))
    of = {"pipeline": "student"}
    steps = {le: watched.value("scanside_ghost_ratio_bucket", le=le, **of) for le in ("0.005", "0.05", "0.1")}
    assert steps == {"0.005": 1, "0.05": 1, "0.1": 2}
    assert watched.value("scanside_ghost_ratio_count", **of) == 2


def test_times(busy: Watched) -> None:
    assert busy.value("scanside_stage_duration_seconds_count", stage="engine") == 4
    assert busy.value("scanside_stage_duration_seconds_sum", stage="engine") == pytest.approx(0.04)
    assert busy.value("scanside_stage_duration_seconds_bucket", stage="engine", le="0.003") == 0
    assert busy.value("scanside_image_latency_seconds_sum", pipeline="student") == pytest.approx(0.025)
    assert busy.value("scanside_session_duration_seconds_count") == 2
    assert busy.value("scanside_session_wait_seconds_sum") == pytest.approx(1.5)
    assert busy.value("scanside_worker_load_seconds_count") == 2


def test_how_it_is_now(busy: Watched) -> None:
    assert busy.value("scanside_ready") == 1
    assert busy.value("scanside_queue_depth") == 3
    assert busy.value("scanside_sessions_running") == 1
    assert busy.value("scanside_workers", state="ready") == 1
    assert busy.value("scanside_workers", state="busy") == 1
    engine = {"pipeline": "student", "bundle": "student 1.0", "backend": "openvino", "precision": "fp32"}
    assert busy.value("scanside_engine_info", **engine, weights="ab" * 32) == 2
    assert busy.value("scanside_worker_gpu_memory_bytes", worker="0", device="cpu") == 123
    # This process is the worker; it was asked a moment ago, so it is about as large.
    rss = int(re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024  # type: ignore[index]
    assert busy.value("scanside_worker_resident_memory_bytes", worker="0") == pytest.approx(rss, rel=0.2)
    # The other has a process id that no Linux gives.
    assert ("scanside_worker_resident_memory_bytes", frozenset({("worker", "1")})) not in busy.samples()


def test_names_that_hosts_choose_do_not_fill_prometheus(watched: Watched, story: Any) -> None:
    for i in range(200):
        watched.tell(*story.opened(f"s{i}", pipeline=f"mine-{i}"), story.image(0, session=f"s{i}"))
        watched.tell(story.stage(f"stage-{i}", 0, 1, session=f"s{i}"), story.ended(f"s{i}"))
        watched.tell(story.image(1, session=f"s{i}", fallback=f"odd reason {i}"))
    labels = {label for name, label in watched.samples() if name == "scanside_images_total"}
    assert len(labels) <= 66
    assert watched.value("scanside_images_total", pipeline="other") == 200 - 64
    assert watched.value("scanside_fallbacks_total", reason="other") == 200


def known_names(watched: Watched) -> set[str]:
    return {name for name, _ in watched.samples()}


def test_every_query_of_the_dashboard_names_a_metric(busy: Watched) -> None:
    dashboard = json.loads((DEPLOY / "grafana" / "dashboards" / "scanside.json").read_text())
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    queries += [
        variable["query"] for variable in dashboard["templating"]["list"] if variable["type"] == "query"
    ]
    assert len(queries) > 10
    for query in queries:
        names = NAME.findall(query)
        assert names, query
        assert set(names) <= known_names(busy), query
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({panel["title"] for panel in panels}) == len(panels)


def test_no_panel_lies_on_another() -> None:
    dashboard = json.loads((DEPLOY / "grafana" / "dashboards" / "scanside.json").read_text())
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells


def test_alerts_name_metrics_and_say_what_to_do(busy: Watched) -> None:
    rules = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())
    alerts = [rule for group in rules["groups"] for rule in group["rules"]]
    assert len(alerts) >= 4
    for alert in alerts:
        names = NAME.findall(alert["expr"])
        assert set(names) <= known_names(busy), alert["expr"]
        assert names or "up{" in alert["expr"]
        assert alert["annotations"]["summary"]
        assert alert["annotations"]["description"]


def test_prometheus_reads_the_alerts_and_scrapes_the_page() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    assert [Path(name).name for name in config["rule_files"]] == ["alerts.yml"]
    (job,) = config["scrape_configs"]
    assert job["job_name"] == "scanside"
    assert job["static_configs"][0]["targets"] == ["scanside:9003"]


def test_grafana_finds_the_dashboard_and_its_source() -> None:
    folder = DEPLOY / "grafana" / "provisioning"
    (source,) = yaml.safe_load((folder / "datasources" / "prometheus.yml").read_text())["datasources"]
    dashboard = json.loads((DEPLOY / "grafana" / "dashboards" / "scanside.json").read_text())
    uids = {panel["datasource"]["uid"] for panel in dashboard["panels"] if "datasource" in panel}
    assert uids == {source["uid"]}
    (provider,) = yaml.safe_load((folder / "dashboards" / "scanside.yml").read_text())["providers"]
    assert provider["type"] == "file"
