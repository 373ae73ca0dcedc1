"""Keeps converters quiet about their own innards."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["converting"]


@contextmanager
def converting() -> Iterator[None]:
    """While other people's converters run, ignore what they say about their own deprecated calls.

    Whether a conversion is right is not told by warnings: the gate compares the engine with the network.
    """
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
