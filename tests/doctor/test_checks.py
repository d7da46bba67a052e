"""Each check, on a home that is well and on one that was broken on purpose."""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import socket
import stat
from pathlib import Path
from types import SimpleNamespace

import apsw
import pytest

from fedctl import config
from fedctl.agent import folder as folders
from fedctl.disk import new_content
from fedctl.doctor import disk, machine
from fedctl.doctor import hub as hubs
from fedctl.doctor import store as stores
from fedctl.doctor.examine import CHECKS, examine
from fedctl.doctor.patient import Patient
from fedctl.doctor.report import ok, report, warning
from fedctl.errors import Denied, Failure, UsageError
from fedctl.messages.pool import ClaimItems, PushItems
from fedctl.messages.worker import RegisterWorker
from fedctl.model.pool import ItemDraft
from fedctl.operations import backup as backups
from fedctl.store.lock import use

DAY_MS = 86_400_000


class Clinic:
    """A home, and what a doctor says of it."""

    def __init__(self, home: Path, clock, embedder, temporary: Path) -> None:
        self.home, self.clock, self.embedder = home, clock, embedder
        self.environ = {"TMPDIR": str(temporary)}

    def patient(self, *, config_error=None, **flags: str) -> Patient:
        settings = config.load({"home": str(self.home), **flags}, self.environ)
        return Patient(settings, self.environ, config_error=config_error, clock=self.clock, embedder=self.embedder)

    def look(self, name: str, *, fix: bool = False, **flags):
        """Return what one check says; None where it has nothing to look at."""
        patient = self.patient(**flags)
        try:
            found = list(examine(patient, fix=fix, checks={name: CHECKS[name]}))
        finally:
            patient.forget()
        return found[0] if found else None

    def all(self, **flags) -> dict:
        patient = self.patient(**flags)
        try:
            return {one.check: one for one in examine(patient)}
        finally:
            patient.forget()


@pytest.fixture
def last_resort(monkeypatch, tmp_path):
    """Where agents' folders go at last, for this test alone."""
    monkeypatch.setattr(folders, "LAST_RESORT", tmp_path / "last")
    (tmp_path / "last").mkdir()
    return tmp_path / "last"


@pytest.fixture
def clinic(bench, make_embedder, tmp_path, last_resort):
    """A home with a store; time there stands still."""
    (tmp_path / "tmp").mkdir()
    return Clinic(bench.home, bench.clock, make_embedder(), tmp_path / "tmp")


@pytest.fixture
def nowhere(clock, make_embedder, tmp_path, last_resort):
    """A home that is not there."""
    return Clinic(tmp_path / "nowhere", clock, make_embedder(), tmp_path)


# -- all of them ---------------------------------------------------------------------------------------------------


def test_a_fresh_store_is_well(clinic):
    found = clinic.all()
    wrong = {name: one.found for name, one in found.items() if one.status not in ("ok", "note")}
    assert wrong.keys() <= {"file system"}, wrong  # tests may run in memory
    assert found.keys() == CHECKS.keys() - {"certificate", "hub disk"}


def test_looking_changes_nothing(clinic, bench):
    bench.keep("one")
    (clinic.home / "hub.sock").touch()
    clinic.home.chmod(0o755)
    before = snapshot_of(clinic.home)
    clinic.all()
    assert snapshot_of(clinic.home) == before


def snapshot_of(home: Path) -> dict:
    """What there is in a home: names, modes, contents; SQLite's shared memory is nobody's content."""
    return {
        path.name: (path.lstat().st_mode, path.read_bytes() if path.is_file() else None)
        for path in [home, *home.rglob("*")]
        if not path.name.endswith("-shm")
    }


def test_where_there_is_no_home_that_is_no_finding_and_none_is_made(nowhere):
    found = nowhere.all()
    assert report([one for one in found.values() if one.check != "file system"]).ok  # tests may run in memory
    assert found["home"].status == "note"
    assert "store" not in found
    assert not nowhere.home.exists()


def test_a_check_that_breaks_is_a_finding_and_the_next_goes_on(nowhere):
    def broken(_patient):
        raise ZeroDivisionError("oh")

    def refused(_patient):
        raise Failure("no", hint="a hint")

    def mendable(_patient):
        raise Failure("no", hint="fedctl hub stop")

    checks = {"a": broken, "b": refused, "c": lambda _patient: None, "d": lambda _patient: ok("fine"), "e": mendable}
    found = list(examine(nowhere.patient(), checks=checks))
    statuses = [(one.check, one.status) for one in found]
    assert statuses == [("a", "failure"), ("b", "failure"), ("d", "ok"), ("e", "failure")]
    assert "ZeroDivisionError: oh" in found[0].found
    assert (found[1].found, found[1].fix) == ("no (a hint)", None), "a fix is a command"
    assert (found[3].found, found[3].fix) == ("no", "fedctl hub stop")


def test_what_cannot_be_mended_stays_a_finding_and_says_why(nowhere):
    def refuse():
        raise Denied("not yours")

    checks = {"a": lambda _patient: warning("bad", "fix it", SimpleNamespace(would="try", do=refuse))}
    (found,) = examine(nowhere.patient(), fix=True, checks=checks)
    assert (found.status, found.fixed) == ("warning", None)
    assert "not yours" in found.found


# -- the machine ---------------------------------------------------------------------------------------------------


def test_an_old_python_and_an_old_sqlite_are_failures(clinic, monkeypatch):
    monkeypatch.setattr(machine, "PYTHON_LEAST", (99,))
    monkeypatch.setattr(machine, "SQLITE_LEAST", (99, 0, 0))
    assert clinic.look("versions").status == "failure"
    assert clinic.look("sqlite").status == "failure"


def test_an_sqlite_that_finds_no_words_is_a_failure(clinic, monkeypatch):
    def lacks():
        raise Failure("SQLite: no such module: fts5")

    for broken in (lambda: False, lacks):
        monkeypatch.setattr(machine, "finds_words", broken)
        found = clinic.look("sqlite")
        assert (found.status, "FTS5" in found.found) == ("failure", True)


def test_versions_are_compared_as_numbers():
    assert machine.version("3.9") < machine.version("3.51.3") < machine.version("3.51.10rc1")


def test_a_model_that_is_damaged_slow_or_not_the_store_s_is_told(clinic, bench, make_embedder):
    def damaged():
        raise Failure("the model's digest is another one")

    clinic.embedder.verify = damaged
    assert clinic.look("model").status == "failure"
    clinic.embedder = make_embedder(clock=clinic.clock, cost_ms=300)
    assert "slow" in clinic.look("model").found
    bench.keep("one")
    bench.hits("one")  # it is embedded with `fake`
    clinic.embedder = make_embedder("other")
    found = clinic.look("model")
    assert found.status == "warning"
    assert found.fix.endswith("memory reindex")
    clinic.embedder = make_embedder()
    assert clinic.look("model").status == "ok"


# -- the home ------------------------------------------------------------------------------------------------------


def test_a_wrong_config_file_is_a_failure_and_everything_else_is_still_looked_at(clinic):
    (clinic.home / "config.toml").write_text('tenat = "x"\n')
    with pytest.raises(UsageError) as error:
        clinic.patient()
    settings = config.load({"home": str(clinic.home)}, {}, files=False)
    patient = Patient(settings, {}, config_error=error.value, embedder=clinic.embedder)
    found = list(examine(patient, checks={name: CHECKS[name] for name in ("config", "schema")}))
    patient.forget()
    assert [one.status for one in found] == ["failure", "ok"]
    assert "did you mean tenant?" in found[0].found


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o701])
def test_a_home_that_others_may_look_into_is_closed(clinic, mode):
    clinic.home.chmod(mode)
    found = clinic.look("home")
    assert (found.status, found.fix) == ("warning", f"chmod 700 {clinic.home}")
    mended = clinic.look("home", fix=True)
    assert (mended.status, mended.fixable) == ("ok", False)
    assert mended.fixed is not None
    assert stat.S_IMODE(clinic.home.stat().st_mode) == 0o700


def test_a_key_that_others_may_read_is_worse_than_a_log(clinic):
    (clinic.home / "hub.log").touch(0o644)
    assert clinic.look("permissions").status == "warning"
    (clinic.home / "keys").mkdir(mode=0o700)
    (clinic.home / "keys" / "k.pem").touch(0o640)
    assert clinic.look("permissions").status == "failure"
    assert clinic.look("permissions", fix=True).status == "ok"
    assert stat.S_IMODE((clinic.home / "keys" / "k.pem").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("kind", "status"),
    [("ext4", "ok"), ("apfs", "ok"), ("nfs4", "failure"), ("cifs", "failure"), ("fuse.sshfs", "failure"),
     ("fuse.unknown", "warning"), ("9p", "warning"), ("tmpfs", "warning"), ("overlay", "note")],
)  # fmt: skip
def test_file_systems_are_judged_by_their_kind(clinic, monkeypatch, kind, status):
    monkeypatch.setattr(disk, "mounts", lambda: [disk.Mount("/", kind)])
    found = clinic.look("file system")
    assert (found.status, found.figures["kind"]) == (status, kind)


def test_mounts_are_read_on_linux_and_on_macos():
    linux = disk.from_mountinfo(
        "22 1 259:1 / / rw,relatime shared:1 - ext4 /dev/root rw\n"
        "99 22 0:45 / /mnt/with\\040space rw,noatime shared:7 - nfs4 host:/x rw\n"
        "nonsense\n"
    )
    assert linux == [("/", "ext4"), ("/mnt/with space", "nfs4")]
    assert disk.holder("/mnt/with space/home", linux).kind == "nfs4"
    assert disk.holder("/mnt/with spaces", linux).kind == "ext4"
    assert disk.holder("/x", []) is None
    assert disk.from_mount("/dev/disk3s1s1 on / (apfs, sealed, local)\n//u@h/s on /Volumes/a b (smbfs, nodev)\n") == [
        ("/", "apfs"), ("/Volumes/a b", "smbfs"),
    ]  # fmt: skip


@pytest.mark.parametrize(("free", "status"), [(1000, "ok"), (100, "warning"), (10, "failure")])
def test_a_disk_that_is_nearly_full_is_told(clinic, monkeypatch, free, status):
    state = SimpleNamespace(f_blocks=4000, f_frsize=1 << 20, f_bavail=free)
    monkeypatch.setattr(disk.os, "statvfs", lambda _path: state)
    assert clinic.look("disk").status == status


def test_what_a_dead_agent_and_a_dead_copy_left_is_removed_and_the_living_is_left_alone(clinic, tmp_path):
    dead, living, young = (tmp_path / "tmp" / f"fedctl-agent-{name}" for name in ("dead", "living", "young"))
    for folder in (dead, living, young):
        folder.mkdir()
    old_s = clinic.clock.ms / 1000 - 7200
    partial = clinic.home / f".fedctl-{clinic.clock.new_id()}.partial"
    partial.mkdir()
    unborn = clinic.home / f".export.jsonl.{os.getpid()}.fedctl"
    unborn.touch()
    held = os.open(living, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    for path in (dead, living, unborn):
        os.utime(path, (old_s, old_s))
    os.utime(young, (clinic.clock.ms / 1000,) * 2)
    found = clinic.look("leftovers")
    assert found.status == "warning"
    assert set(found.figures["files"]) == {str(dead), str(partial), str(unborn)}
    assert clinic.look("leftovers", fix=True).status == "ok"
    os.close(held)
    assert not dead.exists()
    assert not partial.exists()
    assert living.exists()
    assert young.exists()


def test_what_others_left_in_the_home_and_what_is_in_the_making_is_no_leftover(clinic):
    names = ("mine.tmp", "x.part", "store.db.newer", ".fedctl-backup.partial", "a.exchange", ".x.fedctl", ".y.1.tmp")
    for name in names:
        (clinic.home / name).mkdir()
        os.utime(clinic.home / name, (0, 0))
        (clinic.home / f"{name}.tmp").touch()
        os.utime(clinic.home / f"{name}.tmp", (0, 0))
    (clinic.home / ".a.1.fedctl").symlink_to("mine.tmp")
    (clinic.home / "store.db.new").mkdir()
    os.utime(clinic.home / "store.db.new", (0, 0))
    with backups.scratch(clinic.home, clinic.clock), new_content(clinic.home / "export.jsonl"):
        for path in clinic.home.glob(".*"):
            if not path.is_symlink():
                os.utime(path, (0, 0))
        before = snapshot_of(clinic.home)
        found = clinic.look("leftovers", fix=True)
        assert (found.status, found.fixed) == ("ok", None)
        assert snapshot_of(clinic.home) == before


def test_what_comes_to_life_after_the_look_is_not_removed(clinic):
    partial = clinic.home / f".fedctl-{clinic.clock.new_id()}.partial"
    partial.mkdir()
    patient = clinic.patient()
    found = disk.leftovers(patient)
    held = os.open(partial, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_SH)
    assert found.mend.do() == "0 leftovers removed"
    assert partial.exists()
    os.close(held)
    assert found.mend.do() == "1 leftover removed"


def test_agents_folders_are_found_where_they_go_at_last(clinic, last_resort):
    left = last_resort / "fedctl-agent-dead"
    left.mkdir()
    os.utime(left, (0, 0))
    assert clinic.look("leftovers").figures["files"] == [str(left)]


def test_agents_whose_sockets_lie_on_a_network_are_told(clinic, monkeypatch, last_resort):
    where = f"{last_resort}"
    monkeypatch.setattr(disk, "mounts", lambda: [disk.Mount("/", "ext4"), disk.Mount(where, "nfs4")])
    clinic.environ = {"TMPDIR": where}
    monkeypatch.setattr(folders, "fits", lambda _path: True)
    found = clinic.look("file system")
    assert (found.status, found.fix) == ("warning", "export TMPDIR=/a/local/folder")


def test_rights_are_not_taken_through_a_link(clinic, tmp_path):
    (tmp_path / "theirs").touch(0o644)
    (clinic.home / "hub.log").symlink_to(tmp_path / "theirs")
    with pytest.raises(OSError, match=r"hub\.log"):
        disk._chmod([(clinic.home / "hub.log", 0o600)])
    assert stat.S_IMODE((tmp_path / "theirs").stat().st_mode) == 0o644


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a home away")
def test_in_another_users_home_nothing_is_mended(clinic):
    (clinic.home / "hub.log").touch(0o644)
    os.chown(clinic.home, 12345, 12345)
    assert clinic.look("permissions").fixable is False
    found = clinic.look("permissions", fix=True)
    assert (found.status, found.fixed, "another user's" in found.found) == ("warning", None, True)
    assert stat.S_IMODE((clinic.home / "hub.log").stat().st_mode) == 0o644


@pytest.mark.parametrize("name", ["a PWN b", 'a"PWN', "a'PWN", "$(touch PWN)"])
def test_every_fix_splits_into_the_words_that_are_meant(clinic, bench, monkeypatch, tmp_path, name):
    bench.keep("one")
    bench.call(RegisterWorker(id="w1", heartbeat_interval_ms=1000))
    clinic.clock.advance(600_000)
    bench.close()
    clinic.home = Path(shutil.copytree(bench.home, tmp_path / name))
    clinic.home.chmod(0o755)
    for left in ("hub.json", "hub.sock"):
        (clinic.home / left).touch(0o644)
    (clinic.home / f".fedctl-{clinic.clock.new_id()}.partial").mkdir()
    for limit, value in (("LOG_MAX_BYTES", -1), ("MANY_PENDING", 0)):
        monkeypatch.setattr(stores, limit, value)
    monkeypatch.setattr(disk, "mounts", lambda: [disk.Mount("/", "nfs")])
    state = SimpleNamespace(f_blocks=4000, f_frsize=1 << 20, f_bavail=10)
    monkeypatch.setattr(disk.os, "statvfs", lambda _path: state)
    fixes = fixes_of(clinic)
    (clinic.home / "store.db").write_bytes(b"")
    fixes += fixes_of(clinic)
    words = [word for fix in fixes for word in shlex.split(fix, comments=True)]
    said = [word for word in words if "PWN" in word]
    assert len(said) > 10
    assert [word for word in said if f"/{name}" not in word] == []


def fixes_of(clinic: Clinic) -> list[str]:
    """Everything that is to be pasted, for a home that was named with a flag and has a wrong config file."""
    settings = config.load({"home": str(clinic.home)}, {})
    patient = Patient(settings, clinic.environ, config_error=UsageError("wrong"), clock=clinic.clock,
                      embedder=clinic.embedder)  # fmt: skip
    found = list(examine(patient))
    patient.forget()
    assert len([one for one in found if one.fix]) > 6
    return [one.fix for one in found if one.fix]


# -- the store -----------------------------------------------------------------------------------------------------


def test_a_store_that_is_gone_and_has_backups_is_a_failure(clinic, bench):
    bench.keep("one")
    backups.create(clinic.home, clinic.clock)
    bench.close()
    for path in clinic.home.glob("store.db*"):
        path.unlink()
    found = clinic.look("schema")
    assert found.status == "failure"
    assert found.fix.endswith("restore latest")


def test_a_newer_schema_is_a_failure_and_an_older_one_is_brought_up_only_when_asked(clinic, bench):
    bench.close()
    set_version(clinic.home, 99)
    found = clinic.look("schema")
    assert (found.status, found.figures["schema"]) == ("failure", 99)
    assert "store" not in clinic.all()


def set_version(home: Path, version: int) -> None:
    database = apsw.Connection(str(home / "store.db"))
    database.execute(f"pragma user_version = {version}").fetchall()
    database.close()


def test_an_older_schema_is_brought_up_only_when_asked(clinic, clock):
    from fedctl.store import migrate
    from fedctl.store.database import Database

    home = clinic.home.with_name("older")
    home.mkdir(mode=0o700)
    (home / "store.db").touch(0o600)
    database = Database(home / "store.db")
    with database.write():
        migrate.migrate(database, 0, through=migrate.SCHEMA_VERSION - 1)
    database.use_wal()
    database.close()
    clinic.home = home
    assert clinic.look("schema").status == "warning"
    assert clinic.look("schema").status == "warning", "looking has not changed it"
    mended = clinic.look("schema", fix=True)
    assert (mended.status, mended.figures["schema"]) == ("ok", migrate.SCHEMA_VERSION)


def test_an_exchange_that_was_begun_is_undone_only_when_asked(clinic, bench):
    bench.keep("one")
    bench.close()
    folder = clinic.home / "store.db.exchange"
    folder.mkdir()
    (folder / "unpacked.db").touch()
    os.utime(folder, (0, 0))
    assert (clinic.look("schema").status, clinic.look("store")) == ("warning", None)
    assert clinic.look("leftovers").status == "ok", "it may hold the store: nothing to be removed by hand"
    assert folder.exists()
    assert clinic.look("schema", fix=True).status == "ok"
    assert not folder.exists()


def test_a_store_that_somebody_has_alone_is_waited_for_once(clinic, bench, monkeypatch):
    bench.close()
    monkeypatch.setattr("fedctl.doctor.patient.PATIENCE_MS", 1)
    alone = use(clinic.home / "store.db", 0, exclusive=True)
    found = clinic.all()
    alone.close()
    assert [name for name, one in found.items() if one.status == "failure"] == ["schema"]
    assert "rewritten" in found["schema"].found


@pytest.mark.parametrize("content", [b"", b"no database at all" * 1000])
def test_what_is_no_store_is_a_failure_with_no_store_in_its_place(clinic, bench, content):
    bench.close()
    for path in clinic.home.glob("store.db-*"):
        path.unlink()
    (clinic.home / "store.db").write_bytes(content)
    found = clinic.look("schema")
    assert found.status == "failure"
    assert found.fix.startswith("cp -a"), "there is no backup to restore"
    assert (clinic.home / "store.db").read_bytes() == content


def test_a_damaged_page_is_a_failure_and_the_fix_is_the_backup(clinic, bench):
    bench.keep(*(f"episode {number}" for number in range(50)))
    backups.create(clinic.home, clinic.clock)
    bench.store.checkpoint(truncate=True)
    bench.close()
    with (clinic.home / "store.db").open("r+b") as file:
        size = file.seek(0, 2)
        for page in range(size // 4096 // 2, size // 4096):
            file.seek(page * 4096)
            file.write(b"\xff" * 64)
    found = clinic.look("store")
    assert found.status == "failure"
    assert found.fix.endswith("restore latest --overwrite")


def test_words_that_do_not_agree_are_made_anew(clinic, bench):
    bench.keep("alpha", "beta")
    with bench.store.write():
        bench.store.database.run(f"DELETE FROM words_{bench.key()}_docsize WHERE id = 1")
    found = clinic.look("store")
    assert (found.status, found.fixable) == ("warning", True)
    assert found.fix.endswith("memory reindex")
    assert clinic.look("store", fix=True).status == "ok"


def test_a_long_log_is_folded(clinic, bench, monkeypatch):
    bench.keep("one")
    monkeypatch.setattr(stores, "LOG_MAX_BYTES", 100)
    assert clinic.look("log").status == "warning"
    mended = clinic.look("log", fix=True)
    assert (mended.status, mended.figures["wal_bytes"]) == ("ok", 0)


def test_a_damaged_ledger_of_erasures_is_a_failure(clinic, bench):
    (bench.home / "erasures").write_text("nonsense\n")
    found = clinic.look("erasures")
    assert found.status == "failure"
    assert "line 1 is damaged in the ledger" in found.found


def test_an_erasure_that_has_not_ended_is_a_warning_and_is_ended(clinic, bench):
    bench.keep("one", tenant="acme")
    with bench.store.write():
        bench.store.erasures.begin(bench.key("acme"), None, clinic.clock.ms)
    assert clinic.look("erasures").figures["unfinished"] == 1
    assert clinic.look("erasures", fix=True).status == "ok"


def test_many_episodes_that_wait_are_a_warning(clinic, bench, monkeypatch):
    monkeypatch.setattr(stores, "MANY_PENDING", 1)
    bench.keep("one")
    assert clinic.look("embeddings").status == "note"
    bench.keep("two")
    found = clinic.look("embeddings")
    assert found.status == "warning"
    assert found.fix.endswith("hub start --detach")


def test_backups_are_asked_for_by_who_has_something_to_lose(clinic, bench):
    assert clinic.look("backup").status == "ok"
    bench.keep("one")
    assert clinic.look("backup").found == "there is no backup of 1 episode"
    made = backups.create(clinic.home, clinic.clock)
    assert clinic.look("backup").status == "ok"
    clinic.clock.advance(8 * DAY_MS)
    assert clinic.look("backup").status == "ok", "nothing has changed since"
    bench.keep("two")
    found = clinic.look("backup")
    assert (found.status, found.figures["age_s"]) == ("warning", 8 * 86_400)
    clinic.clock.advance(23 * DAY_MS)
    backups.create(clinic.home, clinic.clock)
    assert clinic.look("backup").status == "ok"
    Path(made.path).write_bytes(b"x")
    assert "damaged" in clinic.look("backup").found


def test_a_backup_that_nobody_has_verified_for_long_is_a_warning(clinic, bench):
    bench.keep("one")
    backups.create(clinic.home, clinic.clock)
    clinic.clock.advance(31 * DAY_MS)
    found = clinic.look("backup")
    assert found.status == "warning"
    assert found.fix.endswith("backup verify latest")


def test_a_clock_behind_the_newest_change_is_a_warning(clinic, bench):
    bench.keep("one")
    assert clinic.look("clock").status == "ok"
    clinic.clock.ms -= 3_600_000
    assert clinic.look("clock").status == "warning"


# -- work ----------------------------------------------------------------------------------------------------------


def test_silent_workers_expired_leases_and_poisoned_items_are_told_with_their_tenants(clinic, bench):
    bench.call(RegisterWorker(id="w1", heartbeat_interval_ms=1000), tenant="acme")
    bench.call(PushItems(pool="builds", items=[ItemDraft(id="i1", max_retries=1)]), tenant="acme")
    bench.call(ClaimItems(pool="builds", worker_id="w1", lease_ms=1000), tenant="acme")
    assert [clinic.look(name).status for name in ("workers", "leases", "pools")] == ["ok"] * 3
    clinic.clock.advance(2500)
    workers, leases = clinic.look("workers"), clinic.look("leases")
    assert (workers.status, workers.figures["stale"], leases.status) == ("warning", 1, "note")
    assert workers.fix.endswith("--tenant acme worker reap")
    clinic.clock.advance(600_000)
    assert clinic.look("leases").status == "warning"
    bench.call(ClaimItems(pool="builds", worker_id="w1", lease_ms=1000), tenant="acme")  # it is poisoned by that
    pools = clinic.look("pools")
    assert (pools.status, pools.figures["poisoned"]) == ("note", 1)
    assert clinic.look("leases").status == "ok"


# -- the hub -------------------------------------------------------------------------------------------------------


def test_what_a_killed_hub_left_is_removed_and_a_long_log_is_told(clinic, monkeypatch):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(clinic.home / "hub.sock"))
    (clinic.home / "hub.json").touch(0o600)
    assert clinic.look("hub files").status == "warning"
    assert clinic.look("hub files", fix=True).status == "ok"
    assert not (clinic.home / "hub.sock").exists()
    monkeypatch.setattr(disk, "LOG_MAX_BYTES", 3)
    (clinic.home / "hub.log").write_text("long")
    assert clinic.look("hub files").status == "warning"


def test_a_hub_of_another_version_is_a_warning_and_none_is_none(clinic, monkeypatch):
    assert clinic.look("hub").figures == {"running": False}
    info = SimpleNamespace(version="0.0.1", url="ws://h:1", pid=1, ready=True, started_at="2026-01-01T00:00:00.000Z")
    monkeypatch.setattr(Patient, "hub_info", info)
    found = clinic.look("hub")
    assert (found.status, found.figures["version"]) == ("warning", "0.0.1")


def test_a_hub_elsewhere_that_does_not_answer_is_a_failure_and_nothing_here_is_looked_at(clinic):
    found = clinic.all(hub="ws://127.0.0.1:1")
    assert found["hub"].status == "failure"
    assert found.keys() == {"versions", "sqlite", "config", "hub", "model"}


def test_a_certificate_is_asked_for_only_with_tls(clinic):
    assert hubs.certificate(clinic.patient(hub="ws://127.0.0.1:1")) is None
    assert hubs.certificate(clinic.patient(hub="wss://127.0.0.1:1")).status == "failure"
