"""The home's signing keys: Ed25519, one PEM file each, for the eyes of the owner only.

A key's name (`kid`) begins with the time it was made, so the last name signs. A key that took the place of others says
in its name until when those verify: one rename brings the new key in and sets the end of the old ones, and whoever
lists the folder next goes by it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from typing import TYPE_CHECKING, Any

import msgspec

from fedctl import disk
from fedctl.errors import Corrupt, FedctlError, denied, from_os
from fedctl.model.principal import Principal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fedctl.access.tokens import Verified
    from fedctl.model.token import TokenRole

_SUFFIX = ".pem"
_NEW = ".new"
# When it was made, 32 random bits, until when those before it verify: times in ms since 1970, twelve hex digits each.
_NAME = r"(?P<made>[0-9a-f]{12})-[0-9a-f]{8}(-(?P<until>[0-9a-f]{12}))?"


class Rotation(msgspec.Struct, frozen=True, kw_only=True):
    """The key that signs from now on, until when the others verify (ms since 1970), and how many ended for good."""

    kid: str
    old_until_ms: int | None
    removed: int


class KeyRing:
    """Signs and verifies tokens with the keys in a folder. Any number of processes may share the folder."""

    def __init__(self, folder: Path) -> None:
        """Keep the folder's name; nothing is read or made before it is needed."""
        self._folder = folder
        self._known: dict[str, tuple[tuple[int, int, int], Any]] = {}

    def kids(self) -> list[str]:
        """Return the names of the keys at hand, oldest first."""
        try:
            names = os.listdir(self._folder)  # noqa: PTH208  names, not path objects
        except (FileNotFoundError, NotADirectoryError):
            return []
        except PermissionError as error:
            raise denied(f"the keys in {self._folder} cannot be read", self._folder) from error
        from fedctl.access import tokens  # noqa: PLC0415  1 ms of every command, and few have to do with tokens

        kids = (name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX))
        return sorted(kid for kid in kids if tokens.is_kid(kid))

    def warm(self) -> None:
        """Load what signing and verifying need (300 ms of imports), so that no connection waits for it."""
        import jwt  # noqa: F401, PLC0415  for its side effect

        for kid in self.kids():
            self._load(kid)

    def sign(  # noqa: PLR0913  one parameter a claim
        self, tenant_id: str, agent_id: str | None, role: TokenRole, jti: str, now_ms: int, ttl_ms: int
    ) -> str:
        """Return a token; the first one makes the first key.

        Raises:
            UsageError: a name or a life that no token may have.
            Denied: the keys cannot be read or written.
        """
        from fedctl.access import tokens  # noqa: PLC0415  likewise

        principal = Principal(tenant_id=tenant_id, role=role, agent_id=agent_id, token_id=jti)
        claims = tokens.make_claims(principal, now_ms=now_ms, ttl_ms=ttl_ms)
        while True:
            kid = next(reversed(self.kids()), None) or self._first(now_ms)
            try:
                return tokens.sign(claims, kid, self._load(kid))
            except FileNotFoundError:  # rotated out since it was listed; there is a newer one now
                continue

    def verify(self, token: str, now_ms: int) -> Verified:
        """Return who the token speaks for and until when; `Denied` with one reason otherwise.

        Whether it was revoked is the store's to say.
        """
        from fedctl.access import tokens  # noqa: PLC0415  likewise

        ends_ms = self.ends_ms()

        def find(kid: str) -> Any:
            if ends_ms.get(kid, 0) <= now_ms:
                return None
            try:
                return self._load(kid).public_key()
            except FileNotFoundError:
                return None

        verified = tokens.verify(token, find, now_ms)
        return msgspec.structs.replace(verified, key_ends_ms=ends_ms[verified.key_id])

    def ends_ms(self) -> dict[str, int]:
        """Return until when each key verifies (ms since 1970); `NEVER_MS` for the last one, which signs."""
        from fedctl.access import tokens  # noqa: PLC0415  likewise

        ends: dict[str, int] = {}
        end_ms = tokens.NEVER_MS
        for kid in reversed(self.kids()):
            ends[kid] = end_ms
            name = re.fullmatch(_NAME, kid)
            if name is not None and name["until"]:
                end_ms = min(end_ms, int(name["until"], 16))
        return ends

    def rotate(self, now_ms: int, old_until_ms: int) -> Rotation:
        """Make a new key that signs from now on; the others verify until `old_until_ms` (ms since 1970).

        What an earlier rotation ended sooner stays ended sooner. Keys that verify nothing any more are deleted.

        Raises:
            Denied: the keys cannot be read or written.
            Corrupt: a file among them has no name of a key's.
        """
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _exclusive(self._folder):
                kids = self.kids()
                kid = self._make(now_ms, after=kids[-1] if kids else None, until_ms=old_until_ms)
                over = [one for one, end_ms in self.ends_ms().items() if end_ms <= now_ms]
                for one in sorted(over):  # the oldest first: an end stands in the names of those that came later
                    (self._folder / f"{one}{_SUFFIX}").unlink(missing_ok=True)
                disk.sync(self._folder)
        except OSError as error:
            raise self._not_made(error) from error
        return Rotation(kid=kid, old_until_ms=old_until_ms if kids else None, removed=len(over))

    def _load(self, kid: str) -> Any:
        """Return the private key; read again when its file changed, gone when its file is gone."""
        path = self._folder / f"{kid}{_SUFFIX}"
        try:
            state = path.stat()
            mark = (state.st_ino, state.st_size, state.st_mtime_ns)
            known = self._known.get(kid)
            if known is not None and known[0] == mark:
                return known[1]
            key = _parse(disk.read(path), path)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise denied(f"the key {path} cannot be read: {error.strerror}", path) from error
        self._known[kid] = (mark, key)
        return key

    def _first(self, now_ms: int) -> str:
        """Make the first key, unless another process just did."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _exclusive(self._folder):
                kids = self.kids()
                return kids[-1] if kids else self._make(now_ms)
        except OSError as error:
            raise self._not_made(error) from error

    def _not_made(self, error: OSError) -> FedctlError:
        return from_os(error, f"no key can be made in {self._folder}")

    def _make(self, now_ms: int, *, after: str | None = None, until_ms: int = 0) -> str:
        """Make a key whose name comes after another's, which it ends; inside `_exclusive`."""
        kid = _name(now_ms, after, until_ms)
        _write(self._folder, f"{kid}{_SUFFIX}")
        return kid


def own_key(folder: Path, name: str, *, make: bool) -> Any | None:
    """Return the Ed25519 key of that file name in the folder, which signs no token; None where there is none.

    With `make` it is made. Raises `Denied` if it cannot be read or written, `Corrupt` if it is damaged.
    """
    path = folder / name
    try:
        if make and not path.exists():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _exclusive(folder):
                if not path.exists():
                    _write(folder, name)
        return _parse(disk.read(path), path)
    except (FileNotFoundError, NotADirectoryError):
        if make:
            raise
        return None
    except OSError as error:
        hint = "move it aside" if path.exists() and not path.is_file() else None
        raise from_os(error, f"the key {path} cannot be read or made", hint=hint) from error


def _write(folder: Path, name: str) -> None:
    """Make a key in a file of that name; inside `_exclusive`."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415  only here
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415  only here
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    # Whole or not at all: written under a name that no reader takes for a key, then renamed.
    for dead in folder.glob(f"*{_NEW}"):  # left by a process that died here: we hold the folder
        dead.unlink(missing_ok=True)
    unborn = folder / f"{name.rpartition('.')[0]}{_NEW}"
    with disk.new_content(folder / name, unborn=unborn) as file:
        file.write(pem)


def _name(now_ms: int, after: str | None, until_ms: int) -> str:
    random = os.urandom(4).hex()
    if after is None:
        return f"{now_ms:012x}-{random}"
    last = re.fullmatch(_NAME, after)
    if last is None:
        raise Corrupt(f"{after}{_SUFFIX} among the keys has no name of a key of this home", hint="move it aside")
    # A clock that was set back must not bring the new key behind the old one.
    return f"{max(now_ms, int(last['made'], 16) + 1):012x}-{random}-{until_ms:012x}"


def _parse(pem: bytes, path: Path) -> Any:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415  40 ms
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415  likewise

    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise Corrupt(f"the key {path} is damaged", hint="move it aside; what it signed ends to be trusted") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise Corrupt(f"the key {path} is not an Ed25519 key", hint="move it aside")
    return key


@contextlib.contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """Hold the folder against other makers of keys; the kernel lets go when the process dies."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
