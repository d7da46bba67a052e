"""A hub on a disk that becomes full: it says so, goes on reading, lets space be freed, and recovers by itself."""

from __future__ import annotations

import json
import os
import urllib.request
from types import SimpleNamespace

import pytest

from fedctl.errors import DiskFull
from fedctl.hub.coalesce import undoes_all
from fedctl.messages import memory as m
from fedctl.messages.hub import GetHubStats
from fedctl.model.episode import EpisodeDraft, EpisodeFilter
from fedctl.store.room import NoRoomError

MIB = 1 << 20


@pytest.fixture
def small(make_disk, start_hub):
    disk = make_disk("8m")
    return SimpleNamespace(folder=disk.folder, hub=start_hub(disk.folder / "home"))


def fill(folder, *, leave: int) -> None:
    state = os.statvfs(folder)
    (folder / "junk").write_bytes(b"x" * (state.f_bavail * state.f_frsize - leave))


def get(hub, path: str) -> str:
    with urllib.request.urlopen(hub.info.http_url + path, timeout=20) as answer:
        return answer.read().decode()


def draft(id_: str, **fields) -> EpisodeDraft:
    return EpisodeDraft(id=id_, task="a task", **fields)


def test_a_hub_says_that_it_is_read_only_and_takes_writes_again_when_there_is_room(small):
    caller = small.hub.owner()
    caller.call(m.StoreEpisodes(episodes=[draft(f"e{number}") for number in range(20)]))
    assert get(small.hub, "/health") == '{"status":"ok"}'
    fill(small.folder, leave=MIB // 4)
    with pytest.raises(DiskFull):
        caller.call(m.StoreEpisodes(episodes=[draft("refused")]))
    assert len(caller.call(m.ListEpisodes()).episodes) == 20
    assert json.loads(get(small.hub, "/health")) == {"status": "ok", "read_only": True}
    stats = caller.call(GetHubStats()).stats
    assert (stats.read_only, 0 < stats.disk_free_bytes <= MIB // 2) == (True, True)
    page = get(small.hub, "/metrics")
    assert "\nfedctl_store_read_only 1\n" in page
    assert "\nfedctl_disk_free_bytes " in page
    gone = caller.call(m.DeleteEpisodes(filter=EpisodeFilter(since="2000-01-01T00:00:00Z")))
    assert len(gone.deleted) == 20
    (small.folder / "junk").unlink()
    assert caller.call(m.StoreEpisodes(episodes=[draft("again")])).results[0].ok
    assert get(small.hub, "/health") == '{"status":"ok"}'


def test_a_hub_has_a_reserve(small):
    caller = small.hub.owner()
    caller.call(m.StoreEpisodes(episodes=[draft("e1")]))
    assert (small.hub.home / "reserve").stat().st_size == MIB // 4


def test_who_is_refused_for_want_of_room_takes_nothing_from_the_group(small):
    small.hub.owner().call(m.StoreEpisodes(episodes=[draft("e1")]))
    fill(small.folder, leave=MIB)
    callers = [small.hub.owner() for _ in range(2)]
    with pytest.raises(DiskFull):
        callers[0].call(m.StoreEpisodes(episodes=[draft("large", input="x" * 900_000)]))
    assert callers[1].call(m.StoreEpisodes(episodes=[draft("small")])).results[0].ok
    assert undoes_all(DiskFull("SQLite has undone it"))
    assert not undoes_all(NoRoomError("refused before it began"))
