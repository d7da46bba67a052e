"""Which of many backups stay: the keep rules of restic's `forget`, by UTC time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fedctl.model.backup import KeepRules


class _Bucket(NamedTuple):
    name: str
    number: object


def keep(made_at_ms: Sequence[int], rules: KeepRules, now_ms: int) -> list[list[str]]:
    """Return for each backup the reasons why it stays; without any it goes.

    Each rule walks from the newest to the oldest and keeps the newest of each bucket (hour, day, ISO week, month,
    year; for `last` each backup is one) until it has kept its number; buckets without a backup do not count. A rule
    with some of its number left at the end keeps the oldest backup too, so that the history is as long as it can be
    (restic, internal/restic/snapshot_policy.go).

    Args:
        made_at_ms: When each was made, ms since 1970, newest first.
        rules: How many each rule keeps; -1 all.
        now_ms: What is dated after it stays, and uses up no rule's number: some clock was wrong.
    """
    left = {name: count for name in rules.__struct_fields__ if (count := getattr(rules, name))}
    last: dict[str, object] = {}
    reasons: list[list[str]] = []
    for at, ms in enumerate(made_at_ms):
        if ms > now_ms:
            reasons.append(["future"])
            continue
        why = []
        for name, number in _buckets(at, ms):
            if not left.get(name):
                continue
            new = last.get(name) != number
            if new or at == len(made_at_ms) - 1:
                last[name] = number
                left[name] -= left[name] > 0
                why.append(name if new else f"oldest {name}")
        reasons.append(why)
    return reasons


def _buckets(at: int, ms: int) -> list[_Bucket]:
    utc = time.gmtime(ms / 1000)
    week = time.strftime("%G-%V", utc)
    return [
        _Bucket("last", at),
        _Bucket("hourly", utc[:4]),
        _Bucket("daily", utc[:3]),
        _Bucket("weekly", week),
        _Bucket("monthly", utc[:2]),
        _Bucket("yearly", utc[:1]),
    ]
