"""Seeing what a pool of workers does: live page, metrics, logs and traces.

::

    monitor = start_monitor(pool.subscribe, pool, MonitorConfig())
    print(monitor.url)
    ...
    monitor.stop()

All of it lives in the server's own process and learns from the pool's events alone. It only looks: nothing that
comes in over HTTP changes anything, and a fault in it ends no session.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from scanside.errors import MissingExtra
from scanside_gadgetron.monitor.config import MonitorConfig
from scanside_gadgetron.monitor.contract import PoolState, Subscribe

if TYPE_CHECKING:
    from scanside_gadgetron.monitor.monitor import Monitor

__all__ = ["MonitorConfig", "PoolState", "Subscribe", "start_monitor"]


def start_monitor(
    subscribe: Subscribe,
    state: PoolState,
    config: MonitorConfig | None = None,
    *,
    most_connections: int = 128,
) -> Monitor:
    """Begin to watch a pool and to show it.

    Call it before the first worker starts, so that nothing is missed. Workers put the pictures of a session into
    ``monitor.session_folder(session)``, which they make when they have the first.

    Args:
        subscribe: see `Subscribe`.
        state: the pool.
        config: None takes the defaults.
        most_connections: to the page, at once; of more, those go that have been silent for longest.

    Returns:
        With ``url``, ``session_folder(session)`` and ``stop()``.

    Raises:
        MissingExtra: the extra ``server`` is not installed, or ``tracing`` where traces are asked for.
        ConfigError: the address cannot be listened on, or others could look without a token.
    """
    for package in ("starlette", "uvicorn", "prometheus_client"):
        if find_spec(package) is None:
            raise MissingExtra(package, "server", "the live page")
    from scanside_gadgetron.monitor.monitor import Monitor

    return Monitor(subscribe, state, config or MonitorConfig(), most_connections)
