"""The composition root: the only module that names concrete classes and puts them together.

Everything is imported where it is used: a cold command loads what it needs and nothing else.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import time
from typing import TYPE_CHECKING, Any

import msgspec

from fedctl.errors import Conflict, Denied, Failure, FedctlError, Locked, NoStore, Timeout, Unavailable, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from fedctl.access.certificates import Certificates
    from fedctl.access.tokens import Claims
    from fedctl.agent.lifecycle import AgentLife
    from fedctl.agent.link import Link
    from fedctl.agent.plan import AgentPlan, Ending
    from fedctl.archive.reader import Archive
    from fedctl.client.caller import Caller
    from fedctl.client.tls import Trust
    from fedctl.clock import Clock
    from fedctl.config import AgentOptions, HubOptions, Settings
    from fedctl.log import Log
    from fedctl.model.hub import HubInfo
    from fedctl.model.restore import Restored
    from fedctl.operations.context import Context
    from fedctl.operations.restore import Place
    from fedctl.recall.embedder import Embedder
    from fedctl.recall.index import IndexFolder
    from fedctl.store.store import Store

_POLL_S = 0.02
_START_WAIT_S = 30.0


def open_context(settings: Settings, *, create: bool, anew: bool = False, clock: Clock | None = None) -> Context:
    """Return the means of working on the home itself; `NoStore` when there is none and it may not be made.

    Where backups were made there was a store: with `create` alone none is made in its place, with `anew` too.
    """
    from fedctl.access.keys import KeyRing
    from fedctl.clock import Clock
    from fedctl.operations.context import Context, Recall

    def model() -> Embedder:
        from fedctl.recall.embedder import Embedder

        return Embedder(settings.model)

    def index() -> IndexFolder:
        from fedctl.recall.index import IndexFolder

        return IndexFolder(settings.home / "index")

    clock = clock or Clock()
    timeout_s = 30.0 if settings.timeout_ms is None else settings.timeout_ms / 1000
    return Context(
        home=settings.home,
        store=_open_store(settings.home, clock, create=create, anew=anew, timeout_s=timeout_s),
        recall=Recall(model, index),
        clock=clock,
        access=KeyRing(settings.home / "keys"),
        timeout_s=timeout_s,
    )


def _open_store(home: Path, clock: Clock, *, create: bool, anew: bool, timeout_s: float) -> Store:
    from fedctl.store.store import Store

    try:
        return Store.open(home, clock, create=create and anew, timeout_s=timeout_s)
    except NoStore:
        from fedctl.operations.register import check_not_gone

        check_not_gone(home)
        if not create:
            raise
    return Store.open(home, clock, create=True, timeout_s=timeout_s)


def open_work(path: Path | None) -> Context:
    """Return the means of working with the pools and workers of one file alone, which is made if it is not there.

    None is a store in memory. There is neither model nor index: nothing can be recalled here.
    """
    from pathlib import Path

    from fedctl.access.keys import KeyRing
    from fedctl.clock import Clock
    from fedctl.operations.context import Context, Recall
    from fedctl.store.store import Store

    clock = Clock()
    home = Path() if path is None else path.parent
    store = Store.in_memory(clock) if path is None else Store.open_file(path, clock, create=True)
    return Context(home=home, store=store, recall=Recall(None, None), clock=clock, access=KeyRing(home / "keys"))


def hub_address(settings: Settings) -> str | None:
    """Return the address of the hub that a command goes to, or None for the home itself.

    With `auto` that is the hub on this home, if its socket is there and its lock is held: a hub that was killed
    leaves its socket behind.
    """
    if settings.hub == "off":
        return None
    if settings.hub != "auto":
        return settings.hub
    from fedctl.client.address import local_hub

    return local_hub(settings.home) if hub_is_running(settings.home) else None


def open_caller(settings: Settings, *, writes: bool) -> Caller:
    """Return what carries requests out: in-process, or the hub that the settings name.

    `writes`: the home and its store are made when they are not there; else their absence is `NoStore`.
    """
    address = hub_address(settings)
    if address is not None:
        from fedctl.client.remote import RemoteCaller

        token = None if address.startswith("unix:") else settings.read_token()
        # With a token the tenant is the token's: it is named only by who means it, and refused if it is another.
        chosen = token is None or settings.tenant_explicit
        return RemoteCaller(
            address,
            tenant_id=settings.tenant if chosen else None,
            token=None if token is None else token.reveal(),
            timeout_ms=settings.timeout_ms,
            trust=None if address.startswith("unix:") else _trust(settings),
        )
    from fedctl.client.local import LocalCaller
    from fedctl.model.principal import Principal

    principal = Principal(tenant_id=settings.tenant, role="owner")
    return LocalCaller(open_context(settings, create=writes), principal)


def _trust(settings: Settings) -> Trust:
    """Return whom to trust over TLS, and how to show who we are."""
    from fedctl.client.tls import Trust

    if settings.client_key is not None and settings.client_cert is None:
        raise UsageError("a client's key is of no use without its certificate", hint="give --client-cert too")
    return Trust(ca=settings.tls_ca, cert=settings.client_cert, key=settings.client_key)


def create_home(settings: Settings) -> None:
    """Make the home and its store; nothing happens where they are."""
    open_context(settings, create=True, anew=True).close()


def finish_erasures(settings: Settings) -> None:
    """Go on with erasures that were begun and not ended, as far as that can be done now."""
    from fedctl.operations.erasure import finish

    context = open_context(settings, create=False)
    try:
        finish(context)
    finally:
        context.close()


class Versions(msgspec.Struct, frozen=True, kw_only=True):
    """The versions of everything that two fedctl must agree on, and of what they stand on."""

    fedctl: str
    python: str
    sqlite: str
    schema: int
    protocol: int


def versions() -> Versions:
    """Return the versions of everything that two fedctl must agree on, and of what they stand on."""
    from fedctl import __version__
    from fedctl.store.database import sqlite_version
    from fedctl.store.migrate import SCHEMA_VERSION
    from fedctl.wire.frames import VERSION

    return Versions(
        fedctl=__version__,
        python=".".join(str(part) for part in sys.version_info[:3]),
        sqlite=sqlite_version(),
        schema=SCHEMA_VERSION,
        protocol=VERSION,
    )


# -- hubs --------------------------------------------------------------------------------------------------------


def hub_is_running(home: Path) -> bool:
    """Return whether some process holds the home's hub lock."""
    from fedctl.client.address import LOCK_NAME

    try:
        descriptor = os.open(home / LOCK_NAME, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def run_hub(settings: Settings, options: HubOptions, on_ready: Callable[[HubInfo], None] = lambda _hub: None) -> int:
    """Run a hub on the home until it is told to stop; with `detach` start one in the background and return."""
    if options.detach:
        on_ready(_detach_hub(settings, options))
        return 0
    import asyncio

    from fedctl.clock import SteadyClock
    from fedctl.hub.server import Hub, HubServerOptions

    log = open_log(settings, resident=True)
    context = open_context(settings, create=True, clock=SteadyClock())
    try:
        hub = Hub(
            context,
            HubServerOptions(
                home=settings.home,
                host=options.host,
                port=options.port,
                http_port=options.http_port,
                max_agents=options.max_agents,
                max_connections=options.max_connections,
                max_strangers=options.max_strangers,
                tls_cert=options.tls_cert,
                tls_key=options.tls_key,
                tls_client_ca=options.tls_client_ca,
                insecure=options.insecure,
                host_names=options.host_names,
                origins=options.origins,
                retention_every_s=None if options.retention_every_ms is None else options.retention_every_ms / 1000,
            ),
            on_ready,
            log,
        )
        return asyncio.run(hub.run())
    finally:
        context.close()


_detached: list[Any] = []
"""Hubs that outlive this process: held here, for a `Popen` that is let go of complains that its child still runs."""


def _detach_hub(settings: Settings, options: HubOptions) -> HubInfo:
    import subprocess

    open_log(settings, resident=True)  # a file that cannot be written is told here, not in the background
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    log_path = settings.home / "hub.log"
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        begun = os.fstat(log).st_size
        process = subprocess.Popen(
            # -P: no module of the folder that somebody happens to stand in, for as long as the hub lives
            [sys.executable, "-P", "-m", "fedctl", "hub", "start", *_hub_flags(settings, options)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # its answer is ours to give; an error it says on stderr
            stderr=log,
            start_new_session=True,
        )
        _detached.append(process)
    finally:
        os.close(log)
    deadline = time.monotonic() + _START_WAIT_S
    own = msgspec.structs.replace(settings, hub="auto")  # this home's, whichever hub commands are to go to
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise _did_not_start(process.returncode, log_path, begun)
        info = hub_info(own)
        if info is not None and info.pid == process.pid and info.ready:
            return info
        time.sleep(_POLL_S)
    raise Timeout(f"the hub was not ready within {_START_WAIT_S:g} s", hint=f"read {log_path}")


def _did_not_start(status: int, log_path: Path, begun: int) -> FedctlError:
    """Return the error that the hub in the background ended with: it wrote it to its log as one JSON line."""
    from fedctl.errors import DiskFull, from_code, of_exit

    with log_path.open("rb") as file:
        file.seek(begun)
        lines = file.read().decode("utf-8", "replace").strip().splitlines()
    for line in reversed(lines):
        with contextlib.suppress(msgspec.DecodeError, KeyError, TypeError):
            error = msgspec.json.decode(line)["error"]
            return from_code(error["code"], error["message"], hint=error["hint"], details=error["details"])
    # Where even the log has no room the status is all that it could say.
    kind = of_exit(status)
    why = "the disk is full" if kind is DiskFull else f"it ended with status {status}"
    hint = "free some space and try again" if kind is DiskFull else f"read {log_path}"
    return kind(f"the hub did not start: {why}", hint=hint)


def open_log(settings: Settings, *, resident: bool, console: Callable[[str], None] | None = None) -> Log:
    """Return what a hub or an agent (`resident`) or a command says while it runs, and where; see `Log` for its errors.

    Its file is opened now: before anything is done that nobody would hear of.
    """
    from fedctl.clock import Clock
    from fedctl.log import Log, LogOptions

    options = LogOptions(
        level=settings.level_for(resident=resident),
        format=settings.debug_format,
        output=settings.debug_output,
        file=settings.debug_file,
        categories=settings.debug_categories,
        agents=settings.debug_agents,
    )
    return Log(options, Clock(), console)


def _hub_flags(settings: Settings, options: HubOptions) -> list[str]:
    flags = ["--json", "--home", str(settings.home), "--host", options.host, "--port", str(options.port),
             "--http-port", str(options.http_port), "--max-agents", str(options.max_agents),
             "--max-connections", str(options.max_connections), "--max-strangers", str(options.max_strangers),
             "--debug-level", settings.level_for(resident=True), "--debug-format", settings.debug_format,
             "--debug-output", settings.debug_output]  # fmt: skip
    if settings.debug_file is not None:
        flags += ["--debug-file", str(settings.debug_file)]
    for category in settings.debug_categories:
        flags += ["--debug-category", category]
    for agent_id in settings.debug_agents:
        flags += ["--debug-agent", agent_id]
    if options.tls_cert and options.tls_key:
        flags += ["--tls-cert", str(options.tls_cert), "--tls-key", str(options.tls_key)]
    if options.tls_client_ca:
        flags += ["--tls-client-ca", str(options.tls_client_ca)]
    for name in options.host_names:
        flags += ["--allow-host", name]
    for origin in options.origins:
        flags += ["--allow-origin", origin]
    if options.retention_every_ms is not None:
        flags += ["--retention-every", f"{options.retention_every_ms}ms"]
    if settings.config_file is not None:
        flags += ["--config", str(settings.config_file)]
    return flags + (["--insecure"] if options.insecure else [])


def make_certificates(
    settings: Settings, folder: Path | None, names: Sequence[str], life_ms: int, *, renew: bool = False
) -> Certificates:
    """Make an authority, a hub's pair and a client's; the hub's is good for this machine and for `names`.

    With `renew` only the pairs, of the authority that is there. Raises as `access.certificates.make` and `renew`.
    """
    import socket

    from fedctl.access import certificates
    from fedctl.clock import Clock

    here = ("localhost", "127.0.0.1", "::1", socket.gethostname())
    folder, now_ms = folder or settings.home / "tls", Clock().now_ms()
    if renew:
        return certificates.renew(folder, names, here=here, now_ms=now_ms, life_ms=life_ms)
    return certificates.make(folder, tuple(dict.fromkeys((*here, *names))), now_ms=now_ms, life_ms=life_ms)


def hub_info(settings: Settings) -> HubInfo | None:
    """Return where the hub that the settings name listens, as it says itself; None when none runs on the home."""
    from fedctl.messages.hub import GetHubInfo

    address = hub_address(settings)
    if address is None:
        return None
    try:
        caller = open_caller(settings, writes=False)
        try:
            return caller.call(GetHubInfo()).hub
        finally:
            caller.close()
    except Unavailable:
        # It has the lock and does not listen yet (or any more): not running, for who asks now.
        if settings.hub == "auto":
            return None
        raise


def stop_hub(settings: Settings, wait_ms: int) -> HubInfo | None:
    """Tell the hub on the home to stop and wait until it has; None when none runs."""
    import signal

    from fedctl.client.address import LOCK_NAME, read_info

    if settings.hub not in ("auto", "off"):
        raise UsageError("a hub is stopped on its own home", hint="log in there and run: fedctl hub stop")
    if not hub_is_running(settings.home):
        return None
    info = read_info(settings.home)
    # Not what hub.json says: a hub that was killed leaves it behind, and its number may be another process's by now.
    pid = _lock_holder(settings.home / LOCK_NAME)
    try:
        os.kill(pid, signal.SIGTERM)
    except PermissionError as error:
        raise Denied(f"the hub (pid {pid}) is another user's") from error
    except ProcessLookupError:
        pass
    deadline = time.monotonic() + wait_ms / 1000
    while hub_is_running(settings.home):
        if time.monotonic() >= deadline:
            raise Timeout(f"the hub (pid {pid}) did not stop within {wait_ms / 1000:g} s")
        time.sleep(_POLL_S)
    return info


def _lock_holder(path: Path) -> int:
    try:
        return int(path.read_text("ascii").split()[0])
    except (OSError, ValueError, IndexError):
        raise Failure("a hub runs on this home, but does not say which process it is", hint="wait a moment") from None


# -- restoring ---------------------------------------------------------------------------------------------------


def restore_plan(  # noqa: PLR0913  one parameter a choice
    settings: Settings,
    which: str,
    to: Path | None,
    note: Callable[[str], None],
    *,
    overwrite: bool,
    lock_wait_ms: int,
    dry_run: bool,
) -> tuple[Path, Place]:
    """Return the backup's file and where it is to be restored to, once nothing is known to stand in the way.

    With `dry_run` a store that is there, or a hub on it, does not stand in the way.

    Raises:
        UsageError: It cannot be restored from here.
        NotFound: There is no such backup.
        Locked: A hub runs there, and is not to be waited for.
        Conflict: Something is there that may not go; or it is not sure that the newest backup is the newest.
    """
    from fedctl.operations.backup import find, unsure
    from fedctl.operations.restore import Place, check_place

    if settings.hub not in ("auto", "off"):
        raise UsageError("a store is restored on its own home", hint="log in there and run: fedctl restore")
    if to is not None and overwrite:
        raise UsageError("--to makes a new home, where there is nothing to --overwrite")
    into = settings.home if to is None else to
    place = Place(settings.home.absolute(), into.absolute(), overwrite=overwrite, lock_wait_s=lock_wait_ms / 1000)
    path = find(settings.home, which)
    for why in unsure(settings.home, path) if which == "latest" else ():
        if overwrite:
            raise Conflict(
                f"it is not sure that {path.name} is the newest backup: {why}",
                hint="name the backup by its id or its file: fedctl backup list",
            )
        note(why)
    check_place(place, only_looks=dry_run)
    if not (lock_wait_ms or dry_run) and hub_is_running(place.into):
        raise _hub_in_the_way(place.into)
    return path, place


def _hub_in_the_way(home: Path) -> Locked:
    from fedctl.client.address import LOCK_NAME

    with contextlib.suppress(Failure):
        return Locked(
            f"a hub runs on {home} (pid {_lock_holder(home / LOCK_NAME)})",
            hint="stop it first: fedctl hub stop; or wait for its end with --lock-wait",
        )
    return Locked(f"a hub runs on {home}", hint="stop it first: fedctl hub stop; or wait for its end with --lock-wait")


def open_backup(
    settings: Settings, path: Path, passphrase_file: Path | None, signed_by: str | None, note: Callable[[str], None]
) -> Archive:
    """Return a backup's file opened: by whom it was signed and what it says is good, no part is read.

    Raises as `archive.reader.open_archive`.
    """
    from fedctl.archive.reader import open_archive
    from fedctl.operations.backup import opener

    trusted = opener(settings.home, passphrase_file=passphrase_file, signed_by=signed_by)
    archive = open_archive(path, trusted)
    for line in trusted.notes:
        note(line)
    return archive


def restored(source: Archive, place: Place, watch: Callable[[int], None], *, dry_run: bool) -> Restored:
    """Restore a backup, or with `dry_run` only beside its place. Raises as `operations.restore`."""
    from fedctl.clock import Clock
    from fedctl.operations import restore

    if dry_run:
        return restore.rehearse(source, place, Clock(), watch)
    try:
        return restore.restore(source, place, Clock(), watch)
    except Locked:
        if hub_is_running(place.into):
            raise _hub_in_the_way(place.into) from None
        raise


# -- agents ------------------------------------------------------------------------------------------------------


def run_agent(
    settings: Settings,
    options: AgentOptions,
    command: Sequence[str],
    on_ready: Callable[[str, str], None] = lambda _agent_id, _address: None,
) -> Ending:
    """Live an agent's life: run `command`, or without one serve its memory until the lifetime ends.

    `on_ready` hears the agent's id and the address of its socket.
    """
    import asyncio

    async def live() -> Ending:
        agent = make_agent(settings, options)
        return await agent.run(list(command), lambda address: on_ready(agent.plan.agent_id, address))

    return asyncio.run(live())


def make_agent(settings: Settings, options: AgentOptions) -> AgentLife:
    """Return an agent that has not begun. On the running event loop.

    Raises:
        Denied: The token is no token, or ends before the agent would.
    """
    from fedctl.access.keys import KeyRing
    from fedctl.agent.lifecycle import AgentLife
    from fedctl.agent.plan import AgentPlan, Means, new_agent_id
    from fedctl.clock import Clock

    clock = Clock()
    log = open_log(settings, resident=True)
    address = hub_address(settings)
    token = None if address is None or address.startswith("unix:") else settings.read_token()
    given_id, tenant_id = options.id, settings.tenant
    if token is not None:
        claims = _outliving(token.reveal(), clock.now_ms() + options.lifetime_ms)
        given_id, tenant_id = given_id or claims.aid, claims.tid
        if settings.tenant_explicit and settings.tenant != tenant_id:
            raise Denied(f"the token is of the tenant {tenant_id}, not of {settings.tenant}", hint="leave --tenant out")
    plan = AgentPlan(
        tenant_id=tenant_id,
        agent_id=given_id or new_agent_id(clock),
        type=options.type,
        lifetime_ms=options.lifetime_ms,
        sync_interval_ms=options.sync_interval_ms,
        pull_query=options.pull_query,
        pull_limit=options.pull_limit,
        undelivered=options.undelivered,
    )
    embedder = None
    if options.embed == "local":
        from fedctl.recall.embedder import Embedder

        embedder = Embedder(settings.model)

    def watched(link: Link) -> Link:
        if not log.says_detailed:
            return link
        from fedctl.agent.logged import LoggedLink

        return LoggedLink(link, log, clock, plan.tenant_id, plan.agent_id)

    link = watched(_open_link(settings, plan, address, None if token is None else token.reveal()))

    def home_link() -> Link | None:
        here = settings.hub == "auto" and address is not None and not hub_is_running(settings.home)
        return watched(_home_link(settings, plan)) if here else None

    return AgentLife(plan, Means(link, clock, KeyRing(settings.home / "keys"), embedder, log, home_link))


def _open_link(settings: Settings, plan: AgentPlan, address: str | None, token: str | None) -> Link:
    """Return an agent's way to what it is an agent of: a hub, or the home itself where none runs."""
    if address is None:
        return _home_link(settings, plan)
    from fedctl.agent.link import HubLink

    return HubLink(address, token=token, tenant_id=plan.tenant_id, agent_id=plan.agent_id, trust=_trust(settings))


def _home_link(settings: Settings, plan: AgentPlan) -> Link:
    from fedctl.agent.link import HomeLink
    from fedctl.model.principal import Principal

    principal = Principal(tenant_id=plan.tenant_id, role="agent", agent_id=plan.agent_id)
    return HomeLink(lambda: open_context(settings, create=True), principal)


def _outliving(token: str, until_ms: int) -> Claims:
    from fedctl.access.tokens import read_claims

    claims = read_claims(token)
    if claims.exp * 1000 < until_ms:
        raise Denied(
            "the token ends before the agent's lifetime does",
            hint="issue one with a longer --ttl, or give the agent a shorter --lifetime",
        )
    return claims
