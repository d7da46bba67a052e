"""Erasing: nothing of it is left in any file, nothing else is harmed, and it does not come back."""

from __future__ import annotations

import fcntl
import hashlib
import os
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from fedctl.errors import Corrupt, Denied, DiskFull, FedctlError, NotFound, Unavailable, UsageError
from fedctl.messages import agent as a
from fedctl.messages import memory as m
from fedctl.messages import pool as p
from fedctl.messages import tenant as t
from fedctl.messages import token as k
from fedctl.messages import worker as w
from fedctl.messages.hub import ListEvents
from fedctl.messages.store import CheckStore
from fedctl.model.agent import NoteDraft
from fedctl.model.episode import EpisodeDraft, EpisodeFilter
from fedctl.model.pool import Completion, ItemDraft, ItemFailure
from fedctl.operations import erasure, index
from fedctl.operations.job import exclusive_job
from fedctl.store.ledger import FILE_NAME, Entry, Ledger, episode_digest, tenant_digest

if TYPE_CHECKING:
    from pathlib import Path

MARK = "zyxqneedle"
"""In every text of what is erased; a word that begins with it is no other tenant's."""
KEEPER = "keeper"


def found(home: Path, mark: str = MARK) -> dict[str, int]:
    """Return file -> how often a mark is in it, over every byte of the home."""
    counts = {path.name: path.read_bytes().lower().count(mark.encode()) for path in home.rglob("*") if path.is_file()}
    return {name: count for name, count in counts.items() if count}


def words(seed: int, mark: str, count: int = 40) -> str:
    """Return words of which none is in another text, each with the mark in it."""
    made = random.Random(seed)
    return " ".join(f"{mark}{made.randrange(10**9)}" for _ in range(count))


def episode(number: int, mark: str, **fields: Any) -> EpisodeDraft:
    return EpisodeDraft(
        id=f"{mark}-{number}", task=words(number, mark), input={"k": words(number + 1000, mark)},
        output=words(number + 2000, mark, 3 + number * 37 % 700), critique=words(number + 3000, mark),
        session_id=f"{mark}-s{number % 3}", agent_id=f"{mark}-a{number % 5}",
        metadata={f"{mark}path{number % 7}": words(number, mark, 3), "n": number}, **fields,
    )  # fmt: skip


def fill(bench, tenant: str, mark: str, episodes: int = 60) -> None:
    """Give a tenant something of everything, some of it changed and deleted again."""
    numbers = list(range(episodes))
    random.Random(1).shuffle(numbers)
    for start in range(0, episodes, 10):
        bench.keep(*(episode(n, mark) for n in numbers[start : start + 10]), tenant=tenant)
    bench.call(m.EmbedPending(budget_ms=10_000), tenant=tenant)
    bench.call(m.DeleteEpisodes(ids=[f"{mark}-{n}" for n in range(0, episodes, 4)]), tenant=tenant)
    worker = w.RegisterWorker(id=f"{mark}-w", capabilities=[f"{mark}-cap"], metadata={"m": words(1, mark)})
    bench.call(worker, tenant=tenant)
    items = [ItemDraft(id=f"{mark}-i{n}", data={"d": words(n, mark)}, key=f"{mark}{n}", requires=[f"{mark}-cap"])
             for n in range(6)]  # fmt: skip
    bench.call(p.PushItems(pool=f"{mark}-pool", items=items), tenant=tenant)
    one, two = bench.call(p.ClaimItems(pool=f"{mark}-pool", worker_id=f"{mark}-w", count=2), tenant=tenant).items
    done = Completion(id=one.id, lease_id=one.lease_id, result=words(7, mark))
    bench.call(p.CompleteItems(completions=[done]), tenant=tenant)
    failure = ItemFailure(id=two.id, lease_id=two.lease_id, error=words(8, mark))
    bench.call(p.FailItems(failures=[failure]), tenant=tenant)
    agent = a.RegisterAgent(id=f"{mark}-a1", type=f"{mark}type", lifetime_ms=60_000, host=f"{mark}h", pid=1)
    bench.call(agent, tenant=tenant)
    note = NoteDraft(id=f"{mark}-n", kind="decision", text=words(5, mark), data={"x": words(6, mark)})
    bench.call(a.AddNotes(agent_id=f"{mark}-a1", notes=[note]), tenant=tenant)
    bench.call(t.SetTenant(name=tenant, max_episodes=10_000))
    index.compact(bench.context, bench.key(tenant), rewrite=True)


def picture(bench, tenant: str = "other", mark: str = KEEPER) -> list[Any]:
    """Return what a tenant has, as it is told."""
    texts = [words(n, mark, 3) for n in (1, 2, 5)]
    return [
        bench.call(m.ListEpisodes(), tenant=tenant).episodes,
        [bench.hits(text, tenant=tenant, mode=mode) for text in texts for mode in ("keyword", "hybrid")],
        bench.call(p.ListItems(pool=f"{mark}-pool"), tenant=tenant).items,
        bench.call(w.ListWorkers(), tenant=tenant).workers,
        bench.call(a.ListAgents(all=True), tenant=tenant).agents,
        bench.call(t.GetTenant(name=tenant)).tenant,
        bench.call(ListEvents(after=0), tenant=tenant).events,
    ]


def check(bench) -> list[Any]:
    return bench.call(CheckStore(full=True)).findings


def erase(bench, name: str = "acme", **how: Any) -> t.TenantErasure:
    return bench.call(t.EraseTenant(name=name, **how)).erasure


@pytest.fixture
def bench(make_bench, make_embedder):
    """A home whose model costs nothing however long a text is."""
    embedder = make_embedder()
    embedder._one = lambda text: np.frombuffer(hashlib.sha256(text.encode()).digest()[: embedder.dim], dtype="u1") + 1.0
    return make_bench(embedder=embedder)


@pytest.fixture
def both(bench):
    """A home with two tenants that have something of everything."""
    fill(bench, "acme", MARK)
    fill(bench, "other", KEEPER)
    return bench


# -- a tenant ------------------------------------------------------------------------------------------------------


def test_nothing_of_an_erased_tenant_is_in_any_file_and_another_is_unharmed(both):
    before = picture(both)
    both.call(k.IssueToken(tenant_id="acme", role="admin", ttl_ms=60_000))
    assert {"store.db", "store.db-wal"} <= found(both.home).keys(), "the test finds what is there"
    erasure_ = erase(both)
    assert (erasure_.episodes, erasure_.items, erasure_.agents, erasure_.workers, erasure_.tokens) == (45, 6, 1, 1, 1)
    assert erasure_.vectors >= 45
    assert (erasure_.complete, erasure_.notes) == (True, [])
    assert found(both.home) == {}
    assert b"acme" not in (both.home / "store.db").read_bytes()
    assert not [one for one in (both.home / "index").iterdir() if one.name != str(both.key("other"))]
    assert picture(both) == before
    assert check(both) == []
    assert both.store.erasures.open() == []


def test_what_was_left_in_pages_by_rows_that_moved_is_wiped(bench):
    """Rows of two tenants in turns, in an index that is filled out of order: SQLite leaves copies of what it moves."""
    for n in random.Random(3).sample(range(400), 400):
        tenant = ("acme", "other")[n % 2]
        mark = (MARK, KEEPER)[n % 2]
        metadata = {f"p{n % 3}": f"{n * 7919 % 1000}{mark}", f"q{n % 5}": f"{n * 104729 % 1000}{mark}"}
        bench.keep(EpisodeDraft(id=f"{n * 31337 % 1000}{mark}", task="t" * (n % 90), metadata=metadata), tenant=tenant)
    erase(bench)
    assert found(bench.home) == {}
    assert check(bench) == []


def test_an_erased_tenant_is_one_that_does_not_exist(both):
    erase(both)
    assert [one.id for one in both.call(t.ListTenants()).tenants] == ["other"]
    assert isinstance(both.refusal(t.GetTenant(name="acme")), NotFound)
    assert isinstance(both.refusal(t.EraseTenant(name="acme")), NotFound)
    assert both.call(m.ListEpisodes(), tenant="acme").episodes == []
    assert both.hits(words(1, MARK, 3), tenant="acme") == []
    events = both.call(ListEvents(after=0, all_tenants=True)).events
    assert [(one.kind, one.subject) for one in events if one.tenant_id != "other"] == [
        ("tenant_erased", tenant_digest("acme").hex())
    ]


def test_a_dry_run_says_what_goes_and_takes_nothing(both):
    before = picture(both, "acme", MARK)
    would = erase(both, dry_run=True)
    assert (would.episodes, would.complete, would.dry_run) == (45, False, True)
    assert picture(both, "acme", MARK) == before
    assert not (both.home / FILE_NAME).exists()
    assert erase(both).episodes == would.episodes


def test_only_an_operator_erases_a_tenant_and_an_admin_its_episodes(both):
    assert isinstance(both.refusal(t.EraseTenant(name="acme"), tenant="acme", role="admin"), Denied)
    assert isinstance(both.refusal(m.EraseEpisodes(ids=["x"]), tenant="acme", role="agent"), Denied)
    assert isinstance(both.refusal(t.EraseTenant(name="-1")), UsageError)


def test_what_was_erased_does_not_come_back_and_the_name_may_begin_anew(both):
    old_key = both.key("acme")
    erase(both)
    assert [one.deleted for one in both.keep(episode(1, MARK), tenant="acme")] == [True]
    assert both.keep(episode(4, MARK), tenant="acme")[0].deleted, "an id that was deleted plainly before"
    assert both.keep("fresh", tenant="acme")[0].deleted is False
    assert both.key("acme") != old_key
    assert both.ids(tenant="acme") == ["fresh"]
    assert both.keep(episode(1, MARK), tenant="other")[0].deleted is False, "ids are a tenant's own"
    assert erase(both).episodes == 1
    assert not both.keep("anew", tenant="acme")[0].deleted
    assert check(both) == []


def test_an_episode_of_an_item_does_not_come_back_either(both):
    erase(both)
    both.call(p.PushItems(pool="q", items=[ItemDraft(id="i", data=1)]), tenant="acme")
    (item,) = both.call(p.ClaimItems(pool="q", worker_id="w"), tenant="acme").items
    done = Completion(id="i", lease_id=item.lease_id, episode=episode(1, MARK))
    both.call(p.CompleteItems(completions=[done]), tenant="acme")
    assert both.ids(tenant="acme") == []


def test_a_connection_that_knew_the_tenant_does_not_write_to_what_was_erased(both):
    another = both.another()
    another.keep("before", tenant="acme")
    erase(both)
    another.keep("after", tenant="acme")
    item = ItemDraft(id="new", data=1, requires=[f"{MARK}-cap"])
    another.call(p.PushItems(pool=f"{MARK}-pool", items=[item]), tenant="acme")
    assert both.ids(tenant="acme") == ["after"]
    assert erase(both).items == 1
    assert found(both.home) == {}
    assert check(both) == []


def test_an_erasure_that_was_cut_off_is_gone_on_with_and_shows_nothing_meanwhile(both):
    before = picture(both)
    slow = Slow(both.clock)
    step = both.another(clock=slow)
    first = step.call(t.EraseTenant(name="acme", budget_ms=5))
    assert (first.erasure.complete, first.remaining > 0) == (False, True)
    assert both.call(m.ListEpisodes(), tenant="acme").episodes == []
    assert isinstance(both.refusal(t.GetTenant(name="acme")), NotFound)
    events = both.call(ListEvents(after=0, all_tenants=True)).events
    assert {one.kind for one in events if one.tenant_id not in ("acme", "other")} == {"tenant_erased"}
    both.keep("anew", tenant="acme")
    steps = 0
    while not (answer := step.call(t.EraseTenant(name="acme", begin=False, budget_ms=8))).erasure.complete:
        steps += 1
    assert steps > 2
    assert answer.remaining == 0
    assert both.ids(tenant="acme") == ["anew"], "what began in the meantime is no part of it"
    assert found(both.home) == {}
    assert picture(both) == before


class Slow:
    """A clock on which each look takes a while."""

    def __init__(self, clock: Any) -> None:
        self._clock = clock

    def __getattr__(self, name: str) -> Any:
        if name == "monotonic_s":
            self._clock.advance(1)
        return getattr(self._clock, name)


def test_whoever_comes_by_finishes_it(both):
    slow = both.another(clock=Slow(both.clock))
    slow.call(t.EraseTenant(name="acme", budget_ms=5))
    assert both.store.erasures.any_open()
    assert erasure.finish(both.context) == []
    assert not both.store.erasures.any_open()
    assert found(both.home) == {}


def test_a_reader_of_the_log_is_waited_for_in_vain_and_said(both):
    reader = both.another()
    with reader.store.read():
        reader.ids(tenant="acme")
        both.keep("one more", tenant="other")
        answer = erase(both)
        assert (answer.complete, len(answer.notes)) == (False, 1)
        assert "log" in answer.notes[0]
        assert both.ids(tenant="acme") == []
    assert erase(both).complete, "the same command goes on"
    assert found(both.home) == {}


def test_the_ledger_is_written_before_anything_is_deleted(both):
    ledger = both.home / FILE_NAME
    ledger.mkdir()
    assert both.refusal(t.EraseTenant(name="acme"))
    assert len(both.ids(tenant="acme")) == 45
    ledger.rmdir()
    now_ms = both.clock.ms
    erase(both)
    noted = list(Ledger(ledger).read())
    assert noted[0] == Entry("tenant", tenant_digest("acme"), now_ms)
    ids = [f"{MARK}-{n}" for n in range(60)]
    assert {one.digest for one in noted[1:]} == {episode_digest("acme", one) for one in ids}
    assert set(both.store.erasures.entries()) == set(noted)
    assert ledger.stat().st_mode & 0o777 == 0o600


def test_an_erasure_that_fails_is_not_in_the_ledger_and_a_restore_does_not_do_it(bench):
    bench.keep("alive", tenant="acme")
    ledger = Ledger(bench.home / FILE_NAME)
    blocked = bench.another(timeout_s=0.05)
    with bench.store.write():
        assert isinstance(blocked.refusal(t.EraseTenant(name="acme")), Unavailable)
    assert list(ledger.read()) == []
    blocked.store.database._connection.set_commit_hook(lambda: True)  # the commit itself fails
    assert blocked.refusal(t.EraseTenant(name="acme"))
    assert (bench.home / FILE_NAME).read_bytes().count(b"\n") == 2
    assert list(ledger.read()) == []
    assert erasure.apply_ledger(bench.store, ledger.read()) == (0, 0)
    assert bench.ids(tenant="acme") == ["alive"]
    assert check(bench) == []


def test_a_check_names_what_the_ledger_says_and_the_database_does_not(bench):
    bench.keep("alive", tenant="acme")
    Ledger(bench.home / FILE_NAME).add([Entry("tenant", tenant_digest("acme"), bench.clock.ms)])
    assert [one.severity for one in check(bench) if "acme" in one.message] == ["data"]


def test_what_is_sent_again_while_its_tenant_is_being_erased_is_not_stored(both):
    slow = both.another(clock=Slow(both.clock))
    assert not slow.call(t.EraseTenant(name="acme", budget_ms=5)).erasure.complete
    assert both.store.erasures.entries()[1:] == [], "none of its episodes was reached"
    again = both.keep(episode(1, MARK), episode(4, MARK), EpisodeDraft(id="new", task="t"), tenant="acme")
    assert [one.deleted for one in again] == [True, True, False]
    erasure.finish(both.context)
    assert both.ids(tenant="acme") == ["new"]
    assert check(both) == []


def test_one_erasure_that_cannot_be_ended_does_not_keep_the_others_from_it(both):
    slow = both.another(clock=Slow(both.clock))
    for name in ("acme", "other"):
        slow.call(t.EraseTenant(name=name, budget_ms=5))
    first, second = (one.tenant_key for one in both.store.erasures.open())
    with both.store.write():
        both.store.database.run(
            "CREATE TEMP TRIGGER broken BEFORE DELETE ON agents "
            f"WHEN old.tenant_key = {first} BEGIN SELECT raise(ABORT, 'no'); END"
        )
    with pytest.raises(FedctlError):
        erasure.finish(both.context)
    assert [one.tenant_key for one in both.store.erasures.open()] == [first] != [second]
    with both.store.write():
        both.store.database.run("DROP TRIGGER broken")
    assert erasure.finish(both.context) == []
    assert found(both.home) == {}


def test_who_waits_for_a_tenant_s_erasure_finds_its_episodes_gone(bench):
    bench.keep("a", "b", tenant="acme")
    key = bench.key("acme")
    erase(bench)
    with pytest.raises(NotFound):
        erasure._remove_episodes(bench.store, (key, tenant_digest("acme")), ["a"], bench.clock.ms)
    assert hard(bench, ["a"]).missing == ["a"]
    with bench.store.write():  # as older ones left it
        bench.store.erasures.begin(key, None, bench.clock.ms)
    assert erasure.finish(bench.context) == []
    assert not bench.store.erasures.any_open()


def test_while_another_erases_it_is_said_at_once_and_which_job(bench):
    bench.keep("a", tenant="acme")
    with exclusive_job(bench.home, "erase"):
        for request in (t.EraseTenant(name="acme"), m.EraseEpisodes(ids=["a"])):
            error = bench.refusal(request, tenant="acme", role="owner")
            assert (type(error), error.details) == (Unavailable, {"job": "erase"})


def test_while_a_backup_is_made_an_erasure_is_not_complete(bench):
    bench.keep("a", tenant="acme")
    copy = bench.home / "backups" / f".fedctl-{1:036}.partial"
    dead = bench.home / "backups" / f".fedctl-{2:036}.partial"
    for folder in (copy, dead):
        folder.mkdir(parents=True)
        (folder / "x").touch()
    descriptor = os.open(copy, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    answer = erase(bench)
    assert (answer.complete, len(answer.notes), str(copy) in answer.notes[0]) == (False, 1, True)
    assert not dead.exists()
    os.close(descriptor)
    assert erase(bench).complete
    assert not copy.exists()


def test_what_the_ledger_has_no_room_for_is_remembered_and_written_later(both):
    database, ledger = both.store.database, Ledger(both.home / FILE_NAME)
    slow = both.another(clock=Slow(both.clock))
    slow.call(t.EraseTenant(name="acme", budget_ms=5))

    class Full:
        def add(self, entries: Any) -> None:
            raise DiskFull("no room")

    (one,) = both.store.erasures.open()
    assert erasure._emptied(both.store, one, lambda: False)
    with pytest.raises(DiskFull):
        erasure._filed(both.store, Full(), lambda: False)
    assert len(list(ledger.read())) == 1, "the tenant's own line"
    assert len(both.store.erasures.unfiled()) == 60
    assert database.value("SELECT count(*) FROM episodes WHERE tenant_key = :key", {"key": one.tenant_key}) == 0
    assert erasure.finish(both.context) == []
    assert set(ledger.read()) == set(both.store.erasures.entries())
    assert both.store.erasures.unfiled() == []
    assert check(both) == []


def test_what_a_pin_says_of_an_erased_episode_goes_with_it(both):
    both.call(m.PinEpisodes(ids=[f"{MARK}-1"]), tenant="acme")
    hard(both, [f"{MARK}-1", f"{MARK}-2", f"{MARK}-4"])
    subjects = {row[0] for row in both.store.database.rows("SELECT subject FROM changes")}
    assert not {f"{MARK}-1", f"{MARK}-2", f"{MARK}-4"} & subjects


# -- episodes ------------------------------------------------------------------------------------------------------


def hard(bench, ids: list[str] | None = None, **how: Any) -> m.EraseEpisodesAnswer:
    return bench.call(m.EraseEpisodes(ids=ids or [], **how), tenant="acme")


def test_nothing_of_an_erased_episode_is_in_any_file_and_the_others_stay(both):
    both.keep(*(EpisodeDraft(id=f"plain{n}", task=f"plain {n}") for n in range(5)), tenant="acme")
    ids = [f"{MARK}-{n}" for n in range(60) if n % 4]
    plainly = [f"{MARK}-{n}" for n in range(60) if not n % 4]
    answer = hard(both, ids[:40], defer=True)
    assert (len(answer.deleted), answer.complete) == (40, False)
    answer = hard(both, [*ids[40:], *plainly, "absent"])
    assert (answer.missing, answer.complete, answer.notes) == (["absent"], True, [])
    left = both.store.database.value(
        "SELECT count(*) FROM episodes WHERE instr(task || input || output || critique || metadata || id, :mark)",
        {"mark": MARK},
    )
    assert left == 0
    text = {word for n in range(10, 60) for word in episode(n, MARK).task.split()}
    data = (both.home / "store.db").read_bytes() + (both.home / "store.db-wal").read_bytes()
    assert [one for one in text if one.encode() in data] == []
    assert both.ids(tenant="acme") == [f"plain{n}" for n in range(5)]
    assert sorted(both.hits("plain", tenant="acme", mode="keyword")) == [f"plain{n}" for n in range(5)]
    assert check(both) == []


def test_erased_episodes_alone_leave_no_byte(bench):
    bench.keep(*(EpisodeDraft(id=f"{n}{MARK}", task=words(n, MARK), output=words(n, MARK, 900), metadata={MARK: n})
                 for n in range(30)), *(f"kept {n}" for n in range(30)))  # fmt: skip
    bench.call(m.EmbedPending(budget_ms=10_000))
    index.compact(bench.context, bench.key(), rewrite=True)
    answer = bench.call(m.EraseEpisodes(filter=EpisodeFilter(where=[(MARK, ">=", 0)])))
    assert (len(answer.deleted), answer.more, answer.complete) == (30, False, True)
    assert found(bench.home) == {}
    assert len(bench.ids()) == 30
    assert bench.store.embeddings.pending(bench.key()) == 0
    assert check(bench) == []


def test_an_erased_episode_does_not_come_back_and_who_pulls_is_told(both):
    cursor = both.call(m.PullEpisodes(limit=1), tenant="acme").cursor
    hard(both, [f"{MARK}-1"])
    assert both.keep(episode(1, MARK), tenant="acme")[0].deleted
    pulled = both.call(m.PullEpisodes(cursor=cursor), tenant="acme")
    assert pulled.deleted == [episode_digest("acme", f"{MARK}-1").hex()]


def test_a_dry_run_of_hard_takes_nothing(both):
    answer = hard(both, [f"{MARK}-1", "absent"], dry_run=True)
    assert (answer.deleted, answer.missing) == ([f"{MARK}-1"], ["absent"])
    assert len(both.ids(tenant="acme")) == 45
    assert not (both.home / FILE_NAME).exists()


def test_who_finishes_what_was_cut_off_is_told_what_was_finished(both):
    step = m.EraseEpisodes(ids=[f"{MARK}-1", "absent"], defer=True)
    assert not both.call(step, tenant="acme").complete
    again = both.call(step, tenant="acme")
    assert (again.deleted, again.missing) == ([f"{MARK}-1"], ["absent"])
    assert both.call(m.EraseEpisodes(), tenant="acme").complete
    assert both.call(step, tenant="acme").missing == [f"{MARK}-1", "absent"]


def test_a_backup_that_is_older_than_an_episode_is_not_said_to_hold_it(both):
    from fedctl.operations import backup

    before = backup.create(both.home, both.clock)
    both.keep("later", tenant="acme")
    after = backup.create(both.home, both.clock)
    would = hard(both, ["later"], dry_run=True)
    assert [one.id for one in would.backups] == [after.id]
    step = both.call(m.EraseEpisodes(ids=["later"], defer=True), tenant="acme")
    last = both.call(m.EraseEpisodes(since_seq=step.least_seq), tenant="acme")
    assert [one.id for one in last.backups] == [after.id]
    old = hard(both, [f"{MARK}-1"], dry_run=True)
    assert {one.id for one in old.backups} == {before.id, after.id}


# -- what is restored ----------------------------------------------------------------------------------------------


def test_a_ledger_takes_out_of_a_store_what_it_names(both):
    entries = [
        Entry("tenant", tenant_digest("acme"), both.clock.ms),
        Entry("episode", episode_digest("other", f"{KEEPER}-21"), both.clock.ms),
        Entry("episode", episode_digest("other", f"{KEEPER}-24"), both.clock.ms),
        Entry("episode", episode_digest("other", "never seen"), both.clock.ms),
    ]
    assert erasure.apply_ledger(both.store, entries) == (1, 2)
    assert set(both.store.erasures.entries()) >= set(entries)
    assert found(both.home, MARK).keys() <= {path.name for path in (both.home / "index").rglob("*")}
    data = (both.home / "store.db").read_bytes()
    assert not [word for n in (21, 24) for word in episode(n, KEEPER).task.split() if word.encode() in data]
    assert len(both.ids(tenant="other")) == 44
    assert both.keep(EpisodeDraft(id="never seen", task="t"), tenant="other")[0].deleted
    assert erasure.apply_ledger(both.store, entries) == (0, 0)
    Ledger(both.home / FILE_NAME).add(both.store.erasures.entries())
    assert check(both) == []


def test_a_ledger_spares_a_tenant_that_began_after_its_erasure(both):
    erase(both)
    both.clock.advance(-3_600_000)  # the clock is set back, and yet it began after that
    both.keep("anew", tenant="acme")
    assert erasure.apply_ledger(both.store, Ledger(both.home / FILE_NAME).read()) == (0, 0)
    assert both.ids(tenant="acme") == ["anew"]


def test_a_line_that_was_torn_off_is_passed_over(tmp_path):
    ledger = Ledger(tmp_path / FILE_NAME)
    one, two = Entry("episode", b"1" * 32, 5), Entry("tenant", b"2" * 32, 6)
    ledger.add([one])
    whole = (tmp_path / FILE_NAME).read_bytes()
    for length in range(len(whole)):
        (tmp_path / FILE_NAME).write_bytes(whole[:length])
        assert list(ledger.read()) == []
        ledger.add([two])
        assert ledger.look()[:2] == ([two], [])  # not even where nothing but the line's end was torn off


def test_any_byte_of_the_ledger_that_was_turned_is_found_and_the_other_lines_hold(tmp_path):
    path = tmp_path / FILE_NAME
    one, two, three = Entry("episode", b"1" * 32, 5), Entry("tenant", b"2" * 32, 6), Entry("tenant", b"3" * 32, 7)
    Ledger(path).add([one, two])
    Ledger(path).void([two])
    Ledger(path).add([three])
    whole = path.read_bytes()
    assert Ledger(path).look()[:2] == ([one, three], [])
    for place in range(len(whole)):
        for bit in range(8):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
            entries, damaged, lost = Ledger(path).look()
            assert bool(damaged) <= lost <= 2 * len(damaged)  # two where it was what ends one of them
            assert damaged or place == len(whole) - 1  # a last line without its end was never acknowledged
            assert set(entries) <= {one, two, three}
            assert len(entries) >= 1


def test_lines_of_a_ledger_without_a_sum_hold_and_those_written_twice_are_one(tmp_path):
    path, one = tmp_path / FILE_NAME, Entry("episode", b"1" * 32, 5)
    old = b"episode 5 %s\n" % (b"1" * 32).hex().encode()
    path.write_bytes(old + old + b"void 6 %s\n" % (b"2" * 32).hex().encode())
    path.write_bytes(path.read_bytes() + b"\n")  # what somebody leaves who takes a line out
    Ledger(path).add([one])
    assert Ledger(path).look()[:2] == ([one] * 3, [])


@pytest.mark.parametrize("put", [os.mkfifo, os.mkdir, lambda path: path.symlink_to(path)], ids=["pipe", "dir", "loop"])
def test_what_is_no_file_in_the_ledger_s_place_is_said_to_be_none(tmp_path, put):
    put(tmp_path / FILE_NAME)
    ledger = Ledger(tmp_path / FILE_NAME)
    for act in (ledger.look, lambda: ledger.add([Entry("episode", b"1" * 32, 5)])):
        with pytest.raises(Corrupt, match="is no file"):
            act()


def test_what_is_wrong_with_the_ledger_is_named_by_a_check(bench):
    bench.keep("one")
    bench.call(m.EraseEpisodes(ids=["one"]))
    path = bench.home / FILE_NAME
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"episode", b"epiSode"))
    said = [(one.check, one.severity, one.message) for one in bench.call(CheckStore()).findings]
    assert ("erasures", "data", f"line 1 is damaged in the ledger of erasures {path}") in said
    path.unlink()
    path.mkdir()
    (said,) = (one.message for one in bench.call(CheckStore()).findings if one.severity == "data")
    assert "is no file" in said


def test_a_store_that_cannot_be_wiped_says_why_until_it_was_vacuumed(bench):
    bench.keep(EpisodeDraft(id="one", task=MARK))
    for statement in ("pragma auto_vacuum=FULL", "vacuum"):
        bench.store.database.rows(statement)
    answer = bench.call(m.EraseEpisodes(ids=["one"]))
    assert not answer.complete
    assert ["fedctl store vacuum" in note for note in answer.notes] == [True]
    bench.store.database.rows("pragma auto_vacuum=NONE")
    bench.store.database.rows("vacuum")
    assert bench.call(m.EraseEpisodes(ids=["one"])).complete
    assert found(bench.home) == {}
