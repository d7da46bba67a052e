"""`fedctl init` and `demo`: the commands that are about all of it."""

from typing import TYPE_CHECKING, Annotated

import msgspec

from fedctl.cli.command import Invocation, noun, resident, verb
from fedctl.cli.options import flag
from fedctl.cli.render import Shape

if TYPE_CHECKING:
    from fedctl.demo.result import Criterion, DemoResult


class Initialised(msgspec.Struct, frozen=True, kw_only=True):
    """The home and its store; `created`: there was none before."""

    home: str
    store: str
    created: bool


INIT = Shape.of(Initialised, key="home")
CRITERION: "Shape[Criterion]" = Shape.of("fedctl.demo.result:Criterion", key="criterion")
DEMO: "Shape[DemoResult]" = Shape.of("fedctl.demo.result:DemoResult", "ok", "seconds", "files", "home", key="ok")
FIRST_STEPS = "fedctl memory store --task 'my first task' --output 'what came of it' --reward 1"

app = noun("home", "The home.")


@verb(app, shape=INIT, examples=["fedctl init", "fedctl --home ./memory init"])
def init(ctx: Invocation) -> None:
    """Make the home and its store. Doing it again changes nothing."""
    from fedctl.bootstrap import create_home
    from fedctl.store.store import FILE_NAME

    store = ctx.settings.home / FILE_NAME
    created = not store.exists()
    create_home(ctx.settings)
    ctx.screen.done(Initialised(home=str(ctx.settings.home), store=str(store), created=created), INIT)
    ctx.screen.note(f"next: {FIRST_STEPS}")


@verb(app, shape=DEMO, examples=["fedctl demo", "fedctl demo --seconds 20 --path ~/src/project --json"])
def demo(
    ctx: Invocation,
    seconds: Annotated[int | None, flag("--seconds", metavar="N", least=1, says="How long the agents work.")] = None,
    path: Annotated[
        str | None,
        flag("--path", metavar="DIR", says="Whose Python files they read.", default="the interpreter's own library"),
    ] = None,
    keep: Annotated[bool, flag("--keep", says="Keep the home it made, and say where it is.")] = False,
) -> int:
    """Run a hub and five agents on real work, kill the hub, start it again, and check what they promise."""
    from pathlib import Path

    from fedctl.demo.run import run_demo

    resident()
    result = run_demo(seconds=seconds, path=None if path is None else Path(path), keep=keep, say=ctx.screen.note)
    if ctx.screen.form in ("json", "jsonl") or ctx.session.fields:
        ctx.screen.one(result, DEMO)
    else:
        ctx.screen.many(result.criteria, CRITERION)
    if result.home is not None:
        ctx.screen.note(f"the home was kept: {result.home}")
    failed = sum(not one.ok for one in result.criteria)
    ctx.screen.note(
        f"{failed} of {len(result.criteria)} criteria failed"
        if failed
        else f"all {len(result.criteria)} criteria hold, {result.seconds:g} s, {result.files} Python files"
    )
    return 1 if failed else 0
