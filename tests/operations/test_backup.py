"""Backups of a living store: whole, checked, found again, and forgotten by rule."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import msgspec
import pytest

from fedctl.access import sealing
from fedctl.access.sealing import ForeignError, HomeKey, WrongPassphraseError
from fedctl.archive import format as f
from fedctl.archive.reader import open_archive
from fedctl.archive.writer import Writer
from fedctl.errors import Corrupt, Denied, DiskFull, NoStore, NotFound, Timeout, Unavailable, UsageError
from fedctl.messages.tenant import EraseTenant
from fedctl.model.backup import KeepRules
from fedctl.operations import backup, erasure
from fedctl.operations.register import REGISTER
from fedctl.store.database import Database
from fedctl.store.ledger import tenant_digest

DAY_MS = 86_400_000


@pytest.fixture
def make(bench):
    """Back the bench's store up."""

    def make(folder: Path | None = None, **choices):
        return backup.create(bench.home, bench.clock, folder, **choices)

    return make


def verified(bench, one, **choices):
    """Verify a backup by its path, trusting as the home does."""
    trust = {name: choices.pop(name) for name in ("passphrase_file", "signed_by") if name in choices}
    home = choices.pop("home", bench.home)
    return backup.verify(home, bench.clock, Path(one.path), backup.opener(home, **trust), **choices)


def damage(path: str | Path, at: int = 100) -> None:
    """Flip a byte, and leave the times of the file as they were."""
    before = Path(path).stat()
    content = bytearray(Path(path).read_bytes())
    content[at] ^= 1
    Path(path).write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


# -- making --------------------------------------------------------------------------------------------------------


def test_a_backup_says_what_it_holds_and_was_read_again(bench, make):
    bench.keep("e1", "e2")
    one = make()
    path = Path(one.path)
    assert path.parent == bench.home / "backups"
    assert (one.episodes, one.items, one.tenants, one.parts, one.own) == (2, 0, 1, ["database"], True)
    assert (one.created_at, one.verified_at) == ("2026-01-01T00:00:00.000Z",) * 2
    assert one.size_bytes == path.stat().st_size
    assert one.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]  # and nothing else is left


def test_names_sort_by_time_and_never_meet(bench, make):
    made = [make() for _ in range(2)]
    bench.clock.advance(1)
    made.append(make())
    assert sorted(one.path for one in made) == [one.path for one in made]
    assert [one.id for one in backup.list_(bench.home)] == [one.id for one in made]


def test_keys_and_settings_come_along_only_when_asked_for(bench, make):
    (bench.home / "config.toml").write_text('format = "json"\n')
    bench.context.access.rotate(bench.clock.now_ms(), bench.clock.now_ms())
    (bench.home / "keys" / "half.new").touch()
    (bench.home / "keys" / "folder.key").mkdir()
    assert make().parts == ["database"]
    one = make(with_keys=True)
    (kid,) = bench.context.access.kids()
    assert set(one.parts) == {"database", "config.toml", "keys/backup.key", f"keys/{kid}.pem"}


def test_a_home_without_a_store_has_nothing_to_back_up(tmp_path, clock):
    with pytest.raises(NoStore):
        backup.create(tmp_path, clock, tmp_path / "dest")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_goes_with_the_next_and_a_living_one_s_stays(bench, make):
    folder = bench.home / "backups"
    dead = folder / f".fedctl-{bench.clock.new_id()}.partial"
    dead.mkdir(parents=True)
    (dead / "store.db").write_bytes(b"x" * 99)
    not_ours = folder / ".fedctl-x.partial"
    not_ours.mkdir()
    elsewhere = bench.home / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").touch()
    link = folder / f".fedctl-{bench.clock.new_id()}.partial"
    link.symlink_to(elsewhere)
    with backup.scratch(folder, bench.clock) as living:
        assert not dead.exists()
        (living / "store.db").touch()
        make()
        assert (living / "store.db").exists()
    assert not living.exists()
    assert not_ours.exists()
    assert (elsewhere / "precious").exists()


@pytest.mark.parametrize("phase", range(4))
def test_a_run_that_ends_early_leaves_nothing(bench, make, phase):
    bench.keep("e1")
    calls = 0

    def end(_done: int, _total: int | None) -> None:
        nonlocal calls
        calls += 1
        if calls > phase:
            raise Timeout("over")

    with pytest.raises(Timeout):
        make(step=end)
    assert list((bench.home / "backups").iterdir()) == []
    assert make().verified_at


def test_a_full_disk_leaves_no_half_and_says_so(bench, make, make_disk):
    disk = make_disk("1m")
    bench.keep(*(f"e{at}" for at in range(100)), input=os.urandom(9_000).hex())
    with pytest.raises(DiskFull):
        make(disk.folder)
    assert list(disk.folder.iterdir()) == []
    assert backup.list_(bench.home) == []


def test_a_backup_that_would_leave_the_store_without_room_is_not_begun(make_bench, make_disk):
    small = make_bench(make_disk("4m").folder / "home")
    for batch in range(6):
        small.keep(*(f"e{batch}-{at}" for at in range(20)), input=os.urandom(6_000).hex())
    steps: list[int] = []
    with pytest.raises(DiskFull):
        backup.create(small.home, small.clock, step=lambda done, _total: steps.append(done))
    assert steps == []
    assert list((small.home / "backups").iterdir()) == []
    small.keep("goes on")


def test_a_folder_that_takes_nothing_is_told(bench, make, make_disk, tmp_path):
    disk = make_disk("1m")
    disk.make("ro")
    with pytest.raises(Denied):
        make(disk.folder)
    with pytest.raises(Denied):
        make(disk.folder / "new")
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UsageError, match="file"):
            make(folder)


def break_a_chain(bench) -> None:
    """Damage the store where it is met only by who reads that one episode: all else goes on working."""
    bench.keep("long", input="".join(f"{at:08d}" for at in range(5000)))
    bench.store.checkpoint(truncate=True)
    bench.close()
    path = bench.home / "store.db"
    content = bytearray(path.read_bytes())
    page = content.index(b"00002500") // 4096 * 4096
    content[page : page + 4] = bytes([255] * 4)  # where the text goes on
    path.write_bytes(content)


def test_a_damaged_store_is_not_backed_up_and_what_was_backed_up_before_stays(bench, make, make_bench):
    good = make()
    break_a_chain(bench)
    assert make_bench(bench.home).store.episodes.count_everywhere() == 1  # it opens, it counts
    with pytest.raises(Corrupt, match="the store is damaged, no backup was made") as caught:
        make()
    assert "partial" not in caught.value.message
    assert [entry.name for entry in (bench.home / "backups").iterdir()] == [Path(good.path).name]


def test_what_is_erased_while_a_backup_is_made_is_not_in_it(bench, make):
    bench.keep("e1", tenant="acme")
    bench.keep("e2")
    calls = []

    def erase(_done: int, _total: int | None) -> None:
        calls.append(0)
        if len(calls) == 2:  # the copy is made, and nobody reads the store
            asked = bench.call(EraseTenant(name="acme")).erasure
            assert not asked.complete, "what is being made has it still"
            assert any("backup" in note for note in asked.notes)

    assert make(step=erase, finish=lambda: erasure.finish(bench.context)).episodes == 1
    assert [entry.suffix for entry in (bench.home / "backups").iterdir()] == [".backup"]


def test_while_an_erasure_is_unfinished_no_backup_is_made(bench, make):
    bench.keep("e1")
    with bench.store.write():
        bench.store.erasures.begin(bench.key(), None, bench.clock.now_ms())
    with pytest.raises(Unavailable, match="erased"):
        make()
    assert list((bench.home / "backups").iterdir()) == []
    assert make(finish=lambda: erasure.finish(bench.context)).episodes == 1


@pytest.fixture
def cheap(monkeypatch) -> None:
    """Let a key of a passphrase cost a millisecond; what it does cost is held to in tests/access."""
    monkeypatch.setattr(sealing, "SCRYPT_N", 1 << 10)


def test_what_is_to_be_sealed_is_laid_open_nowhere_but_in_the_home(bench, make, tmp_path, secret, cheap):
    bench.keep("e1", input="clear text")
    dest, seen = tmp_path / "usb", set()

    def look(_done: int, _total: int | None) -> None:
        for folder in (dest, bench.home):
            seen.update((folder, path.stat().st_mode & 0o777) for path in folder.glob(".*/store.db"))

    one = make(dest, passphrase_file=secret, step=look)
    verified(bench, one, passphrase_file=secret, restore_test=True, step=look)
    assert seen == {(bench.home, 0o600)}
    assert not list(bench.home.glob(".fedctl-*"))


@pytest.fixture
def secret(tmp_path):
    path = tmp_path / "secret"
    path.write_text("correct horse")
    return path


# -- checking ------------------------------------------------------------------------------------------------------


def test_a_restore_test_restores_and_leaves_nothing(bench, make):
    bench.keep("e1")
    one = make()
    bench.clock.advance(5000)
    again = verified(bench, one, restore_test=True)
    assert (one.restore_tested_at, again.restore_tested_at) == (None, again.verified_at)
    assert again.verified_at == "2026-01-01T00:00:05.000Z"
    assert backup.describe(bench.home, Path(one.path)) == again
    assert [entry.name for entry in Path(one.path).parent.iterdir()] == [Path(one.path).name]


def test_that_it_was_restored_once_is_known_until_it_is_found_damaged(bench, make):
    one = make()
    tested_at = verified(bench, one, restore_test=True).restore_tested_at
    bench.clock.advance(5000)
    assert verified(bench, one).restore_tested_at == tested_at
    damage(one.path)
    with pytest.raises(Corrupt):
        verified(bench, one)
    damage(one.path)
    assert verified(bench, one).restore_tested_at is None


def forged(bench, one, change):
    """Return a backup signed by the home that says what `one` says, with its database changed by `change(path)`."""
    database, path = bench.home / "other.db", bench.home / "forged.backup"
    with open_archive(Path(one.path), backup.opener(bench.home)) as archive, database.open("w+b") as file:
        archive.extract("database", file)
        held = archive.contents
    change(database)
    with path.open("wb") as file, database.open("rb") as source:
        writer = Writer(file, backup_id="i", created_at=one.created_at, version="1",
                        signer=HomeKey(bench.home / "keys"), sealer=None)  # fmt: skip
        writer.add(f.DATABASE, source.read)
        writer.finish(held)
    return msgspec.structs.replace(one, path=str(path))


def test_a_restore_test_finds_a_database_that_is_not_what_the_backup_says(bench, make):
    """Whole and signed, and yet of another time: only restoring it tells."""
    bench.keep("e1")
    one = make()
    bench.keep("e2")

    def take_the_later(database: Path) -> None:
        database.unlink()
        with bench.store.read():
            bench.store.database.copy_to(database)

    lie = forged(bench, one, take_the_later)
    assert verified(bench, lie).verified_at
    with pytest.raises(Corrupt, match="does not hold what the backup says"):
        verified(bench, lie, restore_test=True)
    assert backup.describe(bench.home, Path(lie.path)).verified_at is None


def test_a_restore_test_finds_what_somebody_planted_in_the_database(bench, make):
    bench.keep("e1")

    def plant(database: Path) -> None:
        opened = Database(database)
        with opened.write():
            opened.run_script("CREATE TRIGGER planted AFTER INSERT ON episodes BEGIN SELECT 1; END")
        opened.checkpoint(truncate=True)
        opened.close()

    with pytest.raises(Corrupt, match="planted"):
        verified(bench, forged(bench, make(), plant), restore_test=True)


def test_damage_is_remembered_until_it_is_found_whole_again(bench, make):
    one = make()
    damage(one.path)
    with pytest.raises(Corrupt, match="database"):
        verified(bench, one)
    shown = backup.describe(bench.home, Path(one.path))
    assert shown.verified_at is None
    assert "database" in shown.error
    damage(one.path)
    assert verified(bench, one).error is None


def test_a_file_that_was_replaced_is_no_longer_verified(bench, make):
    one = make()
    os.utime(one.path, ns=(1, 1))
    assert backup.describe(bench.home, Path(one.path)).verified_at is None


def test_a_lost_or_damaged_register_costs_only_what_verify_finds_again(bench, make):
    one = make()
    for content in (b"", b"null", b"[", b"\xff"):
        (bench.home / REGISTER).write_bytes(content)
        (shown,) = backup.list_(bench.home)
        assert (shown.id, shown.verified_at) == (one.id, None)
    assert verified(bench, one).verified_at


def test_a_sealed_one_is_checked_without_its_passphrase_and_restored_only_with_it(bench, make, tmp_path, cheap):
    bench.keep("e1")
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    right.write_text("correct horse\n")
    wrong.write_text("battery staple\n")
    one = make(passphrase_file=right)
    assert (one.sealed, one.episodes, one.tenants, one.parts) == (True, None, None, ["database"])
    assert one.verified_at
    assert verified(bench, one).verified_at
    with pytest.raises(UsageError, match="sealed"):
        verified(bench, one, restore_test=True)
    with pytest.raises(WrongPassphraseError) as caught:
        verified(bench, one, passphrase_file=wrong)
    assert caught.value.exit == 9
    assert backup.describe(bench.home, Path(one.path)).error is None  # nothing is wrong with it
    assert verified(bench, one, passphrase_file=right, restore_test=True).verified_at
    assert backup.backups_holding(bench.home, tenant_digest("nobody")) == [backup.describe(bench.home, Path(one.path))]


def test_another_home_s_backup_is_foreign_and_not_called_damaged(bench, make, make_bench, make_clock, tmp_path):
    one = make(tmp_path / "shared")
    other = make_bench(clock=make_clock(bench.clock.ms + DAY_MS))
    theirs = backup.create(other.home, other.clock, tmp_path / "shared")
    with pytest.raises(ForeignError, match=one.signed_by):
        verified(other, one)
    assert verified(other, one, signed_by=one.signed_by).verified_at
    listed = [(found.id, found.own, found.error) for found in backup.list_(other.home)]
    assert listed == [(one.id, False, None), (theirs.id, True, None)]


def test_a_fresh_machine_checks_a_backup_and_needs_no_home(bench, make, tmp_path):
    one = make()
    nowhere = tmp_path / "nowhere"
    trust = backup.opener(nowhere)
    assert backup.verify(nowhere, bench.clock, Path(one.path), trust).sha256 == one.sha256
    assert one.signed_by in trust.notes[0]
    assert not nowhere.exists()


# -- finding -------------------------------------------------------------------------------------------------------


def test_a_backup_is_found_by_id_by_file_and_as_the_latest(bench, make, tmp_path, monkeypatch):
    one = make(tmp_path / "here")
    bench.clock.advance(1)
    two = make()
    assert backup.find(bench.home, one.id) == Path(one.path)
    assert backup.find(bench.home, one.path) == Path(one.path)
    monkeypatch.chdir(tmp_path / "here")
    assert backup.find(bench.home, Path(one.path).name) == Path(one.path)
    assert backup.find(bench.home, "latest") == Path(two.path)
    damage(two.path, at=-5)
    assert backup.find(bench.home, "latest") != Path(one.path)  # an older one in its place would be a lie
    for absent in (bench.clock.new_id(), "nothing", str(tmp_path / "absent.backup")):
        with pytest.raises(NotFound):
            backup.find(bench.home, absent)


def test_all_folders_that_backups_went_to_are_listed_and_one_that_is_not_there_is_passed_over(bench, make, tmp_path):
    one = make(tmp_path / "usb")
    two = make()
    assert {found.id for found in backup.list_(bench.home)} == {one.id, two.id}
    (tmp_path / "usb").rename(tmp_path / "unplugged")
    assert [found.id for found in backup.list_(bench.home)] == [two.id]
    assert tmp_path / "usb" in backup.known_folders(bench.home)
    with pytest.raises(NotFound):
        backup.list_(bench.home, tmp_path / "usb")
    verified(bench, msgspec.structs.replace(one, path=str(tmp_path / "unplugged" / Path(one.path).name)))
    assert len(backup.known_folders(bench.home)) == 2  # whoever looks at a file somewhere makes no folder known


def test_a_latest_that_may_not_be_the_newest_is_said_to_be_so(bench, make, tmp_path):
    old, usb = make(), tmp_path / "usb"
    bench.clock.advance(1)
    new = make(usb)
    found = backup.find(bench.home, "latest")
    assert (found, backup.unsure(bench.home, found)) == (Path(new.path), [])
    usb.rename(tmp_path / "unplugged")
    found = backup.find(bench.home, "latest")
    assert found == Path(old.path)
    (why,) = backup.unsure(bench.home, found)
    assert str(usb) in why
    with pytest.raises(NotFound) as caught:
        backup.find(bench.home, new.id)
    assert str(usb) in caught.value.hint
    usb.mkdir()  # a mount point without its disk
    verified(bench, old)
    (why,) = backup.unsure(bench.home, found)
    assert new.path in why
    bench.clock.advance(1)
    newest = make()
    assert backup.unsure(bench.home, Path(newest.path)) == []


def test_only_backups_are_listed(bench, make):
    one = make()
    folder = bench.home / "backups"
    (folder / "notes.txt").touch()
    (folder / "latest.backup").symlink_to(one.path)
    (folder / Path(one.path).name.replace("2026", "2027")).symlink_to(one.path)
    (folder / Path(one.path).name.replace("2026", "2028")).mkdir()
    assert [found.path for found in backup.list_(bench.home)] == [one.path]


def test_the_backups_that_hold_a_tenant_are_told(bench, make):
    bench.keep("e1", tenant="acme")
    one = make()
    assert backup.backups_holding(bench.home, tenant_digest("acme")) == [one]
    assert backup.backups_holding(bench.home, tenant_digest("other")) == []
    assert backup.unlooked(bench.home) == []
    (bench.home / "backups").rename(bench.home / "unplugged")
    (note,) = backup.unlooked(bench.home)
    assert str(bench.home / "backups") in note


def test_what_died_halfway_holds_nothing_once_it_is_asked_who_does(bench, make):
    make()
    dead = [folder / f".fedctl-{bench.clock.new_id()}.partial" for folder in (bench.home, bench.home / "backups")]
    for one in dead:
        one.mkdir()
    with backup.scratch(bench.home / "backups", bench.clock) as living:
        assert backup.sweep_partials(bench.home) == [living]
    assert not [one for one in dead if one.exists()]


# -- forgetting ----------------------------------------------------------------------------------------------------


def daily(bench, make, days: int):
    made = []
    for _ in range(days):
        made.append(make())
        bench.clock.advance(DAY_MS)
    return made


def test_prune_removes_what_no_rule_keeps_and_says_why_the_rest_stays(bench, make):
    made = daily(bench, make, 5)
    rules = KeepRules(daily=2)
    dry = backup.prune(bench.home, bench.clock, None, rules, dry_run=True)
    assert [found.id for found in backup.list_(bench.home)] == [one.id for one in made]
    done = backup.prune(bench.home, bench.clock, None, rules)
    assert msgspec.structs.replace(dry, dry_run=False) == done
    assert [found.id for found in backup.list_(bench.home)] == [one.id for one in made[3:]]
    assert (done.examined, done.removed, done.kept, done.reasons) == (5, 3, 2, {"daily": 2})
    assert done.bytes_freed == sum(one.size_bytes for one in made[:3])
    assert [(one.kept, one.reasons) for one in done.backups] == [(True, ["daily"])] * 2 + [(False, [])] * 3


def test_without_a_rule_nothing_is_removed(bench, make):
    make()
    with pytest.raises(UsageError):
        backup.prune(bench.home, bench.clock, None, KeepRules())
    assert len(backup.list_(bench.home)) == 1


def test_a_damaged_backup_is_not_what_is_kept(bench, make):
    """The newest rots unseen: the newest whole one stays in its place, and the damaged one is left alone."""
    made = daily(bench, make, 3)
    damage(made[2].path)
    done = backup.prune(bench.home, bench.clock, None, KeepRules(last=1))
    assert [one.id for one in done.backups if one.kept] == [made[1].id]
    assert [made[2].path in why for why in done.damaged] == [True]
    assert backup.prune(bench.home, bench.clock, None, KeepRules(last=1)).damaged == done.damaged  # and now it is known
    assert {found.id for found in backup.list_(bench.home)} == {made[1].id, made[2].id}
    assert backup.list_(bench.home)[-1].error is not None


def test_a_backup_dated_in_the_future_takes_no_other_s_place(bench, make):
    bench.clock.advance(30 * DAY_MS)
    future = make()
    bench.clock.advance(-30 * DAY_MS)
    old = make()
    bench.clock.advance(1)
    fresh = make()
    done = backup.prune(bench.home, bench.clock, None, KeepRules(last=1), fresh=fresh)
    assert [(one.id, one.reasons) for one in done.backups] == [
        (future.id, ["future"]), (fresh.id, ["last"]), (old.id, [])
    ]  # fmt: skip


def test_if_none_is_whole_nothing_is_removed(bench, make):
    for one in daily(bench, make, 2):
        damage(one.path)
    with pytest.raises(Corrupt, match="none of the backups"):
        backup.prune(bench.home, bench.clock, None, KeepRules(last=1))
    with pytest.raises(Corrupt, match="none of the backups"):  # nor when that is known already
        backup.prune(bench.home, bench.clock, None, KeepRules(last=1))
    assert len(backup.list_(bench.home)) == 2


def test_another_home_s_backups_are_never_removed(bench, make, make_bench, make_clock, tmp_path):
    folder = tmp_path / "shared"
    other = make_bench(clock=make_clock(bench.clock.ms - DAY_MS))
    theirs = [backup.create(other.home, other.clock, folder) for _ in range(2)]
    mine = [make(folder) for _ in range(2)]
    backup.prune(bench.home, bench.clock, folder, KeepRules(last=1))
    left = {found.id for found in backup.list_(bench.home, folder)}
    assert left >= {one.id for one in theirs}
    assert len(left & {one.id for one in mine}) == 1


def test_prune_of_a_folder_without_backups_does_nothing(bench, tmp_path):
    assert backup.prune(bench.home, bench.clock, None, KeepRules(last=1)).examined == 0
    assert backup.prune(bench.home, bench.clock, tmp_path, KeepRules(last=1)).removed == 0
    with pytest.raises(NotFound):
        backup.prune(bench.home, bench.clock, tmp_path / "typo", KeepRules(last=1))
