"""Whom a client trusts over TLS, and how it shows who it is itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

from fedctl.errors import Denied, UsageError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from pathlib import Path

T = TypeVar("T")


class Trust(NamedTuple):
    """PEM files. `ca`: the authorities to trust, None those of the system; `cert` and `key`: the client's own pair.

    `key` None: it is in the file of the certificate.
    """

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None


def context_for(url: str, trust: Trust | None) -> ssl.SSLContext | None:
    """Return what a connection to `url` needs; None where the library's own is right, or there is no TLS.

    Raises:
        UsageError: a file that holds no certificate, or no key to it.
        Denied: a file may not be read.
    """
    if trust is None or trust == Trust() or not url.startswith("wss:"):
        return None
    import ssl  # noqa: PLC0415  only where there is TLS

    context = _read("--tls-ca", trust.ca, lambda: ssl.create_default_context(cafile=trust.ca))
    if trust.cert is not None:
        cert, key = trust.cert, trust.key
        _read("--client-cert", cert, lambda: context.load_cert_chain(cert, key, password=_no_password))
    return context


def _read(flag: str, path: Path | None, read: Callable[[], T]) -> T:
    try:
        return read()
    except PermissionError as error:
        raise Denied(f"{flag}: {path} may not be read") from error
    except OSError as error:  # ssl.SSLError is one
        raise UsageError(f"{flag}: {path} cannot be used: {error.strerror or type(error).__name__}") from error


def _no_password() -> str:
    # OpenSSL would ask on the terminal.
    raise UsageError("the client's key is encrypted", hint="give a key without a passphrase, mode 0600")
