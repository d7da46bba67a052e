"""The one formatter: answers in, tables, blocks, JSON, tab-separated text or ids out.

A command says what it answers with (a `Shape`); which form that takes is the caller's choice (`--format`,
`--fields`) and the terminal's. Stored text never reaches a terminal with its control characters alive.
"""

from __future__ import annotations

import errno
import re
from typing import TYPE_CHECKING, Any, BinaryIO, Generic, TypeVar, cast

import msgspec

from fedctl.config import did_you_mean
from fedctl.errors import DiskFull, Failure, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from fedctl.config import Settings

T = TypeVar("T")

TERMINAL_LIMIT = 50
"""How many rows a table on a terminal shows when nobody asked for a number."""

# C0, DEL, C1, the line separators and the marks that reorder text: what a terminal or a reader may act upon.
_ALIVE = "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
_ALIVE_IN_JSON = "[\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]"
_GAP = 2
_TEXT_FROM = 24
"""A column wider than this (a time is 24) is text, and may be cut..."""
_TEXT_LEAST = 8
"""...but not shorter than this."""
_BRIEF_LINES = 3
_BRIEF_WIDTH = 80
"""So many lines of a long value, as wide as a terminal is at least taken to be, tell a person which one it is."""
_SHORT = {"\t": r"\t", "\n": r"\n", "\r": r"\r"}


class OutputClosed(Exception):  # noqa: N818  not an error: the reader has seen enough
    """Nobody reads stdout any more (`| head -1`)."""


class Output:
    """Standard output: bytes out, with what can go wrong there told apart from every other error."""

    def __init__(self, stream: BinaryIO | None) -> None:
        self._stream = stream

    @property
    def is_terminal(self) -> bool:
        """Whether a person reads along."""
        return self._stream is not None and self._stream.isatty()

    def write(self, content: bytes) -> None:
        """Write, perhaps into a buffer."""
        if self._stream is None:
            raise Failure("cannot write the answer: stdout is closed")
        try:
            self._stream.write(content)
        except OSError as error:
            raise _explained(error) from error

    def check_reader(self) -> None:
        """Raise `OutputClosed` where nobody reads any more: a pipe knows before it is written to."""
        import select

        try:
            poll = select.poll()
            poll.register(self._stream, 0)  # type: ignore[arg-type]
            gone = any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
        except (OSError, ValueError, TypeError, AttributeError):  # no file, or a system that cannot tell
            return
        if gone:
            raise OutputClosed

    def flush(self) -> None:
        """Hand everything over."""
        try:
            if self._stream is not None:
                self._stream.flush()
        except OSError as error:
            raise _explained(error) from error


class Errors:
    """Standard error: whatever is said there, with a progress bar in the way or not."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.above: Callable[[bytes], None] | None = None
        """Writes above the bar that is drawn there now; None: there is none."""

    def write(self, content: bytes) -> None:
        """Write."""
        if self.above is None:
            self.stream.write(content)
        else:
            self.above(content)

    def flush(self) -> None:
        """Hand it over."""
        self.stream.flush()

    def isatty(self) -> bool:
        """Return whether a person reads along."""
        return self.stream.isatty()


def _explained(error: OSError) -> Exception:
    if isinstance(error, BrokenPipeError):
        return OutputClosed()
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return DiskFull("no space left to write the answer to", hint="what was asked for has been done")
    return Failure(f"cannot write the answer: {error.strerror}")


class Shape(msgspec.Struct, Generic[T], frozen=True):
    """What a command answers with: a struct, its fields in a table, and the one that `--ids` prints.

    The JSON Schema of the answer is made of it (`fedctl.cli.schema`), so nothing else is ever answered with it.
    """

    kind: type[T] | str
    """The struct; or its place (`module:Name`), where importing that takes time that only its command has."""
    columns: tuple[str, ...]
    key: str
    fields_: tuple[str, ...] = ()
    """What `fields` answers, if it is not all that the struct has, or not in its order."""

    @classmethod
    def of(cls, kind: type[T] | str, *columns: str, key: str = "id", fields: tuple[str, ...] = ()) -> Shape[T]:
        """Return the shape of a struct, `columns` in its tables (none given: all)."""
        return cls(kind, columns, key, fields)

    def with_columns(self, columns: tuple[str, ...]) -> Shape[T]:
        """Return the same with other columns in its tables."""
        return msgspec.structs.replace(self, columns=columns)

    @property
    def struct(self) -> type[T]:
        """The struct, imported."""
        return resolve(self.kind)

    @property
    def fields(self) -> tuple[str, ...]:
        """What can be asked for with `--fields`, and the columns of `--format tsv`."""
        return self.fields_ or cast("Any", self.struct).__struct_fields__


def resolve(kind: type[T] | str) -> type[T]:
    """Return a struct, given itself or its place (`module:Name`)."""
    if not isinstance(kind, str):
        return kind
    import importlib

    module, _, name = kind.partition(":")
    return cast("type[T]", getattr(importlib.import_module(module), name))


def with_more(record: msgspec.Struct, kind: type[T], **more: Any) -> T:
    """Return a record as one of a struct that has its fields and `more`."""
    return kind(**msgspec.structs.asdict(record), **more)


def escape(text: str) -> str:
    r"""Return `text` with every character that could act on a terminal written out (`\n`, `\x1b`, `\u202e`)."""
    return text if text.isprintable() else re.sub(_ALIVE, _written_out, text)


def _written_out(match: re.Match[str]) -> str:
    character = match[0]
    code = ord(character)
    return _SHORT.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")  # noqa: PLR2004


def harmless(content: bytes) -> bytes:
    r"""Return JSON with every character that could act on a terminal written as `\u`: it is the same JSON."""
    if content.isascii() and b"\x7f" not in content:
        return content
    return re.sub(_ALIVE_IN_JSON, lambda match: f"\\u{ord(match[0]):04x}", content.decode()).encode()


def cell(value: Any) -> str:
    """Return a value as one line of text: nothing for null, JSON for what has parts."""
    if value is None:
        return ""
    if isinstance(value, str):
        return escape(value)
    return harmless(msgspec.json.encode(value)).decode()


def pick(document: Mapping[str, Any], path: str) -> Any:
    """Return the value at a dotted path, or None; a key that itself holds dots is found too."""
    if path in document:
        return document[path]
    head, dot, rest = path.partition(".")
    inner = document.get(head)
    return pick(inner, rest) if dot and isinstance(inner, dict) else None


def check_fields(wanted: str, known: tuple[str, ...]) -> tuple[str, ...]:
    """Return the fields of `--fields a,b.c`; the first part of each must be known."""
    fields = tuple(name.strip() for name in wanted.split(",") if name.strip())
    if not fields:
        raise UsageError("--fields names no field", hint=f"the fields are {', '.join(known)}")
    for name in fields:
        if name not in known and name.partition(".")[0] not in known:
            hint = did_you_mean(name, known) or f"the fields are {', '.join(known)}"
            raise UsageError(f"{name!r} is not a field of this answer", hint=hint)
    return fields


class Screen:
    """Where a command's answer and its notes go."""

    def __init__(
        self,
        output: Output,
        errors: Errors | None,
        settings: Settings,
        fields: tuple[str, ...],
        environ: Mapping[str, str],
    ) -> None:
        self._output = output
        self._errors = errors
        self._form = settings.format
        self._fields = fields
        self._quiet = settings.quiet
        self._colour = settings.color == "always" or (settings.color == "auto" and environ.get("TERM") != "dumb")
        self._width = environ.get("COLUMNS", "")
        self._person = output.is_terminal

    @property
    def form(self) -> str:
        """The form asked for."""
        return self._form

    @property
    def default_limit(self) -> int | None:
        """How many rows a list has when nobody said: 50 in a table on a terminal, all anywhere else."""
        return TERMINAL_LIMIT if self._form == "table" and self._person else None

    def note(self, text: str) -> None:
        """Say something beside the answer, on stderr, unless asked to be quiet."""
        if not self._quiet:
            say(self._errors, f"note: {text}")

    def cut(self, shown: int, total: int | None) -> None:
        """Say that a list was cut."""
        if total is not None and shown < total:
            self.note(f"{shown:,} of {total:,} shown")

    def text(self, line: str) -> None:
        """Answer with one plain line."""
        self._write(escape(line) + "\n")

    def raw(self, content: bytes) -> None:
        """Answer with bytes that have their form already (JSON lines), and hand them over."""
        self._output.write(harmless(content))

    @property
    def plain(self) -> bool:
        """Whether a table is to be tab-separated text: a program reads it."""
        return not self._person

    @property
    def draws(self) -> bool:
        """Whether a person is shown the whole answer: then a command may draw it (`draw`)."""
        return self._person and self._form == "table" and not self._fields

    @property
    def colour(self) -> bool:
        """Whether what is drawn may have colours."""
        return self._colour

    @property
    def width(self) -> int:
        """How many columns the terminal has."""
        import shutil

        return int(self._width) if self._width.isdecimal() else shutil.get_terminal_size().columns

    def draw(self, text: str) -> None:
        """Answer a person with lines that have their form, colours and all; what is stored is `escape`d in them."""
        self._write(text)
        self._output.flush()

    def check_reader(self) -> None:
        """End quietly where nobody reads any more, for who has had nothing to say for a while."""
        self._output.check_reader()

    def flush(self) -> None:
        """Hand over what was written."""
        self._output.flush()

    def one(
        self, thing: T, shape: Shape[T], shown: str | Mapping[str, Any] | None = None, *, brief: bool = False
    ) -> None:
        """Answer with one thing. `shown` is what a table has in its place: a line, or a block with other words.

        `brief`: to a person, who has just said it, no more than the beginning of what is long.
        """
        if shown is not None and self._form == "table" and not self._fields:
            if isinstance(shown, str):
                self.text(shown)
            else:
                self._block(shown, brief=brief)
            return
        if self._form in ("tsv", "ids"):
            self.many([thing], shape)
            return
        document = self._chosen(thing)
        if self._form == "table":
            self._block(document, brief=brief)
        elif self._form == "json" and self._person:
            self._json(msgspec.json.format(_to_json(document), indent=2) + b"\n")
        else:
            self._json(_to_json(document) + b"\n")

    def done(self, thing: T, shape: Shape[T], shown: str | Mapping[str, Any] | None = None) -> None:
        """Answer with what was changed; a person who asked for quiet, and cron, take silence for success."""
        if not (self._quiet and self._form == "table"):
            self.one(thing, shape, shown, brief=not self._fields)

    def many(self, things: Iterable[T], shape: Shape[T]) -> int:
        """Answer with a list, as it comes; return its length."""
        forms = {"json": self._array, "jsonl": self._lines, "ids": self._ids, "tsv": self._tabbed}
        form = forms.get(self._form) or (self._table if self._person else self._tabbed)
        return form(iter(things), shape)

    def follow(self, things: Iterable[T], shape: Shape[T]) -> None:
        """Answer with things as they happen, a line each, handed over at once: JSON lines, ids, or a row."""
        form = {"json": self._lines, "jsonl": self._lines, "ids": self._ids}.get(self._form, self._rows)
        form(iter(things), shape)

    def redraw(self, things: list[T], shape: Shape[T]) -> None:
        """Answer with a table in place of the one before, on a terminal."""
        self._write("\x1b[H\x1b[J")
        self._table(iter(things), shape)
        self._output.flush()

    def _rows(self, things: Iterator[Any], shape: Shape[Any]) -> int:
        """Write a row for each thing, under one header. What is to come is not known: columns keep their width."""
        columns = self._columns(shape)
        plain = self._form == "tsv" or not self._person
        self._write(("\t".join(columns) if plain else "  ".join(f"{name.upper():<16}" for name in columns)) + "\n")
        self._output.flush()
        count = 0
        for count, thing in enumerate(things, start=1):  # noqa: B007
            values = [pick(msgspec.to_builtins(thing), name) for name in columns]
            line = "\t".join(map(cell, values)) if plain else "  ".join(f"{short(value):<16}" for value in values)
            self._write(line.rstrip(" ") + "\n")
            self._output.flush()
        return count

    def _chosen(self, thing: Any) -> Any:
        """Return what of a thing is shown: itself, or the object of the fields asked for."""
        if not self._fields:
            return thing
        document = msgspec.to_builtins(thing)
        return {name: pick(document, name) for name in self._fields}

    def _columns(self, shape: Shape[Any]) -> tuple[str, ...]:
        return self._fields or (() if self._form == "tsv" else shape.columns) or shape.fields

    def _array(self, things: Iterator[Any], _shape: Shape[Any]) -> int:
        count = 0
        if self._person:
            documents = [self._chosen(thing) for thing in things]
            self._json(msgspec.json.format(_to_json(documents), indent=2) + b"\n")
            return len(documents)
        # One element a line, written as it comes: a list may be longer than memory.
        for count, thing in enumerate(things, start=1):
            self._json((b"[" if count == 1 else b",\n") + _to_json(self._chosen(thing)))
        self._json(b"]\n" if count else b"[]\n")
        return count

    def _lines(self, things: Iterator[Any], _shape: Shape[Any]) -> int:
        count = 0
        for count, thing in enumerate(things, start=1):  # noqa: B007
            self._json(_to_json(self._chosen(thing)) + b"\n")
            self._output.flush()
        return count

    def _ids(self, things: Iterator[Any], shape: Shape[Any]) -> int:
        count = 0
        for count, thing in enumerate(things, start=1):  # noqa: B007
            value = thing[shape.key] if isinstance(thing, dict) else getattr(thing, shape.key)
            for single in value if isinstance(value, list) else [value]:
                self._write(cell(single) + "\n")
            self._output.flush()
        return count

    def _tabbed(self, things: Iterator[Any], shape: Shape[Any]) -> int:
        columns = self._columns(shape)
        self._write("\t".join(columns) + "\n")
        count = 0
        for count, thing in enumerate(things, start=1):  # noqa: B007
            document = msgspec.to_builtins(thing)
            self._write("\t".join(cell(pick(document, name)) for name in columns) + "\n")
        return count

    def _table(self, things: Iterator[Any], shape: Shape[Any]) -> int:
        columns = self._columns(shape)
        rows = [[short(pick(document, name)) for name in columns] for document in map(msgspec.to_builtins, things)]
        if not rows:
            self.note("nothing there")
            return 0
        self._write(_drawn(columns, rows, shape.key, width=self._width, colour=self._colour))
        return len(rows)

    def _block(self, document: Any, *, brief: bool) -> None:
        pairs = list(_flat(msgspec.to_builtins(document)))
        if not self._person:
            self._write("".join(f"{escape(name)}\t{cell(value)}\n" for name, value in pairs))
            return
        if not self._fields:  # what is not there takes no row of a person's screen, unless it was asked for
            pairs = [pair for pair in pairs if pair[1] is not None] or pairs
        width = max((len(name) for name, _ in pairs), default=0)
        room = _BRIEF_LINES * max(self.width, _BRIEF_WIDTH) if brief else None
        bold, plain = ("\x1b[1m", "\x1b[0m") if self._colour else ("", "")
        for name, value in pairs:
            text = short(value)
            if room is not None and len(text) > room:
                text = f"{text[:room]}... ({len(text) - room:,} more characters)"
            self._write(f"{bold}{escape(name):<{width}}{plain}  {text}\n")

    def _write(self, text: str) -> None:
        self._output.write(text.encode("utf-8", "backslashreplace"))

    def _json(self, content: bytes) -> None:
        self._output.write(harmless(content))


def _flat(document: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in document.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def short(value: Any) -> str:
    """Return a value for a person's eye: a fraction with four digits, everything else as it is."""
    if isinstance(value, float):
        return f"{value:.4f}".rstrip("0").rstrip(".") if abs(value) < 1e15 else cell(value)  # noqa: PLR2004
    return cell(value)


def _drawn(columns: tuple[str, ...], rows: list[list[str]], key: str, *, width: str, colour: bool) -> str:
    """Return a table as wide as the terminal: long texts give way, and nothing else does."""
    import io
    import shutil

    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    longest = [max(len(name), *(cell_len(row[at]) for row in rows)) for at, name in enumerate(columns)]
    texts = [at for at, name in enumerate(columns) if longest[at] > _TEXT_FROM and name != key]
    fixed = sum(width for at, width in enumerate(longest) if at not in texts) + _GAP * (len(columns) - 1)
    left = (int(width) if width.isdecimal() else shutil.get_terminal_size().columns) - fixed
    for place, at in enumerate(sorted(texts, key=lambda at: longest[at])):
        # The shorter ones first, so that what they do not use goes to the longer ones.
        longest[at] = max(_TEXT_LEAST, min(longest[at], left // (len(texts) - place)))
        left -= longest[at]
    page = io.StringIO()
    console = Console(
        file=page, width=sum(longest) + _GAP * len(columns), force_terminal=colour,
        color_system="standard" if colour else None, highlight=False,
    )  # fmt: skip
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for name, wide in zip(columns, longest, strict=True):
        table.add_column(Text(name.upper()), no_wrap=True, overflow="ellipsis", width=wide)
    for row in rows:
        table.add_row(*(Text(value) for value in row))
    console.print(table)
    return "".join(f"{line.rstrip()}\n" for line in page.getvalue().split("\n")[:-1])


def counted(number: int, thing: str) -> str:
    """Return `1 episode`, `2 episodes`."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def _to_json(value: Any) -> bytes:
    """Return a value as JSON; a name of a file that is no text, surrogates to Python, with escapes of them."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return msgspec.json.encode(_writable(msgspec.to_builtins(value)))


def _writable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {_writable(name): _writable(member) for name, member in value.items()}
    return [_writable(member) for member in value] if isinstance(value, list) else value


def say_json(stream: Errors | None, document: Any) -> None:
    """Say one thing on stderr, as a line of JSON."""
    say(stream, harmless(_to_json(document)).decode())


def say(stream: Errors | None, line: str) -> None:
    """Write one line to stderr. Where stderr is gone or full there is nobody left to tell."""
    if stream is None:
        return
    try:
        stream.write((escape(line) + "\n").encode("utf-8", "backslashreplace"))
        stream.flush()
    except (OSError, ValueError):
        return
