"""The web application: the page, what it draws, metrics and health. It only shows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from time import time
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from scanside._version import __version__
from scanside.errors import FormatError
from scanside_gadgetron.monitor.access import Access
from scanside_gadgetron.monitor.contract import PoolState
from scanside_gadgetron.monitor.feed import Feed
from scanside_gadgetron.monitor.metrics import Metrics
from scanside_gadgetron.monitor.pictures import little_endian, observation_array, open_array, slice_of
from scanside_gadgetron.monitor.state import LiveState

__all__ = ["MonitorApp", "pool_facts"]

logger = logging.getLogger(__name__)

_STATIC = Path(__file__).parent / "static"


class MonitorApp:
    """Answers requests.

    ``/`` the page; ``/events`` what changes, as server-sent events; ``/api/sessions``, ``/api/sessions/ID`` as JSON,
    ``/api/sessions/ID/images/I?z=Z`` and ``/api/sessions/ID/observations/WHAT`` as numbers, little endian, with
    their shape and type in the headers ``X-Scanside-Shape`` and ``X-Scanside-Type``; ``/metrics``; ``/healthz``: the
    process answers; ``/readyz``: it can take a session.

    Args:
        live: sessions and workers.
        pool: whose they are.
        metrics: of them.
        token: see `Access`.
        names: see `Access`.

    Attributes:
        feed: server-sent events.
        asgi: the application with all that guards it.
    """

    def __init__(
        self,
        live: LiveState,
        pool: PoolState,
        metrics: Metrics,
        *,
        token: str | None = None,
        names: Iterable[str] = (),
    ) -> None:
        self._live = live
        self._pool = pool
        self._metrics = metrics
        self.feed = Feed(live, partial(pool_facts, pool))
        session = "/api/sessions/{session}"
        routes: list[Route | Mount] = [
            Route("/", self._page),
            Route("/events", self.feed),
            Route("/api/sessions", self._sessions),
            Route(session, self._session),
            Route(f"{session}/images/{{index:int}}", self._image),
            Route(f"{session}/observations/{{what}}", self._observation),
            Route("/metrics", self._prometheus),
            Route("/healthz", self._healthz),
            Route("/readyz", self._readyz),
            Mount("/static", StaticFiles(directory=_STATIC)),
        ]
        self.asgi = Starlette(
            routes=routes,
            middleware=[Middleware(Access, token=token, names=tuple(names))],
            exception_handlers={FormatError: _unreadable, Exception: _defect},
        )

    def _page(self, request: Request) -> Response:
        return FileResponse(_STATIC / "index.html")

    def _sessions(self, request: Request) -> Response:
        return JSONResponse({**self._live.overview(), "pool": pool_facts(self._pool), "time": time()})

    def _session(self, request: Request) -> Response:
        after = _number(request, "after", -1)
        found = self._live.detail(request.path_params["session"], after)
        if found is None:
            raise HTTPException(404, "there is no such session, or it is not kept any longer")
        return JSONResponse(found)

    async def _image(self, request: Request) -> Response:
        session, index = request.path_params["session"], request.path_params["index"]
        name = self._live.image_file(session, index)
        z = _number(request, "z", None)

        def choose(array: Any) -> Any:
            return array if z is None else slice_of(array, z)

        return await run_in_threadpool(self._array, session, name, choose)

    async def _observation(self, request: Request) -> Response:
        session, what = request.path_params["session"], request.path_params["what"]
        name = self._live.observation_file(session, what)
        first = self._live.first_image_file(session) if what == "coils" else None

        def choose(array: Any) -> Any:
            image = None if first is None else open_array(self._live.session_folder(session), first)
            return observation_array(what, array, image)

        return await run_in_threadpool(self._array, session, name, choose)

    def _array(self, session: str, name: str | None, choose: Callable[[Any], Any]) -> Response:
        """Numbers of a file that the state knows of; no path comes from a request."""
        if name is None:
            raise HTTPException(404, "there is no such picture, or it is not kept any longer")
        array = choose(open_array(self._live.session_folder(session), name))
        content, kind = little_endian(array)
        shape = ",".join(map(str, array.shape))
        headers = {"X-Scanside-Shape": shape, "X-Scanside-Type": kind}
        return Response(content, media_type="application/octet-stream", headers=headers)

    def _prometheus(self, request: Request) -> Response:
        return Response(
            generate_latest(self._metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    # Coroutines, as functions would wait for a thread behind those that draw pictures.
    async def _healthz(self, request: Request) -> Response:
        return PlainTextResponse("alive\n")

    async def _readyz(self, request: Request) -> Response:
        reason = self._pool.not_ready()
        return PlainTextResponse(f"{reason}\n", 503) if reason else PlainTextResponse("ready\n")


def pool_facts(pool: PoolState) -> dict[str, Any]:
    """What the page says of the pool."""
    return {"queue_depth": pool.queue_depth, "not_ready": pool.not_ready(), "version": __version__}


def _number(request: Request, name: str, default: Any) -> Any:
    text = request.query_params.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise HTTPException(400, f"'{name}' must be a whole number")
    return int(text)


def _unreadable(_: Request, error: Exception) -> Response:
    return PlainTextResponse(str(error), 404)


def _defect(request: Request, error: Exception) -> Response:
    logger.error("the live page could not answer %s", request.url.path, exc_info=error)
    return PlainTextResponse("this could not be shown; the server's log says why", 500)
