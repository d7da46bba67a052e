"""The hub: one process that holds a home's store open, with its sockets, threads and beginning and end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import functools
import logging
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from websockets.asyncio.server import serve as serve_ws

from fedctl.client.address import INFO_NAME, LOCK_NAME, hub_socket
from fedctl.errors import Denied, FedctlError, Locked, NotFound, Unavailable, UsageError, from_os
from fedctl.hub import options as given
from fedctl.hub.background import Background
from fedctl.hub.desk import Desk
from fedctl.hub.events import Feed, Subscribers
from fedctl.hub.gate import Gate
from fedctl.hub.guests import Guests, Listener, counting
from fedctl.hub.http import Pages
from fedctl.hub.jobs import Job, Readers
from fedctl.hub.keeper import Keeper
from fedctl.hub.links import HELLO_TIMEOUT_S, HubConnection, UnixLink, serve_websocket
from fedctl.hub.options import HubServerOptions
from fedctl.hub.peer import Link, Peer, Unsent
from fedctl.hub.refusals import Refusals
from fedctl.hub.seldom import Seldom
from fedctl.hub.stats import Figures
from fedctl.hub.sweeper import Sweeper
from fedctl.hub.watch import FRAME_MAX_BYTES as WATCH_FRAME_MAX_BYTES
from fedctl.hub.watch import Watch, chosen_address, socket_uid
from fedctl.hub.writer import Writer
from fedctl.log import Log, LogOptions
from fedctl.messages.hub import GetHubStats
from fedctl.model.hub import HubInfo, HubStats
from fedctl.model.limits import FRAME_MAX_BYTES
from fedctl.model.time import to_rfc3339
from fedctl.operations.table import load_all, request_types
from fedctl.wire import frames
from fedctl.wire.codec import RequestDecoder
from fedctl.wire.session import ServerSession

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fedctl.messages.agent import ReportAgent
    from fedctl.model.hub import Event
    from fedctl.operations.context import Context

__all__ = ["Hub", "HubServerOptions"]

T = TypeVar("T")

READER_THREADS = 3
BACKLOG = 1024
FIGURES_EVERY_S = 10.0
SWITCH_S = 0.002
"""How long a thread may keep the others from the interpreter. The writer gives it up at each statement and the event
loop does not: at Python's 5 ms a busy loop holds up every commit. Measured on a busy machine, a tenant's p99 beside
three floods of another's: 53, 49 and 75 ms, at 5 ms 93, 72 and 81, at 0.5 ms no better than at 2."""
PING_EVERY_S = 20.0
PONG_WITHIN_S = 10.0
"""A WebSocket peer is asked every so often whether it is there, and is gone if it does not answer in time. The peers of
the Unix socket are on this machine, whose kernel says when one dies."""
STOP_S = 4.0
"""How long a stop may take in all, the end of the process not counted: with that it is over within 5 s."""
DRAIN_S = 2.0
"""How long it waits for what is in flight."""
CLOSE_S = 1.0
"""How long a WebSocket peer may take to say goodbye."""
OWNERS_TRIES = 4
LOCK_TRIES = 10
LOCK_PAUSE_S = 0.02


class Hub:
    """Runs on one home. `run` returns when it has stopped; `stop` may be called from any thread.

    It is the `HubSide` of its operations: `info`, `stats` and `stop_agent` are called by its threads.
    """

    def __init__(
        self,
        context: Context,
        options: HubServerOptions,
        on_ready: Callable[[HubInfo], None] = lambda _hub: None,
        log: Log | None = None,
        uid_of: Callable[[tuple[str, int], tuple[str, int]], int | None] = socket_uid,
    ) -> None:
        """Check the options; nothing is opened yet. `context` is used by the event loop and stays the caller's.

        `on_ready` is called once everything listens. `uid_of` tells whose a connection within this machine is.

        Raises:
            UsageError: options that make no sense, or that would send tokens unencrypted over a network.
        """
        given.check(options)
        self._options = options
        self._on_ready = on_ready
        self._uid_of = uid_of
        self._tls = given.tls_context(options)
        self._log = log or Log(LogOptions(), context.clock)
        self._context = context.with_hub(self, lambda text: self._log.basic("index.note", text=text))
        self._clock = context.clock
        self._figures = Figures(context.clock)
        self._seldom = Seldom(context.clock)
        self._refusals = Refusals(
            self._log, self._figures, lambda seconds, call: asyncio.get_running_loop().call_later(seconds, call)
        )
        self._subscribers = Subscribers()
        self._unsent = Unsent()
        load_all()
        self._decoder = RequestDecoder(request_types())
        self._gate = Gate(options)
        self._guests = Guests(
            most=given.connections_max(options),
            strangers_each=options.max_strangers,
            now_s=self._clock.monotonic_s,
            refused=lambda why, address: self._refusals.note("connections", address=address, error=why),
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._failure: FedctlError | None = None
        self._info: HubInfo | None = None
        self._ready = False
        self._stop_by_s = 0.0

    # -- what operations may ask (HubSide) -------------------------------------------------------------------------

    def info(self) -> HubInfo:
        """Return where the hub listens."""
        if self._info is None:
            raise Unavailable("the hub is still starting", hint="try again in a moment")
        return msgspec.structs.replace(self._info, ready=self._ready)

    @property
    def stopping(self) -> bool:
        """Whether the hub is about to end."""
        return self._stopping is not None and self._stopping.is_set()

    def stats(self) -> HubStats:
        """Return the figures of the process; the store's are zero."""
        return msgspec.structs.replace(
            self._figures.stats(connected_agents=self._sweeper.connected_agents, connections=len(self._desk.peers)),
            queued={"write": self._writer.queued, "read": self._readers.queued},
            in_flight=self._desk.in_flight,
        )

    def seldom(self, name: str, question: Callable[[], T]) -> T:
        """Return what a dear question of that name is answered, or was a short while ago."""
        return self._seldom.ask(name, question)

    def stop_agent(self, tenant_id: str, agent_id: str) -> None:
        """Ask a connected agent to end; `NotFound` when it has no session here."""
        peers = self._sweeper.peers_of(tenant_id, agent_id)
        if not peers:
            raise NotFound(
                f"the agent {agent_id} is not connected to this hub", hint="fedctl agent show says where it is"
            )
        for peer in peers:
            self._on_loop(lambda peer=peer: peer.send(peer.session.stop("it was asked to stop")))

    # -- life ------------------------------------------------------------------------------------------------------

    async def run(self) -> int:
        """Serve until `stop`, SIGTERM or SIGINT; return 0, or the exit status of what made the hub end itself.

        Raises:
            Locked: another hub runs on this home; it is unharmed.
            Unavailable: a port is taken.
            UsageError, Denied: the address cannot be bound to.
        """
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(sys.setswitchinterval, sys.getswitchinterval())
            sys.setswitchinterval(SWITCH_S)
            stack.enter_context(_lock(self._options.home))
            listeners = stack.enter_context(_listeners(self._options, self._guests))
            self._start_threads()
            stack.push_async_callback(self._end)
            self._take_signals(stack)
            await self._listen(listeners, stack)
            self._sweeper.start()
            self._ready = True
            self._write_info(stack)
            self._log.basic("hub.started", pid=os.getpid(), url=self.info().url, home=str(self._options.home))
            figures = asyncio.create_task(self._log_figures())
            self._on_ready(self.info())
            await self._stopping.wait()
            figures.cancel()
            await self._say_goodbye()
        self._log.basic("hub.stopped")
        return 0 if self._failure is None else self._failure.exit

    def stop(self) -> None:
        """Stop gracefully. Safe to call from any thread, and twice."""
        self._on_loop(self._begin_stop)

    def _begin_stop(self) -> None:
        if self._stopping is not None and not self._stopping.is_set():
            self._ready = False
            self._desk.dismiss(Unavailable("the hub is stopping", hint="try again in a moment"))
            self._stop_by_s = self._clock.monotonic_s() + STOP_S
            self._desk.closing = self._desk.closing or Unavailable("the hub is stopping", hint="try again in a moment")
            self._stopping.set()

    def _fail(self, error: FedctlError) -> None:
        """Go down: the store can be written no longer, and only a restart can tell what it holds."""
        if self._failure is not None:
            return
        self._failure = error
        self._log.basic("error.fatal", error=error.message)
        self._desk.closing = Unavailable(f"the hub is going down: {error.message}", hint="restart the hub")
        self._begin_stop()

    def _on_loop(self, call: Callable[..., None], *arguments: Any) -> None:
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody is left to be told
            self._loop.call_soon_threadsafe(call, *arguments)

    # -- parts -----------------------------------------------------------------------------------------------------

    def _start_threads(self) -> None:
        assert self._loop is not None
        self._sweeper = Sweeper(
            self._loop,
            self._clock,
            self._log,
            report=self._report,
            overdue=self._context.store.agents.overdue,
            key_ends=self._context.access.ends_ms,
        )
        settle = functools.partial(self._on_loop, self._settle)
        every_s = self._options.retention_every_s
        forks = [self._fork() for _ in range(READER_THREADS + 3)]
        self._readers = Readers(forks[3:], settle, self._log)
        self._writer = Writer(
            forks[0],
            deliver=settle,
            committed=self._committed,
            failed=functools.partial(self._on_loop, self._fail),
            figures=self._figures,
            log=self._log,
        )
        self._desk = Desk(
            self._context,
            writer=self._writer,
            readers=self._readers,
            sweeper=self._sweeper,
            subscribers=self._subscribers,
            figures=self._figures,
            refusals=self._refusals,
            log=self._log,
            max_agents=self._options.max_agents,
            version=self._options.version,
        )
        self._keeper = None if every_s is None else Keeper(self._fork(), every_s=every_s, log=self._log)
        self._background = Background(forks[1], idle_s=self._idle_s, log=self._log)
        self._feed = Feed(forks[2], functools.partial(self._on_loop, self._changed), self._log)

    def _fork(self) -> Context:
        context = self._context.fork()
        context.store.database.stop_autocheckpoint()
        context.store.database.on_flush_failed(functools.partial(self._on_loop, self._fail))
        return context

    def _idle_s(self) -> float:
        return self._clock.monotonic_s() - self._desk.last_asked_s

    def _settle(self, jobs: list[Job]) -> None:
        self._desk.settle(jobs)

    def _committed(self) -> None:
        self._feed.wake()

    def _changed(self, events: list[Event]) -> None:
        self._background.wake()
        self._figures.happened(len(events))
        if self._log.says_verbose:
            self._tell(events)
        self._sweeper.changed(events)
        self._subscribers.publish(events)
        self._desk.happened(events)

    def _tell(self, events: list[Event]) -> None:
        """Tell the debug stream of events. Never their detail, but for a state: it may be what somebody wrote."""
        for event in events:
            agent = event.subject if event.kind.startswith("agent_") else None
            self._log.verbose(
                "event." + event.kind, tenant=event.tenant_id, agent=agent, seq=event.seq, subject=event.subject
            )
            if "status" in event.detail:
                what = event.kind.partition("_")[0] + ".state"
                self._log.trace(
                    what, tenant=event.tenant_id, agent=agent, subject=event.subject, state=event.detail["status"]
                )

    def _report(self, tenant_id: str, request: ReportAgent) -> None:
        """Carry out what the sweeper found; an agent that is gone from the registry by now needs no report."""
        with contextlib.suppress(Unavailable):
            self._desk.ask(tenant_id, request, lambda _job: None)

    async def _ask_stats(self) -> HubStats:
        assert self._loop is not None
        answered: asyncio.Future[Job] = self._loop.create_future()
        self._desk.ask("default", GetHubStats(), answered.set_result)
        job = await answered
        if job.error is not None:
            raise job.error
        stats: HubStats = job.answer.stats
        return stats

    async def _log_figures(self) -> None:
        while True:
            await asyncio.sleep(FIGURES_EVERY_S)
            stats = self.stats()
            self._log.detailed(
                "hub.figures",
                agents=stats.connected_agents,
                connections=stats.connections,
                operations=stats.operations,
                commits=stats.commits,
                acked=stats.acked_episodes,
                in_flight=self._desk.in_flight,
                rss_mb=stats.rss_bytes / 1e6,
            )

    # -- sockets ---------------------------------------------------------------------------------------------------

    def _peer(self, link: Link) -> Peer:
        frame_max_bytes = WATCH_FRAME_MAX_BYTES if link.looks_only else FRAME_MAX_BYTES
        return Peer(link, ServerSession(self._decoder, frame_max_bytes=frame_max_bytes), self._unsent)

    async def _listen(self, listeners: Listeners, stack: contextlib.AsyncExitStack) -> None:
        assert self._loop is not None
        scheme = "https" if self._tls else "http"
        pages = Pages(
            healthy=lambda: self._failure is None,
            ready=lambda: self._ready,
            read_only=lambda: self._context.store.space()[1],
            stats=self._ask_stats,
            figures=self._figures,
            gate=self._gate,
            watch=Watch(scheme, self._uid_of, listeners.owners_address),
            refusals=self._refusals,
            verify=self._desk.door.verify,
        )
        common: dict[str, Any] = {
            "compression": None,
            "server_header": "fedctl",
            "open_timeout": HELLO_TIMEOUT_S,
            "close_timeout": CLOSE_S,
            "ping_interval": PING_EVERY_S,
            "ping_timeout": PONG_WITHIN_S,
            "logger": self._library_logger(),
            "ssl": self._tls,
            "ssl_handshake_timeout": HELLO_TIMEOUT_S if self._tls else None,
            "backlog": BACKLOG,
        }
        connection: Any = functools.partial(HubConnection, refused=self._refusals.note)
        page: Any = functools.partial(connection, looks_only=True)

        async def serve(connection: Any) -> None:
            await serve_websocket(connection, self._desk, self._peer, self._guests)

        web = await serve_ws(
            serve,
            sock=listeners.web,
            process_request=self._let_in,
            max_size=FRAME_MAX_BYTES,
            create_connection=connection,
            **common,
        )
        seen = [
            await serve_ws(
                serve,
                sock=listener,
                process_request=pages.answer,
                max_size=2 * WATCH_FRAME_MAX_BYTES,  # what is a little over the limit is told so
                create_connection=page,
                **common,
            )
            for listener in (listeners.http, listeners.owners)
            if listener is not None
        ]
        stack.push_async_callback(_closed, web, *seen)
        stack.callback(self._guests.dismiss)
        unix = await self._loop.create_unix_server(
            lambda: UnixLink(self._desk, self._peer), sock=listeners.unix, backlog=BACKLOG
        )
        stack.callback(unix.close)
        self._info = HubInfo(
            pid=os.getpid(),
            version=self._options.version,
            url=f"{'wss' if self._tls else 'ws'}://{_shown_address(self._options.host, listeners.web)}",
            http_url=f"{scheme}://{_shown_address(self._options.host, listeners.http)}",
            socket=str(listeners.path),
            home=str(self._options.home),
            started_at=to_rfc3339(self._clock.now_ms()),
            ready=True,
        )

    def _let_in(self, connection: Any, request: Any) -> Any:
        """Return the refusal of a WebSocket's upgrade, or None."""
        refusal = self._gate.refusal(request, connection)
        if refusal is not None:
            self._refusals.note("gate", error=bytes(refusal.body or b"").decode().strip())
        return refusal

    def _library_logger(self) -> logging.Logger:
        """Return a logger for websockets: what it calls an error is a bug of ours or its, and told as one.

        All else that goes wrong on a connection comes to us as an exception.
        """

        class ToRefusals(logging.Handler):
            def emit(_, record: logging.LogRecord) -> None:  # noqa: N805  `self` is the hub
                error = record.exc_info[1] if record.exc_info else None
                self._refusals.note("internal", error=f"{record.getMessage()}: {type(error).__name__}: {error}")

        logger = logging.Logger("fedctl.websocket", level=logging.ERROR)  # noqa: LOG001  outside the global tree
        logger.addHandler(ToRefusals())
        return logger

    def _write_info(self, stack: contextlib.AsyncExitStack) -> None:
        """Tell others on this machine where the hub is, for as long as it is."""
        path = self._options.home / INFO_NAME
        unborn = path.with_name(f"{INFO_NAME}.new")
        try:
            unborn.touch(mode=0o600)
            unborn.write_bytes(msgspec.json.format(msgspec.json.encode(self.info()), indent=2) + b"\n")
            unborn.rename(path)
        except OSError as error:
            raise from_os(error, f"{path} cannot be written", hint="if it is no file, move it aside") from error
        stack.callback(path.unlink, missing_ok=True)

    def _take_signals(self, stack: contextlib.AsyncExitStack) -> None:
        assert self._loop is not None
        if threading.current_thread() is not threading.main_thread():
            return  # inside another program, whose signals are its own
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._begin_stop)
            stack.callback(self._loop.remove_signal_handler, number)

    # -- the end ---------------------------------------------------------------------------------------------------

    async def _say_goodbye(self) -> None:
        """Answer what is in flight, then end every session."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                await self._desk.drained()
        self._sweeper.stop()
        for peer in tuple(self._desk.peers):
            peer.end(frames.GOING_AWAY, "the hub is stopping")

    async def _end(self) -> None:
        """End the threads and fold the log in. Whatever hangs is left behind: the process ends next."""
        assert self._loop is not None
        self._sweeper.stop()
        self._refusals.flush()
        keeper = () if self._keeper is None else (self._keeper,)
        parts = (*keeper, self._background, self._feed, self._readers, self._writer)
        for part in parts:
            part.stop()
        # The background may be in the middle of a slice of embedding, which nothing interrupts.
        ended = [
            await asyncio.to_thread(part.join, max(0.1, self._stop_by_s - self._clock.monotonic_s())) for part in parts
        ]
        if self._failure is None:
            try:
                self._context.store.checkpoint(truncate=all(ended))
            except FedctlError as error:
                self._log.basic("error.checkpoint", error=error.message)


class Listeners(msgspec.Struct, frozen=True):
    """The bound sockets, and the path of the Unix one.

    `owners_address` is where the owner's page is (see `watch`), if it can be; `owners` listens there, if `http` does
    not.
    """

    web: Listener
    http: Listener
    owners: Listener | None
    owners_address: str | None
    unix: socket.socket
    path: Path


@contextlib.contextmanager
def _lock(home: Path) -> Iterator[None]:
    """Hold the home against other hubs; the kernel lets go when the process dies."""
    try:
        descriptor = os.open(home / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise from_os(error, f"the home {home} cannot be locked") from error
    try:
        _take_lock(descriptor, home)
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            raise from_os(error, f"{LOCK_NAME} cannot be written", hint="if it is no file, move it aside") from error
        yield
    finally:
        os.close(descriptor)


def _take_lock(descriptor: int, home: Path) -> None:
    for _ in range(LOCK_TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # Whoever merely asks whether a hub runs holds the lock for an instant.
            time.sleep(LOCK_PAUSE_S)
        else:
            return
    pid = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
    raise Locked(
        f"a hub runs on {home} already" + (f" (pid {pid})" if pid else ""), hint="stop it first: fedctl hub stop"
    )


@contextlib.contextmanager
def _listeners(options: HubServerOptions, guests: Guests) -> Iterator[Listeners]:
    """Bind all sockets, so that a hub that cannot have one of them ends before it has begun."""
    path = hub_socket(options.home)
    with contextlib.ExitStack() as stack:
        web = stack.enter_context(_bound(options.host, options.port, "--port", guests))
        http = stack.enter_context(_bound(options.host, options.http_port, "--http-port", guests))
        address, owners = _bound_for_owner(options, http.getsockname()[1], guests)
        if owners is not None:
            stack.enter_context(owners)
        unix = stack.enter_context(_bound_unix(path))
        stack.callback(path.unlink, missing_ok=True)
        yield Listeners(web, http, owners, address, unix, path)


def _bound_for_owner(options: HubServerOptions, port: int, guests: Guests) -> tuple[str | None, Listener | None]:
    """Choose where the owner's page is, and listen there. Linux alone has all of 127.0.0.0/8 without being told."""
    if options.tls_cert is not None or sys.platform != "linux":
        return None, None
    if options.host == "0.0.0.0":  # noqa: S104  compared, not bound
        return chosen_address(), None
    for _ in range(OWNERS_TRIES):
        address = chosen_address()
        with contextlib.suppress(OSError):
            return address, counting(socket.create_server((address, port), backlog=BACKLOG), guests)
    return None, None


def _bound(host: str, port: int, flag: str, guests: Guests) -> Listener:
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # A name for both families: IPv4 first, which is what clients try when they are given numbers.
        family, *_, address = min(found, key=lambda one: one[0] != socket.AF_INET)
        return counting(socket.create_server(address[:2], family=family, backlog=BACKLOG), guests)
    except socket.gaierror as error:
        raise UsageError(f"{host!r} is no address of this machine: {error.strerror}") from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise Unavailable(
                f"the port {port} on {host} is in use", hint=f"choose another with {flag}; 0 lets the system choose"
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM):
            raise Denied(
                f"the port {port} needs more rights than this user has", hint=f"choose {flag} 1024 or above"
            ) from error
        raise UsageError(f"cannot listen on {host}:{port}: {error.strerror}") from error


def _bound_unix(path: Path) -> socket.socket:
    """Bind the hub's own socket, for the owner's eyes only. What lies at its path is a dead hub's: we hold the lock."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o077)
    try:
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        path.chmod(0o600)
    except OSError as error:
        listener.close()
        raise from_os(error, f"the hub's socket {path} cannot be made") from error
    finally:
        os.umask(before)
    return listener


def _shown_address(host: str, listener: socket.socket) -> str:
    """Return HOST:PORT under which the hub is reached; bound to every address, that is the machine's name."""
    name = socket.gethostname() if host in ("0.0.0.0", "::") else host.strip("[]")  # noqa: S104  compared, not bound
    return f"{f'[{name}]' if ':' in name else name}:{listener.getsockname()[1]}"


async def _closed(*servers: Any) -> None:
    for server in servers:
        server.close(code=frames.GOING_AWAY, reason="the hub is stopping")
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CLOSE_S * 1.5):
            await asyncio.gather(*(server.wait_closed() for server in servers))
