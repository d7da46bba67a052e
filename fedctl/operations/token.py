"""Issuing, listing and revoking tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedctl.errors import Denied, NotFound, UsageError
from fedctl.messages import token as t
from fedctl.model import limits
from fedctl.model.time import to_rfc3339
from fedctl.model.token import TOKEN_MAX_TTL_MS, TokenRecord
from fedctl.operations import newest

if TYPE_CHECKING:
    from fedctl.model.principal import Principal
    from fedctl.operations.context import Context

_MIN_TTL_MS = 1000


def issue(ctx: Context, who: Principal, request: t.IssueToken) -> t.IssueAnswer:
    """Sign a token and note that it was issued. An admin may issue for its own tenant, and no operator's token."""
    limits.check_name("tenant", request.tenant_id)
    if request.agent_id is not None:
        limits.check_name("agent", request.agent_id)
        if request.role != "agent":
            raise UsageError(f"a token of role {request.role} is no agent's", hint="leave --agent out")
    if not _MIN_TTL_MS <= request.ttl_ms <= TOKEN_MAX_TTL_MS:
        raise UsageError(f"a token lives between 1 s and {TOKEN_MAX_TTL_MS // 86_400_000} days")
    if not who.may("operator"):
        if request.tenant_id != who.tenant_id:
            raise Denied("an admin issues tokens for its own tenant only")
        if request.role == "operator":
            raise Denied("an admin issues no token for an operator", hint="issue it on the hub's own home")
    now_ms = ctx.clock.now_ms()
    token_id = ctx.clock.new_id()
    token = ctx.access.sign(
        tenant_id=request.tenant_id,
        agent_id=request.agent_id,
        role=request.role,
        jti=token_id,
        now_ms=now_ms,
        ttl_ms=request.ttl_ms,
    )
    with ctx.store.write():
        ctx.store.tokens.add(
            token_id,
            tenant_id=request.tenant_id,
            agent_id=request.agent_id,
            role=request.role,
            now_ms=now_ms,
            expires_at_ms=now_ms + request.ttl_ms,
        )
        return t.IssueAnswer(token=token, record=_record(ctx, who, token_id))


def list_(ctx: Context, who: Principal, request: t.ListTokens) -> t.TokenList:
    """List the records of the tenant's tokens; whoever may run the hub sees all tenants'."""
    tenant_id = None if who.may("operator") else who.tenant_id
    limit = newest.page_limit(request.limit)
    records = ctx.store.tokens.page(tenant_id, limit=limit, after=newest.after(request.cursor))
    total = ctx.store.tokens.count(tenant_id) if request.count else None
    last = records[-1] if len(records) == limit else None
    cursor = None if last is None else newest.cursor_after(last.issued_at, last.id)
    return t.TokenList(tokens=records, cursor=cursor, total=total)


def revoke(ctx: Context, who: Principal, request: t.RevokeToken) -> t.RevokeAnswer:
    """Refuse a token from now on. Revoking it twice is the same as once."""
    limits.check_id("token", request.id)
    now_ms = ctx.clock.now_ms()
    with ctx.store.write():
        record = _record(ctx, who, request.id)
        if ctx.store.tokens.revoke(request.id, now_ms):
            tenant_key = ctx.store.tenants.key_for_writing(record.tenant_id, now_ms)
            ctx.store.changes.add(tenant_key, "token_revoked", request.id, now_ms=now_ms)
        return t.RevokeAnswer(record=_record(ctx, who, request.id))


def rotate_key(ctx: Context, who: Principal, request: t.RotateKey) -> t.RotateAnswer:
    """Make a new signing key; the old ones verify through the grace period, and sessions by them end with it."""
    now_ms = ctx.clock.now_ms()
    if request.grace_ms is None:
        # A token's own end is rounded up to the second.
        until_ms = max(now_ms, (ctx.store.tokens.last_expiry_ms() or 0) + 1000)
    elif 0 <= request.grace_ms <= TOKEN_MAX_TTL_MS:
        until_ms = now_ms + request.grace_ms
    else:
        raise UsageError(f"a grace period is within 0 and {TOKEN_MAX_TTL_MS // 86_400_000} days, as a token's life is")
    rotation = ctx.access.rotate(now_ms, until_ms)
    old_until = None if rotation.old_until_ms is None else to_rfc3339(rotation.old_until_ms)
    with ctx.store.write():
        tenant_key = ctx.store.tenants.key_for_writing(who.tenant_id, now_ms)
        detail = {"old_keys_until": old_until}
        ctx.store.changes.add(tenant_key, "key_rotated", rotation.kid, now_ms=now_ms, detail=detail)
    return t.RotateAnswer(key_id=rotation.kid, old_keys_until=old_until, removed_keys=rotation.removed)


def _record(ctx: Context, who: Principal, token_id: str) -> TokenRecord:
    record = ctx.store.tokens.get(token_id)
    if record is None or not (who.may("operator") or record.tenant_id == who.tenant_id):
        raise NotFound(f"there is no token {token_id}", hint="fedctl token list shows them")
    return record
