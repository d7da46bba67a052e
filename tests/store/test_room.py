"""Room on the disk: writes stop before it is full, what frees space goes on, and it recovers by itself."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from fedctl.errors import DiskFull
from fedctl.messages import memory as m
from fedctl.messages import pool as p
from fedctl.messages.store import CheckStore
from fedctl.model.episode import EpisodeFilter
from fedctl.model.pool import ItemDraft
from fedctl.store import room
from fedctl.store.room import NoRoomError, Reserve, Space

MIB = 1 << 20
SMALL = Space(free_bytes=MIB, watermark_bytes=MIB // 2, reserve_bytes=MIB // 4)


def statvfs(size: int, free: int) -> os.statvfs_result:
    return os.statvfs_result((4096, 4096, size // 4096, free // 4096, free // 4096, 0, 0, 0, 0, 255, 0))


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="Linux has a file system that tells nothing of its size")
def test_a_file_system_that_does_not_tell_how_large_it_is_is_not_a_full_one():
    assert os.statvfs("/proc").f_blocks == 0
    assert room.look("/proc") is None


def test_the_watermark_scales_with_the_disk_up_to_a_limit():
    assert Space.of(statvfs(8 * MIB, MIB)) == SMALL
    large = Space.of(statvfs(1 << 40, 1 << 39))
    assert (large.watermark_bytes, large.reserve_bytes) == (room.WATERMARK_MAX_BYTES, room.RESERVE_MAX_BYTES)


@pytest.mark.parametrize(
    ("free", "needed", "inside", "refused"),
    [
        (MIB, 0, 0, False),
        (MIB // 2, 0, 0, False),
        (MIB // 2 - 1, 0, 0, True),
        (MIB // 2 - 1, 0, 1, False),  # pages that are free inside the file are room too
        (MIB // 8 - 1, 0, 100 * MIB, True),  # but the log needs room of its own
        (MIB, MIB // 2, 0, False),
        (MIB, MIB // 2 + 1, 0, True),
        (MIB, 2 * MIB, 100 * MIB, False),
        (MIB, 2 * MIB + 2, 100 * MIB, True),
    ],
)
def test_what_is_refused(free: int, needed: int, inside: int, refused: bool):
    assert SMALL._replace(free_bytes=free).refuses(needed, inside) is refused


def test_where_there_is_plenty_nothing_else_is_looked_at(tmp_path):
    free = os.statvfs(tmp_path)
    assert (room.look(str(tmp_path)) is None) == (free.f_bavail * free.f_frsize >= room.PLENTY_BYTES)
    assert room.look(str(tmp_path / "not there")) is None


def test_a_reserve_really_takes_its_room_and_is_made_only_where_there_is_enough(make_disk):
    disk = make_disk("8m")
    reserve = Reserve(disk.folder / "store.db")
    reserve.make()
    free = os.statvfs(disk.folder)
    assert (free.f_blocks - free.f_bavail) * free.f_frsize == MIB // 4
    assert reserve.path.stat().st_mode & 0o777 == 0o600
    assert reserve.give_up()
    assert not reserve.give_up()
    fill(disk.folder, leave=MIB // 8 + MIB // 4 - 4096)
    reserve.make()
    assert reserve.path.stat().st_size == 3 * MIB // 16  # as much as leaves the log its own
    reserve.give_up()
    fill(disk.folder, leave=MIB // 8)
    reserve.make()
    assert not reserve.path.exists()


def fill(folder, *, leave: int) -> None:
    """Let another program take all of a disk but so much."""
    state = os.statvfs(folder)
    with (folder / "junk").open("ab") as file:
        file.write(b"x" * (state.f_bavail * state.f_frsize - leave))


@pytest.fixture
def small(make_disk, make_bench):
    """A home on a disk of 8 MiB, with 200 episodes, 50 items that are done, and a reserve."""
    disk = make_disk("8m")
    bench = make_bench(disk.folder / "home")
    for number in range(4):
        bench.keep(*[f"{number}-{one}" for one in range(50)], input="x" * 300)
    bench.call(p.PushItems(pool="p", items=[ItemDraft(id=f"i{number}", data=number) for number in range(50)]))
    bench.store.make_reserve()
    return disk, bench


def test_below_the_watermark_nothing_is_written_and_everything_can_be_read(small):
    disk, bench = small
    fill(disk.folder, leave=MIB // 2 - 4096)
    for request in (
        m.StoreEpisodes(episodes=[]),
        p.PushItems(pool="p", items=[ItemDraft(id="x", data=1)]),
        p.ClaimItems(pool="p", worker_id="w"),
    ):
        refusal = bench.refusal(request)
        assert isinstance(refusal, NoRoomError)
        assert (refusal.exit, refusal.details["watermark_bytes"]) == (15, MIB // 2)
    assert len(bench.ids()) == 200
    assert bench.hits("0-7", mode="keyword")[0] == "0-7"
    assert bench.hits("0-7")  # with a note that no vectors were added
    stats = bench.call(m.MemoryStats())
    assert (stats.read_only, stats.pending_embeddings) == (True, 200)
    assert bench.call(CheckStore()).read_only
    (disk.folder / "junk").unlink()
    assert bench.keep("again")[0].ok
    assert not bench.call(m.MemoryStats()).read_only


def test_a_request_that_is_too_large_for_what_is_left_takes_nothing_from_the_others(small, draft):
    disk, bench = small
    fill(disk.folder, leave=MIB)
    large = m.StoreEpisodes(episodes=[draft("large", input="x" * 700_000)])
    assert isinstance(bench.refusal(large), NoRoomError)
    assert bench.keep("small")[0].ok


@pytest.mark.parametrize("leave", [0, 4096, 300_000])
def test_on_a_full_disk_what_frees_space_is_done_and_makes_room(small, leave: int):
    disk, bench = small
    fill(disk.folder, leave=leave)
    assert isinstance(bench.refusal(m.StoreEpisodes(episodes=[])), DiskFull)
    request = m.DeleteEpisodes(filter=EpisodeFilter(since="2000-01-01T00:00:00Z"))
    gone, more = 0, True
    while more:
        answer = bench.call(request)
        gone, more = gone + len(answer.deleted), answer.more
    assert gone == 200
    more = True
    while more:
        more = bench.call(p.PurgePool(pool="p")).more
    assert bench.call(CheckStore(full=True)).findings == []
    (disk.folder / "junk").unlink()
    assert bench.keep("again")[0].ok
    assert (bench.home / "reserve").exists()


def test_a_large_episode_is_deleted_on_a_full_disk_though_its_zeroes_would_not_fit_into_the_log(small):
    disk, bench = small
    assert bench.keep("large", input="x" * 900_000)[0].ok
    fill(disk.folder, leave=0)
    assert bench.call(m.DeleteEpisodes(ids=["large"])).deleted == ["large"]


def test_what_cannot_be_written_as_json_is_refused_by_its_own_name_on_a_small_disk_too(small):
    _, bench = small
    for data in ("\ud800", 10**5000, object()):
        [result] = bench.call(p.PushItems(pool="p", items=[ItemDraft(id="i", data=data)])).results
        assert result.error is not None
        assert result.error["exit"] == 2


def test_the_log_stays_short_where_the_disk_is_small(small):
    _, bench = small
    longest = 0
    for number in range(60):
        bench.keep(*[f"more-{number}-{one}" for one in range(10)], input="y" * 500)
        longest = max(longest, bench.store.wal_bytes())
    assert longest <= MIB  # of the 4 MiB that SQLite would let it have
    assert bench.store.wal_bytes() <= MIB


def test_a_transaction_that_fills_the_disk_is_undone_and_leaves_no_log_behind(small):
    disk, bench = small
    before = len(bench.ids())
    fill(disk.folder, leave=MIB)
    with pytest.raises(DiskFull), bench.store.write():
        for number in range(4000):
            bench.store.settings.put(f"s{number}", "x" * 1000)
    assert bench.store.wal_bytes() <= 256 << 10
    assert len(bench.ids()) == before
    assert bench.keep("next")[0].ok
    assert bench.call(CheckStore(full=True)).findings == []


def test_index_files_are_not_written_below_the_watermark(small):
    from fedctl.operations import index

    disk, bench = small
    bench.hits("0-7")
    fill(disk.folder, leave=MIB // 2 - 4096)
    assert not index.compact(bench.context, bench.key())
    with pytest.raises(DiskFull):
        index.compact(bench.context, bench.key(), rewrite=True)
    assert not list(bench.home.glob("index/*/*"))
    (disk.folder / "junk").unlink()
    assert index.compact(bench.context, bench.key(), rewrite=True)


def test_a_limit_on_the_size_of_files_is_a_full_disk_too(bench):
    import resource

    bench.keep("before")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = (bench.home / "store.db-wal").stat().st_size + 8192
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        refusal = bench.refusal(m.StoreEpisodes(episodes=[m.EpisodeDraft(id="e", task="t", input="x" * 100_000)]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert isinstance(refusal, DiskFull)
    assert bench.keep("after")[0].ok
    assert bench.ids() == ["before", "after"]


def test_a_store_that_is_somebody_s_own_file_gets_no_reserve_beside_it(make_disk, make_clock):
    from fedctl.store.store import Store

    disk = make_disk("8m")
    store = Store.open_file(disk.folder / "queue.db", make_clock(), create=True)
    with store.write():
        store.settings.put("a", "b")
    store.make_reserve()
    store.close()
    assert sorted(path.name for path in disk.folder.iterdir()) == [
        "queue.db", "queue.db-shm", "queue.db-wal", "queue.lock", "queue.use"
    ]  # fmt: skip
    assert shutil.disk_usage(disk.folder).free > 6 * MIB


def test_a_new_store_on_a_small_disk_has_its_reserve_from_the_beginning(make_disk, make_clock):
    from fedctl.store.store import Store

    disk = make_disk("8m")
    Store.open(disk.folder, make_clock(), create=True).close()
    assert (disk.folder / "reserve").stat().st_size == MIB // 4


@pytest.mark.parametrize(
    ("log", "grows", "inside", "fits"),
    [
        (MIB // 2, MIB // 2 - room.LAST_BYTES, None, True),
        (MIB // 2, MIB // 2 - room.LAST_BYTES + 1, None, False),
        (MIB // 4, MIB // 2, 0, True),
        (MIB // 4, MIB // 2 + 1, 0, False),
        (MIB // 4, MIB // 2 + 1, 1, True),
        (MIB // 2, 3 * MIB // 8 + 1, MIB, False),  # the log must have its own
    ],
)
def test_what_a_transaction_may_take(log: int, grows: int, inside: int | None, fits: bool):
    assert SMALL.holds(log, grows, inside) is fits


def free_bytes(disk) -> int:
    return shutil.disk_usage(disk.folder).free


def test_words_that_there_is_no_room_to_merge_are_merged_later_and_nothing_else_suffers(small):
    disk, bench = small
    text = "a b " * 8000  # one word cannot be merged by parts
    for number in range(60):
        bench.keep(f"large-{number}", input=text)
    fill(disk.folder, leave=900_000)
    before = free_bytes(disk)
    answer = bench.call(m.EraseEpisodes(ids=["large-3"]))
    assert (answer.deleted, answer.complete) == (["large-3"], False)
    assert "too little room" in answer.notes[0]
    assert free_bytes(disk) >= before - 65536
    assert (bench.home / "reserve").exists()
    assert bench.call(m.DeleteEpisodes(ids=["large-4"])).deleted == ["large-4"]
    assert bench.keep("another")[0].ok
    (disk.folder / "junk").unlink()
    assert bench.call(m.EraseEpisodes(ids=["large-3"])).deleted == ["large-3"]  # what it finished
    assert bench.call(CheckStore(full=True)).findings == []


def test_words_are_merged_by_parts_before_all_of_them_would_be_in_somebody_s_transaction(small):
    disk, bench = small
    for number in range(90):
        bench.keep(f"large-{number}", input=" ".join(f"{number}w{one}" for one in range(1500)))
    most = bench.store.episodes.word_segments(bench.key())
    assert most < 2 * 24
    fill(disk.folder, leave=MIB)
    for number in range(40):
        assert bench.keep(f"more-{number}", input="x")[0].ok
    assert bench.call(CheckStore(full=True)).findings == []


def test_a_vacuum_without_room_says_what_it_needs_and_what_to_do(small):
    from fedctl.operations import upkeep

    disk, bench = small
    bench.keep("large", input="x" * 900_000)
    bench.store.checkpoint(truncate=True)
    fill(disk.folder, leave=MIB)
    home, clock = bench.home, bench.clock
    bench.store.close()
    with pytest.raises(DiskFull) as caught:
        upkeep.vacuum(home, clock)
    assert "second copy" in str(caught.value.hint)
    assert "move the home" in str(caught.value.hint)
