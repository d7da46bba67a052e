"""The hub's plain GETs: is it alive, is it ready, its figures as JSON and for Prometheus. Nothing else, no bodies."""

from __future__ import annotations

import ipaddress
import socket
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from fedctl.errors import Denied, FedctlError
from fedctl.hub.metrics import metrics

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fedctl.access.tokens import Verified
    from fedctl.hub.options import HubServerOptions
    from fedctl.hub.stats import Figures
    from fedctl.model.hub import HubStats

_TEXT = "text/plain; charset=utf-8"
_JSON = "application/json"
_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


class Pages:
    """Answers GETs. `/stats` and `/metrics` tell of all tenants, so they answer this machine and operators only."""

    def __init__(  # noqa: PLR0913  where each page comes from
        self,
        *,
        healthy: Callable[[], bool],
        ready: Callable[[], bool],
        read_only: Callable[[], bool],
        stats: Callable[[], Awaitable[HubStats]],
        figures: Figures,
        gate: Gate,
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
        self._verify = verify

    async def answer(self, connection: Any, request: Request) -> Response:
        """Return the response to any request; `process_request` of websockets."""
        refusal = self._gate.refusal(request, connection)
        if refusal is not None:
            return refusal
        if request.method != "GET":
            response = respond(HTTPStatus.METHOD_NOT_ALLOWED, "only GET is answered here\n")
            response.headers["Allow"] = "GET"
            return response
        path = request.path.partition("?")[0]
        if path == "/health":
            return _state(good=self._healthy(), read_only=self._read_only())
        if path == "/ready":
            return _state(good=self._ready())
        if path in ("/stats", "/metrics"):
            return self._kept_from(connection, request) or await self._figures_page(path)
        return respond(HTTPStatus.NOT_FOUND, "there is /health, /ready, /stats and /metrics\n")

    def _kept_from(self, connection: Any, request: Request) -> Response | None:
        """Return the refusal of who may not see the figures."""
        # What a proxy on this machine passes on comes from somewhere else.
        passed_on = any(name in request.headers for name in ("Forwarded", "X-Forwarded-For", "Via"))
        if _is_this_machine(connection.remote_address) and not passed_on:
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


class Gate:
    """Which `Host` and `Origin` are let in: a page of another site in a local browser must not reach the hub."""

    def __init__(self, options: HubServerOptions) -> None:
        """Allow the bound address, this machine's names, and what the options add."""
        named = {"localhost", "127.0.0.1", "::1", options.host, socket.gethostname(), *options.host_names}
        self._hosts = {name.strip("[]").lower() for name in named}
        # Bound to every address, the hub is reached by addresses it does not know; one that is written as numbers
        # cannot have been rebound by a name server.
        self._any_address = options.host in ("0.0.0.0", "::")  # noqa: S104  compared, not bound
        self._origins = {origin.lower() for origin in options.origins}
        self._wants_certificate = options.tls_client_ca is not None

    def allow_origin(self, origin: str) -> None:
        """Allow the hub's own pages."""
        self._origins.add(origin.lower())

    def refusal(self, request: Request, connection: Any = None) -> Response | None:
        """Return the refusal of a request, or None when it may come in."""
        if self._wants_certificate and not (connection and connection.transport.get_extra_info("peercert")):
            return respond(HTTPStatus.FORBIDDEN, "this hub lets in only clients with a certificate that it trusts\n")
        hosts = request.headers.get_all("Host")
        if len(hosts) != 1 or not self._is_allowed(_host_of(hosts[0])):
            return respond(HTTPStatus.FORBIDDEN, "this hub does not answer to that Host\n")
        origins = request.headers.get_all("Origin")
        if any(origin.lower() not in self._origins for origin in origins):
            return respond(HTTPStatus.FORBIDDEN, "this hub is not for pages of other origins\n")
        return None

    def _is_allowed(self, host: str) -> bool:
        if host in self._hosts:
            return True
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        return self._any_address or address.is_loopback


def _host_of(header: str) -> str:
    """Return the name in a `Host` header, without port and brackets."""
    host = header.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    name, separator, port = host.rpartition(":")
    return name if separator and port.isdigit() else host


def _is_this_machine(address: Any) -> bool:
    try:
        return ipaddress.ip_address(address[0].partition("%")[0]).is_loopback
    except (TypeError, ValueError, IndexError):
        return False


def respond(status: HTTPStatus, body: str | bytes, content_type: str = _TEXT) -> Response:
    """Return a response with what any of ours carries."""
    data = body.encode() if isinstance(body, str) else body
    headers = Headers(
        [
            ("Content-Type", content_type),
            ("Content-Length", str(len(data))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            ("Connection", "close"),
        ]
    )
    return Response(status.value, status.phrase, headers, data)


def _state(*, good: bool, read_only: bool = False) -> Response:
    # Anybody may ask: how much is free is told to those who may see the figures.
    body = {"status": "ok" if good else "unavailable"} | ({"read_only": True} if read_only else {})
    return respond(HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE, msgspec.json.encode(body), _JSON)
