"""Access control of the viewer: only requests with the token, from the viewer's own page."""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import socket
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from aiohttp import web

__all__ = ["Access", "is_loopback"]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

# The page may load from its own server only. Vue compiles templates to functions, hence 'unsafe-eval'.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' blob: data:; connect-src 'self'; frame-ancestors 'none'; form-action 'none'; base-uri 'self'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
REFUSED = "The viewer refused this: open the address that `monai-r2unet view` printed, with its token.\n"


class Access:
    """Checks every request, including the websocket's, before any other handler.

    The token is passed once in the address; after that a cookie carries it, which other sites cannot make a browser
    send.

    Args:
        host: Address the server listens on, which people on other machines may use as its name.
    """

    def __init__(self, host: str) -> None:
        self.token = secrets.token_urlsafe(32)
        self.cookie = f"monai-r2unet-{secrets.token_hex(4)}"  # cookies are shared by all ports of a host
        self.names = {"localhost", host.lower(), socket.gethostname().lower()}

    @web.middleware  # type: ignore[untyped-decorator]
    async def guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Pass on permitted requests and add security headers to the responses."""
        given = request.query.get("token", "")
        if not (self._is_ours(request) and (self._fits(given) or self._fits(request.cookies.get(self.cookie, "")))):
            return web.Response(status=403, text=REFUSED, headers=HEADERS)
        try:
            response = await handler(request)
        except web.HTTPException as error:
            error.headers.update(HEADERS)
            if given:
                self._remember(error)
            raise
        if not response.prepared:
            response.headers.update(HEADERS)
            if given:
                self._remember(response)
        return response

    def _remember(self, response: web.StreamResponse) -> None:
        response.set_cookie(self.cookie, self.token, httponly=True, samesite="Strict")

    def _fits(self, token: str) -> bool:
        return hmac.compare_digest(token.encode(), self.token.encode())

    def _is_ours(self, request: web.Request) -> bool:
        """Whether the request addresses this server by one of its own names and does not come from another site's page.

        Names are checked because any site can point its own name to this machine's address; IP addresses are safe.
        """
        host = request.headers.get("Host", "")
        origin = request.headers.get("Origin")
        try:
            name = (urlsplit(f"//{host}").hostname or "").lower()
        except ValueError:
            return False
        if name not in self.names and not _is_address(name):
            return False
        if request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            # A link to the viewer is fine: that is how people open the address.
            return request.method == "GET" and request.headers.get("Sec-Fetch-Mode") == "navigate" and origin is None
        return origin is None or origin.lower() == f"{request.scheme}://{host.lower()}"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server on this host."""
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
