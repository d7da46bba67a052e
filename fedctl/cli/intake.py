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

    from fedctl.client.caller import Caller
    from fedctl.config import Settings
    from fedctl.messages.memory import StoreResult

LINE_MAX_BYTES = FRAME_MAX_BYTES
"""Where reading a line stops: an episode of 1 MiB has room in it even with every character escaped as `\\u00e9`."""
READ_BYTES = 1 << 16
_ESCAPED_TICKS = str.maketrans("", "", "`")

Document = dict[str, Any]
D = TypeVar("D")


class Line(NamedTuple, Generic[D]):
    """One line of input: a draft of what is asked, or what is wrong with it. `raw` is what goes to `--rejects`."""

    number: int
    draft: D | None
    error: FedctlError | None
    raw: Any
    size: int


EpisodeLine = Line[EpisodeDraft]


class Outcome(NamedTuple):
    """What became of an episode's line: the store's result, or the error that kept it out."""

    line: EpisodeLine
    result: StoreResult | None
    error: dict[str, Any] | None

    @property
    def ok(self) -> bool:
        """Whether the store took it."""
        return self.error is None

    def as_answer(self) -> dict[str, Any]:
        """Return the line that a batch answers with."""
        draft = self.line.draft
        name = draft.id if draft is not None else None
        if self.result is None or self.error is not None:
            return {"ok": False, "line": self.line.number, "id": name, "error": self.error}
        result = self.result
        return {
            "ok": True, "id": result.id, "seq": result.seq, "existing": result.existing, "deleted": result.deleted,
        }  # fmt: skip


def read_lines(stream: BinaryIO) -> Iterator[tuple[int, bytes | None] | None]:
    r"""Yield `(number, line)` split on `\n` alone; the line is None if it is longer than any episode.

    Yields None where nothing more is to be had at the moment without waiting.
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
            else:
                yield number, bytes(held) + part
            held.clear()
            too_long = False
        if too_long or len(held) + len(rest) > LINE_MAX_BYTES:
            held.clear()
            too_long = True
        else:
            held += rest
    if held or too_long:
        yield number + 1, None if too_long else bytes(held)


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
        if document.get("id") is None:
            document["id"] = new_id(line)
        return draft_line(number, document, line.decode())

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
    if number == 1:
        raw = raw.removeprefix(b"\xef\xbb\xbf")
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
        raise UsageError(str(error).translate(_ESCAPED_TICKS)) from None


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


def partial(refused: int) -> int:
    """Return the exit code of a run that refused so many lines."""
    return Partial.exit if refused else 0
