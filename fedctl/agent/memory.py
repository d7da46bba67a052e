"""What an agent remembers while it lives: an SQLite store in RAM, and the queue of what the hub has not taken yet."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar, cast

import msgspec

from fedctl.errors import FedctlError, Unavailable, from_code
from fedctl.messages import memory as m
from fedctl.model.episode import EpisodeDraft
from fedctl.model.limits import BATCH_MAX_ITEMS
from fedctl.model.principal import Principal
from fedctl.operations.context import Context, Recall
from fedctl.operations.table import run
from fedctl.store.ledger import episode_digest
from fedctl.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from fedctl.access.keys import KeyRing
    from fedctl.clock import Clock
    from fedctl.messages.base import Request
    from fedctl.model.episode import Episode
    from fedctl.recall.embedder import Embedder

A = TypeVar("A")

_DIGEST = re.compile(r"[0-9a-f]{64}")

ANSWERED_HERE = (m.StoreEpisodes, m.QueryEpisodes, m.GetEpisodes, m.ListEpisodes, m.MemoryStats, m.PullEpisodes)
"""What an agent can do without its hub."""


class Refusal(msgspec.Struct, frozen=True):
    """An episode that the hub will not take, and why."""

    id: str
    error: FedctlError


class AgentMemory:
    """The same operations as a hub's, on a store of its own. For one thread at a time.

    With an embedder (`--embed local`) it is searched by meaning too, by a scan of the vectors in RAM; without one by
    words, for the hub, which has a model, answers while there is a connection.
    """

    def __init__(  # noqa: PLR0913  what a context is made of
        self, home: Path, clock: Clock, access: KeyRing, tenant_id: str, agent_id: str, embedder: Embedder | None
    ) -> None:
        self.searches_by_meaning = embedder is not None
        self._context = Context(
            home=home, store=Store.in_memory(clock), recall=Recall(embedder, None), clock=clock, access=access
        )
        self._self = Principal(tenant_id=tenant_id, role="agent", agent_id=agent_id)
        self._keeper = Principal(tenant_id=tenant_id, role="owner")
        self._undelivered: dict[str, EpisodeDraft] = {}
        self._taken: list[str] = []
        """What the hub has of ours: the episodes themselves are in the store here."""
        self.refused: list[Refusal] = []
        self.pulled = 0
        self.stored = 0
        self.delivered = 0

    @property
    def undelivered(self) -> int:
        """How many episodes the hub has not acknowledged."""
        return len(self._undelivered)

    def left(self) -> list[Episode]:
        """Return the episodes that the hub has not taken, also those that it refused."""
        key = self._context.store.tenants.key(self._self.tenant_id)
        ids = [*self._undelivered, *(refusal.id for refusal in self.refused)]
        left: list[Episode] = []
        for start in range(0, len(ids) if key is not None else 0, BATCH_MAX_ITEMS):
            batch = ids[start : start + BATCH_MAX_ITEMS]
            found = self._context.store.episodes.by_ids((key or 0, self._self.tenant_id), batch)
            left += [found[one] for one in dict.fromkeys(batch) if one in found]
        return left

    def answer(self, request: Request[A]) -> A:
        """Answer from RAM alone; what is stored is queued for the hub."""
        if isinstance(request, m.StoreEpisodes):
            return cast("A", self._store(request))
        if isinstance(request, m.QueryEpisodes):
            return cast("A", self._query(request))
        if not isinstance(request, ANSWERED_HERE):
            raise Unavailable("this needs the hub, and the agent is not connected to it", hint="try again later")
        return cast("A", run(self._context, self._self, cast("Request[Any]", request)))

    def _store(self, request: m.StoreEpisodes) -> m.StoreAnswer:
        answer = run(self._context, self._self, request)
        for draft, result in zip(request.episodes, answer.results, strict=True):
            if result.ok and not (result.existing or result.deleted or result.skipped):
                self._undelivered[draft.id] = draft
                self.stored += 1
        return answer

    def _query(self, request: m.QueryEpisodes) -> m.QueryAnswer:
        notes = ["not connected to the hub: searched what this agent holds"]
        if not self.searches_by_meaning:
            if request.mode == "semantic":
                raise Unavailable("a search by meaning needs the hub, and the agent is not connected to it",
                                  hint="search by words (--mode keyword), or spawn with --embed local")  # fmt: skip
            request = msgspec.structs.replace(request, mode="keyword")
            notes = ["not connected to the hub: searched what this agent holds, by words"]
        found = run(self._context, self._self, request)
        return msgspec.structs.replace(found, notes=[*notes, *found.notes])

    # -- the queue -----------------------------------------------------------------------------------------------

    def next_batch(self) -> m.StoreEpisodes | None:
        """Return the oldest episodes that the hub has not acknowledged, or None."""
        if not self._undelivered:
            return None
        drafts = [draft for _, draft in zip(range(BATCH_MAX_ITEMS), self._undelivered.values(), strict=False)]
        return m.StoreEpisodes(episodes=drafts)

    def settle(self, batch: m.StoreEpisodes, answer: m.StoreAnswer) -> None:
        """Take what the hub acknowledged off the queue, and note what it will never take."""
        for draft, result in zip(batch.episodes, answer.results, strict=True):
            self._undelivered.pop(draft.id, None)
            if result.ok:
                self.delivered += 1
                if not result.deleted:
                    self._taken.append(draft.id)
            else:
                error = result.error or {}
                code, message = str(error.get("code", "failure")), str(error.get("message", "refused"))
                self.refused.append(Refusal(draft.id, from_code(code, message, hint=error.get("hint"))))

    def push_again(self) -> None:
        """Queue all that the hub ever took: its store is an older one now. What it still has it takes once."""
        taken, self._taken = self._taken, []
        key = self._context.store.tenants.key(self._self.tenant_id)
        assert key is not None or not taken
        for start in range(0, len(taken), BATCH_MAX_ITEMS):
            ids = taken[start : start + BATCH_MAX_ITEMS]
            found = self._context.store.episodes.by_ids((key or 0, self._self.tenant_id), ids)
            self._undelivered |= {one: to_draft(found[one]) for one in ids if one in found}
            self.delivered -= sum(one in found for one in ids)

    # -- what was pulled -----------------------------------------------------------------------------------------

    def take_in(self, episodes: Iterable[Episode], deleted: list[str]) -> int:
        """Remember what was pulled and forget what was deleted; return how many episodes were new here."""
        drafts = [to_draft(episode) for episode in episodes]
        new = 0
        for start in range(0, len(drafts), BATCH_MAX_ITEMS):
            batch = m.StoreEpisodes(episodes=drafts[start : start + BATCH_MAX_ITEMS], on_conflict="skip")
            results = run(self._context, self._keeper, batch).results
            new += sum(1 for one in results if one.ok and not (one.existing or one.skipped or one.deleted))
        deleted = self._named(deleted)
        for start in range(0, len(deleted), BATCH_MAX_ITEMS):
            run(self._context, self._keeper, m.DeleteEpisodes(ids=deleted[start : start + BATCH_MAX_ITEMS]))
        self.pulled += new
        return new

    def _named(self, deleted: list[str]) -> list[str]:
        """Return ids in the place of digests: of what was erased nobody says more."""
        if not any(_DIGEST.fullmatch(one) for one in deleted):
            return deleted
        store, tenant_id = self._context.store, self._keeper.tenant_id
        key = store.tenants.key(tenant_id)
        held = [] if key is None else store.erasures.all_ids(key)
        digests = {episode_digest(tenant_id, one).hex(): one for one in held}
        return [digests.get(one, one) for one in deleted]

    def close(self) -> None:
        """Forget everything."""
        self._context.close()


def to_draft(episode: Episode) -> EpisodeDraft:
    """Return the draft that makes the same episode again elsewhere."""
    return EpisodeDraft(
        id=episode.id,
        task=episode.task,
        agent_id=episode.agent_id,
        session_id=episode.session_id,
        input=episode.input,
        output=episode.output,
        reward=episode.reward,
        success=episode.success,
        critique=episode.critique,
        tokens_used=episode.tokens_used,
        latency_ms=episode.latency_ms,
        metadata=episode.metadata,
        pinned=episode.pinned,
        created_at=episode.created_at,
        embedding=None if episode.embedding is msgspec.UNSET else episode.embedding,
    )
