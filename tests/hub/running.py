"""A hub that runs in a thread of the test, on ports that the system chose, with real sockets and a cheap model."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

from fedctl.access.keys import KeyRing
from fedctl.client.remote import RemoteCaller
from fedctl.clock import Clock
from fedctl.hub.server import Hub, HubServerOptions
from fedctl.hub.watch import socket_uid
from fedctl.log import Log, LogOptions
from fedctl.messages.token import IssueToken
from fedctl.operations.context import Context, Recall
from fedctl.recall.index import IndexFolder
from fedctl.store.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from fedctl.model.hub import HubInfo

START_S = 20


class RunningHub:
    """Starts with its construction; `stop` waits until it has ended, and says with which status."""

    def __init__(self, home: Path, embedder: Any, **options: Any) -> None:
        clock = Clock()
        self.home = home
        self.lines: list[str] = []
        self.status: int | None = None
        self.error: BaseException | None = None
        self.context = Context(
            home=home,
            store=Store.open(home, clock, create=True, timeout_s=5.0),
            recall=Recall(embedder, IndexFolder(home / "index")),
            clock=clock,
            access=KeyRing(home / "keys"),
            timeout_s=5.0,
        )
        self._callers: list[RemoteCaller] = []
        self._begun = threading.Event()
        self._info: HubInfo | None = None
        level = options.pop("debug_level", "detailed")
        uid_of = options.pop("uid_of", socket_uid)
        try:
            self.hub = Hub(
                self.context,
                HubServerOptions(home=home, **{"port": 0, "http_port": 0, **options}),
                self._ready,
                Log(LogOptions(level), clock, self.lines.append),
                uid_of,
            )
        except BaseException:
            self.context.close()
            raise
        self._thread = threading.Thread(target=self._run, name="test-hub")
        self._thread.start()
        assert self._begun.wait(START_S), "the hub neither started nor failed"
        if self.error is not None:
            self.stop()
            raise self.error

    def _ready(self, info: HubInfo) -> None:
        self._info = info
        self._begun.set()

    def _run(self) -> None:
        try:
            self.status = asyncio.run(self.hub.run())
        except BaseException as error:  # noqa: BLE001  it is raised where the test waits
            self.error = error
        self._begun.set()

    @property
    def info(self) -> HubInfo:
        assert self._info is not None
        return self._info

    @property
    def unix_url(self) -> str:
        return f"unix:{self.info.socket}"

    def owner(self, tenant_id: str | None = None, **parts: Any) -> RemoteCaller:
        """Return a session on the hub's own socket."""
        return self.connect(self.unix_url, tenant_id=tenant_id, **parts)

    def bearer(self, token: str, **parts: Any) -> RemoteCaller:
        """Return a session on the network."""
        return self.connect(self.info.url, token=token, **parts)

    def connect(self, url: str, **parts: Any) -> RemoteCaller:
        caller = RemoteCaller(url, **{"timeout_ms": 20_000, **parts})
        self._callers.append(caller)
        return caller

    def token(self, tenant_id: str = "acme", **parts: Any) -> str:
        with_owner = RemoteCaller(self.unix_url, timeout_ms=20_000)
        try:
            return with_owner.call(IssueToken(tenant_id=tenant_id, **parts)).token
        finally:
            with_owner.close()

    def logged(self, what: str) -> list[str]:
        """Return the lines that tell of one thing."""
        return [line for line in self.lines if line.split(" ")[1] == what]

    def stop(self) -> int | None:
        for caller in self._callers:
            caller.close()
        return self.end()

    def end(self) -> int | None:
        """Stop the hub and leave its sessions to it."""
        if self._thread.is_alive():
            self.hub.stop()
            self._thread.join(START_S)
            assert not self._thread.is_alive(), "the hub did not stop"
            self.context.close()
        return self.status
