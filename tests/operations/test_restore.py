"""Restoring: what the store is afterwards, what of the home stays, and what is refused with nothing touched."""

# ruff: noqa: PLR0913  a test names all the fixtures it stands on
from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from fedctl.access import sealing
from fedctl.archive.reader import open_archive
from fedctl.errors import Conflict, Corrupt, DiskFull, Failure, Locked, NoStore, UsageError
from fedctl.messages import memory as m
from fedctl.messages import pool as p
from fedctl.messages.hub import ListEvents
from fedctl.messages.token import IssueToken, ListTokens, RevokeToken
from fedctl.model.pool import ItemDraft
from fedctl.operations import backup, index
from fedctl.operations import restore as operation
from fedctl.operations.restore import Place
from fedctl.store import ledger
from fedctl.store.lock import use
from fedctl.store.store import FILE_NAME, Store


def content(folder: Path) -> dict[str, bytes]:
    """Return every file's bytes but those of locks and of what SQLite shares, which are no content."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".lock", ".use"))
    return {str(path): path.read_bytes() for path in files if not path.name.endswith("-shm")}


@pytest.fixture
def saved(bench, tmp_path):
    """Return a home with two episodes and an item, closed, and a backup of it."""
    bench.keep("one", "two")
    bench.call(p.PushItems(pool="jobs", items=[ItemDraft(id="i1", data=1)]))
    return backup.create(bench.home, bench.clock, tmp_path / "backups", with_keys=True)


@pytest.fixture
def restore(bench, saved):
    """Restore a backup of the bench's home into it, which is closed first; or anything else."""

    def run(path=None, *, into=None, home=None, overwrite=True, opener=None, watch=lambda _bytes: None):
        bench.close()
        place = Place(home or bench.home, into or home or bench.home, overwrite=overwrite and into is None)
        with open_archive(Path(path or saved.path), opener or backup.opener(bench.home)) as source:
            return operation.restore(source, place, bench.clock, watch)

    return run


def test_the_store_is_the_backups_again_with_a_new_epoch(bench, saved, restore, make_bench):
    before = bench.store.settings.epoch()
    cursor = bench.call(ListEvents(newest=0)).cursor
    bench.keep("three")
    bench.call(m.DeleteEpisodes(ids=["one"]))
    restored = restore()
    again = make_bench(bench.home)
    assert again.ids() == ["one", "two"]
    assert (restored.id, restored.created_at, restored.path) == (
        saved.id,
        saved.created_at,
        str(bench.home / FILE_NAME),
    )
    assert (restored.episodes, restored.items, restored.erased_again.episodes) == (2, 1, 0)
    assert restored.epoch == again.store.settings.epoch() != before
    assert again.call(ListEvents(after=cursor)).epoch == restored.epoch
    assert again.hits("two") == ["two", "one"]
    assert again.store.integrity() == []
    assert not list(bench.home.glob("*.exchange"))
    again.keep("four")


def test_a_new_home_is_made_with_the_keys_of_the_old_one_where_the_backup_has_them(bench, saved, restore, tmp_path):
    token = bench.call(IssueToken(tenant_id="acme")).token
    with_token = backup.create(bench.home, bench.clock, tmp_path / "backups", with_keys=True)
    into = tmp_path / "a" / "copy"
    restore(with_token.path, into=into)
    assert sorted(one.name for one in into.iterdir() if not one.name.startswith("store")) == ["keys"]
    for one in (into / "keys").iterdir():
        assert one.read_bytes() == (bench.home / "keys" / one.name).read_bytes()
        assert one.stat().st_mode & 0o777 == 0o600
    assert (into / "keys").stat().st_mode & 0o777 == into.stat().st_mode & 0o777 == 0o700
    assert (into / FILE_NAME).stat().st_mode & 0o777 == 0o600
    from fedctl.access.keys import KeyRing

    assert KeyRing(into / "keys").verify(token, bench.clock.now_ms()).principal.tenant_id == "acme"


def test_the_homes_own_keys_and_settings_stay_and_that_is_said(bench, saved, restore, tmp_path):
    (bench.home / "config.toml").write_text("[embedding]\n")
    with_both = backup.create(bench.home, bench.clock, tmp_path / "backups", with_keys=True)
    (bench.home / "config.toml").write_text("# ours\n")
    (key,) = (bench.home / "keys").iterdir()
    key.rename(key.with_name("another.key"))
    restored = restore(with_both.path, opener=backup.opener(tmp_path / "nobody"))
    assert (bench.home / "config.toml").read_text() == "# ours\n"
    assert [one.name for one in (bench.home / "keys").iterdir()] == ["another.key"]
    assert [note.split(";")[0] for note in restored.notes] == [
        "the home's own config.toml stayed", "the home's own keys stayed"
    ]  # fmt: skip


def test_what_was_erased_after_the_backup_stays_erased_and_its_push_is_acked_and_not_stored(
    bench, saved, restore, make_bench
):
    book = ledger.Ledger(bench.home / ledger.FILE_NAME)
    book.add([ledger.Entry("episode", ledger.episode_digest("default", "one"), bench.clock.now_ms())])
    restored = restore()
    assert (restored.erased_again.tenants, restored.erased_again.episodes, restored.episodes) == (0, 1, 1)
    again = make_bench(bench.home)
    assert again.ids() == ["two"]
    assert again.keep("one")[0].deleted
    assert again.ids() == ["two"]


def test_a_tenant_erased_after_the_backup_stays_erased_though_the_ledger_is_lost_and_in_a_new_home_too(
    bench, saved, restore, make_bench, tmp_path
):
    with bench.store.write():
        bench.store.erasures.note([ledger.Entry("tenant", ledger.tenant_digest("default"), bench.clock.now_ms())])
    (bench.home / ledger.FILE_NAME).unlink(missing_ok=True)
    restored = restore(into=tmp_path / "copy")
    assert (restored.erased_again.tenants, restored.episodes) == (1, 0)
    for home in (tmp_path / "copy", bench.home):
        if home == bench.home:
            restore()
        again = make_bench(home)
        assert again.ids() == []
        again.close()
        kept = [entry.digest for entry in ledger.Ledger(home / ledger.FILE_NAME).read()]
        wanted = {ledger.tenant_digest("default")} | {ledger.episode_digest("default", one) for one in ("one", "two")}
        assert set(kept) == wanted
        assert len(kept) == len(wanted)


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_damaged_ledger_lets_nothing_come_back_that_the_store_cannot_name_in_its_stead(
    bench, saved, restore, dry_run
):
    book = bench.home / ledger.FILE_NAME
    erased = [ledger.Entry("episode", ledger.episode_digest("default", one), bench.clock.now_ms()) for one in ("one",)]
    with bench.store.write():
        bench.store.erasures.note(erased)
    ledger.Ledger(book).add(erased)
    whole = book.read_bytes()
    book.write_bytes(whole.replace(b" ", b"!", 1))
    assert restore().erased_again.episodes == 1
    assert ledger.Ledger(book).look()[:2] == (erased, [])  # and it is whole again
    assert restore().erased_again.episodes == 1
    book.write_bytes(whole[:20] + bytes([whole[20] ^ 1]) + whole[21:])
    store = bench.home / FILE_NAME
    store.write_bytes(b"no database" * 1000)
    before = content(bench.home)
    act = restore
    if dry_run:

        def act():
            with open_archive(Path(saved.path), backup.opener(bench.home)) as source:
                return operation.rehearse(source, Place(bench.home, bench.home, overwrite=True), bench.clock)

    with pytest.raises(Corrupt, match="line 1 is damaged in the ledger") as refused:
        act()
    assert "take those lines out" in refused.value.hint
    assert content(bench.home) == before
    book.write_bytes(b"")
    assert act().episodes == 2


def test_a_store_that_was_made_anew_does_not_speak_for_a_damaged_ledger(bench, saved, restore, make_bench):
    book = bench.home / ledger.FILE_NAME
    lines = [ledger.Entry("episode", ledger.episode_digest("default", one), bench.clock.now_ms())
             for one in ("one", "two")]  # fmt: skip
    ledger.Ledger(book).add(lines)
    book.write_bytes(book.read_bytes().replace(b" ", b"!", 1))
    bench.close()
    for file in bench.home.glob(f"{FILE_NAME}*"):
        file.unlink()
    anew = make_bench(bench.home)
    for known in ([], lines[1:]):  # nothing, then all that is whole: neither says what the other line said
        with anew.store.write():
            anew.store.erasures.note(known)
        anew.close()
        with pytest.raises(Corrupt, match="line 1 is damaged"):
            restore()
        anew = make_bench(bench.home)


def test_a_ledger_under_more_noise_than_it_had_is_refused_until_that_is_taken_out(bench, saved, restore):
    book = bench.home / ledger.FILE_NAME
    lines = [ledger.Entry("episode", ledger.episode_digest("default", "one"), bench.clock.now_ms())]
    with bench.store.write():
        bench.store.erasures.note(lines)
    book.write_bytes(bytes(range(256)) * 12)  # nobody knows how many lines that was, so the store may lack some
    with pytest.raises(Corrupt, match="damaged in the ledger"):
        restore()
    book.write_bytes(b"")
    assert restore().erased_again.episodes == 1
    assert ledger.Ledger(book).look()[:2] == (lines, [])


def test_a_token_revoked_after_the_backup_stays_revoked_also_one_that_the_backup_never_saw(
    bench, restore, make_bench, tmp_path
):
    early = bench.call(IssueToken(tenant_id="acme")).record
    saved = backup.create(bench.home, bench.clock, tmp_path / "backups")
    late = bench.call(IssueToken(tenant_id="acme")).record
    good = bench.call(IssueToken(tenant_id="acme")).record
    for one in (early, late):
        bench.call(RevokeToken(id=one.id))
    assert restore(saved.path).notes == []
    again = make_bench(bench.home)
    assert [again.store.tokens.is_revoked(one.id) for one in (early, late, good)] == [True, True, False]
    assert {one.id for one in again.call(ListTokens()).tokens} == {early.id, late.id, good.id}


@pytest.mark.parametrize("damage", ["garbage", "cut", "empty", "gone"])
def test_a_present_store_that_cannot_be_read_is_replaced_and_what_that_means_for_tokens_is_said(
    bench, restore, make_bench, tmp_path, damage
):
    bench.call(IssueToken(tenant_id="acme"))
    saved = backup.create(bench.home, bench.clock, tmp_path / "backups")
    bench.close()
    file = bench.home / FILE_NAME
    if damage == "garbage":
        file.write_bytes(b"no database" * 10_000)
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:5000])
    elif damage == "empty":
        file.write_bytes(b"")
    else:
        file.unlink()
    restored = restore(saved.path)
    assert "rotate-key" in restored.notes[0]
    assert make_bench(bench.home).ids() == ["one", "two"]


def test_no_index_file_is_left_or_believed_neither_the_old_stores_nor_the_backups(
    bench, saved, restore, make_bench, tmp_path
):
    assert bench.hits("one")[0] == "one"
    index.compact(bench.context, bench.key(), rewrite=True)
    assert bench.store.indexes.snapshots()
    with_index = backup.create(bench.home, bench.clock, tmp_path / "backups")
    restore(with_index.path)
    assert not [one for one in (bench.home / "index").rglob("*") if one.is_file()]
    again = make_bench(bench.home)
    assert again.store.indexes.snapshots() == []
    assert again.hits("one")[0] == "one"


# -- refused, with nothing touched -----------------------------------------------------------------------------------


def test_whoever_uses_the_store_keeps_it(bench, saved, restore, make_bench):
    other = make_bench(bench.home)
    before = content(bench.home)
    with pytest.raises(Locked):
        restore()
    assert content(bench.home) == before
    assert other.ids() == ["one", "two"]


def test_a_home_with_a_store_needs_a_word_and_a_new_home_an_empty_place(bench, saved, restore, tmp_path):
    before = content(bench.home)
    with pytest.raises(Conflict, match="has a store"):
        restore(overwrite=False)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter").touch()
    with pytest.raises(Conflict, match="letter"):
        restore(into=tmp_path / "full")
    with pytest.raises(Conflict, match="not an empty folder"):
        restore(into=tmp_path / "full" / "letter")
    with pytest.raises(UsageError, match="letter is a file"):
        restore(into=tmp_path / "full" / "letter" / "home")
    assert content(bench.home) == before
    (tmp_path / "empty").mkdir()
    restore(into=tmp_path / "empty")
    with pytest.raises(Conflict, match="not an empty folder"):
        restore(into=tmp_path / "empty")


def test_a_store_that_is_a_link_or_a_folder_is_nobodys_to_replace(bench, saved, restore, tmp_path):
    bench.close()
    (bench.home / FILE_NAME).rename(tmp_path / "elsewhere.db")
    (bench.home / FILE_NAME).symlink_to(tmp_path / "elsewhere.db")
    with pytest.raises(Conflict, match="a link to"):
        restore()
    (bench.home / FILE_NAME).unlink()
    (bench.home / FILE_NAME).mkdir()
    with pytest.raises(Conflict, match="a folder"):
        restore()


class Altered:
    """A backup whose database is another one than was put into it: what somebody with the home's key may make."""

    def __init__(self, archive, statement: str = "", content: bytes | None = None) -> None:
        self._archive, self._statement, self._content = archive, statement, content

    def __getattr__(self, name):
        return getattr(self._archive, name)

    def extract(self, name, target, watch):
        if name != "database":
            self._archive.extract(name, target, watch)
        elif self._content is not None:
            target.write(self._content)
        else:
            self._archive.extract(name, target, watch)
            target.flush()
            connection = sqlite3.connect(target.name)
            connection.execute(self._statement)
            connection.commit()
            connection.execute("pragma wal_checkpoint(truncate)")
            connection.close()


@pytest.mark.parametrize(
    ("altered", "said"),
    [
        ({"statement": "CREATE TRIGGER t AFTER INSERT ON tenants BEGIN DELETE FROM tokens; END"}, "a trigger that no"),
        ({"statement": "CREATE VIEW v AS SELECT 1"}, "a view that no store has"),
        ({"statement": "PRAGMA user_version = 99"}, "its schema is 99"),
        ({"statement": "PRAGMA application_id = 1"}, "not a store of fedctl"),
        ({"content": b"not a database at all" * 1000}, "is damaged"),
        ({"content": b""}, "a store of fedctl"),
    ],
)
@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_database_that_is_no_store_of_ours_is_refused_and_nothing_is_touched(
    bench, saved, tmp_path, altered, said, elsewhere
):
    bench.close()
    before = content(tmp_path)
    into = tmp_path / "new" / "home" if elsewhere else bench.home
    with (
        open_archive(Path(saved.path), backup.opener(bench.home)) as source,
        pytest.raises(Corrupt, match=said) as caught,
    ):
        operation.restore(Altered(source, **altered), Place(bench.home, into, overwrite=True), bench.clock)
    assert saved.id in caught.value.message
    assert content(tmp_path) == before
    assert not (tmp_path / "new").exists()
    assert not list(bench.home.glob("*.exchange"))


def test_a_rehearsal_finds_what_a_restore_would_beside_a_store_in_use_and_leaves_nothing(bench, saved, tmp_path):
    place = Place(bench.home, bench.home)
    before = content(tmp_path)
    with open_archive(Path(saved.path), backup.opener(bench.home)) as source:
        found = operation.rehearse(source, place, bench.clock)
        assert (found.episodes, found.epoch) == (2, None)
        assert found.notes == ["the backup is whole; nothing was changed"]
        for altered in ({"statement": "CREATE VIEW v AS SELECT 1"}, {"content": b"no database" * 1000}):
            with pytest.raises(Corrupt, match=saved.id) as caught:
                operation.rehearse(Altered(source, **altered), place, bench.clock)
            assert "partial" not in caught.value.message
            assert caught.value.hint
    assert content(tmp_path) == before
    bench.keep("goes on")


def test_a_home_without_keys_is_told_what_it_cannot_know(bench, restore, tmp_path):
    bench.call(IssueToken(tenant_id="acme"))
    bare = backup.create(bench.home, bench.clock, tmp_path / "backups")
    keyed = backup.create(bench.home, bench.clock, tmp_path / "backups", with_keys=True)
    tokens, signer = restore(bare.path, into=tmp_path / "bare").notes
    assert "--with-keys" in tokens
    assert f"--signed-by {bare.signed_by}" in signer
    assert not [note for note in restore(keyed.path, into=tmp_path / "keyed").notes if "--signed-by" in note]
    assert restore(bare.path).notes == []


def test_a_damaged_backup_and_one_that_is_ended_halfway_change_nothing(bench, saved, restore, tmp_path):
    path = Path(saved.path)
    whole = path.read_bytes()
    path.write_bytes(whole[:2000] + bytes([whole[2000] ^ 1]) + whole[2001:])
    bench.close()
    before = content(tmp_path)
    with pytest.raises(Corrupt):
        restore()
    assert content(tmp_path) == before
    path.write_bytes(whole)

    left = 40_000

    def watch(size_bytes: int) -> None:
        nonlocal left
        left -= size_bytes
        if left < 0:
            raise KeyboardInterrupt

    before = content(bench.home)
    for into in (None, tmp_path / "copy"):
        for start in (1, len(whole) + 1):
            left = start
            with pytest.raises(KeyboardInterrupt):
                restore(into=into, watch=watch)
        assert content(bench.home) == before
        assert not (tmp_path / "copy").exists()


def test_a_sealed_backup_wants_its_passphrase_first(bench, saved, restore, tmp_path, monkeypatch):
    monkeypatch.setattr(sealing, "SCRYPT_N", 1 << 10)  # tests/access holds what it costs
    secret = tmp_path / "passphrase"
    secret.write_text("correct horse battery staple")
    secret.chmod(0o600)
    sealed = backup.create(bench.home, bench.clock, tmp_path / "backups", passphrase_file=secret)
    with pytest.raises(UsageError, match="sealed"):
        restore(sealed.path)
    restore(sealed.path, opener=backup.opener(bench.home, passphrase_file=secret))


def test_a_disk_without_room_for_both_keeps_the_old_store(bench, saved, make_disk, make_bench, clock):
    disk = make_disk("4m")
    bench.close()
    home = disk.folder / "home"
    shutil.copytree(bench.home, home)
    state = os.statvfs(disk.folder)
    left = state.f_bavail * state.f_frsize
    (disk.folder / "filler").write_bytes(b"x" * (left - (home / FILE_NAME).stat().st_size // 2))
    before = content(home)
    with open_archive(Path(saved.path), backup.opener(home)) as source, pytest.raises(DiskFull):
        operation.restore(source, Place(home, home, overwrite=True), clock)
    assert content(home) == before


def test_the_old_store_comes_back_where_the_new_one_cannot_be_opened_in_its_place(bench, saved, tmp_path):
    bench.keep("three")
    bench.close()

    class Cut(operation.swap.Exchange):
        def commit(self) -> None:
            super().commit()
            self.path.write_bytes(b"the disk lost it")

    with open_archive(Path(saved.path), backup.opener(bench.home)) as source, pytest.raises(Failure, match="cannot be"):
        operation.restore(source, Place(bench.home, bench.home, overwrite=True), bench.clock, exchange=Cut)
    store = Store.open(bench.home, bench.clock, create=False)
    assert store.tenants.episodes_everywhere() == 3
    store.close()


def test_what_a_restore_into_a_new_home_left_that_was_killed_is_no_hindrance(bench, saved, restore, tmp_path):
    into = tmp_path / "copy"
    into.mkdir()
    operation.swap.Exchange(into / FILE_NAME).begin()
    use(into / FILE_NAME, 0, exclusive=True).close()
    with pytest.raises(NoStore):
        Store.open(into, bench.clock, create=False)
    operation.swap.Exchange(into / FILE_NAME).begin()
    restore(into=into)
    store = Store.open(into, bench.clock, create=False)
    assert store.tenants.episodes_everywhere() == 2
    store.close()


def test_what_a_restore_that_was_killed_had_decided_is_done_before_the_next_one_is_asked_whether_it_may(
    bench, saved, restore, tmp_path
):
    restore(into=tmp_path / "other")
    into = tmp_path / "copy"
    into.mkdir()
    exchange = operation.swap.Exchange(into / FILE_NAME)
    exchange.begin()
    store = Store.open(tmp_path / "other", bench.clock, create=False)
    store.checkpoint(truncate=True)
    epoch = store.settings.epoch()
    store.close()
    shutil.copyfile(tmp_path / "other" / FILE_NAME, exchange.folder / "new.db")
    with pytest.raises(Conflict):
        restore(into=into)
    store = Store.open(into, bench.clock, create=False)
    assert store.settings.epoch() == epoch
    store.close()
