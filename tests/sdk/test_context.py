"""The device that a worker computes on."""

from __future__ import annotations

import sys

import pytest
import torch

from scanside.context import Context
from scanside.errors import ConfigError, MissingExtra


def test_devices() -> None:
    assert Context(device="cpu").torch_device == torch.device("cpu")
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert Context().torch_device.type == expected


@pytest.mark.parametrize(
    ("device", "said"),
    [
        ("gpu", "'gpu' is not known"),
        ("meta", "'meta' is not supported"),
        ("cuda:99", "'cuda:99' is not there: torch .* sees \\d+ CUDA devices"),
        ("", "is not known"),
    ],
)
def test_wrong_devices(device: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Context(device=device).torch_device  # noqa: B018


def test_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtra, match=r"scanside\[torch\]"):
        Context().torch_device  # noqa: B018


def test_contexts_share_no_store() -> None:
    assert Context().noise_store is not Context().noise_store
