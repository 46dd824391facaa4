"""Keeps pages of other sites away from a server on this machine, and limits what its own page may load."""

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


class SameSiteMiddleware:
    """ASGI middleware that answers only requests to this host, and none from pages of other sites.

    Requests with another host name are refused: a site whose name is suddenly resolved to this machine (DNS rebinding)
    could read the responses. IP addresses are accepted. Requests with the origin of another site are refused. All
    responses get headers so that the page loads nothing from elsewhere and nothing is cached.

    Args:
        app: the application behind it.
        names: host names of this machine besides "localhost".
    """

    def __init__(self, app: ASGIApp, names: Iterable[str] = ()) -> None:
        self.app, self.names = app, {"localhost", *(name.lower() for name in names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a connection."""
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
        if not self._is_this_host(host):
            return f"this server is not {host!r}; use its address in digits, localhost, or the name of its --host"
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return f"pages of {origin!r} may not use this server"
        return None

    def _is_this_host(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
            return name in self.names or bool(ipaddress.ip_address(name))
        except ValueError:  # not an address
            return False
