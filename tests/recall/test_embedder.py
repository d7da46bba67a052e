from __future__ import annotations

import hashlib
import itertools
import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from fedctl.errors import Corrupt, Failure, UsageError
from fedctl.recall.embedder import MAX_BATCH, MAX_BATCH_TOKENS, ON_BOARD, Embedder, _batches

ROOT = Path(__file__).parents[2]
REFERENCE = json.loads(Path(__file__).with_name("reference_vectors.json").read_text(encoding="utf-8"))
TEXTS = [row["text"] for row in REFERENCE]
OURS = ("model.onnx", "model.onnx.data", "tokenizer.json", "model.json")


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The model on board, in a folder of its own."""
    folder = tmp_path / "copy"
    folder.mkdir()
    for name in OURS:
        shutil.copyfile(ON_BOARD / name, folder / name)
    return folder


def spoil(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    for place in range(at, at + 16):
        content[place] ^= 0xFF
    path.write_bytes(content)


# -- the artefact ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def together(real_embedder: Embedder) -> np.ndarray:
    """The vectors of all texts, embedded at once."""
    return real_embedder.embed(TEXTS)


def test_the_artefact_agrees_with_the_fp32_reference(together: np.ndarray):
    cosines = (together * np.array([row["vector"] for row in REFERENCE])).sum(axis=1)
    assert len(TEXTS) == 24
    assert cosines.mean() >= 0.999
    assert cosines.min() >= 0.995


def test_a_text_has_the_same_vector_alone_and_in_any_batch(embedder: Embedder, together: np.ndarray):
    alone = np.concatenate([embedder.embed([text]) for text in TEXTS])
    assert np.abs(together - alone).max() <= 1e-6
    assert np.abs(embedder.embed(TEXTS[::-1])[::-1] - alone).max() <= 1e-6
    company = embedder.embed([text for one in TEXTS for text in (one, "short", "a somewhat longer neighbour " * 3)])
    assert np.abs(company[::3] - alone).max() <= 1e-6


def test_meaning_is_nearer_than_words(embedder: Embedder):
    question, answer, other = embedder.embed(
        ["How do I fix the broken login?", "authentication repaired by rotating the key", "how I broke the vase"]
    )
    assert question @ answer > question @ other


def test_the_files_have_the_digests_that_the_model_id_is_made_of(embedder: Embedder):
    said = json.loads((ON_BOARD / "model.json").read_bytes())
    digests = {name: hashlib.sha256((ON_BOARD / name).read_bytes()).hexdigest() for name in sorted(said["files"])}
    assert {name: file["sha256"] for name, file in said["files"].items()} == digests
    together = hashlib.sha256("".join(digests.values()).encode()).hexdigest()
    assert embedder.model_id == said["id"] == f"all-MiniLM-L6-v2-q8@{together[:12]}"


def test_the_artefact_is_small_and_carries_its_license():
    assert sum(path.stat().st_size for path in ON_BOARD.iterdir()) < 26_000_000
    assert "Apache License" in (ON_BOARD / "LICENSE").read_text()
    assert "SPDX-License-Identifier: Apache-2.0" in (ON_BOARD / "NOTICE").read_text()


# -- embedding ---------------------------------------------------------------------------------------------------


def test_vectors_are_float32_rows_of_length_one(embedder: Embedder, together: np.ndarray):
    assert together.dtype == np.float32
    assert together.shape == (len(TEXTS), embedder.dim) == (24, 384)
    assert np.abs(np.linalg.norm(together, axis=1) - 1).max() < 1e-6


def test_no_texts_give_no_vectors(embedder: Embedder):
    assert embedder.embed([]).shape == (0, 384)


def test_an_empty_text_has_a_vector(embedder: Embedder):
    empty, blank = embedder.embed(["", " \n\t"])
    assert np.linalg.norm(empty) == pytest.approx(1, abs=1e-6)
    assert np.array_equal(empty, blank)


def test_one_text_is_not_taken_for_a_sequence_of_letters(embedder: Embedder):
    with pytest.raises(TypeError):
        embedder.embed("one text")


def test_of_a_long_text_the_first_256_tokens_count(embedder: Embedder):
    head = " ".join(["word"] * 254)
    assert embedder.count_tokens(head) == embedder.max_tokens == 256
    just, longer, other = embedder.embed([head, head + " and what nobody reads", head[5:] + " read"])
    assert np.array_equal(just, longer)
    assert not np.array_equal(just, other)


@pytest.mark.parametrize("tail", [" and more " * 40_000, "x" * 400_000, " " * 400_000 + "end", "\n語" * 100_000])
def test_a_very_long_text_is_read_like_its_head(embedder: Embedder, tail: str):
    head = "a page about leases and fences. " * 40
    assert embedder.count_tokens(head) > 256
    same, long = embedder.embed([head, head + tail])
    assert np.array_equal(same, long)


def test_what_follows_very_much_white_space_is_read(embedder: Embedder):
    plain, spaced = embedder.embed(["lease lost", "lease" + " " * 50_000 + "lost"])
    assert np.array_equal(plain, spaced)


def test_a_lone_surrogate_is_read_as_a_question_mark(embedder: Embedder):
    broken, replaced = embedder.embed(["bad \ud83d byte", "bad ? byte"])
    assert np.array_equal(broken, replaced)
    assert embedder.count_tokens("\udfff") == embedder.count_tokens("?")


def test_control_characters_and_nul_do_no_harm(embedder: Embedder):
    assert np.isfinite(embedder.embed(["\x00\x01\x1b[31m\u2028\x85", "\ufffe\uffff"])).all()


def test_tokens_are_counted_beyond_what_is_read(embedder: Embedder):
    assert embedder.count_tokens("") == 2
    assert embedder.count_tokens("hello world") == 4
    assert embedder.count_tokens("hello " * 1000) == 1002


def test_threads_share_one_model_and_get_the_same_vectors():
    shared = Embedder()
    expected = Embedder().embed(TEXTS[:6])
    with ThreadPoolExecutor(8) as pool:
        for vectors in pool.map(lambda _: shared.embed(TEXTS[:6]), range(16)):
            assert np.abs(vectors - expected).max() <= 1e-6


def test_the_number_of_threads_changes_no_bit_of_a_vector(embedder: Embedder):
    texts = [" ".join(TEXTS[:count]) for count in range(1, 13, 2)] + TEXTS[::2]
    expected = embedder.embed(texts)
    for threads in (2, 5):
        assert (embedder.embed(texts, threads=threads) == expected).all()


def test_batches_hold_every_text_once_and_stay_within_both_limits():
    lengths = [1, 256, 12, 12, 64, 3, 300, 2, 2, 2, 2, 2, 2, 2, 2, 600]
    batches = _batches(lengths)
    assert sorted(place for batch in batches for place in batch) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[place] for place in batch)
        assert len(batch) == 1 or (len(batch) <= MAX_BATCH and len(batch) * longest <= MAX_BATCH_TOKENS)
    assert [600] in [[lengths[place] for place in batch] for batch in batches]


# -- loading -----------------------------------------------------------------------------------------------------


def test_nothing_is_loaded_before_the_first_text():
    program = (
        "import sys\n"
        "from fedctl.recall.embedder import Embedder\n"
        "one = Embedder()\n"
        "assert (one.dim, one.max_tokens, one.loaded) == (384, 256, False), one.model_id\n"
        "heavy = {'numpy', 'onnxruntime', 'tokenizers', 'usearch'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
        "one.embed(['x'])\n"
        "assert one.loaded\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


def test_a_missing_or_short_file_is_damage_found_before_loading(copy: Path):
    (copy / "tokenizer.json").write_bytes(b"{}")
    with pytest.raises(Corrupt, match=r"tokenizer\.json") as raised:
        Embedder(copy)
    assert raised.value.details == {"file": "tokenizer.json"}
    (copy / "tokenizer.json").unlink()
    with pytest.raises(Corrupt, match="missing"):
        Embedder(copy)


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data", "tokenizer.json"])
def test_flipped_bytes_are_found_by_verify(copy: Path, name: str):
    Embedder(copy).verify()
    spoil(copy / name, 9000)
    with pytest.raises(Corrupt) as raised:
        Embedder(copy).verify()
    assert raised.value.details == {"file": name}


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_a_damaged_file_that_does_not_load_is_damage_said_once(copy: Path, name: str, capfd: pytest.CaptureFixture):
    spoil(copy / name, 0)
    with pytest.raises(Corrupt) as raised:
        Embedder(copy).embed(["x"])
    assert raised.value.details == {"file": name}
    assert raised.value.hint
    assert capfd.readouterr().err == ""


def test_a_description_with_parts_missing_is_damage(copy: Path):
    (copy / "model.json").write_text('{"format": "fedctl-model-1", "name": "x"}')
    with pytest.raises(Corrupt, match="does not describe"):
        Embedder(copy)


def test_the_model_loads_through_links_to_its_files(copy: Path, tmp_path: Path, embedder: Embedder):
    links = tmp_path / "links"
    links.mkdir()
    for name in OURS:
        (links / name).symlink_to(copy / name)
    assert np.array_equal(Embedder(links).embed(["linked"]), embedder.embed(["linked"]))


# -- foreign folders ---------------------------------------------------------------------------------------------

TABLE = np.array([[0, 0, 1], [3, 4, 0], [1, 0, 0], [0, 1, 0]], dtype=np.float32)
"""The rows of the tiny models' only layer: [PAD], one, two, three."""


def tiny(folder: Path, *, kind: str = "tokens", ints: str = "INT64", inputs: tuple = (), shape: tuple = ("n", "t")):
    """Write a model of one table: `kind` is `tokens`, `sentence` (summed in the graph) or `nan`."""
    from onnx import TensorProto, helper, numpy_helper
    from tokenizers import Tokenizer, models, pre_tokenizers

    names = ["input_ids", "attention_mask", *inputs]
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["last_hidden_state"])]
    output = ("last_hidden_state", ["n", "t", 3])
    if kind == "sentence":
        nodes.append(helper.make_node("ReduceSum", ["last_hidden_state", "one"], ["sentence_embedding"], keepdims=0))
        output = ("sentence_embedding", ["n", "d"])
    if kind == "nan":
        nodes[0].output[0] = "rows"
        nodes.append(helper.make_node("Div", ["rows", "nothing"], ["last_hidden_state"]))
    if "token_type_ids" in inputs:
        nodes[0].input[1] = "ids"
        nodes.insert(0, helper.make_node("Add", ["input_ids", "token_type_ids"], ["ids"]))
    constants = {"table": TABLE, "one": np.array([1]), "nothing": np.zeros(1, np.float32)}
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, getattr(TensorProto, ints), shape) for name in names],
        [helper.make_tensor_value_info(output[0], TensorProto.FLOAT, output[1])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 17)])
    (folder / "onnx").mkdir(parents=True, exist_ok=True)
    (folder / "onnx" / "model.onnx").write_bytes(model.SerializeToString())
    words = {"[PAD]": 0, "one": 1, "two": 2, "three": 3}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[PAD]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def say(folder: Path, name: str, value: object) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(value))


def test_the_model_on_board_works_as_a_foreign_folder_too(copy: Path, embedder: Embedder):
    (copy / "model.json").unlink()
    foreign = Embedder(copy)
    assert foreign.model_id.startswith("copy@")
    assert len(foreign.model_id) == len("copy@") + 12
    assert not foreign.loaded
    assert foreign.dim == 384
    assert foreign.max_tokens == 256
    assert np.array_equal(foreign.embed(TEXTS), embedder.embed(TEXTS))
    foreign.verify()


def test_token_embeddings_are_averaged_without_the_padding(tmp_path: Path):
    vectors = Embedder(tiny(tmp_path)).embed(["two", "two three", "one", ""])
    half = np.sqrt(0.5)
    assert vectors == pytest.approx(np.array([[1, 0, 0], [half, half, 0], [0.6, 0.8, 0], [0, 0, 1]]), abs=1e-6)


@pytest.mark.parametrize("said", [{"pooling_mode_cls_token": True}, {"pooling_mode": "cls"}])
def test_a_folder_may_pool_by_its_first_token(tmp_path: Path, said: dict):
    say(tiny(tmp_path), "1_Pooling/config.json", said)
    assert Embedder(tmp_path).embed(["two three"]).tolist() == [[1, 0, 0]]


def test_a_sentence_embedding_is_taken_as_it_is_and_normalised(tmp_path: Path):
    # What the folder says of pooling does not matter then: it lies in the graph.
    say(tiny(tmp_path, kind="sentence"), "1_Pooling/config.json", {"pooling_mode_max_tokens": True})
    say(tmp_path, "modules.json", [{"type": "sentence_transformers.models.Dense"}])
    foreign = Embedder(tmp_path)
    assert foreign.dim == 3
    assert foreign.embed(["one"]) == pytest.approx(np.array([[0.6, 0.8, 0]]), abs=1e-6)


def test_token_types_and_32_bit_integers_are_given_where_they_are_wanted(tmp_path: Path):
    tiny(tmp_path, ints="INT32", inputs=("token_type_ids",))
    assert Embedder(tmp_path).embed(["two"]).tolist() == [[1, 0, 0]]


def test_a_folder_says_how_much_its_model_reads(tmp_path: Path):
    tiny(tmp_path)
    assert Embedder(tmp_path).max_tokens == 512
    say(tmp_path, "tokenizer_config.json", {"model_max_length": 1e30})
    assert Embedder(tmp_path).max_tokens == 512
    say(tmp_path, "tokenizer_config.json", {"model_max_length": 7})
    assert Embedder(tmp_path).max_tokens == 7
    say(tmp_path, "sentence_bert_config.json", {"max_seq_length": 2, "do_lower_case": True})
    foreign = Embedder(tmp_path)
    assert foreign.max_tokens == 2
    assert foreign.count_tokens("two three one") == 3
    assert np.array_equal(*foreign.embed(["TWO three one", "two three"]))


def test_the_id_of_a_foreign_model_covers_all_that_makes_its_vectors(tmp_path: Path):
    before = Embedder(tiny(tmp_path)).model_id
    assert Embedder(tmp_path).model_id == before
    say(tmp_path, "1_Pooling/config.json", {"pooling_mode_cls_token": True})
    pooled = Embedder(tmp_path).model_id
    (tmp_path / "onnx" / "model.onnx_data").write_bytes(b"constants")
    assert len({before, pooled, Embedder(tmp_path).model_id}) == 3


def test_not_a_number_is_refused(tmp_path: Path):
    with pytest.raises(Failure, match="no vector"):
        Embedder(tiny(tmp_path, kind="nan")).embed(["two"])
    with pytest.raises(Failure, match="no vector"):
        Embedder(tmp_path).embed(["two", "one two"] * 20, threads=3)


def test_a_model_that_fails_on_a_text_is_a_failure(tmp_path: Path):
    tiny(tmp_path)
    tokenizer = json.loads((tmp_path / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["beyond"] = 99
    say(tmp_path, "tokenizer.json", tokenizer)
    with pytest.raises(Failure, match="failed"):
        Embedder(tmp_path).embed(["beyond"])


@pytest.mark.parametrize("name", ["onnx/model.onnx", "tokenizer.json"])
def test_a_folder_without_a_model_or_a_tokenizer_is_refused_at_once(tmp_path: Path, name: str):
    (tiny(tmp_path) / name).unlink()
    with pytest.raises(UsageError, match=Path(name).name) as raised:
        Embedder(tmp_path)
    assert raised.value.hint


def test_a_folder_that_is_none_is_refused_at_once(tmp_path: Path):
    for wrong in (tmp_path / "nothing", Path(__file__)):
        with pytest.raises(UsageError, match="no model folder"):
            Embedder(wrong)


@pytest.mark.parametrize("name", ["onnx/model.onnx", "tokenizer.json"])
def test_a_file_of_another_kind_is_refused_when_it_is_loaded(tmp_path: Path, name: str):
    (tiny(tmp_path) / name).write_text("something else")
    with pytest.raises(UsageError, match=Path(name).name):
        Embedder(tmp_path).embed(["x"])


def test_a_setting_that_is_not_json_is_refused(tmp_path: Path):
    (tiny(tmp_path) / "config.json").write_text("{")
    with pytest.raises(UsageError, match=r"config\.json"):
        Embedder(tmp_path)


def test_another_dimension_than_the_folder_says_is_refused(tmp_path: Path):
    say(tiny(tmp_path), "config.json", {"hidden_size": 768})
    foreign = Embedder(tmp_path)
    assert foreign.dim == 768
    with pytest.raises(UsageError, match=r"vectors of 3.* 768"):
        foreign.embed(["x"])


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ({"inputs": ("pixels",)}, "takes input_ids"),
        ({"ints": "FLOAT"}, "takes input_ids as|not an ONNX model"),
        ({"shape": (1, 128)}, "fixed shape"),
    ],
)
def test_a_graph_that_wants_something_else_is_refused(tmp_path: Path, parts: dict, why: str):
    with pytest.raises(UsageError, match=why):
        Embedder(tiny(tmp_path, **parts)).embed(["x"])


def test_steps_that_the_graph_leaves_out_are_refused_not_forgotten(tmp_path: Path):
    say(tiny(tmp_path), "modules.json", [{"type": "sentence_transformers.models.Dense"}])
    with pytest.raises(UsageError, match="leaves Dense out"):
        Embedder(tmp_path).embed(["x"])
    say(tmp_path, "modules.json", [{"type": "sentence_transformers.models.Pooling"}])
    say(tmp_path, "1_Pooling/config.json", {"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True})
    with pytest.raises(UsageError, match="leaves mean and max out"):
        Embedder(tmp_path).embed(["x"])


def test_a_short_text_is_embedded_in_one_piece_and_a_long_one_in_overlapping_windows(embedder):
    assert embedder.split("ann: fix it", "done", overlap=64, most=9) == ["ann: fix it\ndone"]
    assert embedder.split("ann: fix it", "", overlap=64, most=9) == ["ann: fix it"]
    words = [f"word{number}" for number in range(600)]
    pieces = embedder.split("ann: fix it", " ".join(words), overlap=64, most=99)
    assert len(pieces) > 2
    assert all(piece.startswith("ann: fix it\n") for piece in pieces)
    assert all(embedder.count_tokens(piece) <= embedder.max_tokens for piece in pieces)
    inside = [piece.partition("\n")[2] for piece in pieces]
    assert all(any(f" {word} " in f" {piece} " for piece in inside) for word in words)
    for one, other in itertools.pairwise(inside):
        assert one.rpartition(" ")[2][:5] in other


def test_a_text_without_end_is_cut_at_the_most_pieces(embedder):
    assert len(embedder.split("h", "one two three " * 80_000, overlap=64, most=5)) == 5
    assert len(embedder.split("a long head " * 400, "text " * 2000, overlap=64, most=3)) == 3


def test_what_a_window_has_no_room_for_of_a_long_head_is_in_the_pieces_like_the_text():
    head = " ".join(f"task{n}" for n in range(600)) + " telescope"
    embedder = Embedder()
    pieces = embedder.split(head, "and the text", overlap=64, most=64)
    assert len(pieces) > 1
    assert any("telescope" in piece for piece in pieces)
    assert all(embedder.count_tokens(piece) <= embedder.max_tokens for piece in pieces)
    assert "and the text" in pieces[-1]
