"""`fedctl tenant`: what tenants have, and what they may have."""

from typing import Annotated, Any

from fedctl.cli import values
from fedctl.cli.command import Invocation, noun, verb
from fedctl.cli.options import argument, flag
from fedctl.cli.render import Shape
from fedctl.errors import UsageError
from fedctl.messages.tenant import GetTenant, ListTenants, SetTenant
from fedctl.model.tenant import Tenant

TENANT = Shape.of(Tenant)
NAME = argument("NAME", "The tenant.", values.name_of("tenant"))

app = noun("tenant", "See what tenants have, and limit what they may have.")


@verb(app, "list", shape=TENANT, examples=["fedctl tenant list", "fedctl tenant list --json | jq '.[].episodes'"])
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
