"""`fedctl hub`: run the hub, ask how it is, stop it."""

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated

import msgspec

from fedctl.cli import events as following
from fedctl.cli import values
from fedctl.cli.command import Invocation, noun, resident, verb
from fedctl.cli.options import flag
from fedctl.cli.render import Shape
from fedctl.client.events import history
from fedctl.config import HubOptions
from fedctl.errors import FedctlError, Timeout, Unavailable, UsageError
from fedctl.messages.hub import GetHubStats, ListEvents
from fedctl.model.hub import Event, HubInfo, HubStats

HUB = Shape.of(HubInfo, key="pid")
STATS = Shape.of(
    HubStats,
    "connected_agents", "episodes", "tenants", "pending_embeddings", "operations", "commits", "acked_episodes",
    "rss_bytes", "uptime_s",
    key="connected_agents",
)  # fmt: skip


class MadeCertificates(msgspec.Struct, frozen=True, kw_only=True):
    """The files of an authority, of a hub's certificate and of a client's; `names` are the hub's.

    `expires_at` is the end of the two pairs, `ca_expires_at` that of the authority.
    """

    ca: str
    ca_key: str
    cert: str
    key: str
    client_cert: str
    client_key: str
    names: list[str]
    expires_at: str
    ca_expires_at: str


CERT = Shape.of(MadeCertificates, key="cert")
CERT_LIFE_MS = 365 * 86_400_000
EVENT = Shape.of(Event, "seq", "at", "kind", "subject", "detail", key="seq")
EVENTS = Shape.of(Event, "seq", "at", "tenant_id", "kind", "subject", "detail", key="seq")
POLL_S = 0.05
WATCH_LEAST_MS = 100
RETENTION_LEAST_MS = 1000
STOP_WAIT_MS = 10_000
PORT_MAX = 65_535


def _seldom(text: str) -> int:
    ms = values.duration(text)
    if ms < RETENTION_LEAST_MS:
        raise UsageError(f"the shortest is {RETENTION_LEAST_MS // 1000}s, and {text} is shorter")
    return ms


app = noun(
    "hub",
    "Run the hub that agents connect to.",
    "Commands work on a home directly. Where a hub runs on it, they go through the hub's socket by themselves: "
    "its model is warm, and it is the one writer.",
    "A hub serves agents on WebSocket (8443), a socket in the home, and plain GETs on 8444: a page to watch, "
    "/health, /ready, /stats, and /metrics for Prometheus. The figures answer loopback or an operator's token. It "
    "listens on loopback; any other address needs --tls-cert and --tls-key (`hub cert` makes them). SIGTERM and "
    "Ctrl-C end it in order, with exit code 0. With --detach what it says goes to hub.log in the home.",
    "A tenant of 40,000 vectors or more gets a graph (HNSW), built and searched by the hub; everybody else is "
    "searched exactly.",
)


@verb(
    app,
    shape=HUB,
    examples=[
        "fedctl hub start --detach",
        "fedctl hub start --host 0.0.0.0 --tls-cert tls/hub.pem --tls-key tls/hub.key --tls-client-ca tls/ca.pem",
    ],
)
def start(
    ctx: Invocation,
    host: Annotated[
        str, flag("--host", metavar="ADDR", parser=values.text, says="The address to listen on.", default="127.0.0.1")
    ] = "127.0.0.1",
    port: Annotated[
        int, flag("--port", metavar="N", least=0, most=PORT_MAX, says="For agents; 0: any.", default="8443")
    ] = 8443,
    http_port: Annotated[
        int,
        flag("--http-port", metavar="N", least=0, most=PORT_MAX, says="For the monitor, /health, ...", default="8444"),
    ] = 8444,
    max_agents: Annotated[
        int, flag("--max-agents", metavar="N", least=1, says="How many agents at once.", default="1000")
    ] = 1000,
    tls_cert: Annotated[Path | None, flag("--tls-cert", metavar="FILE", says="The certificate, in PEM.")] = None,
    tls_key: Annotated[Path | None, flag("--tls-key", metavar="FILE", says="Its key, in PEM.")] = None,
    tls_client_ca: Annotated[
        Path | None, flag("--tls-client-ca", metavar="FILE", says="Let in only clients with a certificate of these.")
    ] = None,
    max_connections: Annotated[
        int, flag("--max-connections", metavar="N", least=1, says="Over the network, in all.", default="10000")
    ] = 10_000,
    max_strangers: Annotated[
        int,
        flag("--max-strangers", metavar="N", least=1, says="Of one address, before they show a token.", default="1024"),
    ] = 1024,
    allow_host: Annotated[
        list[str] | None,
        flag(
            "--allow-host",
            metavar="NAME",
            parser=values.text,
            says="Another name that clients call it by. Repeatable.",
        ),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        flag("--allow-origin", metavar="URL", parser=values.text, says="A site whose pages may connect. Repeatable."),
    ] = None,
    retention_every: Annotated[
        int | None,
        flag(
            "--retention-every",
            metavar="DUR",
            parser=_seldom,
            says="Carry out the tenants' retention policies that often: 1s or more.",
        ),
    ] = None,
    insecure: Annotated[bool, flag("--insecure", says="Listen beyond this machine without TLS.")] = False,
    detach: Annotated[bool, flag("--detach", says="Return as soon as it is ready; it goes on.")] = False,
) -> int:
    """Run a hub on this home until SIGTERM or Ctrl-C."""
    if (tls_cert is None) != (tls_key is None):
        raise UsageError("--tls-cert and --tls-key go together")
    options = HubOptions(
        host=host, port=port, http_port=http_port, max_agents=max_agents, max_connections=max_connections,
        max_strangers=max_strangers, tls_cert=tls_cert, tls_key=tls_key, tls_client_ca=tls_client_ca,
        host_names=tuple(allow_host or ()), origins=tuple(allow_origin or ()), insecure=insecure, detach=detach,
        retention_every_ms=retention_every,
    )  # fmt: skip
    from fedctl.bootstrap import run_hub

    def ready(info: HubInfo) -> None:
        ctx.screen.done(info, HUB)
        ctx.screen.flush()

    resident()
    return run_hub(ctx.settings, options, ready)


@verb(app, shape=HUB, examples=["fedctl hub stop"])
def stop(ctx: Invocation) -> None:
    """Stop this home's hub: what is in flight is answered, then it ends. Without a hub there is nothing to do."""
    from fedctl.bootstrap import stop_hub

    stopped = stop_hub(ctx.settings, STOP_WAIT_MS)
    if stopped is None:
        ctx.screen.note("no hub runs on this home")
    else:
        ctx.screen.done(msgspec.structs.replace(stopped, ready=False), HUB)


@verb(app, shape=HUB, examples=["fedctl hub status", "fedctl hub status --wait 10s && fedctl agent list"])
def status(
    ctx: Invocation,
    wait: Annotated[
        int | None, flag("--wait", metavar="DUR", parser=values.duration, says="Wait that long until it is ready.")
    ] = None,
) -> int:
    """Show where the hub listens. Exit 7 when there is none, 8 when --wait ran out."""
    deadline = time.monotonic() + (wait or 0) / 1000
    while True:
        info = _info(ctx)
        if info is not None and (info.ready or wait is None):
            ctx.screen.one(info, HUB)
            return 0
        if time.monotonic() >= deadline:
            break
        time.sleep(POLL_S)
    if info is not None:
        ctx.screen.one(info, HUB)
        return Timeout.exit
    raise Timeout("no hub became ready in that time") if wait else _no_hub(ctx)


@verb(
    app,
    shape=CERT,
    examples=[
        "fedctl hub cert --out tls --name hub.example.org",
        "fedctl hub cert --out tls --renew --name hub.example.net",
    ],
)
def cert(
    ctx: Invocation,
    out: Annotated[Path | None, flag("--out", metavar="DIR", says="Where to.", default="tls/ in the home")] = None,
    name: Annotated[
        list[str] | None,
        flag("--name", metavar="HOST", parser=values.text, says="Another name or address of the hub. Repeatable."),
    ] = None,
    ttl: Annotated[
        int,
        flag(
            "--ttl",
            metavar="DUR",
            parser=values.lasting,
            says="How long they hold; the authority ten times as long.",
            default="365d",
        ),
    ] = CERT_LIFE_MS,
    renew: Annotated[
        bool, flag("--renew", says="Make the two pairs anew, of the authority that is there, to add a --name or time.")
    ] = False,
) -> None:
    """Make an authority of one's own, a certificate for the hub, and one for clients, each with its key.

    The hub's is good for this machine's names and those given. Nothing that is there is written over, but by --renew:
    that keeps the authority, so that clients need nothing new, and the names that the hub's certificate had. A hub
    that runs takes the new one when it is started again.
    """
    from fedctl.bootstrap import make_certificates
    from fedctl.model.time import to_rfc3339

    made = make_certificates(ctx.settings, out, name or [], ttl, renew=renew)
    shown = MadeCertificates(
        ca=made.ca, ca_key=made.ca_key, cert=made.cert, key=made.key, client_cert=made.client_cert,
        client_key=made.client_key, names=list(made.names), expires_at=to_rfc3339(made.expires_at_ms),
        ca_expires_at=to_rfc3339(made.ca_expires_at_ms),
    )  # fmt: skip
    ctx.screen.done(shown, CERT)
    if made.expires_at_ms == made.ca_expires_at_ms:
        ctx.screen.note("they end with the authority, sooner than --ttl says: then a new one must go to all clients")
    if renew:
        ctx.screen.note("a hub that runs takes them when it is started again; clients need nothing new")
        return
    ctx.screen.note(f"keep {made.ca_key} apart: whoever has it can make certificates that the hub trusts")


def _info(ctx: Invocation) -> HubInfo | None:
    """Return what the hub says of itself, this home's or the one that `--hub` names; None: there is none."""
    from fedctl.bootstrap import hub_info

    try:
        return hub_info(ctx.settings)
    except Unavailable:
        return None


def _no_hub(ctx: Invocation) -> FedctlError:
    if ctx.settings.hub in ("auto", "off"):
        return Unavailable("no hub runs on this home", hint="fedctl hub start --detach")
    return Unavailable(f"no hub answers at {ctx.settings.hub}")


def _interval(text: str) -> int:
    ms = values.duration(text)
    if ms < WATCH_LEAST_MS:
        raise UsageError(f"the shortest is {WATCH_LEAST_MS}ms, and {text} is shorter")
    return ms


@verb(
    app,
    shape=STATS,
    lines={"--watch": HubStats},
    examples=["fedctl hub stats --json", "fedctl hub stats --watch 2s"],
)
def stats(
    ctx: Invocation,
    watch: Annotated[
        int | None,
        flag("--watch", metavar="DUR", parser=_interval, says="Go on, a line every so long: 100ms or more."),
    ] = None,
) -> None:
    """Show the hub's figures."""
    from fedctl.bootstrap import hub_address

    if hub_address(ctx.settings) is None:
        raise _no_hub(ctx)
    if watch is not None:
        resident()
        ctx.screen.follow(_every(ctx, watch / 1000), STATS)
        return
    with ctx.caller() as caller:
        ctx.screen.one(caller.call(GetHubStats()).stats, STATS)


def _every(ctx: Invocation, seconds: float) -> Iterator[HubStats]:
    """Yield the figures every so long, over the end of a hub and its restart. One must be there to begin with."""
    away: bool | None = None
    while True:
        try:
            with ctx.caller() as caller:
                while True:
                    stats = caller.call(GetHubStats()).stats
                    away = False
                    yield stats
                    time.sleep(seconds)
        except (Unavailable, Timeout) as error:
            if away is None:
                raise
            if not away:
                ctx.screen.note(f"{error.message}; trying again")
            away = True
        ctx.screen.check_reader()
        time.sleep(seconds)


def _since(text: str) -> str:
    """Return a sequence as it is, a time as RFC 3339."""
    if text.strip().isdecimal():
        return str(values.count(text))
    try:
        return values.past(text)
    except UsageError as error:
        raise UsageError(error.message, hint=f"{error.hint or 'write a time'}; or a cursor number, a `seq`") from None


@verb(
    app,
    shape=EVENT,
    form="many",
    lines={"--follow": Event},
    examples=[
        "fedctl hub events --since 1h --type agent",
        "fedctl hub events --follow --jsonl --since 4711   # all that came after the event 4711, then what comes",
    ],
)
def events(
    ctx: Invocation,
    follow: Annotated[
        bool, flag("--follow", says="Go on with what comes, over the end of a hub and its restart.")
    ] = False,
    since: Annotated[
        str | None,
        flag(
            "--since",
            metavar="T",
            parser=_since,
            default="all; with --follow: now",
            says="From then on: 7d, 2026-01-31, RFC 3339, or a cursor number: after the event of that `seq`.",
        ),
    ] = None,
    types: Annotated[
        list[str] | None,
        flag(
            "--type",
            metavar="T",
            says="Only these, or by a first word all of its kinds (pool: those of items, too). Repeatable: "
            f"{', '.join(following.KINDS)}.",
        ),
    ] = None,
    all_tenants: Annotated[bool, flag("--all-tenants", says="Of every tenant; with a token, an operator's.")] = False,
) -> None:
    """Show what happened, oldest first: agents, episodes, items, workers, tokens. Works with a hub and without."""
    request = ListEvents(kinds=following.kinds_of(types or []), all_tenants=all_tenants)
    if since is not None:
        begin = {"after": int(since)} if since.isdecimal() else {"since": since}
        request = msgspec.structs.replace(request, **begin)
    shape = EVENTS if all_tenants else EVENT
    if follow:
        if since is None:
            request = msgspec.structs.replace(request, newest=0)
        resident()
        with closing(following.follower(ctx, request)) as source:
            pages = following.pages(ctx, source)
            ctx.screen.follow((event for page in pages for event in page), shape)
        return
    limit = ctx.screen.default_limit
    with ctx.caller() as caller:
        if since is None and limit is not None:
            request = msgspec.structs.replace(request, newest=limit)
        shown = ctx.screen.many(history(caller, request), shape)
        if not shown and not all_tenants:
            ctx.note_unused(caller)
    if since is None and shown == limit:
        ctx.screen.note(f"the newest {limit} are shown; --since shows more")
