"""Which engine is used, and why not the others."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest

from scanside.engines.cache import CacheEntry, EngineKey
from scanside.engines.choice import Candidate, Verdict, rank
from scanside.engines.manifest import AcceptanceReport, Check
from scanside.engines.taken_times import EngineTime, Times


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
    assert lines[0] == "openvino bf16: chosen, 12.0 ms, the fastest of 2"
    assert lines[1] == "eager fp32: slower, 60.0 ms, 5.0 times the time of the chosen one"
    assert lines[2] == "onnxruntime fp32: refused, relative-error/real-0 0.3 (limit 1e-05)"
    assert lines[3] == "aoti-cuda fp32: absent, torch sees no CUDA device"


def test_next_fastest_when_the_chosen_one_fails_to_load() -> None:
    slow = candidate("aoti-cpu", 100.0)
    choice = rank([slow, EAGER, FAST])
    assert choice.chosen is not None
    second = choice.failed(choice.chosen, "its file is damaged")
    assert second.chosen is not None
    assert (second.chosen.backend, second.chosen.why) == ("eager", "60.0 ms, as openvino bf16 failed")
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


def taken(*pairs: tuple[Candidate, float]) -> Times:
    """Times that were taken beside each other."""
    return Times(
        weights_sha256="w", shape=(8, 8), n_coils=None, threads=1, created=datetime(2026, 1, 2, tzinfo=timezone.utc),
        engines=tuple(
            EngineTime(engine=one.entry.key.digest, backend=one.backend, precision=one.precision, ms=ms, busy=0.0)
            for one, ms in pairs if one.entry is not None
        ),
    )  # fmt: skip


def test_times_taken_beside_each_other_decide_and_not_those_of_the_acceptance() -> None:
    """One engine was accepted while the machine was busy."""
    unlucky = candidate("openvino", 31_931.0)
    assert rank([unlucky, EAGER]).chosen == Verdict("eager", "fp32", "chosen", "60.0 ms, the fastest of 2")
    choice = rank([unlucky, EAGER], taken((unlucky, 12.0), (EAGER, 60.0)))
    assert choice.chosen == Verdict("openvino", "fp32", "chosen", "12.0 ms, the fastest of 2")


def test_a_new_engine_has_the_time_of_its_acceptance() -> None:
    new = candidate("aoti-cpu", 20.0)
    choice = rank([EAGER, FAST, new], taken((EAGER, 30.0), (FAST, 25.0)))
    assert [one.backend for one in choice.verdicts] == ["aoti-cpu", "openvino", "eager"]


PRECISE, SLOWER = candidate("openvino", 24.0), candidate("onnxruntime", 30.0)


@pytest.mark.parametrize(
    ("deadline_ms", "order"),
    [
        (None, ["openvino bf16 chosen", "openvino fp32 slower", "onnxruntime fp32 slower", "eager fp32 slower"]),
        # All but the slowest are in time, with something to spare.
        (40, ["openvino fp32 chosen", "onnxruntime fp32 slower", "openvino bf16 coarser", "eager fp32 slower"]),
        # 24 of 25 ms is too near.
        (25, ["openvino bf16 chosen", "openvino fp32 slower", "onnxruntime fp32 slower", "eager fp32 slower"]),
        (1000, ["openvino fp32 chosen", "onnxruntime fp32 slower", "eager fp32 slower", "openvino bf16 coarser"]),
        (5, ["openvino bf16 chosen", "openvino fp32 slower", "onnxruntime fp32 slower", "eager fp32 slower"]),
    ],
)  # fmt: skip
def test_highest_precision_that_is_in_time(deadline_ms: float | None, order: list[str]) -> None:
    choice = rank([FAST, EAGER, SLOWER, PRECISE], deadline_ms=deadline_ms)
    assert [f"{one.backend} {one.precision} {one.status}" for one in choice.verdicts] == order
    assert bool(choice.late) == (deadline_ms == 5)


def test_what_is_said_of_a_deadline() -> None:
    kept = rank([FAST, PRECISE], deadline_ms=40)
    assert str(kept).splitlines() == [
        "openvino fp32: chosen, 24.0 ms, the highest precision within 80% of 40 ms",
        "openvino bf16: coarser, 12.0 ms, in time as well, but not in fp32",
    ]
    late = rank([FAST, PRECISE], deadline_ms=10)
    assert late.late == "12.0 ms, the fastest of 2, and still not within 80% of 10 ms"
    assert late.chosen is not None
    assert late.chosen.why == late.late


def test_when_the_precise_one_fails_the_next_in_the_order_is_taken() -> None:
    choice = rank([FAST, PRECISE], deadline_ms=40)
    assert choice.chosen is not None
    second = choice.failed(choice.chosen, "damaged").chosen
    assert second == Verdict("openvino", "bf16", "chosen", "12.0 ms, as openvino fp32 failed")
