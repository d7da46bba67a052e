"""Certificates for a hub of one's own: an authority, the hub's pair and a client's, signed by it.

X.509 v3 as RFC 5280 has it, with the key identifiers that Python 3.13 insists on; keys are P-256.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
from typing import TYPE_CHECKING, Any

import msgspec

from fedctl import disk
from fedctl.errors import Conflict, NotFound, UsageError, from_os

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

_HOUR_MS = 3_600_000
_AUTHORITY_TIMES = 10
"""How many times as long as its pairs an authority holds: they are made anew while clients go on trusting it."""
_END_MS = 253_402_300_799_000
"""The last second of the year 9999, and of X.509."""
NAME_MAX_CHARACTERS = 253


class Certificates(msgspec.Struct, frozen=True, kw_only=True):
    """Where everything is. `names` are what the hub's certificate is good for; `expires_at_ms` is the pairs' end."""

    ca: str
    ca_key: str
    cert: str
    key: str
    client_cert: str
    client_key: str
    names: tuple[str, ...]
    expires_at_ms: int
    ca_expires_at_ms: int


def make(folder: Path, names: Sequence[str], *, now_ms: int, life_ms: int) -> Certificates:
    """Make an authority and two pairs signed by it; all files are new, and for the owner's eyes only.

    Args:
        folder: Where they go; made with mode 0700 if it is not there.
        names: What the hub is called: host names and addresses.
        now_ms: The present time, ms since 1970.
        life_ms: How long the pairs hold; the authority does ten times as long.

    Raises:
        Conflict: One of the files is there already; nothing is changed then.
        UsageError: A name that is none, or a life of nothing.
        Denied, DiskFull: They cannot be written.
    """
    ends_ms = _end_of(life_ms, now_ms, _END_MS)
    ca_ends_ms = _end_of(_AUTHORITY_TIMES * life_ms, now_ms, _END_MS)
    ca_key = _new_key()
    ca = _certificate(
        "fedctl authority", ca_key, None, ca_key, _instant(now_ms - _HOUR_MS), _instant(ca_ends_ms), authority=True
    )
    authority = {"ca.pem": _pem(ca), "ca.key": _pem(ca_key)}
    _write(folder, authority | _pairs(ca, ca_key, names, now_ms, ends_ms))
    return _made(folder, names, ends_ms, ca_ends_ms)


def renew(folder: Path, names: Sequence[str], *, here: Sequence[str], now_ms: int, life_ms: int) -> Certificates:
    """Make both pairs anew, signed by the authority that is there; who trusts that one trusts them.

    All files are written beside the old ones and then take their places. Killed in between, a key and its certificate
    may not belong together: the same again mends that.

    Args:
        folder: Where the authority and the old pairs are.
        names: What the hub is called besides what its old certificate says.
        here: What it is called where it has no certificate.
        now_ms: The present time, ms since 1970.
        life_ms: How long they hold, but no longer than the authority.

    Raises:
        NotFound: There is no authority, or not its key.
        Conflict: The authority has ended, or its key is another's.
        UsageError: A name that is none, a life of nothing, or a file that is not what its name says.
        Denied, DiskFull: The files cannot be read or written.
    """
    from cryptography import x509  # noqa: PLC0415  40 ms that only this command costs
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415  likewise

    ca = _read(folder / "ca.pem", x509.load_pem_x509_certificate)
    ca_key = _read(folder / "ca.key", lambda content: load_pem_private_key(content, None))
    if ca_key.public_key() != ca.public_key():
        raise Conflict(f"{folder / 'ca.key'} is not the key of {folder / 'ca.pem'}", hint=_NEW_AUTHORITY)
    ca_ends_ms = round(ca.not_valid_after_utc.timestamp() * 1000)
    if ca_ends_ms <= now_ms:
        raise Conflict(f"the authority {folder / 'ca.pem'} ended on {ca.not_valid_after_utc:%F}", hint=_NEW_AUTHORITY)
    ends_ms = _end_of(life_ms, now_ms, ca_ends_ms)
    old = folder / "hub.pem"
    before = _names_of(_read(old, x509.load_pem_x509_certificate)) if old.exists() else []
    all_names = tuple(dict.fromkeys([*(before or here), *names]))
    pairs = _pairs(ca, ca_key, all_names, now_ms, ends_ms)
    try:
        with contextlib.ExitStack() as stack:
            for name, content in pairs.items():
                file = stack.enter_context(disk.new_content(folder / name))
                file.write(content)
                file.flush()  # a full disk is met before any of them takes its place
    except OSError as error:
        raise from_os(error, f"no certificates can be written to {folder}") from error
    return _made(folder, all_names, ends_ms, ca_ends_ms)


_NEW_AUTHORITY = "make a new one: fedctl hub cert --out ANOTHER-DIR; its ca.pem goes to all clients"


def _read(path: Path, parse: Callable[[bytes], Any]) -> Any:
    """Return what a PEM file has."""
    try:
        return parse(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        hint = f"bring it back from where it is kept, or {_NEW_AUTHORITY}"
        raise NotFound(f"there is no {path}: nothing can be renewed without the authority", hint=hint) from error
    except OSError as error:
        raise from_os(error, f"{path} cannot be read") from error
    except (ValueError, TypeError) as error:  # TypeError: a key with a passphrase
        kind = "private key without a passphrase" if path.suffix == ".key" else "certificate"
        raise UsageError(f"{path} is no {kind} in PEM", hint="put the right file there") from error


def _names_of(certificate: Any) -> list[str]:
    """Return what a hub's certificate is good for."""
    from cryptography import x509  # noqa: PLC0415  likewise

    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [str(one.value) for one in found if isinstance(one, (x509.DNSName, x509.IPAddress))]


def _end_of(life_ms: int, now_ms: int, most_ms: int) -> int:
    """Return when something ends that holds so long from now, ms since 1970."""
    if life_ms <= 0:
        raise UsageError("a certificate must hold longer than nothing")
    return min((now_ms + life_ms) // 1000 * 1000, most_ms)  # X.509 knows whole seconds


def _pairs(ca: Any, ca_key: Any, names: Sequence[str], now_ms: int, ends_ms: int) -> dict[str, bytes]:
    """Return the files of a hub's pair and of a client's, by name."""
    begins, ends = _instant(now_ms - _HOUR_MS), _instant(ends_ms)  # an hour for clocks that are behind
    hub_key, client_key = _new_key(), _new_key()
    hub = _certificate("fedctl hub", hub_key, ca, ca_key, begins, ends, names=names)
    client = _certificate("fedctl client", client_key, ca, ca_key, begins, ends)
    return {
        "hub.pem": _pem(hub), "hub.key": _pem(hub_key), "client.pem": _pem(client), "client.key": _pem(client_key),
    }  # fmt: skip


def _made(folder: Path, names: Sequence[str], ends_ms: int, ca_ends_ms: int) -> Certificates:
    return Certificates(
        ca=str(folder / "ca.pem"),
        ca_key=str(folder / "ca.key"),
        cert=str(folder / "hub.pem"),
        key=str(folder / "hub.key"),
        client_cert=str(folder / "client.pem"),
        client_key=str(folder / "client.key"),
        names=tuple(names),
        expires_at_ms=ends_ms,
        ca_expires_at_ms=ca_ends_ms,
    )


def _write(folder: Path, contents: dict[str, bytes]) -> None:
    """Write all or none; what is there is never written over."""
    written: list[Path] = []
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, content in contents.items():
            path = folder / name
            with disk.new_file(path) as file:
                file.write(content)
            written.append(path)
        disk.sync(folder)
    except OSError as error:
        for path in written:
            with contextlib.suppress(OSError):
                path.unlink()
        if isinstance(error, NotADirectoryError) or (folder.exists() and not folder.is_dir()):
            raise UsageError(f"{folder} is no folder", hint="choose another with --out") from error
        if isinstance(error, FileExistsError):
            raise Conflict(
                f"{error.filename} is there already, and is not written over",
                hint="new pairs of the authority that is there: --renew; or choose another folder with --out",
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
