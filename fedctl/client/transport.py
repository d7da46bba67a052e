"""Frames over a blocking connection: a plain Unix socket, or a WebSocket. Errors of the network become ours here."""

from __future__ import annotations

import _socket as socket  # `socket` makes enums of all its constants first: 1.6 ms of every command
import contextlib
import time
from typing import TYPE_CHECKING, Any, Protocol, cast

from fedctl.errors import Denied, FedctlError, Timeout, Unavailable
from fedctl.model.limits import FRAME_MAX_BYTES
from fedctl.wire.frames import FrameTooLargeError, Splitter, prefixed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fedctl.client.tls import Trust

PING_EVERY_S = 20.0
PONG_WITHIN_S = 10.0
"""A hub on the network is asked every so often whether it is there, and is gone if it does not answer."""
_READ_BYTES = 1 << 16
_AT_ONCE_BYTES = 4 << 10
"""What the system's buffer of a connection has room for when it says that there is some."""
_GOODBYE_S = 1.0
_HANG_UP_AFTER_S = 0.1
"""How long after the library's own time limits they are seen to."""
_OTHER_NAMES = (62, 64)
"""What OpenSSL calls X509_V_ERR_HOSTNAME_MISMATCH and _IP_ADDRESS_MISMATCH."""

_OUT_OF_DATE = (9, 10)
"""X509_V_ERR_CERT_NOT_YET_VALID and _HAS_EXPIRED."""


class Transport(Protocol):
    """Sends and receives whole frames."""

    def send(self, frame: bytes, timeout_s: float | None) -> None:
        """Send one frame; `Unavailable` when the connection is gone, `Timeout` when it does not take it."""
        ...

    def receive(self, timeout_s: float | None) -> bytes:
        """Return the next frame; `Timeout` when none came in time, `Unavailable` when the connection is gone."""
        ...

    def close(self) -> None:
        """Close the connection; twice is harmless."""
        ...


def open_transport(url: str, timeout_s: float | None, trust: Trust | None = None) -> Transport:
    """Connect to `unix:PATH`, `ws://...` or `wss://...`; `trust` is for the last."""
    if url.startswith("unix:"):
        return UnixTransport(url.removeprefix("unix:"), timeout_s)
    return WebSocketTransport(url, timeout_s, trust)


def nobody_answers(url: str, reason: object) -> Unavailable:
    """Return the error for an address where no hub is."""
    port = _assumed_port(url)
    if port is None:
        return Unavailable(f"no hub answers at {url}: {reason}", hint="start one with: fedctl hub start")
    return Unavailable(
        f"no hub answers at {url} (port {port}): {reason}",
        hint=f"name the hub's port, as in {url.partition(':')[0]}://HOST:8443",
    )


def _assumed_port(url: str) -> int | None:
    """Return the port that a WebSocket's address means without saying so."""
    if url.startswith("unix:"):
        return None
    from urllib.parse import urlsplit  # noqa: PLC0415  for errors only

    with contextlib.suppress(ValueError):
        parts = urlsplit(url)
        if parts.port is None:
            return 443 if parts.scheme == "wss" else 80
    return None


def connection_lost(reason: object) -> Unavailable:
    """Return the error for a connection that broke."""
    return Unavailable(f"the connection to the hub is gone: {reason}", hint="try again")


class UnixTransport:
    """Length-prefixed frames on a Unix socket. Imports neither asyncio nor websockets: start-up is a feature."""

    def __init__(self, path: str, timeout_s: float | None) -> None:
        """Connect."""
        self._splitter = Splitter(FRAME_MAX_BYTES)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout_s)
        try:
            self._socket.connect(path)
        except PermissionError as error:
            self._socket.close()
            raise Denied(f"the hub's socket {path} is another user's") from error
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            self._socket.close()
            raise nobody_answers(f"unix:{path}", getattr(error, "strerror", None) or error) from error

    def send(self, frame: bytes, timeout_s: float | None) -> None:
        """Send one frame."""
        self._socket.settimeout(timeout_s)
        try:
            self._socket.sendall(prefixed(frame))
        except TimeoutError:
            # Part of the frame may be out: nothing more can be said on this connection.
            self.close()
            raise Timeout("the hub did not take the request in time") from None
        except OSError as error:
            raise connection_lost(error.strerror or error) from error

    def receive(self, timeout_s: float | None) -> bytes:
        """Return the next frame."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        try:
            while (frame := self._splitter.next_frame()) is None:
                left_s = None if deadline is None else max(0.001, deadline - time.monotonic())
                self._socket.settimeout(left_s)
                data = self._socket.recv(_READ_BYTES)
                if not data:
                    raise connection_lost("the hub closed it")
                self._splitter.feed(data)
        except TimeoutError:
            raise Timeout("the hub did not answer in time") from None
        except FrameTooLargeError as error:
            raise Unavailable(error.message, hint="is this the socket of a fedctl hub?") from None
        except OSError as error:
            raise connection_lost(error.strerror or error) from error
        return frame

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


class WebSocketTransport:
    """Frames as messages of a WebSocket. A thread of the library answers the hub's pings meanwhile.

    The library's own time limits do not hold everywhere: a send has none, and over TLS its reader may be stuck where a
    session ticket came and nothing after it, and whoever closes waits for the reader. What would take too long is ended
    by hanging up below it.
    """

    def __init__(self, url: str, timeout_s: float | None, trust: Trust | None = None) -> None:
        """Connect."""
        from websockets.exceptions import ConnectionClosed  # noqa: PLC0415  80 ms that only a remote hub costs
        from websockets.sync.client import connect  # noqa: PLC0415  likewise

        from fedctl.client.tls import context_for  # noqa: PLC0415  likewise

        self._closed_error = ConnectionClosed
        self._below: socket.socket | None = None
        self._too_late = False
        tls = context_for(url, trust)
        try:
            with self._at_most(None if timeout_s is None else timeout_s + _HANG_UP_AFTER_S):
                self._connection = connect(
                    url,
                    ssl=tls,
                    compression=None,
                    proxy=None,
                    open_timeout=timeout_s,
                    close_timeout=_GOODBYE_S,
                    ping_interval=PING_EVERY_S,
                    ping_timeout=PONG_WITHIN_S,
                    max_size=FRAME_MAX_BYTES,
                    user_agent_header="fedctl",
                    logger=quiet_logger(),
                    legacy=True,
                    create_connection=cast("Any", self._made),
                )
        except Exception as error:
            self._let_go()
            raise handshake_error(url, TimeoutError() if self._too_late else error, trust) from error

    def _made(self, connected: Any, *arguments: Any, **options: Any) -> Any:
        """Return the library's connection on a socket, which can be hung up on whatever becomes of that."""
        from websockets.sync.client import ClientConnection  # noqa: PLC0415  likewise

        self._below = socket.socket(fileno=socket.dup(connected.fileno()))
        self._below.settimeout(None)  # a program's default would make the library's not wait: they share that
        if self._too_late:
            self._hang_up()
        return ClientConnection(connected, *arguments, **options)

    def send(self, frame: bytes, timeout_s: float | None) -> None:
        """Send one frame."""
        try:
            with self._at_most(None if self._takes_at_once(frame) else timeout_s):
                self._connection.send(frame, text=True)
        except (self._closed_error, OSError) as error:
            if self._too_late:
                self._too_late = False  # from now on the connection is just gone
                raise Timeout("the hub did not take the request in time") from None
            raise connection_lost(closing_reason(error)) from error

    def _takes_at_once(self, frame: bytes) -> bool:
        """Return whether there is room for a frame in the system's buffer: sending it will not wait."""
        import select  # noqa: PLC0415  only for who has a hub elsewhere

        watched = select.poll()
        with contextlib.suppress(ValueError):  # closed by now: sending says so
            watched.register(cast("socket.socket", self._below), select.POLLOUT)
        return len(frame) <= _AT_ONCE_BYTES and bool(watched.poll(0))

    @contextlib.contextmanager
    def _at_most(self, seconds: float | None) -> Iterator[None]:
        """Hang up when something takes longer."""
        from threading import Timer  # noqa: PLC0415  websockets loads it anyway

        timer = None if seconds is None else Timer(seconds, self._give_up)
        if timer is not None:
            timer.daemon = True
            with contextlib.suppress(RuntimeError):  # at an interpreter's end, where no thread can begin any more
                timer.start()
        try:
            yield
        finally:
            if timer is not None:
                timer.cancel()

    def _give_up(self) -> None:
        self._too_late = True
        self._hang_up()

    def _hang_up(self) -> None:
        """End the connection without a word; whoever waits for it hears so."""
        if self._below is not None:
            with contextlib.suppress(OSError):
                self._below.shutdown(socket.SHUT_RDWR)

    def _let_go(self) -> None:
        """Leave the connection to nobody."""
        self._hang_up()
        if self._below is not None:
            self._below.close()

    def receive(self, timeout_s: float | None) -> bytes:
        """Return the next frame."""
        try:
            data: bytes = self._connection.recv(timeout_s, decode=False)
        except TimeoutError:
            raise Timeout("the hub did not answer in time") from None
        except (self._closed_error, OSError) as error:
            raise connection_lost(closing_reason(error)) from error
        return data

    def close(self) -> None:
        """Close the connection, with a short handshake."""
        try:
            with self._at_most(_GOODBYE_S + _HANG_UP_AFTER_S):
                self._connection.close()
        finally:
            self._let_go()


def quiet_logger() -> Any:
    """Return a logger that says nothing: every error of a connection reaches the caller as an exception."""
    import logging  # noqa: PLC0415  websockets loads it anyway

    logger = logging.Logger("fedctl.websocket", level=logging.CRITICAL + 1)  # noqa: LOG001  outside the global tree
    logger.addHandler(logging.NullHandler())
    return logger


def closing_reason(error: BaseException) -> str:
    """Return why a WebSocket ended: the close frame's own words if there was one."""
    received = getattr(error, "rcvd", None)
    if received is not None:
        return f"the hub closed it ({received.code}{' ' + received.reason if received.reason else ''})"
    return str(error)


def handshake_error(url: str, error: Exception, trust: Trust | None = None) -> FedctlError:
    """Return our error for one of opening a WebSocket; raise what is none of the network's."""
    import ssl  # noqa: PLC0415  websockets loads it anyway

    from websockets.exceptions import InvalidStatus, InvalidURI, WebSocketException  # noqa: PLC0415  likewise

    untrusted = _untrusted(url, error, trust)
    if untrusted is not None:
        return untrusted
    if isinstance(error, InvalidURI):
        return nobody_answers(url, "not an address")
    if isinstance(error, InvalidStatus):
        return _refused(url, error.response.status_code, bytes(error.response.body or b""))
    # Cut off by who answered: heard when reading (a reset) or only when writing on (a broken pipe).
    cut_off = EOFError | ConnectionResetError | BrokenPipeError | ConnectionAbortedError
    if isinstance(error, WebSocketException | cut_off | ssl.SSLError):
        return _no_hub(url, error)
    if isinstance(error, TimeoutError):
        port = _assumed_port(url)
        where = url if port is None else f"{url} (port {port})"
        return Timeout(f"no hub answered at {where} in time", hint="check host and port")
    if isinstance(error, OSError):
        return nobody_answers(url, error.strerror or error)
    raise error


def _no_hub(url: str, error: Exception) -> Unavailable:
    import ssl  # noqa: PLC0415  websockets loads it anyway

    from websockets.exceptions import ConnectionClosed  # noqa: PLC0415  likewise

    reasons: list[BaseException] = [error]
    while (reason := reasons[-1].__cause__ or reasons[-1].__context__) is not None:
        reasons.append(reason)
    if any(isinstance(reason, EOFError | ConnectionError | ConnectionClosed | ssl.SSLEOFError) for reason in reasons):
        return Unavailable(
            f"what answers at {url} hung up without a word",
            hint=f"{_other_scheme(url)} It may have too many connections, not trust --client-cert, or be no fedctl hub",
        )
    return Unavailable(f"what answers at {url} is no fedctl hub", hint=f"{_other_scheme(url)} Check host and port")


def _other_scheme(url: str) -> str:
    return "is it ws://?" if url.startswith("wss:") else "is it wss://?"


def _untrusted(url: str, error: BaseException | None, trust: Trust | None) -> Denied | None:
    """Return the error for a certificate that we do not trust, if that is at the bottom of this one."""
    import ssl  # noqa: PLC0415  websockets loads it anyway

    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return Denied(
                f"the certificate at {url} is not trusted: {error.verify_message}",
                hint=_distrust_hint(error.verify_code, trust.ca if trust is not None else None),
            )
        error = error.__cause__ or error.__context__
    return None


def _distrust_hint(code: int, authority: Path | None) -> str:
    if code in _OTHER_NAMES:
        return "the certificate is for other names; on the hub's machine: fedctl hub cert --renew --name HOST"
    if code in _OUT_OF_DATE:
        return "make a new one on the hub's machine: fedctl hub cert --renew; or mend the clock"
    if authority is not None:
        return f"--tls-ca {authority}: it is not the authority of this hub's certificate"
    return "name its authority with --tls-ca FILE"


def _refused(url: str, status: int, body: bytes) -> FedctlError:
    said = body[:200].decode("utf-8", "replace").strip()
    if status in (401, 403):
        hint = "give --client-cert and --client-key" if "certificate" in said else None
        return Denied(f"the hub at {url} refused the connection: {said}", hint=hint)
    if status == 503:  # noqa: PLR2004  Service Unavailable
        return Unavailable(f"the hub at {url} takes no connection now: {said}", hint="try again")
    return Unavailable(f"what answers at {url} is no fedctl hub (HTTP {status})", hint="check host and port")
