"""Reading a backup file that anybody may have made: everything is checked, and bounded, before it is believed."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import stat
from typing import TYPE_CHECKING, BinaryIO, Self, cast

import msgspec

from fedctl.archive import format as f
from fedctl.errors import Corrupt, Denied, DiskFull, NotFound, UsageError, from_os
from fedctl.model.backup import Content, Contents

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fedctl.archive.format import Opener, Sealer

_BLOCK_BYTES = 1 << 20


def _unwatched(_bytes: int) -> None:
    pass


def open_archive(path: Path, opener: Opener) -> Archive:
    """Open a backup: its structure, its manifest and its signature are good when this returns, not yet its parts.

    Without the passphrase of a sealed one `contents` is None.

    Raises:
        Corrupt: It is no backup, or not as it was made, or nobody trusted signed it.
        NotFound: There is no such file.
        Denied: It may not be read, or the passphrase is wrong.
    """
    try:
        # Not to wait where it is a pipe that nobody writes to.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(f"there is no backup {path}", hint="fedctl backup list shows those there are") from error
    except OSError as error:
        raise from_os(error, f"the backup {path} cannot be read") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _refused(path, "it is no file")
    file = os.fdopen(descriptor, "rb")
    try:
        return Archive(path, file, opener)
    except BaseException:
        file.close()
        raise


class Archive:
    """An open backup. It reads from the file it opened, whatever comes into its place meanwhile."""

    def __init__(self, path: Path, file: BinaryIO, opener: Opener) -> None:
        """Check everything but the parts; see `open_archive`."""
        self.path = path
        self._file = file
        self.size_bytes = os.fstat(file.fileno()).st_size
        self.manifest, length = _manifest(path, file, self.size_bytes, opener)
        self._around = length + f.TAIL.size
        self._begins: dict[str, int] = {}
        self._stored: dict[str, f.StoredPart] = {}
        self._lay_out()
        self._before: dict[str, Content] = {}
        sealing = self.manifest.sealing
        self._sealer: Sealer | None = None if sealing is None else opener.sealer(sealing)
        self.contents: Contents | None = None
        if sealing is None or self._sealer is not None:
            self.contents = self._read_contents()

    def _lay_out(self) -> None:
        """Find where each part begins; all of them together with what is around them must be the file."""
        at = f.HEAD.size
        for part in self.manifest.parts:
            if not f.is_name(part.name):
                raise self._refused(f"it has a part of the name {part.name!r}, which no backup has")
            if part.name in self._stored:
                raise self._refused(f"it has two parts of the name {part.name}")
            if part.size_bytes < 0:
                raise self._refused(f"the size of its part {part.name} is none")
            self._begins[part.name] = at
            self._stored[part.name] = part
            at += part.size_bytes
        if at != self.size_bytes - self._around:
            raise self._refused("its parts are not as long as its manifest says")
        if f.DATABASE not in self._stored or self.manifest.parts[-1].name != f.CONTENTS:
            raise self._refused("it has no database, or nothing that says what is in it")

    def _read_contents(self) -> Contents:
        stored = self._stored[f.CONTENTS]
        text = io.BytesIO()
        with self._content(stored, _unwatched) as read:
            while block := read(_BLOCK_BYTES):
                text.write(block)
                if text.tell() > f.CONTENTS_MAX_BYTES:
                    raise self._refused("what says what is in it is too large")
        try:
            contents = msgspec.json.decode(text.getvalue(), type=Contents)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise self._refused("what says what is in it cannot be understood") from error
        self._before = {one.name: one for one in contents.parts}
        if self._before.keys() != self._stored.keys() - {f.CONTENTS} or len(self._before) != len(contents.parts):
            raise self._refused("it has other parts than it says")
        for name, content in self._before.items():
            if content.size_bytes < 0 or (name != f.DATABASE and content.size_bytes > f.SMALL_MAX_BYTES):
                raise self._refused(f"its part {name} is too large")
        return contents

    @property
    def names(self) -> list[str]:
        """The names of the parts that can be had: `database`, `config.toml`, `keys/NAME`."""
        return [name for name in self._stored if name != f.CONTENTS]

    def size_of(self, name: str) -> int:
        """Return the size of a part as `extract` gives it, in bytes."""
        self._check_open()
        return self._before[name].size_bytes

    def verify(self, watch: Callable[[int], None] = _unwatched) -> str:
        """Read everything and hold it against the manifest; return the SHA-256 of the whole file, in hex.

        What is sealed, and there is no passphrase for, is checked as it stands in the file.

        Args:
            watch: Called with how many bytes of the file were worked through since the last call.

        Raises:
            Corrupt: A part is not as it was made.
        """
        for stored in self.manifest.parts:
            if self.contents is None:
                self._check_stored(stored, watch)
            elif stored.name != f.CONTENTS:
                self._copy(stored, None, watch)
        digest = hashlib.sha256()
        self._file.seek(0)
        left = self.size_bytes
        while block := self._file.read(min(_BLOCK_BYTES, left)):
            digest.update(block)
            left -= len(block)
        if left:
            raise self._refused("it became shorter while it was read")
        return digest.hexdigest()

    def extract(self, name: str, target: BinaryIO, watch: Callable[[int], None] = _unwatched) -> None:
        """Write a part as it was into `target`, which is to be thrown away if this raises.

        Raises:
            Corrupt: It is not as it was made.
            UsageError: It is sealed, and there is no passphrase.
            NotFound: It has no such part.
            DiskFull: There is no room for it.
        """
        stored = self._stored.get(name)
        if stored is None or name == f.CONTENTS:
            raise NotFound(f"the backup {self.path} has no part {name}")
        self._check_open()
        with contextlib.suppress(io.UnsupportedOperation):  # not a file: nothing fills up
            room = os.fstatvfs(target.fileno())
            if room.f_bavail * room.f_frsize < self._before[name].size_bytes:
                raise DiskFull(
                    f"there is no room for the {self._before[name].size_bytes:,} bytes of the backup's {name}",
                    hint="free some space and try again",
                )
        self._copy(stored, target, watch)

    def _check_open(self) -> None:
        if self.contents is None:
            raise UsageError(f"the backup {self.path} is sealed", hint="give its passphrase with --passphrase-file")

    def _check_stored(self, stored: f.StoredPart, watch: Callable[[int], None]) -> None:
        source = _Source(self, stored, None, watch)
        while source.read(_BLOCK_BYTES):
            pass
        source.finish()

    def _copy(self, stored: f.StoredPart, target: BinaryIO | None, watch: Callable[[int], None]) -> None:
        wanted = self._before[stored.name]
        digest, left = hashlib.sha256(), wanted.size_bytes
        with self._content(stored, watch) as read:
            while block := read(_BLOCK_BYTES):
                left -= len(block)
                if left < 0:
                    raise self._refused(f"its {stored.name} is larger than it says")
                digest.update(block)
                if target is not None:
                    target.write(block)
        if left or digest.hexdigest() != wanted.sha256:
            raise self._refused(f"its {stored.name} is not what it says")

    @contextlib.contextmanager
    def _content(self, stored: f.StoredPart, watch: Callable[[int], None]) -> Iterator[Callable[[int], bytes]]:
        """Read a part as it was, in pieces no larger than asked for; it is as it stands in the file, or this raises."""
        import zstandard  # noqa: PLC0415  only for who reads a backup

        source = _Source(self, stored, self._sealer, watch)
        try:
            with zstandard.ZstdDecompressor(max_window_size=f.WINDOW_MAX_BYTES).stream_reader(
                cast("BinaryIO", source),  # all it needs is `read`
                read_size=f.CHUNK_BYTES,
                closefd=False,
            ) as reader:
                yield reader.read
        except zstandard.ZstdError as error:
            source.finish()  # damaged bytes are told as such
            raise self._refused(f"its {stored.name} cannot be unpacked") from error
        source.finish()

    def read_stored(self, stored: f.StoredPart, at: int, size: int) -> bytes:
        """Return some bytes of a part as it stands in the file."""
        self._file.seek(self._begins[stored.name] + at)
        return self._file.read(size)

    def place_of(self, stored: f.StoredPart) -> int:
        """Return which part of the file it is."""
        return list(self._stored).index(stored.name)

    def damaged(self, name: str) -> Corrupt:
        """Return the error for a part that is not as it was written."""
        return self._refused(f"its {name} is damaged")

    def _refused(self, why: str) -> Corrupt:
        return _refused(self.path, why)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()


class _Source:
    """A part as it stands in the file, reckoned up as it is read and opened if it is sealed."""

    def __init__(
        self, archive: Archive, stored: f.StoredPart, sealer: Sealer | None, watch: Callable[[int], None]
    ) -> None:
        self._archive = archive
        self._stored = stored
        self._sealer = sealer
        self._watch = watch
        self._at = 0
        self._counter = 0
        self._digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes; of what is sealed a chunk, whatever was asked for."""
        if self._sealer is None:
            return self._next(size if size > 0 else _BLOCK_BYTES)
        chunk = self._next(f.CHUNK_BYTES + f.SEAL_BYTES)
        if not chunk:
            return b""
        last = self._at == self._stored.size_bytes
        try:
            opened = self._sealer.unseal(
                self._archive.place_of(self._stored), self._counter, last=last, chunk=chunk,
                beside=f.beside(self._archive.manifest.id, self._stored.name),
            )  # fmt: skip
        except Denied:
            self.finish()  # bytes that changed are not for a wrong passphrase to answer for
            raise
        self._counter += 1
        return opened

    def _next(self, size: int) -> bytes:
        block = self._archive.read_stored(self._stored, self._at, min(size, self._stored.size_bytes - self._at))
        self._at += len(block)
        self._digest.update(block)
        self._watch(len(block))
        return block

    def finish(self) -> None:
        """Read what is left; raise `Corrupt` if the whole is not what the manifest says."""
        while self._next(_BLOCK_BYTES):
            pass
        if self._at != self._stored.size_bytes or self._digest.hexdigest() != self._stored.sha256:
            raise self._archive.damaged(self._stored.name)


def _manifest(path: Path, file: BinaryIO, size: int, opener: Opener) -> tuple[f.Manifest, int]:
    """Return the manifest and its length in bytes, once its place, its length and its signature are good."""
    head = file.read(f.HEAD.size)
    if len(head) < f.HEAD.size or not head.startswith(f.MAGIC):
        raise _refused(path, "it does not begin as a backup of fedctl does")
    version = f.HEAD.unpack(head)[1]
    if version > f.VERSION:
        raise Corrupt(
            f"the backup {path} is of format {version}, this fedctl knows up to {f.VERSION}",
            hint="use the newer fedctl that made it",
        )
    if version != f.VERSION:
        raise _refused(path, f"there is no format {version}")
    if size < f.HEAD.size + f.TAIL.size:
        raise _refused(path, "it is cut short")
    file.seek(size - f.TAIL.size)
    signature, length, end = f.TAIL.unpack(_whole(path, file.read(f.TAIL.size), f.TAIL.size))
    if end != f.END:
        raise _refused(path, "it is cut short, or something was added to its end")
    if length > f.MANIFEST_MAX_BYTES:
        raise _refused(path, f"its manifest claims {length:,} bytes, and none has more than {f.MANIFEST_MAX_BYTES:,}")
    if length > size - f.HEAD.size - f.TAIL.size:
        raise _refused(path, "its manifest is longer than the file")
    file.seek(size - f.TAIL.size - length)
    encoded = _whole(path, file.read(length), length)
    try:
        manifest = msgspec.json.decode(encoded, type=f.Manifest)
        public_key = bytes.fromhex(manifest.public_key)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise _refused(path, "its manifest cannot be understood") from error
    if not 0 < len(manifest.parts) <= f.PARTS_MAX:
        raise _refused(path, "it has no parts, or too many")
    opener.check(public_key, f.signed(encoded), signature)
    return manifest, length


def _whole(path: Path, block: bytes, size: int) -> bytes:
    if len(block) != size:
        raise _refused(path, "it became shorter while it was read")
    return block


def _refused(path: Path, why: str) -> Corrupt:
    return Corrupt(f"the backup {path} cannot be used: {why}", hint="fedctl backup list shows others")
