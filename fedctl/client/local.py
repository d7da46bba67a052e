"""Asking in-process: straight on the home, with no hub."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec

from fedctl.model.limits import check_name
from fedctl.operations.table import run

if TYPE_CHECKING:
    from fedctl.messages.base import Request
    from fedctl.model.principal import Principal
    from fedctl.operations.context import Context

A = TypeVar("A")


class LocalCaller:
    """Whoever can read the home's files is their owner and may name any tenant."""

    def __init__(self, context: Context, principal: Principal) -> None:
        self._context = context
        self._principal = principal

    def call(self, request: Request[A], *, tenant_id: str | None = None) -> A:
        """Carry the request out here and now."""
        who = self._principal
        if tenant_id is not None and tenant_id != who.tenant_id:
            who = msgspec.structs.replace(who, tenant_id=check_name("tenant", tenant_id))
        return run(self._context, who, request)

    def close(self) -> None:
        """Close the store."""
        self._context.close()
