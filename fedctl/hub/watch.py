"""The monitor page: its files, and when whoever it is open for is taken for the owner without a token."""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import os
import secrets
import sys
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedctl.hub.gate import host_of, is_passed_on, is_this_machine, origin_of, respond

if TYPE_CHECKING:
    from collections.abc import Callable

    from websockets.http11 import Request, Response

SOCKET_PATH = "/ws"
FRAME_MAX_BYTES = 64 << 10
"""What a page may send at once: it looks and searches, and stores nothing."""

_FILES = Path(__file__).with_name("monitor")
_SCRIPT = "text/javascript; charset=utf-8"
_SERVED = {
    "/": ("monitor.html", "text/html; charset=utf-8"),
    "/monitor.css": ("monitor.css", "text/css; charset=utf-8"),
    "/monitor.svg": ("monitor.svg", "image/svg+xml"),
    "/monitor.js": ("monitor.js", _SCRIPT),
    "/session.js": ("session.js", _SCRIPT),
    "/charts.js": ("charts.js", _SCRIPT),
    "/words.js": ("words.js", _SCRIPT),
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@functools.cache
def _content(path: str) -> tuple[bytes, str]:
    name, content_type = _SERVED[path]
    return (_FILES / name).read_bytes(), content_type


def page(path: str) -> Response | None:
    """Return one of the page's files, or None: none of them holds anything that not everybody may know."""
    if path not in _SERVED:
        return None
    response = respond(HTTPStatus.OK, *_content(path))
    response.headers.update(_HEADERS)
    return response


def chosen_address() -> str:
    """Return one of the 16 million loopback addresses (RFC 1122, 3.2.1.3), by chance; not of 127.0.0.x."""
    return str(ipaddress.IPv4Address((127 << 24) + 256 + secrets.randbelow((1 << 24) - 512)))


class Watch:
    """Tells the owner's browser from everybody else's.

    Who opens the page on the hub's own machine, as the user that the hub runs as, could as well read the home: there
    no token is asked for. Everything must say so: the address, the kernel, the page's origin and that nothing stands
    between. Whatever cannot be known is not so.

    Without TLS an origin is whoever has its port, and what was once served there stays: another user that listened
    while the hub was stopped may have left a service worker in the owner's browser, which from then on answers in the
    hub's place. So the owner's page is at an address of its own, chosen by chance at each start, where nobody can have
    listened before; the known address only leads there, and its pages need a token. Over TLS nobody else has the key.
    """

    def __init__(
        self, scheme: str, uid_of: Callable[[tuple[str, int], tuple[str, int]], int | None], owners: str | None = None
    ) -> None:
        """Keep the scheme that pages are served under, `http` or `https`, and what tells whose a connection is.

        `owners` is the address chosen for the owner's page; without one nobody is the owner over HTTP without a token.
        """
        self._scheme = scheme
        self._uid_of = uid_of
        self._owners = owners

    async def elsewhere(self, connection: Any, request: Request) -> str | None:
        """Return the URL where the page is to be opened instead, if there is one.

        For the owner that is its own address. For others who say `localhost` it is the address that this stands for:
        two have that name, and on the one that the hub does not listen at another user may. What comes through a
        tunnel is left alone, if its end has another port than the hub's.
        """
        address, port = connection.local_address[:2]
        host = host_of(request.headers["Host"])[0]
        if self._scheme != "http" or not is_this_machine(address) or host == self._owners:
            return None
        if _origin(request) != ("http", host, port):
            return None
        is_here = host == "localhost" or is_this_machine(host)
        if is_here and self._owners is not None and await self._is_users(connection, request):
            return f"http://{self._owners}:{port}/"
        return f"http://{_in_url(address)}:{port}/" if host == "localhost" else None

    async def is_owners(self, connection: Any, request: Request) -> bool:
        """Return whether a connection is certainly of a page that this hub served to the user that it runs as."""
        address, port = connection.local_address[:2]
        names = {address, "localhost"} if self._scheme == "https" else {self._owners} & {address}
        origins = request.headers.get_all("Origin")
        if len(origins) != 1 or origins[0] != origins[0].strip().lower():
            return False
        own = {(self._scheme, name, port) for name in names}
        if origin_of(origins[0]) not in own or origin_of(origins[0]) != _origin(request, self._scheme):
            return False
        return await self._is_users(connection, request)

    async def _is_users(self, connection: Any, request: Request) -> bool:
        """Return whether a connection comes straight from a process of the user that the hub runs as."""
        peer, ours = connection.remote_address[:2], connection.local_address[:2]
        if is_passed_on(request) or not (is_this_machine(peer[0]) and is_this_machine(ours[0])):
            return False
        return await asyncio.to_thread(self._uid_of, peer, ours) == os.geteuid()


def _origin(request: Request, scheme: str = "http") -> tuple[str, str, int] | None:
    """Return the origin that a request is addressed to; the gate has seen to it that there is one `Host`."""
    return origin_of(f"{scheme}://{request.headers['Host']}")


def socket_uid(peer: tuple[str, int], ours: tuple[str, int], net: Path = Path("/proc/net")) -> int | None:
    """Return the user that made the socket at the other end of a TCP connection within this machine, or None.

    `peer` and `ours` are the (address, port) of both ends. Linux tells it in /proc/net/tcp and tcp6
    (proc_pid_net(5)): what is not an established connection of a process, and what belongs to a user that has no
    number here, is nobody's. Other systems do not tell.
    """
    for name, mapped in (("tcp", False), ("tcp6", True)):
        try:
            ends = f" {_in_hex(peer, mapped=mapped)} {_in_hex(ours, mapped=mapped)} {_ESTABLISHED} "
            lines = (net / name).read_text("ascii").splitlines()
        except (OSError, ValueError):
            continue
        for line in lines:
            if ends in line:
                fields = line.split()
                uid, inode = int(fields[7]), int(fields[9])
                return None if inode == 0 or uid == _overflow_uid() else uid
    return None


_ESTABLISHED = "01"
_WORD_BYTES = 4


def _in_hex(end: tuple[str, int], *, mapped: bool) -> str:
    """Return an address as the kernel writes it: words of 32 bits in the machine's order; `ValueError` if it is none.

    A socket for both families has IPv4 addresses `mapped` into IPv6.
    """
    address = ipaddress.ip_address(end[0].partition("%")[0])
    if mapped and address.version == 4:  # noqa: PLR2004  the protocol's name
        address = ipaddress.ip_address(f"::ffff:{address}")
    elif mapped != (address.version == 6):  # noqa: PLR2004  likewise
        raise ValueError(end[0])
    packed = address.packed
    words = (packed[at : at + _WORD_BYTES] for at in range(0, len(packed), _WORD_BYTES))
    return "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words) + f":{end[1]:04X}"


def _overflow_uid() -> int:
    try:
        return int(Path("/proc/sys/kernel/overflowuid").read_text("ascii"))
    except (OSError, ValueError):
        return 65534


def _in_url(address: str) -> str:
    return f"[{address}]" if ":" in address else address
