"""Filters before a search: the best that pass, as if nothing else were there."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from fedctl.model.episode import EpisodeFilter
    from fedctl.operations.context import Context

_LOOKED_AT_MAX = 10_000
"""Where more of the best would have to be looked at, all that passes is listed instead."""

Ranked = dict[int, float]
"""Sequence -> score, best first."""


class Sieve:
    """What a filter lets through, for both halves of one query; held in one snapshot of the store.

    The best are taken first and then looked at, more of them until enough have passed: that is the answer of a search
    among what passes. Where few pass it is quicker to list them all and search among those. Deleted rows, which stay
    in a snapshot of vectors until it is rewritten, are sorted out in the same look.
    """

    def __init__(self, ctx: Context, tenant_key: int, filter_: EpisodeFilter) -> None:
        """Begin; nothing is asked yet."""
        self._episodes = ctx.store.episodes
        self._tenant_key = tenant_key
        self._filter = filter_
        self._listed: list[int] | None = None
        self.rewards: dict[int, float | None] = {}
        """What was learned of those that were looked at and passed."""

    def best(
        self, ranked: Callable[[int], Ranked], among: Callable[[list[int]], Ranked], pool: int, rows: int
    ) -> Ranked:
        """Return the best `pool` that pass.

        `ranked` returns so many of the best of all, `among` the best `pool` of given ones; `rows` are there in all.
        """
        limit = pool if self._filter.is_empty else 4 * pool
        while self._listed is None:
            found = ranked(limit)
            passed = self._episodes.passing(self._tenant_key, list(found), self._filter)
            self.rewards |= passed
            if len(passed) >= pool or len(found) < limit:
                # No more than are asked for: what is come by otherwise would rank by another pool.
                return dict([one for one in found.items() if one[0] in passed][:pool])
            share = max(len(passed), 1) / limit
            needed = int(1.25 * pool / share)
            # What SQLite has to look at to list all that passes: with an index little else.
            to_list = rows * (share if self._filter.is_indexed else 1.0)
            if not self._filter.is_empty and needed > min(to_list, _LOOKED_AT_MAX):
                self._listed = self._episodes.seqs(self._tenant_key, self._filter)
            limit = max(needed, 2 * limit)
        return among(self._listed)
