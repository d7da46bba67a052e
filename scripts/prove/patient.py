"""Good clients, as a process of their own: they ask at a fixed rate and note outside the home how each call went.

    patient.py NOTES URL TOKEN_FILE --until FILE [--clients N] [--rate N] [--listen N] [--restless P]
               [--only-store]

Each stores an episode, then asks for words, in turn. A line for each call: when it was due (monotonic seconds), how
many ms it took from then on, what it was, the id that was acknowledged or "-", and "ok" or the error's code. What was
not acknowledged is sent again with the same id, on a new connection, until it is. `--listen` has so many more sessions
hear of what is stored, `--restless` lets each client hang up before a call with that probability. The URL `env` is
FEDCTL_HUB's (inside an agent), the token file `-` none.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedctl.client.link import AsyncCaller
from fedctl.clock import Clock
from fedctl.errors import FedctlError
from fedctl.messages.hub import Subscribe
from fedctl.messages.memory import QueryEpisodes, StoreEpisodes
from fedctl.model.episode import EpisodeDraft

if TYPE_CHECKING:
    from io import TextIOWrapper

RETRY_PAUSE_S = 0.05


class Patient:
    """One client."""

    def __init__(self, options: argparse.Namespace, notes: TextIOWrapper) -> None:
        self._options = options
        self._token = Path(options.token_file).read_text() if options.token_file != "-" else None
        self._notes = notes
        self._new_id = Clock().new_id
        self._caller: AsyncCaller | None = None

    async def run(self, offset_s: float) -> None:
        """Ask until the file is there."""
        every_s = self._options.clients / self._options.rate
        due_s, number = time.monotonic() + offset_s, 0
        while not Path(self._options.until).exists():  # noqa: ASYNC240  microseconds
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            await (self._query if number % 2 and not self._options.only_store else self._store)(due_s)
            number += 1
            # Whoever was late does not make up for it: the rate is one of a person, not of a bench.
            due_s = max(due_s + every_s, time.monotonic())
        if self._caller is not None:
            await self._caller.close()

    async def listen(self) -> None:
        """Hear of what is stored until the file is there, however often the connection breaks."""
        while not Path(self._options.until).exists():  # noqa: ASYNC240  microseconds
            try:
                caller = await AsyncCaller.connect(self._options.url, token=self._token)
                await caller.call(Subscribe(kinds=["episode_stored"]))
                while not caller.closed.is_set() and not Path(self._options.until).exists():  # noqa: ASYNC110, ASYNC240
                    await asyncio.sleep(0.5)
                await caller.close()
            except FedctlError:
                await asyncio.sleep(RETRY_PAUSE_S)

    async def _store(self, due_s: float) -> None:
        draft = EpisodeDraft(id=self._new_id(), task="a patient client learned something", input="text " * 20)
        request = StoreEpisodes(episodes=[draft])
        while not await self._ask("store", request, due_s, draft.id):  # noqa: ASYNC110  it is no event that is awaited
            await asyncio.sleep(RETRY_PAUSE_S)

    async def _query(self, due_s: float) -> None:
        await self._ask("query", QueryEpisodes(text="what was learned", k=3, mode="keyword"), due_s, "-")

    async def _ask(self, what: str, request: Any, due_s: float, episode_id: str) -> bool:
        said = "ok"
        if self._caller is not None and random.random() < self._options.restless:
            await self._caller.close()
        try:
            if self._caller is None or self._caller.ended is not None:
                self._caller = await AsyncCaller.connect(self._options.url, token=self._token)
            answer = await self._caller.call(request)
            if what == "store" and not answer.results[0].ok:
                said = "refused"
        except FedctlError as error:
            said = error.code
        print(f"{due_s:.4f} {(time.monotonic() - due_s) * 1000:.2f} {what} {episode_id} {said}", file=self._notes)
        return said == "ok"


async def main() -> None:
    """Ask."""
    parser = argparse.ArgumentParser()
    parser.add_argument("notes")
    parser.add_argument("url")
    parser.add_argument("token_file")
    parser.add_argument("--until", required=True)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--only-store", action="store_true")
    parser.add_argument("--listen", type=int, default=0)
    parser.add_argument("--restless", type=float, default=0.0, metavar="P")
    parser.add_argument("--rate", type=float, default=40.0, help="calls a second, of all together")
    options = parser.parse_args()
    options.url = os.environ["FEDCTL_HUB"] if options.url == "env" else options.url
    with Path(options.notes).open("a", buffering=1) as notes:  # noqa: ASYNC230  before anything else runs
        crew = [Patient(options, notes) for _ in range(options.clients)]
        every_s = 1 / options.rate
        listeners = [Patient(options, notes).listen() for _ in range(options.listen)]
        await asyncio.gather(*listeners, *(one.run(number * every_s) for number, one in enumerate(crew)))


if __name__ == "__main__":
    asyncio.run(main())
