"""Lines in, something done with each, one outcome a line: what every `--batch` and `memory import` share.

Nothing here holds more than one request's worth of input, and nothing waits for a full request while the other
side waits for an answer: a slow producer gets its answers as it goes.
"""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING, Any, BinaryIO, Generic, Literal, NamedTuple, TypeVar

import msgspec

from fedctl.cli.values import decode_json
from fedctl.config import did_you_mean
from fedctl.errors import Denied, FedctlError, Partial, UsageError
from fedctl.messages.memory import StoreEpisodes
from fedctl.model.episode import EpisodeDraft
from fedctl.model.limits import (
    BATCH_MAX_ITEMS,
    EPISODE_MAX_BYTES,
    FRAME_MAX_BYTES,
    JSON_MAX_DEPTH,
    PAGE_MAX_BYTES,
    check_json,
    check_text,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from fedctl.cli.command import Invocation
    from fedctl.client.caller import Caller
    from fedctl.config import Settings
    from fedctl.model.episode import StoreResult

LINE_MAX_BYTES = FRAME_MAX_BYTES
"""Where reading a line stops: an episode of 1 MiB has room in it even with every character escaped as `\\u00e9`."""
READ_BYTES = 1 << 16
REFUSED_SAID = 20
"""Where the answers are no JSON, how many of the refused lines are said on stderr."""
_ESCAPED_TICKS = str.maketrans("", "", "`")

Document = dict[str, Any]
D = TypeVar("D", bound=msgspec.Struct)


class Line(NamedTuple, Generic[D]):
    """One line of input: a draft of what is asked, or what is wrong with it. `raw` is what goes to `--rejects`.

    A line without an id of its own is `unnamed`: its draft has one that nobody else knows.
    """

    number: int
    draft: D | None
    error: FedctlError | None
    raw: Any
    size: int
    unnamed: bool = False


EpisodeLine = Line[EpisodeDraft]


class BatchOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What `--batch` answers a line with: one that was refused has `line`, its number, and `error`.

    One that is `ok` has `existing`: it was so before.
    """

    ok: bool
    id: str | None
    line: int | msgspec.UnsetType = msgspec.UNSET
    error: dict[str, Any] | msgspec.UnsetType | None = msgspec.UNSET
    existing: bool | msgspec.UnsetType = msgspec.UNSET


class EpisodeOutcome(BatchOutcome, frozen=True, kw_only=True):
    """What `memory store --batch` answers a line with; see `BatchOutcome`.

    `seq` is its place in the store's change log; `deleted`: the id was deleted before, and it is not stored.
    """

    seq: int | msgspec.UnsetType | None = msgspec.UNSET
    deleted: bool | msgspec.UnsetType = msgspec.UNSET


class Outcome(NamedTuple):
    """What became of an episode's line: the store's result, or the error that kept it out."""

    line: EpisodeLine
    result: StoreResult | None
    error: dict[str, Any] | None

    @property
    def ok(self) -> bool:
        """Whether the store took it."""
        return self.error is None

    def as_answer(self) -> EpisodeOutcome:
        """Return the line that a batch answers with."""
        draft = self.line.draft
        name = draft.id if draft is not None and not self.line.unnamed else None
        if self.result is None or self.error is not None:
            return EpisodeOutcome(ok=False, line=self.line.number, id=name, error=self.error)
        result = self.result
        return EpisodeOutcome(ok=True, id=result.id, seq=result.seq, existing=result.existing, deleted=result.deleted)


def read_lines(stream: BinaryIO) -> Iterator[tuple[int, bytes | None] | None]:
    r"""Yield `(number, line)` split on `\n` alone; the line is None if it is longer than any episode.

    Lines of white space alone are passed over, and so is a byte order mark. Yields None where nothing more is to be
    had at the moment without waiting.
    """
    number, held, too_long = 0, bytearray(), False
    for block in _blocks(stream):
        if block is None:
            yield None
            continue
        *ended, rest = block.split(b"\n")
        for part in ended:
            number += 1
            if too_long or len(held) + len(part) > LINE_MAX_BYTES:
                yield number, None
            elif line := _content(number, bytes(held) + part):
                yield number, line
            held.clear()
            too_long = False
        if too_long or len(held) + len(rest) > LINE_MAX_BYTES:
            held.clear()
            too_long = True
        else:
            held += rest
    if too_long:
        yield number + 1, None
    elif line := _content(number + 1, bytes(held)):
        yield number + 1, line


def _content(number: int, line: bytes) -> bytes:
    """Return a line without a byte order mark at the beginning of it all; empty if it is white space alone."""
    if number == 1:
        line = line.removeprefix(b"\xef\xbb\xbf")
    return b"" if line.isspace() else line


def _blocks(stream: BinaryIO) -> Iterator[bytes | None]:
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError, AttributeError):
        while block := stream.read(READ_BYTES):
            yield block
        return
    # Past the buffer, on the descriptor itself: what a buffer holds back, select() does not see.
    while block := os.read(descriptor, READ_BYTES):
        yield block
        if not select.select([descriptor], [], [], 0)[0]:
            yield None


def line_of(number: int, raw: bytes | None, new_id: Callable[[bytes], str]) -> EpisodeLine:
    """Return a line of JSON as an episode to store. `new_id` names one that has no name."""

    def named(document: Document, line: bytes) -> EpisodeLine:
        unnamed = document.get("id") is None
        if unnamed:
            document["id"] = new_id(line)
        return draft_line(number, document, line.decode())._replace(unnamed=unnamed)

    return read_line(number, raw, "an episode", named, _too_large())


def read_line(
    number: int,
    raw: bytes | None,
    what: str,
    read: Callable[[Document, bytes], Line[D]],
    too_long: UsageError,
) -> Line[D]:
    """Return a line as what `read` makes of its JSON object (`what` in words), or as what is wrong with it."""
    if raw is None:
        return Line(number, None, too_long, None, 0)
    try:
        return read(parse(raw, what), raw)
    except UsageError as error:
        return Line(number, None, error, raw.decode("utf-8", "replace"), 0)


def parse(raw: bytes, what: str = "an episode") -> Document:
    """Return a line's JSON object.

    Raises:
        UsageError: It is not JSON, not UTF-8, too deep, or not an object.
    """
    document = decode_json(raw)
    if not isinstance(document, dict):
        raise UsageError(f"{what} is a JSON object")
    return document


def convert(document: Any, kind: type[D]) -> D:
    """Return an object as a struct; `UsageError` if a field is unknown or has the wrong type."""
    try:
        return msgspec.convert(document, kind)
    except RecursionError:
        raise UsageError(f"the JSON is nested deeper than {JSON_MAX_DEPTH} levels") from None
    except msgspec.ValidationError as error:
        known = list(kind.__struct_encode_fields__)
        unknown = [name for name in document if name not in known]
        if unknown and "unknown field" in str(error):
            raise unknown_field(unknown[0], known) from None
        raise UsageError(str(error).translate(_ESCAPED_TICKS)) from None


def unknown_field(name: str, known: list[str], hint: str | None = None) -> UsageError:
    """Return the error of a word that is no field of a line; without a hint it is what was perhaps meant."""
    hint = hint or did_you_mean(name, known) or f"the fields are {', '.join(known)}"
    return UsageError(f"{name!r} is not a field of this line", hint=hint)


def draft_line(number: int, document: Document, raw: Any) -> EpisodeLine:
    """Return an object as an episode to store.

    Raises:
        UsageError: A field is unknown, has the wrong type, or is over a limit.
    """
    draft = convert(document, EpisodeDraft)
    try:
        for field in ("input", "output", "metadata"):
            check_json(field, getattr(draft, field))
        size = len(msgspec.json.encode(draft))
    except RecursionError:
        raise UsageError(f"the JSON is nested deeper than {JSON_MAX_DEPTH} levels") from None
    except UnicodeEncodeError:
        raise UsageError("an episode holds bytes that are not UTF-8 (a lone surrogate)") from None
    if size > PAGE_MAX_BYTES:
        raise _too_large()
    return Line(number, draft, None, raw, size)


def _too_large() -> UsageError:
    return UsageError(f"the episode is larger than 1 MiB ({EPISODE_MAX_BYTES} bytes)")


def store_lines(
    caller: Caller,
    settings: Settings,
    lines: Iterable[EpisodeLine | None],
    *,
    on_conflict: Literal["error", "skip"] = "error",
) -> Iterator[list[Outcome]]:
    """Store lines, a request's worth at a time; yield their outcomes in order. A None among them says: now.

    Raises:
        FedctlError: Nobody can store at present (no hub, no space, ...). What was yielded before is stored.
    """
    for together in in_requests(lines):
        yield _store(caller, settings, together, on_conflict)


def in_requests(lines: Iterable[Line[D] | None]) -> Iterator[list[Line[D]]]:
    """Yield lines in lists of a request's worth; a None among them says: now."""
    waiting: list[Line[D]] = []
    size = 0
    for line in lines:
        full = line is None or len(waiting) >= BATCH_MAX_ITEMS or size + line.size > PAGE_MAX_BYTES
        if full and waiting:
            yield waiting
            waiting, size = [], 0
        if line is not None:
            waiting.append(line)
            size += line.size
    if waiting:
        yield waiting


def _store(
    caller: Caller, settings: Settings, lines: list[EpisodeLine], on_conflict: Literal["error", "skip"]
) -> list[Outcome]:
    outcomes: dict[int, Outcome] = {}
    groups: dict[str | None, list[EpisodeLine]] = {}
    for line in lines:
        if line.draft is None:
            outcomes[line.number] = Outcome(line, None, (line.error or _too_large()).as_dict())
            continue
        tenant = line.draft.tenant_id
        if tenant is not None and settings.tenant_explicit and tenant != settings.tenant:
            error = Denied(f"the line is {tenant!r}'s and the tenant here is {settings.tenant!r}")
            outcomes[line.number] = Outcome(line, None, error.as_dict())
            continue
        groups.setdefault(tenant_of(line, settings), []).append(line)
    for tenant, group in groups.items():
        drafts = [line.draft for line in group if line.draft is not None]
        try:
            request = StoreEpisodes(episodes=drafts, on_conflict=on_conflict)
            results = caller.call(request, tenant_id=tenant).results
        except (Denied, UsageError) as error:
            # Lines of another tenant than one's own: theirs alone is refused, the rest goes on.
            if tenant is None:
                raise
            outcomes.update((line.number, Outcome(line, None, error.as_dict())) for line in group)
            continue
        for line, result in zip(group, results, strict=True):
            outcomes[line.number] = Outcome(line, result, None if result.ok else result.error)
    return [outcomes[line.number] for line in lines]


def tenant_of(line: EpisodeLine, settings: Settings) -> str | None:
    """Return whose a line is; None: one's own.

    Without a tenant that was chosen, one's own may be a token's: only whoever answers knows which it is.
    """
    return None if settings.tenant_explicit or line.draft is None else line.draft.tenant_id


def check_row(document: Document) -> Document:
    """Return a row if all its texts are Unicode; tables, unlike JSON, may hold anything."""
    for field, value in document.items():
        if isinstance(value, str):
            check_text(field, value) if field == "task" else check_json(field, value)
    return document


class Answers:
    """The outcomes of a batch, in the form asked for: JSON lines, ids, or with --quiet none of what went well.

    Raises:
        UsageError: Another form was asked for, or fields.
    """

    def __init__(self, ctx: Invocation) -> None:
        if ctx.session.fields:
            raise UsageError("--batch answers with JSON lines of its own: --fields has no say in it")
        if "format" in ctx.session.flags and ctx.screen.form in ("table", "tsv"):
            raise UsageError(f"--batch answers with JSON lines, or with --ids: there is no {ctx.screen.form} of them")
        self._ctx = ctx
        self._ids = ctx.screen.form == "ids"
        self._lines = not self._ids and not (ctx.settings.quiet and ctx.screen.form == "table")
        self._refused = 0

    def add(self, number: int, answer: BatchOutcome) -> None:
        """Answer a line."""
        self._refused += not answer.ok
        if self._lines:
            self._ctx.screen.raw(msgspec.json.encode(answer) + b"\n")
        elif not answer.ok:
            if self._refused <= REFUSED_SAID and answer.error:
                self._ctx.session.say(f"error: line {number}: {answer.error['message']}")
        elif self._ids:
            self._ctx.screen.text(str(answer.id))

    def end(self) -> int:
        """Return the exit code."""
        if not self._lines and self._refused > REFUSED_SAID:
            self._ctx.session.say(f"error: and {self._refused - REFUSED_SAID:,} more lines were refused")
        return partial(self._refused)


def partial(refused: int) -> int:
    """Return the exit code of a run that refused so many lines."""
    return Partial.exit if refused else 0
