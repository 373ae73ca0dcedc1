"""Who may look, and what a browser may do with the page: around the application, as an ASGI middleware."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Iterable

from starlette.datastructures import URL, Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["SECURITY_HEADERS", "Access", "is_own_name"]

COOKIE = "scanside_monitor"

# Probes of orchestrators carry no token and learn nothing but whether the server lives.
_OPEN = frozenset({"/healthz", "/readyz"})

_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Access:
    """Lets reading requests through, with the token where there is one.

    A token comes as ``Authorization: Bearer``, as a cookie, or once as ``?token=``, which sets the cookie and leads
    to the same page without it, so that it stays in no history. Without a token, only requests that were sent to a
    name of this machine are answered: a page of someone else's, whose name was made to point to loopback, is not
    (DNS rebinding).

    Args:
        app: what is looked at.
        token: None asks for none.
        names: further names of the machine, beside ``localhost`` and its addresses.
    """

    def __init__(self, app: ASGIApp, token: str | None = None, names: Iterable[str] = ()) -> None:
        self._app = app
        self._token = token
        self._names = frozenset(names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers[name] = value
                if "cache-control" not in headers:
                    headers["Cache-Control"] = "no-store"
            await send(message)

        refusal = self._refusal(scope)
        await (refusal or self._app)(scope, receive, send_guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        """What is answered in place of the page; None for what may be seen."""
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("this page only shows", 405, {"Allow": "GET, HEAD"})
        if self._token is None:
            if not is_own_name(Headers(scope=scope).get("host", ""), self._names):
                return PlainTextResponse("ask for this page under a name of this machine", 403)
            return None
        if scope["path"] in _OPEN:
            return None
        return self._ask_for_token(Request(scope), self._token)

    def _ask_for_token(self, request: Request, token: str) -> Response | None:
        given = request.query_params.get("token")
        if given is not None and _same(given, token):
            url = URL(scope=request.scope).remove_query_params("token")
            # To a path of this page only: browsers take one that begins with two strokes for a host.
            path = "/" + url.path.lstrip("/\\")
            answer = RedirectResponse(f"{path}?{url.query}" if url.query else path, 303)
            answer.set_cookie(
                COOKIE, _pass_of(token), httponly=True, samesite="lax", secure=request.url.scheme == "https"
            )
            return answer
        kind, _, bearer = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and _same(bearer.strip(), token):
            return None
        if _same(request.cookies.get(COOKIE, ""), _pass_of(token)):
            return None
        return PlainTextResponse(
            "this page asks for a token: open it once with ?token=..., or send 'Authorization: Bearer ...'",
            401,
            {"WWW-Authenticate": "Bearer"},
        )


def is_own_name(host: str, names: Collection[str] = ()) -> bool:
    """Whether a request was sent to ``localhost``, one of its addresses, or another name of this machine.

    Args:
        host: its header ``Host``.
        names: further names of the machine.
    """
    name = (host if host.endswith("]") else host.rpartition(":")[0] or host).lower()
    return name in _LOCAL_NAMES or name in names


def _same(given: str, expected: str) -> bool:
    """Whether two secrets are equal, in a time that does not tell how much of them is."""
    return hmac.compare_digest(given.encode(), expected.encode())


def _pass_of(token: str) -> str:
    """What the cookie holds: it opens the page, but the token cannot be read from it."""
    return hmac.new(token.encode(), b"cookie of the live page", hashlib.sha256).hexdigest()
