"""Server-sent events: the page hears of every change, as fast as it can take them.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from time import monotonic, time
from typing import Any

import anyio
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from scanside_gadgetron.monitor.state import LiveState

__all__ = ["Feed"]


class Feed:
    """Tells each client what changed since it was last told.

    Nothing is queued: a client that takes its time is told later, and then how things are by then. So a client costs
    the memory of one message however slow it is. One that takes nothing at all is dropped; browsers come back on
    their own and begin anew.

    Args:
        live: what is told of.
        pool_now: facts of the pool that come along with each message.
        most_clients: how many may listen at once.
        pause_s: between messages to one client.
        heartbeat_s: after this time without news comes an empty message, so that both ends notice a broken line.
        stall_s: how long a client may leave a message untaken.
    """

    def __init__(
        self,
        live: LiveState,
        pool_now: Callable[[], dict[str, Any]],
        *,
        most_clients: int = 32,
        pause_s: float = 0.1,
        heartbeat_s: float = 5.0,
        stall_s: float = 20.0,
    ) -> None:
        self._live = live
        self._pool_now = pool_now
        self._most_clients = most_clients
        self._pause_s = pause_s
        self._heartbeat_s = heartbeat_s
        self._stall_s = stall_s
        self._stopping = threading.Event()
        self.n_clients = 0

    def stop(self) -> None:
        """Let all clients go."""
        self._stopping.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one client until it leaves."""
        if self.n_clients >= self._most_clients:
            refusal = PlainTextResponse(
                f"{self.n_clients} pages are open already", 503, {"Retry-After": "10"}
            )
            await refusal(scope, receive, send)
            return
        self.n_clients += 1
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._watch, receive, tasks.cancel_scope)
                await self._tell(send)
                tasks.cancel_scope.cancel()
        finally:
            self.n_clients -= 1

    async def _watch(self, receive: Receive, scope: anyio.CancelScope) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        scope.cancel()

    async def _tell(self, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream"), (b"x-accel-buffering", b"no")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        known, pool, told = -1, None, monotonic()
        while not self._stopping.is_set():
            now = self._pool_now()
            text = ""
            if self._live.revision != known or now != pool:
                news = {**self._live.overview(known), "pool": now, "time": time()}
                known, pool = news["revision"], now
                text = f"data: {json.dumps(news, separators=(',', ':'), default=str)}\n\n"
            elif monotonic() - told > self._heartbeat_s:
                text = ": still here\n\n"
            if text:
                told = monotonic()
                with anyio.move_on_after(self._stall_s) as limit:
                    await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
                if limit.cancelled_caught:
                    return
            await anyio.sleep(self._pause_s)
        await send({"type": "http.response.body", "body": b""})
