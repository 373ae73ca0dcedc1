"""Scans have their descriptors, whatever else is connected."""

from __future__ import annotations

import logging

import pytest

from scanside_gadgetron.pool.descriptors import most_descriptors, share_descriptors

pytestmark = pytest.mark.torch_free


def test_shares_leave_room_for_scans() -> None:
    for most in (256, 512, 1024, 65536):
        for workers, queue in ((1, 0), (2, 32), (4, 32)):
            shares = share_descriptors(most, workers, queue)
            taken = shares.silent + shares.leaving + shares.page
            assert taken + 3 * (workers + queue) + 12 * workers + 40 <= most
    assert share_descriptors(65536, 2, 32).page == 128


def test_too_few_are_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        shares = share_descriptors(128, 4, 64)
    assert min(shares.silent, shares.leaving, shares.page) == 8
    assert "ulimit -n" in caplog.text


def test_all_that_may_be_had_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr("resource.setrlimit", lambda kind, limits: asked.append(limits))
    for limits, expected, wanted in (
        ((256, 4096), 4096, [(4096, 4096)]),
        ((1024, 1 << 20), 65536, [(65536, 1 << 20)]),
        ((256, 256), 256, []),
        ((1024, -1), 65536, [(65536, -1)]),
        ((-1, -1), 65536, []),
    ):
        asked.clear()
        monkeypatch.setattr("resource.getrlimit", lambda _, limits=limits: limits)
        assert most_descriptors() == expected
        assert asked == wanted
