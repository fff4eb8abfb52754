"""Who may load the page, open its socket and change settings."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler

from stemd.config.page import is_loopback
from stemd.logs import get_logger

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' blob:; object-src 'none'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-cache",
}


log = get_logger(__name__)


class Access:
    """The rules of one page. `token` None on loopback: whoever reaches the page may change.

    On loopback without a token, the only thing between a foreign web site in the operator's
    browser and the microscope is the address: requests must name a loopback host (else a name
    that the attacker points at 127.0.0.1 would pass for the same origin).
    """

    def __init__(self, token: str | None, *, loopback: bool) -> None:
        self._token = token
        self._loopback = loopback

    @property
    def open(self) -> bool:
        """Whether changes need no token."""
        return self._token is None and self._loopback

    @property
    def has_token(self) -> bool:
        """Whether there is an operator's token that a viewer can show."""
        return self._token is not None

    @property
    def refusal(self) -> str:
        """Why a change is refused, with the remedy."""
        if self._token is None:
            return (
                "this page is for looking only: it listens beyond this computer and no operator's "
                "token is configured (set token_file in [page])"
            )
        return "changes need the operator's token"

    @property
    def config_refusal(self) -> str:
        """Why the config file is shown to no viewer of this page; "" where the token opens it."""
        if self.has_token:
            return ""
        return (
            "the config file is edited with the operator's token only, and none is configured "
            "(set token_file in [page])"
        )

    def matches(self, token: str) -> bool:
        """Whether this is the operator's token; takes as long for any wrong one."""
        return self._token is not None and hmac.compare_digest(
            token.encode("utf-8", "replace"), self._token.encode("utf-8", "replace")
        )

    def host_allowed(self, request: web.Request) -> bool:
        """Whether the request's Host is one that this page answers to."""
        return not self.open or is_loopback(urlsplit(f"//{request.host}").hostname or "")

    @staticmethod
    def same_origin(request: web.Request) -> bool:
        """Whether a browser's request comes from the page itself.

        Programs other than browsers send no Origin: they are not steered by a foreign web site.
        """
        origin = request.headers.get("Origin")
        return origin is None or urlsplit(origin).netloc.lower() == request.host.lower()

    @web.middleware
    async def guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse foreign hosts and put the security headers on every answer."""
        if not self.host_allowed(request):
            response: web.StreamResponse = web.Response(
                status=421, text="this page answers to localhost only; set token_file in [page]\n"
            )
        else:
            try:
                response = await handler(request)
            except web.HTTPException as error:
                error.headers.update(HEADERS)
                raise
            except Exception:
                log.exception("page: request failed", path=request.path)
                response = web.Response(status=500, text="the page could not answer this\n")
        if not response.prepared:
            response.headers.update(HEADERS)
        return response
