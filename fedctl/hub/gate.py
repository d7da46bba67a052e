"""Which `Host` and `Origin` are let in: a page of another site in a local browser must not reach the hub."""

from __future__ import annotations

import ipaddress
import re
import socket
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from websockets.datastructures import Headers
from websockets.http11 import Response

if TYPE_CHECKING:
    from websockets.http11 import Request

    from fedctl.hub.options import HubServerOptions

_TEXT = "text/plain; charset=utf-8"
_HOST = re.compile(r"(?:\[(?P<v6>[0-9a-f:.%]+)\]|(?P<name>[^\s:/?#@\[\]]+))(?::(?P<port>[0-9]{1,5}))?")
_PORT_MAX = 65_535
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Gate:
    """Looks at the headers of every request, before anything else does."""

    def __init__(self, options: HubServerOptions) -> None:
        """Allow the bound address, this machine's names, and what the options add."""
        named = {"localhost", "127.0.0.1", "::1", options.host, socket.gethostname(), *options.host_names}
        self._hosts = {name.strip("[]").lower() for name in named}
        # Bound to every address, the hub is reached by addresses it does not know; one that is written as numbers
        # cannot have been rebound by a name server.
        self._any_address = options.host in ("0.0.0.0", "::")  # noqa: S104  compared, not bound
        self._origins = {origin_of(origin) for origin in options.origins}
        self._wants_certificate = options.tls_client_ca is not None
        self._scheme = "http" if options.tls_cert is None else "https"

    def refusal(self, request: Request, connection: Any = None, *, serves_pages: bool = False) -> Response | None:
        """Return the refusal of a request, or None when it may come in.

        With `serves_pages` pages come from this port: their origin is what the request itself is addressed to.
        """
        if self._wants_certificate and not (connection and connection.transport.get_extra_info("peercert")):
            return respond(HTTPStatus.FORBIDDEN, "this hub lets in only clients with a certificate that it trusts\n")
        hosts = request.headers.get_all("Host")
        if len(hosts) != 1 or not self._is_allowed(host_of(hosts[0])[0]):
            return respond(HTTPStatus.FORBIDDEN, "this hub does not answer to that Host\n")
        allowed = {*self._origins, origin_of(f"{self._scheme}://{hosts[0]}")} if serves_pages else self._origins
        origins = [origin_of(origin) for origin in request.headers.get_all("Origin")]
        if any(origin is None or origin not in allowed for origin in origins):
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


def host_of(header: str) -> tuple[str, int | None]:
    """Return the name in a `Host` header, without brackets, and its port, if it names one; no name if it makes none."""
    found = _HOST.fullmatch(header.strip().lower())
    if found is None:
        return "", None
    port = None if found["port"] is None else int(found["port"])
    return ("", None) if port is not None and port > _PORT_MAX else (found["v6"] or found["name"], port)


def origin_of(header: str) -> tuple[str, str, int] | None:
    """Return the scheme, name and port of an origin, or None: browsers leave out the port that is the scheme's own."""
    scheme, separator, host = header.strip().lower().partition("://")
    name, port = host_of(host)
    if not separator or not name or scheme not in _DEFAULT_PORTS:
        return None
    return scheme, name, _DEFAULT_PORTS[scheme] if port is None else port


def is_this_machine(address: str) -> bool:
    """Return whether an address of a connection's end is one that only this machine has."""
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False


def is_passed_on(request: Request) -> bool:
    """Return whether a proxy says that it has passed a request on: it comes from somewhere else then."""
    names = {name.lower() for name in request.headers}
    return any(name in ("forwarded", "via", "x-real-ip") or name.startswith("x-forwarded-") for name in names)


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
