"""Certificates for a hub of one's own: an authority, the hub's pair and a client's, signed by it.

X.509 v3 as RFC 5280 has it, with the key identifiers that Python 3.13 insists on; keys are P-256.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import os
from typing import TYPE_CHECKING, Any

import msgspec

from fedctl.errors import Conflict, UsageError, from_os

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_HOUR_MS = 3_600_000
NAME_MAX_CHARACTERS = 253


class Certificates(msgspec.Struct, frozen=True, kw_only=True):
    """Where everything is. `names` are what the hub's certificate is good for; `expires_at_ms` is the end of all."""

    ca: str
    ca_key: str
    cert: str
    key: str
    client_cert: str
    client_key: str
    names: tuple[str, ...]
    expires_at_ms: int


def make(folder: Path, names: Sequence[str], *, now_ms: int, life_ms: int) -> Certificates:
    """Make an authority and two pairs signed by it; all files are new, and for the owner's eyes only.

    Args:
        folder: Where they go; made with mode 0700 if it is not there.
        names: What the hub is called: host names and addresses.
        now_ms: The present time, ms since 1970.
        life_ms: How long they hold.

    Raises:
        Conflict: One of the files is there already; nothing is changed then.
        UsageError: A name that is none, or a life of nothing.
        Denied, DiskFull: They cannot be written.
    """
    if life_ms <= 0:
        raise UsageError("a certificate must hold longer than nothing")
    begins, ends = _instant(now_ms - _HOUR_MS), _instant(now_ms + life_ms)  # an hour for clocks that are behind
    ca_key, hub_key, client_key = _new_key(), _new_key(), _new_key()
    ca = _certificate("fedctl authority", ca_key, None, ca_key, begins, ends, authority=True)
    hub = _certificate("fedctl hub", hub_key, ca, ca_key, begins, ends, names=names)
    client = _certificate("fedctl client", client_key, ca, ca_key, begins, ends)
    contents = {
        "ca.pem": _pem(ca), "ca.key": _pem(ca_key), "hub.pem": _pem(hub), "hub.key": _pem(hub_key),
        "client.pem": _pem(client), "client.key": _pem(client_key),
    }  # fmt: skip
    _write(folder, contents)
    paths = [str(folder / name) for name in contents]
    return Certificates(
        ca=paths[0],
        ca_key=paths[1],
        cert=paths[2],
        key=paths[3],
        client_cert=paths[4],
        client_key=paths[5],
        names=tuple(names),
        expires_at_ms=now_ms + life_ms,
    )


def _write(folder: Path, contents: dict[str, bytes]) -> None:
    """Write all or none; what is there is never written over."""
    written: list[Path] = []
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, content in contents.items():
            path = folder / name
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            written.append(path)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
    except OSError as error:
        for path in written:
            with contextlib.suppress(OSError):
                path.unlink()
        if isinstance(error, NotADirectoryError) or (folder.exists() and not folder.is_dir()):
            raise UsageError(f"{folder} is no folder", hint="choose another with --out") from error
        if isinstance(error, FileExistsError):
            raise Conflict(
                f"{error.filename} is there already, and is not written over",
                hint="choose another folder with --out, or move the old ones aside",
            ) from error
        raise from_os(error, f"no certificates can be written to {folder}") from error


def _certificate(  # noqa: PLR0913  the fields of a certificate
    subject: str, key: Any, issuer: Any, issuer_key: Any, begins: dt.datetime, ends: dt.datetime, *,
    authority: bool = False, names: Sequence[str] = (),
) -> Any:  # fmt: skip
    """Return a certificate for `key`, signed by `issuer` (None: by itself). With `names` it is a server's."""
    from cryptography import x509  # noqa: PLC0415  40 ms that only this command costs
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415  likewise
    from cryptography.x509.oid import ExtendedKeyUsageOID  # noqa: PLC0415  likewise

    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)])
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only",
         "decipher_only"), False,
    )  # fmt: skip
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name if issuer is None else issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=0 if authority else None), critical=True)
        .add_extension(
            x509.KeyUsage(digital_signature=not authority, key_cert_sign=authority, crl_sign=authority, **usage),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if not authority:
        purpose = ExtendedKeyUsageOID.SERVER_AUTH if names else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    if names:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([_general_name(one) for one in names]), critical=False
        )
    return builder.sign(issuer_key, hashes.SHA256())


def _general_name(name: str) -> Any:
    from cryptography import x509  # noqa: PLC0415  likewise

    try:
        return x509.IPAddress(ipaddress.ip_address(name.strip("[]")))
    except ValueError:
        pass
    if not name.isascii() or not name or len(name) > NAME_MAX_CHARACTERS or set(name) & set(" /:@\0"):
        raise UsageError(f"{name[:NAME_MAX_CHARACTERS]!r} is neither a host name nor an address")
    return x509.DNSName(name)


def _new_key() -> Any:
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415  likewise

    return ec.generate_private_key(ec.SECP256R1())


def _pem(thing: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415  likewise
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    if hasattr(thing, "private_bytes"):
        pem: bytes = thing.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return pem
    certificate: bytes = thing.public_bytes(Encoding.PEM)
    return certificate


def _instant(ms: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(ms / 1000, dt.UTC)
