"""Keeps pages of other sites away from a server that listens on this machine, and browsers to what the page needs."""

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """An ASGI application in front of another.

    It refuses requests that name another host: a site whose name suddenly leads to this machine (DNS rebinding) could
    read the answers. Addresses in digits need no name and are let through. It also refuses requests that pages of other
    sites send. All responses get headers that let the page load nothing from elsewhere, and keep nothing in caches.

    Args:
        app: what answers.
        names: names of this machine, apart from "localhost".
    """

    def __init__(self, app: ASGIApp, names: Iterable[str] = ()):
        self.app, self.names = app, {"localhost", *(name.lower() for name in names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        problem = self._problem(Headers(scope=scope))
        app = JSONResponse({"error": problem}, 403) if problem else self.app
        await app(scope, receive, send_with_headers)

    def _problem(self, headers: Headers) -> str | None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self._is_here(host):
            return f"this server is not {host!r}; use its address in digits, localhost, or the name of its --host"
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return f"pages of {origin!r} may not use this server"
        return None

    def _is_here(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
            return name in self.names or bool(ipaddress.ip_address(name))
        except ValueError:  # no address
            return False
