"""Another file in a store's place: whatever moment a process dies at, there is the old store or the new one."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fedctl.errors import NoStore, Unavailable
from fedctl.store import swap
from fedctl.store.lock import use
from fedctl.store.store import FILE_NAME, Store

ROOT = Path(__file__).parents[2]

# Makes an exchange in one child after the other, each killed one change of the file system later than the one before,
# and says what whoever opens the store next finds. SQLite's own changes are not among them: they are none of ours.
KILLED_EVERYWHERE = """
import json, os, shutil, sys
from pathlib import Path
from fedctl.clock import Clock
from fedctl.errors import NoStore
from fedctl.store import swap
from fedctl.store.database import Database
from fedctl.store.store import Store

template, fresh, put_back = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "back"
CHANGES = {"os.rename", "os.link", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree"}

def exchange(path):
    one = swap.Exchange(path)
    one.begin()
    shutil.copyfile(fresh, one.unpacked)
    (one.beside / "config.toml").write_text("")
    one.seal(Database(one.unpacked))
    one.commit()
    if put_back:
        one.put_back()
    one.end()

at = 0
while True:
    at += 1
    home = template.with_name(f"killed{at}")
    shutil.copytree(template, home)
    child = os.fork()
    if not child:
        left = at
        def count(event, _arguments):
            global left
            if event in CHANGES:
                left -= 1
                if not left:
                    os.kill(os.getpid(), 9)
        sys.addaudithook(count)
        exchange(home / "store.db")
        os._exit(0)
    killed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -9
    try:
        store = Store.open(home, Clock(), create=False, timeout_s=5)
        found = [name for _, name in store.tenants.all()], store.integrity(), store.settings.epoch()
        store.close()
    except NoStore:
        found = None
    print(json.dumps([killed, found, sorted(one.name for one in home.iterdir())]))
    shutil.rmtree(home)
    if not killed:
        break
"""


def a_store(path: Path, clock, *tenants: str) -> Path:
    """Make a store with tenants, the last of which is in the log only; its log and what is shared stay beside it."""
    store = Store.open_file(path, clock, create=True, timeout_s=5)
    for name in tenants:
        store.checkpoint(truncate=True)
        with store.write():
            store.tenants.key_for_writing(name, 0)
    store.close()
    return path


def found_in(path: Path, clock) -> list:
    """Return what the script above says of a store: its epoch lies on another page than what its log has changed."""
    store = Store.open_file(path, clock, create=False, timeout_s=5)
    found = [[name for _, name in store.tenants.all()], store.integrity(), store.settings.epoch()]
    store.close()
    return found


def a_database(folder: Path, clock, *tenants: str) -> Path:
    """Make a database with tenants, in one file."""
    path = a_store(folder / FILE_NAME, clock, *tenants)
    store = Store.open_file(path, clock, create=False, timeout_s=5)
    store.checkpoint(truncate=True)
    store.close()
    return path


def killed_everywhere(tmp_path: Path, clock, *tenants: str, back: bool = False) -> list:
    (tmp_path / "home").mkdir()
    if tenants:
        a_store(tmp_path / "home" / FILE_NAME, clock, *tenants)
    fresh = a_database(tmp_path / "new", clock, "new")
    done = subprocess.run(
        [sys.executable, "-c", KILLED_EVERYWHERE, str(tmp_path / "home"), str(fresh), "back" if back else "on"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_killed_at_any_change_of_the_files_there_is_the_old_store_or_the_new_one_and_nothing_is_left(tmp_path, clock):
    outcomes = killed_everywhere(tmp_path, clock, "old", "in the log")
    found = [one[1] for one in outcomes]
    old, new = found_in(tmp_path / "home" / FILE_NAME, clock), found_in(tmp_path / "new" / FILE_NAME, clock)
    assert (old[0], new[0]) == (["old", "in the log"], ["new"])
    first_new = found.index(new)
    assert found == [old] * first_new + [new] * (len(found) - first_new)
    assert first_new > 2
    assert len(found) - first_new > 8  # the exchange went on from each of the moments in between
    for _killed, _found, left in outcomes:
        assert {name for name in left if name not in ("store.lock", "store.use", "config.toml")} <= {
            FILE_NAME, FILE_NAME + "-wal", FILE_NAME + "-shm"
        }  # fmt: skip
    assert not outcomes[-1][0]


def test_killed_where_there_was_no_store_there_is_none_or_the_new_one(tmp_path, clock):
    found = [one[1] for one in killed_everywhere(tmp_path, clock)]
    new = found_in(tmp_path / "new" / FILE_NAME, clock)
    first_new = found.index(new)
    assert found == [None] * first_new + [new] * (len(found) - first_new)
    assert first_new > 1


def test_killed_while_the_old_store_is_put_back_it_is_the_old_or_the_new_one(tmp_path, clock):
    found = [one[1] for one in killed_everywhere(tmp_path, clock, "old", "in the log", back=True)]
    old, new = found_in(tmp_path / "home" / FILE_NAME, clock), found_in(tmp_path / "new" / FILE_NAME, clock)
    assert found[-1] == old
    changes = [before == after for before, after in itertools.pairwise(found)].count(False)
    assert all(one in (old, new) for one in found)
    assert changes == 2  # old, decided: new, decided otherwise: old


def test_a_log_that_lies_beside_the_new_store_is_not_replayed_onto_it(tmp_path, clock):
    home = tmp_path / "home"
    path = a_store(home / FILE_NAME, clock, "old", "in the log")
    assert (home / f"{FILE_NAME}-wal").stat().st_size
    exchange = swap.Exchange(path)
    exchange.begin()
    shutil.copyfile(a_database(tmp_path / "new", clock, "new"), exchange.unpacked)
    exchange.commit()
    assert not (home / f"{FILE_NAME}-wal").exists()
    assert not (home / f"{FILE_NAME}-shm").exists()
    exchange.end()
    store = Store.open(home, clock, create=False)
    assert store.tenants.all() == [(1, "new")]
    store.close()


def test_whoever_opens_the_store_meanwhile_waits_and_one_that_is_made_anew_does_not_come_between(tmp_path, clock):
    home = tmp_path / "home"
    home.mkdir()
    lock = use(home / FILE_NAME, 5, exclusive=True)
    swap.Exchange(home / FILE_NAME).begin()
    for create in (True, False):
        with pytest.raises(Unavailable):
            Store.open(home, clock, create=create, timeout_s=0.05)
    lock.close()
    assert swap.is_begun(home / FILE_NAME)
    with pytest.raises(NoStore):
        Store.open(home, clock, create=False, timeout_s=5)
    assert not swap.is_begun(home / FILE_NAME)
    Store.open(home, clock, create=True, timeout_s=5).close()


def test_an_empty_file_that_a_restore_was_about_to_replace_is_replaced(tmp_path, clock):
    home = tmp_path / "home"
    home.mkdir()
    (home / FILE_NAME).touch()
    exchange = swap.Exchange(home / FILE_NAME)
    exchange.begin()
    shutil.copyfile(a_database(tmp_path / "new", clock, "new"), exchange.folder / "new.db")
    store = Store.open(home, clock, create=False, timeout_s=5)
    assert store.tenants.count() == 1
    store.close()


def test_what_comes_beside_the_store_takes_nothing_of_the_homes_away(tmp_path, clock):
    home = tmp_path / "home"
    home.mkdir()
    (home / "config.toml").write_text("ours")
    (home / "keys").mkdir()
    exchange = swap.Exchange(home / FILE_NAME)
    exchange.begin()
    shutil.copyfile(a_database(tmp_path / "new", clock, "new"), exchange.unpacked)
    (exchange.beside / "config.toml").write_text("theirs")
    (exchange.beside / "keys").mkdir()
    (exchange.beside / "keys" / "a.pem").write_text("a key")
    exchange.commit()
    exchange.end()
    assert (home / "config.toml").read_text() == "ours"
    assert (home / "keys" / "a.pem").read_text() == "a key"
