"""Text to vectors: the door to onnxruntime and tokenizers, which load when the first text is embedded.

Two kinds of folders hold a model:

- one made by `scripts/build_model.py`, as on board: `model.json` names the files, their sizes and digests;
- any sentence-transformers model exported to ONNX: `model.onnx` or `onnx/model.onnx`, `tokenizer.json`, and the
  usual `config.json`, `sentence_bert_config.json`, `1_Pooling/config.json`, `modules.json` where there are any.
"""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fedctl.errors import Corrupt, Failure, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

ON_BOARD = Path(__file__).with_name("models") / "all-MiniLM-L6-v2"
MAX_BATCH = 8
"""Texts in a batch: more gain nothing."""
MAX_BATCH_TOKENS = 512
"""Texts times tokens in a batch: what bounds memory (8 x 256 tokens need 60 MB more than 2 x 256)."""
MAX_TOKENS = 512
"""Read of a text when a foreign folder does not say what its model was made for."""

_FORMAT = "fedctl-model-1"
_HEAD_CHARS = 16
"""A text is first cut to so many characters a token: tokenizing a megabyte to use its first page costs a second."""
_ID_DIGITS = 12
_INTEGERS = {"tensor(int64)": "int64", "tensor(int32)": "int32"}
_FLOATS = ("tensor(float)", "tensor(float16)")
_BEHIND_POOLING = ("Transformer", "Pooling", "Normalize")


class Embedder:
    """One embedding model; safe to share between threads.

    Making one reads a small JSON file or a few. `embed` and `count_tokens` load the model, `dim` and `max_tokens`
    only where no file says them: some 0.25 s of CPU, over half of it importing, and 70 MB (95 after long texts).
    """

    def __init__(self, folder: Path | None = None) -> None:
        """Describe the model in `folder`; None is the model on board.

        Raises:
            UsageError: The folder is missing, or is no model that can be used.
            Corrupt: A file of a model of our making is missing or has another size than it was built with.
        """
        self.folder = ON_BOARD if folder is None else folder
        self._spec = _describe(self.folder, on_board=folder is None)
        self._id = self._spec.id
        self._runtime: _Runtime | None = None
        self._lock = threading.Lock()

    @property
    def model_id(self) -> str:
        """The name and the first 12 hex digits of a digest over the model's files; vectors are tagged with it.

        For a foreign folder the first call reads the files: 1 ms a megabyte.
        """
        if self._id is None:
            self._id = _digest_id(self._spec)
        return self._id

    @property
    def dim(self) -> int:
        """The length of a vector."""
        return self._spec.dim or self._load().dim

    @property
    def max_tokens(self) -> int:
        """What the model reads of a text, in tokens, special tokens included; the rest is cut off."""
        return self._spec.max_tokens or self._load().max_tokens

    @property
    def loaded(self) -> bool:
        """Whether the model is in memory."""
        return self._runtime is not None

    def embed(self, texts: Sequence[str], *, threads: int = 1) -> Floats:
        """Return one vector a text, in the texts' order; a text gets the same vector in any company.

        CPU a text, single-threaded with AVX2: 7 ms for 12 tokens, 35 for 60, 160 for 256; a third of that where the
        processor has VNNI. Lone surrogates are read as `?`. The more texts, the more batches of like length: 128 at
        once take 2 % more CPU than thousands do, 32 take 6 % more. Of `threads` each runs a batch at a time; their
        number changes no bit of a vector.

        Returns:
            (texts, dim) float32, each row of length 1: the inner product of two rows is their cosine.

        Raises:
            UsageError: The folder holds no model that can be used.
            Corrupt: A model of our making does not load.
            Failure: The model fails, or gives something that is no vector (NaN, infinity, zero).
        """
        if isinstance(texts, str):
            raise TypeError("texts is a sequence of texts, not one text")
        if not len(texts):
            import numpy as np  # noqa: PLC0415

            return np.empty((0, self.dim), dtype=np.float32)
        return self._load().embed(texts, threads)

    def count_tokens(self, text: str) -> int:
        """Return how many tokens a text has, special tokens included: above `max_tokens` its end is not read."""
        return self._load().count_tokens(text)

    def split(self, head: str, text: str, *, overlap: int, most: int) -> list[str]:
        """Return the pieces in which a text is embedded: each begins with `head` and is read whole by the model.

        One piece where head and text fit the model's window; else windows of the text that share `overlap` tokens
        with the one before, at most `most` of them. A head takes at most half of a window; the rest of it is cut like
        the text, before which it stands.

        Args:
            head: What every piece begins with, on a line of its own; may be empty.
            text: What is cut.
            overlap: Tokens that stand in two neighbouring pieces.
            most: How many pieces there are at most; what lies behind them is in none.
        """
        return self._load().split(head, text, overlap, most)

    def verify(self) -> None:
        """Compare the files with the digests recorded when they were built (30 ms); a foreign folder has none.

        Raises:
            Corrupt: A file is damaged; `details` names it.
        """
        for name, (size, digest) in self._spec.recorded.items():
            _check_size(self._spec, name, size)
            if _sha256(self.folder / name) != digest:
                raise _damaged(self._spec, name, "its digest is not the recorded one")

    def _load(self) -> _Runtime:
        if self._runtime is None:
            with self._lock:
                if self._runtime is None:
                    self._runtime = _Runtime(self._spec)
        return self._runtime


# -- what a folder says ------------------------------------------------------------------------------------------


class _Spec(NamedTuple):
    """What is known of a model before it is loaded; None where only the graph or the files' digest can tell."""

    name: str
    graph: Path
    tokenizer: Path
    max_tokens: int | None
    dim: int | None
    id: str | None
    recorded: dict[str, tuple[int, str]]
    """Size and digest of each file, for a model of our making."""
    hint: str
    pooling: str = "mean"
    """How token embeddings become one: `mean`, `cls`, or something that only a graph can do."""
    lower_case: bool = False
    behind_pooling: tuple[str, ...] = ()
    """Modules that only a graph with a `sentence_embedding` can contain."""
    settings: tuple[Path, ...] = ()
    """Small files that the vectors depend on."""


def _describe(folder: Path, *, on_board: bool) -> _Spec:
    if not on_board and not folder.is_dir():
        raise UsageError(f"there is no model folder {folder}", hint="give the folder of an ONNX model")
    said = _read_json(folder / "model.json")
    if said.get("format") == _FORMAT:
        return _describe_ours(folder, said, on_board=on_board)
    if on_board:
        raise Corrupt("the embedding model on board is damaged: model.json: no description", hint="reinstall fedctl")
    return _describe_foreign(folder)


def _describe_ours(folder: Path, said: dict[str, Any], *, on_board: bool) -> _Spec:
    try:
        spec = _Spec(
            name=said["name"],
            # The runtime looks for the data file beside the graph: links to single files must not lead it astray.
            graph=(folder / "model.onnx").resolve(),
            tokenizer=folder / "tokenizer.json",
            max_tokens=said["max_tokens"],
            dim=said["dim"],
            id=said["id"],
            recorded={name: (file["bytes"], file["sha256"]) for name, file in said["files"].items()},
            hint="reinstall fedctl" if on_board else "build or copy the model folder again",
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise Corrupt(f"{folder / 'model.json'} does not describe a model", hint="build it again") from error
    for name, (size, _) in spec.recorded.items():
        _check_size(spec, name, size)
    return spec


def _describe_foreign(folder: Path) -> _Spec:
    graph = next((path for path in (folder / "model.onnx", folder / "onnx" / "model.onnx") if path.is_file()), None)
    tokenizer = folder / "tokenizer.json"
    if graph is None:
        raise UsageError(
            f"{folder} holds no model.onnx and no onnx/model.onnx",
            hint="give the folder of a sentence-transformers model that was exported to ONNX",
        )
    if not tokenizer.is_file():
        raise UsageError(f"{folder} holds no tokenizer.json", hint="save the model with its fast tokenizer")
    settings = {
        name: folder / name
        for name in (
            "sentence_bert_config.json", "modules.json", "1_Pooling/config.json", "config.json",
            "tokenizer_config.json",
        )
    }  # fmt: skip
    sentence, modules, pooling, config, tokenizer_config = (_read_json(path) for path in settings.values())
    listed = [module for module in modules.get("list", []) if isinstance(module, dict)]
    kinds = [str(module.get("type", "")).rpartition(".")[2] for module in listed]
    behind = tuple(kind for kind in kinds if kind not in _BEHIND_POOLING)
    dim = None if behind else pooling.get("word_embedding_dimension") or config.get("hidden_size")
    return _Spec(
        name=folder.resolve().name,
        graph=graph,
        tokenizer=tokenizer,
        max_tokens=_limit(sentence.get("max_seq_length")) or _limit(tokenizer_config.get("model_max_length")),
        dim=dim if isinstance(dim, int) else None,
        id=None,
        recorded={},
        hint="check the folder, or export the model again",
        pooling=_pooling(pooling),
        lower_case=sentence.get("do_lower_case") is True,
        behind_pooling=behind,
        settings=tuple(path for path in settings.values() if path.is_file()),
    )


def _read_json(path: Path) -> dict[str, Any]:
    """Return the object in a file (a list as `{"list": ...}`); empty when there is no file."""
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:  # not readable; not text or not JSON
        raise UsageError(f"{path} cannot be read: {error}", hint="check the model folder") from error
    return value if isinstance(value, dict) else {"list": value}


def _limit(said: Any) -> int | None:
    # Tokenizers without a limit say 1e30.
    return int(said) if isinstance(said, int | float) and 0 < said <= 1 << 20 else None


def _pooling(said: dict[str, Any]) -> str:
    """Return how the folder pools, `mean` when it does not say."""
    if isinstance(said.get("pooling_mode"), str):
        return str(said["pooling_mode"])
    modes = [key for key, value in said.items() if value is True and key.startswith("pooling_mode_")]
    modes = [mode.removeprefix("pooling_mode_").removesuffix("_tokens").removesuffix("_token") for mode in modes]
    return " and ".join(modes) or "mean"


def _check_size(spec: _Spec, name: str, size: int) -> None:
    try:
        found = (spec.tokenizer.parent / name).stat().st_size
    except OSError as error:
        raise _damaged(spec, name, "it is missing") from error
    if found != size:
        raise _damaged(spec, name, f"it has {found} bytes instead of {size}")


def _damaged(spec: _Spec, name: str, why: str) -> Corrupt:
    return Corrupt(f"the embedding model {spec.name} is damaged: {name}: {why}", hint=spec.hint, details={"file": name})


def _sha256(path: Path) -> str:
    import hashlib  # noqa: PLC0415

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest_id(spec: _Spec) -> str:
    import hashlib  # noqa: PLC0415

    # A large graph keeps its constants beside it, in files that begin with its name.
    graph = sorted(path for path in spec.graph.parent.glob("model.onnx*") if path.is_file())
    files = [*graph, spec.tokenizer, *spec.settings]
    together = hashlib.sha256("".join(_sha256(path) for path in files).encode()).hexdigest()
    return f"{spec.name}@{together[:_ID_DIGITS]}"


# -- what runs ---------------------------------------------------------------------------------------------------


class _Runtime:
    """A loaded model: a tokenizer and a session. Neither is changed after it is made, so threads may share them."""

    def __init__(self, spec: _Spec) -> None:
        # A pool of threads for arithmetic that takes microseconds only costs: stalls under load, memory always.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        import numpy as np  # noqa: PLC0415

        self._np = np
        self._spec = spec
        self._load_tokenizer()
        self._load_session()
        self._plan_inputs()
        self._plan_output()

    # Neither library's errors have a base class of their own, hence `except Exception` at each call into them.

    def _load_tokenizer(self) -> None:
        from tokenizers import Tokenizer  # noqa: PLC0415

        path = self._spec.tokenizer
        try:
            tokenizer = Tokenizer.from_file(str(path))
            padding, truncation = tokenizer.padding, tokenizer.truncation
            self.max_tokens: int = self._spec.max_tokens or (truncation or {}).get("max_length") or MAX_TOKENS
            tokenizer.no_padding()
            tokenizer.enable_truncation(self.max_tokens)
        except Exception as error:
            raise self._unusable(path, "is not a tokenizer", error) from error
        self._encode: Callable[[str], Any] = tokenizer.encode
        self._special: int = tokenizer.num_special_tokens_to_add(is_pair=False)
        found = [tokenizer.token_to_id(name) for name in ("[PAD]", "<pad>")]
        # Models that number positions from the padding id need the right one.
        self._pad: int = padding["pad_id"] if padding else next((one for one in found if one is not None), 0)

    def _load_session(self) -> None:
        # Its wheels report to their maker over the network, and keep files for that in the user's cache.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        import onnxruntime  # noqa: PLC0415

        fatal = 4  # its errors are raised as well; they need not be on stderr a second time
        onnxruntime.set_default_logger_severity(fatal)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = fatal
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # A memory plan for each shape of batch ever seen would be kept for good.
        options.enable_mem_pattern = False
        path = self._spec.graph
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise self._unusable(path, "is not an ONNX model that onnxruntime can load", error) from error

    def _plan_inputs(self) -> None:
        inputs = {one.name: one for one in self._session.get_inputs()}
        unknown = sorted(inputs.keys() - {"input_ids", "attention_mask", "token_type_ids"})
        missing = sorted({"input_ids", "attention_mask"} - inputs.keys())
        graph = self._spec.graph
        if unknown or missing:
            raise self._unusable(graph, f"takes {', '.join(inputs)}, not input_ids and attention_mask")
        for one in inputs.values():
            if one.type not in _INTEGERS:
                raise self._unusable(graph, f"takes {one.name} as {one.type}")
            if any(isinstance(size, int) for size in one.shape):
                raise self._unusable(graph, "takes batches of one fixed shape; export it with dynamic axes")
        self._inputs = {name: _INTEGERS[one.type] for name, one in inputs.items()}

    def _plan_output(self) -> None:
        outputs = {one.name: one for one in self._session.get_outputs()}
        pooled = [one for one in outputs.values() if len(one.shape) == 2 and one.name != "pooler_output"]  # noqa: PLR2004
        tokens = [one for one in outputs.values() if len(one.shape) == 3]  # noqa: PLR2004
        named = [outputs[name] for name in ("sentence_embedding", "last_hidden_state") if name in outputs]
        chosen = next(iter(named + tokens + pooled), None)
        graph = self._spec.graph
        if chosen is None or chosen.type not in _FLOATS or len(chosen.shape) not in (2, 3):
            raise self._unusable(graph, f"gives {', '.join(outputs)}: neither token nor sentence embeddings")
        self._output: str = chosen.name
        self._pools = len(chosen.shape) == 3  # noqa: PLR2004
        # What the graph leaves to us must be something we can do.
        left = (*self._spec.behind_pooling, *({self._spec.pooling} - {"mean", "cls"}))
        if self._pools and left:
            what = " and ".join(left)
            raise self._unusable(graph, f"leaves {what} out; export it whole, with an output sentence_embedding")
        dim = chosen.shape[-1]
        if not isinstance(dim, int):
            dim = self._run([[self._pad]]).shape[1]
        if self._spec.dim not in (None, dim):
            raise self._unusable(graph, f"gives vectors of {dim}, where the folder says {self._spec.dim}")
        self.dim: int = dim

    def embed(self, texts: Sequence[str], threads: int) -> Floats:
        ids = [self._tokens(text) for text in texts]
        vectors = self._np.empty((len(ids), self.dim), dtype=self._np.float32)

        def run(batch: list[int]) -> None:
            vectors[batch] = self._unit(self._run([ids[place] for place in batch]))

        batches = _batches([len(one) for one in ids])
        if threads == 1:
            for batch in batches:
                run(batch)
        else:
            from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

            with ThreadPoolExecutor(threads) as pool:
                # The longest first, so that no thread is left with a long one when the others have ended.
                for _ in pool.map(run, reversed(batches)):
                    pass
        return vectors

    def count_tokens(self, text: str) -> int:
        encoding = self._encode(self._clean(text))
        return len(encoding.ids) + sum(len(rest.ids) - self._special for rest in encoding.overflowing)

    def split(self, head: str, text: str, overlap: int, most: int) -> list[str]:
        whole = f"{head}\n{text}" if head and text else head or text
        # A token is at least a character, so a short text needs no counting.
        if len(whole) + self._special <= self.max_tokens:
            return [whole]
        # Neither does one that is longer than any window: counting a megabyte takes more than a second.
        if len(whole) <= _HEAD_CHARS * self.max_tokens and self.count_tokens(whole) <= self.max_tokens:
            return [whole]
        lead = self._offsets(head)[: self.max_tokens // 2]
        end = lead[-1][1] if lead else 0
        # What a window has no room for at its beginning is text like the rest.
        text = "\n".join(part for part in (head[end:].strip(), text) if part)
        head = head[:end]
        size = max(self.max_tokens - self._special - len(lead), 1)
        overlap = min(overlap, size // 2)  # each window begins behind the one before, however small they are
        # Nor is tokenized what no piece could hold.
        offsets = self._offsets(text[: _HEAD_CHARS * size * most])
        pieces = []
        for start in range(0, max(len(offsets) - overlap, 1), size - overlap):
            window = offsets[start : start + size]
            piece = text[window[0][0] : window[-1][1]] if window else ""
            pieces.append(f"{head}\n{piece}" if head else piece)
            if len(pieces) == most:
                break
        return pieces

    def _offsets(self, text: str) -> list[tuple[int, int]]:
        """Return where each token of a text stands in it, special tokens left out."""
        encoding = self._encode(self._clean(text))
        return [
            offset
            for part in (encoding, *encoding.overflowing)
            for offset, special in zip(part.offsets, part.special_tokens_mask, strict=True)
            if not special
        ]

    def _clean(self, text: str) -> str:
        try:
            text.encode()
        except UnicodeEncodeError:  # a lone surrogate, which the tokenizer would refuse
            text = text.encode(errors="replace").decode()
        return text.lower() if self._spec.lower_case else text

    def _tokens(self, text: str) -> list[int]:
        """Return the ids of what the model reads of a text, at least one."""
        text = self._clean(text)
        chars = _HEAD_CHARS * self.max_tokens
        while chars < len(text):
            # Tokens do not reach across white space: once the head is too long by itself, the rest changes nothing.
            cut = max(text.rfind(" ", 0, chars), text.rfind("\n", 0, chars))
            encoding = self._encode(text[:cut]) if cut > 0 else None
            if encoding is not None and encoding.overflowing:
                return list(encoding.ids)
            chars *= 4
        # A tokenizer without special tokens finds none in an empty text.
        return list(self._encode(text).ids) or [self._pad]

    def _run(self, ids: list[list[int]]) -> Floats:
        """Return (texts, dim) as the model gives it, pooled."""
        np = self._np
        tokens = np.full((len(ids), max(map(len, ids))), self._pad, dtype=np.int64)
        mask = np.zeros_like(tokens)
        for row, one in enumerate(ids):
            tokens[row, : len(one)] = one
            mask[row, : len(one)] = 1
        values = {"input_ids": tokens, "attention_mask": mask, "token_type_ids": np.zeros_like(tokens)}
        feed = {name: values[name].astype(kind, copy=False) for name, kind in self._inputs.items()}
        try:
            output = self._session.run([self._output], feed)[0].astype(np.float32, copy=False)
        except Exception as error:
            raise Failure(f"the embedding model {self._spec.name} failed: {error}", hint=self._spec.hint) from error
        if not self._pools:
            return output  # type: ignore[no-any-return]
        if self._spec.pooling == "cls":
            return output[:, 0]  # type: ignore[no-any-return]
        means = [row[: len(one)].mean(axis=0) for row, one in zip(output, ids, strict=True)]
        return np.stack(means)  # type: ignore[no-any-return]

    def _unit(self, vectors: Floats) -> Floats:
        np = self._np
        with np.errstate(all="ignore"):
            norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        # A sum is finite only if all it is made of is; below the smallest normal number there is no direction.
        if vectors.shape[1] != self.dim or not np.isfinite(norms).all() or norms.min() < np.finfo(np.float32).tiny:
            raise Failure(
                f"the embedding model {self._spec.name} gave something that is no vector (NaN, infinity or zero)",
                hint=self._spec.hint,
            )
        return vectors / norms  # type: ignore[no-any-return]

    def _unusable(self, path: Path, why: str, error: Exception | None = None) -> Corrupt | UsageError:
        """Return the error for a file that does not do: damage in a model of our making, else a wrong setting."""
        reason = f"{why} ({error})" if error else why
        if self._spec.recorded:
            return _damaged(self._spec, path.name, reason)
        return UsageError(f"{path} {reason}", hint=self._spec.hint)


def _batches(lengths: list[int]) -> list[list[int]]:
    """Cut texts of these lengths into batches of like length; return their places."""
    batches: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        last = batches[-1] if batches else None
        if last and len(last) < MAX_BATCH and (len(last) + 1) * lengths[place] <= MAX_BATCH_TOKENS:
            last.append(place)
        else:
            batches.append([place])
    return batches
