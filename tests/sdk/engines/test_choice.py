"""Which engine is used, and why not the others."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

from scanside.engines.cache import CacheEntry, EngineKey
from scanside.engines.choice import Candidate, rank
from scanside.engines.manifest import AcceptanceReport, Check


def candidate(name: str, ms: float | None = 10.0, precision: str = "fp32", **check: object) -> Candidate:
    measured = Check(
        **{"name": "relative-error/real-0", "value": 1e-6, "limit": 1e-5, "passed": True, **check}
    )
    key = EngineKey(
        weights_sha256="w", graph_sha256="g", shape=(8, 8), precision=precision, backend=name,
        versions={}, hardware="cpu",
    )  # fmt: skip
    report = AcceptanceReport(
        backend=name, precision=precision, shape=(8, 8), hardware="cpu", versions={}, checks=(measured,),
        created=datetime(2026, 1, 1, tzinfo=timezone.utc), median_ms=ms,
    )  # fmt: skip
    return Candidate(name, precision, CacheEntry(key, report, Path("nowhere")))


EAGER, FAST = candidate("eager", 60.0), candidate("openvino", 12.0, "bf16")
WRONG = candidate("onnxruntime", 1.0, passed=False, value=0.3)
ABSENT = Candidate("aoti-cuda", "fp32", reason="torch sees no CUDA device")


def test_fastest_of_the_accepted_is_chosen_and_all_others_have_a_reason() -> None:
    choice = rank([ABSENT, EAGER, WRONG, FAST])
    assert [(one.backend, one.status) for one in choice.verdicts] == [
        ("openvino", "chosen"),
        ("eager", "slower"),
        ("onnxruntime", "refused"),
        ("aoti-cuda", "absent"),
    ]
    lines = str(choice).splitlines()
    assert lines[0] == "openvino bf16: chosen, 12.0 ms"
    assert lines[1] == "eager fp32: slower, 60.0 ms, 5.0 times the time of the fastest"
    assert lines[2] == "onnxruntime fp32: refused, relative-error/real-0 0.3 (limit 1e-05)"
    assert lines[3] == "aoti-cuda fp32: absent, torch sees no CUDA device"


def test_next_fastest_when_the_chosen_one_fails_to_load() -> None:
    slow = candidate("aoti-cpu", 100.0)
    choice = rank([slow, EAGER, FAST])
    assert choice.chosen is not None
    second = choice.failed(choice.chosen, "its file is damaged")
    assert second.chosen is not None
    assert (second.chosen.backend, second.chosen.why) == ("eager", "60.0 ms, next fastest")
    assert [(one.backend, one.status) for one in second.verdicts[1:]] == [
        ("openvino", "failed"),
        ("aoti-cpu", "slower"),
    ]
    third = second.failed(second.chosen, "this too")
    assert third.chosen is not None
    assert third.failed(third.chosen, "and this").chosen is None


def test_an_engine_that_was_not_timed_comes_last() -> None:
    assert [one.backend for one in rank([candidate("a", None), EAGER]).verdicts] == ["eager", "a"]


def test_without_accepted_engines_none_is_chosen() -> None:
    assert rank([WRONG, ABSENT]).chosen is None
