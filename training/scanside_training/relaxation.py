"""The signal of a multi-echo spin echo, which data, losses and evaluations of T2 maps share."""

from __future__ import annotations

import torch

__all__ = ["LEAST_MS", "T2_UNIT_MS", "multi_echo_signal"]

T2_UNIT_MS = 100.0
"""Unit of the T2 maps that networks give and learn from: those of tissue are about one."""

LEAST_MS = 1e-3
"""Relaxation times are at least this: air has none, and no signal either."""


def multi_echo_signal(m0: torch.Tensor, t2_ms: torch.Tensor, echo_times_ms: torch.Tensor) -> torch.Tensor:
    """``M0 exp(−TE / T2)``, the decay of one component without stimulated echoes.

    Args:
        m0: ``(B, 1, k1, k0)``, signal at TE = 0.
        t2_ms: the same shape, not negative.
        echo_times_ms: ``(B, echo)``.

    Returns:
        ``(B, echo, k1, k0)``.
    """
    decayed: torch.Tensor = torch.exp(-echo_times_ms[:, :, None, None] / t2_ms.clamp_min(LEAST_MS))
    return m0 * decayed
