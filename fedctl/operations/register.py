"""`backups.json` in a home: where backups were made, and how each file was found."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Any

import msgspec

from fedctl import disk
from fedctl.errors import FedctlError, NoStore
from fedctl.store.lock import FileLock

REGISTER = "backups.json"
NAME = re.compile(r"fedctl-(\d{8}T\d{9}Z)-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.backup")
"""What a backup is called: when it was made, and its id."""
_WAIT_S = 10.0


def parsed(path: Path) -> tuple[str | None, str | None]:
    """Return id and time (RFC 3339) from the name of a backup's file; (None, None) where it has another."""
    match = NAME.fullmatch(path.name)
    if match is None:
        return None, None
    t = match[1]
    return match[2], f"{t[:4]}-{t[4:6]}-{t[6:8]}T{t[9:11]}:{t[11:13]}:{t[13:15]}.{t[15:18]}Z"


class _Noted(msgspec.Struct, kw_only=True):
    size_bytes: int
    mtime_ns: int
    sha256: str | None
    verified_at: str | None
    error: str | None
    restore_tested_at: str | None = None


class _Registered(msgspec.Struct, kw_only=True):
    folders: list[str] = []
    backups: dict[str, _Noted] = {}


class Register:
    """Where backups were made, and when each file was last found whole, or damaged.

    Derived: what is lost here is found out again by `verify`.
    """

    def __init__(self, home: Path) -> None:
        self._path = home / REGISTER

    def _load(self) -> _Registered:
        try:
            return msgspec.json.decode(disk.read(self._path), type=_Registered)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return _Registered()

    def folders(self) -> list[Path]:
        """Return the folders that backups were made in."""
        return [Path(one) for one in self._load().folders]

    def whole(self) -> list[Path]:
        """Return the files that were found whole when somebody last looked, wherever they are now."""
        return [Path(name) for name, found in self._load().backups.items() if found.verified_at is not None]

    def noted(self, path: Path) -> dict[str, Any]:
        """Return what is known of a file, as long as it is the same file."""
        found = self._load().backups.get(str(path))
        with contextlib.suppress(OSError):
            state = path.stat()
            if found is not None and (found.size_bytes, found.mtime_ns) == (state.st_size, state.st_mtime_ns):
                return {"sha256": found.sha256, "verified_at": found.verified_at, "error": found.error,
                        "restore_tested_at": found.restore_tested_at}  # fmt: skip
        return dict.fromkeys(("sha256", "verified_at", "error", "restore_tested_at"))

    def note(  # noqa: PLR0913  one parameter a field
        self,
        path: Path,
        *,
        sha256: str | None,
        verified_at: str | None,
        error: str | None,
        restore_tested_at: str | None = None,
        made: bool = False,
    ) -> None:
        """Note how a file was found; with `made` its folder is one to look into from now on."""
        lock = FileLock(self._path.with_suffix(".lock"), _WAIT_S)
        lock.acquire()
        try:
            register = self._load()
            if made:
                if str(path.parent) not in register.folders:
                    register.folders.append(str(path.parent))
                # Only now that there is a newer one: a file that is not there may be on a disk that is not.
                for name in list(register.backups):
                    if os.path.isdir(os.path.dirname(name)) and not os.path.exists(name):  # noqa: PTH110,PTH112,PTH120
                        del register.backups[name]
            state = path.stat()
            register.backups[str(path)] = _Noted(
                size_bytes=state.st_size, mtime_ns=state.st_mtime_ns, sha256=sha256, verified_at=verified_at,
                error=error, restore_tested_at=restore_tested_at,
            )  # fmt: skip
            unborn = self._path.with_suffix(".json.new")
            with disk.new_content(self._path, unborn=unborn) as file:
                file.write(msgspec.json.encode(register))
        finally:
            lock.close()

    def note_if_possible(self, path: Path, **noted: Any) -> None:
        """Note it, unless the home or its disk does not let us: the answer is worth more than the note."""
        with contextlib.suppress(OSError, FedctlError):
            if self._path.parent.is_dir():
                self.note(path, **noted)


def check_not_gone(home: Path) -> None:
    """Raise `NoStore` where a store was that has backups: an empty one in its place would hide that it is gone.

    To be asked only where there is no store.
    """
    folders = Register(home).folders()
    if folders:
        raise NoStore(
            f"the store of this home is gone, and it has backups: {home}",
            hint="`fedctl restore latest`, or `fedctl init` to begin anew",
            details={"backups": [str(folder) for folder in folders]},
        )
