"""`fedctl token`: issue, list and revoke access tokens."""

from typing import Annotated, Any

import msgspec

from fedctl.cli import values
from fedctl.cli.command import Invocation, noun, verb
from fedctl.cli.options import argument, flag
from fedctl.cli.render import Shape
from fedctl.errors import UsageError
from fedctl.messages.token import IssueToken, ListTokens, RevokeToken, RotateAnswer, RotateKey
from fedctl.model.token import TOKEN_DEFAULT_TTL_MS, TokenRecord, TokenRole

TOKEN = Shape(
    ("token", *TokenRecord.__struct_fields__),
    ("id", "tenant_id", "agent_id", "role", "issued_at", "expires_at", "revoked_at"),
    "id",
)

KEY = Shape.of(RotateAnswer, key="key_id")

app = noun("token", "Issue, list and revoke access tokens, and change the key that signs them.")


@verb(
    app,
    shape=TOKEN,
    examples=[
        "fedctl token issue --tenant acme --ttl 12h > acme.token",
        "fedctl token issue --tenant acme --agent coder-1 --json",
    ],
)
def issue(
    ctx: Invocation,
    agent: Annotated[
        str | None, flag("--agent", metavar="ID", parser=values.name_of("agent"), says="The one agent it is for.")
    ] = None,
    role: Annotated[TokenRole, flag("--role", says="What its bearer may do.", default="agent")] = "agent",
    ttl: Annotated[
        int, flag("--ttl", metavar="DUR", parser=values.duration, says="How long it holds, at most 90d.", default="1h")
    ] = TOKEN_DEFAULT_TTL_MS,
) -> None:
    """Issue a token for the tenant named by --tenant. It is shown this once.

    As text the token alone goes to stdout, so that it can be sent to a file; the rest is said on stderr.
    """
    if "tenant" not in ctx.settings.origins:
        raise UsageError("--tenant is missing", hint="say whom the token is for: --tenant NAME")
    request = IssueToken(tenant_id=ctx.settings.tenant, agent_id=agent, role=role, ttl_ms=ttl)
    with ctx.caller(writes=True) as caller:
        answer = caller.call(request)
    if ctx.screen.form == "table" and not ctx.session.fields:
        ctx.screen.text(answer.token)
        ctx.screen.note(f"token {answer.record.id}, {role} of {answer.record.tenant_id}, to {answer.record.expires_at}")
    else:
        ctx.screen.one(_with_token(answer.record, answer.token), TOKEN)


@verb(app, "list", shape=TOKEN, examples=["fedctl token list"])
def list_(ctx: Invocation) -> None:
    """List what was issued, the newest first. The tokens themselves are not kept."""
    with ctx.caller() as caller:
        records = caller.call(ListTokens()).tokens
    shown = records[: ctx.screen.default_limit]
    ctx.screen.many([_with_token(record, None) for record in shown], TOKEN)
    ctx.screen.cut(len(shown), len(records))


@verb(app, shape=TOKEN, examples=["fedctl token revoke 019a..."])
def revoke(ctx: Invocation, id_: Annotated[str, argument("ID", "The token's id.")]) -> None:
    """Refuse a token from now on, and end the sessions that were opened with it."""
    with ctx.caller() as caller:
        record = caller.call(RevokeToken(id=id_)).record
    ctx.screen.done(_with_token(record, None), TOKEN)


@verb(app, "rotate-key", shape=KEY, examples=["fedctl token rotate-key", "fedctl token rotate-key --grace 0s"])
def rotate_key(
    ctx: Invocation,
    grace: Annotated[
        int | None,
        flag(
            "--grace",
            metavar="DUR",
            parser=values.duration,
            says="How long the old keys still verify; 0s: not at all, sessions by them end.",
            default="until the last token ends",
        ),
    ] = None,
) -> None:
    """Sign tokens with a new key from now on; running hubs go by it at once."""
    with ctx.caller(writes=True) as caller:
        ctx.screen.done(caller.call(RotateKey(grace_ms=grace)), KEY)


def _with_token(record: TokenRecord, token: str | None) -> dict[str, Any]:
    return {"token": token, **msgspec.to_builtins(record)}
