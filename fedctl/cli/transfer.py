"""The long ways of `fedctl memory`: import, export and re-embedding, each a loop of requests with its progress."""

from __future__ import annotations

import gc
import itertools
import os
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, BinaryIO, Literal

import msgspec

from fedctl import config, disk
from fedctl.cli import intake, sources
from fedctl.cli.progress import Progress
from fedctl.cli.render import counted
from fedctl.client import paging
from fedctl.errors import NO_SPACE, Conflict, Denied, DiskFull, FedctlError, Unavailable, UsageError
from fedctl.messages.memory import EmbedPending, ListEpisodes, Reindex, ReindexAnswer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fedctl.cli.command import Invocation
    from fedctl.client.caller import Caller

STEPS_IN_VAIN_MAX = 240
"""A minute of waiting for a hub that embeds nothing of ours: one that could not tries again after half of it."""


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """How many lines came to what, and how many of the tenants' episodes are not embedded.

    The latter is null where nobody could be asked any more.
    """

    lines: int
    imported: int
    existing: int
    skipped: int
    deleted: int
    rejected: int
    pending_embeddings: int | None


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """What was written, and where."""

    path: str
    episodes: int
    size_bytes: int


def run_import(
    ctx: Invocation,
    path: str,
    *,
    form: str | None,
    table: str | None,
    on_conflict: Literal["error", "skip"],
    rejects: str | None,
    embed: bool,
) -> Imported:
    """Store the episodes of a file, and embed them; return what came of it."""
    gc.enable()
    stdin = ctx.stdin.take("FILE") if path == "-" else None
    source = sources.open_source(path, form, table, stdin, ctx.settings.home)
    counts = dict.fromkeys(("lines", "imported", "existing", "skipped", "deleted", "rejected"), 0)
    tenants: set[str | None] = set()
    with ExitStack() as stack:
        stack.callback(source.close)
        # A file that cannot be read at all says so at its first line: before anything is made or asked.
        lines = itertools.chain(list(itertools.islice(source.lines, 1)), source.lines)
        refused = stack.enter_context(_rejects(rejects, path)) if rejects is not None else None
        caller = stack.enter_context(ctx.caller(writes=True, unhurried=True))
        with Progress(ctx, "importing") as progress:
            for outcomes in intake.store_lines(caller, ctx.settings, lines, on_conflict=on_conflict):
                for outcome in outcomes:
                    counts["lines"] += 1
                    counts[_came_to(outcome)] += 1
                    if outcome.ok:
                        tenants.add(intake.tenant_of(outcome.line, ctx.settings))
                    elif refused is not None or not ctx.settings.quiet:
                        _tell(ctx, outcome, refused)
                progress.update(source.position() if source.position else counts["lines"], source.size)
        if counts["rejected"] and ctx.settings.quiet:
            ctx.session.say(f"error: {counts['rejected']:,} of {counts['lines']:,} lines were refused")
        pending = _embed(ctx, caller, tenants, wait=embed)
    return Imported(**counts, pending_embeddings=pending)


def _embed(ctx: Invocation, caller: Caller, tenants: Iterable[str | None], *, wait: bool) -> int | None:
    """Wait until nothing of these tenants lacks its vector; return how much does all the same."""
    try:
        return sum(_embed_one(ctx, caller, tenant, wait=wait) for tenant in tenants)
    except Unavailable as error:  # an agent without its hub; a hub that was stopped and will go on by itself
        ctx.screen.note(f"all is stored, and not embedded yet: {error.message}")
        return None


def _embed_one(ctx: Invocation, caller: Caller, tenant: str | None, *, wait: bool) -> int:
    total = left = least = caller.call(EmbedPending(budget_ms=0), tenant_id=tenant).pending
    in_vain = 0
    with Progress(ctx, "embedding") as progress:
        while wait and left:
            answer = caller.call(EmbedPending(), tenant_id=tenant)
            left = answer.pending
            in_vain = 0 if left < least else in_vain + 1
            least = min(left, least)  # others may store meanwhile
            progress.update(total - least, total)
            notes = answer.notes
            if in_vain == STEPS_IN_VAIN_MAX:
                notes = [f"{counted(left, 'episode')} without a vector, and no progress: see the hub's log"]
            for note in notes:
                ctx.screen.note(note)
            if notes:
                break
    return left


def _came_to(outcome: intake.Outcome) -> str:
    result = outcome.result
    if outcome.error is not None or result is None:
        return "rejected"
    return next((name for name in ("deleted", "existing", "skipped") if getattr(result, name)), "imported")


def _tell(ctx: Invocation, outcome: intake.Outcome, refused: BinaryIO | None) -> None:
    error = outcome.error or {}
    if refused is None:
        hint = f" ({error['hint']})" if error.get("hint") else ""
        ctx.session.say(f"line {outcome.line.number}: {error.get('message')}{hint}")
    else:
        line = {"line": outcome.line.number, "error": error, "record": outcome.line.raw}
        refused.write(msgspec.json.encode(line) + b"\n")


@contextmanager
def _rejects(path: str, source: str) -> Iterator[BinaryIO]:
    if source != "-" and os.path.exists(path) and os.path.samefile(path, source):  # noqa: PTH110, PTH121
        raise UsageError("--rejects names the file that is imported")
    try:
        file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        with file:
            yield file
    except OSError as error:
        raise cannot_write(path, error) from error


def export_to_stdout(ctx: Invocation, *, with_vectors: bool) -> None:
    """Write all episodes to stdout."""
    gc.enable()
    count = 0
    with ctx.caller(unhurried=True) as caller, Progress(ctx, "exporting", answering=True) as progress:
        for content, total in _exported(caller, with_vectors=with_vectors):
            ctx.screen.raw(content)
            count += content.count(b"\n")
            progress.update(count, total)
        if not count:
            ctx.note_unused(caller)


def export_to_file(ctx: Invocation, path: str, *, with_vectors: bool) -> Exported:
    """Write all episodes to a file, which is there only when it is whole; return what was written."""
    gc.enable()
    target = disk.led_to(path)
    count = size = 0
    with ctx.caller(unhurried=True) as caller, Progress(ctx, "exporting") as progress:
        written = _exported(caller, with_vectors=with_vectors)
        try:
            with disk.new_content(target) as file:
                for content, total in written:
                    file.write(content)
                    count, size = count + content.count(b"\n"), size + len(content)
                    progress.update(count, total)
        except OSError as error:
            raise cannot_write(path, error) from error
    return Exported(path=str(target), episodes=count, size_bytes=size)


def _exported(caller: Caller, *, with_vectors: bool) -> Iterator[tuple[bytes, int | None]]:
    """Yield a page as JSON lines, and how many episodes there are in all."""
    total = None
    for page in paging.pages(caller, ListEpisodes(order="oldest", with_vectors=with_vectors, count=True)):
        total = page.total if total is None else total
        yield b"".join(msgspec.json.encode(episode) + b"\n" for episode in page.episodes), total


def run_reindex(ctx: Invocation, model: str | None) -> ReindexAnswer:
    """Embed what is to be embedded, step by step. A new model is kept in the home's config when all is done."""
    gc.enable()
    if model is not None:
        _choose_model(ctx, model)
    with ctx.caller(unhurried=True) as caller, Progress(ctx, "embedding") as progress:
        answer = caller.call(Reindex(begin=True))
        total, embedded = answer.remaining, 0
        while True:
            answer = caller.call(Reindex())
            embedded += answer.embedded
            progress.update(total - answer.remaining, total)
            if not answer.remaining:
                break
    if model is not None:
        config.set_key(ctx.settings, "model", str(ctx.settings.model))
    return msgspec.structs.replace(answer, embedded=embedded)


def _choose_model(ctx: Invocation, model: str) -> None:
    from fedctl.bootstrap import hub_is_running

    folder = config.KEYS["model"].read(model)
    if not folder.is_dir():
        raise UsageError(f"--model: {model!r} is not a folder", hint="name the folder of an ONNX model")
    if ctx.settings.hub not in ("auto", "off"):
        raise UsageError("a hub elsewhere has a model of its own", hint="run this on its machine, with the hub stopped")
    if hub_is_running(ctx.settings.home):
        raise Conflict("a hub runs on this home, with its own model", hint="fedctl hub stop, then this, then start it")
    ctx.session.settings = msgspec.structs.replace(ctx.settings, model=folder)


def cannot_write(path: str, error: OSError) -> FedctlError:
    """Return what it means that a file cannot be written."""
    import errno

    if error.errno in NO_SPACE:
        return DiskFull(f"no space left to write {path!r}")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return Denied(f"{path!r} may not be written: {error.strerror}")
    return UsageError(f"cannot write {path!r}: {error.strerror}")
