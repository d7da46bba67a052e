"""What a hub does when nobody is looking: graphs built beside it, published, opened, and tried again."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fedctl.hub.background import RETRY_S, Background
from fedctl.log import Log, LogOptions
from fedctl.messages import memory as m
from fedctl.model.episode import Embedding, EpisodeDraft
from fedctl.operations import index
from fedctl.recall import index as flat
from fedctl.recall.index import to_blobs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

GIVE_UP_S = 60.0
ROWS = 700


@pytest.fixture(autouse=True)
def _small_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("TAIL_ROWS", 100), ("GRAPH_ROWS", 600), ("GRAPH_BEHIND_ROWS", 150)):
        monkeypatch.setattr(index, name, value)


class Tended:
    """A home with a background thread of its own beside the connection that asks."""

    def __init__(self, bench: Any) -> None:
        self.bench = bench
        bench.context = bench.context._replace(hub=object())  # its queries leave the files to this thread
        self.lines: list[str] = []
        self.background: Background | None = None
        self.start()

    def start(self) -> None:
        self.bench.context.recall.open_graphs.clear()
        context = self.bench.context.fork()
        self.background = Background(
            context._replace(log=self.lines.append),
            idle_s=lambda: 3600.0,
            log=Log(LogOptions("detailed"), self.bench.clock, self.lines.append),
        )

    def stop(self) -> None:
        assert self.background is not None
        self.background.stop()
        assert self.background.join(GIVE_UP_S)

    def keep(self, first: int, count: int, tenant: str = "default") -> None:
        """Store episodes with their vectors, and say that something was committed."""
        made = [EpisodeDraft(id=f"e{n}", task=f"word{n} group{n % 7}") for n in range(first, first + count)]
        tag, blobs = self.bench.context.recall.model_tag, to_blobs(self.bench.embedder.embed([e.task for e in made]))
        self.bench.keep(*(
            EpisodeDraft(id=one.id, task=one.task, embedding=Embedding(model=tag, vectors=[blob]))
            for one, blob in zip(made, blobs, strict=True)
        ), tenant=tenant)  # fmt: skip
        assert self.background is not None
        self.background.wake()

    @property
    def graphs(self) -> list[tuple[int, int, str]]:
        return self.bench.store.indexes.graphs()

    def form(self, text: str, tenant: str = "default") -> str | None:
        (hit,) = self.bench.call(m.QueryEpisodes(text=text, mode="semantic", explain=True, k=1), tenant=tenant).hits
        return hit.match.index


def wait_for(condition: Callable[[], Any]) -> None:
    give_up_at = time.monotonic() + GIVE_UP_S
    while not condition():
        assert time.monotonic() < give_up_at, "it did not happen"
        time.sleep(0.01)


@pytest.fixture
def tended(bench) -> Iterator[Tended]:
    made = Tended(bench)
    yield made
    made.stop()


def test_a_tenant_that_has_grown_big_gets_a_graph_that_is_asked(tended: Tended):
    tended.keep(0, ROWS)
    wait_for(lambda: tended.bench.context.recall.open_graphs)
    assert tended.form("word7 group0") == "hnsw"
    assert tended.lines == []


def test_a_graph_is_added_to_when_much_has_come(tended: Tended):
    tended.keep(0, ROWS)
    wait_for(lambda: tended.form("word7 group0") == "hnsw")
    tended.keep(ROWS, 300)
    wait_for(lambda: tended.form(f"word{ROWS + 50} group{(ROWS + 50) % 7}") == "hnsw")
    assert len(list((tended.bench.home / "index").rglob("*.hnsw"))) == 1
    assert tended.lines == []


def test_a_hub_opens_the_graph_that_it_finds_and_sweeps_what_a_killed_one_left(tended: Tended):
    tended.keep(0, ROWS)
    wait_for(lambda: tended.graphs)
    tended.stop()
    before, folder = tended.graphs, tended.bench.home / "index" / "1"
    for name in ("1-killed.tmp", "1-killed.hnsw", "1-killed.f16"):
        (folder / name).write_bytes(b"half")
    tended.start()
    wait_for(lambda: tended.bench.context.recall.open_graphs)
    assert tended.form("word7 group0") == "hnsw"
    assert tended.graphs == before
    assert not list(folder.glob("1-killed.*"))


def test_a_graph_that_is_lost_is_told_of_once_and_built_anew(tended: Tended):
    tended.keep(0, ROWS)
    wait_for(lambda: tended.form("word7 group0") == "hnsw")
    before = tended.graphs
    next((tended.bench.home / "index").rglob("*.hnsw")).unlink()
    wait_for(lambda: tended.form("word7 group0") == "hnsw")
    assert tended.graphs != before
    assert len(tended.lines) == 1
    assert "graph of tenant 1: missing or damaged" in tended.lines[0]


def test_a_flat_file_that_is_lost_is_told_of_once_and_the_graph_stays(tended: Tended):
    tended.keep(0, ROWS)
    wait_for(lambda: tended.form("word7 group0") == "hnsw")
    before = tended.graphs
    next((tended.bench.home / "index").rglob("*.f16")).unlink()
    tended.background.wake()
    wait_for(lambda: tended.lines)
    wait_for(lambda: tended.form("word7 group0") == "hnsw")
    assert tended.graphs == before
    assert len(tended.lines) == 1
    assert "index of tenant 1: missing or damaged" in tended.lines[0]


def test_a_build_that_fails_is_told_of_and_tried_again_later(tended: Tended, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as broken:
        broken.setattr(sys, "executable", "/bin/false")
        tended.keep(0, ROWS)
        wait_for(lambda: tended.lines)
        for _ in range(3):  # not again at once, whoever wakes it
            tended.background.wake()
            wait_for(lambda: not tended.background._wake.is_set())
    assert tended.form("word7 group0") == "flat"
    tended.bench.clock.advance(round(RETRY_S * 1000) - 1)
    tended.background.wake()
    wait_for(lambda: not tended.background._wake.is_set())
    assert tended.graphs == []
    tended.bench.clock.advance(1)
    tended.background.wake()
    wait_for(lambda: tended.form("word7 group0") == "hnsw")
    assert len(tended.lines) == 1
    assert "error.graph" in tended.lines[0]
    assert "building a graph failed" in tended.lines[0]


def test_one_whose_build_fails_keeps_no_other_from_its_graph(
    tended: Tended, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    picky = tmp_path / "picky"
    picky.write_text(f'#!/bin/sh\ncase "$3" in */index/1/*) exit 3 ;; esac\nexec "{sys.executable}" "$@"\n')
    picky.chmod(0o700)
    tended.stop()
    for tenant in ("default", "other"):
        tended.keep(0, ROWS, tenant)
    assert tended.bench.key() == 1  # whose turn would be first
    with monkeypatch.context() as broken:
        broken.setattr(sys, "executable", str(picky))
        tended.start()
        wait_for(lambda: tended.form("word7 group0", "other") == "hnsw")
        assert tended.form("word7 group0") == "flat"
        assert len(tended.lines) == 1
        assert "building a graph failed: exit 3" in tended.lines[0]
        wait_for(lambda: not tended.background._failed)  # nobody else waits: it will be tried again
        tended.bench.clock.advance(round(RETRY_S * 1000))
        tended.background.wake()
        wait_for(lambda: len(tended.lines) == 2)
        wait_for(lambda: not tended.background._failed)
    tended.bench.clock.advance(round(RETRY_S * 1000))
    tended.background.wake()
    wait_for(lambda: tended.form("word7 group0") == "hnsw")
    assert len(tended.lines) == 2


@pytest.mark.parametrize("most_bytes", [flat.RESIDENT_MAX_BYTES, 0])
def test_a_flat_file_that_is_cut_in_its_place_is_made_anew_and_its_graph_is_asked_again(
    tended: Tended, monkeypatch: pytest.MonkeyPatch, most_bytes: int
):
    monkeypatch.setattr(flat, "RESIDENT_MAX_BYTES", most_bytes)
    tended.keep(0, ROWS)
    wait_for(lambda: tended.form("word7 group0") == "hnsw")
    before = tended.graphs
    path = next((tended.bench.home / "index").rglob("*.f16"))
    os.truncate(path, path.stat().st_size // 2)
    wait_for(lambda: tended.form("word7 group0") == "hnsw")
    assert not path.exists()
    assert tended.graphs == before
    (line,) = tended.bench.logged + tended.lines  # whoever met it first
    assert "index of tenant 1: missing or damaged" in line


def test_a_build_is_called_off_when_the_hub_stops(tended: Tended, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    endless = tmp_path / "endless"
    endless.write_text("#!/bin/sh\nexec sleep 1000\n")
    endless.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(endless))
    tended.keep(0, ROWS)
    wait_for(lambda: tended.background._building)
    process = tended.background._building[1]._process
    tended.stop()
    assert process.returncode == -9
    assert not Path(f"/proc/{process.pid}").exists()
