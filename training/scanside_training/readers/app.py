"""The web application that readers see. It knows trials by their number and images by their place on the screen: what
would tell a method or a case never leaves this process.
"""

from __future__ import annotations

import hmac
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import scanside_gadgetron.monitor
from scanside.errors import FileFormatError
from scanside_gadgetron.monitor.access import SECURITY_HEADERS, is_own_name
from scanside_training.readers.form import LONGEST_TEXT, AnyQuestion
from scanside_training.readers.images import GREYS, WHITE
from scanside_training.readers.readings import Asked, LiveReadings, NotNow, WrongAnswer
from scanside_training.readers.study import ReaderStudy

__all__ = ["MOST_BYTES", "ReaderApp"]

logger = logging.getLogger(__name__)

_STATIC = Path(__file__).parent / "static"
_SHARED = Path(scanside_gadgetron.monitor.__file__).parent / "static"
"""Scripts of the live page that this one uses too."""

MOST_BYTES = 64 * LONGEST_TEXT
"""Of a request's body: all texts of a long form, in any letters."""


class ReaderApp:
    """Answers requests; all below ``/r/LINK/``, where LINK is the reader's secret.

    ``/`` the page; ``state`` the current trial as JSON; ``trials/N/images/PANE`` its frames as uint16, little endian;
    ``trials/N/answers`` takes an answer, ``trials/N/finish`` ends the trial.

    Args:
        study: that is read.
        readings: where readers stand.
        links: of the readers who may read now.
    """

    def __init__(self, study: ReaderStudy, readings: LiveReadings, links: set[str]) -> None:
        self._study = study
        self._readings = readings
        self._links = links
        trial = "/r/{link}/trials/{number:int}"
        self.asgi = Starlette(
            routes=[
                Route("/r/{link}/", self._page),
                Route("/r/{link}/state", self._state),
                Route(f"{trial}/images/{{pane:int}}", self._image),
                Route(f"{trial}/answers", self._answer, methods=["POST"]),
                Route(f"{trial}/finish", self._finish, methods=["POST"]),
                Mount("/static", StaticFiles(directory=_STATIC)),
                Mount("/shared", StaticFiles(directory=_SHARED)),
            ],
            middleware=[Middleware(_Guard)],
            exception_handlers={
                NotNow: _refused(409),
                WrongAnswer: _refused(400),
                FileFormatError: _unreadable,
                OSError: _unwritten,
                Exception: _defect,
            },
        )

    def _reader(self, request: Request) -> str:
        given = request.path_params["link"].encode()
        for link in self._links:
            if hmac.compare_digest(given, link.encode()):
                return self._study.readers[link]
        raise HTTPException(404, "there is no such page: use the link that you were given")

    def _page(self, request: Request) -> Response:
        self._reader(request)
        return FileResponse(_STATIC / "index.html")

    def _state(self, request: Request) -> Response:
        return JSONResponse(self._state_of(self._reader(request)))

    def _state_of(self, reader: str) -> dict[str, Any]:
        form, trials = self._study.form, self._study.trials(reader)
        number, answers = self._readings.current(reader)
        state: dict[str, Any] = {
            "title": form.title,
            "instructions": form.instructions,
            "reader": reader,
            "n_trials": len(trials),
            "trial": None,
        }
        if number < len(trials):
            trial = trials[number]
            names = ["Left", "Right"] if len(trial.methods) == 2 else ["Image"]
            names += ["Reference"] if form.reference == "shown" else []
            state["trial"] = {
                "number": number,
                "panes": names,
                "n_rated": len(trial.methods),
                "white": WHITE,
                "greys": GREYS,
                "questions": [_described(one) for one in form.questions],
                "answers": [
                    {"question": name, "pane": pane, "value": v} for (name, pane), v in answers.items()
                ],
            }
        return state

    def _image(self, request: Request) -> Response:
        reader, number = self._reader(request), request.path_params["number"]
        if number != self._readings.current(reader)[0]:
            raise HTTPException(404, "these images are not shown now")
        trial = self._study.trials(reader)[number]
        panes, pane = self._study.panes(trial), request.path_params["pane"]
        if pane >= len(panes):
            raise HTTPException(404, "there is no such image")
        frames = self._study.image(trial.case, panes[pane])
        headers = {"X-Scanside-Shape": ",".join(map(str, frames.shape)), "X-Scanside-Type": "uint16"}
        return Response(
            frames.astype("<u2").tobytes(), media_type="application/octet-stream", headers=headers
        )

    async def _answer(self, request: Request) -> Response:
        reader, given = self._reader(request), await _body(request)
        asked = given.get("question"), given.get("pane"), given.get("value")
        await run_in_threadpool(self._readings.answer, reader, request.path_params["number"], *asked)
        return JSONResponse({"kept": True})

    async def _finish(self, request: Request) -> Response:
        reader, given = self._reader(request), await _body(request)
        answers: dict[Asked, Any] = {}
        try:
            for one in given["answers"]:
                answers[one["question"], one["pane"]] = one["value"]
        except (KeyError, TypeError) as error:
            raise WrongAnswer("'answers' is a list of answers with question, pane and value") from error
        number = request.path_params["number"]
        await run_in_threadpool(self._readings.finish, reader, number, answers, given.get("seconds"))
        return JSONResponse(self._state_of(reader))


def _described(question: AnyQuestion) -> dict[str, Any]:
    return {
        "name": question.name,
        "kind": question.kind,
        "text": question.text,
        "of": question.of,
        "options": [{"value": value, "label": label} for value, label in question.options],
        "longest": LONGEST_TEXT,
    }


async def _body(request: Request) -> dict[str, Any]:
    """The JSON object of a request that is not too long."""
    # A form of another page cannot send this type without asking first, which is not answered.
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, "answers are sent as application/json")
    content = b""
    async for part in request.stream():
        content += part
        if len(content) > MOST_BYTES:
            raise HTTPException(413, f"an answer has at most {MOST_BYTES} bytes")
    try:
        given = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise WrongAnswer("that is not JSON") from error
    if not isinstance(given, dict):
        raise WrongAnswer("an answer is a JSON object")
    return given


class _Guard:
    """Answers only what was sent to a name of this machine: a page of someone else's, whose name was made to point to
    loopback, is not answered (DNS rebinding). Every answer says what a browser may do with it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in {**SECURITY_HEADERS, "Cache-Control": "no-store"}.items():
                    headers[name] = value
            await send(message)

        if not is_own_name(Headers(scope=scope).get("host", "")):
            refusal = PlainTextResponse("ask for this page under a name of this machine", 403)
            await refusal(scope, receive, send_guarded)
            return
        await self._app(scope, receive, send_guarded)


def _refused(status: int) -> Callable[[Request, Exception], Response]:
    return lambda _, error: PlainTextResponse(str(error), status)


def _unwritten(_: Request, error: Exception) -> Response:
    logger.error("an answer could not be written: %s", error)
    return PlainTextResponse(f"the answer could not be kept: {error}", 507)


def _unreadable(_: Request, error: Exception) -> Response:
    # Not told to the reader, as paths and names may tell what must not be known.
    logger.error("an image could not be shown: %s", error)
    return PlainTextResponse("this image cannot be shown; the server's log says why", 500)


def _defect(request: Request, error: Exception) -> Response:
    logger.error("the page could not answer %s", request.method, exc_info=error)
    return PlainTextResponse("this could not be answered; the server's log says why", 500)
