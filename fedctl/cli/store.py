"""`fedctl store`: look after the store on disk."""

from typing import Annotated

from fedctl.cli.command import Invocation, noun, verb
from fedctl.cli.options import flag
from fedctl.cli.render import Shape
from fedctl.errors import Corrupt, Findings
from fedctl.messages.store import CheckAnswer, CheckStore, Finding

CHECK = Shape.of(CheckAnswer, key="checks")
FINDING = Shape.of(Finding, key="check")
PATH = Shape(("path", "exists"), ("path", "exists"), "path")

app = noun("store", "Look after the store on disk.")


@verb(app, shape=CHECK, examples=["fedctl store check", "fedctl store check --full --json"])
def check(
    ctx: Invocation,
    full: Annotated[bool, flag("--full", says="Every page of the database and every vector.")] = False,
) -> int:
    """Check that the store is whole and that what is derived from it agrees with it.

    Exit 0 clean, 14 when derived data are wrong (and what mends them), 13 when the data themselves are damaged.
    """
    with ctx.caller(unhurried=True) as caller:
        answer = caller.call(CheckStore(full=full))
    if ctx.screen.form == "table" and answer.findings:
        ctx.screen.many(answer.findings, FINDING)
    else:
        ctx.screen.one(answer, CHECK)
    damage = [finding for finding in answer.findings if finding.severity == "data"]
    if damage:
        raise Corrupt(f"the store is damaged: {damage[0].message}", hint=damage[0].fix)
    return Findings.exit if answer.findings else 0


@verb(app, shape=PATH, examples=["ls -l $(fedctl store path)"])
def path(ctx: Invocation) -> None:
    """Print where the store's database is, whether or not there is one."""
    from fedctl.store.store import FILE_NAME

    file = ctx.settings.home / FILE_NAME
    if ctx.screen.form == "table" and not ctx.session.fields:
        ctx.screen.text(str(file))
    else:
        ctx.screen.one({"path": str(file), "exists": file.exists()}, PATH)
