"""What a token says and how it is checked: JWT (RFC 7519), signed with Ed25519 (RFC 8037), nothing else accepted.

A token is ours or it is refused: one algorithm, one set of header fields, one set of claims, each of one type.
What PyJWT would let through (no `exp`, an `exp` in the year 9999, floats, unknown claims) ends here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from fedctl.errors import Denied, UsageError, how_to_issue
from fedctl.model.limits import check_id, check_name
from fedctl.model.principal import Principal
from fedctl.model.token import TOKEN_MAX_TTL_MS, TokenRole

if TYPE_CHECKING:
    from collections.abc import Callable

ALGORITHM = "EdDSA"
AUDIENCE = "fedctl"
TOKEN_MAX_BYTES = 8 << 10
LEEWAY_MS = 60_000
"""How far ahead the clock of the machine that signed may run."""

NEVER_MS = 1 << 53
"""The end of what has none (ms since 1970): far beyond any token's."""

_KID = r"[A-Za-z0-9_-]{1,64}"
# Base64url without padding; an Ed25519 signature is 64 bytes, 86 characters.
_COMPACT = r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{86}"


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """Who a token speaks for, until when, and which key signed it, with that one's own end; ms since 1970."""

    principal: Principal
    expires_at_ms: int
    key_id: str
    key_ends_ms: int = NEVER_MS


class Claims(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A token's claims; times in whole seconds since 1970."""

    aud: str
    iat: int
    exp: int
    jti: str
    tid: str
    aid: str | None
    role: TokenRole


class _Header(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    alg: str
    kid: str
    typ: str = "JWT"


_claims = msgspec.json.Decoder(Claims)
_header = msgspec.json.Decoder(_Header)


def is_kid(text: str) -> bool:
    """Return whether `text` can be a key's name: only such a one is ever made part of a path."""
    return re.fullmatch(_KID, text) is not None


def sign(claims: Claims, kid: str, private_key: Any) -> str:
    """Return a token. `private_key` is an Ed25519 key of `cryptography`."""
    import jwt  # noqa: PLC0415  100 ms that only a signer pays

    return jwt.PyJWS().encode(msgspec.json.encode(claims), private_key, algorithm=ALGORITHM, headers={"kid": kid})


def make_claims(principal: Principal, *, now_ms: int, ttl_ms: int) -> Claims:
    """Return the claims of a token for `principal` (its `token_id` is the `jti`), valid for `ttl_ms` from now.

    Raises:
        UsageError: a name that is none, or a life of no time or of more than `TOKEN_MAX_TTL_MS`.
    """
    if not 0 < ttl_ms <= TOKEN_MAX_TTL_MS:
        raise UsageError(f"a token lives more than 0 and at most {TOKEN_MAX_TTL_MS // 86_400_000} days")
    check_name("tenant", principal.tenant_id)
    if principal.agent_id is not None:
        check_name("agent", principal.agent_id)
    if principal.role == "owner":
        raise UsageError("no token makes its bearer the owner of the home")
    return Claims(
        aud=AUDIENCE,
        iat=now_ms // 1000,
        # Rounded up: a token never ends before the life it was issued for.
        exp=-(-(now_ms + ttl_ms) // 1000),
        jti=check_id("token", principal.token_id),
        tid=principal.tenant_id,
        aid=principal.agent_id,
        role=principal.role,
    )


def verify(token: str, find_key: Callable[[str], Any], now_ms: int) -> Verified:
    """Return who the token speaks for. `find_key` returns the Ed25519 public key of a `kid`, or None.

    Raises:
        Denied: with the one reason that came first. Nothing of the token is in the message.
    """
    _check_form(token)
    kid = _kid_of(token)
    return _checked(_opened(token, find_key(kid)), kid, now_ms)


def _check_form(token: str) -> None:
    if len(token) > TOKEN_MAX_BYTES:
        raise Denied(f"the token is longer than {TOKEN_MAX_BYTES:,} characters")
    if re.fullmatch(_COMPACT, token) is None:
        raise Denied("the token is malformed", hint="a token is one line of three parts, as `token issue` prints it")


def _opened(token: str, key: Any) -> Claims:
    """Check the signature, then read the claims."""
    import jwt  # noqa: PLC0415  likewise

    if key is None:
        raise Denied(
            "the token is signed with a key that this home does not have (any more)", hint="issue a new token here"
        )
    try:
        payload = jwt.PyJWS().decode(token, key, algorithms=[ALGORITHM])
    except jwt.InvalidTokenError:
        raise Denied("the token's signature is wrong") from None
    try:
        return _claims.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Denied("the token's claims are not those of a fedctl token") from None


def _kid_of(token: str) -> str:
    import binascii  # noqa: PLC0415  a leaf that PyJWT loads anyway

    segment = token.partition(".")[0]
    try:
        header = _header.decode(binascii.a2b_base64(_standard(segment)))
    except (binascii.Error, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Denied("the token's header is not that of a fedctl token") from None
    if header.alg != ALGORITHM or header.typ != "JWT":
        raise Denied(f"the token is not signed with {ALGORITHM}")
    if not is_kid(header.kid):
        raise Denied("the token names no key of ours")
    return header.kid


def _standard(segment: str) -> str:
    return segment.replace("-", "+").replace("_", "/") + "=" * (-len(segment) % 4)


def _checked(claims: Claims, kid: str, now_ms: int) -> Verified:
    if claims.aud != AUDIENCE:
        raise Denied("the token is for another audience")
    if claims.iat * 1000 > now_ms + LEEWAY_MS:
        raise Denied("the token was issued in the future", hint="check the clocks of both machines")
    # One second more than the longest life: `exp` was rounded up, `iat` down.
    if not 0 < claims.exp - claims.iat <= TOKEN_MAX_TTL_MS // 1000 + 1:
        raise Denied("the token's life is longer than a token may live")
    if claims.exp * 1000 <= now_ms:
        raise Denied("the token has expired", hint=how_to_issue())
    try:
        check_name("tenant", claims.tid)
        check_id("token", claims.jti)
        if claims.aid is not None:
            check_name("agent", claims.aid)
    except UsageError:
        raise Denied("the token's claims are not those of a fedctl token") from None
    principal = Principal(tenant_id=claims.tid, role=claims.role, agent_id=claims.aid, token_id=claims.jti)
    return Verified(principal=principal, expires_at_ms=claims.exp * 1000, key_id=kid)


def read_claims(token: str) -> Claims:
    """Return what a token says, unchecked: for its bearer, who has no key to check it with.

    Raises:
        Denied: it is no token of a hub.
    """
    import binascii  # noqa: PLC0415  likewise

    _check_form(token)
    try:
        return _claims.decode(binascii.a2b_base64(_standard(token.split(".")[1])))
    except (binascii.Error, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Denied("the token's claims are not those of a fedctl token") from None
