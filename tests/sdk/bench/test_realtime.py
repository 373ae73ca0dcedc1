"""What of a real-time stream counts as memory that it keeps."""

from __future__ import annotations

import pytest

from scanside.bench.realtime import _FRAME_BYTES, _MOST_KEPT, _kept

_MIB = 1 << 20


def _breathing(n: int, phase: int = 0) -> list[int]:
    """A frame's buffers come and go."""
    return [(400 + (0, 8, 24, 16)[(i + phase) % 4]) * _MIB for i in range(n)]


@pytest.mark.parametrize("phase", range(4))
@pytest.mark.parametrize("n", [61, 1000])
def test_what_comes_and_goes_with_frames_is_not_kept(n: int, phase: int) -> None:
    assert _kept(_breathing(n, phase)) == pytest.approx(0, abs=0.2)


def test_warming_up_is_not_kept() -> None:
    cold = [(300 + i) * _MIB for i in range(10)]
    assert _kept(cold + _breathing(90)) == pytest.approx(0, abs=0.2)


def test_block_of_a_frame_that_waited_once() -> None:
    late = [taken + _FRAME_BYTES * (i > 700) for i, taken in enumerate(_breathing(1000))]
    assert 0.5 < _kept(late) <= 1.1


def test_one_frame_in_a_hundred_that_is_kept_is_too_many() -> None:
    """In ten minutes, with about four samples for each frame; the end of the session hides nothing."""
    leaking = [taken + i * _FRAME_BYTES // 400 for i, taken in enumerate(_breathing(6000))]
    assert _kept(leaking) > _MOST_KEPT
    assert _kept([*leaking, 300 * _MIB]) > _MOST_KEPT


def test_few_samples() -> None:
    assert _kept([100]) == 0.0
    assert _kept([100, 110]) >= 0.0
