"""Whom a client trusts over TLS, and how it shows who it is itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

from fedctl.errors import Denied, UsageError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from pathlib import Path

T = TypeVar("T")

_CERTIFICATE = b"CERTIFICATE-----"
_KEY = b"PRIVATE KEY-----"


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
        from pathlib import Path  # noqa: PLC0415  likewise

        _show(context, Path(trust.cert), None if trust.key is None else Path(trust.key))
    return context


def _show(context: ssl.SSLContext, cert: Path, key: Path | None) -> None:
    """Let a context show our own certificate; say which of the two files it is where that cannot be done."""
    flag, path = "--client-cert", cert
    if key is not None and cert.exists() and not key.exists():
        flag, path = "--client-key", key
    elif _holds(cert, _CERTIFICATE) is not False:
        if key is None and _holds(cert, _KEY) is False:
            raise UsageError(f"--client-key is missing: {cert} holds no key", hint="give --client-key FILE too")
        if key is not None and _holds(key, _KEY) is False:
            raise UsageError(f"--client-key: {key} cannot be used: it is no PEM key")
    _read(flag, path, lambda: context.load_cert_chain(cert, key, password=_no_password))


def _holds(path: Path, what: bytes) -> bool | None:
    """Return whether a PEM file has a part of that kind; None where it cannot be read twice, or not at all."""
    try:
        return what in path.read_bytes() if path.is_file() else None
    except OSError:
        return None


def _read(flag: str, path: Path | None, read: Callable[[], T]) -> T:
    try:
        return read()
    except PermissionError as error:
        raise Denied(f"{flag}: {path} may not be read") from error
    except OSError as error:  # ssl.SSLError is one
        raise UsageError(f"{flag}: {path} cannot be used: {_reason(error)}") from error


def _reason(error: OSError) -> str:
    import ssl  # noqa: PLC0415  only where there is TLS

    if not isinstance(error, ssl.SSLError):
        return error.strerror or type(error).__name__
    if error.reason == "KEY_VALUES_MISMATCH":
        return "its key is another one than that of --client-key"
    if error.reason in (None, "NO_CERTIFICATE_OR_CRL_FOUND", "NO_START_LINE", "PEM_LIB"):
        return "it is no PEM certificate"
    return error.strerror or error.reason


def _no_password() -> str:
    # OpenSSL would ask on the terminal.
    raise UsageError("the client's key is encrypted", hint="give a key without a passphrase, mode 0600")
