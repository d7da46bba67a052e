"""How a hub was asked to run."""

from __future__ import annotations

import ipaddress
import ssl
from pathlib import Path
from typing import Any

import msgspec

from fedctl import __version__
from fedctl.errors import UsageError
from fedctl.log import LogOptions


class HubServerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Where to listen and what to allow. Port 0 lets the system choose; `hub.json` says what it chose.

    `host_names` are further names under which clients reach the hub: the `Host` header must name the bound address,
    the machine, or one of them.
    """

    home: Path
    host: str = "127.0.0.1"
    port: int = 8443
    http_port: int = 8444
    max_agents: int = 1000
    tls_cert: Path | None = None
    tls_key: Path | None = None
    insecure: bool = False
    log: LogOptions = LogOptions()
    version: str = __version__
    host_names: tuple[str, ...] = ()


def is_loopback(host: str) -> bool:
    """Return whether an address to bind to is reachable from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check(options: HubServerOptions) -> None:
    """Check what must hold before anything is bound.

    Raises:
        UsageError: a port that is none; an address that others can reach, without TLS; half a TLS pair.
    """
    for name, port in (("--port", options.port), ("--http-port", options.http_port)):
        if not 0 <= port <= 65_535:  # noqa: PLR2004  a port has 16 bits
            raise UsageError(f"{name} {port} is not a port", hint="ports go from 1 to 65535")
    if options.port == options.http_port != 0:
        raise UsageError(f"--port and --http-port are both {options.port}", hint="give them different ports")
    if options.max_agents < 1:
        raise UsageError("--max-agents must be at least 1")
    if (options.tls_cert is None) != (options.tls_key is None):
        raise UsageError("TLS needs both --tls-cert and --tls-key")
    if not is_loopback(options.host) and options.tls_cert is None and not options.insecure:
        raise UsageError(
            f"{options.host} can be reached from other machines, and tokens would cross the network unencrypted",
            hint="give --tls-cert and --tls-key, bind to 127.0.0.1, or say --insecure",
        )


def tls_context(options: HubServerOptions) -> ssl.SSLContext | None:
    """Return what the server's sockets need for TLS, or None without it."""
    if options.tls_cert is None or options.tls_key is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(options.tls_cert, options.tls_key, password=_no_password)
    except (OSError, ssl.SSLError) as error:  # SSLError is an OSError; named for the reader
        reason = error.strerror or error.__class__.__name__
        raise UsageError(f"the TLS pair {options.tls_cert}, {options.tls_key} cannot be used: {reason}") from error
    return context


def _no_password(*_: Any) -> str:
    # OpenSSL would ask on the terminal; a hub that waits for a person is a hub that does not start.
    raise UsageError("the TLS key is encrypted", hint="give a key without a passphrase, mode 0600")
