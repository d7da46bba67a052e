"""Other people's files: JSON lines, a JSON array, CSV, TSV, or a table of a SQLite file, as episodes to store."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TextIO

import msgspec

from fedctl.cli.intake import (
    LINE_MAX_BYTES,
    Document,
    EpisodeLine,
    Line,
    check_row,
    draft_line,
    line_of,
    parse,
    read_lines,
)
from fedctl.cli.values import scalar, truth
from fedctl.config import did_you_mean
from fedctl.errors import Denied, Failure, UsageError
from fedctl.model.episode import EpisodeDraft
from fedctl.model.limits import check_text

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

FORMS = ("jsonl", "json", "csv", "tsv", "sqlite")
_EXTENSIONS = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "tsv", ".tab": "tsv",
    ".db": "sqlite", ".sqlite": "sqlite", ".sqlite3": "sqlite",
}  # fmt: skip
_SQLITE_MAGIC = b"SQLite format 3\0"
_FIELDS = tuple(name for name in EpisodeDraft.__struct_fields__ if name != "embedding")
_NUMBERS = frozenset({"reward", "tokens_used", "latency_ms", "seq"})
_TRUTHS = frozenset({"success", "pinned"})
_TRUE = {"1": "true", "0": "false"}


class Source(NamedTuple):
    """Where an import reads from. `position` says how many bytes of `size` are behind it (both None: unknown)."""

    lines: Iterator[EpisodeLine | None]
    size: int | None
    position: Callable[[], int] | None
    close: Callable[[], None]


class Naming:
    """Names lines that have no id, the same at every run over the same file: an import can be repeated.

    The name is a digest of the line's content and of how many equal lines came before it, written as a UUIDv8
    (RFC 9562: a form for digests). Two equal lines are two episodes; the same line at the next run is the same one.
    """

    def __init__(self) -> None:
        self._seen: dict[bytes, int] = {}

    def __call__(self, content: bytes) -> str:
        """Return the id of the next line of this content."""
        digest = hashlib.sha256(content.strip()).digest()
        before = self._seen.get(digest[:12], 0)
        self._seen[digest[:12]] = before + 1
        name = bytearray(hashlib.sha256(digest + before.to_bytes(8, "big")).digest()[:16])
        name[6] = 0x80 | name[6] & 0x0F
        name[8] = 0x80 | name[8] & 0x3F
        text = name.hex()
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def open_source(path: str, form: str | None, table: str | None, stdin: BinaryIO | None, home: Path) -> Source:
    """Return what a file (or with `-` stdin) holds, line by line."""
    if table is not None and form is None:
        form = "sqlite"
    if stdin is not None:
        if form == "sqlite":
            raise UsageError("a SQLite file cannot come from stdin")
        return Source(_read(stdin, form or "jsonl"), None, None, lambda: None)
    try:
        file = open(path, "rb")  # noqa: SIM115, PTH123  read as long as the command runs
    except PermissionError as error:
        raise Denied(f"{path!r} may not be read") from error
    except OSError as error:
        raise UsageError(f"cannot read {path!r}: {error.strerror}") from error
    try:
        form = form or _form_of(path, file)
        size = os.fstat(file.fileno()).st_size
    except BaseException:
        file.close()
        raise
    if form == "sqlite":
        file.close()
        rows = _sqlite_lines(path, table, home)
        return Source(rows, None, None, rows.close)
    return Source(_read(file, form), size, lambda: os.lseek(file.fileno(), 0, os.SEEK_CUR), file.close)


def _form_of(path: str, file: BinaryIO) -> str:
    known = _EXTENSIONS.get(os.path.splitext(path)[1].lower())  # noqa: PTH122  a path as it was given
    head = os.pread(file.fileno(), 64, 0) if file.seekable() else b""
    if head.startswith(_SQLITE_MAGIC):
        return "sqlite"
    if known is None or known == "json":
        first = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
        known = {b"[": "json", b"{": "jsonl"}.get(first, known)
    if known is None:
        raise UsageError(f"{path!r} does not show what it is", hint=f"say it: --from {'|'.join(FORMS)}")
    return known


def _read(stream: BinaryIO, form: str) -> Iterator[EpisodeLine | None]:
    if form == "jsonl":
        return _json_lines(stream)
    if form == "json":
        return _json_array(stream)
    return _separated(stream, "\t" if form == "tsv" else ",")


def _json_lines(stream: BinaryIO) -> Iterator[EpisodeLine | None]:
    naming = Naming()
    for item in read_lines(stream):
        if item is None:
            yield None
        else:
            yield line_of(*item, naming)


def _json_array(stream: BinaryIO) -> Iterator[EpisodeLine]:
    try:
        elements = msgspec.json.decode(stream.read().removeprefix(b"\xef\xbb\xbf"), type=list[msgspec.Raw])
    except (ValueError, RecursionError) as error:
        raise UsageError(f"this is not a JSON array: {error}", hint="--from jsonl for one object a line") from None
    naming = Naming()
    for number, element in enumerate(elements, start=1):
        yield line_of(number, bytes(element), naming)


def _separated(stream: BinaryIO, delimiter: str) -> Iterator[EpisodeLine]:
    import csv
    import io

    # Bytes that are not UTF-8 come through as surrogates, and refuse their own row instead of the file.
    text = io.TextIOWrapper(stream, "utf-8-sig", errors="surrogateescape", newline="")
    try:
        yield from _rows(csv, text, delimiter)
    finally:
        if not text.closed:  # given up before the end, its opener may have closed it already
            text.detach()  # the stream is its opener's to close


def _rows(csv: Any, text: TextIO, delimiter: str) -> Iterator[EpisodeLine]:
    csv.field_size_limit(LINE_MAX_BYTES)
    rows = csv.reader(text, delimiter=delimiter, strict=True)
    try:
        columns = _check_columns(next(rows, []))
    except csv.Error as error:
        raise UsageError(f"the header is not {'TSV' if delimiter != ',' else 'CSV'}: {error}") from None
    naming = Naming()
    while True:
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield Line(rows.line_num, None, UsageError(str(error)), None, 0)
            continue
        if not delimiter.join(cells).strip():
            continue
        if len(cells) > len(columns):
            too_wide = UsageError(f"{len(cells)} cells under {len(columns)} columns")
            yield Line(rows.line_num, None, too_wide, [_text(cell) for cell in cells], 0)
            continue
        yield _row_line(rows.line_num, dict(zip(columns, cells, strict=False)), naming)


def _sqlite_lines(path: str, table: str | None, home: Path) -> Generator[EpisodeLine]:
    # A second SQLite library on the store would drop the first one's locks.
    if os.path.realpath(path).startswith(os.path.realpath(home) + os.sep):
        raise UsageError("this file is the home's own", hint="fedctl memory export | fedctl memory import -")
    import sqlite_utils

    sqlite3: Any = vars(sqlite_utils.utils)["sqlite3"]  # whichever it chose; it alone opens other people's files
    connection = None
    try:
        connection = sqlite3.connect(f"file:{_quoted(path)}?mode=ro", uri=True)
        connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")  # a bad row is refused by itself
        database = sqlite_utils.Database(connection)
        names = [*database.table_names(), *database.view_names()]
        table = table or (names[0] if len(names) == 1 else None)
        if table not in names:
            hint = did_you_mean(table or "", names) or f"--table {'|'.join(names)}"
            raise UsageError(f"there is no table {table!r}" if table else "which table?", hint=hint)
        _check_columns([column.name for column in database[table].columns])
        naming = Naming()
        for number, row in enumerate(database[table].rows, start=1):
            yield _row_line(number, row, naming)
    except (sqlite3.Error, UnicodeError) as error:  # names, and its messages, may be no text either
        raise Failure(f"cannot read {path!r}: {error}") from error
    finally:
        if connection is not None:
            connection.close()


def _quoted(path: str) -> str:
    from urllib.parse import quote

    return quote(os.path.abspath(path))  # noqa: PTH100  SQLite wants text


def _check_columns(columns: list[str]) -> list[str]:
    names = [column.strip() for column in columns]
    for name in names:
        if name not in _FIELDS and not name.startswith("metadata."):
            hint = did_you_mean(name, _FIELDS) or f"columns are {', '.join(_FIELDS)}, and metadata.ANYTHING"
            raise UsageError(f"the column {name!r} is no field of an episode", hint=hint)
        check_text(f"the column {name!r}", name)
    if "task" not in names:
        raise UsageError("there is no column 'task'", hint="an episode has a task")
    return names


def _row_line(number: int, row: Document, naming: Naming) -> EpisodeLine:
    """Return a table's row as a line: cells get the type of their field, empty ones are absent."""
    try:
        document: Document = {}
        for name, value in row.items():
            if value is None or value == "":
                continue
            if name.startswith("metadata."):
                inner = scalar(value) if isinstance(value, str) else value
                document.setdefault("metadata", {})[name.partition(".")[2]] = inner
            else:
                document[name] = _typed(name, value)
        check_row(document)
        if "id" not in document:
            document["id"] = naming(msgspec.json.encode(document))
        return draft_line(number, document, row)
    except UsageError as error:
        return Line(number, None, error, _shown(row), 0)


def _typed(name: str, value: Any) -> Any:
    if isinstance(value, bytes):
        raise UsageError(f"{name}: a BLOB is not text")
    if name in _TRUTHS:
        return truth(_TRUE.get(str(value), str(value)))
    if not isinstance(value, str):
        return value
    if name in _NUMBERS:
        return scalar(value.strip())
    if name == "metadata":
        return parse(value.encode("utf-8", "surrogatepass"))
    return value


def _shown(row: Document) -> Document:
    """Return a refused row in a form that JSON can carry."""
    return {
        _text(name): value if value is None or isinstance(value, int | float) else _text(value)
        for name, value in row.items()
    }


def _text(value: Any) -> str:
    return str(value).encode(errors="replace").decode()
