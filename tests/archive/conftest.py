"""Small archives, honest and forged."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedctl.access.sealing import Opener, PassphraseSealer
from fedctl.archive import format as f
from fedctl.archive.reader import Archive, open_archive
from fedctl.archive.writer import Writer
from fedctl.model.backup import Contents, TenantContent

if TYPE_CHECKING:
    from pathlib import Path

HELD = Contents(
    schema_version=7, model="m@0", epoch="e", seq=3, episodes=2, items=1,
    tenants=[TenantContent(sha256="ab" * 32, episodes=2, items=1)], parts=[],
)  # fmt: skip
CHEAP_N = 16
"""Of scrypt: a test has no secrets."""


class Key:
    """Somebody who signs."""

    def __init__(self, seed: int = 1) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
        self.public_key = self._key.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)


class Maker:
    """Makes archives in a folder, and opens them as the home whose key is `Key()`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = Key()
        self.path = folder / "a.backup"

    def write(
        self,
        parts: dict[str, bytes] | None = None,
        *,
        passphrase: bytes | None = None,
        held: Contents = HELD,
        **more: Any,
    ) -> bytes:
        """Write an archive and return its bytes."""
        sealer = None if passphrase is None else PassphraseSealer.new(passphrase, CHEAP_N)
        with self.path.open("wb") as file:
            writer = Writer(file, backup_id=more.get("id", "id-1"), created_at="2026-01-01T00:00:00.000Z", version="1",
                            signer=more.get("signer", self.key), sealer=sealer)  # fmt: skip
            for name, content in (parts or {"database": b"some pages " * 40, "keys/k.pem": b"secret"}).items():
                writer.add(name, io.BytesIO(content).read)
            writer.finish(held)
        return self.path.read_bytes()

    def put(self, content: bytes) -> None:
        """Write these bytes as the archive."""
        self.path.write_bytes(content)

    def open(self, passphrase: bytes | None = None, **trust: Any) -> Archive:
        """Open it."""
        return open_archive(self.path, Opener(trust.pop("own", self.key.public_key), passphrase=passphrase, **trust))

    def read(self, passphrase: bytes | None = None, **trust: Any) -> dict[str, bytes]:
        """Return all its parts, verified as the command does, and extracted."""
        found = {}
        with self.open(passphrase, **trust) as archive:
            archive.verify()
            for name in archive.names:
                target = io.BytesIO()
                archive.extract(name, target)
                found[name] = target.getvalue()
        return found

    def forge(self, stored: list[tuple[str, bytes]], *, key: Key | None = None, **manifest: Any) -> None:
        """Write an archive whose signature is good and whose parts are whatever they are."""
        key = key or self.key
        parts = [f.StoredPart(name=name, size_bytes=len(block), sha256=sha(block)) for name, block in stored]
        fields = {"id": "id-1", "created_at": "2026-01-01T00:00:00.000Z", "fedctl_version": "1", "sealing": None,
                  "public_key": key.public_key.hex(), "parts": parts} | manifest  # fmt: skip
        encoded = msgspec.json.encode(f.Manifest(**fields))
        tail = f.TAIL.pack(key.sign(f.signed(encoded)), len(encoded), f.END)
        self.put(f.head() + b"".join(block for _, block in stored) + encoded + tail)


def sha(block: bytes) -> str:
    import hashlib

    return hashlib.sha256(block).hexdigest()


def packed(content: bytes) -> bytes:
    import zstandard

    return zstandard.ZstdCompressor().compress(content)


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    return Maker(tmp_path)


@pytest.fixture
def make_key() -> type[Key]:
    return Key


@pytest.fixture
def noise() -> bytes:
    """Bytes that do not compress, some chunks of them."""
    return os.urandom(2 * f.CHUNK_BYTES + 77)
