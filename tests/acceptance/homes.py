"""Homes to try commands on: none, an empty one, and a full one whose texts would act on a terminal.

Making the full one takes a while, copying it a few milliseconds: a test makes it once and works on copies.
"""

from __future__ import annotations

import io
import json
import os
import shutil
from typing import TYPE_CHECKING, Any, NamedTuple

from fedctl.bootstrap import create_home, open_context
from fedctl.cli.main import run
from fedctl.client.local import LocalCaller
from fedctl.config import load
from fedctl.messages.agent import AddNotes, RegisterAgent, ReportAgent
from fedctl.messages.memory import StoreEpisodes
from fedctl.messages.pool import ClaimItems, CompleteItems, FailItems, PausePool, PushItems
from fedctl.messages.retention import SetPolicy
from fedctl.messages.tenant import SetTenant
from fedctl.messages.token import IssueToken
from fedctl.messages.worker import RegisterWorker, SetWorkerStatus
from fedctl.model.agent import AgentFigures, NoteDraft, OperationTimes
from fedctl.model.episode import EpisodeDraft
from fedctl.model.pool import Completion, ItemDraft, ItemFailure
from fedctl.model.principal import Principal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

HOSTILE = "\x1b[31mred\x1b]0;title\x07\x1b[0m \x9b2J\x7f \u202eevil\u2066 \u2028\b\r\n\ttab"
"""What a terminal or a reader would act upon, of every kind there is."""
LEASE = "lease-1"


class Said(NamedTuple):
    """What a command answered, and on which stream."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, Any]:
        return json.loads(self.err.splitlines()[-1])["error"]


class Untouched(io.BytesIO):
    """A standard input that nobody may read: who does would wait there."""

    def read(self, *_: object) -> bytes:
        raise AssertionError("it reads stdin")

    readline = readinto = read1 = read  # type: ignore[assignment]


class Terminal(io.BytesIO):
    """A stream with a person at the other end."""

    def isatty(self) -> bool:
        return True


def fedctl(
    home: Path, argv: Sequence[str], *, stdin: bytes | None = None, terminal: bool = False, **environ: str
) -> Said:
    """Run a command on a home, in this process. Without `stdin` reading it fails; a terminal is one for output only."""
    out, err = (Terminal(), Terminal()) if terminal else (io.BytesIO(), io.BytesIO())
    code = run(
        list(argv),
        stdin=Untouched() if stdin is None else io.BytesIO(stdin),
        stdout=out,
        stderr=err,
        environ={"FEDCTL_HOME": str(home), "CI": "1", **environ},
    )
    return Said(code, out.getvalue().decode(), err.getvalue().decode())


def make_empty(home: Path) -> None:
    """Make a home with a store in it, and nothing in that."""
    create_home(load({"home": str(home)}, {}))


def make_full(home: Path) -> dict[str, str]:
    """Make a home with some of everything, and return the ids that nobody can choose: `token` and `expired_token`."""
    context = open_context(load({"home": str(home)}, {}), create=True)
    caller = LocalCaller(context, Principal(tenant_id="default", role="owner"))
    for tenant in ("default", "acme"):
        caller.call(StoreEpisodes(episodes=_episodes(tenant)), tenant_id=tenant)
    caller.call(SetTenant(name="acme", max_episodes=1000))
    caller.call(SetPolicy(max_age_ms=90 * 86_400_000, keep_last=1000))
    _work(caller)
    _agents(caller)
    tokens = {
        "token": caller.call(IssueToken(tenant_id="acme")).record.id,
        "agents_token": caller.call(IssueToken(tenant_id="acme", agent_id="coder-1")).record.id,
    }
    caller.close()
    for argv in (["memory", "reindex"], ["backup", "create"], ["config", "set", "timeout", "20s"]):
        said = fedctl(home, [*argv, "-q"])
        assert said.code == 0, said.err
    return tokens


def copy(home: Path, to: Path) -> Path:
    """Copy a home, and let the copy know its backups by their new place."""
    shutil.copytree(home, to, copy_function=_copy_file)
    register = to / "backups.json"
    if register.exists():
        register.write_text(register.read_text().replace(str(home), str(to)))
    return to


def _copy_file(source: str, target: str) -> None:
    if source.endswith("/reserve"):  # 8 MiB that nobody writes to
        os.link(source, target)
    else:
        shutil.copy2(source, target)


def _episodes(tenant: str) -> list[EpisodeDraft]:
    prefix = "" if tenant == "default" else f"{tenant}-"
    return [
        EpisodeDraft(
            id=f"{prefix}e1", task="fix the flaky login test", output="mocked the clock", reward=0.9, agent_id="coder",
            session_id="s1", tokens_used=1200, latency_ms=8.5, metadata={"repo": "api", "tries": 3},
        ),
        EpisodeDraft(id=f"{prefix}e2", task="tune the database timeout", input={"a": [1, None]}, reward=0.2),
        EpisodeDraft(
            id=f"{prefix}hostile", task=f"{HOSTILE} task", input=HOSTILE, output=[HOSTILE], critique=HOSTILE,
            agent_id="scout", metadata={HOSTILE: HOSTILE},
        ),
    ]  # fmt: skip


def _work(caller: LocalCaller) -> None:
    """Fill pools with items in every state; `builder-1` holds `claimed` by the lease `LEASE`."""
    for worker in ("builder-1", "w1", "gone"):
        caller.call(
            RegisterWorker(id=worker, host="h", pid=7, pool="builds", capabilities=["linux", "gpu"],
                           metadata={HOSTILE: HOSTILE}, heartbeat_interval_ms=100 if worker == "gone" else 30_000)
        )  # fmt: skip
    caller.call(RegisterWorker(id="ended", host="h", pid=7))
    caller.call(SetWorkerStatus(id="ended", status="terminated"))

    def push(pool: str, *items: ItemDraft) -> None:
        results = caller.call(PushItems(pool=pool, items=list(items))).results
        assert all(one.ok for one in results), results

    push("builds", ItemDraft(id="done", data={"repo": HOSTILE, "path": "."}))
    caller.call(ClaimItems(pool="builds", worker_id="w1", lease_id="other"))
    caller.call(CompleteItems(completions=[Completion(id="done", lease_id="other", result={"said": HOSTILE})]))
    push("builds", ItemDraft(id="poisoned", data={"repo": "api", "path": "."}))
    caller.call(ClaimItems(pool="builds", worker_id="w1", lease_id="another"))
    caller.call(FailItems(failures=[ItemFailure(id="poisoned", lease_id="another", error=HOSTILE, poison=True)]))
    push("builds", ItemDraft(id="claimed", data={"repo": "api", "path": "."}))
    caller.call(ClaimItems(pool="builds", worker_id="builder-1", lease_ms=3_600_000, lease_id=LEASE))
    push(
        "builds",
        ItemDraft(id="pending", data={"repo": "api", "path": ".", "text": HOSTILE}, key=HOSTILE),
        ItemDraft(id="delayed", data=1, delay_ms=3_600_000),
        ItemDraft(id="rare", data=1, requires=["quantum"]),
    )
    push("lint", *(ItemDraft(id=f"lint-{number}", data={"text": HOSTILE}) for number in range(3)))
    push("paused", ItemDraft(id="in-a-paused-pool"))
    caller.call(PausePool(name="paused", paused=True))


def _agents(caller: LocalCaller) -> None:
    for agent in ("coder-1", "coder-2"):
        caller.call(RegisterAgent(id=agent, type="coder", lifetime_ms=600_000, host=HOSTILE, pid=7))
        caller.call(AddNotes(agent_id=agent, notes=[NoteDraft(id=f"{agent}-note", kind="step", text=HOSTILE,
                                                              data={HOSTILE: HOSTILE})]))  # fmt: skip
        for phase in ("initializing", "ready"):
            caller.call(ReportAgent(id=agent, status=phase))
    times = OperationTimes(n=2, avg_ms=1.5, min_ms=1.0, max_ms=2.0)
    figures = AgentFigures(pulled=1, stored=2, delivered=2, syncs=1, operations={"query": times, "store": times})
    caller.call(ReportAgent(id="coder-1", status="dead", synced=True, pushed=2, figures=figures))
