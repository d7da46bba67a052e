"""Signing keys: how they are made, kept and found."""

import multiprocessing
import os
import stat

import pytest

from fedctl.access.keys import KeyRing
from fedctl.errors import Corrupt, Denied, UsageError

NOW_MS = 1_800_000_000_000
HOUR_MS = 3_600_000


@pytest.fixture
def ring(tmp_path):
    return KeyRing(tmp_path / "keys")


def sign(ring, now_ms=NOW_MS):
    return ring.sign("acme", "a1", "agent", "token-1", now_ms, HOUR_MS)


def test_no_key_is_made_before_one_is_needed(ring, tmp_path):
    assert ring.kids() == []
    ring.warm()
    assert not (tmp_path / "keys").exists()


def test_the_first_token_makes_the_first_key_for_the_owners_eyes_only(ring, tmp_path):
    sign(ring)
    [kid] = ring.kids()
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "keys" / f"{kid}.pem").stat().st_mode) == 0o600


def test_a_loose_umask_does_not_loosen_the_key(ring, tmp_path):
    before = os.umask(0)
    try:
        sign(ring)
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "keys").iterdir()} == {0o600}


def test_the_next_token_takes_the_key_that_is_there(ring, tmp_path):
    sign(ring)
    sign(KeyRing(tmp_path / "keys"), NOW_MS + HOUR_MS)
    assert len(ring.kids()) == 1


def _sign_in_a_process(folder, barrier):
    barrier.wait()
    sign(KeyRing(folder))


def test_processes_that_begin_at_once_make_one_key(tmp_path):
    spawn = multiprocessing.get_context("spawn")
    barrier = spawn.Barrier(3)
    processes = [spawn.Process(target=_sign_in_a_process, args=(tmp_path / "keys", barrier)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert len(KeyRing(tmp_path / "keys").kids()) == 1


def test_a_key_verifies_in_another_process_ring(ring, tmp_path):
    token = sign(ring)
    assert KeyRing(tmp_path / "keys").verify(token, NOW_MS).principal.tenant_id == "acme"


def test_a_newer_key_signs_and_the_older_still_verifies(ring, tmp_path):
    old = sign(ring)
    ring._make(NOW_MS + 1)
    new = sign(ring)
    assert len(ring.kids()) == 2
    assert old.split(".")[0] != new.split(".")[0]
    for token in (old, new):
        ring.verify(token, NOW_MS)


def test_a_key_that_is_taken_away_takes_its_tokens_with_it(ring, tmp_path):
    token = sign(ring)
    ring.verify(token, NOW_MS)
    for path in (tmp_path / "keys").iterdir():
        path.unlink()
    with pytest.raises(Denied, match="a key that this home does not have"):
        ring.verify(token, NOW_MS)


def test_a_key_file_that_was_exchanged_is_read_again(ring, tmp_path):
    token = sign(ring)
    other = KeyRing(tmp_path / "other")
    sign(other)
    [kid] = ring.kids()
    (tmp_path / "other" / f"{other.kids()[0]}.pem").rename(tmp_path / "keys" / f"{kid}.pem")
    with pytest.raises(Denied, match="signature is wrong"):
        ring.verify(token, NOW_MS)


def test_a_damaged_key_is_named_and_not_replaced(ring, tmp_path):
    sign(ring)
    [path] = (tmp_path / "keys").iterdir()
    path.write_bytes(b"-----BEGIN PRIVATE KEY-----\nnonsense")
    with pytest.raises(Corrupt, match="is damaged"):
        sign(ring)
    assert path.read_bytes().endswith(b"nonsense")


def test_a_key_of_another_kind_is_refused(ring, tmp_path):
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    sign(ring)
    [path] = (tmp_path / "keys").iterdir()
    path.write_bytes(X25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(Corrupt, match="not an Ed25519 key"):
        sign(ring)


def test_files_that_are_no_keys_are_passed_over(ring, tmp_path):
    sign(ring)
    for name in ("zzz.new", "zz z.pem", "README", ".pem"):
        (tmp_path / "keys" / name).write_text("x")
    assert len(ring.kids()) == 1
    sign(ring)


@pytest.mark.parametrize(
    ("tenant", "agent", "role", "ttl_ms"),
    [
        ("../acme", "a", "agent", HOUR_MS),
        ("", "a", "agent", HOUR_MS),
        ("acme", "a\0", "agent", HOUR_MS),
        ("acme", None, "owner", HOUR_MS),
        ("acme", None, "admin", 0),
        ("acme", None, "admin", 91 * 24 * HOUR_MS),
    ],
)
def test_what_no_token_may_say_is_not_signed(ring, tenant, agent, role, ttl_ms):
    with pytest.raises(UsageError):
        ring.sign(tenant, agent, role, "id", NOW_MS, ttl_ms)
    assert ring.kids() == []


# -- rotation ------------------------------------------------------------------------------------------------------


def verifies(ring, token, now_ms):
    try:
        return ring.verify(token, now_ms).principal.tenant_id == "acme"
    except Denied:
        return False


def test_after_a_rotation_the_new_key_signs_and_the_old_one_verifies_through_the_grace_and_not_after(ring, tmp_path):
    old = sign(ring)
    rotation = ring.rotate(NOW_MS + 1000, NOW_MS + 60_000)
    assert ring.kids()[-1] == rotation.kid
    assert (rotation.old_until_ms, rotation.removed) == (NOW_MS + 60_000, 0)
    new = sign(ring, NOW_MS + 2000)
    for each in (ring, KeyRing(tmp_path / "keys")):
        assert each.verify(new, NOW_MS + 2000).key_id == rotation.kid
        assert each.verify(old, NOW_MS + 2000).key_ends_ms == NOW_MS + 60_000
        assert verifies(each, old, NOW_MS + 59_999)
        assert not verifies(each, old, NOW_MS + 60_000)
        assert verifies(each, new, NOW_MS + 60_000)


def test_a_ring_that_is_open_notices_what_another_process_rotated(ring, tmp_path):
    old = sign(ring)
    assert verifies(ring, old, NOW_MS)
    KeyRing(tmp_path / "keys").rotate(NOW_MS, NOW_MS)
    assert not verifies(ring, old, NOW_MS)
    assert verifies(ring, sign(ring), NOW_MS)


def test_a_later_and_milder_rotation_does_not_bring_back_what_an_earlier_one_ended(ring):
    first = sign(ring)
    ring.rotate(NOW_MS + 1, NOW_MS + 10_000)
    second = sign(ring, NOW_MS + 2)
    ring.rotate(NOW_MS + 3, NOW_MS + 90_000)
    third = sign(ring, NOW_MS + 4)
    at_ms = NOW_MS + 10_000
    assert [verifies(ring, one, at_ms) for one in (first, second, third)] == [False, True, True]
    assert [verifies(ring, one, NOW_MS + 90_000) for one in (first, second, third)] == [False, False, True]


def test_a_harsher_rotation_ends_what_an_earlier_one_had_spared(ring):
    first = sign(ring)
    ring.rotate(NOW_MS + 1, NOW_MS + 90_000)
    second = sign(ring, NOW_MS + 2)
    ring.rotate(NOW_MS + 3, NOW_MS + 3)
    assert not verifies(ring, first, NOW_MS + 4)
    assert not verifies(ring, second, NOW_MS + 4)
    assert len(ring.kids()) == 1, "keys that verify nothing are deleted"


def test_keys_that_verify_nothing_any_more_are_deleted_by_the_next_rotation(ring):
    sign(ring)
    ring.rotate(NOW_MS + 1, NOW_MS + 10_000)
    assert len(ring.kids()) == 2
    assert ring.rotate(NOW_MS + 10_001, NOW_MS + 20_000).removed == 1
    assert ring.rotate(NOW_MS + 15_000, NOW_MS + 20_000).removed == 0
    assert ring.rotate(NOW_MS + 20_000, NOW_MS + 20_000).removed == 3
    assert len(ring.kids()) == 1


def test_a_clock_that_was_set_back_does_not_bring_the_new_key_behind_the_old_one(ring):
    old = sign(ring, NOW_MS)
    rotation = ring.rotate(NOW_MS - HOUR_MS, NOW_MS - HOUR_MS)
    assert ring.kids() == [rotation.kid]
    assert not verifies(ring, old, NOW_MS - HOUR_MS)


def test_the_first_rotation_of_a_home_without_keys_makes_the_first_one(ring):
    assert ring.rotate(NOW_MS, NOW_MS).old_until_ms is None
    assert verifies(ring, sign(ring), NOW_MS)


def test_a_rotated_key_is_for_the_owners_eyes_only(ring, tmp_path):
    before = os.umask(0)
    try:
        sign(ring)
        ring.rotate(NOW_MS + 1, NOW_MS + HOUR_MS)
    finally:
        os.umask(before)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "keys").iterdir()] == [0o600, 0o600]


def test_what_a_dead_rotation_left_is_no_key_and_goes_with_the_next(ring, tmp_path):
    sign(ring)
    dead = tmp_path / "keys" / "01a1fbb1be26-d346cad7-01a1fbb1be26.new"
    dead.write_bytes(b"half a k")
    sign(ring)
    assert len(ring.kids()) == 1
    ring.rotate(NOW_MS + 1, NOW_MS + HOUR_MS)
    assert not dead.exists()


def test_a_key_with_a_foreign_name_stops_a_rotation_and_says_so(ring, tmp_path):
    sign(ring)
    (tmp_path / "keys" / "zz-mine.pem").write_bytes(next((tmp_path / "keys").glob("0*.pem")).read_bytes())
    with pytest.raises(Corrupt, match="has no name of a key of this home"):
        ring.rotate(NOW_MS + 1, NOW_MS + 1)


def _rotate_in_a_process(folder, barrier, number):
    ring = KeyRing(folder)
    barrier.wait()
    for turn in range(5):
        ring.rotate(NOW_MS + turn, NOW_MS + turn + number % 2)
        sign(ring, NOW_MS + turn)


def test_processes_that_sign_and_rotate_at_once_leave_a_ring_that_signs(tmp_path):
    sign(KeyRing(tmp_path / "keys"))
    spawn = multiprocessing.get_context("spawn")
    barrier = spawn.Barrier(3)
    workers = [spawn.Process(target=_rotate_in_a_process, args=(tmp_path / "keys", barrier, n)) for n in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    ring = KeyRing(tmp_path / "keys")
    assert verifies(ring, sign(ring, NOW_MS + 100), NOW_MS + 100)
    assert not list((tmp_path / "keys").glob("*.new"))
