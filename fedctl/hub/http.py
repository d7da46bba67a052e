"""The hub's plain GETs: is it alive, is it ready, its figures as JSON and for Prometheus. Nothing else, no bodies."""

from __future__ import annotations

import ipaddress
import socket
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from fedctl.errors import FedctlError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from fedctl.hub.options import HubServerOptions
    from fedctl.hub.stats import Figures
    from fedctl.model.hub import HubStats

_TEXT = "text/plain; charset=utf-8"
_JSON = "application/json"
_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


class Pages:
    """Answers GETs. `/stats` and `/metrics` tell of tenants' numbers, so they answer this machine only."""

    def __init__(
        self,
        *,
        healthy: Callable[[], bool],
        ready: Callable[[], bool],
        stats: Callable[[], Awaitable[HubStats]],
        figures: Figures,
        gate: Gate,
    ) -> None:
        """Keep where each page's content comes from."""
        self._healthy = healthy
        self._ready = ready
        self._stats = stats
        self._figures = figures
        self._gate = gate

    async def answer(self, connection: Any, request: Request) -> Response:
        """Return the response to any request; `process_request` of websockets."""
        refusal = self._gate.refusal(request)
        if refusal is not None:
            return refusal
        if request.method != "GET":
            response = respond(HTTPStatus.METHOD_NOT_ALLOWED, "only GET is answered here\n")
            response.headers["Allow"] = "GET"
            return response
        path = request.path.partition("?")[0]
        if path == "/health":
            return _state(good=self._healthy())
        if path == "/ready":
            return _state(good=self._ready())
        if path in ("/stats", "/metrics"):
            return await self._figures_page(path, connection)
        return respond(HTTPStatus.NOT_FOUND, "there is /health, /ready, /stats and /metrics\n")

    async def _figures_page(self, path: str, connection: Any) -> Response:
        if not _is_this_machine(connection.remote_address):
            return respond(HTTPStatus.FORBIDDEN, "figures are told to this machine only\n")
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
        self._origins: set[str] = set()

    def allow_origin(self, origin: str) -> None:
        """Allow the hub's own pages."""
        self._origins.add(origin.lower())

    def refusal(self, request: Request) -> Response | None:
        """Return the refusal of a request, or None when it may come in. `process_request` of the WebSocket side."""
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


def _state(*, good: bool) -> Response:
    if good:
        return respond(HTTPStatus.OK, b'{"status":"ok"}', _JSON)
    return respond(HTTPStatus.SERVICE_UNAVAILABLE, b'{"status":"unavailable"}', _JSON)


def metrics(stats: HubStats, totals: dict[str, tuple[int, float]]) -> str:
    """Return the figures in Prometheus' text format; no ids in labels.

    https://prometheus.io/docs/instrumenting/exposition_formats/
    """
    lines: list[str] = []

    def metric(name: str, kind: str, text: str, samples: Iterable[tuple[str, float]]) -> None:
        lines.extend((f"# HELP fedctl_{name} {text}", f"# TYPE fedctl_{name} {kind}"))
        lines.extend(f"fedctl_{name}{labels} {value:.15g}" for labels, value in samples)

    metric("connected_agents", "gauge", "Agents with a session.", [("", stats.connected_agents)])
    metric("connections", "gauge", "Sessions, agents or not.", [("", stats.connections)])
    metric("episodes", "gauge", "Episodes in the store.", [("", stats.episodes)])
    metric("tenants", "gauge", "Tenants in the store.", [("", stats.tenants)])
    metric("pending_embeddings", "gauge", "Episodes that have no vector yet.", [("", stats.pending_embeddings)])
    metric("uptime_seconds", "gauge", "Time since the hub started.", [("", stats.uptime_s)])
    metric("resident_memory_bytes", "gauge", "Resident memory of the hub.", [("", stats.rss_bytes)])
    metric("commits_total", "counter", "Transactions committed.", [("", stats.commits)])
    metric("acked_episodes_total", "counter", "Episodes acknowledged.", [("", stats.acked_episodes)])
    metric(
        "errors_total",
        "counter",
        "Errors answered, by code.",
        [(f'{{code="{code}"}}', count) for code, count in sorted(stats.errors.items())],
    )
    samples: list[tuple[str, float]] = []
    for name, one in stats.latencies.items():
        samples.append((f'{{operation="{name}",quantile="0.5"}}', one.p50_ms / 1000))
        samples.append((f'{{operation="{name}",quantile="0.99"}}', one.p99_ms / 1000))
    lines.extend(
        (
            "# HELP fedctl_operation_seconds Time from a request's arrival to its answer; quantiles of the last 1000.",
            "# TYPE fedctl_operation_seconds summary",
        )
    )
    lines.extend(f"fedctl_operation_seconds{labels} {value:.15g}" for labels, value in samples)
    for name, (count, total_ms) in sorted(totals.items()):
        lines.append(f'fedctl_operation_seconds_sum{{operation="{name}"}} {total_ms / 1000:.15g}')
        lines.append(f'fedctl_operation_seconds_count{{operation="{name}"}} {count}')
    return "\n".join(lines) + "\n"
