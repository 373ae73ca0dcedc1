"""What the real-time stream says of memory; the stream itself runs with the soak's tests."""

from __future__ import annotations

import pytest

from scanside.bench.realtime import MOST_GROWTH, growth

_MIB = 1 << 20


def _breathing(n: int, phase: int = 0) -> list[int]:
    """A frame's buffers come and go."""
    return [(400 + (0, 8, 24, 16)[(i + phase) % 4]) * _MIB for i in range(n)]


@pytest.mark.parametrize("phase", range(4))
@pytest.mark.parametrize("n", [61, 1000])
def test_what_comes_and_goes_with_frames_is_nogrowth(n: int, phase: int) -> None:
    assert growth(_breathing(n, phase)) == pytest.approx(1, abs=0.01)


def test_pauses_of_the_machine_are_nogrowth() -> None:
    spike, kept = _breathing(200), _breathing(200)
    spike[150] += 40 * _MIB
    kept[120:140] = [taken + 16 * _MIB for taken in kept[120:140]]
    assert growth(spike) == pytest.approx(1, abs=0.01)
    assert growth(kept) == pytest.approx(1, abs=0.01)


def test_warming_up_is_nogrowth() -> None:
    cold = [(300 + i) * _MIB for i in range(10)]
    assert growth(cold + _breathing(90)) == pytest.approx(1, abs=0.01)


def test_end_of_the_session_hides_nogrowth() -> None:
    leaking = [taken + i * _MIB // 4 for i, taken in enumerate(_breathing(100))]
    assert growth(leaking) > MOST_GROWTH
    assert growth([*leaking, 300 * _MIB]) > MOST_GROWTH


def test_few_samples() -> None:
    assert growth([100]) == 1.0
    assert growth([100, 110]) >= 1.0
