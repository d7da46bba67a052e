"""How a hub was asked to run."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import resource
import ssl
from pathlib import Path
from typing import Any

import msgspec

from fedctl import __version__
from fedctl.errors import UsageError

FILES_KEPT_BACK = 256
"""Of the files that a process may have open: the store's, the index's, the listeners'."""
_ORIGIN = re.compile(r"https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")


class HubServerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Where to listen and what to allow. Port 0 lets the system choose; `hub.json` says what it chose.

    `host_names` are further names under which clients reach the hub: the `Host` header must name the bound address,
    the machine, or one of them; `origins` are other sites whose pages may come in. `max_connections` is over the
    network in all; `max_strangers` is of one address, of those that have not said who they are yet. Every
    `retention_every_s` the tenants' policies are carried out; None: never by itself.
    """

    home: Path
    host: str = "127.0.0.1"
    port: int = 8443
    http_port: int = 8444
    max_agents: int = 1000
    max_connections: int = 10_000
    max_strangers: int = 1024
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    insecure: bool = False
    version: str = __version__
    host_names: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    retention_every_s: float | None = None


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
    _check_numbers(options)
    for origin in options.origins:
        if _ORIGIN.fullmatch(origin) is None:
            raise UsageError(f"{origin[:200]!r} is no origin", hint="write https://HOST or https://HOST:PORT")
    if options.tls_client_ca is not None and options.tls_cert is None:
        raise UsageError("--tls-client-ca needs --tls-cert and --tls-key", hint="make them: fedctl hub cert")
    if (options.tls_cert is None) != (options.tls_key is None):
        raise UsageError("TLS needs both --tls-cert and --tls-key")
    if not is_loopback(options.host) and options.tls_cert is None and not options.insecure:
        raise UsageError(
            f"{options.host} can be reached from other machines, and tokens would cross the network unencrypted",
            hint="give --tls-cert and --tls-key (fedctl hub cert makes a pair), bind to 127.0.0.1, or say --insecure",
        )


def _check_numbers(options: HubServerOptions) -> None:
    for name, port in (("--port", options.port), ("--http-port", options.http_port)):
        if not 0 <= port <= 65_535:  # noqa: PLR2004  a port has 16 bits
            raise UsageError(f"{name} {port} is not a port", hint="ports go from 1 to 65535")
    if options.port == options.http_port != 0:
        raise UsageError(f"--port and --http-port are both {options.port}", hint="give them different ports")
    for name in ("max_agents", "max_connections", "max_strangers"):
        if getattr(options, name) < 1:
            raise UsageError(f"--{name.replace('_', '-')} must be at least 1")


def connections_max(options: HubServerOptions) -> int:
    """Return how many connections there may be: what was asked for, as far as the system gives files for it.

    A process that runs out of files can neither accept nor open its own: some are kept back.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = options.max_connections + FILES_KEPT_BACK
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(OSError, ValueError):  # macOS has a limit of its own besides
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return options.max_connections if soft == resource.RLIM_INFINITY else max(1, min(wanted, soft) - FILES_KEPT_BACK)


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
    if options.tls_client_ca is not None:
        # One that is shown must be good; that one is shown the gate sees to, in words: asyncio drops the alert that
        # TLS has for it, and the client would be hung up on without a reason.
        context.verify_mode = ssl.CERT_OPTIONAL
        try:
            context.load_verify_locations(options.tls_client_ca)
        except (OSError, ssl.SSLError) as error:
            reason = error.strerror or error.__class__.__name__
            raise UsageError(f"--tls-client-ca {options.tls_client_ca} cannot be used: {reason}") from error
    return context


def _no_password(*_: Any) -> str:
    # OpenSSL would ask on the terminal; a hub that waits for a person is a hub that does not start.
    raise UsageError("the TLS key is encrypted", hint="give a key without a passphrase, mode 0600")
