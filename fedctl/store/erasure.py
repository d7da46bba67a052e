"""Erasing: taking out what a tenant has, a little at a time, and remembering by digests that it is gone for good."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from fedctl.store.ledger import Entry, Kind, episode_digest, tenant_digest
from fedctl.store.queries import load

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fedctl.store.database import Database

_PLAIN = {
    "remove_queued": 10, "remove_leaves": 10, "remove_vectors": 1, "remove_items": 1, "remove_requirements": 1,
    "rename_pools": 1, "remove_workers": 1, "remove_figures": 1, "remove_agents": 1,
}  # fmt: skip
"""What goes without a word, in an order that no reference stands against, and how many for one that is large."""
_NOTES: dict[Kind, str] = {"tenant": "note_tenant", "episode": "note_episode"}
_WORD_BLOCKS_SHARE = 0.25
"""A row of a table of words is a page, most of the time."""


class OpenErasure(NamedTuple):
    """One that has begun and not ended: of a whole tenant, by the digest of its name, or (None) of episodes."""

    tenant_key: int
    digest: bytes | None
    begun_at_ms: int


class Holdings(msgspec.Struct, frozen=True):
    """How many rows of each kind a tenant has."""

    episodes: int
    items: int
    agents: int
    workers: int
    vectors: int


class Erasures:
    """Writing methods run inside a write transaction."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._sql = load("erasure")
        self._episodes_known = False

    # -- what is under way ---------------------------------------------------------------------------------------

    def open(self) -> list[OpenErasure]:
        """Return the erasures that have not ended."""
        return [OpenErasure(*row) for row in self._db.rows(self._sql["open"])]

    def any_open(self) -> bool:
        """Return whether there is one."""
        return bool(self._db.value(self._sql["any_open"]))

    def begin(self, tenant_key: int, digest: bytes | None, now_ms: int) -> None:
        """Note that an erasure has begun: of all that the tenant has, or (None) of some episodes."""
        self._db.run(self._sql["begin"], {"tenant_key": tenant_key, "digest": digest, "now_ms": now_ms})

    def end(self, tenant_key: int) -> None:
        """Note that an erasure has ended."""
        self._db.run(self._sql["end"], {"tenant_key": tenant_key})

    def take_name(self, tenant_key: int, name: str, digest: bytes, at_ms: int) -> int:
        """Take a tenant its name, its tokens and all that is one row; return how many tokens it had.

        From then on the name leads nowhere, and may begin anew.
        """
        tokens = self.drop_tokens(name, at_ms)
        for query in ("rename", "drop_usage", "drop_quota", "drop_policy"):
            self._db.run(self._sql[query], {"tenant_key": tenant_key})
        self.note([Entry("tenant", digest, at_ms)])
        return tokens

    def drop_tokens(self, tenant_name: str, at_ms: int) -> int:
        """Forget the tokens that a tenant was issued until then; return how many."""
        return self._db.run(self._sql["drop_tokens"], {"tenant_id": tenant_name, "at_ms": at_ms})

    # -- what was erased -----------------------------------------------------------------------------------------

    def note(self, entries: Iterable[Entry]) -> None:
        """Remember what was erased."""
        for kind, digest, at_ms in entries:
            self._db.run(self._sql[_NOTES[kind]], {"digest": digest, "at_ms": at_ms})

    def note_unfiled(self, entries: Iterable[Entry]) -> None:
        """Remember episodes that were erased, and that the ledger does not say so yet."""
        for _, digest, at_ms in entries:
            self._db.run(self._sql["note_unfiled"], {"digest": digest, "at_ms": at_ms})

    def unfiled(self, after: bytes = b"", limit: int = -1) -> list[Entry]:
        """Return the first of those after a digest, in their order; -1: all of them."""
        rows = self._db.rows(self._sql["unfiled"], {"after": after, "limit": limit})
        return [Entry("episode", *row) for row in rows]

    def file(self, entries: Iterable[Entry] | None = None) -> None:
        """Remember that the ledger has these by now; None: all."""
        if entries is None:
            self._db.run(self._sql["file_all"])
        else:
            self._db.run_many(self._sql["file"], [{"digest": one.digest} for one in entries])

    def entries(self) -> list[Entry]:
        """Return all that this store remembers of erasures."""
        tenants = [Entry("tenant", *row) for row in self._db.rows(self._sql["tenants"])]
        return tenants + [Entry("episode", *row) for row in self._db.rows(self._sql["episodes"])]

    def tenant_erased_at_ms(self, digest: bytes) -> int | None:
        """Return when a tenant of that name was last erased, or None."""
        found: int | None = self._db.value(self._sql["tenant_erased_at"], {"digest": digest})
        return found

    def created_at_ms(self, tenant_key: int) -> int:
        """Return when a tenant came into being."""
        return int(self._db.value(self._sql["created_at"], {"tenant_key": tenant_key}))

    def erased_among(self, tenant_name: str, ids: Iterable[str]) -> set[str]:
        """Return those of the ids that were erased, or are about to be: two cheap questions where none ever was."""
        given = list(ids)
        found = self._still_held(tenant_name, given) if self.any_open() else set()
        self._episodes_known = self._episodes_known or bool(self._db.value(self._sql["any_episodes"]))
        if self._episodes_known:
            found |= {one for one in given if self.is_erased(episode_digest(tenant_name, one))}
        return found

    def _still_held(self, tenant_name: str, ids: Sequence[str]) -> set[str]:
        """Return those of the ids that an erasure of a tenant of that name has not come to yet: its name is free."""
        keys = self._db.rows(self._sql["under_way_of"], {"digest": tenant_digest(tenant_name)})
        return {
            row[0]
            for (key,) in keys
            for row in self._db.rows(self._sql["held_among"], {"tenant_key": key, "ids": _json(ids)})
        }

    def is_named(self, tenant_key: int, digest: bytes) -> bool:
        """Return whether the tenant still has the name of that digest."""
        name = self._db.value(self._sql["name_of"], {"tenant_key": tenant_key})
        return name is not None and tenant_digest(name) == digest

    def is_erased(self, digest: bytes) -> bool:
        """Return whether the episode of that digest was erased."""
        return self._db.value(self._sql["known"], {"digest": digest}) is not None

    # -- what a tenant has ---------------------------------------------------------------------------------------

    def holdings(self, tenant_key: int) -> Holdings:
        """Count what a tenant has."""
        return Holdings(*self._db.rows(self._sql["counts"], {"tenant_key": tenant_key})[0])

    def count_tokens(self, tenant_name: str) -> int:
        """Return how many tokens were issued to a tenant."""
        return int(self._db.value(self._sql["count_tokens"], {"tenant_id": tenant_name}))

    def remove_some(self, tenant_key: int, limit: int) -> int:
        """Take out about `limit` rows of what has no id to be noted; return how many: 0 when nothing is left."""
        for query, small in _PLAIN.items():
            gone = self._db.run(self._sql[query], {"tenant_key": tenant_key, "limit": limit * small})
            if gone:
                return gone
        return self._remove_some_words(tenant_key, limit)

    def _remove_some_words(self, tenant_key: int, limit: int) -> int:
        """Take out some of the table of words, at last the table: all at once would be one long transaction."""
        words = f"words_{tenant_key:d}"
        if not self._has_words(tenant_key):
            return 0
        shares = {"remove_word_data": _WORD_BLOCKS_SHARE, "remove_word_docsize": 10}
        for query, share in shares.items():
            gone = self._db.run(self._sql[query].replace("{words}", words), {"limit": max(1, int(limit * share))})
            if gone:
                return gone
        self._db.run(f"DROP TABLE {words}")
        return 1

    def episode_ids(self, tenant_key: int, limit: int) -> list[tuple[int, str]]:
        """Return (seq, id) of the tenant's first episodes."""
        return [(row[0], row[1]) for row in self._db.rows(
            self._sql["episode_ids"], {"tenant_key": tenant_key, "limit": limit})]  # fmt: skip

    def all_ids(self, tenant_key: int) -> list[str]:
        """Return the ids of all of the tenant's episodes and tombstones."""
        return [row[0] for row in self._db.rows(self._sql["all_ids"], {"tenant_key": tenant_key})]

    def token_tenants(self) -> list[str]:
        """Return the names of the tenants that were ever issued a token."""
        return [row[0] for row in self._db.rows(self._sql["token_tenants"])]

    def remove_episodes(self, tenant_key: int, seqs: Sequence[int]) -> int:
        """Take episodes out with their vectors; neither their words nor their share of the tenant's figures."""
        return self._db.run(self._sql["remove_episodes"], {"tenant_key": tenant_key, "seqs": _json(seqs)})

    def tombstone_ids(self, tenant_key: int, limit: int) -> list[str]:
        """Return the ids of the tenant's first tombstones."""
        return [row[0] for row in self._db.rows(
            self._sql["tombstone_ids"], {"tenant_key": tenant_key, "limit": limit})]  # fmt: skip

    def remove_tombstones(self, tenant_key: int, ids: Sequence[str]) -> None:
        """Take tombstones out."""
        self._db.run(self._sql["remove_tombstones"], {"tenant_key": tenant_key, "ids": _json(ids)})

    def disguise_tombstone(self, tenant_key: int, episode_id: str, digest: bytes) -> None:
        """Let a tombstone stand where it is, with the digest in the place of the id."""
        self._db.run(
            self._sql["disguise_tombstone"], {"tenant_key": tenant_key, "id": episode_id, "disguise": digest.hex()}
        )

    def change_seqs(self, tenant_key: int, after: int, limit: int) -> list[int]:
        """Return the first changes of an erased tenant after a sequence; not the one that says that it was erased."""
        rows = self._db.rows(self._sql["change_seqs"], {"tenant_key": tenant_key, "seq": after, "limit": limit})
        return [row[0] for row in rows]

    def changes_of(self, tenant_key: int, ids: Sequence[str], first: int) -> list[tuple[int, str]]:
        """Return (seq, id) of the changes that name any of these episodes. Walks the log from a sequence on."""
        parameters = {"tenant_key": tenant_key, "ids": _json(ids), "first": first}
        return [(row[0], row[1]) for row in self._db.rows(self._sql["changes_of"], parameters)]

    def remove_index(self, tenant_key: int) -> None:
        """Forget all of a tenant's index files."""
        for query in ("remove_snapshots", "remove_graphs"):
            self._db.run(self._sql[query], {"tenant_key": tenant_key})

    def _has_words(self, tenant_key: int) -> bool:
        return bool(self._db.rows(self._sql["words_tables"].replace("{words}", f"words_{tenant_key:d}")))

    def words_bytes(self, tenant_key: int) -> int:
        """Return how large a tenant's table of words is."""
        if not self._has_words(tenant_key):
            return 0
        return int(self._db.value(self._sql["words_bytes"].replace("{words}", f"words_{tenant_key:d}")))

    def optimize_words(self, tenant_key: int, pages: int) -> bool:
        """Do a slice of merging a tenant's words into one, without what was deleted; return whether more is to do.

        `pages`: how many to write, about. A single word is not cut in two, however often it was said.
        """
        if not self._has_words(tenant_key):
            return False
        before = self._db.total_changes()
        sql = self._sql["optimize_words"].replace("{words}", f"words_{tenant_key:d}")
        self._db.run(sql, {"pages": -pages})
        return self._db.total_changes() - before > 1


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
