"""Vectors and index files in step with the rows, whatever happens to either."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedctl.errors import DiskFull, Failure
from fedctl.messages import memory as m
from fedctl.model.episode import Embedding, EpisodeDraft
from fedctl.operations import embedding
from fedctl.operations.context import Recall
from fedctl.operations.embedding import APPEND_ROWS, TAIL_ROWS
from fedctl.recall.embedder import ON_BOARD, Embedder
from fedctl.recall.index import Files, IndexFolder, Part, to_blobs

ROOT = Path(__file__).parents[2]
COUNT = TAIL_ROWS + 100


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
            assert embedding.compact(bench.context, bench.key(tenant))
        bench.store.checkpoint(truncate=True)
        bench.close()
        templates["filled"] = bench.home
    shutil.copytree(templates["filled"], tmp_path / "filled")
    bench = make_bench(home=tmp_path / "filled")
    embedding.maintain(bench.context)  # the copies look new: that is noted
    return bench


def active(bench):
    model = embedding.active_model(bench.context)
    assert model is not None
    return model


def snapshot(bench, tenant: str = "default"):
    return bench.store.embeddings.snapshot(bench.key(tenant), active(bench).key)


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
    assert not embedding.maintain(bench.context)
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
    assert not embedding.compact(filled.context, filled.key())
    assert index_stats(filled).tail == 50
    assert_right(filled)
    ship(filled, drafts(COUNT + 50, TAIL_ROWS))
    assert embedding.compact(filled.context, filled.key())
    assert files_of(filled) == before
    assert (index_stats(filled).vectors, index_stats(filled).tail) == (COUNT + 50 + TAIL_ROWS, 0)
    assert [(one.first, one.vectors) for one in filled.store.embeddings.blocks(filled.key(), active(filled).key)] == [
        (0, COUNT), (COUNT, 50 + TAIL_ROWS),
    ]  # fmt: skip
    assert embedding.verify_all(filled.context, filled.key(), always=True) is None
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
    assert embedding.compact(bench.context, bench.key())
    bench.keep(EpisodeDraft(id="late", task="t", embedding=chunks))
    assert embedding.compact(bench.context, bench.key())
    blocks = [(one.first, one.vectors) for one in bench.store.embeddings.blocks(bench.key(), active(bench).key)]
    assert blocks == [(0, APPEND_ROWS), (APPEND_ROWS, 1), (APPEND_ROWS + 1, APPEND_ROWS)]
    for rewritten in (False, True):
        assert embedding.compact(bench.context, bench.key(), rewrite=rewritten) is rewritten
        assert embedding.verify_all(bench.context, bench.key(), always=True) is None
        assert nearest(bench, "short", 1) == ["short"]
        assert set(nearest(bench, "word77", 2)) == {"long", "late"}
    blocks = [(one.first, one.vectors) for one in bench.store.embeddings.blocks(bench.key(), active(bench).key)]
    assert blocks == [(0, APPEND_ROWS), (APPEND_ROWS, APPEND_ROWS), (2 * APPEND_ROWS, 1)]


def test_an_episode_of_many_chunks_counts_by_its_best(bench):
    tag = bench.context.recall.model_tag
    blobs = to_blobs(bench.embedder.embed(["nothing like it", "the very thing", "else"]))
    bench.keep(EpisodeDraft(id="long", task="t", embedding=Embedding(model=tag, vectors=blobs)))
    ship(bench, [EpisodeDraft(id="short", task="the thing")])
    for _ in range(2):
        assert nearest(bench, "the very thing") == ["long", "short"]
        embedding.compact(bench.context, bench.key(), rewrite=True)
    assert index_stats(bench).vectors == 4


def test_upkeep_comes_to_an_end(filled):
    for tenant in ("default", "other"):
        ship(filled, drafts(COUNT, TAIL_ROWS + 1), tenant)
    done = [embedding.maintain(filled.context) for _ in range(20)]
    assert done[0]
    assert not done[-1]
    assert index_stats(filled).tail == index_stats(filled, "other").tail == 0


# -- deletions ---------------------------------------------------------------------------------------------------


def test_a_file_that_is_one_fifth_dead_is_written_anew(filled):
    before = files_of(filled)
    gone = [f"e{n}" for n in range(int(COUNT * 0.19))]
    filled.call(m.DeleteEpisodes(ids=gone))
    assert not embedding.compact(filled.context, filled.key())
    assert files_of(filled) == before
    assert_right(filled)
    filled.call(m.DeleteEpisodes(ids=[f"e{n}" for n in range(len(gone), len(gone) + 30)]))
    assert embedding.compact(filled.context, filled.key())
    assert files_of(filled) != before
    assert not any(path.exists() for path in before)
    assert index_stats(filled).vectors == COUNT - len(gone) - 30
    assert_right(filled)


def test_of_a_tenant_that_deleted_everything_no_file_is_left(filled):
    for start in (0, 1000):
        filled.call(m.DeleteEpisodes(ids=[f"e{n}" for n in range(start, min(start + 1000, COUNT))]))
    assert nearest(filled, "word7") == []
    assert embedding.compact(filled.context, filled.key())
    assert snapshot(filled) is None
    assert not list((filled.home / "index" / str(filled.key())).iterdir())
    assert nearest(filled, "word7") == []
    assert_right(filled, "other")


def test_an_episode_that_is_deleted_while_it_is_being_embedded_has_no_vector(bench):
    class Slow:
        """While it thinks, somebody deletes what it thinks about."""

        def __getattr__(self, name: str) -> Any:
            return getattr(bench.embedder, name)

        def embed(self, texts: Sequence[str]) -> Any:
            bench.call(m.DeleteEpisodes(ids=["b"]))
            return bench.embedder.embed(texts)

    bench.keep("a", "b", "c")
    other = bench.another(embedder=Slow())
    assert embedding.embed_pending(other.context, budget_s=None) == 0
    assert bench.store.embeddings.count(bench.key(), active(bench).key) == 2
    assert bench.store.integrity() == []


def test_what_two_embed_at_once_has_one_vector(bench):
    class Slow:
        """While it thinks, somebody else is done."""

        def __getattr__(self, name: str) -> Any:
            return getattr(bench.embedder, name)

        def embed(self, texts: Sequence[str]) -> Any:
            embedding.embed_pending(bench.context, budget_s=None)
            return bench.embedder.embed(texts)

    bench.keep("a", "b", "c")
    other = bench.another(embedder=Slow())
    assert embedding.embed_pending(other.context, budget_s=None) == 0
    assert bench.store.embeddings.count(bench.key(), active(bench).key) == 3


def test_embedding_stops_at_its_budget_and_takes_the_newest_first(make_bench, make_embedder, clock):
    bench = make_bench(embedder=make_embedder(clock=clock, cost_ms=10), clock=clock)
    bench.keep(*(f"e{n}" for n in range(100)))
    assert embedding.embed_pending(bench.context, budget_s=0.5) == 36
    assert {one.seq for one in bench.store.embeddings.queued(None, 100)} == set(range(1, 37))
    assert embedding.embed_pending(bench.context, budget_s=None, tenant_key=999) == 0
    assert embedding.embed_pending(bench.context, budget_s=None) == 0


@pytest.mark.parametrize("window", [8, 64, 128])
def test_long_episodes_are_embedded_to_the_end_by_a_model_that_reads_little_at_once(make_bench, tmp_path, window):
    """Where a head and the overlap fill the window there must be pieces all the same, or the queue never empties."""
    for name in ("model.onnx", "model.onnx.data", "tokenizer.json"):
        shutil.copy(ON_BOARD / name, tmp_path / name)
    (tmp_path / "sentence_bert_config.json").write_text(f'{{"max_seq_length": {window}}}')
    bench = make_bench(embedder=Embedder(tmp_path))
    bench.keep(EpisodeDraft(id="long", task="a long name for a task " * 20, input="some text to cut " * 40))
    assert embedding.embed_pending(bench.context, budget_s=None) == 0
    (episode,) = bench.call(m.ListEpisodes(with_vectors=True)).episodes
    assert 1 < len(episode.embedding.vectors) <= embedding.PIECES_MAX


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
    assert embedding.compact(filled.context, filled.key())
    assert index_stats(filled).vectors == COUNT
    assert files_of(filled) != before
    assert embedding.verify_all(filled.context, filled.key(), always=True) is None
    filled.logged.clear()
    for bench in (filled, other):
        assert_right(bench)
        assert_right(bench, "other")
    assert filled.logged == []


@pytest.mark.parametrize("damage", DAMAGE)
def test_upkeep_mends_what_no_search_has_met_yet(filled, damage: Callable[[Files], None]):
    damage(files_of(filled))
    assert embedding.verify_all(filled.context, filled.key(), always=False) is not None
    assert embedding.maintain(filled.context)
    assert embedding.verify_all(filled.context, filled.key(), always=True) is None
    assert_right(filled)
    assert_right(filled, "other")


def test_a_file_that_was_only_touched_is_verified_once_and_noted_as_good(filled):
    before = snapshot(filled)
    os.utime(files_of(filled).vectors, ns=(1, 1))
    assert_right(filled)
    assert filled.logged == []
    assert not embedding.compact(filled.context, filled.key())
    assert snapshot(filled).generation == before.generation
    assert snapshot(filled).stamp != before.stamp


def test_a_file_is_opened_and_verified_once_and_not_at_every_question(filled):
    class Counting(IndexFolder):
        opened = verified = 0

        def open(self, *args: Any) -> Any:
            self.opened += 1
            return super().open(*args)

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


def test_a_file_that_was_forgotten_is_not_kept_open(filled):
    nearest(filled, "word7")
    assert filled.context.recall.open_parts
    with filled.store.write():
        filled.store.embeddings.drop_snapshot(filled.key(), active(filled).key, snapshot(filled).generation)
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
    assert embedding.verify_all(filled.context, key, always=True) is None
    assert embedding.compact(filled.context, key)
    assert index_stats(filled).vectors == COUNT + TAIL_ROWS + 1
    assert embedding.verify_all(filled.context, key, always=True) is None
    assert_right(filled)
    assert filled.logged == []


def test_files_of_a_generation_that_was_never_published_are_swept(filled):
    key, model = filled.key(), active(filled)
    rows = filled.store.embeddings.after(key, model.key, 0, 300)
    orphan = filled.context.recall.index.files(key, model.key, "crashed")
    filled.context.recall.index.append(orphan, 0, rows, model.dim)
    assert embedding.sweep_files(filled.context) == 2
    assert not orphan.vectors.exists()
    assert embedding.sweep_files(filled.context) == 0
    assert_right(filled)


def test_a_process_killed_in_the_middle_of_an_append_leaves_right_answers(filled):
    ship(filled, drafts(COUNT, TAIL_ROWS + 1))
    code = """
import os, sys
from pathlib import Path
from fedctl.clock import Clock
from fedctl.operations import embedding
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
embedding.compact(context, 1)
"""
    assert subprocess.run([sys.executable, "-c", code, str(filled.home)], cwd=ROOT, check=False).returncode == -9
    assert files_of(filled).vectors.stat().st_size > COUNT * 48
    assert_right(filled)
    assert embedding.compact(filled.context, filled.key())
    assert embedding.verify_all(filled.context, filled.key(), always=True) is None
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
    assert not embedding.maintain(context)


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
    assert embedding.maintain(bench.context)
    assert (index_stats(bench, "a").form, index_stats(bench, "b").form) == ("none", "flat")
    assert nearest(bench, "word7", 1, "a") == ["e7"]


# -- at the same time --------------------------------------------------------------------------------------------


def test_upkeep_is_for_one_at_a_time(filled):
    ship(filled, drafts(COUNT, TAIL_ROWS + 1))
    descriptor = os.open(filled.home / "maintenance.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    assert not embedding.maintain(filled.context)
    assert not embedding.compact(filled.context, filled.key(), rewrite=True)
    assert embedding.sweep_files(filled.context) == 0
    assert_right(filled)
    os.close(descriptor)
    assert embedding.maintain(filled.context)


def test_a_search_that_has_begun_goes_on_while_the_file_is_replaced(filled):
    model, key = active(filled), filled.key()
    parts: list[Part] = embedding.parts(filled.context, key, model)
    before = [part.vectors.copy() for part in parts]
    assert embedding.compact(filled.another().context, key, rewrite=True)
    assert all(np.array_equal(part.vectors, copy) for part, copy in zip(parts, before, strict=True))
    assert_right(filled)
    assert filled.logged == []


def test_a_reader_whose_snapshot_names_a_file_that_was_replaced_meanwhile_searches_rows_and_forgets_nothing(filled):
    other = filled.another()
    with other.store.read():
        assert other.store.embeddings.snapshot(filled.key(), active(filled).key) is not None
        assert embedding.compact(filled.context, filled.key(), rewrite=True)
        old = other.store.embeddings.snapshot(filled.key(), active(filled).key)
        assert old.generation != snapshot(filled).generation
        assert embedding._open(other.context, filled.key(), active(filled), old) is None
    embedding._give_up(other.context, filled.key(), active(filled), old)
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
            embedding._give_up(other.context, filled.key(), active(filled), old)
            return super().append(files, *args)

    filled.context = filled.context._replace(recall=Recall(filled.embedder, Interrupted(filled.home / "index")))
    embedding.compact(filled.context, filled.key())
    assert snapshot(filled) is None
    assert list((filled.home / "index" / str(filled.key())).iterdir()) == []
    assert_right(filled)
    assert embedding.compact(other.context, filled.key())
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
            embedding.compact(bench.context, bench.key(), rewrite=round_ % 2 == 0)

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
    embedding.compact(filled.context, filled.key(), rewrite=True)
    assert embedding.verify_all(filled.context, filled.key(), always=True) is None
    assert_right(filled)
    assert not [line for line in filled.logged if "damaged" in line]


def test_another_process_compacts_and_this_one_sees_the_same(filled):
    ship(filled, drafts(COUNT, TAIL_ROWS + 1))
    code = """
import sys
from pathlib import Path
from fedctl.clock import Clock
from fedctl.operations import embedding
from fedctl.operations.context import Context, Recall
from fedctl.recall.index import IndexFolder
from fedctl.store.store import Store
home = Path(sys.argv[1])
context = Context(home=home, store=Store.open(home, Clock(), create=False),
                  recall=Recall(None, IndexFolder(home / "index")), clock=Clock(), access=None)
assert embedding.compact(context, 1)
assert embedding.compact(context, 1, rewrite=True)
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
    assert {key for _, key, _ in bench.store.embeddings.snapshots()} == {active(bench).key}
    assert len(list((bench.home / "index").rglob("*.f16"))) == 2
    for tenant in ("default", "other"):
        assert_right(bench, tenant)
        assert index_stats(bench, tenant).model == "better@0/t2"


def test_a_store_takes_the_model_at_hand_and_keeps_it(bench, make_embedder):
    assert embedding.active_model(bench.context) is None
    assert embedding.model_note(bench.context, None) is None
    with bench.store.write():
        mine = embedding.adopt_model(bench.context)
    other = bench.another(embedder=make_embedder("better", 16))
    with other.store.write():
        assert embedding.adopt_model(other.context) is None
        switched = embedding.adopt_model(other.context, switch=True)
    assert (mine.dim, switched.dim) == (24, 16)
    assert embedding.active_model(bench.context) == switched
    assert "better@0" in (embedding.model_note(bench.context, switched) or "")
