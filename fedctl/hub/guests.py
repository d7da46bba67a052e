"""Who is connected over the network, counted where connections are accepted: before TLS, before HTTP, before a token.

Whoever has not said who it is yet is a stranger. Strangers of one address may be so many at once, and so may all
together; when there are too many, one that has been silent for a second makes room, and when none has, the newcomer
is refused. An honest peer says who it is within milliseconds, so a flood of silent connections keeps nobody out.
"""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

STRANGERS_MAX = 2048
"""Strangers of all addresses together; at 33 kB each, which is what one may send, that is 66 MB."""
SILENT_S = 1.0
"""How long a stranger has to have been here before it is sent away for another."""
_SITE_BYTES = 8
"""Of an IPv6 address: what one customer has is a /64 at least."""


class Guest(socket.socket):
    """An accepted connection that says when it is closed."""

    guests: Guests | None = None
    site = ""

    def close(self) -> None:
        """Close it, and be counted no more."""
        if self.guests is not None:
            self.guests.left(self)
            self.guests = None
        super().close()


class Guests:
    """Counts connections and strangers. On the event loop only."""

    def __init__(
        self,
        *,
        most: int,
        strangers_each: int,
        strangers_most: int = STRANGERS_MAX,
        now_s: Callable[[], float],
        refused: Callable[[str, str], None],
    ) -> None:
        """Begin with nobody.

        `most` connections in all, `strangers_each` strangers of one address, `strangers_most` of all. `refused`
        hears why a connection was not let in or was sent away, and the address it came from.
        """
        self._most = most
        self._strangers_each = strangers_each
        self._strangers_most = strangers_most
        self._now_s = now_s
        self._refused = refused
        self._present: set[Guest] = set()
        self._strangers: dict[str, dict[Guest, float]] = {}
        self._unknown: dict[int, Guest] = {}
        """Strangers by the number of their file, which no two open connections share. Addresses may be shared: there is
        more than one listener, and one that was reset comes again before its end is noticed."""

    def __len__(self) -> int:
        """Return how many connections there are."""
        return len(self._present)

    @property
    def strangers(self) -> int:
        """How many have not said who they are."""
        return len(self._unknown)

    def let_in(self, guest: Guest, address: Any) -> bool:
        """Take a new connection in, or return False when there is no room for it."""
        site = _site(address[0])
        mine = self._strangers.get(site, {})
        if len(self._present) >= self._most:
            return self._no_room(f"there are {self._most} connections", site)
        if len(mine) >= self._strangers_each and not self._make_room(site):
            return self._no_room(f"{self._strangers_each} of its connections have not said who they are", site)
        if self.strangers >= self._strangers_most and not self._make_room(self._most_crowded()):
            return self._no_room(f"{self._strangers_most} connections have not said who they are", site)
        guest.guests, guest.site = self, site
        self._present.add(guest)
        self._strangers.setdefault(site, {})[guest] = self._now_s()
        self._unknown[guest.fileno()] = guest
        return True

    def known(self, number: int) -> None:
        """Note that the peer of the connection with that file number has said who it is."""
        guest = self._unknown.get(number)
        if guest is not None:
            self._forget(guest)

    def left(self, guest: Guest) -> None:
        """Count a connection that is closed no more."""
        self._present.discard(guest)
        self._forget(guest)

    def dismiss(self) -> None:
        """Hang up on all strangers: the hub is stopping, and whoever says nothing would be waited for."""
        for guest in list(self._unknown.values()):
            with contextlib.suppress(OSError):
                guest.shutdown(socket.SHUT_RDWR)

    def _forget(self, guest: Guest) -> None:
        others = self._strangers.get(guest.site, {})
        if others.pop(guest, None) is None:
            return
        del self._unknown[guest.fileno()]
        if not others:
            del self._strangers[guest.site]

    def _make_room(self, site: str) -> bool:
        """Send the oldest stranger of an address away, if it has been silent."""
        guest, since_s = next(iter(self._strangers[site].items()))
        if self._now_s() - since_s < SILENT_S:
            return False
        self._forget(guest)
        with contextlib.suppress(OSError):
            guest.shutdown(socket.SHUT_RDWR)
        self._refused("it did not say who it is, and others wait", site)
        return True

    def _most_crowded(self) -> str:
        return max(self._strangers, key=lambda site: len(self._strangers[site]))

    def _no_room(self, why: str, site: str) -> bool:
        self._refused(why, site)
        return False


class Listener(socket.socket):
    """A listening socket that counts whom it lets in."""

    guests: Guests

    def accept(self) -> tuple[socket.socket, Any]:
        """Return the next connection that there is room for.

        Raises:
            ConnectionAbortedError: there was none for this one, and it is closed. The event loop goes on to other
                things then, and comes back.
        """
        connection, address = super().accept()
        guest = Guest(self.family, self.type, self.proto, fileno=connection.detach())
        if not self.guests.let_in(guest, address):
            guest.close()
            raise ConnectionAbortedError
        return guest, address


def counting(listener: socket.socket, guests: Guests) -> Listener:
    """Return the listening socket as one that counts."""
    counted = Listener(listener.family, listener.type, listener.proto, fileno=listener.detach())
    counted.guests = guests
    return counted


def _site(host: str) -> str:
    """Return what counts as one address: an IPv4 address, or the first half of an IPv6 one."""
    if ":" not in host:
        return host
    import ipaddress  # noqa: PLC0415  only where IPv6 is spoken

    address = ipaddress.IPv6Address(host.partition("%")[0])
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return address.packed[:_SITE_BYTES].hex(":", 2)
