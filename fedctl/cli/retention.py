"""`fedctl retention`: what a tenant keeps, and letting the rest go."""

from typing import Annotated, Any

import msgspec

from fedctl.cli import options, values
from fedctl.cli.command import Invocation, noun, verb
from fedctl.cli.cron import LockWait, MaxTime, PingUrlFile, pinged, when_free
from fedctl.cli.options import argument, flag
from fedctl.cli.progress import Progress
from fedctl.cli.render import Shape
from fedctl.errors import Partial, UsageError, from_code
from fedctl.messages.retention import (
    ExplainAnswer,
    ExplainEpisode,
    GetPolicy,
    PolicyAnswer,
    Prune,
    Pruned,
    SetPolicy,
)
from fedctl.model.retention import GUARD_SHARE
from fedctl.model.time import format_duration

POLICY = Shape.of(PolicyAnswer, key="tenant_id")
PRUNED = Shape.of(
    Pruned,
    "tenant_id", "dry_run", "examined", "removed", "kept", "reasons", "items_removed", "events_removed",
    "agents_removed", "bytes_freed", "more", "error.message",
    key="tenant_id",
)  # fmt: skip
EXPLAINED = Shape.of(ExplainAnswer)

app = noun("retention", "Say what is kept and for how long, and let the rest go.")


def _age(name: str, says: str) -> Any:
    return flag(name, metavar="DUR|none", parser=values.or_none(values.lasting), says=says)


def _number(name: str, says: str) -> Any:
    return flag(name, metavar="N|none", parser=values.or_none(values.count), says=says)


def _most(text: str) -> dict[str, Any]:
    """Return the guard: a share of what is looked at (20%), or a number."""
    if not text.endswith("%"):
        return {"max_rows": values.count(text)}
    share = values.measure(text[:-1]) / 100
    if share > 1:
        raise UsageError(f"{text} is more than there is")
    return {"max_share": share}


@verb(
    app,
    "set",
    shape=POLICY,
    examples=[
        "fedctl retention set --max-age 90d --min-reward 0.3 --keep-last 1000",
        "fedctl retention set --items-max-age 7d --events-max-age 30d --agents-max-age 7d",
        "fedctl retention set --max-age none",
    ],
)
def set_(
    ctx: Invocation,
    max_age: Annotated[Any, _age("--max-age", "Episodes that are older go.")] = None,
    min_reward: Annotated[
        Any,
        flag(
            "--min-reward",
            metavar="R|none",
            parser=values.or_none(values.unit_interval),
            says="Episodes with a lower reward go; those without one stay.",
        ),
    ] = None,
    max_episodes: Annotated[
        Any, _number("--max-episodes", "Of more than N episodes the oldest go, by when they were made.")
    ] = None,
    keep_last: Annotated[Any, _number("--keep-last", "The N newest episodes stay, by when they were made.")] = None,
    keep_success: Annotated[
        bool | None, flag("--keep-success/--no-keep-success", says="Episodes that succeeded stay.")
    ] = None,
    keep_where: Annotated[
        list[str] | None,
        flag(
            "--keep-where",
            metavar="PATH=VALUE|none",
            says="Episodes whose metadata say so stay; also !=, <, <=, >, >=. Repeatable: any of them keeps.",
        ),
    ] = None,
    items_max_age: Annotated[Any, _age("--items-max-age", "Items done or poisoned longer ago go.")] = None,
    events_max_age: Annotated[
        Any, _age("--events-max-age", "Older events go, but for those that tell of living episodes.")
    ] = None,
    agents_max_age: Annotated[
        Any, _age("--agents-max-age", "Dead agents whose lifetime ended longer ago go, with what the log has of them.")
    ] = None,
) -> None:
    """Set the tenant's policy; `none` lifts a rule, what is not named stays as it is.

    What any rule names goes, unless a rule keeps it: the newest N, what succeeded, what its metadata keep, and what is
    pinned (memory pin). Nothing goes before `retention prune`, or a hub with --retention-every, carries it out.
    """
    given = {
        "max_age_ms": max_age, "min_reward": min_reward, "max_episodes": max_episodes, "keep_last": keep_last,
        "items_max_age_ms": items_max_age, "events_max_age_ms": events_max_age, "agents_max_age_ms": agents_max_age,
    }  # fmt: skip
    rules: dict[str, Any] = {name: value[0] for name, value in given.items() if value is not None}
    if keep_success is not None:
        rules["keep_success"] = keep_success
    if keep_where is not None:
        rules["keep_where"] = [] if keep_where == ["none"] else options.named("--keep-where", values.where)(keep_where)
    if not rules:
        raise UsageError("say which rule to set, such as --max-age 90d, or to lift: --max-age none")
    with ctx.caller(writes=True) as caller:
        answer = caller.call(SetPolicy(**rules))
    ctx.screen.done(answer, POLICY, shown=_shown(ctx, answer))


@verb(app, shape=POLICY, examples=["fedctl retention show --tenant acme"])
def show(ctx: Invocation) -> None:
    """Show the tenant's policy; what is empty is no rule."""
    with ctx.caller() as caller:
        answer = caller.call(GetPolicy())
    ctx.screen.one(answer, POLICY, shown=_shown(ctx, answer))


def _shown(ctx: Invocation, answer: PolicyAnswer) -> dict[str, Any] | None:
    """Return what a person is shown: durations as they are given, not in milliseconds."""
    if ctx.screen.plain:
        return None
    rules = {
        name.removesuffix("_ms"): format_duration(value) if name.endswith("_ms") and value is not None else value
        for name, value in msgspec.to_builtins(answer.policy).items()
    }
    return {"tenant_id": answer.tenant_id, "policy": rules}


@verb(
    app,
    shape=PRUNED,
    form="either",
    dry_run=True,
    examples=[
        "fedctl retention prune --dry-run",
        "fedctl retention prune -q --all-tenants --lock-wait 10m --max-time 1h     # from cron",
    ],
)
def prune(
    ctx: Invocation,
    max_delete: Annotated[
        Any,
        flag(
            "--max-delete",
            metavar="SHARE%|N",
            parser=_most,
            default="20%, where more than 100 rows would go",
            says="Remove nothing if more would go, of episodes, items, events or agents.",
        ),
    ] = None,
    all_tenants: Annotated[
        bool, flag("--all-tenants", says="Of every tenant that has a policy; with a token, an operator's.")
    ] = False,
    lock_wait: LockWait = 0,
    max_time: MaxTime = None,
    ping_url_file: PingUrlFile = None,
) -> int:
    """Carry out the policy: what it names goes for good, in small steps that hold up nobody.

    A removed episode leaves its id behind: what is pushed again under it is not stored. The file keeps its size, and
    fills what became free (`store vacuum` shrinks it). Exit 5 when too much would go, 3 when --max-time ended it early.
    """
    request = Prune(
        dry_run=ctx.dry_run,
        all_tenants=all_tenants,
        max_ms=max_time,
        **(max_delete or {"max_share": GUARD_SHARE}),
    )
    with pinged(ctx, ping_url_file) as run:
        with ctx.caller(unhurried=True) as caller, Progress(ctx, "pruning"):
            results = when_free("prune", lambda: caller.call(request).results, lock_wait)
        if all_tenants and not (ctx.settings.quiet and ctx.screen.form == "table"):
            ctx.screen.many(results, PRUNED)
        elif not all_tenants:
            ctx.screen.done(results[0], PRUNED)
        run.code, run.why = _outcome(ctx, results, all_tenants=all_tenants)
    return run.code


def _outcome(ctx: Invocation, results: list[Pruned], *, all_tenants: bool) -> tuple[int, str]:
    """Say on stderr what was not done, in one line; return the exit code, and that line."""
    if not results:
        ctx.screen.note("no tenant has a policy by which anything goes (fedctl retention set)")
    if not all_tenants and (error := results[0].error) is not None:
        raise from_code(error["code"], error["message"], hint=error["hint"], details=error["details"])
    said = [f"{one.tenant_id}: {one.error['message']}" for one in results if one.error is not None]
    said += [f"{one.tenant_id}: it ended early, and there is more to remove" for one in results if one.more]
    if not said:
        return 0, ""
    why = "; ".join(said)
    ctx.session.say(f"{'error' if any(one.error for one in results) else 'note'}: {why}")
    return Partial.exit, why


@verb(
    app,
    shape=EXPLAINED,
    examples=['fedctl retention explain "$id"', 'fedctl retention explain "$id" --json | jq .reasons'],
)
def explain(ctx: Invocation, episode: Annotated[str, argument("EPISODE", "Its id.", values.episode_id)]) -> None:
    """Say whether an episode would go if the policy were carried out now, and by which rule."""
    with ctx.caller() as caller:
        ctx.screen.one(caller.call(ExplainEpisode(id=episode)), EXPLAINED)
