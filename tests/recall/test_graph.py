"""Graphs: built in a process of their own, opened, asked; and searches that find with one what they find without."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedctl.errors import Failure
from fedctl.recall.graph import Build, Built, Graph, Plan, fingerprints, is_intact
from fedctl.recall.index import Files, IndexFolder, Part, Search, tail, to_blobs

ROOT = Path(__file__).parents[2]
DIM = 24
EPISODES = 2000
LONG_CHUNKS = 64
GIVE_UP_S = 60.0


def unit(seed: int, count: int, dim: int = DIM) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def write(folder: IndexFolder, count: int, *, first: int = 0, dim: int = DIM) -> Files:
    """Append rows to a flat file: keys from 1000, two chunks an episode, and one episode of many chunks."""
    files = folder.files(1, 1, "flat")
    vectors = unit(first, count, dim)
    if first == 0:
        vectors[:LONG_CHUNKS] = vectors[0] + unit(7, LONG_CHUNKS, dim)[:count] * 0.05
    seqs = [5000 if n < LONG_CHUNKS else 5000 + n // 2 for n in range(first, first + count)]
    rows = [
        (1000 + first + n, seq, blob)
        for n, (seq, blob) in enumerate(zip(seqs, to_blobs(vectors), strict=True))
    ]  # fmt: skip
    folder.append(files, first, rows, dim)
    return files


def plan(folder: IndexFolder, files: Files, rows: int, *, base: Path | None = None, dim: int = DIM) -> Plan:
    target = folder.graph_path(1, 1, f"to{rows}").with_suffix(".tmp")
    return Plan(None if base is None else str(base), str(files.vectors), dim, rows, str(target))


def build(one: Plan) -> tuple[Path, Built]:
    built = Build(one).wait(None)
    assert built is not None
    return Path(one.target), built


def flat_of(folder: IndexFolder, vectors: np.ndarray, generation: str = "flat") -> tuple[Files, Part]:
    """Write a flat file of these vectors, keys and sequences counted up from 1, and open it."""
    files = folder.files(1, 1, generation)
    rows = [(n + 1, n + 1, blob) for n, blob in enumerate(to_blobs(vectors))]
    folder.append(files, 0, rows, vectors.shape[1])
    part = folder.open(files, len(vectors), vectors.shape[1])
    assert part is not None
    return files, part


def without(part: Part, *gone: int) -> Part:
    """Return the part as it is when it was written anew and these rows had been deleted."""
    return Part(part.form, *(np.delete(column, gone, axis=0) for column in part[1:]))


class Made:
    """A flat file of some rows with a graph of the first of them."""

    def __init__(self, folder: IndexFolder) -> None:
        self.folder = folder
        self.files = write(folder, EPISODES)
        self.path, self.built = build(plan(folder, self.files, EPISODES))
        write(folder, 100, first=EPISODES)
        self.flat = folder.open(self.files, EPISODES + 100, DIM)
        assert self.flat is not None
        late = to_blobs(unit(99, 50))
        self.parts: list[Part] = [self.flat, tail([(90_000 + n, 90_000 + n, blob) for n, blob in enumerate(late)], DIM)]
        self.graph = Graph(self.path, self.flat.vectors[:EPISODES])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(IndexFolder(tmp_path_factory.mktemp("graphs") / "index"))


# -- building ----------------------------------------------------------------------------------------------------


def test_a_graph_says_what_it_holds_and_is_its_owner_s_alone(made: Made):
    assert made.built.vectors == made.graph.covered == made.graph.live == EPISODES
    assert is_intact(made.path, made.built.digest)
    assert made.path.stat().st_mode & 0o777 == 0o600


def test_a_vector_s_nearest_is_itself_by_its_row(made: Made):
    for place in (100, 200, EPISODES - 1):
        rows = made.graph.nearest(made.flat.vectors[place], 5)
        assert (len(rows), rows.dtype) == (5, np.dtype("int64"))
        assert place in rows.tolist()


def test_more_than_there_is_is_all_there_is(tmp_path: Path):
    folder = IndexFolder(tmp_path)
    path, _ = build(plan(folder, write(folder, 3), 3))
    rows = folder.open(folder.files(1, 1, "flat"), 3, DIM).vectors
    assert sorted(Graph(path, rows).nearest(unit(1, 1)[0], 50).tolist()) == [0, 1, 2]


def test_a_graph_is_added_to_in_another_file_and_what_it_was_made_of_stays_as_it_is(made: Made):
    before = made.path.read_bytes()
    path, built = build(plan(made.folder, made.files, EPISODES + 100, base=made.path))
    assert built.vectors == EPISODES + 100
    grown = Graph(path, made.flat.vectors)
    for place in (200, EPISODES + 50):
        assert place in grown.nearest(made.flat.vectors[place], 5).tolist()
    assert made.path.read_bytes() == before


def test_a_graph_made_at_once_is_the_one_that_was_made_the_day_before(made: Made, tmp_path: Path):
    again = Path(plan(made.folder, made.files, EPISODES).target).with_name("again")
    path, built = build(plan(made.folder, made.files, EPISODES)._replace(target=str(again)))
    assert built == made.built
    path.unlink()


def test_each_of_equal_vectors_is_a_row_and_all_of_them_are_one_vector_of_the_graph(tmp_path: Path):
    folder = IndexFolder(tmp_path)
    vectors = unit(0, 300)
    vectors[[7, 70, 299]] = vectors[0]
    files, part = flat_of(folder, vectors)
    path, built = build(plan(folder, files, 300))
    graph = Graph(path, part.vectors)
    assert (built.vectors, graph.covered, graph.live) == (297, 300, 297)
    assert sorted(graph.nearest(part.vectors[0], 1).tolist()) == [0, 7, 70, 299]
    assert sorted(graph.nearest(part.vectors[0], 300).tolist()) == list(range(300))


def test_an_added_to_graph_holds_no_vector_twice(tmp_path: Path):
    """Neither one that is there twice, nor one of which the graph knows only by what has been deleted since."""
    folder = IndexFolder(tmp_path)
    vectors = unit(0, 400)
    files, part = flat_of(folder, vectors[:300])
    path, built = build(plan(folder, files, 300))
    assert built.vectors == 300
    # Written anew without the first 50 rows; 20 of those come again, twice, and 20 of those that stayed once more.
    files, part = flat_of(folder, np.concatenate([vectors[50:], vectors[:20], vectors[:20], vectors[60:80]]), "anew")
    path, built = build(plan(folder, files, len(part.vectors), base=path))
    assert built.vectors == 400
    graph = Graph(path, part.vectors)
    assert (graph.covered, graph.live) == (410, 370)
    for place in (0, 10, 249, 300, 349, 350, 370, 409):
        (copies,) = np.nonzero((part.vectors == part.vectors[place]).all(axis=1))
        assert sorted(graph.nearest(part.vectors[place], 1).tolist()) == copies.tolist()
    named = graph.nearest(part.vectors[0], 1000).tolist()
    assert len(named) == len(set(named))


def test_who_asks_whether_it_is_done_is_not_made_to_wait_and_hears_it_in_the_end(tmp_path: Path):
    folder = IndexFolder(tmp_path)
    process = Build(plan(folder, write(folder, 500), 500))
    built = process.wait(0)
    assert built is None  # an interpreter does not start in no time
    give_up_at = time.monotonic() + GIVE_UP_S
    while (built := process.wait(0)) is None and time.monotonic() < give_up_at:
        time.sleep(0.01)
    assert built is not None
    assert built.vectors == 500


# -- what goes wrong ---------------------------------------------------------------------------------------------


def test_what_cannot_be_built_says_why_and_leaves_nothing(tmp_path: Path):
    folder = IndexFolder(tmp_path)
    files = write(folder, 10)
    missing = plan(folder, files, 10, base=tmp_path / "nowhere")
    with pytest.raises(Failure, match="building a graph failed: "):
        Build(missing).wait(None)
    with pytest.raises(Failure, match="building a graph failed: "):
        Build(plan(folder, files, 11)).wait(None)  # longer than the files are
    assert sorted(path.suffix for path in files.vectors.parent.iterdir()) == [".f16", ".keys"]


def test_a_builder_that_dies_is_told_of_by_its_status(tmp_path: Path):
    folder = IndexFolder(tmp_path)
    process = Build(plan(folder, write(folder, 10), 10))
    os.kill(process._process.pid, signal.SIGSEGV)
    with pytest.raises(Failure, match="exit -11"):
        process.wait(None)


def test_no_interpreter_is_a_failure_like_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = IndexFolder(tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nowhere"))
    with pytest.raises(Failure, match="no graph can be built: No such file"):
        Build(plan(folder, write(folder, 10), 10))


def test_what_was_called_off_ends_and_leaves_nothing(tmp_path: Path):
    folder = IndexFolder(tmp_path)
    one = plan(folder, write(folder, 10), 10)
    Path(one.target).write_bytes(b"half of it")
    process = Build(one)
    process.cancel()
    assert process._process.returncode == -signal.SIGKILL
    assert not Path(one.target).exists()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_builder_whose_parent_was_killed_ends_by_itself(tmp_path: Path):
    """Its rows take it longer than a test may: only because nobody waits for it does it end in time."""
    dim, rows = 384, 200_000
    with (tmp_path / "v").open("wb") as file:
        for seed in range(20):
            file.write(np.random.default_rng(seed).standard_normal((rows // 20, dim), np.float32).astype("<f2"))
    code = """
import sys, time
from fedctl.recall.graph import Build, Plan
build = Build(Plan(None, sys.argv[1] + "/v", int(sys.argv[2]), int(sys.argv[3]), sys.argv[1] + "/t"))
print(build._process.pid, flush=True)
time.sleep(1000)
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path), str(dim), str(rows)], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    try:
        assert alive(child)
        parent.kill()
        parent.wait()
        give_up_at = time.monotonic() + GIVE_UP_S
        while alive(child) and time.monotonic() < give_up_at:
            time.sleep(0.01)
        assert not alive(child)
        assert not (tmp_path / "t").exists()
    finally:
        parent.stdout.close()
        if alive(child):
            os.kill(child, signal.SIGKILL)


def gone(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def a_link(path: Path) -> None:
    path.rename(path.with_suffix(".moved"))
    path.symlink_to(path.with_suffix(".moved"))


@pytest.mark.parametrize("damage", [gone, cut, flipped, a_folder, a_pipe, a_link])
def test_what_is_not_what_was_built_is_not_intact(made: Made, tmp_path: Path, damage):
    path = tmp_path / "copy"
    path.write_bytes(made.path.read_bytes())
    assert is_intact(path, made.built.digest)
    damage(path)
    assert not is_intact(path, made.built.digest)


@pytest.mark.parametrize("content", [b"", b"no graph", b"\0" * 4096, b"\xff" * 4096])
def test_what_is_no_graph_is_not_opened(tmp_path: Path, content: bytes):
    (tmp_path / "g").write_bytes(content)
    with pytest.raises(Failure, match="cannot be opened"):
        Graph(tmp_path / "g", unit(0, 3).astype(np.float16))


# -- searching with one ------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 2**32), limit=st.integers(1, 400))
def test_with_a_graph_is_found_what_is_found_without(made: Made, seed: int, limit: int):
    question = unit(seed, 1)[0]
    assert Search(made.parts, question, made.graph).nearest(limit) == Search(made.parts, question).nearest(limit)


@given(limit=st.integers(1, 200), place=st.integers(0, LONG_CHUNKS - 1))
def test_the_many_chunks_of_one_episode_push_no_other_out(made: Made, limit: int, place: int):
    question = made.flat.vectors[place].astype(np.float32)
    found = Search(made.parts, question, made.graph).nearest(limit)
    assert len(found) == limit
    assert found == Search(made.parts, question).nearest(limit)


@given(seed=st.integers(0, 2**32), limit=st.integers(1, 150), share=st.floats(0.3, 1))
def test_what_was_deleted_from_the_flat_file_is_not_found_by_the_graph(made: Made, seed: int, limit: int, share: float):
    rng = np.random.default_rng(seed)
    flat = without(made.flat, *np.flatnonzero(rng.random(len(made.flat.seqs)) >= share).tolist())
    covered = int((flat.keys < 1000 + EPISODES).sum())
    graph = Graph(made.path, flat.vectors[:covered])
    assert graph.live == graph.covered == covered
    question = unit(seed, 1)[0]
    found, expected = Search([flat], question, graph).nearest(limit), Search([flat], question).nearest(limit)
    assert found.keys() <= set(flat.seqs.tolist())
    assert len(found.keys() & expected.keys()) >= 0.95 * len(expected)  # a graph may miss one of thousands


def test_an_explanation_says_what_the_graph_named(made: Made):
    search = Search(made.parts, made.flat.vectors[300].astype(np.float32), made.graph)
    search.nearest(20)
    assert search.form_of(int(made.flat.seqs[300])) == "hnsw"
    for part, place, form in ((made.flat, EPISODES + 50, "flat"), (made.parts[1], 7, "tail")):
        search = Search(made.parts, part.vectors[place].astype(np.float32), made.graph)
        search.nearest(20)
        assert search.form_of(int(part.seqs[place])) == form


def test_a_graph_of_nothing_that_is_left_is_passed_over(made: Made):
    question = unit(3, 1)[0]
    others = Part("flat", made.flat.keys, made.flat.seqs, unit(11, len(made.flat.seqs)).astype(np.float16))
    for rows in (others.vectors, others.vectors[:0]):
        graph = Graph(made.path, rows)
        assert len(graph.nearest(question, 10)) == 0
        assert (graph.covered, graph.live) == (len(rows), len(rows))
        assert Search([others], question, graph).nearest(10) == Search([others], question).nearest(10)
    assert Search([made.parts[1]], question, made.graph).nearest(10) == Search([made.parts[1]], question).nearest(10)
    assert Search([], question, made.graph).nearest(10) == {}


# -- copies ------------------------------------------------------------------------------------------------------


class Copied:
    """1,000 copies of one text among 5,000 vectors that gather around subjects, as texts do."""

    dim, rows, copies = 384, 5000, 1000

    def __init__(self, folder: IndexFolder) -> None:
        rng = np.random.default_rng(0)
        subjects = unit(1, 50, self.dim)
        vectors = subjects[rng.integers(0, 50, self.rows)] + unit(2, self.rows, self.dim) * 0.8
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        self.places = np.sort(rng.permutation(self.rows)[: self.copies])
        vectors[self.places] = vectors[self.places[0]]
        self.text = vectors[self.places[0]]
        self.questions = [self.text, *subjects, *(self.text + unit(4, 50, self.dim) * 0.5), *vectors[:50]]
        files, self.part = flat_of(folder, vectors)
        self.path, self.built = build(plan(folder, files, self.rows, dim=self.dim))
        self.graph = Graph(self.path, self.part.vectors)


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Copied:
    return Copied(IndexFolder(tmp_path_factory.mktemp("copied") / "index"))


@pytest.mark.parametrize("limit", [10, 50])  # of some 80 around each subject
def test_where_one_text_was_stored_a_thousand_times_everything_near_is_found(copied: Copied, limit: int):
    assert (copied.built.vectors, copied.graph.live) == (copied.rows - copied.copies + 1,) * 2
    for about in copied.questions:
        question = about / np.linalg.norm(about)
        expected = Search([copied.part], question).nearest(limit)
        assert Search([copied.part], question, copied.graph).nearest(limit) == expected


def test_without_its_first_copy_a_text_is_found_by_the_others(copied: Copied):
    first, *others = copied.places.tolist()
    anew = without(copied.part, first)  # the flat file was written anew
    graph = Graph(copied.path, anew.vectors)
    search = Search([anew], copied.text, graph)
    assert set(search.nearest(len(others))) == {place + 1 for place in others}
    assert search.form_of(others[0] + 1) == "hnsw"
    # Before it was, the row is there still: who asks passes over it, as over all that was deleted.
    assert first + 1 in Search([copied.part], copied.text, copied.graph).nearest(copied.copies)


def test_copies_of_one_text_that_crowd_out_all_else_are_told_newest_first(tmp_path: Path):
    folder, copies = IndexFolder(tmp_path), 5000
    vectors = np.tile(unit(0, 1), (copies, 1))
    files, part = flat_of(folder, vectors)
    path, built = build(plan(folder, files, copies))
    assert built.vectors == 1
    search = Search([part], vectors[0], Graph(path, part.vectors))
    assert list(search.nearest(10)) == list(range(copies, copies - 10, -1))


# -- fingerprints ------------------------------------------------------------------------------------------------


@st.composite
def halves(draw) -> np.ndarray:
    """Return (n, dim) float16 of any bits: fingerprints are of bytes, not of numbers."""
    rows, dim = draw(st.integers(1, 5)), draw(st.sampled_from([1, 2, 3, 4, 5, 7, 8, 24, 383, 384]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return rng.integers(0, 1 << 16, (rows, dim), dtype=np.uint16).view("<f2")


@given(halves())
def test_equal_bytes_have_equal_fingerprints_wherever_they_stand(vectors: np.ndarray):
    marks = fingerprints(vectors)
    assert (marks.dtype, marks.shape) == (np.dtype("int64"), (len(vectors),))
    assert (marks >= 1).all()
    assert fingerprints(vectors[::-1]).tolist() == marks[::-1].tolist()
    assert [int(fingerprints(vectors[n : n + 1].copy())[0]) for n in range(len(vectors))] == marks.tolist()


@given(halves())
def test_each_single_bit_makes_another_fingerprint(vectors: np.ndarray):
    bits = vectors.shape[1] * 16
    changed = np.tile(vectors[:1].view(np.uint16), (bits + 1, 1))
    for bit in range(bits):
        changed[bit, bit // 16] ^= np.uint16(1 << bit % 16)
    assert len(set(fingerprints(changed.view("<f2")).tolist())) == bits + 1


def test_vectors_of_few_values_are_told_from_each_other():
    """Only signs or only exponents tell them apart: the upper bits of halves, and none of the lower ones."""
    for dim in (24, 384):
        pairs = np.array([(a, b) for a in range(dim) for b in range(a)])[:20_000]
        signs = np.full((len(pairs), dim), 0.5, dtype="<f2")
        np.put_along_axis(signs, pairs, np.float16(-0.5), axis=1)
        for vectors in (np.eye(dim, dtype="<f2"), -np.eye(dim, dtype="<f2"), signs):
            assert len(np.unique(fingerprints(vectors))) == len(vectors)


def test_many_rows_have_the_fingerprints_of_each():
    vectors = unit(0, 20_000, 6).astype("<f2")
    marks = fingerprints(vectors)
    assert len(np.unique(marks)) == len(np.unique(vectors.view("V12")))
    for place in (0, 8191, 8192, 19_999):
        assert fingerprints(vectors[place : place + 1])[0] == marks[place]
    assert len(fingerprints(vectors[:0])) == 0


@pytest.mark.parametrize(
    ("dim", "expected"),
    [(3, [7106025068658193097, 568902719724980319]), (384, [2473930939370827745, 3186531043127620385])],
)
def test_a_fingerprint_is_the_same_on_every_machine_for_all_time(dim: int, expected: list[int]):
    """They are the keys of graphs that lie on disks: another value, and nothing is found in those."""
    assert fingerprints((np.arange(2 * dim).reshape(2, dim) / 1024).astype("<f2")).tolist() == expected
