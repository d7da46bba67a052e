"""A writer, as a process of its own: stores numbered episodes and notes outside which ids were acknowledged.

    worker.py NAME ACKED (local | URL) [--count N] [--until FILE] [--token-file F] [--barrier]

`local` is the Python way on the home itself, an URL a hub's or an agent's socket (`env` takes FEDCTL_HUB). What was not
acknowledged is sent again with the same ids, on a new connection, until it is. With `--barrier` (inside an agent, which
acknowledges before its hub does) only that is noted of which the hub has shown that it has it.
"""

from __future__ import annotations

import argparse
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
from fedctl.model.episode import EpisodeDraft

if TYPE_CHECKING:
    from collections.abc import Iterator

BATCHES = (1, 1, 2, 5, 10, 50)
RETRY_PAUSE_S = 0.02
GIVE_UP_S = 60.0


class Writer:
    """Stores drafts until they are acknowledged."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._caller: Any = None
        self._acked = os.open(options.acked, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.again = 0

    def _connect(self) -> Any:
        address = self._options.way
        if address == "local":
            return bootstrap.open_caller(config.load({"hub": "off"}, os.environ), writes=True)
        token = None if self._options.token_file is None else Path(self._options.token_file).read_text()
        return RemoteCaller(os.environ["FEDCTL_HUB"] if address == "env" else address, token=token)

    def store(self, drafts: list[EpisodeDraft]) -> None:
        """Send the drafts until all are acknowledged, then note their ids."""
        give_up_at = time.monotonic() + GIVE_UP_S
        while not self._try(drafts):
            self.again += 1
            if time.monotonic() > give_up_at:
                sys.exit(f"{self._options.name}: nobody took it within {GIVE_UP_S:g} s")
            time.sleep(RETRY_PAUSE_S)
        os.write(self._acked, "".join(f"{draft.id}\n" for draft in drafts).encode())

    def _try(self, drafts: list[EpisodeDraft]) -> bool:
        try:
            self._caller = self._caller or self._connect()
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

    def close(self) -> None:
        """Let go of the connection."""
        caller, self._caller = self._caller, None
        if caller is not None:
            caller.close()


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
    """Write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("acked")
    parser.add_argument("way")
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--until")
    parser.add_argument("--token-file")
    parser.add_argument("--barrier", action="store_true")
    options = parser.parse_args()
    writer = Writer(options)
    try:
        for batch in drafts(options):
            writer.store(batch)
    except FedctlError as error:
        sys.exit(f"{options.name}: {error.code}: {error.message}")
    finally:
        writer.close()
    print(writer.again)


if __name__ == "__main__":
    main()
