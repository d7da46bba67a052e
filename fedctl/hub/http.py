"""The hub's plain GETs: is it alive, is it ready, its figures as JSON and for Prometheus, and the monitor page."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec

from fedctl.errors import Denied, FedctlError
from fedctl.hub.gate import is_passed_on, is_this_machine, respond
from fedctl.hub.metrics import metrics
from fedctl.hub.watch import SOCKET_PATH, page

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from websockets.http11 import Request, Response

    from fedctl.access.tokens import Verified
    from fedctl.hub.gate import Gate
    from fedctl.hub.refusals import Refusals
    from fedctl.hub.stats import Figures
    from fedctl.hub.watch import Watch
    from fedctl.model.hub import HubStats

_JSON = "application/json"
_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


class Pages:
    """Answers GETs. `/stats` and `/metrics` tell of all tenants, so they answer this machine and operators only.

    What the monitor page shows it asks for over a WebSocket at `/ws`, a session like any other that may only look.
    """

    def __init__(  # noqa: PLR0913  where each page comes from
        self,
        *,
        healthy: Callable[[], bool],
        ready: Callable[[], bool],
        read_only: Callable[[], bool],
        stats: Callable[[], Awaitable[HubStats]],
        figures: Figures,
        gate: Gate,
        watch: Watch,
        refusals: Refusals,
        verify: Callable[[str], Verified],
    ) -> None:
        """Keep where each page's content comes from.

        `verify` returns who a token speaks for, or raises `Denied`; `read_only` whether writes are refused because the
        disk is nearly full.
        """
        self._healthy = healthy
        self._ready = ready
        self._read_only = read_only
        self._stats = stats
        self._figures = figures
        self._gate = gate
        self._watch = watch
        self._refusals = refusals
        self._verify = verify

    async def answer(self, connection: Any, request: Request) -> Response | None:
        """Return the response to a request, or None to one that becomes a WebSocket; websockets' `process_request`."""
        path = request.path.partition("?")[0]
        refusal = self._gate.refusal(request, connection, serves_pages=True)
        if path == SOCKET_PATH:
            if refusal is not None:
                self._refusals.note("gate", error=bytes(refusal.body or b"").decode().strip())
            else:
                connection.local = await self._watch.is_owners(connection, request)
            return refusal
        response = refusal or await self._page(path, connection, request)
        if request.method == "HEAD":
            response.body = b""  # with the headers that a GET has, the length too (RFC 9110, 9.3.2)
        return response

    async def _page(self, path: str, connection: Any, request: Request) -> Response:
        if request.method not in ("GET", "HEAD"):
            response = respond(HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD are answered here\n")
            response.headers["Allow"] = "GET, HEAD"
            return response
        if path == "/health":
            return _state(good=self._healthy(), read_only=self._read_only())
        if path == "/ready":
            return _state(good=self._ready())
        if path in ("/stats", "/metrics"):
            return self._kept_from(connection, request) or await self._figures_page(path)
        served = page(path)
        if served is None:
            return respond(HTTPStatus.NOT_FOUND, "there is /, /health, /ready, /stats and /metrics\n")
        if path == "/" and (there := await self._watch.elsewhere(connection, request)) is not None:
            served.headers["Refresh"] = f"0; url={there}"  # a browser goes there; what is none has the page
        return served

    def _kept_from(self, connection: Any, request: Request) -> Response | None:
        """Return the refusal of who may not see the figures."""
        if is_this_machine(connection.remote_address[0]) and not is_passed_on(request):
            return None
        given = request.headers.get_all("Authorization")
        scheme, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        try:
            if scheme.lower() != "bearer":
                raise Denied("figures are told to this machine, or to who has an operator's token")
            if not self._verify(token.strip()).principal.may("operator"):
                self._figures.refused("denied")
                return respond(HTTPStatus.FORBIDDEN, "figures are told to operators only\n")
        except Denied as error:
            self._figures.refused("denied")
            response = respond(HTTPStatus.UNAUTHORIZED, error.message + "\n")
            response.headers["WWW-Authenticate"] = "Bearer"
            return response
        except FedctlError as error:
            return respond(HTTPStatus.SERVICE_UNAVAILABLE, error.message + "\n")
        return None

    async def _figures_page(self, path: str) -> Response:
        try:
            stats = await self._stats()
        except FedctlError as error:
            return respond(HTTPStatus.SERVICE_UNAVAILABLE, error.message + "\n")
        if path == "/stats":
            return respond(HTTPStatus.OK, msgspec.json.encode(stats), _JSON)
        return respond(HTTPStatus.OK, metrics(stats, self._figures.totals()), _PROMETHEUS)


def _state(*, good: bool, read_only: bool = False) -> Response:
    # Anybody may ask: how much is free is told to those who may see the figures.
    body = {"status": "ok" if good else "unavailable"} | ({"read_only": True} if read_only else {})
    return respond(HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE, msgspec.json.encode(body), _JSON)
