"""The Python backends where something goes wrong: late workers, long texts, disks that take nothing more."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fedctl.api.backends import SQLiteRegistrationBackend, SQLiteWorkBackend, WorkerRegistration
from fedctl.errors import Conflict, Denied, DiskFull, UsageError


def run(coroutine: Any) -> Any:
    return asyncio.run(coroutine)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "workers.sqlite"


def test_a_new_incarnation_takes_from_the_old_one_what_it_held(path):
    registration, pool = SQLiteRegistrationBackend(path), SQLiteWorkBackend(path).pool("p")

    async def main():
        item_id = await pool.push("x")
        for attempt in (1, 2):
            await registration.register(WorkerRegistration(worker_id="w"))
            for call in (pool.complete(item_id, "late"), pool.fail(item_id, "late")):
                with pytest.raises(Conflict):
                    await call
            assert (await pool.claim("w")).attempts == attempt
        await pool.complete(item_id, "in time")
        assert (await pool.get(item_id)).result == "in time"

    run(main())


def test_an_error_of_five_megabytes_is_cut_and_a_result_over_the_limit_leaves_the_lease(path):
    pool = SQLiteWorkBackend(path).pool("p")

    async def main():
        item_id = await pool.push("x")
        await pool.claim("w")
        await pool.fail(item_id, "e" * 5_000_000)
        kept = (await pool.get(item_id)).error
        assert (len(kept), kept[-6:]) == (65_536, " [cut]")
        await pool.claim("w")
        with pytest.raises(UsageError, match="1,048,576"):
            await pool.complete(item_id, "r" * (1 << 20))
        assert (await pool.get(item_id)).status == "claimed"
        await pool.complete(item_id, "r" * ((1 << 20) - 2))

    run(main())


def test_on_a_full_disk_nothing_is_claimed_and_nothing_lost(make_disk):
    disk = make_disk("1m")
    work = SQLiteWorkBackend(disk.folder / "workers.sqlite")
    pool, ballast = work.pool("p"), disk.folder / "ballast"

    async def main():
        item_id = await pool.push("x")
        with pytest.raises(OSError, match="No space"), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(b"\0" * 4096)
        for call in (pool.claim("w"), pool.claim("w", wait=30), pool.push("y" * 100_000)):
            with pytest.raises(DiskFull):
                await call
        item = await pool.get(item_id)
        assert (item.status, item.attempts, await pool.size()) == ("pending", 0, 1)
        ballast.unlink()
        assert (await pool.claim("w")).id == item_id
        await pool.complete(item_id)

    run(main())
    work.close()


def test_on_a_read_only_disk_everything_can_be_looked_at_and_nothing_claimed(make_disk):
    disk = make_disk("1m")
    path = disk.folder / "workers.sqlite"
    before = SQLiteWorkBackend(path)
    item_id = run(before.pool("p").push("x"))
    before.close()
    disk.make("ro")
    registration, work = SQLiteRegistrationBackend(path), SQLiteWorkBackend(path)
    pool = work.pool("p")
    for call in (pool.claim("w"), pool.push("y"), registration.register(WorkerRegistration("w"))):
        with pytest.raises(Denied):
            run(call)
    assert (run(pool.size()), run(pool.get(item_id)).attempts) == (1, 0)
    for backend in (registration, work):
        backend.close()
    disk.make("rw")
    assert run(SQLiteWorkBackend(path).pool("p").claim("w")).id == item_id
