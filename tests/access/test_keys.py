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
