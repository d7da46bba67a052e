"""Where the hub of a home is found: its Unix socket and what it wrote down about itself."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from fedctl import disk
from fedctl.errors import Denied, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from fedctl.model.hub import HubInfo

SOCKET_NAME = "hub.sock"
INFO_NAME = "hub.json"
LOCK_NAME = "hub.lock"

SOCKET_PATH_MAX_BYTES = 103
"""The shortest `sun_path` among our systems (macOS: 104 with its NUL; Linux has 108)."""


def hub_socket(home: Path) -> Path:
    """Return the path of the hub's socket: in the home, or hashed in the user's runtime directory.

    The second is for homes whose path is too long for a socket's.

    Raises:
        Denied: the runtime directory is not the user's own.
    """
    path = home.absolute() / SOCKET_NAME
    return path if fits(path) else short_socket(path)


def fits(path: Path) -> bool:
    """Return whether a socket can have this path."""
    return len(os.fsencode(path)) <= SOCKET_PATH_MAX_BYTES


def short_socket(path: Path) -> Path:
    """Return a short path that stands for a long one; the same for everyone who resolves the same file."""
    import hashlib  # noqa: PLC0415  for long paths only
    from pathlib import Path  # noqa: PLC0415  likewise

    name = f"fedctl-{hashlib.sha256(os.fsencode(path.parent.resolve() / path.name)).hexdigest()[:32]}.sock"
    given = Path(os.environ.get("XDG_RUNTIME_DIR") or "/")
    if _is_own(given) and fits(given / name):
        return given / name
    folder = Path("/tmp") / f"fedctl-{os.getuid()}"  # noqa: S108  short on purpose, and checked to be ours alone
    folder.mkdir(mode=0o700, exist_ok=True)
    if not _is_own(folder):
        raise Denied(f"{folder} is not this user's alone", hint="remove it, or use a home with a shorter path")
    return folder / name


def _is_own(folder: Path) -> bool:
    try:
        state = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(state.st_mode) and state.st_uid == os.getuid() and not state.st_mode & 0o077


def local_hub(home: Path) -> str | None:
    """Return `unix:PATH` when the home holds a hub's socket, else None.

    A hub that was killed leaves its socket behind: connecting to it raises `Unavailable` then.
    """
    try:
        path = hub_socket(home)
        return f"unix:{path}" if path.is_socket() else None
    except (OSError, Denied):
        return None


def read_info(home: Path) -> HubInfo | None:
    """Return what the hub of this home wrote down when it started, or None. It may be gone since, without a word."""
    import msgspec  # noqa: PLC0415  for `hub status` and `stop` only

    from fedctl.model.hub import HubInfo  # noqa: PLC0415  likewise

    try:
        return msgspec.json.decode(disk.read(home / INFO_NAME), type=HubInfo)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def check_url(url: str) -> str:
    """Return `url` if it is an address of a hub: `unix:PATH`, `ws://HOST[:PORT]` or `wss://HOST[:PORT]`."""
    if url.startswith("unix:") and len(url) > len("unix:"):
        return url
    scheme, separator, rest = url.partition("://")
    if separator and scheme in ("ws", "wss") and rest and not rest.startswith(("/", ":")) and "@" not in rest:
        return url
    raise UsageError(f"{url!r} is not the address of a hub", hint="write ws://HOST:PORT, wss://HOST:PORT or unix:PATH")
