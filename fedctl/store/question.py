"""A door to SQLite for questions that somebody makes up: it can read, and nothing else."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

import apsw

from fedctl.errors import Timeout, UsageError
from fedctl.store.database import BUSY_MS, Row, Translation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_LOOK_EVERY_STEPS = 20_000
_IDLE = re.compile(r"--[^\n]*|/\*.*?(\*/|$)|[\s;]+", re.DOTALL)
"""What may follow a statement: comments, and where it ends."""
_PRAGMAS = frozenset(
    {"application_id", "collation_list", "compile_options", "data_version", "database_list", "encoding",
     "freelist_count", "function_list", "journal_mode", "module_list", "page_count", "page_size", "pragma_list",
     "schema_version", "table_list", "user_version"}
)  # fmt: skip
_PRAGMAS_OF = frozenset(
    {"foreign_key_check", "foreign_key_list", "index_info", "index_list", "index_xinfo", "integrity_check",
     "quick_check", "table_info", "table_xinfo"}
)  # fmt: skip
"""What tells something and changes nothing; the latter take the name of a table or an index."""


class Questions:
    """A connection that answers one statement and can change nothing, neither the file nor what lies beside it."""

    def __init__(self, path: Path, over: Callable[[], bool]) -> None:
        """Open the file; `over` is asked every few ms of work whether the time is up."""
        self._errors = Translation(path)
        with self._errors:
            self._connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        self._connection.set_busy_timeout(BUSY_MS)
        for pragma in ("query_only=ON", "trusted_schema=OFF", "temp_store=MEMORY", "cell_size_check=ON"):
            self._connection.execute(f"pragma {pragma}").fetchall()
        self._connection.limit(apsw.SQLITE_LIMIT_ATTACHED, 0)
        self._connection.authorizer = _may_ask
        self._connection.set_progress_handler(over, _LOOK_EVERY_STEPS)

    def ask(self, sql: str) -> tuple[tuple[str, ...], Iterator[Row]]:
        """Return the names of a statement's columns, and its rows as they come.

        Raises:
            UsageError: It is no statement, more than one, or one that does more than read; it says what SQLite said.
            Timeout: `over` said so.
        """
        cursor = self._connection.cursor()
        begun: list[tuple[str, ...]] = []

        def one_only(asked: apsw.Cursor, statement: str, _bindings: object) -> bool:
            if not begun:  # what follows it is looked at before any of it is done
                begun.append(tuple(column[0] for column in asked.get_description()))
                if _IDLE.sub("", sql.lstrip()[len(statement.strip()) :]):
                    raise UsageError("that is more than one statement", hint="ask one at a time")
            return True

        cursor.exec_trace = one_only
        with self._told():
            cursor.execute(sql)
        if not begun or not begun[0]:
            raise UsageError("that is no statement that answers anything")
        return begun[0], self._rows(cursor)

    def _rows(self, cursor: apsw.Cursor) -> Iterator[Row]:
        with self._told():
            yield from cursor

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except apsw.InterruptError as error:
            raise Timeout("the time is up", hint="give it longer with --timeout") from error
        except (apsw.AuthError, apsw.ReadOnlyError) as error:
            raise UsageError(
                f"SQL: that would do more than read ({error})", hint="fedctl store sql only reads"
            ) from error
        except (apsw.SQLError, apsw.BindingsError, apsw.TooBigError, apsw.MismatchError) as error:
            raise UsageError(f"SQL: {error}", hint="the tables there are: SELECT name FROM sqlite_schema") from error
        except UnicodeDecodeError as error:
            raise UsageError("a text there is no UTF-8", hint="CAST(... AS BLOB) shows its bytes") from error
        except (apsw.Error, OSError) as error:
            raise self._errors.ours(error) from error

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _may_ask(action: int, first: str | None, second: str | None, *_where: str | None) -> int:
    """Return whether a statement may do that: read, and nothing else."""
    if action in (apsw.SQLITE_SELECT, apsw.SQLITE_READ, apsw.SQLITE_RECURSIVE):
        return apsw.SQLITE_OK
    if action == apsw.SQLITE_FUNCTION and second not in ("load_extension", "fts3_tokenizer"):
        return apsw.SQLITE_OK
    if action == apsw.SQLITE_PRAGMA and (first in _PRAGMAS_OF or (first in _PRAGMAS and second is None)):
        return apsw.SQLITE_OK
    return apsw.SQLITE_DENY
