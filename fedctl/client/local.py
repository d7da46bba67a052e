"""Asking in-process: straight on the home, with no hub."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from fedctl.model.limits import check_name
from fedctl.operations.table import run

if TYPE_CHECKING:
    from fedctl.messages.base import Request
    from fedctl.model.principal import Principal
    from fedctl.operations.context import Context

WAIT_POLL_S = 0.02
"""How soon a commit of another process is noticed by who waits for one; each look costs 5 µs."""

A = TypeVar("A")


class LocalCaller:
    """Whoever can read the home's files is their owner and may name any tenant."""

    def __init__(self, context: Context, principal: Principal) -> None:
        self._context = context
        self._principal = principal

    def call(self, request: Request[A], *, tenant_id: str | None = None) -> A:
        """Carry the request out here and now; one that can wait (`wait_ms`) again until it finds something."""
        who = self._principal
        if tenant_id is not None and tenant_id != who.tenant_id:
            who = msgspec.structs.replace(who, tenant_id=check_name("tenant", tenant_id))
        wait_ms: int = getattr(request, "wait_ms", 0)
        if not wait_ms:
            return run(self._context, who, request)
        deadline_s = self._context.clock.monotonic_s() + wait_ms / 1000
        while True:
            seen = self._context.store.data_version()
            answer: Any = run(self._context, who, request)
            if not answer.unmet or not self._wait(seen, deadline_s, getattr(answer, "next_ms", None)):
                return answer  # type: ignore[no-any-return]

    def _wait(self, seen: int, deadline_s: float, due_ms: int | None) -> bool:
        """Wait until somebody has committed something, or something is due; return whether to ask again."""
        clock = self._context.clock
        due_s = deadline_s if due_ms is None else min(deadline_s, clock.monotonic_s() + due_ms / 1000)
        while (now_s := clock.monotonic_s()) < due_s:
            clock.sleep_s(min(WAIT_POLL_S, due_s - now_s))
            if self._context.store.data_version() != seen:
                return True
        return now_s < deadline_s

    def close(self) -> None:
        """Close the store."""
        self._context.close()
