"""Frames over a blocking connection: a plain Unix socket, or a WebSocket. Errors of the network become ours here."""

from __future__ import annotations

import _socket as socket  # `socket` makes enums of all its constants first: 1.6 ms of every command
import contextlib
import time
from typing import TYPE_CHECKING, Any, Protocol

from fedctl.errors import Denied, FedctlError, Timeout, Unavailable
from fedctl.model.limits import FRAME_MAX_BYTES
from fedctl.wire.frames import FrameTooLargeError, Splitter, prefixed

if TYPE_CHECKING:
    from pathlib import Path

    from fedctl.client.tls import Trust

_READ_BYTES = 1 << 16
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
    """Frames as messages of a WebSocket. A thread of the library answers the hub's pings meanwhile."""

    def __init__(self, url: str, timeout_s: float | None, trust: Trust | None = None) -> None:
        """Connect."""
        from websockets.exceptions import ConnectionClosed  # noqa: PLC0415  80 ms that only a remote hub costs
        from websockets.sync.client import connect  # noqa: PLC0415  likewise

        from fedctl.client.tls import context_for  # noqa: PLC0415  likewise

        self._closed_error = ConnectionClosed
        tls = context_for(url, trust)
        try:
            self._connection = connect(
                url,
                ssl=tls,
                compression=None,
                proxy=None,
                open_timeout=timeout_s,
                close_timeout=1,
                max_size=FRAME_MAX_BYTES,
                user_agent_header="fedctl",
                logger=quiet_logger(),
                legacy=True,
            )
        except Exception as error:
            raise handshake_error(url, error, trust) from error

    def send(self, frame: bytes, timeout_s: float | None) -> None:  # noqa: ARG002  the library's send has none
        """Send one frame."""
        try:
            self._connection.send(frame, text=True)
        except (self._closed_error, OSError) as error:
            raise connection_lost(closing_reason(error)) from error

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
        self._connection.close()


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
