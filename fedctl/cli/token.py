"""`fedctl token`: issue, list and revoke access tokens."""

from pathlib import Path
from typing import Annotated

from fedctl import disk
from fedctl.cli import values
from fedctl.cli.command import Invocation, noun, verb
from fedctl.cli.options import argument, flag
from fedctl.cli.render import Shape, with_more
from fedctl.client import paging
from fedctl.client.caller import Caller
from fedctl.errors import Conflict, Denied, UsageError, from_os
from fedctl.messages.token import IssueToken, ListTokens, RevokeToken, RotateAnswer, RotateKey
from fedctl.model.token import TOKEN_DEFAULT_TTL_MS, TokenRecord, TokenRole


class Token(TokenRecord, frozen=True, kw_only=True):
    """What is known of a token. `token` is itself, when it is issued; null ever after. `path` is where --out put it."""

    token: str | None
    path: str | None = None


TOKEN = Shape.of(Token, *TokenRecord.__struct_fields__, fields=("token", "path", *TokenRecord.__struct_fields__))
KEY = Shape.of(RotateAnswer, key="key_id")

app = noun(
    "token",
    "Issue, list and revoke access tokens, and change the key that signs them.",
    "Roles: agent (its tenant's memory and its own registration, no deleting), admin (all of its tenant), "
    "operator (the hub). A token that is revoked or has ended ends its live sessions within a second. After "
    "`token rotate-key` the old key holds until the last token ends, or for --grace; with --grace 0s its sessions "
    "end.",
)


@verb(
    app,
    shape=TOKEN,
    examples=[
        "fedctl token issue --tenant acme --ttl 12h --out acme.token",
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
    out: Annotated[
        Path | None,
        flag(
            "--out", metavar="FILE", says="Write it there, for its owner alone, not to stdout; in an old one's place."
        ),
    ] = None,
) -> None:
    """Issue a token for the tenant named by --tenant. It is shown this once.

    As text the token alone goes to stdout, and the rest is said on stderr. A file that a shell makes of it (`> FILE`)
    others may read; one that --out makes is its owner's (0600), and is there only when it is whole. It takes the place
    of a file that holds a token, which is how one is renewed; any other file stays, with exit code 5.
    """
    if "tenant" not in ctx.settings.origins:
        raise UsageError("--tenant is missing", hint="say whom the token is for: --tenant NAME")
    request = IssueToken(tenant_id=ctx.settings.tenant, agent_id=agent, role=role, ttl_ms=ttl)
    with ctx.caller(writes=True) as caller:
        if out is not None:
            issued = with_more(_issue_to(out, caller, request), Token, token=None, path=str(out))
            ctx.screen.done(issued, TOKEN)
            return
        answer = caller.call(request)
    ctx.screen.one(with_more(answer.record, Token, token=answer.token), TOKEN, shown=answer.token)
    if ctx.screen.form == "table" and not ctx.session.fields:
        ctx.screen.note(f"token {answer.record.id}, {role} of {answer.record.tenant_id}, to {answer.record.expires_at}")


def _issue_to(path: Path, caller: Caller, request: IssueToken) -> TokenRecord:
    """Issue a token into a file that was opened before: one that cannot be written is no reason for a token."""
    if path.is_dir():
        raise UsageError(f"{path} is a folder", hint="name the file that the token is to be in")
    try:
        if not _may_be_replaced(path):
            raise Conflict(
                f"{path} holds something else than a token, and is not written over",
                hint="choose another file with --out, or move that one aside",
            )
        with disk.new_content(path) as file:
            answer = caller.call(request)
            file.write(answer.token.encode() + b"\n")
    except OSError as error:
        raise from_os(error, f"the token cannot be written to {path}") from error
    return answer.record


def _may_be_replaced(path: Path) -> bool:
    """Return whether nothing is lost with a file: there is none, it is empty, or it holds a token."""
    from fedctl.access import tokens

    if disk.is_special(path):  # a pipe or a device is written into
        return True
    try:
        with path.open("rb") as file:
            content = file.read(tokens.TOKEN_MAX_BYTES + 1).strip()
    except FileNotFoundError:
        return True
    try:
        return not content or bool(tokens.read_claims(content.decode("ascii", "replace")))
    except Denied:
        return False


@verb(app, "list", shape=TOKEN, form="many", examples=["fedctl token list"])
def list_(ctx: Invocation) -> None:
    """List what was issued, the newest first. The tokens themselves are not kept."""
    with ctx.caller() as caller:
        limit = ctx.screen.default_limit
        records, total = paging.take(caller, ListTokens(count=limit is not None), limit)
        shown = ctx.screen.many((with_more(record, Token, token=None) for record in records), TOKEN)
    ctx.screen.cut(shown, total)


@verb(app, shape=TOKEN, examples=['fedctl token revoke "$id"'])
def revoke(ctx: Invocation, id_: Annotated[str, argument("ID", "The token's id.")]) -> None:
    """Refuse a token from now on, and end the sessions that were opened with it."""
    with ctx.caller() as caller:
        record = caller.call(RevokeToken(id=id_)).record
    ctx.screen.done(with_more(record, Token, token=None), TOKEN)


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
