"""A writer or a claimer, as a process of its own, which notes outside the home what was acknowledged.

    worker.py NAME ACKED (local | URL) [--count N] [--until FILE] [--token-file F] [--barrier] [--waits FILE]
    worker.py NAME NOTES (local | URL) --claim POOL --start FILE [--batch N] [--lease-ms N] [--work-ms N] [--push N]
              [--race ROUNDS] [--until FILE]

`local` is the Python way on the home itself, an URL a hub's or an agent's socket (`env` takes FEDCTL_HUB). What was not
acknowledged is sent again with the same ids, on a new connection, until it is. With `--barrier` (inside an agent, which
acknowledges before its hub does) only that is noted of which the hub has shown that it has it.

A writer notes ids, and in `--waits` when each of its requests began (s, monotonic) and how long it took (ms). A claimer
notes a JSON object for each answer: `got` the items claimed, `done` and `refused` what became of its completions, at
the end `waits_ms` how long each request took. It is ready when its notes are there, begins when `--start` is, and ends
when the pool is empty (and `--until` is there).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedctl import bootstrap, config
from fedctl.client.remote import RemoteCaller
from fedctl.clock import Clock
from fedctl.errors import FedctlError, Timeout, Unavailable
from fedctl.messages.memory import QueryEpisodes, StoreEpisodes
from fedctl.messages.pool import ClaimItems, CompleteItems, PushItems
from fedctl.model.episode import EpisodeDraft
from fedctl.model.pool import Completion, ItemDraft

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fedctl.messages.pool import ItemResults
    from fedctl.model.pool import Item

BATCHES = (1, 1, 2, 5, 10, 50)
RETRY_PAUSE_S = 0.02
GIVE_UP_S = 60.0
IDLE_S = 0.02
RACE_EVERY_S = 0.1


def connect(options: argparse.Namespace) -> Any:
    """Return what carries requests out."""
    if options.way == "local":
        return bootstrap.open_caller(config.load({"hub": "off"}, os.environ), writes=True)
    token = None if options.token_file is None else Path(options.token_file).read_text()
    return RemoteCaller(os.environ["FEDCTL_HUB"] if options.way == "env" else options.way, token=token)


def open_notes(options: argparse.Namespace) -> int:
    """Return the descriptor of the file that survives this process."""
    return os.open(options.acked, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


class Writer:
    """Stores drafts until they are acknowledged."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._caller: Any = None
        self._acked = open_notes(options)
        self._waits: list[str] = []
        self.again = 0

    def store(self, drafts: list[EpisodeDraft]) -> None:
        """Send the drafts until all are acknowledged, then note their ids."""
        begun = time.monotonic()
        give_up_at = begun + GIVE_UP_S
        while not self._try(drafts):
            self.again += 1
            if time.monotonic() > give_up_at:
                sys.exit(f"{self._options.name}: nobody took it within {GIVE_UP_S:g} s")
            time.sleep(RETRY_PAUSE_S)
        if self._options.waits:
            self._waits.append(f"{begun:.4f} {(time.monotonic() - begun) * 1000:.2f}\n")
        os.write(self._acked, "".join(f"{draft.id}\n" for draft in drafts).encode())

    def _try(self, drafts: list[EpisodeDraft]) -> bool:
        try:
            self._caller = self._caller or connect(self._options)
            results = self._caller.call(StoreEpisodes(episodes=drafts)).results
            if not all(result.ok for result in results):
                raise SystemExit(f"{self._options.name}: refused: {[one.error for one in results if not one.ok][:1]}")
            return (
                not self._options.barrier
                or not self._caller.call(QueryEpisodes(text="barrier", k=1, mode="keyword")).notes
            )
        except (Unavailable, Timeout) as error:
            if self._options.barrier and "gone" in error.message:
                raise SystemExit(0) from None  # the agent is dead: nobody will ever take it
            self.close()
            return False

    def note_waits(self) -> None:
        """Note how long each request took."""
        if self._options.waits:
            Path(self._options.waits).write_text("".join(self._waits))

    def close(self) -> None:
        """Let go of the connection."""
        caller, self._caller = self._caller, None
        if caller is not None:
            caller.close()


class Claimer:
    """Claims items and completes them, taking the next along; notes what it got and what was acknowledged."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        # Who pushes first is the first to use the home: it does not connect before the others are ready to.
        self._caller: Any = None if options.push else connect(options)
        self._dice = random.Random(options.name)
        self._waits_ms: list[float] = []
        self._notes = open_notes(options)
        while not Path(options.start).exists():
            time.sleep(0.001)

    def run(self) -> None:
        """Push, then race or drain the pool."""
        for number in range(self._options.push):
            item = ItemDraft(id=f"{self._options.name}-{number}", data=number)
            self._check(self._call(PushItems(pool=self._options.claim, items=[item])))
        if self._options.race:
            self._race()
        else:
            self._drain()
        self._note(waits_ms=self._waits_ms)

    def _drain(self) -> None:
        over = self._options.until
        while True:
            last = over is None or Path(over).exists()  # looked at first: what was pushed before it is claimed
            answer = self._call(self._claim(self._options.claim))
            if last and not answer.items and answer.next_ms is None:
                return
            items = answer.items
            if items:
                self._note(got=_held(items))
            else:
                time.sleep(IDLE_S)
            while items:
                time.sleep(self._dice.uniform(0, self._options.work_ms / 1000))
                items = self._complete(items)

    def _complete(self, items: Sequence[Item]) -> Sequence[Item]:
        """Complete what was claimed; return the next ones."""
        completions = [Completion(id=one.id, lease_id=one.lease_id or "", result=self._result(one)) for one in items]
        answer = self._call(CompleteItems(completions=completions, claim=self._claim(self._options.claim)))
        outcomes = list(zip(items, answer.results, strict=True))
        self._note(
            done=[(one.id, one.lease_id) for one, result in outcomes if result.ok],
            refused=[(one.id, (result.error or {})["code"]) for one, result in outcomes if not result.ok],
            got=_held(answer.claimed),
        )
        return answer.claimed  # type: ignore[no-any-return]

    def _result(self, item: Item) -> list[Any]:
        return [self._options.name, item.lease_id]

    def _race(self) -> None:
        """Claim from one pool after the other, each at an instant that all who race have in common."""
        begin_s = float(Path(self._options.start).read_text())
        for number in range(self._options.race):
            time.sleep(max(0.0, begin_s + number * RACE_EVERY_S - time.monotonic()))
            self._note(got=_held(self._call(self._claim(f"{self._options.claim}-{number}")).items))

    def _claim(self, pool: str) -> ClaimItems:
        options = self._options
        return ClaimItems(pool=pool, worker_id=options.name, count=options.batch, lease_ms=options.lease_ms)

    def _call(self, request: Any) -> Any:
        begun = time.monotonic()
        self._caller = self._caller or connect(self._options)
        answer = self._caller.call(request)
        self._waits_ms.append(round((time.monotonic() - begun) * 1000, 1))
        return answer

    def _check(self, answer: ItemResults) -> None:
        if not all(result.ok for result in answer.results):
            sys.exit(f"{self._options.name}: refused: {[one.error for one in answer.results if not one.ok][:1]}")

    def _note(self, **what: Any) -> None:
        os.write(self._notes, json.dumps(what).encode() + b"\n")

    def close(self) -> None:
        """Let go of the connection."""
        if self._caller is not None:
            self._caller.close()


def _held(items: Sequence[Item]) -> list[tuple[str, str | None, str | None, str | None]]:
    return [(one.id, one.lease_id, one.claimed_at, one.lease_expires_at) for one in items]


def drafts(options: argparse.Namespace) -> Iterator[list[EpisodeDraft]]:
    """Yield batches of numbered episodes: so many, or until the file is there."""
    clock, number = Clock(), 0
    dice = random.Random(options.name)
    while number < options.count and not (options.until and Path(options.until).exists()):
        size = min(dice.choice(BATCHES), options.count - number)
        yield [
            EpisodeDraft(
                id=clock.new_id(),
                task=f"{options.name} wrote number {number + k}",
                input=f"{options.name}/{number + k}",
                output={"text": "what came of it " * dice.randint(1, 20)},
                reward=dice.random(),
            )
            for k in range(size)
        ]
        number += size


def main() -> None:
    """Write, or claim."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("acked")
    parser.add_argument("way")
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--until")
    parser.add_argument("--token-file")
    parser.add_argument("--barrier", action="store_true")
    parser.add_argument("--waits", metavar="FILE")
    parser.add_argument("--claim", metavar="POOL")
    parser.add_argument("--start")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--lease-ms", type=int, default=600_000)
    parser.add_argument("--work-ms", type=float, default=0)
    parser.add_argument("--push", type=int, default=0)
    parser.add_argument("--race", type=int, default=0)
    options = parser.parse_args()
    claim(options) if options.claim else write(options)


def claim(options: argparse.Namespace) -> None:
    """Claim and complete until there is nothing left."""
    claimer = Claimer(options)
    try:
        claimer.run()
    except FedctlError as error:
        sys.exit(f"{options.name}: {error.code}: {error.message}")
    finally:
        claimer.close()


def write(options: argparse.Namespace) -> None:
    """Store episodes until there are as many as wanted."""
    writer = Writer(options)
    try:
        for batch in drafts(options):
            writer.store(batch)
        writer.note_waits()
    except FedctlError as error:
        sys.exit(f"{options.name}: {error.code}: {error.message}")
    finally:
        writer.close()
    print(writer.again)


if __name__ == "__main__":
    main()
