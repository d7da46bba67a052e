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
    """A page of records, newest first; `cursor` continues, None at the end. `total`: how many in all, if asked for."""

    tokens: list[TokenRecord]
    cursor: str | None = None
    total: int | None = None


class ListTokens(Request[TokenList], frozen=True, kw_only=True, tag="token.list"):
    """A page of the tokens that were issued and not yet forgotten."""

    limit: int = 1000
    cursor: str | None = None
    count: bool = False


class RotateAnswer(Answer, frozen=True, kw_only=True):
    """The key that signs from now on, and until when the others verify (RFC 3339; None where there was none)."""

    key_id: str
    old_keys_until: str | None
    removed_keys: int


class RotateKey(Request[RotateAnswer], frozen=True, kw_only=True, tag="token.rotate_key"):
    """Sign with a new key from now on. The old ones verify for `grace_ms` more.

    By default that is as long as the last of the tokens that were issued lives: nobody notices. With 0 every token of
    the old keys is refused at once, and the sessions that were opened with one end.
    """

    grace_ms: int | None = None


class RevokeAnswer(Answer, frozen=True, kw_only=True):
    """The record, now with its `revoked_at`."""

    record: TokenRecord


class RevokeToken(Request[RevokeAnswer], frozen=True, kw_only=True, tag="token.revoke"):
    """Refuse a token from now on; sessions that were opened with it end."""

    id: str
