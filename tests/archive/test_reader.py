"""What was written is read; what was changed, cut, mixed or made up is refused before anything is handed out."""

from __future__ import annotations

import io
import os
import random

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from fedctl.access.sealing import ForeignError, WrongPassphraseError, fingerprint
from fedctl.archive import format as f
from fedctl.archive.reader import open_archive
from fedctl.errors import Corrupt, DiskFull, NotFound, UsageError
from fedctl.model.backup import Content, Sealing
from tests.archive.conftest import HELD, Key, Maker, packed, sha

PASS = b"correct horse"


def refusal(maker: Maker, passphrase: bytes | None = None, **trust) -> str:
    """Return why the archive is refused; nothing of it was handed out."""
    with pytest.raises(Corrupt) as caught:
        maker.read(passphrase, **trust)
    return caught.value.message


# -- honest ones ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("passphrase", [None, PASS])
def test_what_was_written_is_read(maker, noise, passphrase):
    parts = {"database": noise, "config.toml": b"", "keys/a.pem": b"k" * 5}
    whole = maker.write(parts, passphrase=passphrase)
    assert maker.read(passphrase) == parts
    with maker.open(passphrase) as archive:
        assert archive.names == list(parts)
        assert archive.contents == msgspec.structs.replace(
            HELD, parts=[Content(name=name, size_bytes=len(part), sha256=sha(part)) for name, part in parts.items()]
        )
        assert archive.verify() == sha(whole)
        assert archive.size_of("database") == len(noise)


def test_progress_goes_through_the_whole_file(maker, noise):
    maker.write({"database": noise})
    seen: list[int] = []
    with maker.open() as archive:
        archive.verify(seen.append)
        assert sum(seen) == archive.manifest.parts[0].size_bytes


def test_a_sealed_one_says_outside_only_what_it_must(maker):
    whole = maker.write({"database": b"the text of an episode"}, passphrase=PASS)
    for secret in (b"the text", b"ab" * 32, b"m@0", b'"episodes"', zstandard.MAGIC_NUMBER.to_bytes(4, "little")):
        assert secret not in whole
    with maker.open() as archive:
        assert (archive.manifest.id, archive.contents) == ("id-1", None)
        assert archive.verify() == sha(whole)
        with pytest.raises(UsageError, match="sealed"):
            archive.extract("database", io.BytesIO())


def test_another_passphrase_is_told_from_damage(maker):
    whole = bytearray(maker.write(passphrase=PASS))
    with pytest.raises(WrongPassphraseError, match="passphrase"):
        maker.read(b"wrong")
    with maker.open() as archive:
        contents = len(whole) - archive._around - 1
    whole[contents] ^= 1
    maker.put(whole)
    assert "contents is damaged" in refusal(maker, PASS)
    assert "contents is damaged" in refusal(maker, b"wrong")


def test_the_same_passphrase_never_makes_the_same_key(maker):
    first, second = (maker.write({"database": b"x" * 99}, passphrase=PASS) for _ in range(2))
    assert first[16:100] != second[16:100]


# -- every byte ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("passphrase", [None, PASS])
def test_200_flipped_bytes_are_200_found(maker, passphrase):
    whole = maker.write({"database": random.Random(1).randbytes(900), "keys/k.pem": b"secret"}, passphrase=passphrase)
    places = random.Random(7).sample(range(len(whole)), 200)
    for at in places:
        changed = bytearray(whole)
        changed[at] ^= 1 << at % 8
        maker.put(changed)
        refusal(maker)  # without the passphrase too
    maker.put(whole)
    maker.read(passphrase)


def test_cut_anywhere_it_is_found(maker):
    whole = maker.write()
    for size in [*range(0, len(whole), 7), len(whole) - 1]:
        maker.put(whole[:size])
        refusal(maker)


def test_whatever_is_added_is_found(maker):
    whole = maker.write()
    for more in (b"\0", b"\n", whole[-80:], whole):
        maker.put(whole + more)
        refusal(maker)
    maker.put(b"\0" + whole)
    refusal(maker)


@given(st.data())
def test_no_mutation_gets_through_or_breaks_the_reader(tmp_path_factory, data):
    maker = Maker(tmp_path_factory.mktemp("m"))
    whole = maker.write()
    begin = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(begin, len(whole)))
    changed = whole[:begin] + data.draw(st.binary(max_size=40)) + whole[end:]
    maker.put(changed)
    if changed == whole:
        maker.read()
    else:
        refusal(maker)


# -- made up by somebody with a key --------------------------------------------------------------------------------


def honest(database: bytes = b"pages", held=HELD, **claims) -> list[tuple[str, bytes]]:
    """Return the stored parts of an archive, its `contents` claiming something else if so said."""
    claim = {"name": "database", "size_bytes": len(database), "sha256": sha(database)} | claims
    contents = msgspec.structs.replace(held, parts=[Content(**claim)])
    return [("database", packed(database)), ("contents", packed(msgspec.json.encode(contents)))]


def test_a_forged_one_with_nothing_wrong_is_good(maker):
    maker.forge(honest())
    assert maker.read() == {"database": b"pages"}


@pytest.mark.parametrize(
    "name",
    ["../store.db", "/etc/passwd", "keys/../../x", "keys/a/b", "keys/..", "keys/", "keys/.x", "link", "a\0b", ""],
)
def test_a_part_is_never_called_what_leads_out_of_a_folder(maker, name):
    maker.forge([*honest()[:1], (name, packed(b"x")), honest()[1]])
    assert "which no backup has" in refusal(maker)


def test_two_parts_of_one_name_are_refused(maker):
    maker.forge([honest()[0], *honest()])
    assert "two parts" in refusal(maker)


def test_lengths_that_lie_are_refused(maker):
    stored = honest()
    part = f.StoredPart(name="database", size_bytes=1 << 40, sha256=sha(stored[0][1]))
    rest = f.StoredPart(name="contents", size_bytes=len(stored[1][1]), sha256=sha(stored[1][1]))
    maker.forge(stored, parts=[part, rest])
    assert "not as long as" in refusal(maker)
    maker.forge(stored, parts=[msgspec.structs.replace(part, size_bytes=-5), rest])
    assert "is none" in refusal(maker)


def test_a_manifest_of_a_gigabyte_is_not_read(maker):
    whole = maker.write()
    for length, why in ((1 << 30, "claims"), (1 << 63, "claims"), (900_000, "longer than the file")):
        maker.put(whole[: -f.TAIL.size] + f.TAIL.pack(bytes(64), length, f.END))
        assert why in refusal(maker)


def test_a_manifest_that_is_no_manifest_is_refused(maker):
    for text in (b"", b"null", b"{}", b"[" * 100_000, b"\xff" * 9, b'{"id": 1}'):
        maker.put(f.head() + text + f.TAIL.pack(maker.key.sign(f.signed(text)), len(text), f.END))
        assert "understood" in refusal(maker)


def test_contents_that_are_none_are_refused(maker):
    for text in (b"", b"null", b"{}", b"\xff"):
        maker.forge([honest()[0], ("contents", packed(text))])
        assert "understood" in refusal(maker)
    maker.forge([honest()[0], ("contents", b"not zstandard at all")])
    assert "unpacked" in refusal(maker)
    maker.forge(honest()[:1])
    assert "nothing that says" in refusal(maker)
    maker.forge([honest()[0], ("keys/k", packed(b"")), honest()[1]])
    assert "other parts than it says" in refusal(maker)


def test_a_bomb_is_given_up_as_soon_as_it_is_larger_than_it_says(maker):
    bomb = zstandard.ZstdCompressor().compress(bytes(1 << 28))
    assert len(bomb) < 1 << 15
    maker.forge([("database", bomb), honest()[1]])
    with maker.open() as archive:
        target = io.BytesIO()
        with pytest.raises(Corrupt, match="larger than it says"):
            archive.extract("database", target)
        assert len(target.getvalue()) <= 1 << 20


def test_a_part_of_the_right_size_and_other_content_is_refused(maker):
    maker.forge(honest(sha256="00" * 32))
    assert "not what it says" in refusal(maker)


def test_what_there_is_no_room_for_is_not_begun(maker, tmp_path):
    maker.forge(honest(size_bytes=1 << 60))
    with maker.open() as archive, (tmp_path / "out").open("wb") as target:
        with pytest.raises(DiskFull, match="no room"):
            archive.extract("database", target)
        assert target.tell() == 0


def test_a_key_or_settings_of_more_than_a_megabyte_are_refused(maker):
    maker.write({"database": b"x", "keys/k.pem": bytes((1 << 20) + 1)})
    assert "keys/k.pem is too large" in refusal(maker)


def test_a_window_of_a_gigabyte_is_refused(maker):
    wide = zstandard.ZstdCompressionParameters(window_log=27, compression_level=1)
    stored = zstandard.ZstdCompressor(compression_params=wide).compressobj()
    maker.forge([("database", stored.compress(b"pages") + stored.flush()), honest()[1]])
    assert "unpacked" in refusal(maker)


def test_parts_exchanged_with_another_archive_s_are_found(maker):
    """Both are this home's own, of one size, and each is whole."""
    one = maker.write({"database": b"a" * 64}, id="id-1")
    two = maker.write({"database": b"b" * 64}, id="id-2")
    with maker.open() as archive:
        size = archive.manifest.parts[0].size_bytes
    maker.put(one[:16] + two[16 : 16 + size] + one[16 + size :])
    assert "database" in refusal(maker)


def test_sealed_parts_and_chunks_stay_in_their_places(maker, noise):
    """With the key at hand but not the passphrase somebody could only move sealed chunks: each knows its place."""
    whole = maker.write({"database": noise, "keys/k": noise}, passphrase=PASS)
    with maker.open() as archive:
        manifest = archive.manifest
    at, blocks = 16, {}
    for part in manifest.parts:
        blocks[part.name] = whole[at : at + part.size_bytes]
        at += part.size_bytes
    chunk = f.CHUNK_BYTES + f.SEAL_BYTES
    swapped = blocks["database"][chunk : 2 * chunk] + blocks["database"][:chunk] + blocks["database"][2 * chunk :]
    shorter = blocks["database"][: 2 * chunk]
    for forged in (swapped, shorter, blocks["keys/k"]):
        maker.forge([("database", forged), ("keys/k", blocks["keys/k"]), ("contents", blocks["contents"])],
                    sealing=manifest.sealing)  # fmt: skip
        with maker.open(PASS) as archive, pytest.raises((Corrupt, WrongPassphraseError)):
            archive.extract("database", io.BytesIO())
    maker.forge([(name, blocks[name]) for name in blocks], sealing=manifest.sealing)
    assert maker.read(PASS)["database"] == noise
    maker.forge([(name, blocks[name]) for name in blocks], sealing=manifest.sealing, id="id-2")
    with pytest.raises(WrongPassphraseError):
        maker.read(PASS)


@pytest.mark.parametrize(
    ("n", "r", "p"), [(1 << 40, 8, 1), (1 << 20, 32, 1), (17, 8, 1), (16, 0, 1), (16, 8, 99), (1, 8, 1)]
)
def test_a_passphrase_never_costs_what_a_stranger_asks(maker, n, r, p):
    maker.forge(honest(), sealing=Sealing(n=n, r=r, p=p, salt="00" * 32))
    assert "scrypt" in refusal(maker, PASS)


def test_a_newer_format_says_so(maker):
    whole = maker.write()
    maker.put(f.HEAD.pack(f.MAGIC, 2) + whole[16:])
    assert "format 2, this fedctl knows up to 1" in refusal(maker)


def test_what_is_no_backup_says_so(maker, tmp_path):
    for content in (b"", b"SQLite format 3\0" + bytes(999), b"PK\x03\x04" * 50):
        maker.put(content)
        assert "does not begin" in refusal(maker)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (fifo, tmp_path):
        with pytest.raises(Corrupt, match="no file"):
            open_archive(path, None)
    with pytest.raises(NotFound):
        open_archive(tmp_path / "nothing", None)


def test_it_goes_on_with_the_file_that_it_opened(maker):
    maker.write({"database": b"first"})
    with maker.open() as archive:
        maker.path.unlink()
        maker.write({"database": b"other"})
        target = io.BytesIO()
        archive.extract("database", target)
    assert target.getvalue() == b"first"


# -- whose it is ---------------------------------------------------------------------------------------------------


def test_another_home_s_is_foreign_unless_its_key_is_named(maker):
    stranger = Key(2)
    mark = fingerprint(stranger.public_key)
    maker.write(signer=stranger)
    with pytest.raises(ForeignError, match=mark):
        maker.read()
    assert maker.read(signed_by=mark)
    assert maker.read(signed_by=":".join(mark[at : at + 2] for at in range(0, 32, 2)).upper())
    maker.write()
    with pytest.raises(ForeignError, match=f"not by {mark}"):
        maker.read(signed_by=mark)


def test_a_home_without_a_key_takes_it_and_says_whose_it_is(maker):
    maker.write()
    with maker.open(own=None) as archive:
        archive.verify()
    from fedctl.access.sealing import Opener

    opener = Opener(None)
    open_archive(maker.path, opener).close()
    assert fingerprint(maker.key.public_key) in opener.notes[0]


def test_a_key_that_is_none_signs_nothing(maker):
    maker.forge(honest(), public_key="00" * 31)
    assert "signature" in refusal(maker, own=None)
    maker.forge(honest(), public_key="zz")
    assert "understood" in refusal(maker, own=None)
