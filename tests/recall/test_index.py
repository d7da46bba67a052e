"""The flat index: what it finds, how it grows, and what it does when its files are not what they were."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedctl.recall import index
from fedctl.recall.index import (
    Block,
    FileLostError,
    FileRows,
    Files,
    IndexFolder,
    Part,
    Search,
    from_blob,
    stamp,
    tail,
    to_blobs,
)

ROOT = Path(__file__).parents[2]
DIM = 8


def unit(rng: np.random.Generator, count: int, dim: int = DIM) -> np.ndarray:
    vectors = rng.standard_normal((count, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def rows(count: int, first: int = 0, seed: int = 0) -> list[tuple[int, int, bytes]]:
    """Return rows (key, seq, blob): keys and sequences are 1000 and 2000 above the place."""
    blobs = to_blobs(unit(np.random.default_rng(seed + first), count))
    return [(1000 + first + n, 2000 + first + n, blob) for n, blob in enumerate(blobs)]


@pytest.fixture
def folder(tmp_path: Path) -> IndexFolder:
    return IndexFolder(tmp_path / "index")


def grown(folder: IndexFolder, *counts: int, generation: str = "g") -> tuple[Files, list[Block]]:
    files = folder.files(1, 1, generation)
    blocks, first = [], 0
    for count in counts:
        block, _ = folder.append(files, first, rows(count, first), DIM)
        blocks.append(block)
        first += count
    return files, blocks


# -- blobs -------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(-1, 1, width=16), min_size=1, max_size=40))
def test_a_vector_of_halves_makes_the_round_trip(values: list[float]):
    (blob,) = to_blobs(np.array([values], dtype=np.float32))
    assert len(blob) == 2 * len(values)
    assert from_blob(blob).tolist() == values


# -- appending and opening ---------------------------------------------------------------------------------------


def test_what_was_appended_is_what_is_opened(folder: IndexFolder):
    files, blocks = grown(folder, 3, 1, 5)
    assert [(block.first, block.rows) for block in blocks] == [(0, 3), (3, 1), (4, 5)]
    part = folder.open(files, 9, DIM)
    assert part is not None
    assert part.seqs.tolist() == list(range(2000, 2009))
    expected = np.concatenate([tail(rows(count, first), DIM).vectors for first, count in ((0, 3), (3, 1), (4, 5))])
    assert np.array_equal(part.vectors, expected)
    assert folder.verify(files, blocks, DIM)
    assert folder.size_bytes(files) == 9 * (2 * DIM + 16)


def test_the_files_are_the_owner_s_alone(folder: IndexFolder):
    files, _ = grown(folder, 1)
    assert [path.stat().st_mode & 0o777 for path in files] == [0o600, 0o600]
    assert files.vectors.parent.stat().st_mode & 0o777 == 0o700


def test_each_tenant_has_a_folder_of_its_own(folder: IndexFolder):
    places = {
        folder.files(tenant, model, generation) for tenant in (1, 11) for model in (1, 11) for generation in ("a", "b")
    }
    assert len(places) == 8
    assert len({files.vectors.parent for files in places}) == 2


def test_bytes_behind_what_was_published_are_a_crash_s_and_are_written_over(folder: IndexFolder):
    files, blocks = grown(folder, 3)
    folder.append(files, 3, rows(4, first=50), DIM)  # written, never published
    part = folder.open(files, 3, DIM)
    assert part is not None
    assert part.seqs.tolist() == [2000, 2001, 2002]
    assert folder.verify(files, blocks, DIM)
    block, _ = folder.append(files, 3, rows(2, first=3), DIM)
    assert folder.verify(files, [*blocks, block], DIM)
    opened = folder.open(files, 5, DIM)
    assert opened is not None
    assert opened.seqs.tolist() == [2000, 2001, 2002, 2003, 2004]


def test_a_reader_keeps_what_it_has_mapped_while_the_file_grows_and_when_it_is_gone(folder: IndexFolder):
    files, _ = grown(folder, 3)
    part = folder.open(files, 3, DIM)
    assert part is not None
    before = part.vectors.copy()
    folder.append(files, 3, rows(100, first=3), DIM)
    assert np.array_equal(part.vectors, before)
    folder.remove(files)
    assert stamp(files) is None
    assert np.array_equal(part.vectors, before)


def test_no_file_is_left_open(folder: IndexFolder, monkeypatch: pytest.MonkeyPatch):
    def open_files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = open_files()
    for number in range(10):
        files, blocks = grown(folder, 3, 2, generation=f"g{number}")
        for most_bytes in (index.RESIDENT_MAX_BYTES, 0):
            monkeypatch.setattr(index, "RESIDENT_MAX_BYTES", most_bytes)
            for apart in (False, True):
                assert folder.open(files, 5, DIM, apart=apart) is not None
                assert folder.open(files, 6, DIM, apart=apart) is None
        assert folder.verify(files, blocks, DIM)
        assert not folder.verify(files, blocks[1:] + blocks[:1] + [Block(0, 1, "")], DIM)
    gc.collect()
    assert open_files() <= before


def test_a_process_that_dies_while_it_appends_leaves_what_was_published(tmp_path: Path, folder: IndexFolder):
    files, blocks = grown(folder, 3)
    code = """
import os, sys
from pathlib import Path
from fedctl.recall import index
folder = index.IndexFolder(Path(sys.argv[1]))
files = folder.files(1, 1, "g")
with files.vectors.open("r+b") as file:
    file.seek(3 * 16)
    file.write(b"half a vect")
    file.flush()
    os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "index")], cwd=ROOT, check=False)
    assert files.vectors.stat().st_size == 3 * 16 + 11
    assert folder.verify(files, blocks, DIM)
    assert folder.open(files, 3, DIM) is not None


# -- damage ------------------------------------------------------------------------------------------------------


def gone(files: Files) -> None:
    files.vectors.unlink()


def keys_gone(files: Files) -> None:
    files.keys.unlink()


def cut(files: Files) -> None:
    os.truncate(files.vectors, files.vectors.stat().st_size - 1)


def keys_cut(files: Files) -> None:
    os.truncate(files.keys, 16)


def emptied(files: Files) -> None:
    os.truncate(files.vectors, 0)


def a_folder(files: Files) -> None:
    files.vectors.unlink()
    files.vectors.mkdir()
    (files.vectors / "inside").touch()


def a_pipe(files: Files) -> None:
    files.vectors.unlink()
    os.mkfifo(files.vectors)


def a_link(files: Files) -> None:
    shutil.move(files.vectors, files.vectors.with_suffix(".moved"))
    files.vectors.symlink_to(files.vectors.with_suffix(".moved"))


def a_device(files: Files) -> None:
    files.vectors.unlink()
    files.vectors.symlink_to("/dev/zero")


@pytest.mark.parametrize("damage", [gone, keys_gone, cut, keys_cut, emptied, a_folder, a_pipe, a_link, a_device])
def test_what_is_not_there_is_not_opened_and_not_trusted(folder: IndexFolder, damage, monkeypatch: pytest.MonkeyPatch):
    files, blocks = grown(folder, 3, 2)
    damage(files)
    assert folder.open(files, 5, DIM) is None
    assert folder.open(files, 5, DIM, apart=True) is None
    monkeypatch.setattr(index, "RESIDENT_MAX_BYTES", 0)
    assert folder.open(files, 5, DIM, apart=True) is None
    assert not folder.verify(files, blocks, DIM)
    folder.remove(files)
    assert not files.vectors.exists()
    assert not files.keys.exists()
    folder.append(files, 0, rows(5), DIM)  # the place is free again
    assert folder.open(files, 5, DIM) is not None


@settings(max_examples=40)
@given(place=st.integers(0, 5 * (2 * DIM + 16) - 1), flip=st.integers(1, 255))
def test_a_digest_notices_every_byte(tmp_path_factory: pytest.TempPathFactory, place: int, flip: int):
    folder = IndexFolder(tmp_path_factory.mktemp("index"))
    files, blocks = grown(folder, 3, 2)
    path, place = (files.vectors, place) if place < 5 * 2 * DIM else (files.keys, place - 5 * 2 * DIM)
    content = bytearray(path.read_bytes())
    content[place] ^= flip
    path.write_bytes(content)
    assert not folder.verify(files, blocks, DIM)
    content[place] ^= flip
    path.write_bytes(content)
    assert folder.verify(files, blocks, DIM)


def test_another_tenant_s_file_in_one_s_place_is_not_one_s_own(folder: IndexFolder):
    files, blocks = grown(folder, 3)
    other = folder.files(2, 1, "g")
    folder.append(other, 0, rows(3, first=500), DIM)
    shutil.copy(other.vectors, files.vectors)
    shutil.copy(other.keys, files.keys)
    assert not folder.verify(files, blocks, DIM)


def test_the_stamp_tells_when_a_file_was_changed_replaced_or_lost(folder: IndexFolder):
    files, _ = grown(folder, 3)
    seen = [stamp(files)]
    assert stamp(files) == seen[0]
    folder.append(files, 3, rows(1, first=3), DIM)
    seen.append(stamp(files))
    content = files.vectors.read_bytes()
    files.vectors.unlink()
    files.vectors.write_bytes(content)
    seen.append(stamp(files))
    os.utime(files.keys, ns=(1, 1))
    seen.append(stamp(files))
    files.keys.unlink()
    seen.append(stamp(files))
    assert len(set(seen)) == len(seen)
    assert seen[-1] is None


# -- apart from the file -----------------------------------------------------------------------------------------


@pytest.fixture
def looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file is too large to be held in memory."""
    monkeypatch.setattr(index, "RESIDENT_MAX_BYTES", 0)


def vectors_of(*counts: int) -> np.ndarray:
    """Return what `grown` wrote."""
    firsts = np.cumsum([0, *counts]).tolist()
    return np.concatenate([tail(rows(n, first), DIM).vectors for n, first in zip(counts, firsts, strict=False)])


def apart(folder: IndexFolder, files: Files, count: int, before: Part | None = None) -> Part:
    part = folder.open(files, count, DIM, apart=True, before=before)
    assert part is not None
    return part


def is_mapped(path: Path) -> bool:
    return str(path) in Path("/proc/self/maps").read_text()


def test_a_command_maps_a_file_and_a_hub_never_does(folder: IndexFolder, monkeypatch: pytest.MonkeyPatch):
    files, _ = grown(folder, 3, 5)
    resident = apart(folder, files, 8)
    monkeypatch.setattr(index, "RESIDENT_MAX_BYTES", 8 * DIM * 2)
    assert isinstance(apart(folder, files, 8).vectors, np.ndarray)  # up to the limit
    monkeypatch.setattr(index, "RESIDENT_MAX_BYTES", 8 * DIM * 2 - 1)
    looked_up = apart(folder, files, 8)
    assert isinstance(looked_up.vectors, FileRows)
    assert not is_mapped(files.vectors)
    mapped = folder.open(files, 8, DIM)
    assert mapped is not None
    assert is_mapped(files.vectors)
    for part in (resident, looked_up):
        assert np.array_equal(np.asarray(part.vectors), mapped.vectors)
        assert (part.form, part.keys.tolist(), part.seqs.tolist()) == (
            mapped.form, mapped.keys.tolist(), mapped.seqs.tolist(),
        )  # fmt: skip


def test_what_a_hub_has_read_is_right_whatever_becomes_of_the_file(folder: IndexFolder):
    files, _ = grown(folder, 3, 5)
    part = apart(folder, files, 8)
    os.truncate(files.vectors, 0)
    files.vectors.write_bytes(b"\xff" * 1000)
    assert np.array_equal(part.vectors, vectors_of(3, 5))


def test_of_a_file_that_has_grown_only_the_new_rows_are_read(folder: IndexFolder):
    files, _ = grown(folder, 40)
    before = apart(folder, files, 40)
    folder.append(files, 40, rows(5, first=40), DIM)
    os.pwrite(descriptor := os.open(files.vectors, os.O_RDWR), b"\xff" * 40 * DIM * 2, 0)  # never looked at again
    os.close(descriptor)
    part = apart(folder, files, 45, before)
    assert np.array_equal(part.vectors, vectors_of(40, 5))
    assert np.shares_memory(part.vectors, before.vectors)  # into the room behind them
    assert np.array_equal(before.vectors, vectors_of(40))
    assert apart(folder, files, 45, part).vectors is not None


def test_where_the_room_is_full_a_larger_one_is_moved_into_and_the_old_stays_as_it_is(folder: IndexFolder):
    files, _ = grown(folder, 40)
    parts, counts = [apart(folder, files, 40)], [40]
    for more in (11, 1, 100, 60):
        folder.append(files, sum(counts), rows(more, first=sum(counts)), DIM)
        counts.append(more)
        parts.append(apart(folder, files, sum(counts), parts[-1]))
    for number, part in enumerate(parts, start=1):
        assert np.array_equal(part.vectors, vectors_of(*counts[:number]))
    rooms = {id(part.vectors.base) for part in parts}
    assert 1 < len(rooms) < len(parts)


def test_two_that_read_on_from_the_same_find_each_what_was_published_to_it(folder: IndexFolder):
    """One thread's snapshot may be older than another's: both write the same into the same room."""
    files, _ = grown(folder, 40)
    before = apart(folder, files, 40)
    folder.append(files, 40, rows(3, first=40), DIM)
    folder.append(files, 43, rows(2, first=43), DIM)
    longer, shorter = apart(folder, files, 45, before), apart(folder, files, 43, before)
    assert np.array_equal(longer.vectors, vectors_of(40, 3, 2))
    assert np.array_equal(shorter.vectors, vectors_of(40, 3))


def test_a_file_that_is_lost_while_it_grows_spoils_nothing_of_what_was_read(folder: IndexFolder):
    files, _ = grown(folder, 40)
    before = apart(folder, files, 40)
    assert folder.open(files, 45, DIM, apart=True, before=before) is None
    folder.append(files, 40, rows(5, first=40), DIM)
    os.truncate(files.vectors, 42 * DIM * 2)
    assert folder.open(files, 45, DIM, apart=True, before=before) is None
    assert np.array_equal(before.vectors, vectors_of(40))


def test_another_generation_shares_no_memory_with_the_one_before(folder: IndexFolder):
    old, _ = grown(folder, 40)
    before = apart(folder, old, 40)
    new = folder.files(1, 1, "new")
    folder.append(new, 0, rows(41, first=500), DIM)
    part = apart(folder, new, 41)
    assert not np.shares_memory(part.vectors, before.vectors)
    assert np.array_equal(before.vectors, vectors_of(40))
    assert np.array_equal(part.vectors, tail(rows(41, first=500), DIM).vectors)


def test_what_was_looked_up_in_the_file_is_no_room_for_more(folder: IndexFolder, monkeypatch: pytest.MonkeyPatch):
    files, _ = grown(folder, 40)
    with monkeypatch.context() as small:
        small.setattr(index, "RESIDENT_MAX_BYTES", 0)
        before = apart(folder, files, 40)
    assert np.array_equal(apart(folder, files, 40, before).vectors, vectors_of(40))


@given(
    first=st.integers(-5, 45), behind=st.integers(-5, 45), places=st.lists(st.integers(0, 39), max_size=60),
    again=st.integers(0, 45),
)  # fmt: skip
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_in_a_file_are_the_rows_of_an_array(
    folder: IndexFolder, first: int, behind: int, places: list[int], again: int
):
    files, _ = grown(folder, 40)
    expected, found = vectors_of(40), FileRows.open(files.vectors, 40, DIM)
    assert found is not None
    assert (found.shape, len(found)) == (expected.shape, 40)
    for one, other in (
        (found, expected), (found[first:behind], expected[first:behind]), (found[:behind], expected[:behind]),
        (found[first:], expected[first:]), (found[first:behind][again:], expected[first:behind][again:]),
    ):  # fmt: skip
        assert one.shape == other.shape
        assert np.asarray(one).tobytes() == other.tobytes()
    gathered = found[np.array(places, dtype=np.int64)]
    assert gathered.shape == (len(places), DIM)
    assert np.array_equal(gathered, expected[places])
    if behind > first >= 0 and (inside := [place for place in places if place < len(found[first:behind])]):
        assert np.array_equal(found[first:behind][np.array(inside)], expected[first:behind][inside])


def test_everything_in_a_file_of_many_slices_is_as_near_as_in_an_array(folder: IndexFolder, looked_up):
    count = 2 * index._SLICE_ROWS + 77
    files, _ = grown(folder, count)
    mapped, part = folder.open(files, count, DIM), apart(folder, files, count)
    assert mapped is not None
    assert isinstance(part.vectors, FileRows)
    some = sorted(np.random.default_rng(0).integers(2000, 2000 + count, 300).tolist())
    for question in unit(np.random.default_rng(5), 5):
        for allowed in (None, some, range(2000, 2000 + count // 2)):
            one, other = (Search([each], question).nearest(50, allowed) for each in (part, mapped))
            assert one == other


def cut_in_place(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def emptied_in_place(path: Path) -> None:
    os.truncate(path, 0)


@pytest.mark.parametrize("damage", [cut_in_place, emptied_in_place])
def test_a_file_that_is_cut_while_it_is_searched_is_told_of(folder: IndexFolder, looked_up, damage):
    files, _ = grown(folder, 500)
    part = apart(folder, files, 500)
    search = Search([part], unit(np.random.default_rng(5), 1)[0])
    damage(files.vectors)
    with pytest.raises(FileLostError):
        search.nearest(10)
    with pytest.raises(FileLostError):
        search.nearest(10, [2499])
    with pytest.raises(FileLostError):
        np.asarray(part.vectors)


def test_a_file_that_was_taken_away_is_searched_to_the_end(folder: IndexFolder, looked_up):
    files, _ = grown(folder, 500)
    part, mapped = apart(folder, files, 500), folder.open(files, 500, DIM)
    folder.remove(files)
    question = unit(np.random.default_rng(5), 1)[0]
    assert mapped is not None
    assert Search([part], question).nearest(10) == Search([mapped], question).nearest(10)


# -- sweeping ----------------------------------------------------------------------------------------------------


def test_what_belongs_to_no_snapshot_is_swept(folder: IndexFolder, tmp_path: Path):
    live, _ = grown(folder, 3)
    dead, _ = grown(folder, 3, generation="old")
    other = folder.files(2, 1, "crashed")
    folder.append(other, 0, rows(1), DIM)
    (tmp_path / "index" / "notes.txt").write_text("not in a tenant's folder")
    assert folder.sweep([live]) == 4
    assert all(path.exists() for path in live)
    assert not any(path.exists() for path in (*dead, *other))
    assert folder.sweep([live]) == 0


def test_a_folder_among_the_files_is_set_aside_once_and_for_good(folder: IndexFolder):
    files, _ = grown(folder, 1)
    (files.vectors.parent / "somebody's").mkdir()
    (files.vectors.parent / "somebody's" / "file").touch()
    for _ in range(3):
        folder.sweep([files])
    assert sorted(path.name for path in files.vectors.parent.iterdir() if path.is_dir()) == ["somebody's.not-a-file"]


def test_sweeping_where_nothing_is_finds_nothing(folder: IndexFolder):
    assert folder.sweep([]) == 0


# -- searching ---------------------------------------------------------------------------------------------------


def part_of(form: str, seqs: Sequence[int], vectors: np.ndarray, first_key: int = 1) -> Part:
    """Return a part whose keys are counted up from `first_key`."""
    keys = np.arange(first_key, first_key + len(seqs), dtype=np.int64)
    return Part(form, keys, np.array(seqs, dtype=np.int64), vectors.astype(np.float16))


@st.composite
def collections(draw) -> tuple[list[Part], np.ndarray, dict[int, float]]:
    """Return some parts, a question, and what plain numpy says each episode's best chunk is worth."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    dim = draw(st.sampled_from([2, 8, 24, 384]))
    question = unit(rng, 1, dim)[0]
    parts, best = [], {}
    for form in draw(st.lists(st.sampled_from(["flat", "tail"]), max_size=3)):
        seqs = draw(st.lists(st.integers(1, 12), max_size=15))
        vectors = unit(rng, len(seqs), dim).astype(np.float16)
        parts.append(part_of(form, seqs, vectors))
        cosines = vectors.astype(np.float64) @ question.astype(np.float16).astype(np.float64)
        for seq, cosine in zip(seqs, cosines.tolist(), strict=True):
            best[seq] = max(cosine, best.get(seq, -2))
    return parts, question, best


@given(collections(), st.integers(1, 20), st.none() | st.sets(st.integers(1, 14)))
def test_a_search_finds_what_plain_numpy_finds(given_, limit: int, allowed: set[int] | None):
    parts, question, best = given_
    search = Search(parts, question)
    found = search.nearest(limit, None if allowed is None else sorted(allowed))
    candidates = {seq: cosine for seq, cosine in best.items() if allowed is None or seq in allowed}
    assert len(found) == min(limit, len(candidates))
    assert list(found.values()) == sorted(found.values(), reverse=True)
    for seq, cosine in found.items():
        assert cosine == pytest.approx(candidates[seq], abs=2e-3)
    # What was left out is no nearer than the last that was taken, but for the last digit.
    left_out = [cosine for seq, cosine in candidates.items() if seq not in found]
    assert max(left_out, default=-2) <= min(found.values(), default=2) + 2e-3


def chunks(parts: Sequence[Part]) -> dict[int, list[bytes]]:
    """Return seq -> the blobs of its chunks."""
    found: dict[int, list[bytes]] = {}
    for part in parts:
        for seq, vector in zip(part.seqs.tolist(), part.vectors, strict=True):
            found.setdefault(seq, []).append(vector.tobytes())
    return found


@given(collections(), st.sets(st.integers(1, 14)))
def test_an_episode_s_cosine_is_that_of_its_best_chunk(given_, wanted: set[int]):
    parts, question, best = given_
    blobs = {seq: found for seq, found in chunks(parts).items() if seq in wanted}
    found = Search(parts, question).of(blobs)
    assert found.keys() == best.keys() & wanted
    assert all(cosine == pytest.approx(best[seq], abs=2e-3) for seq, cosine in found.items())


@given(collections())
def test_both_questions_to_one_search_have_the_same_answer(given_):
    parts, question, _ = given_
    search = Search(parts, question)
    assert search.nearest(100) == search.of(chunks(parts))


def test_many_chunks_of_one_episode_take_no_place_from_another():
    question = np.eye(DIM, dtype=np.float32)[0]
    near = np.tile(question, (500, 1))
    far = np.tile(np.eye(DIM, dtype=np.float32)[1], (3, 1))
    part = part_of("tail", [1] * 500 + [2, 3, 4], np.concatenate([near, far]))
    assert list(Search([part], question).nearest(3)) == [1, 4, 3]  # equal ones: the newer first


def test_an_explanation_says_in_which_form_the_nearest_chunk_was_found():
    vectors = unit(np.random.default_rng(0), 2)
    nothing = part_of("tail", [], vectors[:0])
    search = Search([part_of("flat", [1, 2], vectors), nothing, part_of("tail", [3, 1], vectors, 3)], vectors[0])
    assert [search.form_of(seq) for seq in (1, 2, 3)] == [None] * 3  # nothing was looked for yet
    search.nearest(10)
    assert [search.form_of(seq) for seq in (1, 2, 3, 4)] == ["flat", "flat", "tail", None]
    search.nearest(10, [2])
    assert search.form_of(2) == "flat"


def test_searching_nothing_finds_nothing():
    search = Search([], np.ones(DIM, dtype=np.float32))
    assert search.nearest(5) == search.of({}) == search.of({1: []}) == {}
    assert search.nearest(5, []) == {}


def test_a_filter_that_lets_nothing_through_finds_nothing():
    search = Search([tail(rows(5), DIM)], unit(np.random.default_rng(1), 1)[0])
    assert search.nearest(5, []) == {}
    assert list(search.nearest(5, [2003, 99])) == [2003]


# -- with what came before ---------------------------------------------------------------------------------------


def halves(vector: np.ndarray) -> bytes:
    return to_blobs(vector[None, :])[0]


@given(st.integers(0, 2**32), st.sampled_from([2, 24, 384]), st.floats(-1, 1))
def test_a_cosine_in_context_is_that_of_the_sum_of_both_vectors(seed: int, dim: int, towards: float):
    rng = np.random.default_rng(seed)
    question, own, other = unit(rng, 3, dim)
    earlier = towards * own + (1 - abs(towards)) * other  # from the same, over the unrelated, to the opposite
    earlier /= max(np.linalg.norm(earlier), 1e-6)
    blobs = {5: [halves(own)], 3: [halves(earlier)]}
    search = Search([], question)
    alone = search.of(blobs)
    found = search.in_context(blobs, {5: 3}, alone)
    e, p, q = (np.frombuffer(halves(one), dtype="<f2").astype(np.float64) for one in (own, earlier, question))
    together = e + max(e @ p, 0) * p
    assert found == {5: pytest.approx(together @ q / np.linalg.norm(together), abs=4e-3)}
    assert abs(found[5]) <= 1.01  # of norm 1, as what it is compared to
    if e @ p <= 0:
        assert found[5] == pytest.approx(alone[5], abs=1e-3)


def test_what_goes_on_with_a_subject_comes_nearer_to_it_and_where_that_changed_nothing_moves():
    subject, detail, elsewhere = np.eye(DIM, dtype=np.float32)[:3]
    goes_on = (subject + detail) / np.sqrt(2, dtype=np.float32)
    blobs = {1: [halves(subject)], 2: [halves(goes_on)], 3: [halves(elsewhere)]}
    search = Search([], subject)
    alone = search.of(blobs)
    found = search.in_context(blobs, {2: 1, 3: 2}, alone)
    assert found[2] > alone[2] + 0.1
    assert found[3] == pytest.approx(alone[3], abs=1e-3)


def test_the_same_said_again_is_as_near_as_it_was():
    same = halves(unit(np.random.default_rng(3), 1)[0])
    search = Search([], unit(np.random.default_rng(4), 1)[0])
    alone = search.of({1: [same], 2: [same]})
    assert search.in_context({1: [same], 2: [same]}, {2: 1}, alone) == {2: pytest.approx(alone[2], abs=1e-3)}


def test_only_one_piece_after_one_piece_is_put_together_and_only_what_was_asked_for():
    one, two = ([halves(vector)] for vector in unit(np.random.default_rng(0), 2))
    search = Search([], unit(np.random.default_rng(1), 1)[0])
    blobs = {1: one, 2: two, 3: one + two, 4: two, 5: one}
    alone = search.of(blobs)
    before = {2: 1, 3: 2, 4: 3, 5: 99, 98: 1}  # a long one, one after it, and such as have no vector
    assert search.in_context(blobs, before, alone).keys() == {2}
    assert search.in_context(blobs, before, {4: 0.5}) == {}
    assert search.in_context({}, {2: 1}, {2: 0.5}) == search.in_context(blobs, {}, alone) == {}
