"""A claimer like that of `worker.py`, with the same arguments and notes, which works as a user's program would.

    claimer.py NAME NOTES (api | cli) --claim POOL --start FILE ...

`api` goes through `fedctl.api.backends`, `cli` runs `fedctl pool claim` and `fedctl pool complete` time and again. Both
work on the home itself. What carries out the claimer's requests is exchanged, and nothing else.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import worker

from fedctl.api.backends import SQLiteWorkBackend
from fedctl.errors import Conflict
from fedctl.messages.pool import ClaimAnswer, ClaimItems, CompleteItems, ItemResult, ItemResults, PushItems
from fedctl.model.pool import Item

if TYPE_CHECKING:
    import argparse


class Way:
    """Carries out the requests of a claimer: one after the other, where `worker.py` has one for both."""

    def call(self, request: Any) -> Any:
        if isinstance(request, PushItems):
            return ItemResults(results=[self.push(request.pool, one.data) for one in request.items])
        if isinstance(request, ClaimItems):
            return ClaimAnswer(items=self.claim(request))
        assert isinstance(request, CompleteItems)
        assert request.claim is not None
        results = self.complete(request)
        return ItemResults(results=results, claimed=self.claim(request.claim))

    def push(self, pool: str, data: Any) -> ItemResult:
        raise NotImplementedError

    def claim(self, request: ClaimItems) -> list[Item]:
        raise NotImplementedError

    def complete(self, request: CompleteItems) -> list[ItemResult]:
        raise NotImplementedError

    def close(self) -> None:
        return


class Backend(Way):
    """The Python API on the home's own store; a batch is as many coroutines at once."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._runner = asyncio.Runner()
        self._work = SQLiteWorkBackend(Path(os.environ["FEDCTL_HOME"]) / "store.db", lease_s=options.lease_ms / 1000)

    def push(self, pool: str, data: Any) -> ItemResult:
        return ItemResult(ok=True, id=self._runner.run(self._work.pool(pool).push(data)))

    def claim(self, request: ClaimItems) -> list[Item]:
        pool = self._work.pool(request.pool)

        async def claim() -> list[Any]:
            return await asyncio.gather(*(pool.claim(request.worker_id) for _ in range(request.count)))

        known = ("id", "status", "data", "attempts", "max_retries", "claimed_by", "claimed_at", "created_at")
        return [
            Item(
                **{name: getattr(one, name) for name in known},
                pool=request.pool, priority=0, lease_id=self._lease_of(one.id), lease_expires_at=None,
                available_at=one.created_at, finished_at=None, result=None, error=None, key=None, requires=[],
            )
            for one in self._runner.run(claim())
            if one is not None
        ]  # fmt: skip

    def _lease_of(self, item_id: str) -> str:
        """Return what the API keeps to itself: the store is to say that this lease has ended the item."""
        held = self._work._desk.leases.get(item_id)  # noqa: SLF001
        assert held is not None
        return held[1]

    def complete(self, request: CompleteItems) -> list[ItemResult]:
        assert request.claim is not None
        pool = self._work.pool(request.claim.pool)

        async def complete(item_id: str, result: Any) -> ItemResult:
            try:
                await pool.complete(item_id, result)
            except Conflict as error:
                return ItemResult(ok=False, id=item_id, error=error.as_dict())
            return ItemResult(ok=True, id=item_id)

        async def all_of_them() -> list[ItemResult]:
            return await asyncio.gather(*(complete(one.id, one.result) for one in request.completions))

        return self._runner.run(all_of_them())

    def close(self) -> None:
        self._work.close()
        self._runner.close()


class Shell(Way):
    """The command line, a process each time."""

    def push(self, pool: str, data: Any) -> ItemResult:
        return ItemResult(ok=True, id=self._run("push", pool, _json(data), "--ids").decode().strip())

    def claim(self, request: ClaimItems) -> list[Item]:
        said = self._run(
            "claim", request.pool, "--worker", request.worker_id, "--count", str(request.count),
            "--lease", f"{request.lease_ms}ms", "--jsonl", codes=(0, 6),
        )  # fmt: skip
        return [msgspec.json.decode(line, type=Item) for line in said.splitlines()]

    def complete(self, request: CompleteItems) -> list[ItemResult]:
        if len(request.completions) == 1:
            (one,) = request.completions
            flags = ("--lease-id", one.lease_id, "--result", _json(one.result))
            said = self._run("complete", one.id, *flags, "--json", codes=(0, 5))
            return [ItemResult(ok=bool(said), id=one.id, error=None if said else Conflict("").as_dict())]
        lines = b"".join(
            msgspec.json.encode({"id": one.id, "lease_id": one.lease_id, "result": one.result}) + b"\n"
            for one in request.completions
        )
        said = self._run("complete", "--batch", stdin=lines, codes=(0, 3))
        answers = [msgspec.json.decode(line) for line in said.splitlines()]
        return [ItemResult(ok=one["ok"], id=one["id"], error=one.get("error")) for one in answers]

    def _run(self, *arguments: str, codes: tuple[int, ...] = (0,), stdin: bytes | None = None) -> bytes:
        command = [sys.executable, "-m", "fedctl", "--hub", "off", "pool", *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, check=False)
        if done.returncode not in codes:
            sys.exit(f"{' '.join(arguments[:2])}: exit {done.returncode}: {done.stderr.decode(errors='replace')}")
        return done.stdout


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def connect(options: argparse.Namespace) -> Way:
    """Return what carries requests out."""
    return Backend(options) if options.way == "api" else Shell()


if __name__ == "__main__":
    worker.connect = connect
    worker.main()
