"""What a run of work says on stderr beside its commands: each thing once, and of many items only how many they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from fedctl.model.pool import Item
    from fedctl.work.verdict import Report

ON_ITEMS = 20
"""So many are told one by one."""
REASON_MAX_CHARACTERS = 200


class Notes:
    """Says what is worth a line."""

    def __init__(self, say: Callable[[str], None]) -> None:
        """Begin; `say` takes a line."""
        self.say = say
        self._said: set[str] = set()
        self._on_items = 0

    def once(self, text: str) -> None:
        """Say it if it was not said before."""
        if text not in self._said:
            self._said.add(text)
            self.say(text)

    def on_item(self, text: str) -> None:
        """Say something of one item."""
        self._on_items += 1
        if self._on_items <= ON_ITEMS:
            self.say(text)

    def failure(self, item: Item, report: Report) -> None:
        """Say that an item failed, why, and when it is tried again."""
        became, again = "is poisoned", ""
        if report.outcome == "failed":
            became, again = "failed", f"; again in {(report.retry_in_ms or 0) / 1000:.1f} s"
        self.on_item(f"{item.id} {became}: {(report.reason or '')[:REASON_MAX_CHARACTERS]}{again}")

    def end(self) -> None:
        """Say how many items were not told of."""
        if self._on_items > ON_ITEMS:
            self.say(f"and {self._on_items - ON_ITEMS:,} more of this kind")
