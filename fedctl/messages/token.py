"""What can be asked of the tokens."""

from __future__ import annotations

from fedctl.messages.base import Answer, Request
from fedctl.model.token import TOKEN_DEFAULT_TTL_MS, TokenRecord, TokenRole


class IssueAnswer(Answer, frozen=True, kw_only=True):
    """The signed token, shown this once, and its record."""

    token: str
    record: TokenRecord


class IssueToken(Request[IssueAnswer], frozen=True, kw_only=True, tag="token.issue"):
    """Sign a token for a tenant; an agent's token names the agent it is for or leaves it to the bearer."""

    tenant_id: str
    agent_id: str | None = None
    role: TokenRole = "agent"
    ttl_ms: int = TOKEN_DEFAULT_TTL_MS


class TokenList(Answer, frozen=True, kw_only=True):
    """Records, newest first."""

    tokens: list[TokenRecord]


class ListTokens(Request[TokenList], frozen=True, kw_only=True, tag="token.list"):
    """All tokens that were issued and not yet forgotten."""


class RevokeAnswer(Answer, frozen=True, kw_only=True):
    """The record, now with its `revoked_at`."""

    record: TokenRecord


class RevokeToken(Request[RevokeAnswer], frozen=True, kw_only=True, tag="token.revoke"):
    """Refuse a token from now on; sessions that were opened with it end."""

    id: str
