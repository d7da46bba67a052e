"""What brings back a store whose data are damaged: the one place that says so."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from fedctl.errors import Corrupt, FedctlError

if TYPE_CHECKING:
    from pathlib import Path


def can_be_restored(home: Path) -> bool:
    """Return whether there is a backup of this home where it made some."""
    from fedctl.operations import backup  # noqa: PLC0415  only where something is damaged

    try:
        backup.find(home, "latest")
    except FedctlError:
        return False
    return True


def keep_a_copy(home: Path) -> str:
    """Return the command that copies a home as it is, damaged: more may be got out of it than out of a backup."""
    return f"cp -a {shlex.quote(str(home))} {shlex.quote(f'{home}.damaged')}"


def way_back(home: Path) -> str:
    """Return what to do about damaged data: keep a copy, and restore the newest backup where there is one."""
    then = "then: fedctl restore latest --overwrite" if can_be_restored(home) else "there is no backup to restore"
    return f"keep a copy first: {keep_a_copy(home)}; {then}"


def told_the_way_back(error: FedctlError, home: Path) -> FedctlError:
    """Return the error of a damaged store of this home with what to do about it; any other as it is."""
    if not isinstance(error, Corrupt) or error.details.get("damaged") != str(home.absolute()):
        return error
    return Corrupt(error.message, hint=way_back(home), details=error.details)
