"""Damaged streams and hosts that mean harm, in small; and that the soak would tell of what it looks for."""

from __future__ import annotations

from collections import Counter

import pytest

from scanside.bench import codec_fuzz, run
from scanside.bench.attacks import ATTACKS, attack
from scanside.bench.codec_fuzz import damaged, fuzz_codec
from scanside.bench.hostile import _SCAN, HostilePlan, _judge, hostile_soak
from scanside.bench.hosts import after_waiting
from scanside.convert import message_of
from scanside.errors import ConfigError
from scanside.mrd.messages import Close, ErrorText, Text
from scanside.mrd.writer import encode
from scanside.testing.small import small_image


def test_every_damage_and_every_attack_can_be_made_again() -> None:
    assert [damaged(3, n) for n in range(50)] == [damaged(3, n) for n in range(50)]
    assert len({damaged(3, n) for n in range(50)}) > 45
    for kind in ATTACKS:
        first, again, other = (attack(kind, _SCAN, 2, 3, n) for n in (5, 5, 6))
        assert first == again
        assert other.kind == kind
        assert len(first.stream) < 8 << 20


def test_every_kind_comes() -> None:
    whole = HostilePlan()
    assert (whole.n_streams, whole.n_sessions) == (20_000, 2_000)
    kinds = Counter(whole.sessions())
    assert kinds.total() == whole.n_sessions
    assert set(kinds) == {"healthy", *ATTACKS}
    assert kinds["healthy"] == 500
    assert set(HostilePlan.of_share(0.01).sessions()) >= set(ATTACKS)


@pytest.mark.slow
def test_damaged_streams_end_with_a_word() -> None:
    """With the limits of production, under which a header may promise gigabytes."""
    found = fuzz_codec(600)
    assert found.n == 600
    assert not found.wrong, found.wrong
    assert found.ends["MessageError"] > 100


def test_what_ends_in_silence_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("a size that nobody checked")

    monkeypatch.setattr(codec_fuzz, "serve_stream", fail)
    found = fuzz_codec(2, seed=7)
    assert found.wrong == [
        f"seed 7, number {n}: ValueError was raised: a size that nobody checked" for n in range(2)
    ]


def test_answers_are_judged() -> None:
    image = encode(message_of(small_image()))
    close = encode(Close())
    marked = small_image()
    marked.meta["ScansideIncomplete"] = "lines are missing"
    said = encode(message_of(marked)) + close
    error, word = attack("readouts of gigabytes", _SCAN, 1, 0, 0), attack("lost lines", _SCAN, 1, 0, 0)
    assert (error.due, word.due) == ("error", "word")
    for told in (ErrorText("Scanside: no"), Text("ERROR Scanside: no")):
        assert _judge(error, after_waiting(encode(told) + close), b"") == ("", "")
    assert _judge(error, close, b"")[0] == "silence"
    assert _judge(error, image + close, b"")[0] == "silence"
    assert _judge(error, encode(ErrorText("no")), b"")[0] == "silence"
    assert _judge(error, encode(ErrorText("x" * 100_000)) + close, b"")[0] == "too many words"
    assert _judge(word, image + close, b"")[0] == "no word"
    for good in (
        said,
        image + encode(Text("WARNING lines are missing")) + close,
        encode(ErrorText("no")) + close,
    ):
        assert _judge(word, good, b"") == ("", "")
    assert _judge(word, image + close, image + close) == ("", "")


@pytest.mark.slow
def test_small_hostile_soak() -> None:
    rows, headline = hostile_soak(HostilePlan(n_streams=20, n_sessions=50), lambda _: None)
    assert {row["what"] for row in rows} >= {f"sessions: {kind}" for kind in ("healthy", *ATTACKS)}
    assert all(promise.holds for promise in headline), [
        *(promise for promise in headline if not promise.holds),
        *(row for row in rows if row["what"].startswith("wrong")),
    ]


def test_only_the_soak_has_hostile_hosts() -> None:
    with pytest.raises(ConfigError, match="'soak' has"):
        run("ingest", hostile=True)
