"""Who asks: the outcome of authentication, and what each role may do."""

from __future__ import annotations

from typing import Literal

import msgspec

Role = Literal["agent", "admin", "operator", "owner"]

_RANK: dict[str, int] = {"agent": 0, "admin": 1, "operator": 2, "owner": 3}


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks, for which tenant.

    `owner` is whoever can read the home's files (in-process, or on the hub's own socket) and may name any tenant;
    the other roles come from a verified token, and their tenant and agent are the token's. `token_id` is its `jti`.
    With `looks_only` it may see what its role may see, and change nothing: a page that watches.
    """

    tenant_id: str
    role: Role
    agent_id: str | None = None
    token_id: str | None = None
    looks_only: bool = False

    def may(self, role: Role) -> bool:
        """Return whether this principal has at least that role."""
        return _RANK[self.role] >= _RANK[role]
