"""Tokens: who a connection speaks for, and until when."""

from __future__ import annotations

from typing import Literal

import msgspec

TokenRole = Literal["agent", "admin", "operator"]
TOKEN_DEFAULT_TTL_MS = 3_600_000
TOKEN_MAX_TTL_MS = 90 * 86_400_000
"""No token is accepted that lives longer than this, whatever its `exp` says."""


class TokenRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What the store keeps of a token: never the token itself. Times are RFC 3339 UTC."""

    id: str
    tenant_id: str
    agent_id: str | None
    role: TokenRole
    issued_at: str
    expires_at: str
    revoked_at: str | None
