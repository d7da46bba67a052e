"""A backup file of which nothing is known. A target of `fuzz`.

It holds what was put into it, or it is refused, as `Corrupt` or as sealed with another passphrase; nothing else,
whoever signed it, within bounds of memory and time. The first byte chooses: the file as it is, or one that is made of
the bytes and rightly signed. What is whole is so to the last byte: there is no other file that is taken for it.
"""

from __future__ import annotations

import io
import resource
import time
from typing import TYPE_CHECKING, Any

import msgspec
import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedctl.access.sealing import Opener, PassphraseSealer, WrongPassphraseError
from fedctl.archive import format as f
from fedctl.archive.reader import open_archive
from fedctl.archive.writer import Writer
from fedctl.errors import Corrupt, NotFound, UsageError
from fedctl.model.backup import Contents, Sealing, TenantContent

from .typist import scratch

if TYPE_CHECKING:
    from pathlib import Path

ABOUT = "backup files"
INCLUDE = ("fedctl.archive", "fedctl.access.sealing", "fedctl.model.backup")
WORDS = (f.MAGIC, f.END, b"database", b"contents", b"config.toml", b"keys/", b'"size_bytes":', b'"sha256":', b"../",
         b'"sealing":', b'"n":', b'"parts":', b"\x28\xb5\x2f\xfd", b"\xff" * 8, b"9" * 19, b"-1", b"null")  # fmt: skip
GROWS_MAX_KB = (2 * f.CONTENTS_MAX_BYTES + (64 << 20)) >> 10
"""Twice what the reader takes of what says what is in a backup; all else goes by small pieces."""
SECONDS_MAX = 5.0
SCRYPT_MAX = 1 << 10
FOLDER = scratch()
PASSPHRASE = b"open"
PARTS = {"database": b"some pages " * 40, "config.toml": b"", "keys/k.pem": b"secret"}
HELD = Contents(
    schema_version=7, model="m@0", epoch="e", seq=3, episodes=2, items=1,
    tenants=[TenantContent(sha256="ab" * 32, episodes=2, items=1)], parts=[],
)  # fmt: skip


class _Key:
    """A key that is always the same."""

    def __init__(self) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(b"\1" * 32)
        self.public_key = self._key.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)


KEY = _Key()


def _whole(passphrase: bytes | None) -> bytes:
    # Its salt is always the same: what one process begins with is whole to another.
    sealing = Sealing(n=16, r=8, p=1, salt="5a" * 16)
    sealer: Any = None if passphrase is None else PassphraseSealer(passphrase, sealing)
    path = FOLDER / "whole"
    with path.open("wb") as file:
        writer = Writer(file, backup_id="id-1", created_at="2026-01-01T00:00:00.000Z", version="1", signer=KEY,
                        sealer=sealer)  # fmt: skip
        for name, content in PARTS.items():
            writer.add(name, io.BytesIO(content).read)
        writer.finish(HELD)
    return path.read_bytes()


WHOLE = [_whole(None), _whole(PASSPHRASE)]


def originals() -> list[bytes]:
    """Return an open backup and a sealed one as they are, and their insides to be signed anew."""
    found = []
    for whole in WHOLE:
        length = _manifest_size(whole)
        found += [b"\x00" + whole, b"\x01" + whole[f.HEAD.size : -f.TAIL.size] + length.to_bytes(3, "big")]
    found.append(b"\x02" + zstandard.ZstdCompressor().compress(b"[]"))
    found.append(b"\x03" + b'{"n":1073741824,"r":8,"p":1,"salt":"00"}')
    found.append(b"\x04" + PARTS["database"])
    return found


def _manifest_size(whole: bytes) -> int:
    size: int = f.TAIL.unpack(whole[-f.TAIL.size :])[1]
    return size


def extremes() -> list[bytes]:
    """Return what unpacks to far more than it is: too dear to be tried more than once."""
    return [b"\x02" + zstandard.ZstdCompressor(level=3).compress(bytes(f.CONTENTS_MAX_BYTES + (64 << 20)))]


def check(data: bytes) -> None:
    """Open it as the command does, verify it, and take all out."""
    if not data:
        return
    kind, rest = data[0] % 5, data[1:]
    whole = rest
    if kind == 1:
        length = min(int.from_bytes(rest[-3:], "big"), max(len(rest) - 3, 0))
        whole = _signed(rest[: len(rest) - 3 - length], rest[len(rest) - 3 - length : -3])
    elif kind == 2:
        whole = _made({"database": rest, f.CONTENTS: rest}, None)
    elif kind == 3:
        whole = _made({"database": b"x", f.CONTENTS: b"y"}, rest)
    elif kind == 4:  # another database under what says what is in the first one, each as its manifest has it
        parts = _stored(WHOLE[0]) | {"database": zstandard.ZstdCompressor().compress(rest)}
        whole = _made(parts, None)
    path = FOLDER / "a.backup"
    path.write_bytes(whole)
    before_kb, begun = _peak_kb(), time.monotonic()
    for passphrase in (PASSPHRASE, None):
        try:
            found = _read(path, passphrase)
        except (Corrupt, WrongPassphraseError) as error:
            error.message.encode()
            continue
        assert kind or whole in WHOLE, "it was changed, and is taken for whole"
        assert kind in (1, 3) or found in (None, PARTS), found
    grown_kb, seconds = _peak_kb() - before_kb, time.monotonic() - begun
    assert grown_kb <= GROWS_MAX_KB, f"{grown_kb:,} kB for a file of {len(whole):,} bytes"
    assert seconds <= SECONDS_MAX, f"{seconds:.1f} s for a file of {len(whole):,} bytes"


def _stored(whole: bytes) -> dict[str, bytes]:
    """Return the parts of a file as they stand in it."""
    manifest = msgspec.json.decode(whole[-f.TAIL.size - _manifest_size(whole) : -f.TAIL.size], type=f.Manifest)
    found, at = {}, f.HEAD.size
    for part in manifest.parts:
        found[part.name] = whole[at : at + part.size_bytes]
        at += part.size_bytes
    return found


class _Thrifty(Opener):
    """One that derives no key where scrypt is allowed to be dear: it may be, and is no find."""

    def sealer(self, sealing: Any) -> Any:
        """Return what opens chunks; the limits are checked whatever it costs."""
        if sealing.n * sealing.r * sealing.p > SCRYPT_MAX:
            Opener(None).sealer(sealing)
            return None
        return super().sealer(sealing)


def _read(path: Path, passphrase: bytes | None) -> dict[str, bytes] | None:
    """Return what is in it; None where it is sealed, and nobody has told how to open it."""
    with open_archive(path, _Thrifty(KEY.public_key, passphrase=passphrase)) as archive:
        archive.verify()
        if archive.contents is None:
            for name in archive.names:
                _refused(archive, name, UsageError)
            return None
        _refused(archive, "keys/none", NotFound)
        found = {}
        for name in archive.names:
            target = io.BytesIO()
            archive.extract(name, target)
            found[name] = target.getvalue()
            assert archive.size_of(name) == len(found[name])
        return found


def _refused(archive: Any, name: str, kind: type[Exception]) -> None:
    try:
        archive.extract(name, io.BytesIO())
    except kind:
        return
    raise AssertionError(f"{name} was not refused")


def _signed(parts: bytes, manifest: bytes) -> bytes:
    return f.head() + parts + manifest + f.TAIL.pack(KEY.sign(f.signed(manifest)), len(manifest), f.END)


def _made(parts: dict[str, bytes], sealing: bytes | None) -> bytes:
    """Return a file of these parts as they stand in it, each with its right size and digest, rightly signed."""
    import hashlib

    listed = [f.StoredPart(name=name, size_bytes=len(one), sha256=hashlib.sha256(one).hexdigest())
              for name, one in parts.items()]  # fmt: skip
    manifest = msgspec.json.encode(
        f.Manifest(id="id-1", created_at="2026-01-01T00:00:00.000Z", fedctl_version="1", sealing=None,
                   public_key=KEY.public_key.hex(), parts=listed)
    )  # fmt: skip
    if sealing is not None:
        manifest = manifest.replace(b'"sealing":null', b'"sealing":' + sealing)
    return _signed(b"".join(parts.values()), manifest)


def _peak_kb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
