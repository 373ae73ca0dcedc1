"""Keeps converters quiet about their own innards."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["converting"]

_LOGGERS = ("torch.onnx", "torch._inductor")


@contextmanager
def converting() -> Iterator[None]:
    """While other people's converters run, ignore what they say about their own deprecated calls and fallbacks.

    Whether a conversion is right is not told by warnings: the gate compares the engine with the network. The root
    logger is afterwards what it was: OpenVINO's converter makes it silent, and leaves it so when it fails.
    """
    root = logging.getLogger()
    of_root = (root.level, list(root.filters), list(root.handlers))
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        root.setLevel(of_root[0])
        root.filters, root.handlers = of_root[1:]
