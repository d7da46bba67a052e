"""The home's own signature, and the passphrase."""

from __future__ import annotations

import stat

import pytest

from fedctl.access.keys import KeyRing
from fedctl.access.sealing import HomeKey, PassphraseSealer, WrongPassphraseError, own_public_key, read_passphrase
from fedctl.errors import Corrupt, UsageError


def test_a_home_s_key_is_made_once_and_is_the_owner_s_alone(tmp_path):
    folder = tmp_path / "home" / "keys"
    assert own_public_key(folder) is None
    first = HomeKey(folder)
    assert HomeKey(folder).public_key == first.public_key == own_public_key(folder)
    assert len(first.sign(b"x")) == 64
    (file,) = folder.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_it_is_no_key_of_tokens_and_outlives_their_rotation(tmp_path, clock):
    folder = tmp_path / "keys"
    before = HomeKey(folder).public_key
    ring = KeyRing(folder)
    assert ring.kids() == []
    for _ in range(3):
        ring.rotate(clock.now_ms(), clock.now_ms())
        clock.advance(1000)
    assert own_public_key(folder) == before


def test_a_damaged_key_is_told_and_never_replaced(tmp_path):
    HomeKey(tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(b"damaged")
    with pytest.raises(Corrupt, match="damaged"):
        HomeKey(tmp_path)
    assert file.read_bytes() == b"damaged"


def test_a_folder_that_is_none_has_no_key(tmp_path):
    (tmp_path / "file").touch()
    assert own_public_key(tmp_path / "file") is None


def test_no_chunk_opens_in_another_s_place():
    sealer = PassphraseSealer.new(b"pass", 16)
    sealed = sealer.seal(1, 2, last=False, chunk=b"chunk", beside=b"id")
    right = {"part": 1, "counter": 2, "last": False, "chunk": sealed, "beside": b"id"}

    def opened(**wrong):
        given = right | wrong
        return sealer.unseal(
            given["part"], given["counter"], last=given["last"], chunk=given["chunk"], beside=given["beside"]
        )

    assert opened() == b"chunk"
    for wrong in (
        {"part": 2},
        {"counter": 3},
        {"last": True},
        {"beside": b"di"},
        {"chunk": sealed[:-1]},
        {"chunk": b""},
    ):
        with pytest.raises(WrongPassphraseError):
            opened(**wrong)


def test_ours_costs_what_is_advised():
    """OWASP's password storage advice: scrypt with N = 2^17, r = 8, p = 1, or dearer."""
    sealing = PassphraseSealer.new(b"pass").sealing
    assert (sealing.n, sealing.r, sealing.p, len(sealing.salt)) == (1 << 17, 8, 1, 64)


@pytest.mark.parametrize(
    ("content", "wanted"), [(b"p w\n", b"p w"), (b"p\r\n", b"p"), (b" p ", b" p "), (b"p\n\n", b"p\n")]
)
def test_a_passphrase_is_the_file_without_the_line_s_end(tmp_path, content, wanted):
    file = tmp_path / "pass"
    file.write_bytes(content)
    assert read_passphrase(file) == wanted


@pytest.mark.parametrize("content", [b"", b"\n", b"x" * 4097])
def test_no_passphrase_and_too_much_of_one_are_refused(tmp_path, content):
    file = tmp_path / "pass"
    file.write_bytes(content)
    with pytest.raises(UsageError):
        read_passphrase(file)


def test_a_passphrase_file_that_cannot_be_read_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(UsageError, match="cannot read"):
            read_passphrase(path)
