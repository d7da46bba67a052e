"""`fedctl hub`: run the hub, ask how it is, stop it."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from fedctl.cli import values
from fedctl.cli.command import Invocation, noun, resident, verb
from fedctl.cli.options import flag
from fedctl.cli.render import Shape
from fedctl.client.caller import Caller
from fedctl.config import HubOptions
from fedctl.errors import FedctlError, Timeout, Unavailable, UsageError
from fedctl.messages.hub import GetHubStats
from fedctl.model.hub import HubInfo, HubStats

HUB = Shape.of(HubInfo, key="pid")
STATS = Shape.of(
    HubStats,
    "connected_agents", "episodes", "tenants", "pending_embeddings", "operations", "commits", "acked_episodes",
    "rss_bytes", "uptime_s",
    key="connected_agents",
)  # fmt: skip
POLL_S = 0.05
STOP_WAIT_MS = 10_000
PORT_MAX = 65_535

app = noun("hub", "Run the hub that agents connect to.")


@verb(
    app,
    shape=HUB,
    examples=[
        "fedctl hub start --detach",
        "fedctl hub start --host 0.0.0.0 --tls-cert hub.pem --tls-key hub.key",
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
        int, flag("--http-port", metavar="N", least=0, most=PORT_MAX, says="For /health and the like.", default="8444")
    ] = 8444,
    max_agents: Annotated[
        int, flag("--max-agents", metavar="N", least=1, says="How many agents at once.", default="1000")
    ] = 1000,
    tls_cert: Annotated[Path | None, flag("--tls-cert", metavar="FILE", says="The certificate, in PEM.")] = None,
    tls_key: Annotated[Path | None, flag("--tls-key", metavar="FILE", says="Its key, in PEM.")] = None,
    insecure: Annotated[bool, flag("--insecure", says="Listen beyond this machine without TLS.")] = False,
    detach: Annotated[bool, flag("--detach", says="Return as soon as it is ready; it goes on.")] = False,
) -> int:
    """Run a hub on this home until SIGTERM or Ctrl-C."""
    if (tls_cert is None) != (tls_key is None):
        raise UsageError("--tls-cert and --tls-key go together")
    options = HubOptions(
        host=host, port=port, http_port=http_port, max_agents=max_agents,
        tls_cert=tls_cert, tls_key=tls_key, insecure=insecure, detach=detach,
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
        ctx.screen.done(stopped, HUB)


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


@verb(app, shape=STATS, examples=["fedctl hub stats --json", "fedctl hub stats --watch 2s"])
def stats(
    ctx: Invocation,
    watch: Annotated[
        int | None, flag("--watch", metavar="DUR", parser=values.duration, says="Go on, a line every so long.")
    ] = None,
) -> None:
    """Show the hub's figures."""
    from fedctl.bootstrap import hub_address

    if hub_address(ctx.settings) is None:
        raise _no_hub(ctx)
    with ctx.caller() as caller:
        if watch is None:
            ctx.screen.one(caller.call(GetHubStats()).stats, STATS)
        else:
            resident()
            ctx.screen.follow(_every(caller, max(watch, 100) / 1000), STATS)


def _every(caller: Caller, seconds: float) -> Iterator[HubStats]:
    while True:
        yield caller.call(GetHubStats()).stats
        time.sleep(seconds)
