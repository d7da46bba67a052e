"""The online copy: one moment of the store, whoever writes meanwhile."""

from __future__ import annotations

import pytest

from fedctl.errors import DiskFull, Timeout
from fedctl.messages import pool as p
from fedctl.model.pool import ItemDraft
from fedctl.store.backup import contents
from fedctl.store.database import COPY_STEP_PAGES
from fedctl.store.ledger import tenant_digest
from fedctl.store.store import Store


def test_contents_count_what_each_tenant_has(bench):
    bench.keep("e1", "e2")
    bench.keep("e1", tenant="acme")
    bench.call(p.PushItems(pool="todo", items=[ItemDraft(id="i1", data=1)]), tenant="acme")
    held = contents(bench.store)
    assert (held.episodes, held.items, held.epoch) == (3, 1, bench.store.settings.epoch())
    assert held.seq == bench.store.changes.last_seq()
    named = {one.sha256: (one.episodes, one.items) for one in held.tenants}
    assert named == {tenant_digest("default").hex(): (2, 0), tenant_digest("acme").hex(): (1, 1)}


def test_a_copy_is_of_the_moment_it_began_and_never_begins_anew(bench, tmp_path):
    bench.keep(*(f"e{at}" for at in range(300)), input="x" * 20_000)
    other = bench.another()
    steps: list[tuple[int, int]] = []

    def write_meanwhile(done: int, pages: int) -> None:
        steps.append((done, pages))
        other.keep(f"late{len(steps)}")

    copy = tmp_path / "store.db"
    with bench.store.read():
        before = contents(bench.store)
        bench.store.database.copy_to(copy, write_meanwhile)
    assert len(steps) == -(-steps[0][1] // COPY_STEP_PAGES) > 1  # as many as it takes, and not one more
    assert contents(bench.store).episodes == 300 + len(steps)
    store = Store.open_file(copy, bench.clock, create=False)
    try:
        assert contents(store) == before
        assert store.integrity() == []
    finally:
        store.close()


def test_a_copy_can_be_ended_between_two_steps(bench, tmp_path):
    def over(_done: int, _pages: int) -> None:
        raise Timeout("over")

    with bench.store.read(), pytest.raises(Timeout):
        bench.store.database.copy_to(tmp_path / "copy", over)
    bench.keep("goes on")


def test_a_copy_onto_a_full_disk_says_so(bench, make_disk):
    bench.keep(*(f"e{at}" for at in range(100)), input="x" * 20_000)
    disk = make_disk("1m")
    with bench.store.read(), pytest.raises(DiskFull):
        bench.store.database.copy_to(disk.folder / "copy")
    bench.keep("goes on")
