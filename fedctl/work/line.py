"""A caller with a thread of its own: what waits there keeps nobody else waiting."""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from fedctl.client.waiting import AWAY
from fedctl.errors import Denied

if TYPE_CHECKING:
    from collections.abc import Callable

    from fedctl.client.caller import Caller
    from fedctl.messages.base import Request

A = TypeVar("A")


class Line:
    """One caller, opened when it is first needed and again when it broke."""

    def __init__(self, open_caller: Callable[[], Caller], name: str) -> None:
        """Keep how to open it; nothing is asked yet."""
        self._open = open_caller
        self._caller: Caller | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"fedctl-work-{name}")

    async def call(self, request: Request[A]) -> A:
        """Return the answer, after those of the calls before."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._call, request)

    def _call(self, request: Request[A]) -> A:
        new = self._caller is None
        if self._caller is None:
            self._caller = self._open()
        try:
            return self._caller.call(request)
        except AWAY:
            self._drop()
            raise
        except Denied:
            self._drop()
            if new:
                raise
            return self._call(request)  # a token that has ended may have a successor in its file by now

    def _drop(self) -> None:
        caller, self._caller = self._caller, None
        if caller is not None:
            with contextlib.suppress(*AWAY):
                caller.close()

    async def close(self, within_s: float) -> None:
        """Close the caller; one that is still asking is left to itself."""
        closing = asyncio.get_running_loop().run_in_executor(self._thread, self._drop)
        await asyncio.wait({closing}, timeout=within_s)
        self._thread.shutdown(wait=False)
