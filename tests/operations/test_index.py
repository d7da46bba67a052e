"""Index files in step with the rows of vectors, whatever happens to either."""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedctl.errors import DiskFull, Failure
from fedctl.messages import memory as m
from fedctl.model.episode import Embedding, EpisodeDraft, EpisodeFilter
from fedctl.operations import embedding, index
from fedctl.operations.context import Recall
from fedctl.operations.index import APPEND_ROWS, TAIL_ROWS
from fedctl.operations.sieve import Sieve
from fedctl.recall import graph, rank
from fedctl.recall import index as flat
from fedctl.recall.index import Files, IndexFolder, Part, Search, to_blobs

ROOT = Path(__file__).parents[2]
COUNT = 1100
assert COUNT > TAIL_ROWS


def drafts(first: int, count: int) -> list[EpisodeDraft]:
    return [EpisodeDraft(id=f"e{n}", task=f"word{n} group{n % 7}") for n in range(first, first + count)]


def ship(bench, made: Sequence[EpisodeDraft], tenant: str = "default") -> None:
    """Store drafts with their vectors, as a client with the same model would."""
    blobs = to_blobs(bench.embedder.embed([one.task for one in made]))
    tag = bench.context.recall.model_tag
    shipped = [
        EpisodeDraft(id=one.id, task=one.task, embedding=Embedding(model=tag, vectors=[blob]))
        for one, blob in zip(made, blobs, strict=True)
    ]
    for start in range(0, len(shipped), 1000):
        assert all(one.ok for one in bench.keep(*shipped[start : start + 1000], tenant=tenant))


def served(bench):
    """Return it as a hub's: its queries leave the files to who looks after them."""
    bench.context = bench.context._replace(hub=object())
    return bench


@pytest.fixture(scope="module")
def templates() -> dict[str, Path]:
    return {}


@pytest.fixture
def filled(templates: dict[str, Path], make_bench, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory):
    """A home of two tenants with more vectors than are searched as rows, in index files; made once and copied."""
    if "filled" not in templates:
        bench = make_bench(home=tmp_path_factory.mktemp("template") / "home")
        for tenant in ("default", "other"):
            ship(bench, drafts(0, COUNT), tenant)
            assert index.compact(bench.context, bench.key(tenant))
        bench.store.checkpoint(truncate=True)
        bench.close()
        templates["filled"] = bench.home
    shutil.copytree(templates["filled"], tmp_path / "filled")
    bench = make_bench(home=tmp_path / "filled")
    index.maintain(bench.context)  # the copies look new: that is noted
    return served(bench)


def active(bench):
    model = embedding.active_model(bench.context)
    assert model is not None
    return model


def snapshot(bench, tenant: str = "default"):
    return bench.store.indexes.snapshot(bench.key(tenant), active(bench).key)


def files_of(bench, tenant: str = "default") -> Files:
    found = snapshot(bench, tenant)
    assert found is not None
    return bench.context.recall.index.files(bench.key(tenant), active(bench).key, found.generation)


def index_stats(bench, tenant: str = "default") -> m.IndexStats:
    return bench.call(m.MemoryStats(), tenant=tenant).index


def rows_alone(bench, text: str, k: int, tenant: str = "default") -> list[str]:
    """Answer from the rows and numpy alone: what any search must find."""
    rows = bench.store.embeddings.after(bench.key(tenant), active(bench).key, 0, 100_000)
    question = bench.embedder.embed([text])[0].astype(np.float16).astype(np.float64)
    vectors = np.stack([np.frombuffer(row[2], dtype="<f2").astype(np.float64) for row in rows])
    best: dict[int, float] = {}
    for (_, seq, _), cosine in zip(rows, (vectors @ question).tolist(), strict=True):
        best[seq] = max(cosine, best.get(seq, -2))
    order = sorted(best, key=lambda seq: (-best[seq], -seq))[:k]
    ids = bench.store.episodes.ids(bench.key(tenant), order)
    return [ids[seq] for seq in order]


def nearest(bench, text: str, k: int = 10, tenant: str = "default") -> list[str]:
    return bench.hits(text, mode="semantic", k=k, reward_weight=0.0, tenant=tenant)


def assert_right(bench, tenant: str = "default") -> None:
    for text in ("word7", "word42 group0", "word1050", "group3"):
        assert set(nearest(bench, text, 5, tenant)) == set(rows_alone(bench, text, 5, tenant)), text


# -- growing -----------------------------------------------------------------------------------------------------


def test_few_vectors_are_searched_as_rows_and_no_file_is_made(bench):
    ship(bench, drafts(0, TAIL_ROWS))
    assert not index.maintain(bench.context)
    stats = index_stats(bench)
    assert (stats.form, stats.vectors, stats.tail) == ("none", 0, TAIL_ROWS)
    assert not (bench.home / "index").exists()
    assert_right(bench)


def test_many_vectors_come_into_a_file_that_grows_by_appending(filled):
    stats = index_stats(filled)
    assert (stats.form, stats.vectors, stats.tail) == ("flat", COUNT, 0)
    assert stats.size_bytes == COUNT * (2 * filled.embedder.dim + 16)
    before = files_of(filled)
    ship(filled, drafts(COUNT, 50))
    assert not index.compact(filled.context, filled.key())
    assert index_stats(filled).tail == 50
    assert_right(filled)
    ship(filled, drafts(COUNT + 50, TAIL_ROWS))
    assert index.compact(filled.context, filled.key())
    assert files_of(filled) == before
    assert (index_stats(filled).vectors, index_stats(filled).tail) == (COUNT + 50 + TAIL_ROWS, 0)
    assert [(one.first, one.vectors) for one in filled.store.indexes.blocks(filled.key(), active(filled).key)] == [
        (0, COUNT), (COUNT, 50 + TAIL_ROWS),
    ]  # fmt: skip
    assert index.verify_all(filled.context, filled.key(), always=True) is None
    assert_right(filled)


def test_an_answer_says_in_which_form_each_vector_was_found(filled):
    ship(filled, [EpisodeDraft(id="fresh", task="word7 fresh")])
    hits = filled.call(m.QueryEpisodes(text="word7", mode="semantic", explain=True, k=2)).hits
    assert {hit.id: hit.match.index for hit in hits} == {"e7": "flat", "fresh": "tail"}


def test_a_file_is_made_of_many_blocks_where_there_is_much(make_bench, make_embedder):
    bench = make_bench(embedder=make_embedder(dim=4))
    blobs = to_blobs(bench.embedder.embed([f"word{n}" for n in range(100)])) * (APPEND_ROWS // 100)
    chunks = Embedding(model=bench.context.recall.model_tag, vectors=blobs)
    bench.keep(EpisodeDraft(id="long", task="t", embedding=chunks))
    ship(bench, [EpisodeDraft(id="short", task="short")])
    assert index.compact(bench.context, bench.key())
    bench.keep(EpisodeDraft(id="late", task="t", embedding=chunks))
    assert index.compact(bench.context, bench.key())
    blocks = [(one.first, one.vectors) for one in bench.store.indexes.blocks(bench.key(), active(bench).key)]
    assert blocks == [(0, APPEND_ROWS), (APPEND_ROWS, 1), (APPEND_ROWS + 1, APPEND_ROWS)]
    for rewritten in (False, True):
        assert index.compact(bench.context, bench.key(), rewrite=rewritten) is rewritten
        assert index.verify_all(bench.context, bench.key(), always=True) is None
        assert nearest(bench, "short", 1) == ["short"]
        assert set(nearest(bench, "word77", 2)) == {"long", "late"}
    blocks = [(one.first, one.vectors) for one in bench.store.indexes.blocks(bench.key(), active(bench).key)]
    assert blocks == [(0, APPEND_ROWS), (APPEND_ROWS, APPEND_ROWS), (2 * APPEND_ROWS, 1)]


def test_an_episode_of_many_chunks_counts_by_its_best(bench):
    tag = bench.context.recall.model_tag
    blobs = to_blobs(bench.embedder.embed(["nothing like it", "the very thing", "else"]))
    bench.keep(EpisodeDraft(id="long", task="t", embedding=Embedding(model=tag, vectors=blobs)))
    ship(bench, [EpisodeDraft(id="short", task="the thing")])
    for _ in range(2):
        assert nearest(bench, "the very thing") == ["long", "short"]
        index.compact(bench.context, bench.key(), rewrite=True)
    assert index_stats(bench).vectors == 4


def test_upkeep_comes_to_an_end(filled):
    for tenant in ("default", "other"):
        ship(filled, drafts(COUNT, TAIL_ROWS + 1), tenant)
    done = [index.maintain(filled.context) for _ in range(20)]
    assert done[0]
    assert not done[-1]
    assert index_stats(filled).tail == index_stats(filled, "other").tail == 0


# -- deletions ---------------------------------------------------------------------------------------------------


def test_a_file_that_is_one_fifth_dead_is_written_anew(filled):
    before = files_of(filled)
    gone = [f"e{n}" for n in range(int(COUNT * 0.19))]
    filled.call(m.DeleteEpisodes(ids=gone))
    assert not index.compact(filled.context, filled.key())
    assert files_of(filled) == before
    assert_right(filled)
    filled.call(m.DeleteEpisodes(ids=[f"e{n}" for n in range(len(gone), len(gone) + 30)]))
    assert index.compact(filled.context, filled.key())
    assert files_of(filled) != before
    assert not any(path.exists() for path in before)
    assert index_stats(filled).vectors == COUNT - len(gone) - 30
    assert_right(filled)


def test_of_a_tenant_that_deleted_everything_no_file_is_left(filled):
    for start in (0, 1000):
        filled.call(m.DeleteEpisodes(ids=[f"e{n}" for n in range(start, min(start + 1000, COUNT))]))
    assert nearest(filled, "word7") == []
    assert index.compact(filled.context, filled.key())
    assert snapshot(filled) is None
    assert not list((filled.home / "index" / str(filled.key())).iterdir())
    assert nearest(filled, "word7") == []
    assert_right(filled, "other")


# -- damage ------------------------------------------------------------------------------------------------------


def missing(files: Files) -> None:
    files.vectors.unlink()


def keys_missing(files: Files) -> None:
    files.keys.unlink()


def folder_missing(files: Files) -> None:
    shutil.rmtree(files.vectors.parent)


def truncated(files: Files) -> None:
    os.truncate(files.vectors, files.vectors.stat().st_size // 2)


def keys_truncated(files: Files) -> None:
    os.truncate(files.keys, 160)


def emptied(files: Files) -> None:
    files.vectors.write_bytes(b"")


def flipped(files: Files) -> None:
    with files.vectors.open("r+b") as file:
        file.seek(1000)
        file.write(b"\xa5" * 10_000)


def keys_flipped(files: Files) -> None:
    content = bytearray(files.keys.read_bytes())
    content[8] ^= 0xFF
    files.keys.write_bytes(content)


def swapped(files: Files) -> None:
    files.vectors.rename(files.vectors.with_suffix(".tmp"))
    files.keys.rename(files.vectors)
    files.vectors.with_suffix(".tmp").rename(files.keys)


def another_tenant_s(files: Files) -> None:
    other = files.vectors.parent.with_name("2" if files.vectors.parent.name == "1" else "1")
    for path in other.iterdir():
        shutil.copy(path, files.vectors if path.suffix == ".f16" else files.keys)


def an_older_copy(files: Files) -> None:
    for path, width in ((files.vectors, 48), (files.keys, 16)):
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content[: 500 * width])


def a_directory(files: Files) -> None:
    files.vectors.unlink()
    files.vectors.mkdir()
    (files.vectors / "x").touch()


def a_pipe(files: Files) -> None:
    files.keys.unlink()
    os.mkfifo(files.keys)


def a_link(files: Files) -> None:
    files.vectors.unlink()
    files.vectors.symlink_to("/dev/zero")


DAMAGE = [
    missing, keys_missing, folder_missing, truncated, keys_truncated, emptied, flipped, keys_flipped, swapped,
    another_tenant_s,
    an_older_copy, a_directory, a_pipe, a_link,
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_costs_no_answer_and_is_built_anew(filled, damage: Callable[[Files], None]):
    other = filled.another()
    assert_right(filled)  # the file is open here, and closed there
    before = files_of(filled)
    damage(before)
    for bench in (filled, other):
        assert_right(bench)
        assert_right(bench, "other")
    assert "built anew" in filled.logged[0]
    assert snapshot(filled) is None
    assert index.compact(filled.context, filled.key())
    assert index_stats(filled).vectors == COUNT
    assert files_of(filled) != before
    assert index.verify_all(filled.context, filled.key(), always=True) is None
    filled.logged.clear()
    for bench in (filled, other):
        assert_right(bench)
        assert_right(bench, "other")
    assert filled.logged == []


@pytest.mark.parametrize("damage", DAMAGE)
def test_upkeep_mends_what_no_search_has_met_yet(filled, damage: Callable[[Files], None]):
    damage(files_of(filled))
    assert index.verify_all(filled.context, filled.key(), always=False) is not None
    assert index.maintain(filled.context)
    assert index.verify_all(filled.context, filled.key(), always=True) is None
    assert_right(filled)
    assert_right(filled, "other")


def test_a_file_that_was_only_touched_is_verified_once_and_noted_as_good(filled):
    before = snapshot(filled)
    os.utime(files_of(filled).vectors, ns=(1, 1))
    assert_right(filled)
    assert filled.logged == []
    assert not index.compact(filled.context, filled.key())
    assert snapshot(filled).generation == before.generation
    assert snapshot(filled).stamp != before.stamp


def test_a_file_is_opened_and_verified_once_and_not_at_every_question(filled):
    class Counting(IndexFolder):
        opened = verified = 0

        def open(self, *args: Any, **how: Any) -> Any:
            self.opened += 1
            return super().open(*args, **how)

        def verify(self, *args: Any) -> bool:
            self.verified += 1
            return super().verify(*args)

    index = Counting(filled.home / "index")
    filled.context = filled.context._replace(recall=Recall(filled.embedder, index))
    for _ in range(3):
        nearest(filled, "word7")
    assert (index.opened, index.verified) == (1, 0)
    os.utime(files_of(filled).vectors, ns=(1, 1))
    for _ in range(3):
        nearest(filled, "word7")
    assert (index.opened, index.verified) == (2, 1)


@pytest.fixture
def looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every flat file is too large for a hub to hold it in memory."""
    monkeypatch.setattr(flat, "RESIDENT_MAX_BYTES", 0)


def mapped(bench) -> list[str]:
    """Return which of its files this process has mapped."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return [line for line in lines if str(bench.home / "index") in line]


def test_a_hub_maps_no_file_that_somebody_might_cut_and_a_command_does(filled, monkeypatch: pytest.MonkeyPatch):
    for most_bytes in (COUNT * 1000, 0):
        monkeypatch.setattr(flat, "RESIDENT_MAX_BYTES", most_bytes)
        bench = filled.another()
        assert_right(bench)
        ship(filled, drafts(COUNT if most_bytes else 2 * COUNT, TAIL_ROWS + 1))
        index.maintain(filled.context)
        assert_right(bench)
    assert mapped(filled) == []
    # Nor does it take a mapped one from somebody beside it.
    command = filled.another(hub=None)
    assert_right(command)
    assert len(mapped(filled)) == 1
    ((_, before),) = command.context.recall.open_parts.values()
    command.context = command.context._replace(hub=object())
    assert_right(command)
    ((_, part),) = command.context.recall.open_parts.values()
    assert part is not before
    ship(filled, drafts(3 * COUNT, TAIL_ROWS + 1))
    index.maintain(filled.context)
    assert_right(command)


def test_a_large_file_is_searched_as_a_small_one(filled, looked_up):
    assert_right(filled)
    ((_, part),) = filled.context.recall.open_parts.values()
    assert isinstance(part.vectors, flat.FileRows)
    ship(filled, drafts(COUNT, TAIL_ROWS + 1))
    assert index.maintain(filled.context)
    assert_right(filled)
    assert index_stats(filled).tail == 0


def halved(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def emptied_in_place(path: Path) -> None:
    os.truncate(path, 0)


class CutWhenOpened(IndexFolder):
    """A folder whose file of vectors somebody cuts between a search's looking at it and its searching it."""

    damage: Callable[[Path], None] | None = None

    def open(self, files: Files, *args: Any, **how: Any) -> Any:
        part = super().open(files, *args, **how)
        if self.damage is not None:
            self.damage(files.vectors)
            self.damage = None
        return part


@pytest.mark.parametrize("mode", ["semantic", "hybrid"])
@pytest.mark.parametrize("damage", [halved, emptied_in_place])
def test_a_file_that_is_cut_while_it_is_searched_costs_no_answer(filled, looked_up, damage, mode: str):
    folder = CutWhenOpened(filled.home / "index")
    filled.context = filled.context._replace(recall=Recall(filled.embedder, folder))
    told: list[bool] = []
    filled.context.recall.lost = lambda: told.append(True)
    folder.damage = damage
    hits = filled.call(m.QueryEpisodes(text="word7", mode=mode, explain=True, k=5, reward_weight=0.0)).hits
    assert folder.damage is None
    assert {hit.match.index for hit in hits} == {"tail"}  # from the rows
    assert {hit.id for hit in hits} == set(rows_alone(filled, "word7", 5)) or mode == "hybrid"
    assert hits[0].id == "e7"
    assert told
    assert len(filled.logged) == 1
    assert "missing or damaged, searched by rows and built anew" in filled.logged[0]
    assert snapshot(filled) is None
    assert not filled.context.recall.open_parts
    assert index.maintain(filled.context)
    assert_right(filled)
    assert len(filled.logged) == 1


@pytest.mark.parametrize("damage", [halved, emptied_in_place])
def test_a_file_that_is_cut_while_it_is_searched_from_memory_costs_nothing_at_all(filled, damage):
    folder = CutWhenOpened(filled.home / "index")
    filled.context = filled.context._replace(recall=Recall(filled.embedder, folder))
    folder.damage = damage
    assert nearest(filled, "word7", 1) == ["e7"]
    assert filled.logged == []
    assert_right(filled)  # now it shows
    assert len(filled.logged) == 1


def test_a_file_that_was_written_anew_is_read_anew(filled):
    """Nothing of the room that was left behind the one before it is in the next generation's."""
    assert_right(filled)
    ((_, old),) = filled.context.recall.open_parts.values()
    before = old.vectors.copy()
    filled.call(m.DeleteEpisodes(ids=[f"e{n}" for n in range(0, 1000, 2)]))
    ship(filled, drafts(COUNT, 100))
    assert index.compact(filled.context, filled.key(), rewrite=True)
    assert_right(filled)
    ((_, new),) = filled.context.recall.open_parts.values()
    assert not np.shares_memory(new.vectors, old.vectors)
    assert np.array_equal(old.vectors, before)
    rows = filled.store.embeddings.after(filled.key(), active(filled).key, 0, 10_000)
    assert new.vectors.tobytes() == b"".join(row[2] for row in rows)
    # And of one that has grown only what is new is: into that room.
    ship(filled, drafts(2 * COUNT, TAIL_ROWS - 50))
    ship(filled, drafts(3 * COUNT, 100))
    assert index.maintain(filled.context)
    assert_right(filled)
    ((_, grown),) = filled.context.recall.open_parts.values()
    rows = filled.store.embeddings.after(filled.key(), active(filled).key, 0, 10_000)
    assert grown.vectors.tobytes() == b"".join(row[2] for row in rows)


def test_a_file_that_was_forgotten_is_not_kept_open(filled):
    nearest(filled, "word7")
    assert filled.context.recall.open_parts
    with filled.store.write():
        filled.store.indexes.drop_snapshot(filled.key(), active(filled).key, snapshot(filled).generation)
    assert_right(filled)
    assert not filled.context.recall.open_parts


def test_bytes_that_a_crash_left_behind_the_published_ones_are_harmless(filled):
    files = files_of(filled)
    key, model = filled.key(), active(filled)
    ship(filled, drafts(COUNT, TAIL_ROWS + 1))
    rows = filled.store.embeddings.after(key, model.key, snapshot(filled).through_key, 300)
    filled.context.recall.index.append(files, COUNT, rows, model.dim)  # and then the lights went out
    assert_right(filled)
    assert_right(filled.another())
    assert index.verify_all(filled.context, key, always=True) is None
    assert index.compact(filled.context, key)
    assert index_stats(filled).vectors == COUNT + TAIL_ROWS + 1
    assert index.verify_all(filled.context, key, always=True) is None
    assert_right(filled)
    assert filled.logged == []


def test_files_of_a_generation_that_was_never_published_are_swept(filled):
    key, model = filled.key(), active(filled)
    rows = filled.store.embeddings.after(key, model.key, 0, 300)
    orphan = filled.context.recall.index.files(key, model.key, "crashed")
    filled.context.recall.index.append(orphan, 0, rows, model.dim)
    assert index.sweep_files(filled.context) == 2
    assert not orphan.vectors.exists()
    assert index.sweep_files(filled.context) == 0
    assert_right(filled)


def test_a_process_killed_in_the_middle_of_an_append_leaves_right_answers(filled):
    ship(filled, drafts(COUNT, TAIL_ROWS + 1))
    code = """
import os, sys
from pathlib import Path
from fedctl.clock import Clock
from fedctl.operations import embedding, index
from fedctl.operations.context import Context, Recall
from fedctl.recall.index import IndexFolder
from fedctl.store.store import Store

class Dies(IndexFolder):
    def append(self, *args):
        super().append(*args)
        os.kill(os.getpid(), 9)

home = Path(sys.argv[1])
context = Context(home=home, store=Store.open(home, Clock(), create=False), recall=Recall(None, Dies(home / "index")),
                  clock=Clock(), access=None)
index.compact(context, 1)
"""
    assert subprocess.run([sys.executable, "-c", code, str(filled.home)], cwd=ROOT, check=False).returncode == -9
    assert files_of(filled).vectors.stat().st_size > COUNT * 48
    assert_right(filled)
    assert index.compact(filled.context, filled.key())
    assert index.verify_all(filled.context, filled.key(), always=True) is None
    assert_right(filled)


# -- files that cannot be written --------------------------------------------------------------------------------


class Unwritable(IndexFolder):
    """A folder on a disk that is full."""

    def append(self, files: Files, *args: Any) -> Any:
        super().append(files, *args)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_keeps_no_query_from_its_answer_and_leaves_no_ruin(bench):
    ship(bench, drafts(0, COUNT))
    bench.keep("still to be embedded")
    context = bench.context._replace(recall=Recall(bench.embedder, Unwritable(bench.home / "index")))
    bench.context = context
    assert nearest(bench, "word7", 1) == ["e7"]
    assert "disk is full" in bench.logged[0]
    assert list((bench.home / "index" / "1").iterdir()) == []
    assert snapshot(bench) is None
    assert isinstance(bench.refusal(m.Reindex()), DiskFull)
    assert not index.maintain(context)


def test_a_file_where_the_folder_belongs_is_no_error_for_a_query_and_one_for_a_reindex(bench):
    ship(bench, drafts(0, COUNT))
    bench.keep("still to be embedded")
    (bench.home / "index").write_text("precious")
    assert nearest(bench, "word7", 1) == ["e7"]
    assert isinstance(bench.refusal(m.Reindex()), Failure)
    assert (bench.home / "index").read_text() == "precious"


def test_upkeep_of_one_tenant_does_not_wait_for_another_whose_folder_is_spoilt(bench):
    for tenant in ("a", "b"):
        ship(bench, drafts(0, COUNT), tenant)
    (bench.home / "index").mkdir()
    (bench.home / "index" / str(bench.key("a"))).write_text("a file")
    assert index.maintain(bench.context)
    assert (index_stats(bench, "a").form, index_stats(bench, "b").form) == ("none", "flat")
    assert nearest(bench, "word7", 1, "a") == ["e7"]


# -- at the same time --------------------------------------------------------------------------------------------


def test_upkeep_is_for_one_at_a_time(filled):
    ship(filled, drafts(COUNT, TAIL_ROWS + 1))
    descriptor = os.open(filled.home / "maintenance.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    assert not index.maintain(filled.context)
    assert not index.compact(filled.context, filled.key(), rewrite=True)
    assert index.sweep_files(filled.context) == 0
    assert_right(filled)
    os.close(descriptor)
    assert index.maintain(filled.context)


def test_a_search_that_has_begun_goes_on_while_the_file_is_replaced(filled):
    model, key = active(filled), filled.key()
    parts: list[Part] = index.parts(filled.context, key, model)
    before = [part.vectors.copy() for part in parts]
    assert index.compact(filled.another().context, key, rewrite=True)
    assert all(np.array_equal(part.vectors, copy) for part, copy in zip(parts, before, strict=True))
    assert_right(filled)
    assert filled.logged == []


def test_a_reader_whose_snapshot_names_a_file_that_was_replaced_meanwhile_searches_rows_and_forgets_nothing(filled):
    other = filled.another()
    with other.store.read():
        assert other.store.indexes.snapshot(filled.key(), active(filled).key) is not None
        assert index.compact(filled.context, filled.key(), rewrite=True)
        old = other.store.indexes.snapshot(filled.key(), active(filled).key)
        assert old.generation != snapshot(filled).generation
        assert index._open(other.context, filled.key(), active(filled), old) is None
    index._give_up(other.context, filled.key(), active(filled), old)
    assert snapshot(filled) is not None
    assert filled.logged == []
    assert_right(other)


def test_a_file_that_was_given_up_while_it_grew_is_not_published(filled):
    """A reader that met damage has dropped the snapshot: the bytes before the new block are gone with it."""
    ship(filled, drafts(COUNT, TAIL_ROWS + 1))
    other = filled.another()
    old = snapshot(filled)

    class Interrupted(IndexFolder):
        """In the middle of an append a reader gives the file up."""

        def append(self, files: Files, *args: Any) -> Any:
            index._give_up(other.context, filled.key(), active(filled), old)
            return super().append(files, *args)

    filled.context = filled.context._replace(recall=Recall(filled.embedder, Interrupted(filled.home / "index")))
    index.compact(filled.context, filled.key())
    assert snapshot(filled) is None
    assert list((filled.home / "index" / str(filled.key())).iterdir()) == []
    assert_right(filled)
    assert index.compact(other.context, filled.key())
    assert_right(filled)


def test_searching_goes_on_while_others_store_delete_and_compact(filled):  # noqa: C901  three threads' work
    """What nobody touches is found every time; nothing deleted is ever found after its deletion was acked."""
    errors: list[BaseException] = []
    gone: set[str] = set()
    done = threading.Event()

    def guarded(work: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001  handed to the test
                errors.append(error)
            finally:
                done.set()

        return run

    def change() -> None:
        bench = filled.another()
        for round_ in range(6):
            first = COUNT + round_ * 400
            ship(bench, drafts(first, 400))
            ids = [f"e{n}" for n in range(first, first + 200)] + [
                f"e{n}" for n in range(300 + round_ * 40, 340 + round_ * 40)
            ]
            bench.call(m.DeleteEpisodes(ids=ids))
            gone.update(ids)
            index.compact(bench.context, bench.key(), rewrite=round_ % 2 == 0)

    def search() -> None:
        bench = filled.another()
        while not done.is_set():
            for n in (7, 150, 1000):
                before = set(gone)
                found = nearest(bench, f"word{n} group{n % 7}", 20)
                assert found[0] == f"e{n}"
                assert not before.intersection(found)

    threads = [threading.Thread(target=guarded(work)) for work in (change, search, search)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    index.compact(filled.context, filled.key(), rewrite=True)
    assert index.verify_all(filled.context, filled.key(), always=True) is None
    assert_right(filled)
    assert not [line for line in filled.logged if "damaged" in line]


def test_another_process_compacts_and_this_one_sees_the_same(filled):
    ship(filled, drafts(COUNT, TAIL_ROWS + 1))
    code = """
import sys
from pathlib import Path
from fedctl.clock import Clock
from fedctl.operations import embedding, index
from fedctl.operations.context import Context, Recall
from fedctl.recall.index import IndexFolder
from fedctl.store.store import Store
home = Path(sys.argv[1])
context = Context(home=home, store=Store.open(home, Clock(), create=False),
                  recall=Recall(None, IndexFolder(home / "index")), clock=Clock(), access=None)
assert index.compact(context, 1)
assert index.compact(context, 1, rewrite=True)
context.close()
"""
    assert_right(filled)
    subprocess.run([sys.executable, "-c", code, str(filled.home)], cwd=ROOT, check=True)
    assert_right(filled)
    assert (index_stats(filled).vectors, index_stats(filled).tail) == (COUNT + TAIL_ROWS + 1, 0)
    assert filled.logged == []


# -- models ------------------------------------------------------------------------------------------------------


def test_after_a_switch_of_models_no_vector_and_no_file_of_the_old_one_is_left(filled, make_embedder):
    old = files_of(filled)
    bench = filled.another(embedder=make_embedder("better", 16))
    bench.call(m.Reindex(begin=True))
    while bench.call(m.Reindex(budget_ms=100_000)).remaining:
        pass
    assert not any(path.exists() for path in old)
    assert {key for _, key, _ in bench.store.indexes.snapshots()} == {active(bench).key}
    assert len(list((bench.home / "index").rglob("*.f16"))) == 2
    for tenant in ("default", "other"):
        assert_right(bench, tenant)
        assert index_stats(bench, tenant).model == "better@0/t3"


# -- graphs ------------------------------------------------------------------------------------------------------

GRAPH = 600
"""From so many vectors on, in these tests."""
WORDS = 40
LONG = 64


def seasoned(first: int, count: int) -> list[EpisodeDraft]:
    """Return drafts that differ in everything that can be filtered by."""
    return [
        EpisodeDraft(
            id=f"e{n}", task=f"word{n % WORDS} group{n % 7} own{n}", agent_id=f"agent{n % 3}", session_id=f"s{n % 90}",
            reward=(n % 11) / 10, metadata={"n": n, "tier": {"name": "gold" if n % 40 == 0 else "tin"}},
            created_at=f"2026-01-{1 + n % 28:02d}T00:00:00Z",
        )
        for n in range(first, first + count)
    ]  # fmt: skip


def ship_seasoned(bench, made: Sequence[EpisodeDraft], tenant: str = "default") -> None:
    blobs = to_blobs(bench.embedder.embed([one.task for one in made]))
    for start in range(0, len(made), 1000):
        pairs = zip(made[start : start + 1000], blobs[start : start + 1000], strict=True)
        tag = bench.context.recall.model_tag
        drafts_ = [msgspec.structs.replace(one, embedding=Embedding(model=tag, vectors=[blob])) for one, blob in pairs]
        assert all(one.ok for one in bench.keep(*drafts_, tenant=tenant))


@pytest.fixture
def small_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("TAIL_ROWS", 100), ("GRAPH_ROWS", GRAPH), ("GRAPH_BEHIND_ROWS", 150)):
        monkeypatch.setattr(index, name, value)


@pytest.fixture
def graphed(small_graphs, templates: dict[str, Path], make_bench, tmp_path: Path, tmp_path_factory):
    """A home of two tenants with graphs, one with an episode of many chunks; made once and copied."""
    if "graphed" not in templates:
        bench = make_bench(home=tmp_path_factory.mktemp("template") / "home")
        for tenant, first in (("default", 0), ("other", 5000)):
            ship_seasoned(bench, seasoned(first, 1500), tenant)
            blobs = to_blobs(bench.embedder.embed([f"word1 long{n}" for n in range(LONG)]))
            tag = bench.context.recall.model_tag
            bench.keep(EpisodeDraft(id="long", task="t", embedding=Embedding(model=tag, vectors=blobs)), tenant=tenant)
            ship_seasoned(bench, seasoned(first + 2000, 30), tenant)
        tend(bench)
        bench.store.checkpoint(truncate=True)
        bench.close()
        templates["graphed"] = bench.home
    shutil.copytree(templates["graphed"], tmp_path / "graphed")
    bench = served(make_bench(home=tmp_path / "graphed"))
    tend(bench)
    assert graph_of(bench) is not None
    assert graph_of(bench, "other") is not None
    bench.logged.clear()
    return bench


def tend(bench) -> int:
    """Do what a hub's background thread does; return how many graphs were built."""
    while index.maintain(bench.context):
        pass
    return index.build_graphs(bench.context)


def graph_of(bench, tenant: str = "default"):
    return bench.store.indexes.graph(bench.key(tenant), active(bench).key)


def graph_path(bench, tenant: str = "default") -> Path:
    model = active(bench)
    return bench.context.recall.index.graph_path(bench.key(tenant), model.key, graph_of(bench, tenant).generation)


def forms(bench, text: str, tenant: str = "default", **fields: Any) -> set[str | None]:
    hits = bench.call(m.QueryEpisodes(text=text, mode="semantic", explain=True, k=100, **fields), tenant=tenant).hits
    return {hit.match.index for hit in hits}


QUESTIONS = ("word1", "word39 group2", "own77", "long5 word1", "group6")
KS = (1, 10, 150)
FILTERS = [
    EpisodeFilter(),
    EpisodeFilter(agent_id="agent1"),
    EpisodeFilter(session_id="s8"),
    EpisodeFilter(task="word3 group3 own3"),
    EpisodeFilter(min_reward=0.95),
    EpisodeFilter(success=False),
    EpisodeFilter(since="2026-01-05T00:00:00Z", until="2026-01-06T00:00:00Z"),
    EpisodeFilter(where=[("tier.name", "=", "gold")]),
    EpisodeFilter(where=[("n", ">=", 100), ("n", "<", 1400)], agent_id="agent2"),
    EpisodeFilter(agent_id="nobody"),
]


def assert_the_same_without(bench, *filters: EpisodeFilter, each: bool = False) -> None:
    """Ask here, where there may be graphs, and on another connection, where none is open.

    Every question is asked with every filter, and in turn for one hit, for ten and for many, or for `each` of these.
    """
    without = bench.another()
    for tenant in ("default", "other"):
        turn = itertools.cycle(KS)
        for text, filter_ in itertools.product(QUESTIONS, filters or FILTERS):
            for k in KS if each else (next(turn),):
                request = m.QueryEpisodes(text=text, filter=filter_, k=k, mode="semantic")
                one, two = (
                    [(hit.id, hit.score) for hit in side.call(request, tenant=tenant).hits] for side in (bench, without)
                )
                assert one == two, (tenant, text, filter_, k)
    assert not without.context.recall.open_graphs


def test_a_big_tenant_has_a_graph_and_answers_stay_what_they_were(graphed):
    row = graph_of(graphed)
    assert row.vectors == snapshot(graphed).vectors == 1500 + LONG + 30
    assert index.build_graphs(graphed.context) == 0
    assert forms(graphed, "own77") == {"hnsw"}
    assert_the_same_without(graphed, each=True)
    assert graphed.logged == []


def test_a_small_tenant_has_none(small_graphs, bench):
    ship_seasoned(bench, seasoned(0, GRAPH - 1))
    assert tend(bench) == 0
    assert graph_of(bench) is None
    ship_seasoned(bench, seasoned(GRAPH - 1, 101))
    assert tend(bench) == 1
    assert forms(bench, "own77") == {"hnsw"}


def test_what_came_after_the_graph_is_found_from_file_and_rows(graphed):
    ship_seasoned(graphed, seasoned(10_000, 120))
    assert tend(graphed) == 0  # behind, not too far
    ship_seasoned(graphed, seasoned(20_000, 60))
    assert forms(graphed, "word1") == {"hnsw", "flat", "tail"}
    assert nearest(graphed, "own10005", 1) == ["e10005"]
    assert nearest(graphed, "own20005", 1) == ["e20005"]
    assert_the_same_without(graphed)


def test_a_graph_that_is_too_far_behind_is_added_to(graphed):
    old, path = graph_of(graphed), graph_path(graphed)
    ship_seasoned(graphed, seasoned(10_000, 400))
    assert tend(graphed) == 1
    new = graph_of(graphed)
    assert (new.generation != old.generation, new.vectors) == (True, old.vectors + 400)
    assert not path.exists()
    assert graph_path(graphed).stat().st_mode & 0o777 == 0o600
    assert forms(graphed, "own10005") == {"hnsw"}
    assert_the_same_without(graphed)
    assert graph_of(graphed, "other").vectors == old.vectors


def delete(bench, numbers: Sequence[int], tenant: str = "default") -> None:
    ids = [f"e{n}" for n in numbers]
    for start in range(0, len(ids), 1000):
        bench.call(m.DeleteEpisodes(ids=ids[start : start + 1000]), tenant=tenant)


def test_what_is_deleted_is_not_found_before_and_after_the_flat_file_is_written_anew(graphed):
    before = files_of(graphed)
    delete(graphed, range(150))
    assert_the_same_without(graphed)
    delete(graphed, range(150, 310))
    old = graph_of(graphed)
    index.compact(graphed.context, graphed.key(), rewrite=True)
    assert files_of(graphed) != before
    assert graph_of(graphed) == old  # it stays: 310 of 1,594 are dead
    assert tend(graphed) == 0
    assert forms(graphed, "own777") == {"hnsw"}
    assert not {f"e{n}" for n in range(310)} & set(nearest(graphed, "word1", 1000))
    assert_the_same_without(graphed)


def test_a_graph_that_is_one_fifth_dead_is_built_from_nothing(graphed):
    old = graph_of(graphed)
    delete(graphed, range(400))
    assert tend(graphed) == 1
    new = graph_of(graphed)
    assert (new.generation != old.generation, new.vectors) == (True, old.vectors - 400)
    assert_the_same_without(graphed)


def test_a_tenant_that_shrank_has_no_graph_any_more(graphed):
    path = graph_path(graphed)
    delete(graphed, range(1100))
    assert tend(graphed) == 0
    assert graph_of(graphed) is None
    assert not path.exists()
    assert (graphed.key(), active(graphed).key) not in graphed.context.recall.open_graphs
    assert_the_same_without(graphed)
    assert graph_of(graphed, "other") is not None
    assert graphed.logged == []


def test_a_tenant_that_deleted_everything_has_no_graph_any_more(graphed):
    delete(graphed, range(3000))
    graphed.call(m.DeleteEpisodes(ids=["long"]))
    tend(graphed)
    assert graph_of(graphed) is None
    assert nearest(graphed, "word1") == []
    assert list((graphed.home / "index" / str(graphed.key())).iterdir()) == []


def test_a_switch_of_models_drops_graphs_and_new_ones_are_built(graphed, make_embedder):
    old = [graph_path(graphed, tenant) for tenant in ("default", "other")]
    bench = graphed.another(embedder=make_embedder("better", 16))
    bench.call(m.Reindex(begin=True))
    while bench.call(m.Reindex(budget_ms=100_000)).remaining:
        pass
    assert bench.store.indexes.graphs() == []
    assert not any(path.exists() for path in old)
    index.check_graphs(graphed.context)
    assert graphed.context.recall.open_graphs == {}  # nor is what is gone held open where it was
    assert tend(bench) == 2
    assert forms(bench, "word1") == {"hnsw"}
    assert_the_same_without(bench)


def test_a_graph_that_was_built_while_the_store_changed_its_model_is_wanted_by_nobody(graphed, make_embedder):
    ship_seasoned(graphed, seasoned(10_000, 400))
    while index.maintain(graphed.context):
        pass
    job = index.wanted_graph(graphed.context)
    built = graph.Build(job.plan).wait(None)
    bench = graphed.another(embedder=make_embedder("better", 16))
    bench.call(m.Reindex(begin=True))
    before = graphed.store.indexes.graphs()
    index.publish_graph(graphed.context, job, built)
    assert graphed.store.indexes.graphs() == before
    assert not list((graphed.home / "index").rglob("*.tmp"))
    assert len(list((graphed.home / "index").rglob("*.hnsw"))) == 2


def test_a_graph_that_was_built_while_something_was_erased_does_not_bring_it_back(graphed):
    ship_seasoned(graphed, seasoned(10_000, 400))
    while index.maintain(graphed.context):
        pass
    job = index.wanted_graph(graphed.context)
    built = graph.Build(job.plan).wait(None)
    target = Path(job.plan.target)
    whole = target.read_bytes()
    graphed.clock.ms += 1000  # else names of files would be given out again
    assert graphed.call(m.EraseEpisodes(ids=["e10001"])).complete
    target.parent.mkdir(exist_ok=True)  # as if the build had ended later than the erasure
    target.write_bytes(whole)
    assert not index.publish_graph(graphed.context, job, built)
    assert job.tenant_key not in [key for key, _, _ in graphed.store.indexes.graphs()]
    assert not [*target.parent.glob("*.hnsw"), *target.parent.glob("*.tmp")]


def test_tenants_do_not_find_each_other_s_through_their_graphs(graphed):
    for tenant, low, high in (("default", 0, 5000), ("other", 5000, 10_000)):
        for text in QUESTIONS:
            found = {one for one in nearest(graphed, text, 1000, tenant) if one != "long"}
            assert found
            assert all(low <= int(one[1:]) < high for one in found)


def swap(path: Path) -> None:
    """Put the other tenant's graph in the place of this one."""
    (other,) = [one for one in path.parent.parent.rglob("*.hnsw") if one != path]
    shutil.copy(other, path)


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "x").touch()


def halve(path: Path) -> None:
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[: len(content) // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    for place in np.random.default_rng(0).integers(0, len(content), 64).tolist():
        content[place] ^= 0xA5
    path.unlink()
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [Path.unlink, halve, flip, swap, pipe, folder])
def test_a_damaged_graph_costs_no_answer_and_is_built_anew(graphed, damage: Callable[[Path], None]):
    told: list[bool] = []
    graphed.context.recall.lost = lambda: told.append(True)
    old = graph_of(graphed)
    damage(graph_path(graphed))
    assert forms(graphed, "own77") == {"flat"}
    assert told
    assert_the_same_without(graphed, EpisodeFilter())
    assert graphed.logged == []
    assert tend(graphed) == 1
    assert [line for line in graphed.logged if "built anew" in line] == graphed.logged
    assert len(graphed.logged) == 1
    assert graph_of(graphed).generation != old.generation
    assert forms(graphed, "own77") == {"hnsw"}
    assert_the_same_without(graphed, EpisodeFilter())
    assert len(graphed.logged) == 1


def test_a_graph_that_was_only_touched_is_read_once_and_used_again(graphed):
    old = graph_of(graphed)
    os.utime(graph_path(graphed), ns=(1, 1))
    assert forms(graphed, "own77") == {"flat"}
    assert tend(graphed) == 0
    assert graph_of(graphed) == old
    assert forms(graphed, "own77") == {"hnsw"}
    assert graphed.logged == []


def test_a_graph_outlives_its_flat_file(graphed):
    old = graph_of(graphed)
    files_of(graphed).vectors.unlink()
    assert forms(graphed, "own77") == {"tail"}
    assert index.wanted_graph(graphed.context) is None  # before the flat file is there again
    assert graph_of(graphed) == old
    assert tend(graphed) == 0
    assert forms(graphed, "own77") == {"hnsw"}
    assert_the_same_without(graphed, EpisodeFilter())


def test_a_graph_that_was_opened_for_one_flat_file_is_not_asked_of_another(graphed):
    """It would name rows of the one before."""
    told: list[bool] = []
    graphed.context.recall.lost = lambda: told.append(True)
    delete(graphed, range(0, 100, 2))
    assert forms(graphed, "own777") == {"hnsw"}
    assert not told
    assert index.compact(graphed.context, graphed.key(), rewrite=True)
    assert forms(graphed, "own777") == {"flat"}
    assert told
    assert_the_same_without(graphed, EpisodeFilter())
    before = graph_of(graphed)
    index.check_graphs(graphed.context)
    assert graph_of(graphed) == before
    assert forms(graphed, "own777") == {"hnsw"}
    ((_, opened),) = [one for place, one in graphed.context.recall.open_graphs.items() if place[0] == graphed.key()]
    assert (opened.covered, opened.live) == (before.vectors - 50, before.vectors - 50)
    assert_the_same_without(graphed, EpisodeFilter())
    assert graphed.logged == []


def test_who_still_reads_the_flat_file_of_before_does_not_ask_a_graph_that_was_opened_for_the_next(graphed):
    key, model = graphed.key(), active(graphed)
    other = graphed.another()
    other.context = other.context._replace(recall=graphed.context.recall)  # two threads of one hub
    with other.store.read():
        old = other.store.indexes.snapshot(key, model.key)
        assert index._open_graph(other.context, key, model, old) is not None
        assert index.compact(graphed.context, key, rewrite=True)
        index.check_graphs(graphed.context)
        assert index._open_graph(other.context, key, model, old) is None
    assert index._open_graph(graphed.context, key, model, snapshot(graphed)) is not None


def test_without_its_first_copy_a_text_is_found_by_the_others_before_and_after_the_file_is_written_anew(graphed):
    copies = [f"copy{n}" for n in range(30)]
    ship(graphed, [EpisodeDraft(id=one, task="the very same text") for one in copies])
    ship_seasoned(graphed, seasoned(10_000, 400))
    assert tend(graphed) == 1
    assert set(nearest(graphed, "the very same text", 30)) == set(copies)
    assert forms(graphed, "the very same text") == {"hnsw"}
    graphed.call(m.DeleteEpisodes(ids=copies[:1]))
    for _ in range(2):
        assert set(nearest(graphed, "the very same text", 29)) == set(copies[1:])
        assert_the_same_without(graphed, EpisodeFilter())
        assert index.compact(graphed.context, graphed.key(), rewrite=True)
        assert tend(graphed) == 0
        assert forms(graphed, "the very same text") == {"hnsw"}


def test_what_was_deleted_and_stored_again_is_in_the_graph_once(graphed):
    before = graph_of(graphed)
    delete(graphed, range(100))
    assert index.compact(graphed.context, graphed.key(), rewrite=True)
    again = [msgspec.structs.replace(one, id=f"again{one.id}") for one in seasoned(0, 100)]
    ship_seasoned(graphed, again)
    ship_seasoned(graphed, seasoned(10_000, 300))
    assert tend(graphed) == 1
    assert graph_of(graphed).vectors == before.vectors + 300
    assert forms(graphed, "own77") == {"hnsw"}
    assert nearest(graphed, "own77", 1) == ["againe77"]
    assert_the_same_without(graphed, EpisodeFilter())


def test_a_graph_of_a_large_file_is_made_added_to_and_asked_like_one_of_a_small_one(graphed, looked_up):
    graphed.context.recall.open_parts.clear()
    graphed.context.recall.open_graphs.clear()
    assert tend(graphed) == 0
    assert_the_same_without(graphed, *FILTERS[:4])
    ship_seasoned(graphed, seasoned(10_000, 400))
    assert tend(graphed) == 1
    assert forms(graphed, "own10005") == {"hnsw"}
    assert_the_same_without(graphed, EpisodeFilter())
    part = graphed.context.recall.open_parts[graphed.key(), active(graphed).key][1]
    assert isinstance(part.vectors, flat.FileRows)
    assert graphed.logged == []


@pytest.mark.parametrize("opening", [True, False])
def test_a_large_flat_file_that_is_cut_while_a_graph_is_opened_or_asked_costs_no_answer(
    graphed, looked_up, opening: bool
):
    old = graph_of(graphed)
    folder = CutWhenOpened(graphed.home / "index")
    graphed.context = graphed.context._replace(recall=Recall(graphed.embedder, folder))
    if opening:
        folder.damage = emptied_in_place
        index.check_graphs(graphed.context)
    else:
        index.check_graphs(graphed.context)
        graphed.context.recall.open_parts.clear()
        folder.damage = emptied_in_place
    assert nearest(graphed, "own777", 1) == ["e777"]
    assert folder.damage is None
    assert_the_same_without(graphed, EpisodeFilter())
    assert len(graphed.logged) == 1
    assert "index of tenant 1: missing or damaged" in graphed.logged[0]
    assert tend(graphed) == 0
    assert graph_of(graphed) == old
    assert forms(graphed, "own777") == {"hnsw"}
    assert len(graphed.logged) == 1


def test_who_is_passed_over_lets_the_others_have_their_graphs_first(graphed):
    for tenant, first in (("default", 10_000), ("other", 20_000)):
        ship_seasoned(graphed, seasoned(first, 400), tenant)
    while index.maintain(graphed.context):
        pass
    keys = [graphed.key(tenant) for tenant in ("default", "other")]
    assert index.wanted_graph(graphed.context).tenant_key == keys[0]
    assert index.wanted_graph(graphed.context, {keys[0]}).tenant_key == keys[1]
    assert index.wanted_graph(graphed.context, set(keys)) is None


@pytest.mark.parametrize(("damage", "noticed"), [(Path.unlink, True), (halved, False), (emptied_in_place, False)])
def test_a_check_tells_of_a_damaged_graph(graphed, damage: Callable[[Path], None], noticed: bool):
    assert index.verify_all(graphed.context, graphed.key(), always=True) is None
    damage(graph_path(graphed))
    said = index.verify_all(graphed.context, graphed.key(), always=False)
    assert said == ("a graph is missing or no regular file" if noticed else None)
    assert "a graph is" in index.verify_all(graphed.context, graphed.key(), always=True)
    assert index.verify_all(graphed.context, graphed.key("other"), always=True) is None
    assert tend(graphed) == 1
    assert index.verify_all(graphed.context, graphed.key(), always=True) is None


def test_the_search_in_hand_goes_on_with_the_graph_that_was_replaced(graphed):
    key, model = graphed.key(), active(graphed)
    search = index.search(graphed.context, key, model, "word1 group3")
    expected = index.search(graphed.another().context, key, model, "word1 group3").nearest(50)
    ship_seasoned(graphed, seasoned(10_000, 400))
    delete(graphed, range(400))
    assert tend(graphed) == 1
    assert search.nearest(50) == expected


def test_files_of_a_graph_that_nobody_published_are_swept(graphed):
    place = graph_path(graphed).parent
    for name in ("1-crashed.hnsw", "1-crashed.tmp"):
        (place / name).write_bytes(b"x")
    assert index.sweep_files(graphed.context) == 2
    assert graph_path(graphed).exists()
    assert index.sweep_files(graphed.context) == 0


# -- filters -----------------------------------------------------------------------------------------------------


@st.composite
def filters(draw) -> EpisodeFilter:
    maybe = lambda strategy: draw(st.none() | strategy)  # noqa: E731
    days = st.integers(1, 29).map(lambda day: f"2026-01-{day:02d}T00:00:00Z")
    where = st.one_of(
        st.tuples(st.just("n"), st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), st.integers(0, 3600)),
        st.tuples(st.just("tier.name"), st.sampled_from(["=", "!="]), st.sampled_from(["gold", "tin", "lead"])),
        st.tuples(st.just("n"), st.just(">="), st.just("100")),  # of another type: nothing passes
    )
    return EpisodeFilter(
        agent_id=maybe(st.sampled_from(["agent0", "agent2", "nobody"])),
        session_id=maybe(st.integers(0, 95).map(lambda n: f"s{n}")) if draw(st.booleans()) else None,
        min_reward=maybe(st.sampled_from([0.0, 0.3, 0.95, 1.0])),
        success=maybe(st.booleans()),
        since=maybe(days),
        until=maybe(days),
        where=draw(st.lists(where, max_size=2)),
    )


@given(filter_=filters(), k=st.sampled_from([1, 10, 99, 100, 101, 500]), text=st.sampled_from(QUESTIONS))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_filter_the_nearest_of_what_it_lets_through_are_found(graphed, filter_, k: int, text: str):
    key, model = graphed.key(), active(graphed)
    if graphed.store.episodes.count(key) > 1500:
        delete(graphed, range(0, 1500, 10))
        ship_seasoned(graphed, seasoned(3500, 60))
    pool = max(rank.POOL, k)
    with graphed.store.read():
        search = index.search(graphed.context, key, model, text)
        sieve = Sieve(graphed.context, key, filter_)
        found = sieve.best(search.nearest, lambda seqs: search.nearest(pool, seqs), pool, search.rows)
        passing = graphed.store.episodes.seqs(key, filter_)
        everything = Search(index.parts(graphed.context, key, model), graphed.embedder.embed([text])[0])
        exact = everything.nearest(pool, passing)
    assert list(found.items()) == list(exact.items())


def test_the_answer_is_the_same_however_it_was_come_by(graphed):
    """Nothing filtered, and a filter that lets everything through: the same candidates are fused."""
    for text in QUESTIONS:
        for k in (10, 300):
            answers = [
                graphed.hits(text, k=k, mode="semantic", reward_weight=1.0, filter=filter_)
                for filter_ in (EpisodeFilter(), EpisodeFilter(until="2027-01-01T00:00:00Z"))
            ]
            assert answers[0] == answers[1], (text, k)
