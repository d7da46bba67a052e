"""What the demo answers: apart from its run, so that the answer can be told of without loading that."""

from __future__ import annotations

import msgspec


class Criterion(msgspec.Struct, frozen=True, kw_only=True):
    """One thing the demo promises: what was wanted, what was measured, whether it holds."""

    criterion: str
    wanted: str
    measured: str
    ok: bool


class DemoResult(msgspec.Struct, frozen=True, kw_only=True):
    """All criteria, and where the home is if it was kept."""

    ok: bool
    criteria: list[Criterion]
    seconds: float
    files: int
    home: str | None
