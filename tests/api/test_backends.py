"""Workers and pools under the names that FlatAgents gives them."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from fedctl.api import backends
from fedctl.api.backends import (
    LEASES_MAX,
    MemoryRegistrationBackend,
    MemoryWorkBackend,
    RegistrationBackend,
    SQLiteRegistrationBackend,
    SQLiteWorkBackend,
    WorkBackend,
    WorkerFilter,
    WorkerRecord,
    WorkerRegistration,
    WorkItem,
    WorkPool,
    create_registration_backend,
    create_work_backend,
)
from fedctl.errors import Conflict, Corrupt, FedctlError, UsageError
from fedctl.messages.pool import GetItem
from fedctl.store.database import Database

KINDS = ["memory", "sqlite"]


def run(coroutine: Any) -> Any:
    return asyncio.run(coroutine)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "workers.sqlite"


@pytest.fixture(params=KINDS)
def registration(request, path):
    backend = create_registration_backend(
        request.param, **({"db_path": str(path)} if request.param == "sqlite" else {})
    )
    yield backend
    backend.close()


@pytest.fixture(params=KINDS)
def work(request, path):
    backend = create_work_backend(request.param, **({"db_path": str(path)} if request.param == "sqlite" else {}))
    yield backend
    backend.close()


@pytest.fixture
def pool(work):
    return work.pool("papers")


# -- names, fields and signatures ------------------------------------------------------------------------------------


def test_every_name_is_there():
    assert set(backends.__all__) == {
        "WorkerRegistration", "WorkerRecord", "WorkerFilter", "WorkItem", "RegistrationBackend", "WorkBackend",
        "WorkPool", "MemoryRegistrationBackend", "MemoryWorkBackend", "SQLiteRegistrationBackend", "SQLiteWorkBackend",
        "create_registration_backend", "create_work_backend",
    }  # fmt: skip
    for name in backends.__all__:
        assert hasattr(backends, name)


FIELDS = {
    WorkerRegistration: "worker_id host pid capabilities started_at",
    WorkerRecord: "worker_id status last_heartbeat host pid capabilities started_at current_task_id metadata",
    WorkerFilter: "status capability stale_threshold_seconds",
    WorkItem: "id data claimed_by attempts max_retries status created_at claimed_at",
}
"""The reference's fields, in its order: they may be given by position."""


@pytest.mark.parametrize("kind", FIELDS)
def test_fields_stand_in_the_reference_s_order_and_ours_behind_them(kind: Any):
    fields = dataclasses.fields(kind)
    expected = FIELDS[kind].split()
    assert [one.name for one in fields][: len(expected)] == expected
    for one in fields[len(expected) :]:
        assert one.default is not dataclasses.MISSING, "who does not know of it need not give it"


SIGNATURES = {
    "RegistrationBackend": {
        "register": "worker", "heartbeat": "worker_id metadata", "update_status": "worker_id status",
        "get": "worker_id", "list": "filter",
    },
    "WorkPool": {
        "push": "item options", "claim": "worker_id", "complete": "item_id result", "fail": "item_id error", "size": "",
        "release_by_worker": "worker_id",
    },
    "WorkBackend": {"pool": "name"},
}  # fmt: skip


def test_the_calls_take_what_the_reference_s_take():
    made = {"RegistrationBackend": backends._Registration, "WorkPool": backends._Pool, "WorkBackend": backends._Work}
    for protocol, methods in SIGNATURES.items():
        for name, arguments in methods.items():
            for kind in (getattr(backends, protocol), made[protocol]):
                found = inspect.signature(getattr(kind, name)).parameters.values()
                assert [one.name for one in found if one.kind is one.POSITIONAL_OR_KEYWORD][1:] == arguments.split()
                assert inspect.iscoroutinefunction(getattr(kind, name)) is (name != "pool")


def test_each_is_what_its_protocol_says(registration, work, pool):
    assert isinstance(registration, RegistrationBackend)
    assert isinstance(work, WorkBackend)
    assert isinstance(pool, WorkPool)
    assert work.pool("papers") is pool


def test_backends_are_made_by_kind(path):
    assert isinstance(create_registration_backend(), MemoryRegistrationBackend)
    assert isinstance(create_work_backend("memory"), MemoryWorkBackend)
    assert isinstance(create_registration_backend("sqlite", db_path=path), SQLiteRegistrationBackend)
    assert isinstance(create_work_backend("sqlite", db_path=path), SQLiteWorkBackend)
    assert create_work_backend("sqlite", db_path=str(path)).db_path == path  # type: ignore[attr-defined]


@pytest.mark.parametrize("make", [create_registration_backend, create_work_backend])
@pytest.mark.parametrize(("kind", "said"), [("redis", "there is no redis backend"), ("postgres", "no postgres backend"),
                                            ("mysql", "there are memory and sqlite"), ("", "there are")])  # fmt: skip
def test_a_kind_that_is_not_there_says_so(make: Any, kind: str, said: str):
    with pytest.raises(ValueError, match=said):
        make(kind)


@pytest.mark.parametrize(("make", "kind", "options", "said"), [
    (create_work_backend, "memory", {"db_path": "x"}, "no option db_path: its options are lease_s; .* is sqlite"),
    (create_registration_backend, "memory", {"db_path": "x"}, "no option db_path: its options are none; .* is sqlite"),
    (create_work_backend, "sqlite", {"path": "x"}, "no option path: its options are db_path, lease_s"),
    (create_registration_backend, "sqlite", {"lease_s": 1}, "no option lease_s: its options are db_path"),
])  # fmt: skip
def test_an_option_that_a_kind_has_not_says_so(make: Any, kind: str, options: dict[str, Any], said: str):
    with pytest.raises(ValueError, match=said):
        make(kind, **options)


def test_without_a_path_the_file_is_the_reference_s(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    SQLiteWorkBackend().close()
    assert (tmp_path / "workers.sqlite").is_file()


# -- workers -----------------------------------------------------------------------------------------------------


def test_a_worker_is_registered_active(registration):
    async def main():
        record = await registration.register(WorkerRegistration("w1", "host", 7, ["gpu", "a-b"]))
        assert record == await registration.get("w1")
        assert (record.worker_id, record.status, record.host, record.pid) == ("w1", "active", "host", 7)
        assert sorted(record.capabilities) == ["a-b", "gpu"]
        assert (record.metadata, record.current_task_id, record.pool_id) == (None, None, None)
        assert WorkerRecord.from_dict(record.to_dict()) == record
        plain = await registration.register(WorkerRegistration(worker_id="w2", started_at="2026-01-01T00:00:00+00:00"))
        assert (plain.capabilities, plain.started_at) == (None, "2026-01-01T00:00:00.000Z")
        assert await registration.get("absent") is None

    run(main())


def test_a_heartbeat_merges_metadata(registration):
    async def main():
        first = await registration.register(WorkerRegistration("w1"))
        assert await registration.heartbeat("w1", {"a": 1, "b": 1}) is None
        await registration.heartbeat("w1", metadata={"b": 2})
        await registration.heartbeat("w1")
        record = await registration.get("w1")
        assert record.metadata == {"a": 1, "b": 2}
        assert record.last_heartbeat >= first.last_heartbeat

    run(main())


def test_an_unknown_worker_is_a_key_error(registration):
    async def main():
        for call in (registration.heartbeat("absent"), registration.update_status("absent", "lost")):
            with pytest.raises(KeyError, match="absent"):
                await call

    run(main())


def test_a_status_is_set_and_what_is_none_refused(registration):
    async def main():
        await registration.register(WorkerRegistration("w1"))
        for status in ("terminating", "active", "lost", "active", "terminated", "terminated"):
            await registration.update_status("w1", status)
            assert (await registration.get("w1")).status == status
        with pytest.raises(ValueError, match="active, terminating, terminated, lost"):
            await registration.update_status("w1", "asleep")
        with pytest.raises(Conflict):
            await registration.heartbeat("w1")
        assert (await registration.register(WorkerRegistration("w1"))).status == "active"

    run(main())


def test_workers_are_listed_by_every_condition(registration):
    async def main():
        for number in (1, 2, 3):
            await registration.register(WorkerRegistration(f"w{number}", capabilities=["all", f"gpu{number}"],
                                        pool_id="odd" if number % 2 else "even", heartbeat_interval=0.1))  # fmt: skip
        await registration.update_status("w2", "terminating")
        await registration.update_status("w3", "terminated")

        async def ids(*arguments: Any, **conditions: Any) -> list[str]:
            return sorted(one.worker_id for one in await registration.list(WorkerFilter(*arguments, **conditions)))

        assert len(await registration.list()) == 3
        assert await ids() == ["w1", "w2", "w3"]
        assert await ids("active") == ["w1"]
        assert await ids(status=["active", "terminated"]) == ["w1", "w3"]
        assert await ids(status=[]) == []
        assert await ids(capability="all") == ["w1", "w2", "w3"]
        assert await ids(capability="gpu1") == ["w1"]
        assert await ids(capability="gpu") == [], "capabilities are compared exactly"
        assert await ids(pool_id="odd") == ["w1", "w3"]
        assert await ids(["active", "terminating"], "all", None) == ["w1", "w2"]
        await asyncio.sleep(0.25)
        await registration.heartbeat("w2")
        assert await ids(stale=True) == ["w1"], "twice its own interval"
        assert await ids(stale_threshold_seconds=0.2) == ["w1"]
        assert await ids(stale_threshold_seconds=60) == []

    run(main())


@pytest.mark.parametrize("worker_id", ["", "a/b", "../x", "x" * 129, "a b", "a\0"])
def test_a_name_that_cannot_be_is_a_usage_error(registration, worker_id: str):
    with pytest.raises(UsageError):
        run(registration.register(WorkerRegistration(worker_id)))


# -- work --------------------------------------------------------------------------------------------------------


def test_an_item_goes_in_is_claimed_and_done_and_keeps_its_result(pool):
    async def main():
        item_id = await pool.push({"task": "hello", "n": [1, None]})
        assert isinstance(item_id, str)
        assert await pool.size() == 1
        item = await pool.claim("w1")
        assert (item.id, item.data, item.status) == (item_id, {"task": "hello", "n": [1, None]}, "claimed")
        assert (item.claimed_by, item.attempts, item.max_retries) == ("w1", 1, 3)
        assert item.to_dict()["claimed_at"] == item.claimed_at is not None
        assert await pool.size() == 0
        assert await pool.claim("w2") is None
        assert await pool.complete(item_id, {"ok": True}) is None
        done = await pool.get(item_id)
        assert (done.status, done.result) == ("done", {"ok": True})
        assert await pool.claim("w2") is None

    run(main())


def test_items_are_claimed_in_the_order_they_came(pool):
    async def main():
        ids = [await pool.push(number) for number in range(5)]
        assert [(await pool.claim("w")).id for _ in range(5)] == ids

    run(main())


def test_a_failed_item_comes_back_keeps_its_error_and_is_poisoned_in_the_end(pool):
    async def main():
        item_id = await pool.push("x", {"max_retries": 2})
        for attempt in (1, 2):
            item = await pool.claim("w")
            assert (item.id, item.attempts, item.max_retries) == (item_id, attempt, 2)
            await pool.fail(item_id, f"no {attempt}")
            assert (await pool.get(item_id)).error == f"no {attempt}"
        assert await pool.claim("w") is None
        assert (await pool.get(item_id)).status == "poisoned"
        assert await pool.size() == 0

    run(main())


def test_an_error_need_not_be_given_and_need_not_be_text(pool):
    async def main():
        item_id = await pool.push("x")
        await pool.claim("w")
        await pool.fail(item_id)
        await pool.claim("w")
        await pool.fail(item_id, ValueError("odd"))  # type: ignore[arg-type]
        assert (await pool.get(item_id)).error == "odd"

    run(main())


def test_an_unknown_item_or_another_pool_s_is_a_key_error(work, pool):
    async def main():
        theirs = await work.pool("other").push("x")
        await work.pool("other").claim("w")
        for item_id in ("absent", theirs):
            for call in (pool.complete(item_id), pool.fail(item_id)):
                with pytest.raises(KeyError, match=item_id):
                    await call
            assert await pool.get(item_id) is None
        await work.pool("other").complete(theirs)

    run(main())


def test_the_same_completion_twice_is_accepted_and_another_result_is_not(pool):
    async def main():
        item_id = await pool.push("x")
        await pool.claim("w")
        for _ in range(2):
            await pool.complete(item_id, [1, 2])
        with pytest.raises(Conflict):
            await pool.complete(item_id, "other")
        with pytest.raises(Conflict):
            await pool.fail(item_id, "no")
        assert (await pool.get(item_id)).result == [1, 2]

    run(main())


def test_what_nobody_has_claimed_is_neither_done_nor_failed(pool):
    async def main():
        item_id = await pool.push("x")
        for call in (pool.complete(item_id), pool.fail(item_id)):
            with pytest.raises(Conflict):
                await call
        await pool.claim("w")
        await pool.fail(item_id)
        with pytest.raises(Conflict):
            await pool.complete(item_id)

    run(main())


def test_a_lease_that_ran_out_is_refused_once_another_has_the_item(path):
    late = SQLiteWorkBackend(path, lease_s=0.1).pool("p")
    prompt = OtherProcess(path)

    async def main():
        item_id = await late.push("x")
        assert (await late.claim("late")).id == item_id
        await asyncio.sleep(0.15)
        assert prompt("claim", "prompt") == item_id
        for call in (late.complete(item_id, "late"), late.fail(item_id, "late")):
            with pytest.raises(Conflict):
                await call
        assert prompt("complete", item_id, "prompt") is None
        done = await late.get(item_id)
        assert (done.result, done.claimed_by, done.attempts) == ("prompt", "prompt", 2)

    run(main())
    prompt.end()


def test_another_process_s_item_is_not_ours_to_finish(path):
    other = OtherProcess(path)
    pool = SQLiteWorkBackend(path).pool("p")
    item_id = run(pool.push("x"))
    assert other("claim", "w") == item_id
    for call in (pool.complete(item_id), pool.fail(item_id)):
        with pytest.raises(Conflict):
            run(call)
    assert run(pool.release_by_worker("w")) == 1
    assert other("complete", item_id) == "Conflict"
    other.end()


def test_a_worker_s_items_are_released_pool_by_pool(work, pool):
    async def main():
        for _ in range(2):
            await pool.push("x")
            await pool.claim("w1")
        await work.pool("other").push("x")
        assert await work.pool("other").claim("w1")
        assert await pool.release_by_worker("stranger") == 0
        assert await pool.release_by_worker("w1") == 2
        assert (await pool.size(), await work.pool("other").size()) == (2, 0)
        assert (await pool.claim("w2")).attempts == 1

    run(main())


def test_both_backends_on_a_path_share_workers_and_items(path):
    registration, pool = SQLiteRegistrationBackend(path), SQLiteWorkBackend(path).pool("p")

    async def main():
        await registration.register(WorkerRegistration("w"))
        item_id = await pool.push("x")
        await pool.claim("w")
        assert (await registration.get("w")).current_task_id == item_id
        await registration.update_status("w", "lost")
        assert await pool.size() == 1
        assert (await pool.claim("w2")).attempts == 2, "a lost worker's attempt counts"
        await registration.update_status("w", "terminated")
        with pytest.raises(Conflict):
            await pool.claim("w")

    run(main())


def test_two_backends_of_a_process_on_a_path_are_one_claimer(path):
    first, second = SQLiteWorkBackend(path), SQLiteWorkBackend(path.parent / ".." / path.parent.name / path.name)

    async def main():
        item_id = await first.pool("p").push("x")
        await first.pool("p").claim("w")
        await second.pool("p").complete(item_id, 1)
        assert (await first.pool("p").get(item_id)).result == 1

    run(main())


@pytest.mark.parametrize("data", [float("nan"), "\ud800", {1, 2}, object(), "x" * (1 << 20), {1: 2}])
def test_what_is_no_json_or_too_large_is_a_usage_error(pool, data: Any):
    async def main():
        with pytest.raises(UsageError):
            await pool.push(data)
        item_id = await pool.push("x")
        await pool.claim("w")
        with pytest.raises(UsageError):
            await pool.complete(item_id, data)
        await pool.complete(item_id, "smaller")

    run(main())


def test_an_option_that_does_not_exist_is_named(pool):
    with pytest.raises(ValueError, match="retries; there is max_retries"):
        run(pool.push("x", {"retries": 5}))
    assert run(pool.size()) == 0


@pytest.mark.parametrize("name", ["", "a/b", "../x", "x" * 129])
def test_a_pool_s_name_that_cannot_be_is_a_usage_error(work, name: str):
    with pytest.raises(UsageError):
        work.pool(name)


# -- many at once --------------------------------------------------------------------------------------------------


def test_many_coroutines_at_once_get_each_item_once(pool):
    async def main():
        ids = await asyncio.gather(*(pool.push(number) for number in range(100)))
        assert len(set(ids)) == 100

        async def worker(name: str) -> list[str]:
            mine = []
            while (item := await pool.claim(name)) is not None:
                await pool.complete(item.id, name)
                mine.append(item.id)
            return mine

        found = await asyncio.gather(*(worker(f"w{number}") for number in range(10)))
        assert sorted(id_ for mine in found for id_ in mine) == sorted(ids)

    run(main())


def test_a_claim_that_waits_keeps_nobody_waiting_and_is_woken(pool):
    async def main():
        waiting = [asyncio.create_task(pool.claim(f"w{number}", wait=60)) for number in range(3)]
        await asyncio.sleep(0)
        ids = [await pool.push(number) for number in range(3)]
        found = await asyncio.wait_for(asyncio.gather(*waiting), 20)
        assert sorted(one.id for one in found) == sorted(ids)
        assert await pool.claim("w", wait=0.05) is None

    run(main())


def test_what_another_process_pushes_wakes_a_claim_that_waits(path):
    other, pool = OtherProcess(path), SQLiteWorkBackend(path).pool("p")

    async def main():
        waiting = asyncio.create_task(pool.claim("w", wait=60))
        item_id = await asyncio.to_thread(other, "push", "x")
        assert (await asyncio.wait_for(waiting, 20)).id == item_id

    run(main())
    other.end()


def test_a_lease_that_runs_out_wakes_a_claim_that_waits(path):
    pool = SQLiteWorkBackend(path, lease_s=0.2).pool("p")

    async def main():
        item_id = await pool.push("x")
        await pool.claim("gone")
        assert (await asyncio.wait_for(pool.claim("w", wait=60), 20)).id == item_id

    run(main())


def test_what_was_claimed_for_a_cancelled_coroutine_is_given_back(pool):
    async def main():
        for number in range(20):
            await pool.push(number)
        for delay in range(20):
            claiming = asyncio.create_task(pool.claim("w"))
            for _ in range(delay % 4):
                await asyncio.sleep(0)
            claiming.cancel()
            await asyncio.gather(claiming, return_exceptions=True)
        assert await pool.size() == 20
        assert (await pool.claim("w")).attempts == 1

    run(main())


def test_a_backend_lives_longer_than_an_event_loop(pool):
    item_id = run(pool.push("x"))
    assert run(pool.claim("w")).id == item_id
    run(pool.complete(item_id))


def test_a_backend_that_nobody_holds_any_more_ends_its_thread(path):
    async def main():
        await SQLiteWorkBackend(path).pool("p").push("x")

    before = threading.active_count()
    for _ in range(5):
        run(main())
    for thread in threading.enumerate():
        if thread.name.startswith("fedctl-backend"):
            thread.join(5)
    assert threading.active_count() <= before


def test_leases_are_remembered_within_bounds_and_the_finished_forgotten_first():
    leases = backends._Leases()

    def item(number: int) -> Any:
        return type("Held", (), {"id": str(number), "pool": "p", "lease_id": f"l{number}"})()

    for number in range(LEASES_MAX):
        leases.note(item(number))
    leases.ended("7")
    assert leases.get("7") == ("p", "l7")
    leases.note(item(LEASES_MAX))
    assert leases.get("7") is None
    assert leases.get("0") == ("p", "l0")
    leases.note(item(LEASES_MAX + 1))
    assert leases.get("0") is None
    assert len(leases._known) == LEASES_MAX


# -- files -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["w.sqlite", "noending", "store.db", "a.b.c", ".hidden"])
def test_any_name_of_a_file_will_do(tmp_path, name: str):
    pool = SQLiteWorkBackend(tmp_path / name).pool("p")
    assert run(pool.push("x"))
    assert not list(tmp_path.glob("*.new*"))
    with pytest.raises(UsageError, match=r"\.lock"):
        SQLiteWorkBackend(tmp_path / "w.lock")


def test_a_file_that_is_another_program_s_is_left_alone(path):
    path.parent.mkdir(parents=True)
    for content in (b"hello, I am no database" * 100, b""):
        path.write_bytes(content)
        with pytest.raises(Corrupt):
            SQLiteWorkBackend(path)
        assert path.read_bytes() == content


def test_the_file_is_a_whole_store(path):
    run(SQLiteWorkBackend(path).pool("p").push("x"))
    database = Database(path)
    assert database.rows("pragma integrity_check") == [("ok",)]
    assert database.value("SELECT count(*) FROM items") == 1
    database.close()


# -- processes ---------------------------------------------------------------------------------------------------

COMMANDS = """
import asyncio, json, sys
from fedctl.api.backends import SQLiteWorkBackend
pool = SQLiteWorkBackend(sys.argv[1]).pool("p")
for line in sys.stdin:
    verb, *arguments = json.loads(line)
    try:
        answer = asyncio.run(getattr(pool, verb)(*arguments))
    except Exception as error:
        answer = type(error).__name__
    print(json.dumps(getattr(answer, "id", answer)), flush=True)
"""


class OtherProcess:
    """A process that does with a pool what it is told."""

    def __init__(self, path: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", COMMANDS, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __call__(self, *command: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def end(self) -> None:
        self._process.communicate(timeout=20)


RACER = """
import asyncio, json, sys
from fedctl.api.backends import SQLiteWorkBackend
async def main():
    pool = SQLiteWorkBackend(sys.argv[1]).pool("p")
    pushed = [await pool.push(number) for number in range(int(sys.argv[3]))]
    sys.stdin.readline()
    mine = []
    while (item := await pool.claim(sys.argv[2])) is not None:
        await pool.complete(item.id, sys.argv[2])
        mine.append(item.id)
    print(json.dumps([pushed, mine]))
asyncio.run(main())
"""


def test_eight_processes_make_a_file_together_and_get_each_item_once(path):
    each = 25
    racers = [
        subprocess.Popen([sys.executable, "-c", RACER, str(path), f"w{number}", str(each)], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, text=True)
        for number in range(8)
    ]  # fmt: skip
    told = [json.loads(one.communicate("go\n", timeout=120)[0]) for one in racers]
    assert [one.returncode for one in racers] == [0] * 8
    pushed = sorted(id_ for some, _ in told for id_ in some)
    late = SQLiteWorkBackend(path)
    assert len(pushed) == 8 * each
    assert sorted(id_ for _, some in told for id_ in some) == pushed, "every item once"
    assert run(late.pool("p").size()) == 0


def test_a_process_that_was_forked_asks_on_its_own(path):
    work = SQLiteWorkBackend(path)
    pool = work.pool("p")
    ids = [run(pool.push(number)) for number in range(4)]
    readable, writable = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writable, run(pool.claim("child")).id.encode())
            os._exit(0)
        except BaseException:  # noqa: BLE001  the child must not go on with the parent's tests
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    os.close(writable)
    with os.fdopen(readable) as pipe:
        assert pipe.read() == ids[0]
    assert run(pool.claim("parent")).id == ids[1]
    assert run(work._desk.ask(GetItem(id=ids[0]))).item.claimed_by == "child"


def test_what_fedctl_raises_says_what_to_do(pool):
    async def main() -> FedctlError:
        item_id = await pool.push("x")
        with pytest.raises(FedctlError) as caught:
            await pool.complete(item_id)
        return caught.value

    assert run(main()).hint
