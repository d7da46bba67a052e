"""The flat index: what it finds, how it grows, and what it does when its files are not what they were."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedctl.recall.index import Block, Files, IndexFolder, Part, Search, from_blob, stamp, tail, to_blobs

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


def test_no_file_is_left_open(folder: IndexFolder):
    def open_files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = open_files()
    for number in range(10):
        files, blocks = grown(folder, 3, 2, generation=f"g{number}")
        assert folder.open(files, 5, DIM) is not None
        assert folder.open(files, 6, DIM) is None
        assert folder.verify(files, blocks, DIM)
        assert not folder.verify(files, blocks[1:] + blocks[:1] + [Block(0, 1, "")], DIM)
    assert open_files() == before


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
def test_what_is_not_there_is_not_opened_and_not_trusted(folder: IndexFolder, damage):
    files, blocks = grown(folder, 3, 2)
    damage(files)
    assert folder.open(files, 5, DIM) is None
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
        parts.append(Part(form, np.array(seqs, dtype=np.int64), vectors))
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


@given(collections(), st.lists(st.integers(1, 14)))
def test_an_episode_s_cosine_is_that_of_its_best_chunk(given_, wanted: list[int]):
    parts, question, best = given_
    found = Search(parts, question).of(wanted)
    assert found.keys() == best.keys() & set(wanted)
    assert all(cosine == pytest.approx(best[seq], abs=2e-3) for seq, cosine in found.items())


@given(collections())
def test_both_questions_to_one_search_have_the_same_answer(given_):
    parts, question, best = given_
    search = Search(parts, question)
    assert search.nearest(100) == search.of(list(best))


def test_many_chunks_of_one_episode_take_no_place_from_another():
    question = np.eye(DIM, dtype=np.float32)[0]
    near = np.tile(question, (500, 1))
    far = np.tile(np.eye(DIM, dtype=np.float32)[1], (3, 1))
    part = Part("tail", np.array([1] * 500 + [2, 3, 4]), np.concatenate([near, far]).astype(np.float16))
    assert list(Search([part], question).nearest(3)) == [1, 4, 3]  # equal ones: the newer first


def test_an_explanation_says_in_which_form_the_vector_was_found():
    vectors = unit(np.random.default_rng(0), 2).astype(np.float16)
    search = Search(
        [Part("flat", np.array([1, 2]), vectors), Part("tail", np.array([], dtype=np.int64), vectors[:0]), Part("tail",
         np.array([3, 1]), vectors)],
        vectors[0],
    )  # fmt: skip
    assert [search.form_of(seq) for seq in (1, 2, 3, 4)] == ["flat", "flat", "tail", None]


def test_searching_nothing_finds_nothing():
    search = Search([], np.ones(DIM, dtype=np.float32))
    assert search.nearest(5) == search.of([1]) == {}
    assert search.nearest(5, []) == {}


def test_a_filter_that_lets_nothing_through_finds_nothing():
    search = Search([tail(rows(5), DIM)], unit(np.random.default_rng(1), 1)[0])
    assert search.nearest(5, []) == {}
    assert list(search.nearest(5, [2003, 99])) == [2003]
