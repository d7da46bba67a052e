"""`fedctl store`: look after the store on disk."""

from pathlib import Path
from typing import Annotated, Any

import msgspec

from fedctl.cli import values
from fedctl.cli.command import Invocation, noun, verb
from fedctl.cli.cron import LockWait
from fedctl.cli.options import Limit, argument, flag
from fedctl.cli.progress import Progress
from fedctl.cli.render import Shape
from fedctl.errors import Corrupt, Findings, UsageError
from fedctl.messages.store import CheckAnswer, CheckStore, Finding
from fedctl.model.store import Migrated, Vacuumed

CHECK = Shape.of(CheckAnswer, key="checks")
FINDING = Shape.of(Finding, key="check")
VACUUMED = Shape.of(Vacuumed, key="path")
MIGRATED = Shape.of(Migrated, key="path")


class StoreFile(msgspec.Struct, frozen=True, kw_only=True):
    """Where the store's database is, and whether there is one."""

    path: str
    exists: bool


PATH = Shape.of(StoreFile, key="path")

app = noun(
    "store",
    "Look after the store on disk.",
    "With less than a sixteenth of the disk free (64 MiB at most) writes are refused with exit 15, and reading "
    "goes on. What frees space is done however full it is (memory delete, retention prune, tenant erase, pool "
    "purge): for that the home has a file `reserve`, which is given up first and made again later. When there is "
    "room, writes go on.",
    "`store vacuum` gives the room of deleted rows back to the disk and needs as much as the new file takes: on a "
    "full disk free some elsewhere, or move the home. Killed at any moment it leaves the old file or the new one.",
)


@verb(app, shape=CHECK, examples=["fedctl store check", "fedctl store check --full --json"])
def check(
    ctx: Invocation,
    full: Annotated[bool, flag("--full", says="Every page of the database and every vector.")] = False,
) -> int:
    """Check that the store is whole and that what is derived from it agrees with it.

    Without --full counts and digests are compared, and the pages of the database are not read.
    Exit 0 clean, 14 when derived data are wrong (and what mends them), 13 when the data themselves are damaged.
    """
    with ctx.caller(unhurried=True) as caller, Progress(ctx, "checking"):
        answer = caller.call(CheckStore(full=full))
    if ctx.screen.form == "table" and not ctx.session.fields and answer.findings:
        ctx.screen.many(answer.findings, FINDING)
    else:
        ctx.screen.one(answer, CHECK)
    damage = [finding for finding in answer.findings if finding.severity == "data"]
    if damage:
        raise Corrupt(f"the store is damaged: {damage[0].message}", hint=damage[0].fix)
    if not full:
        ctx.screen.note("the pages of the database were not read; --full reads every page and vector")
    return Findings.exit if answer.findings else 0


@verb(app, shape=PATH, examples=["ls -l $(fedctl store path)"])
def path(ctx: Invocation) -> None:
    """Print where the store's database is, whether or not there is one."""
    from fedctl.store.store import FILE_NAME

    file = ctx.settings.home / FILE_NAME
    ctx.screen.one(StoreFile(path=str(file), exists=file.exists()), PATH, shown=str(file))


@verb(app, shape=VACUUMED, examples=["fedctl store vacuum", "fedctl store vacuum --lock-wait 1m --json"])
def vacuum(ctx: Invocation, lock_wait: LockWait = 0) -> None:
    """Write the store anew, without the room that deleted rows left in it. Nobody else may use it meanwhile.

    It needs as much free space as the new one takes. Exit 11 where others use the store: a hub, agents, commands.
    """
    from fedctl.clock import Clock
    from fedctl.operations.upkeep import vacuum as rewrite

    with Progress(ctx, "vacuuming"):
        answer = rewrite(_own_home(ctx), Clock(), wait_s=lock_wait / 1000)
    ctx.screen.done(answer, VACUUMED)


@verb(app, shape=MIGRATED, examples=["fedctl store migrate", "fedctl store migrate --lock-wait 1m -q"])
def migrate(ctx: Invocation, lock_wait: LockWait = 0) -> None:
    """Bring the store to this fedctl's schema, and say which it had. Any command does it when it opens the store.

    Exit 11 where others use a store that is to be changed, 13 where its schema is newer than this fedctl.
    """
    from fedctl.clock import Clock
    from fedctl.operations.upkeep import migrate as bring

    with Progress(ctx, "migrating"):
        answer = bring(_own_home(ctx), Clock(), wait_s=lock_wait / 1000)
    ctx.screen.done(answer, MIGRATED)


@verb(
    app,
    form="many",
    examples=[
        "fedctl store sql 'SELECT status, count(*) AS items FROM items GROUP BY status'",
        "fedctl store sql \"SELECT name FROM sqlite_schema WHERE type = 'table'\" --jsonl",
    ],
)
def sql(
    ctx: Invocation,
    statement: Annotated[str, argument("SQL", "One statement that reads; - from stdin, @FILE from a file.")],
    limit: Limit = None,
) -> None:
    """Ask the database itself, read only, with a hub running or without. The tables may change with any version.

    It has the rows of all tenants. Bytes come as SQL writes them: x'0af3'. --timeout ends what takes too long.
    """
    from itertools import islice

    from fedctl.clock import Clock
    from fedctl.operations.upkeep import ask

    home = _own_home(ctx)
    text = values.read_value("SQL", statement, ctx.stdin)
    most = limit or ctx.screen.default_limit
    timeout_ms = ctx.settings.timeout_ms
    with ask(home, text, Clock(), 30.0 if timeout_ms is None else timeout_ms / 1000) as (names, rows):
        columns = _told_apart(names)
        shown = islice(rows, most) if most else rows
        ctx.screen.many(
            (dict(zip(columns, map(_shown, row), strict=True)) for row in shown),
            Shape.of(dict, *columns, key=columns[0], fields=columns),
        )
        if most and next(rows, None) is not None:
            ctx.screen.note(f"{most:,} shown, and there are more")


def _own_home(ctx: Invocation) -> Path:
    """Return the home whose files are at hand."""
    if ctx.settings.hub not in ("auto", "off"):
        raise UsageError("that is done on the store's own machine", hint="log in there, or leave out --hub")
    return ctx.settings.home


def _told_apart(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of columns with a number at those that were there before."""
    found: dict[str, None] = {}
    for name in names:
        number, own = 1, name
        while own in found:
            number += 1
            own = f"{name}_{number}"
        found[own] = None
    return tuple(found)


def _shown(value: Any) -> Any:
    return f"x'{value.hex()}'" if isinstance(value, bytes) else value
