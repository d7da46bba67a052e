"""Retention by the clock: a hub that was told so carries out every tenant's policy every so often."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from fedctl.errors import FedctlError, Unavailable
from fedctl.messages.retention import Prune
from fedctl.model.principal import Principal
from fedctl.operations.table import run

if TYPE_CHECKING:
    from fedctl.log import Log
    from fedctl.messages.retention import Pruned
    from fedctl.operations.context import Context

FIRST_AFTER_S = 60.0
"""How soon after its start a hub does so for the first time, however rarely it is to: it may not live that long."""

_HUB = Principal(tenant_id="default", role="owner")


class Keeper:
    """A thread with a connection of its own. One round at a time: the next begins when it is due and this one over."""

    def __init__(self, context: Context, *, every_s: float, log: Log) -> None:
        """Start the thread; `context` is its alone from now on, closed by it, and knows when its hub stops."""
        self._context = context
        self._every_s = every_s
        self._log = log
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hub-keeper", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the transaction it is in."""
        self._stopping.set()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread; return whether it has ended."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        clock = self._context.clock
        due_s = clock.monotonic_s() + min(FIRST_AFTER_S, self._every_s)
        while not self._stopping.wait(max(0.0, due_s - clock.monotonic_s())):
            due_s = clock.monotonic_s() + self._every_s
            self._round()
        self._context.close()

    def _round(self) -> None:
        began_s = self._context.clock.monotonic_s()
        try:
            results = run(self._context, _HUB, Prune(all_tenants=True)).results
        except Unavailable as error:  # another prune runs, or the store is busy: the next round comes
            self._log.detailed("retention.put_off", error=error.message)
            return
        except FedctlError as error:
            self._log.basic("error.retention", error=error.message)
            return
        except Exception as error:  # noqa: BLE001  a night that fails must not be the last
            self._log.basic("error.retention", error=f"unexpected: {type(error).__name__}: {error}")
            return
        for one in results:
            self._tell(one)
        self._log.detailed("retention.round", duration_ms=(self._context.clock.monotonic_s() - began_s) * 1000)

    def _tell(self, one: Pruned) -> None:
        """Say what went, or that the guard refused; nothing where nothing went."""
        if one.error is not None:
            self._log.basic("retention.refused", tenant=one.tenant_id, error=one.error["message"])
        elif one.removed or one.items_removed or one.events_removed or one.agents_removed:
            self._log.basic(
                "retention.pruned",
                tenant=one.tenant_id,
                episodes=one.removed,
                items=one.items_removed,
                events=one.events_removed,
                agents=one.agents_removed,
                freed_bytes=one.bytes_freed,
            )
