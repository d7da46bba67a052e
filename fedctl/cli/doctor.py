"""`fedctl doctor`: what is wrong, and what mends it."""

import textwrap
from typing import TYPE_CHECKING, Annotated

from fedctl import config
from fedctl.cli.command import Invocation, noun, verb
from fedctl.cli.options import flag
from fedctl.cli.render import Shape, escape
from fedctl.errors import Denied, FedctlError, Findings, UsageError

if TYPE_CHECKING:
    from fedctl.config import Settings
    from fedctl.doctor.report import Check, Report

REPORT: "Shape[Report]" = Shape.of("fedctl.doctor.report:Report", key="ok")
CHECK: "Shape[Check]" = Shape.of(
    "fedctl.doctor.report:Check", "check", "status", "found", "fix", "mends", "fixed", key="check"
)
COLOURS = {"ok": "32", "note": "36", "warning": "33", "failure": "31"}
NAME_WIDTH = 13
STATUS_WIDTH = 9
LEAST_WIDTH = 50

app = noun("examining", "Look for what is wrong.")


@verb(
    app,
    shape=REPORT,
    dry_run=True,
    examples=[
        "fedctl doctor",
        "fedctl doctor --fix",
        "fedctl doctor --json | jq -r '.checks[] | select(.fix) | .fix'",
    ],
)
def doctor(
    ctx: Invocation,
    fix: Annotated[bool, flag("--fix", says="Mend what can safely be mended; with -n only say what.")] = False,
) -> int:
    """Look at the home, the store, the hub and the machine for what is wrong, and say what mends it.

    With --hub URL at a hub elsewhere. Nothing is changed without --fix, which takes away the rights of others, stale
    sockets and leftovers, folds the log, makes indexes anew and ends erasures. Exit 0 when all is well (notes are no
    findings), 14 when something is left that should be seen to.
    """
    from fedctl.doctor.examine import examine
    from fedctl.doctor.patient import Patient
    from fedctl.doctor.report import FINDINGS, report

    settings, config_error = _settings(ctx)
    screen = ctx.screen
    patient = Patient(settings, ctx.session.environ, config_error=config_error)
    checks = []
    try:
        for check in examine(patient, fix=fix and not ctx.dry_run):
            checks.append(check)
            if screen.draws:
                screen.draw(_drawn(check, width=screen.width, colour=screen.colour, would=fix and ctx.dry_run))
    finally:
        patient.forget()
    answer = report(checks)
    findings = [check for check in checks if check.status in FINDINGS]
    if screen.form == "ids":
        screen.many(findings, CHECK)
    elif screen.form in ("json", "jsonl") or ctx.session.fields:
        screen.done(answer, REPORT)
    elif not screen.draws and not (settings.quiet and answer.ok):
        screen.many(findings if settings.quiet else checks, CHECK)
    _sum_up(ctx, answer, fix=fix)
    return 0 if answer.ok else Findings.exit


def _settings(ctx: Invocation) -> "tuple[Settings, FedctlError | None]":
    """Return the settings, and what was wrong with a config file: then they are those without any."""
    try:
        return ctx.settings, None
    except (UsageError, Denied) as error:
        ctx.session.settings = config.load(ctx.session.flags, ctx.session.environ, files=False)
        return ctx.settings, error


def _drawn(check: "Check", *, width: int, colour: bool, would: bool) -> str:
    """Return a check as lines for a terminal: name, status, what was found; below it what mends it."""
    said = [escape(check.found)]
    if check.fixed is not None:
        said.append(f"fixed: {escape(check.fixed)}")
    elif would and check.mends is not None:
        said.append(f"--fix would: {escape(check.mends)}")
    room = max(width, LEAST_WIDTH) - NAME_WIDTH - STATUS_WIDTH
    lines = [line for text in said for line in textwrap.wrap(text, room, break_on_hyphens=False) or [""]]
    begin = f"{check.check:<{NAME_WIDTH}}"
    status = f"{check.status:<{STATUS_WIDTH}}"
    if colour:
        status = f"\x1b[{COLOURS[check.status]}m{status}\x1b[0m"
    indent = " " * (NAME_WIDTH + STATUS_WIDTH)
    drawn = f"{begin}{status}{lines[0]}\n" + "".join(f"{indent}{line}\n" for line in lines[1:])
    mended = check.fixed is not None or (would and check.mends is not None)
    if (
        check.fix is not None and check.status != "ok" and not mended
    ):  # a command stays on one line: it is there to be copied
        fix = f"$ {escape(check.fix)}"
        drawn += f"{indent}" + (f"\x1b[1m{fix}\x1b[0m" if colour else fix) + "\n"
    return drawn


def _sum_up(ctx: Invocation, answer: "Report", *, fix: bool) -> None:
    from fedctl.cli.render import counted

    if answer.ok:
        ctx.screen.note("all is well" + (f", {counted(answer.fixed, 'finding')} mended" if answer.fixed else ""))
        return
    found = " and ".join(
        counted(number, thing)
        for number, thing in ((answer.failures, "failure"), (answer.warnings, "warning"))
        if number
    )
    mendable = sum(check.fixable for check in answer.checks)
    said = f"; --fix mends {mendable} of them" if mendable and not fix else ""
    if ctx.settings.quiet:  # what cron is to hear
        ctx.session.say(f"error: {found}{said}")
    else:
        ctx.screen.note(f"{found}{said}")
