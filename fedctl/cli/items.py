"""Lines in, items changed, one outcome a line: what `--batch` of `fedctl pool` does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import msgspec

from fedctl.cli import intake
from fedctl.cli.intake import BatchOutcome, Document, Line
from fedctl.cli.progress import Progress
from fedctl.cli.values import duration, future
from fedctl.clock import Clock
from fedctl.config import did_you_mean
from fedctl.errors import UsageError
from fedctl.model.episode import EpisodeDraft
from fedctl.model.limits import FRAME_MAX_BYTES
from fedctl.model.pool import Completion, FollowUp, Item, ItemDraft, ItemFailure, Lease

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fedctl.cli.command import Invocation
    from fedctl.messages.base import Request
    from fedctl.messages.pool import ItemResult, ItemResults

S = TypeVar("S", bound=msgspec.Struct)
_ITEM = frozenset(Item.__struct_fields__)
_RECORD = ("id", "lease_id", "pool", "status")
"""What tells an item, as claim answers with it, from a line that was written for the occasion."""
_HELD = (Completion, ItemFailure, Lease)


class CompletionOutcome(BatchOutcome, frozen=True, kw_only=True):
    """What `pool complete --batch` answers a line with; see `BatchOutcome`.

    One that is `ok` has the ids of the items `pushed` with it, and of the `episode` stored with it.
    """

    pushed: list[str] | msgspec.UnsetType = msgspec.UNSET
    episode: str | msgspec.UnsetType | None = msgspec.UNSET


def run(
    ctx: Invocation,
    read: Callable[[Document], S],
    request: Callable[[list[S]], Request[ItemResults]],
    *,
    writes: bool = False,
) -> int:
    """Carry out the lines of stdin, in requests of up to 1,000, and answer each in its place; return the exit code."""
    answers = intake.Answers(ctx)
    answered = 0
    lines = (None if item is None else _line(*item, read) for item in _full(ctx.stdin.take("--batch")))
    with ctx.caller(writes=writes) as caller, Progress(ctx, "sending", answering=True) as progress:
        for together in intake.in_requests(lines):
            drafts = [line.draft for line in together if line.draft is not None]
            results = iter(caller.call(request(drafts)).results if drafts else ())
            for line in together:
                answers.add(line.number, _refused(line) if line.draft is None else _answer(line, next(results)))
            ctx.screen.flush()
            answered += len(together)
            progress.update(answered, None)
    return answers.end()


def _full(stream: BinaryIO) -> Iterator[tuple[int, bytes | None] | None]:
    """Yield the lines, each with its number.

    Raises:
        UsageError: It is the beginning of an array, and no line of anything.
    """
    begun = False
    for item in intake.read_lines(stream):
        if not begun and item is not None and item[1] is not None and item[1].lstrip().startswith(b"["):
            hint = "make them with --jsonl, or with jq -c '.[]'"
            raise UsageError("this is a JSON array, and --batch takes an object a line", hint=hint)
        begun = begun or item is not None
        yield item


def _line(number: int, raw: bytes | None, read: Callable[[Document], S]) -> Line[S]:
    too_long = UsageError(f"the line is longer than 4 MiB ({FRAME_MAX_BYTES} bytes)")

    def drafted(document: Document, line: bytes) -> Line[S]:
        # The line itself is about as long as what it becomes in a request.
        return Line(number, read(document), None, None, len(line), unnamed=document.get("id") is None)

    return intake.read_line(number, raw, "a line", drafted, too_long)


def _refused(line: Line[S]) -> BatchOutcome:
    error = None if line.error is None else line.error.as_dict()
    return BatchOutcome(ok=False, line=line.number, id=None, error=error)


def _answer(line: Line[S], result: ItemResult) -> BatchOutcome:
    if not result.ok:
        name = None if line.unnamed else result.id
        return BatchOutcome(ok=False, line=line.number, id=name, error=result.error)
    if not isinstance(line.draft, Completion):
        return BatchOutcome(ok=True, id=result.id, existing=result.existing)
    episode_id = None if result.episode is None else result.episode.id
    return CompletionOutcome(
        ok=True, id=result.id, existing=result.existing, pushed=result.pushed_ids, episode=episode_id
    )


# -- what a line may hold -----------------------------------------------------------------------------------------


def draft(document: Document) -> ItemDraft:
    """Return an item to push; `delay` and `at` say in the words of the command line when it can be claimed."""
    document = _known(document, ItemDraft, "delay", "at")
    _in_ms(document, "delay")
    if "at" in document:
        document["available_at"] = future(_text("at", document.pop("at")))
    return intake.convert({"id": Clock().new_id(), **document}, ItemDraft)


def completion(lease_id: str | None) -> Callable[[Document], Completion]:
    """Return the reader of items that are done; a whole record with a result of its own is one, too."""

    def read(document: Document) -> Completion:
        held = _held(_known(document, Completion), lease_id)
        follow_ups = held.get("then_push", [])
        if not isinstance(follow_ups, list):
            raise UsageError("then_push is a list of items, each with its pool")
        held["then_push"] = [_follow_up(one) for one in follow_ups]
        if "episode" in held:
            held["episode"] = episode(held["episode"])
        return intake.convert(held, Completion)

    return read


def failure(lease_id: str | None) -> Callable[[Document], ItemFailure]:
    """Return the reader of items that failed, or of whole records; `retry_in` is a duration in words."""

    def read(document: Document) -> ItemFailure:
        held = _held(_known(document, ItemFailure, "retry_in"), lease_id)
        _in_ms(held, "retry_in")
        return intake.convert(held, ItemFailure)

    return read


def lease(lease_id: str | None) -> Callable[[Document], Lease]:
    """Return the reader of leases; a whole record, as claim answers with it, is taken for its own."""

    def read(document: Document) -> Lease:
        held = _held(_known(document, Lease, *_ITEM), lease_id)
        return intake.convert({"id": held.get("id"), "lease_id": held["lease_id"]}, Lease)

    return read


def episode(document: Any) -> EpisodeDraft:
    """Return an episode to store."""
    if not isinstance(document, dict):
        raise UsageError("an episode is a JSON object", hint='{"task": ..., "output": ..., "reward": ...}')
    named = _known(document, EpisodeDraft)
    return intake.convert({"id": Clock().new_id(), **named}, EpisodeDraft)


def _follow_up(document: Any) -> FollowUp:
    if not isinstance(document, dict) or "pool" not in document:
        raise UsageError("what then_push lists are objects, each with its pool", hint='{"pool": ..., "data": ...}')
    rest = {name: value for name, value in document.items() if name != "pool"}
    return FollowUp(pool=_text("pool", document["pool"]), item=draft(rest))


def _known(document: Document, kind: type[msgspec.Struct], *more: str) -> Document:
    """Return a copy of a line; `UsageError` if it holds what nobody would look at."""
    known = [*kind.__struct_fields__, *(name for name in more if name not in kind.__struct_fields__)]
    record = kind in _HELD and all(name in document for name in _RECORD)
    for name in document:
        if name not in known and not (record and name in _ITEM):
            raise intake.unknown_field(name, known, _hint(name, kind, known))
    # Absent is null, and null absent; only what is JSON of its own may be null and mean it.
    return {
        name: value
        for name, value in document.items()
        if name in known and (value is not None or name in ("data", "result"))
    }


def _hint(name: str, kind: type[msgspec.Struct], known: list[str]) -> str | None:
    if kind is ItemDraft:
        return did_you_mean(name, known) or 'what the worker is to see goes into data: {"data": {...}}'
    if name in _ITEM and kind in _HELD:
        return f"the fields are {', '.join(known)}; or give the item whole, as claim answers with it"
    return None


def _held(document: Document, lease_id: str | None) -> Document:
    """Return the line with the lease that all without one of their own have."""
    held = {"lease_id": lease_id, **document}
    if held["lease_id"] is None:
        raise UsageError("lease_id is missing", hint="it comes with the claimed item")
    return held


def _in_ms(document: Document, name: str) -> None:
    """Read a duration in words into the field that counts it in ms."""
    if name not in document:
        return
    if f"{name}_ms" in document:
        raise UsageError(f"{name} and {name}_ms say the same thing twice")
    document[f"{name}_ms"] = duration(_text(name, document.pop(name)))


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise UsageError(f"{name} is a text")
    return value
