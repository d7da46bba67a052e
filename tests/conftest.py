"""What tests stand on: a clock that is told the time, a cheap model, and whole contexts made of real parts."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from fedctl.access.keys import KeyRing
from fedctl.client.local import LocalCaller
from fedctl.errors import FedctlError
from fedctl.messages import memory as m
from fedctl.model.episode import EpisodeDraft, StoreResult
from fedctl.model.principal import Principal
from fedctl.operations.context import Context, Recall
from fedctl.recall.embedder import Embedder
from fedctl.recall.index import IndexFolder
from fedctl.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from fedctl.messages.base import Request

# Examples are derived from the test's own name: what fails fails every time, and on every machine.
settings.register_profile(
    "fedctl", max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("fedctl")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let those that take longest begin first, shared out to two workers: they wait, and the others do the rest.

    Each worker begins with as many tests as any other, in this order (`--dist worksteal`).
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    long = [item for item in items if item.get_closest_marker("long")]
    short = [item for item in items if not item.get_closest_marker("long")]
    total, lanes = len(items), min(workers, 2)
    items.clear()
    for worker in range(workers):
        end = len(items) + (total - len(items)) // (workers - worker)
        items += long[worker::lanes] if worker < lanes else []
        room = max(0, end - len(items))
        items += short[:room]
        del short[:room]
    items += short


class FakeClock:
    """A clock that stands still until it is told otherwise; ids are UUIDv7 in form, counted up."""

    def __init__(self, now_ms: int = 1_767_225_600_000) -> None:  # 2026-01-01T00:00:00.000Z
        self.ms = now_ms
        self.monotonic = 1000.0
        self._jumped_ms = 0
        self._ids = 0

    def now_ms(self) -> int:
        return self.ms

    def steady_ms(self) -> int:
        return self.ms - self._jumped_ms

    def jump(self, ms: int) -> None:
        """Set the wall clock, as somebody else may; no time passes."""
        self.ms += ms
        self._jumped_ms += ms

    def monotonic_s(self) -> float:
        return self.monotonic

    def sleep_s(self, seconds: float) -> None:
        self.advance(max(round(seconds * 1000), seconds > 0))  # a sleep is never none: who sleeps a rest would sleep on

    def advance(self, ms: int) -> None:
        self.ms += ms
        self.monotonic += ms / 1000

    def new_id(self) -> str:
        self._ids += 1
        stamp = f"{self.ms:012x}"
        return f"{stamp[:8]}-{stamp[8:]}-7000-8000-{self._ids:012x}"


@functools.lru_cache(maxsize=1 << 17)
def _direction(model_id: str, word: str, dim: int) -> np.ndarray:
    """Return a word's direction: always the same, and dear enough to be kept."""
    seed = int.from_bytes(hashlib.sha256(f"{model_id} {word}".encode()).digest()[:8], "little")
    return np.random.default_rng(seed).standard_normal(dim)


class FakeEmbedder:
    """A model that costs nothing: each word is a direction, a text the sum of its words.

    Texts that share words are near each other, and a text has the same vector in any company.
    """

    max_tokens = 256
    loaded = True

    def __init__(self, name: str = "fake", dim: int = 24, clock: FakeClock | None = None, cost_ms: int = 0) -> None:
        self.folder = Path("nowhere")
        self.model_id = f"{name}@0"
        self.dim = dim
        self.texts: list[str] = []
        self._clock = clock
        self._cost_ms = cost_ms

    def embed(self, texts: Sequence[str], *, threads: int = 1) -> np.ndarray:
        self.texts.extend(texts)
        if self._clock is not None:
            self._clock.advance(self._cost_ms * len(texts))
        vectors = np.array([self._one(text) for text in texts], dtype=np.float32).reshape(len(texts), self.dim)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def split(self, head: str, text: str, *, overlap: int, most: int) -> list[str]:
        """Cut as the real one does, a character for a token."""
        lead = f"{head}\n" if head and text else head
        size = max(self.max_tokens * 4 - len(lead), 1)
        starts = range(0, max(len(text) - overlap, 1), max(size - overlap, 1))
        return [lead + text[start : start + size] for start in starts][:most]

    def _one(self, text: str) -> np.ndarray:
        total = np.full(self.dim, 1e-3)
        for word in re.findall(r"\w+", text.lower()):
            total += _direction(self.model_id, word, self.dim)
        return total

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def verify(self) -> None:
        return


@dataclass
class Bench:
    """A home with a store in it, and the means of asking it: as its owner, or as anybody else."""

    home: Path
    clock: FakeClock
    embedder: Any
    context: Context
    logged: list[str]
    _more: list[Context] = field(default_factory=list)

    @property
    def store(self) -> Store:
        return self.context.store

    def call(
        self,
        request: Request[Any],
        *,
        tenant: str = "default",
        agent: str | None = None,
        role: str = "owner",
        looks_only: bool = False,
    ):
        who = Principal(tenant_id=tenant, role=role, agent_id=agent, looks_only=looks_only)
        return LocalCaller(self.context, who).call(request)

    def refusal(self, request: Request[Any], **who: Any) -> FedctlError:
        """Return the error that a request ends in."""
        with pytest.raises(FedctlError) as caught:
            self.call(request, **who)
        return caught.value

    def keep(self, *drafts: EpisodeDraft | str, tenant: str = "default", **fields: Any) -> list[StoreResult]:
        """Store drafts (a text is a task, and its own id) and return their results."""
        made = [
            one if isinstance(one, EpisodeDraft) else EpisodeDraft(id=one, task=one, **fields)  # type: ignore[arg-type]
            for one in drafts
        ]
        return self.call(m.StoreEpisodes(episodes=made), tenant=tenant).results

    def hits(self, text: str, *, tenant: str = "default", **fields: Any) -> list[str]:
        """Return the ids that a query finds, best first."""
        return [hit.id for hit in self.call(m.QueryEpisodes(text=text, **fields), tenant=tenant).hits]

    def ids(self, *, tenant: str = "default") -> list[str]:
        """Return the ids of all episodes, oldest first."""
        return [one.id for one in self.call(m.ListEpisodes(order="oldest"), tenant=tenant).episodes]

    def key(self, tenant: str = "default") -> int:
        key = self.store.tenants.key(tenant)
        assert key is not None
        return key

    def another(self, **changes: Any) -> Bench:
        """Return a second connection to the same home, as another process would have it."""
        recall = Recall(changes.pop("embedder", self.embedder), IndexFolder(self.home / "index"))
        store = Store.open(self.home, self.clock, create=False, timeout_s=changes.pop("timeout_s", 5.0))
        context = self.context._replace(store=store, recall=recall, **changes)
        self._more.append(context)
        return Bench(self.home, self.clock, context.recall._embedder, context, self.logged)

    def close(self) -> None:
        for one in [*self._more, self.context]:
            one.close()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


class Disk:
    """A file system of its own, of a given size."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def mount(self, options: str) -> bool:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.folder)]
        return not os.geteuid() and not subprocess.run(command, capture_output=True, check=False).returncode

    def make(self, how: Literal["ro", "rw"]) -> None:
        """Make it read-only, or writable again."""
        subprocess.run(["mount", "-o", f"remount,{how}", str(self.folder)], check=True)


@pytest.fixture
def make_disk(tmp_path: Path) -> Iterator[Callable[[str], Disk]]:
    """Make disks of a size (`1m`), where we may mount any."""
    made: list[Disk] = []

    def make(size: str) -> Disk:
        disk = Disk(tmp_path / f"disk{len(made)}")
        disk.folder.mkdir()
        if not disk.mount(f"size={size}"):
            pytest.skip("only root may mount")
        made.append(disk)
        return disk

    yield make
    for disk in made:
        subprocess.run(["umount", "-l", str(disk.folder)], check=True)


@pytest.fixture
def make_embedder() -> type[FakeEmbedder]:
    return FakeEmbedder


@pytest.fixture
def make_clock() -> type[FakeClock]:
    return FakeClock


@pytest.fixture(scope="session")
def new_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home that was made when a new clock of tests began to count: to be copied, for that is ten times as fast."""
    home = tmp_path_factory.mktemp("new") / "home"
    Store.open(home, FakeClock(), create=True).close()
    return home


@pytest.fixture
def make_bench(tmp_path: Path, new_home: Path) -> Iterator[Callable[..., Bench]]:
    """Make homes, each with a store, that are closed when the test is over."""
    made: list[Bench] = []

    def make(home: Path | None = None, **parts: Any) -> Bench:
        home = home or tmp_path / f"home{len(made)}"
        clock = parts.get("clock") or FakeClock()
        if vars(clock) == vars(FakeClock()) and not home.exists():
            shutil.copytree(new_home, home)
            clock.new_id()  # the store's own
        embedder = parts.get("embedder") or FakeEmbedder()
        logged: list[str] = []
        context = Context(
            home=home,
            store=Store.open(home, clock, create=True, timeout_s=parts.get("timeout_s", 5.0)),
            recall=Recall(embedder, IndexFolder(home / "index")),
            clock=clock,
            access=KeyRing(home / "keys"),
            timeout_s=parts.get("timeout_s", 5.0),
            log=logged.append,
        )
        made.append(Bench(home, clock, embedder, context, logged))
        return made[-1]

    yield make
    for bench in made:
        bench.close()


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    return make_bench()


@pytest.fixture(scope="session")
def real_embedder() -> Embedder:
    """The model on board, loaded once a process."""
    return Embedder()


@pytest.fixture
def draft() -> Callable[..., EpisodeDraft]:
    """Make a draft; what is not said has a plain value."""

    def make(id_: str = "e1", **fields: Any) -> EpisodeDraft:
        return msgspec.structs.replace(EpisodeDraft(id=id_, task="a task"), **fields)

    return make
