"""Who comes in: a hello becomes a principal, or a refusal."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from fedctl.errors import Denied, FedctlError, Unavailable, how_to_issue
from fedctl.model.limits import check_name
from fedctl.model.principal import Principal
from fedctl.store.ledger import tenant_digest

if TYPE_CHECKING:
    from fedctl.access.tokens import Verified
    from fedctl.log import Log
    from fedctl.operations.context import Context
    from fedctl.wire.frames import Hello

DEFAULT_TENANT = "default"


class Admitted(NamedTuple):
    """Who came in, and by which token (None: the owner of the home)."""

    principal: Principal
    token: Verified | None = None


class Door:
    """Checks hellos. Tenant, agent and role are the token's; without one only the home's owner comes in."""

    def __init__(self, context: Context, log: Log) -> None:
        """Keep the event loop's own context: revocation is looked up here, in microseconds."""
        self._context = context
        self._log = log

    def admit(self, hello: Hello, *, local: bool, looks_only: bool = False) -> Admitted:
        """Return who a peer is; with `looks_only` it may only look, and is an operator or the owner.

        Raises:
            Denied: no token, or one that is not good, or one that does not carry the tenant or agent asked for.
            UsageError: a name that is none.
        """
        admitted = self._admit(hello, local=local)
        return _watching(admitted) if looks_only else admitted

    def _admit(self, hello: Hello, *, local: bool) -> Admitted:
        if hello.token is None:
            if not local:
                raise Denied("this hub wants a token", hint=how_to_issue(hello.tenant_id or "T"))
            return Admitted(self._owner(hello))
        verified = self.verify(hello.token)
        return Admitted(_bearer(verified.principal, hello), verified)

    def verify(self, token: str) -> Verified:
        """Return who a token speaks for; `Denied` when it is not good or was revoked."""
        try:
            verified = self._context.access.verify(token, self._context.clock.now_ms())
            revoked = self._is_revoked(verified)
        except Denied:
            raise
        except FedctlError as error:  # a damaged key, a store that fails: not for strangers to read
            self._log.basic("error.door", error=error.message)
            raise Unavailable("the hub cannot check tokens now", hint="the hub's log says more") from error
        if revoked:
            raise Denied("the token was revoked", hint=how_to_issue(verified.principal.tenant_id))
        return verified

    def _is_revoked(self, verified: Verified) -> bool:
        store = self._context.store
        token_id, tenant_id = verified.principal.token_id or "", verified.principal.tenant_id
        if store.erasures.tenant_erased_at_ms(tenant_digest(tenant_id)) is None:
            return store.tokens.is_revoked(token_id)
        # Of a tenant that was erased only what was issued since is good, and that this store knows of.
        known = store.tokens.get(token_id)
        return known is None or known.revoked_at is not None

    @staticmethod
    def _owner(hello: Hello) -> Principal:
        tenant_id = DEFAULT_TENANT if hello.tenant_id is None else check_name("tenant", hello.tenant_id)
        agent_id = None if hello.agent_id is None else check_name("agent", hello.agent_id)
        return Principal(tenant_id=tenant_id, role="owner", agent_id=agent_id)


def _bearer(principal: Principal, hello: Hello) -> Principal:
    """Return the token's principal; a token that names no agent leaves that to its bearer."""
    if hello.tenant_id is not None and hello.tenant_id != principal.tenant_id:
        raise Denied(f"the token is for the tenant {principal.tenant_id}, not {hello.tenant_id[:128]!r}")
    if hello.agent_id is None or hello.agent_id == principal.agent_id:
        return principal
    if principal.agent_id is not None:
        raise Denied(f"the token is for the agent {principal.agent_id}, not {hello.agent_id[:128]!r}")
    return msgspec.structs.replace(principal, agent_id=check_name("agent", hello.agent_id))


def _watching(admitted: Admitted) -> Admitted:
    """Return who came in as somebody who may only look; as such nobody is an agent."""
    who = admitted.principal
    if not who.may("operator"):
        raise Denied(
            f"to watch needs the role operator, this token is of role {who.role}",
            hint=how_to_issue(who.tenant_id, role="operator"),
        )
    return admitted._replace(principal=msgspec.structs.replace(who, agent_id=None, looks_only=True))


def acting_for(principal: Principal, tenant_id: str | None) -> Principal:
    """Return who asks in one call: the owner may name any tenant, everybody else its own only."""
    if tenant_id is None or tenant_id == principal.tenant_id:
        return principal
    check_name("tenant", tenant_id)
    if principal.role != "owner":
        raise Denied(f"this session is for the tenant {principal.tenant_id}, not {tenant_id!r}")
    return msgspec.structs.replace(principal, tenant_id=tenant_id)
