"""A hub in a folder of its own, tokens to it, and clients that ask again until they are answered. A module."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from typing import TYPE_CHECKING, Any

import common

from fedctl.client.link import AsyncCaller
from fedctl.client.remote import RemoteCaller
from fedctl.clock import Clock
from fedctl.errors import Timeout, Unavailable
from fedctl.messages.memory import ListEpisodes, StoreEpisodes
from fedctl.messages.pool import ClaimItems, CompleteItems, ReleaseWorker
from fedctl.messages.token import IssueToken
from fedctl.model.episode import EpisodeDraft
from fedctl.model.pool import Completion

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fedctl.model.pool import Item

AWAY = (Unavailable, Timeout)
TENANT = "fleet"
PAUSE_S = 0.02
GIVE_UP_S = 90.0
new_id = Clock().new_id


class Place:
    """A hub that runs, and the folder that it and all else is in."""

    def __init__(self, folder: Path, program: Sequence[str] = ("-m", "fedctl"), hub: common.Hub | None = None) -> None:
        """Start the hub."""
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.hub = hub or common.Hub(folder / "home", program, log=folder / "hub.log")
        self.hub.home.mkdir(mode=0o700, exist_ok=True)
        self.hub.start()

    @property
    def address(self) -> tuple[str, int]:
        """Where its WebSocket is."""
        return "127.0.0.1", self.hub.port

    def owner(self) -> RemoteCaller:
        """Return what asks as the owner of the home."""
        return RemoteCaller(self.hub.unix, tenant_id=TENANT)

    def token(self, agent: str | None = None, *, ttl_s: float = 7200.0, role: Any = "agent") -> str:
        """Return a token of the tenant's; one for an agent is in a file of its name too."""
        with contextlib.closing(self.owner()) as owner:
            request = IssueToken(tenant_id=TENANT, agent_id=agent, role=role, ttl_ms=round(ttl_s * 1000))
            token: str = owner.call(request).token
        if agent is not None:
            file = self.folder / f"{agent}.token"
            file.touch(mode=0o600)
            file.write_text(token)
        return token

    def stored(self) -> list[str]:
        """Return the ids of all episodes that there are."""
        with contextlib.closing(self.owner()) as owner:
            ids: list[str] = []
            cursor = None
            while True:
                page = owner.call(ListEpisodes(limit=1000, cursor=cursor))
                ids += [one.id for one in page.episodes]
                cursor = page.cursor
                if cursor is None:
                    return ids

    def said(self) -> str:
        """Return what the hub has said so far."""
        assert self.hub.log is not None
        return self.hub.log.read_text(errors="replace")

    def kept(self, figures: common.Figures, what: str, acked: Sequence[str]) -> None:
        """Compare what there is with what was acknowledged."""
        ids = self.stored()
        figures.add(f"{what}: acknowledged", len(acked), wanted="some", ok=bool(acked))
        figures.add(f"{what}: acknowledged and lost", len(set(acked) - set(ids)), wanted=0)
        figures.add(f"{what}: there twice", len(ids) - len(set(ids)), wanted=0)

    def end(self, figures: common.Figures, what: str) -> None:
        """Stop the hub, and look at what it leaves."""
        figures.add(f"{what}: the hub's exit code", self.hub.stop(), wanted=0)
        figures.add(f"{what}: tracebacks in its log", self.said().count("Traceback"), wanted=0)
        common.check(self.hub.home, figures, what)

    def kill(self) -> None:
        """End the hub if it runs."""
        process = self.hub.process
        if process is not None and process.poll() is None:
            self.hub.kill()


class Client:
    """Asks, on a new connection each time that one breaks. One whose answer is late stays open behind it."""

    def __init__(self, name: str, url: str, token: str | None, dice: random.Random, patience_s: float = 20.0) -> None:
        self.name, self.again, self.late = name, 0, 0
        self._url, self._token, self.dice, self._patience_s = url, token, dice, patience_s
        self._caller: AsyncCaller | None = None
        self._slow: list[AsyncCaller] = []

    async def ask(self, request: Any, patience_s: float | None = None) -> Any:
        """Return the answer, or None when there was none in time."""
        try:
            if self._caller is None or self._caller.ended is not None:
                self._caller = await AsyncCaller.connect(self._url, token=self._token, tenant_id=TENANT)
            return await self._caller.call(request, timeout_s=patience_s or self._patience_s)
        except Timeout:
            self.late += 1
            if self._caller is not None:
                self._slow.append(self._caller)
        except Unavailable:
            pass
        self._caller = None
        self.again += 1
        return None

    async def insist(self, request: Any) -> Any:
        """Return the answer, however often it must be asked for: each time there is more patience."""
        patience_s, give_up_at = self._patience_s, time.monotonic() + GIVE_UP_S
        while (answer := await self.ask(request, patience_s)) is None:
            if time.monotonic() > give_up_at:
                raise SystemExit(f"{self.name}: no answer within {GIVE_UP_S:g} s")
            await asyncio.sleep(PAUSE_S)
            patience_s = min(20.0, 2 * patience_s)
        return answer

    async def close(self) -> None:
        """Let go of all connections."""
        for caller in (*self._slow, *([self._caller] if self._caller else [])):
            await caller.close()


class Writer(Client):
    """Stores episodes, each until it is acknowledged."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.acked: list[str] = []

    async def write(self, count: int) -> None:
        """Store so many batches."""
        for number in range(count):
            drafts = [
                EpisodeDraft(id=new_id(), task=f"{self.name} wrote {number}", input="what came of it " * k)
                for k in range(self.dice.randint(1, 5))
            ]
            answer = await self.insist(StoreEpisodes(episodes=drafts))
            if not all(one.ok for one in answer.results):
                raise SystemExit(f"{self.name}: refused: {answer.results}")
            self.acked += [one.id for one in drafts]


class Claim:
    """One item in somebody's hands, and for how long at least it is theirs (s, monotonic)."""

    def __init__(self, item: Item, asked_s: float, lease_s: float) -> None:
        self.item_id, self.lease_id = item.id, str(item.lease_id)
        self.begun_s, self.until_s = time.monotonic(), asked_s + lease_s
        self.accepted = False


class Worker(Client):
    """Claims items and completes them."""

    def __init__(self, *arguments: Any, lease_s: float = 3.0, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.lease_s = lease_s
        self.claims: list[Claim] = []
        self.refused: dict[str, int] = {}

    async def work(self, pool: str, over: asyncio.Event) -> None:
        """Claim and complete until it is over."""
        while not over.is_set():
            claimed = await self.claim(pool)
            if not claimed:
                await asyncio.sleep(5 * PAUSE_S)
                continue
            await asyncio.sleep(self.dice.uniform(0, 0.02))
            await self.complete(claimed)

    async def claim(self, pool: str, wait_ms: int = 0, count: int = 2) -> list[Claim]:
        """Claim; what was claimed by a question whose answer is lost is given back."""
        lease_id, asked_s = f"{self.dice.getrandbits(128):032x}", time.monotonic()
        request = ClaimItems(
            pool=pool, worker_id=self.name, count=count, lease_ms=round(self.lease_s * 1000), lease_id=lease_id,
            wait_ms=wait_ms,
        )  # fmt: skip
        answer = await self.ask(request, None if not wait_ms else wait_ms / 1000 + 10)
        if answer is None:
            await self.insist(ReleaseWorker(worker_id=self.name, lease_id=lease_id))
            return []
        claimed = [Claim(one, asked_s, self.lease_s) for one in answer.items]
        self.claims += claimed
        return claimed

    async def complete(self, claimed: Sequence[Claim]) -> None:
        """Complete what was claimed."""
        completions = [Completion(id=one.item_id, lease_id=one.lease_id, result=one.lease_id) for one in claimed]
        answer = await self.insist(CompleteItems(completions=completions))
        for one, result in zip(claimed, answer.results, strict=True):
            one.until_s = min(one.until_s, time.monotonic())
            one.accepted = result.ok
            if not result.ok:
                code = str((result.error or {}).get("code"))
                self.refused[code] = self.refused.get(code, 0) + 1


def held_by_two(claims: Sequence[Claim]) -> int:
    """Return how often an item was certainly in two hands at once, or done by two."""
    wrong = 0
    by_item: dict[str, list[Claim]] = {}
    for one in claims:
        by_item.setdefault(one.item_id, []).append(one)
    for several in by_item.values():
        several.sort(key=lambda one: one.begun_s)
        wrong += sum(after.begun_s < before.until_s for before, after in itertools.pairwise(several))
        wrong += max(0, sum(one.accepted for one in several) - 1)
    return wrong
