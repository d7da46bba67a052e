"""Who types command lines at fedctl for the targets of `fuzz`: in this process, on a home in memory. A module.

Whatever is typed, what the contract says of every command holds: a documented exit code, never a traceback, JSON where
JSON was asked for, the error on stderr alone. `Waited` says that a command would have waited, as some are meant to.
"""

from __future__ import annotations

import atexit
import io
import os
import re
import shutil
import tempfile
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from fedctl.access.keys import KeyRing
from fedctl.cli.main import run
from fedctl.client.local import LocalCaller
from fedctl.clock import Clock
from fedctl.errors import BY_CODE, Failure
from fedctl.model.principal import Principal
from fedctl.operations.context import Context, Recall
from fedctl.recall.index import IndexFolder
from fedctl.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

OUTCOMES = frozenset({0, 3, 6, 8, 13, 14, 124})
"""Exit codes that may come with an answer and without an error."""
DOCUMENTED = frozenset({*range(12), 13, 14, 15, 124, 130, 141, 143})
"""As the contract has them, and not as the classes of errors do."""
MANUAL = re.compile(rb"fedctl[a-z-]*\([1-8]\)\n")
_TENANTS_MAX = 300


class Waited(BaseException):
    """A command would have waited, or stayed."""


def waits(*_: object, **__: object) -> Any:
    """Stand in for what waits."""
    raise Waited


class FakeModel:
    """A model that costs nothing: a vector of the text's bytes."""

    max_tokens = 256
    loaded = True
    model_id = "fuzz@0"
    dim = 16

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or Path("nowhere")

    def embed(self, texts: Sequence[str], *, threads: int = 1) -> np.ndarray:  # noqa: ARG002  the model's signature
        """Return a vector a text."""
        seeds = [zlib.crc32(text.encode(errors="replace")) for text in texts]
        found = [[(seed >> place & 0xFF) + 1.0 for place in range(self.dim)] for seed in seeds]
        vectors = np.array(found, dtype=np.float32).reshape(len(texts), self.dim)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def split(self, head: str, text: str, *, overlap: int, most: int) -> list[str]:
        """Cut by characters."""
        lead = f"{head}\n" if head and text else head
        return [lead + text[start : start + 800] for start in range(0, max(len(text), 1), 800 - overlap)][:most]

    def count_tokens(self, text: str) -> int:
        """Count words."""
        return len(text.split())

    def verify(self) -> None:
        """Nothing can be wrong with it."""


class Typed(NamedTuple):
    """What a command line came to."""

    code: int
    out: bytes
    err: bytes

    def lines(self) -> list[Any]:
        """Return what was answered, an object a line."""
        return [msgspec.json.decode(line) for line in self.out.split(b"\n") if line]


def scratch() -> Path:
    """Return a folder that goes with the process, or with the run of `fuzz` that it belongs to."""
    folder = Path(tempfile.mkdtemp(prefix="fedctl-fuzz-", dir=os.environ.get("FEDCTL_FUZZ_FOLDER")))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


class Desk:
    """A store in memory that is asked in-process. Each input gets a tenant of its own, so none sees another's."""

    def __init__(self) -> None:
        self.folder = scratch()
        self._context: Context | None = None
        self._tenants = 0

    def tenant(self) -> str:
        """Return a new one; now and then in a new store, for all its tenants together make it slow."""
        if self._tenants % _TENANTS_MAX == 0:
            if self._context is not None:
                self._context.close()
            clock = Clock()
            recall: Any = Recall(FakeModel(), IndexFolder(self.folder / "index"))  # type: ignore[arg-type]
            self._context = Context(home=self.folder, store=Store.in_memory(clock), recall=recall, clock=clock,
                                    access=KeyRing(self.folder / "keys"))  # fmt: skip
        self._tenants += 1
        return f"t{self._tenants}"

    @property
    def context(self) -> Context:
        """What operations are run with."""
        assert self._context is not None, "ask for a tenant first"
        return self._context

    def caller(self, tenant: str) -> LocalCaller:
        """Return who asks for a tenant; closing it leaves the store open."""
        return _Kept(self.context, Principal(tenant_id=tenant, role="owner"))

    def type(self, tenant: str, *argv: str, stdin: bytes | None = None) -> Typed:
        """Type a command line for a tenant; its answer is as the contract has it, or this raises."""
        environ = {"FEDCTL_HOME": str(self.folder), "FEDCTL_TENANT": tenant, "DEBUG_LEVEL": "silent"}
        return typed(argv, environ, stdin, lambda settings, *, writes: self.caller(settings.tenant))  # noqa: ARG005


class _Kept(LocalCaller):
    def close(self) -> None:
        """Leave the store open."""


def typed(argv: Sequence[str], environ: Mapping[str, str], stdin: bytes | None, open_caller: Any = None) -> Typed:
    """Type a command line, and hold what it answers to the contract."""
    out, err = io.BytesIO(), io.BytesIO()
    given = None if stdin is None else io.BytesIO(stdin)
    begun = time.monotonic()
    code = run(argv, stdin=given, stdout=out, stderr=err, environ=environ, open_caller=open_caller)
    answer = Typed(code, out.getvalue(), err.getvalue())
    told = f"{argv}: {answer}"
    assert code in DOCUMENTED, f"exit {code}: {told}"
    assert b"Traceback" not in answer.err, told
    assert b"unexpected: " not in answer.err, told
    assert time.monotonic() - begun < 30, f"slow: {told}"
    answer.err.decode()
    if code not in OUTCOMES:
        assert answer.err or code in (130, 141, 143), f"no error: {told}"
    form = environ.get("FEDCTL_FORMAT")
    if any(word.startswith(("--format", "--ids", "--json", "--fields", "--help", "-h")) for word in argv):
        form = None  # it has another, or is no answer
    if form is not None and not {"export", "--batch"}.isdisjoint(argv):
        form = "jsonl"  # these are lines, whatever was asked for
    if form in ("json", "jsonl"):
        _check_json(answer, form, told)
    return answer


def _check_json(answer: Typed, form: str, told: str) -> None:
    try:
        if answer.out.startswith((b"Usage: ", b"fedctl ")) or MANUAL.match(answer.out):
            pass  # help, the version, or a page of the manual
        elif answer.out and form == "json":
            msgspec.json.decode(answer.out)
        elif answer.out:
            answer.lines()
        if answer.code not in OUTCOMES:
            error = msgspec.json.decode(answer.err.rstrip(b"\n").rpartition(b"\n")[2])["error"]
            assert error["exit"] == answer.code, told
            assert BY_CODE.get(error["code"], Failure).exit == answer.code, told
    except msgspec.DecodeError as error:
        raise AssertionError(f"no JSON: {told}") from error
