"""Sessions and workers out of events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scanside.errors import FileFormatError
from scanside_gadgetron.monitor.state import LiveState
from scanside_gadgetron.pool import events

pytestmark = pytest.mark.torch_free


def put(live: LiveState, session: str, name: str, shape: tuple[int, ...] = (1, 4, 6)) -> Path:
    folder = live.session_folder(session)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / name, np.ones(shape, np.float32))
    return folder / name


def take(live: LiveState, *told: events.Event) -> None:
    for event in told:
        live.take(event)


def summary(live: LiveState, session: str = "s1") -> dict[str, Any]:
    (found,) = (one for one in live.overview()["sessions"] if one["id"] == session)
    return dict(found)


def test_session_from_queue_to_end(tmp_path: Path, story: Any) -> None:
    live = LiveState(tmp_path)
    take(live, *story.worker_ready())
    queued, started, opened = story.opened()
    live.take(queued)
    assert summary(live)["state"] == "queued"
    live.take(started)
    assert summary(live)["state"] == "running"
    assert live.workers()[0].state == "busy"
    take(live, opened, story.progress(50))
    shown = summary(live)
    assert (shown["pipeline"], shown["protocol"]) == ("student", "t2_tse_tra")
    assert (shown["n_readouts"], shown["expected_readouts"]) == (50, 200)
    put(live, "s1", "0.npy", (1, 210, 240))
    take(live, story.image(0, "0.npy"), story.stage("engine", 0.5, 20.0), story.stage("engine", 0.6, 10.0, 3))
    live.take(story.ended())
    detail = live.detail("s1")
    assert detail is not None
    assert (detail["state"], detail["n_images"], detail["seconds"]) == ("done", 1, 4.0)
    assert detail["engines"][0]["bundle"] == "student 1.0"
    assert detail["spans"] == [(3, 0.5, 20.0, 1), (3, 0.6, 10.0, 3)]
    assert detail["totals"] == {"engine": {"items": 4, "milliseconds": 30.0}}
    picture = detail["images"][0]["picture"]
    assert picture["shape"] == (1, 210, 240)
    assert picture["pixel_mm"] == (1.0, 1.0)
    assert picture["edges"] == ("R", "L", "A", "P")
    assert live.workers()[0].state == "ready"


@pytest.mark.parametrize("outcome", ["failed", "lost"])
def test_how_a_session_ends_badly(tmp_path: Path, story: Any, outcome: str) -> None:
    live = LiveState(tmp_path)
    take(live, *story.opened(), story.ended(outcome=outcome, error="stage 'grappa': no calibration lines"))
    assert summary(live)["state"] == outcome
    assert "no calibration" in summary(live)["error"]


def test_query_leaves_nothing(tmp_path: Path, story: Any) -> None:
    live = LiveState(tmp_path)
    take(live, *story.opened()[:2], story.ended(outcome="query"))
    assert live.overview()["ids"] == []


def test_refused_connections_are_counted_and_displace_no_session(tmp_path: Path, story: Any) -> None:
    live = LiveState(tmp_path, keep_sessions=1)
    take(live, *story.opened("s0"), story.ended("s0"))
    for i in range(5):
        live.take(events.SessionRefused(time=1, session=f"r{i}", peer="127.0.0.1:1", reason="queue-full"))
    assert live.overview()["ids"] == ["s0"]
    assert live.overview()["refused"] == {"queue-full": 5}


def test_last_sessions_are_kept_and_folders_of_others_removed(tmp_path: Path, story: Any) -> None:
    live = LiveState(tmp_path, keep_sessions=2)
    take(live, *story.opened("running"))
    put(live, "running", "0.npy")
    for name in ("a", "b", "c"):
        put(live, name, "0.npy")
        take(live, *story.opened(name), story.image(0, "0.npy", name), story.ended(name))
    assert live.overview()["ids"] == ["running", "b", "c"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "c", "running"]
    assert live.detail("a") is None


def test_latest_images_are_kept(tmp_path: Path, story: Any) -> None:
    live = LiveState(tmp_path, keep_images=2)
    take(live, *story.opened())
    for i in range(4):
        put(live, "s1", f"{i}.npy")
        live.take(story.image(i, f"{i}.npy"))
    detail = live.detail("s1")
    assert detail is not None
    assert [one["index"] for one in detail["images"]] == [2, 3]
    assert (detail["first_image"], detail["n_images"]) == (2, 4)
    assert sorted(path.name for path in (tmp_path / "s1").iterdir()) == ["2.npy", "3.npy"]
    later = live.detail("s1", after_image=2)
    assert later is not None
    assert [one["index"] for one in later["images"]] == [3]


@pytest.mark.parametrize("file", ["../other.npy", "/etc/hostname", "link.npy", "absent.npy", "text.npy"])
def test_file_that_is_no_picture_of_the_session(
    tmp_path: Path, story: Any, file: str, caplog: pytest.LogCaptureFixture
) -> None:
    live = LiveState(tmp_path)
    take(live, *story.opened())
    outside = put(live, "elsewhere", "other.npy").rename(tmp_path / "other.npy")
    (tmp_path / "s1").mkdir()
    (tmp_path / "s1" / "link.npy").symlink_to(outside)
    (tmp_path / "s1" / "text.npy").write_text("no array")
    live.take(story.image(0, file))
    assert live.image_file("s1", 0) is None
    assert "is not shown" in caplog.text
    detail = live.detail("s1")
    assert detail is not None
    assert detail["images"][0]["picture"] is None


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "/tmp"])
def test_session_id_that_leads_elsewhere(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileFormatError, match="id of a session"):
        LiveState(tmp_path).session_folder(name)


def test_overview_tells_only_what_is_new(tmp_path: Path, story: Any) -> None:
    live = LiveState(tmp_path)
    take(live, *story.opened("a"), *story.opened("b"))
    known = live.overview()["revision"]
    live.take(story.progress(7, session="a"))
    news = live.overview(known)
    assert [one["id"] for one in news["sessions"]] == ["a"]
    assert news["ids"] == ["a", "b"]
    assert live.overview(news["revision"])["sessions"] == []


def test_fallbacks_by_reason(tmp_path: Path, story: Any) -> None:
    live = LiveState(tmp_path)
    take(live, *story.opened())
    for i, reason in enumerate(("size: 300 × 300", "size: 301 × 301", "cosmic rays")):
        live.take(story.image(i, fallback=reason))
    detail = live.detail("s1")
    assert detail is not None
    assert [(one["reason"], one["count"]) for one in detail["fallbacks"]] == [("size", 2), ("other", 1)]
    assert summary(live)["n_fallbacks"] == 3


def test_worker_that_took_the_place_of_another_stays(tmp_path: Path, story: Any) -> None:
    live = LiveState(tmp_path)
    take(live, *story.worker_ready(0, pid=10), *story.worker_ready(0, pid=11))
    live.take(events.WorkerEnded(time=1, worker=0, pid=10, reason="hung"))
    assert [worker.pid for worker in live.workers()] == [11]
    live.take(events.WorkerEnded(time=1, worker=0, pid=11, reason="stopped"))
    assert live.workers() == []


def test_events_of_unknown_sessions_are_let_pass(tmp_path: Path, story: Any) -> None:
    live = LiveState(tmp_path)
    take(live, story.progress(3), story.ended(), events.Warned(time=1, session="s1", text="late"))
    assert live.overview()["ids"] == []
