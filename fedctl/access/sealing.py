"""What keeps backups honest and private: the home's own signature (Ed25519), and a passphrase (scrypt, AES-256-GCM)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from fedctl.access import keys
from fedctl.errors import Corrupt, Denied, UsageError
from fedctl.model.backup import Sealing

if TYPE_CHECKING:
    from pathlib import Path

KEY_NAME = "backup.key"
"""The home's own key, among its keys; the rotation of those that sign tokens does not touch it."""
PASSPHRASE_MAX_BYTES = 4096
SCRYPT_N = 1 << 17
SCRYPT_R = 8
SCRYPT_P = 1
# A file of unknown make says what scrypt is to cost: up to 1 GiB, and some ten times what ours do.
_N_MAX = 1 << 20
_R_MAX = 32
_P_MAX = 8
_COST_MAX_BYTES = 1 << 30
_SALT_BYTES = 32
_KEY_BYTES = 32
_FINGERPRINT_BYTES = 16


class WrongPassphraseError(Denied):
    """A backup was sealed with another passphrase; nothing is wrong with it."""


class ForeignError(Corrupt):
    """A backup was signed by somebody who is not trusted; nothing else is wrong with it."""


def fingerprint(public_key: bytes) -> str:
    """Return what a key is told by: the first 128 bits of its SHA-256, in hex."""
    import hashlib  # noqa: PLC0415  only here

    return hashlib.sha256(public_key).digest()[:_FINGERPRINT_BYTES].hex()


class HomeKey:
    """The key that a home signs its backups with; made when it is first needed."""

    def __init__(self, folder: Path) -> None:
        """Load the key from the folder of keys, or make it.

        Raises:
            Denied: The keys cannot be read or written.
            Corrupt: The key is damaged.
        """
        self._key: Any = keys.own_key(folder, KEY_NAME, make=True)
        self.public_key = _public(self._key)

    def sign(self, message: bytes) -> bytes:
        """Return the signature, 64 bytes."""
        signature: bytes = self._key.sign(message)
        return signature


def own_public_key(folder: Path) -> bytes | None:
    """Return the public half of the home's key; None when it never needed one. Raises as `HomeKey`."""
    key = keys.own_key(folder, KEY_NAME, make=False)
    return None if key is None else _public(key)


def _public(key: Any) -> bytes:
    public: bytes = key.public_key().public_bytes_raw()
    return public


class PassphraseSealer:
    """Seals chunks with a key made of a passphrase: AES-256-GCM, a nonce for each chunk of each part."""

    def __init__(self, passphrase: bytes, sealing: Sealing) -> None:
        """Derive the key, which takes what `sealing` says (ours: 128 MiB and some 0.4 s)."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415  40 ms
        from cryptography.hazmat.primitives.kdf.scrypt import Scrypt  # noqa: PLC0415  likewise

        salt = bytes.fromhex(sealing.salt)
        self.sealing = sealing
        scrypt = Scrypt(salt=salt, length=_KEY_BYTES, n=sealing.n, r=sealing.r, p=sealing.p)
        self._aead = AESGCM(scrypt.derive(passphrase))

    @classmethod
    def new(cls, passphrase: bytes, n: int | None = None) -> PassphraseSealer:
        """Return one with a salt of its own: no two backups have the same key."""
        return cls(passphrase, Sealing(n=n or SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P, salt=os.urandom(_SALT_BYTES).hex()))

    def seal(self, part: int, counter: int, *, last: bool, chunk: bytes, beside: bytes) -> bytes:
        """Return the chunk sealed, 16 bytes longer."""
        return self._aead.encrypt(_nonce(part, counter, last=last), chunk, beside)

    def unseal(self, part: int, counter: int, *, last: bool, chunk: bytes, beside: bytes) -> bytes:
        """Return the chunk, or raise `WrongPassphraseError`: by this key no such chunk stands in this place."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415  only here

        try:
            return self._aead.decrypt(_nonce(part, counter, last=last), chunk, beside)
        except (InvalidTag, ValueError) as error:
            raise WrongPassphraseError(
                "the passphrase is not the one that this backup was sealed with", hint="look into --passphrase-file"
            ) from error


def _nonce(part: int, counter: int, *, last: bool) -> bytes:
    return part.to_bytes(7, "big") + counter.to_bytes(4, "big") + bytes([last])


class Opener:
    """Whom a home trusts to have made a backup, and the passphrase it was given."""

    def __init__(self, own: bytes | None, *, signed_by: str | None = None, passphrase: bytes | None = None) -> None:
        """Take the home's own public key, or None for a home that never had one and takes anybody's.

        `signed_by` is the fingerprint of a key to be trusted instead.
        """
        self._own = own
        self._signed_by = None if signed_by is None else signed_by.replace(":", "").lower()
        self._passphrase = passphrase
        self.notes: list[str] = []
        """What there is to say of who signed what was opened, where nobody could say whether that is right."""

    def check(self, public_key: bytes, message: bytes, signature: bytes) -> None:
        """Return if the signature is good and by somebody trusted.

        Raises:
            Corrupt: It is neither.
        """
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415  40 ms
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415  likewise

        try:
            Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
        except (InvalidSignature, ValueError) as error:
            raise Corrupt(
                "the backup's signature is wrong: it is not as it was made", hint="fedctl backup list shows others"
            ) from error
        signer = fingerprint(public_key)
        if self._signed_by is not None:
            if signer != self._signed_by:
                raise ForeignError(
                    f"the backup is signed by {signer}, not by {self._signed_by}", hint="is it another's?"
                )
        elif self._own is None:
            self.notes.append(f"the backup is signed by {signer}; this home has no key to hold that against")
        elif public_key != self._own:
            raise ForeignError(
                f"the backup is foreign: signed by {signer}, which is not this home's key",
                hint=f"if you know that key: --signed-by {signer}",
                details={"signed_by": signer},
            )

    def sealer(self, sealing: Sealing) -> PassphraseSealer | None:
        """Return what opens such chunks; None without a passphrase.

        Raises:
            Corrupt: The file asks for more than scrypt may cost.
        """
        n, r, p = sealing.n, sealing.r, sealing.p
        good = 1 < n <= _N_MAX and not n & (n - 1) and 0 < r <= _R_MAX and 0 < p <= _P_MAX
        if not good or 128 * n * r > _COST_MAX_BYTES or not _is_hex(sealing.salt):
            raise Corrupt(f"the backup asks for an unreasonable scrypt: n={n}, r={r}, p={p}", hint="is it a forgery?")
        return None if self._passphrase is None else PassphraseSealer(self._passphrase, sealing)


class AnyOpener(Opener):
    """Trusts whoever signed: for who only lists what lies in a folder."""

    def __init__(self) -> None:
        """Take nobody's key."""
        super().__init__(None)


def read_passphrase(path: Path) -> bytes:
    """Return a file's passphrase, without the line's end.

    Raises:
        UsageError: The file cannot be read or holds no passphrase.
        Denied: It may not be read.
    """
    try:
        with path.open("rb") as file:
            content = file.read(PASSPHRASE_MAX_BYTES + 1)
    except OSError as error:
        kind = Denied if isinstance(error, PermissionError) else UsageError
        raise kind(f"cannot read the passphrase file {str(path)!r}: {error.strerror}") from error
    passphrase = content.removesuffix(b"\n").removesuffix(b"\r")
    if not passphrase:
        raise UsageError(f"the passphrase file {str(path)!r} is empty")
    if len(content) > PASSPHRASE_MAX_BYTES:
        raise UsageError(f"the passphrase file {str(path)!r} holds more than {PASSPHRASE_MAX_BYTES} bytes")
    return passphrase


def _is_hex(text: str) -> bool:
    try:
        return 0 < len(bytes.fromhex(text)) <= 2 * _SALT_BYTES
    except ValueError:
        return False
