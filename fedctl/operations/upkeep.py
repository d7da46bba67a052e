"""What is done to a store as a whole, by one process that is alone with it or only looks: vacuum, migrate, questions.

None of it is a request: whoever is not on the machine has no business with the files themselves.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

from fedctl.errors import DiskFull, NoStore, Unavailable
from fedctl.model import shown
from fedctl.model.store import Migrated, Vacuumed
from fedctl.store import migrate as migrations
from fedctl.store.database import Database, translated
from fedctl.store.lock import use
from fedctl.store.question import Questions
from fedctl.store.room import NoRoomError, size_bytes
from fedctl.store.store import FILE_NAME, Store
from fedctl.store.swap import Exchange, settle
from fedctl.store.trouble import empty, is_there

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fedctl.clock import Clock


def vacuum(home: Path, clock: Clock, *, wait_s: float = 0.0) -> Vacuumed:
    """Write the store anew without the room that deleted rows left in it, and put that in its place.

    Raises:
        Locked: Others use the store, and still did after `wait_s`.
        DiskFull: The disk has no room for the second copy; it says how much is needed.
    """
    path = home / FILE_NAME
    store = Store.open_file(path, clock, create=False, timeout_s=wait_s, exclusive=True)
    exchange = Exchange(path)
    try:
        before = store.size_bytes()
        with store.freeing():  # the log can be folded in however little room there is
            store.checkpoint(truncate=True)
            if store.wal_bytes():
                raise Unavailable("something other than fedctl reads the store", hint="let it end first")
            store.database.check_room(0)
        used_pages = int(store.database.pragma("page_count")) - int(store.database.pragma("freelist_count"))
        size = used_pages * int(store.database.pragma("page_size"))
        try:
            store.check_room_for(size)
        except NoRoomError as error:
            raise DiskFull(
                error.message,
                hint=f"vacuum makes a second copy of {shown.size(size)} beside the store: free some space elsewhere on "
                "the disk, or move the home to a larger one. Room inside the store is used again without it",
                details=error.details,
            ) from None
        exchange.begin()
        try:
            # Made here, and empty: SQLite would make it for everybody to read.
            os.close(os.open(exchange.unpacked, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            store.database.pragma("auto_vacuum=NONE")  # the copy's: with any other nothing can be wiped (store/scrub)
            store.database.rows("VACUUM INTO :file", {"file": str(exchange.unpacked)})
            store.database.close()
            made = Database(exchange.unpacked)
            made.use_wal()
            exchange.seal(made)
            exchange.commit()
        finally:
            exchange.end()
    finally:
        store.close()
    after = size_bytes(str(path))
    return Vacuumed(path=str(path), before_bytes=before, after_bytes=after, freed_bytes=before - after)


def migrate(home: Path, clock: Clock, *, wait_s: float = 0.0) -> Migrated:
    """Bring the store to this fedctl's schema, which any command does that opens it; `Locked` where others use it."""
    path = home / FILE_NAME
    with _looking(path, wait_s):
        database = Database(path)
        try:
            current = migrations.check(database)
            version = int(database.pragma("user_version"))
        finally:
            database.close()
    if not current:
        Store.open_file(path, clock, create=False, timeout_s=wait_s, exclusive=True).close()
    return Migrated(path=str(path), schema_from=version, schema_to=migrations.SCHEMA_VERSION, migrated=not current)


@contextlib.contextmanager
def ask(home: Path, sql: str, clock: Clock, timeout_s: float) -> Iterator[tuple[tuple[str, ...], Iterator[Any]]]:
    """Ask a store one statement, which can only read; hand out the names of its columns, and its rows as they come.

    Raises as `store.question.Questions.ask`.
    """
    path = home / FILE_NAME
    deadline_s = clock.monotonic_s() + timeout_s
    with _looking(path, timeout_s):
        questions = Questions(path, lambda: clock.monotonic_s() > deadline_s)
        try:
            yield questions.ask(sql)
        finally:
            questions.close()


@contextlib.contextmanager
def _looking(path: Path, wait_s: float) -> Iterator[None]:
    """Have the store stay where it is for as long as somebody looks."""
    with translated(path):
        if not is_there(path):
            settle(path, wait_s)
            if not path.exists():
                raise NoStore(f"there is no store in {path.parent}", hint="begin with: fedctl init")
            if not is_there(path):
                raise empty(path)
    settle(path, wait_s)
    used = use(path, wait_s, exclusive=False)
    try:
        yield
    finally:
        used.close()
