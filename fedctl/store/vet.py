"""A database from elsewhere: whether it is a whole store of fedctl, and nothing but that."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fedctl.errors import Corrupt, Failure
from fedctl.store import migrate
from fedctl.store.database import APPLICATION_ID, Database
from fedctl.store.queries import load

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_WORDS = re.compile(r"words_[1-9][0-9]*")
_ANY_WORDS = "words_1"
_sql = load("vet")
_Objects = dict[tuple[str, str], str | None]


def vet(path: Path, watch: Callable[[], None] = lambda: None) -> list[str]:
    """Check the database at `path` before anything of it is used; return which tables of words are damaged.

    Those are derived, and a backup of a moment between two steps of an erasure has such.

    What a file may do once it is the store lies in its schema: a trigger or a view that somebody planted runs with
    the next change. So its objects must be those that our own migrations make, word for word, and no others. Nothing
    is written, and nothing runs that the file brings with it. It takes some 6 ms a megabyte.

    `watch` is called every few milliseconds and may raise, to end it.

    Raises:
        Corrupt: It is no database, no store, a newer one's, damaged, or holds what no store holds. The message begins
            with "it" or "its", and does not name the file, which may be of the moment.
    """
    try:
        return _vetted(path, watch)
    except Corrupt as error:
        if error.__cause__ is None:
            raise
        none = isinstance(error.__cause__, UnicodeDecodeError)
        why = "a text in it is none" if none else error.__cause__  # SQLite's own word, without the path
        raise Corrupt(f"it is damaged: {why}") from error
    except Failure as error:
        if not error.message.startswith("SQLite: "):
            raise
        # What is asked is always the same: that it cannot be answered is the file's fault.
        raise Corrupt(f"it is damaged: {error.message.removeprefix('SQLite: ')}") from error


def _vetted(path: Path, watch: Callable[[], None]) -> list[str]:
    database = Database(path)
    try:
        database.watch(watch)
        if database.pragma("application_id") != APPLICATION_ID:
            raise Corrupt("it is a database, but not a store of fedctl")
        version = int(database.pragma("user_version"))
        if not 0 < version <= migrate.SCHEMA_VERSION:
            raise Corrupt(
                f"its schema is {version}, this fedctl knows up to {migrate.SCHEMA_VERSION}",
                hint="use the newer fedctl that made it",
                details={"schema_version": version, "known": migrate.SCHEMA_VERSION},
            )
        if database.pragma("auto_vacuum"):
            raise Corrupt("it has auto_vacuum, which no store has", hint="fedctl store vacuum, where it came from")
        _check_objects(_objects(database), _expected(version))
        # After the objects: a check may evaluate what they say.
        found = [row[0] for row in database.rows("pragma integrity_check") if row[0] != "ok"]
        words = [line for line in found if "fts5" in line.lower()]
        broken = [line for line in found if line not in words]
        if broken:
            raise Corrupt(f"it is damaged: {broken[0]}")
        if database.rows("pragma foreign_key_check"):
            raise Corrupt("it is damaged: a row refers to one that is not there")
    finally:
        database.close()
    return words


def stranger(database: Database) -> str | None:
    """Return what an open store holds that no store does, or lacks that every store has; None when it is as ours."""
    try:
        _check_objects(_objects(database), _expected(int(database.pragma("user_version"))))
    except Corrupt as error:
        return error.message.removeprefix("it ").removeprefix("its ")
    return None


def _check_objects(found: _Objects, expected: _Objects) -> None:
    for (kind, name), sql in found.items():
        # Each tenant has tables of words of its own; they differ in its number alone.
        number = _WORDS.match(name)
        known = name if number is None else _ANY_WORDS + name[number.end() :]
        if (kind, known) not in expected:
            raise Corrupt(f"it holds a {kind} that no store has: {name[:100]!r}", hint="do not use it")
        wanted = expected[kind, known]
        if number is not None and wanted is not None:
            wanted = wanted.replace(_ANY_WORDS, number[0])
        if sql != wanted:
            raise Corrupt(f"its {kind} {name!r} is not as this fedctl makes it", hint="do not use it")
    missing = [name for kind, name in expected if (kind, name) not in found and not name.startswith(_ANY_WORDS)]
    if missing:
        raise Corrupt(f"it lacks {missing[0]!r}, which every store has")


def _objects(database: Database) -> _Objects:
    return {(row[0], row[1]): row[2] for row in database.rows(_sql["objects"])}


def _expected(version: int) -> _Objects:
    """Return what our migrations up to that one make, and the words of one tenant."""
    made = Database(None)
    try:
        with made.write():
            migrate.migrate(made, 0, through=version)
            made.run_script(load("memory")["create_words"].replace("{words}", _ANY_WORDS))
        return _objects(made)
    finally:
        made.close()
