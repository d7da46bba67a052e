r"""The backup file: what stands where in it, and what vouches for each of its bytes.

    head      16 bytes: "fedctl-backup\n", the version of the format (16 bits, big-endian)
    parts     one after another without anything between: `database`, `config.toml` and `keys/NAME` if asked for,
              and last `contents`; each compressed (zstandard), then sealed if there is a passphrase
    manifest  JSON (`Manifest`), never sealed: each part's name, size and SHA-256 as it stands in the file
    tail      80 bytes: an Ed25519 signature (64), the manifest's length (64 bits, big-endian), "\nfedctl\n"

The signature is over head and manifest, by the key that the manifest names; the manifest vouches for the parts, and
the sizes of all must add up to the file's. `contents` is JSON (`Contents`): what the database holds, and size and
SHA-256 of each other part as it was before. Sealing is AES-256-GCM by chunks of 256 KiB (STREAM of Hoang, Reyhanitabar,
Rogaway and Vizar 2015): the nonce holds the part's place, the chunk's, and whether it is the last one; what is vouched
for beside it is the head, the backup's id and the part's name. The key is scrypt's of the passphrase and a salt.
"""

from __future__ import annotations

import re
import struct
from typing import Protocol

import msgspec

from fedctl.model.backup import Sealing

MAGIC = b"fedctl-backup\n"
VERSION = 1
HEAD = struct.Struct(">14sH")
TAIL = struct.Struct(">64sQ8s")
END = b"\nfedctl\n"
CHUNK_BYTES = 1 << 18
SEAL_BYTES = 16
"""What sealing adds to each chunk: GCM's tag."""

# What no honest file has more of: who made it is not known before it is read.
MANIFEST_MAX_BYTES = 1 << 20
CONTENTS_MAX_BYTES = 1 << 28
PARTS_MAX = 1000
SMALL_MAX_BYTES = 1 << 20
"""How large a key or the settings may be."""
WINDOW_MAX_BYTES = 1 << 23

DATABASE = "database"
CONTENTS = "contents"
CONFIG = "config.toml"
KEYS = "keys/"
_NAME = re.compile(r"database|contents|config\.toml|keys/[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")


class StoredPart(msgspec.Struct, frozen=True, kw_only=True):
    """A part as it stands in the file: its bytes in a row, and their SHA-256 in hex."""

    name: str
    size_bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What anybody may read of a backup. `public_key` is the signer's (Ed25519), in hex."""

    id: str
    created_at: str
    fedctl_version: str
    public_key: str
    sealing: Sealing | None
    parts: list[StoredPart]


class Signer(Protocol):
    """Who signs."""

    public_key: bytes

    def sign(self, message: bytes) -> bytes:
        """Return the signature, 64 bytes."""
        ...


class Sealer(Protocol):
    """Who seals chunks, and opens them: `part` is the part's place in the file, `counter` the chunk's in the part."""

    sealing: Sealing

    def seal(self, part: int, counter: int, *, last: bool, chunk: bytes, beside: bytes) -> bytes:
        """Return the sealed chunk."""
        ...

    def unseal(self, part: int, counter: int, *, last: bool, chunk: bytes, beside: bytes) -> bytes:
        """Return the chunk, or raise `Denied`: it was sealed with another key."""
        ...


class Opener(Protocol):
    """Who knows whom to trust, and the passphrase if there is one."""

    def check(self, public_key: bytes, message: bytes, signature: bytes) -> None:
        """Return if the signature is good and whoever signed is trusted; else raise `Corrupt`."""
        ...

    def sealer(self, sealing: Sealing) -> Sealer | None:
        """Return what opens such chunks; None without a passphrase."""
        ...


def head() -> bytes:
    """Return the beginning of a file of this version."""
    return HEAD.pack(MAGIC, VERSION)


def is_name(name: str) -> bool:
    """Return whether a part may be called so: never a way out of a folder."""
    return _NAME.fullmatch(name) is not None and ".." not in name


def beside(backup_id: str, name: str) -> bytes:
    """Return what a part's chunks are vouched for together with."""
    return head() + f"{backup_id}\0{name}".encode()


def signed(manifest: bytes) -> bytes:
    """Return what is signed."""
    return head() + manifest
