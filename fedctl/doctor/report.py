"""What a check finds, and what is told of it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

    from fedctl.errors import FedctlError

_COMMAND = re.compile(r"(fedctl|chmod|findmnt|sudo|rm|cp|mv|python) \S")

Status = Literal["ok", "note", "warning", "failure"]
"""A note is worth knowing and nothing to mend; warnings and failures are findings."""
FINDINGS: tuple[Status, ...] = ("warning", "failure")


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One check and what it found.

    `found` is for a person, `figures` has the same for a program. `fix` is a command to paste. `fixable`: `--fix` does
    something about it, which `mends` says; `fixed` is what it did (after that, `status` is what the check found again).
    """

    check: str
    status: Status
    found: str
    figures: dict[str, Any]
    fix: str | None
    fixable: bool
    mends: str | None
    fixed: str | None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All checks; `ok`: none of them is a warning or a failure. The counts are of checks."""

    ok: bool
    warnings: int
    failures: int
    fixed: int
    checks: list[Check]


class Mend(NamedTuple):
    """What is safe to be done about a finding: said beforehand, and done, which returns what was done."""

    would: str
    do: Callable[[], str]


class Found(NamedTuple):
    """What a check returns."""

    status: Status
    found: str
    fix: str | None = None
    mend: Mend | None = None
    figures: dict[str, Any] = {}

    def told(self, check: str, fixed: str | None = None) -> Check:
        """Return it as it is reported."""
        return Check(
            check=check, status=self.status, found=self.found, figures=self.figures, fix=self.fix,
            fixable=self.mend is not None, mends=None if self.mend is None else self.mend.would, fixed=fixed,
        )  # fmt: skip

    @property
    def is_finding(self) -> bool:
        """Whether something should be done about it."""
        return self.status in FINDINGS


def ok(found: str, **figures: Any) -> Found:
    """Return that all is well."""
    return Found("ok", found, figures=figures)


def note(found: str, fix: str | None = None, **figures: Any) -> Found:
    """Return what is worth knowing."""
    return Found("note", found, fix, figures=figures)


def warning(found: str, fix: str | None = None, mend: Mend | None = None, **figures: Any) -> Found:
    """Return what should be seen to."""
    return Found("warning", found, fix, mend, figures)


def failure(found: str, fix: str | None = None, mend: Mend | None = None, **figures: Any) -> Found:
    """Return what does not work, or soon will not."""
    return Found("failure", found, fix, mend, figures)


def broken(error: FedctlError, fix: str | None = None) -> Found:
    """Return what an error says that a check ran into. Its hint is the fix only where it is a command to paste."""
    if fix is None:
        return failure(*advised(error.message, error.hint))
    return failure(error.message + (f" ({error.hint})" if error.hint else ""), fix)


def advised(found: str, advice: str | None) -> tuple[str, str | None]:
    """Return what is told and its fix: advice that is no command to paste is told with what was found."""
    if advice is None or _COMMAND.match(advice):
        return found, advice
    return f"{found} ({advice})", None


def report(checks: list[Check]) -> Report:
    """Return the report of these checks."""
    counts = {status: sum(one.status == status for one in checks) for status in FINDINGS}
    return Report(
        ok=not any(counts.values()),
        warnings=counts["warning"],
        failures=counts["failure"],
        fixed=sum(one.fixed is not None for one in checks),
        checks=checks,
    )


def several(number: int, thing: str) -> str:
    """Return `1 worker`, `2 workers`."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
