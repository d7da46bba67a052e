"""`fedctl tenant`: what tenants have, what they may have, and how one goes."""

from typing import Annotated, Any

import msgspec

from fedctl.cli import values
from fedctl.cli.command import Invocation, noun, verb
from fedctl.cli.options import argument, flag
from fedctl.cli.render import Shape
from fedctl.errors import UsageError
from fedctl.messages.tenant import GetTenant, ListTenants, SetTenant, TenantErasure
from fedctl.model.tenant import Tenant

TENANT = Shape.of(Tenant)
ERASURE = Shape.of(
    TenantErasure,
    *(name for name in TenantErasure.__struct_fields__ if name not in ("backups", "notes")),
    key="tenant_id",
)
NAME = argument("NAME", "The tenant.", values.name_of("tenant"))

app = noun(
    "tenant",
    "See what tenants have, and limit what they may have.",
    "Tenants share nothing. Locally --tenant chooses; over a network the tenant is the token's.",
    "A batch counts as what it holds: one larger than the rate passes, and then the tenant waits until that is "
    "paid off. Agents' registration and reports are not rationed.",
    "A tenant that is erased is in no rows, words, vectors, index files, the log, or what SQLite leaves behind in "
    "its pages. It works on a full disk. Digests of what was erased stay in the file `erasures` and in the store: "
    "what is pushed again is acknowledged and not stored, and what an older backup brings back is erased again. A "
    "running agent that pulled an erased episode forgets it with its next sync; one whose whole tenant is erased "
    "keeps in its RAM what it pulled until it ends. A store written by a schema below 7 may have old text in "
    "tails of its pages, which `store vacuum` clears: run it once.",
)


@verb(
    app,
    "list",
    shape=TENANT,
    form="many",
    examples=["fedctl tenant list", "fedctl tenant list --json | jq '.[].episodes'"],
)
def list_(ctx: Invocation) -> None:
    """List the tenants by name. An admin's token shows its own."""
    with ctx.caller() as caller:
        tenants = caller.call(ListTenants()).tenants
    shown = tenants[: ctx.screen.default_limit]
    ctx.screen.many(shown, TENANT)
    ctx.screen.cut(len(shown), len(tenants))


@verb(app, shape=TENANT, examples=["fedctl tenant show acme"])
def show(ctx: Invocation, name: Annotated[str, NAME]) -> None:
    """Show what a tenant has, and what it may have."""
    with ctx.caller() as caller:
        ctx.screen.one(caller.call(GetTenant(name=name)).tenant, TENANT)


@verb(
    app,
    "set",
    shape=TENANT,
    examples=[
        "fedctl tenant set acme --max-episodes 100000 --max-bytes 2GB --rate 200/s",
        "fedctl tenant set acme --rate none",
    ],
)
def set_(
    ctx: Invocation,
    name: Annotated[str, NAME],
    max_episodes: Annotated[
        Any, flag("--max-episodes", metavar="N|none", parser=values.or_none(values.count), says="How many episodes.")
    ] = None,
    max_bytes: Annotated[
        Any,
        flag("--max-bytes", metavar="SIZE|none", parser=values.or_none(values.size), says="Text of them: 500MB, 2GiB."),
    ] = None,
    rate: Annotated[
        Any,
        flag(
            "--rate",
            metavar="N/s|none",
            parser=values.or_none(values.rate),
            says="What it may ask of a hub in a second: requests, and in batches each episode or item.",
        ),
    ] = None,
) -> None:
    """Limit what a tenant may have; `none` lifts a limit, what is not named stays.

    A limit below what is there takes nothing away: it refuses what is new, with exit code 5 (the rate: 7, safe to try
    again). Episodes that are stored already are accepted again as ever.
    """
    given = {"max_episodes": max_episodes, "max_bytes": max_bytes, "rate_per_s": rate}
    limits = {field: value[0] for field, value in given.items() if value is not None}
    if not limits:
        raise UsageError("say what to limit: --max-episodes, --max-bytes or --rate")
    with ctx.caller(writes=True) as caller:
        ctx.screen.done(caller.call(SetTenant(name=name, **limits)).tenant, TENANT)


@verb(
    app,
    shape=ERASURE,
    asks=True,
    dry_run=True,
    examples=["fedctl tenant erase acme --dry-run", "fedctl tenant erase acme --yes --json | jq '.backups[].path'"],
)
def erase(ctx: Invocation, name: Annotated[str, NAME]) -> int:
    """Erase a tenant and all that it has, for good: afterwards no byte of its text is in the home.

    Its tokens are worthless and its sessions end at once. What is pushed again under an id that it had is not stored,
    and neither comes back with an older backup; a new tenant may have the name. Backups are not changed: those that
    may still hold it are listed. Logs of a hub may name the tenant, and hold none of its text.

    Whatever ends it early, the same command goes on where it was. Exit code 3: something must be finished later, by
    the same command, or by the hub or whoever prunes or checks the store next.
    """
    from fedctl.cli.erasing import erase_tenant

    erasure = erase_tenant(ctx, name)
    # Which backups is in the note.
    ctx.screen.done(erasure, ERASURE, shown=msgspec.structs.asdict(erasure) | {"backups": len(erasure.backups)})
    return 0 if erasure.complete or erasure.dry_run else 3
