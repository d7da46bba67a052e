"""The demo's own run: one hub process, five agent processes, a monitor; a `kill -9`; a second generation.

Everything it measures it sees from outside, as a user would: through the command line, through tokens, through the
live events of the hub.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from fedctl.client.address import hub_socket
from fedctl.client.paging import pages
from fedctl.client.remote import RemoteCaller
from fedctl.clock import Clock
from fedctl.demo.crew import ROLES, Module, Orders, Report
from fedctl.demo.result import Criterion, DemoResult
from fedctl.demo.work import MODULES_WITH_DOCTESTS
from fedctl.errors import Failure, FedctlError, Unavailable, UsageError
from fedctl.messages import agent as a
from fedctl.messages import memory as m
from fedctl.messages.hub import GetHubStats, Subscribe
from fedctl.model.episode import EpisodeDraft
from fedctl.model.hub import HubInfo
from fedctl.model.time import from_rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fedctl.model.hub import Event

SHARED, APART = "test-collaboration", "different-tenant"
ITERATIONS_MIN = 10
DEFAULT_SECONDS = 15.0
CONNECT_MAX_S = 10.0
SYNC_MEAN_MAX_MS = 100.0
_MODULES_MAX = 40
_HUB_START = "20s"
_END_WAIT_S = 10.0


def run_demo(*, seconds: float | None, path: Path | None, keep: bool, say: Callable[[str], None]) -> DemoResult:
    """Run the demo and return what was measured; `say` hears what is going on, a line at a time.

    Raises:
        UsageError: There is no Python file under `path`.
    """
    begun = time.monotonic()
    modules = find_modules(path)
    home = Path(tempfile.mkdtemp(prefix="fedctl-demo-"))
    demo = _Demo(home, modules, DEFAULT_SECONDS if seconds is None else seconds, say)
    try:
        criteria = demo.run()
    finally:
        demo.clean_up()
        if not keep:
            shutil.rmtree(home, ignore_errors=True)
    return DemoResult(
        ok=all(one.ok for one in criteria),
        criteria=criteria,
        seconds=round(time.monotonic() - begun, 1),
        files=len(modules),
        home=str(home) if keep else None,
    )


def find_modules(path: Path | None) -> list[Module]:
    """Return the Python files of the input, at most 40: under `path`, or the interpreter's own standard library.

    Of the standard library those come first whose doctests are run, so that reviews find all kinds of evidence.
    """
    if path is None:
        root = Path(sysconfig.get_path("stdlib"))
        files = sorted(root.glob("*.py")) + sorted(root.glob("*/__init__.py")) + [root / "http" / "cookies.py"]
        rank = {name: number for number, name in enumerate(MODULES_WITH_DOCTESTS)}
        named = [Module(_name(file, root), str(file)) for file in dict.fromkeys(files) if file.is_file()]
        named.sort(key=lambda one: (rank.get(one.name, len(rank)), one.name))
        return named[:_MODULES_MAX]
    if not path.is_dir():
        raise UsageError(f"{path} is not a folder", hint="point --path at a folder of Python files")
    files = [file for file in sorted(path.rglob("*.py")) if file.is_file()]
    if not files:
        raise UsageError(f"there is no Python file under {path}", hint="point --path at a folder of Python files")
    return [Module(_name(file, path), str(file.resolve())) for file in files[:_MODULES_MAX]]


def _name(file: Path, root: Path) -> str:
    return ".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


class _Monitor(threading.Thread):
    """Watches the hub's live events, as anyone may who owns the home."""

    def __init__(self, socket: str) -> None:
        super().__init__(name="monitor", daemon=True)
        self._caller = RemoteCaller(socket, tenant_id=SHARED)
        self._caller.call(Subscribe(kinds=[], all_tenants=True))
        self.statuses: dict[str, list[str]] = {}
        self.first_ready: dict[str, float] = {}
        self.episodes = 0
        self.over = threading.Event()
        self.start()

    def run(self) -> None:
        """Take in events until the hub is gone or nobody watches any more."""
        with contextlib.suppress(FedctlError):
            while not self.over.is_set():
                for event in self._caller.notices(timeout_s=0.2):
                    self._take(event)
        self._caller.close()

    def _take(self, event: Event) -> None:
        if event.kind == "episode_stored":
            self.episodes += 1
        elif event.kind == "agent_status":
            status = str(event.detail.get("status"))
            self.statuses.setdefault(event.subject, []).append(status)
            if status == "ready":
                self.first_ready.setdefault(event.subject, from_rfc3339(event.at) / 1000)

    def saw(self, agent_id: str) -> bool:
        """Whether the agent was seen to come, to work and to go."""
        seen = self.statuses.get(agent_id, [])
        return "ready" in seen and "working" in seen and seen[-1] == "dead"


class _Demo:
    """One run, with the processes it has started."""

    def __init__(self, home: Path, modules: list[Module], seconds: float, say: Callable[[str], None]) -> None:
        self.home = home
        self.modules = modules
        self.seconds = seconds
        self.say = say
        self.clock = Clock()
        self.hub: subprocess.Popen[bytes] | None = None
        self.crew: dict[str, subprocess.Popen[bytes]] = {}
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("FEDCTL_")} | {
            "FEDCTL_HOME": str(home / "home"), "DEBUG_LEVEL": "silent",
        }  # fmt: skip

    def run(self) -> list[Criterion]:
        """Live through both generations; return what was measured."""
        info = self.start_hub()
        self.say(f"hub on {info.url}, {len(self.modules)} Python files to work on")
        tokens = {role: self.issue_token(role) for role in ROLES}
        monitor = _Monitor(f"unix:{info.socket}")
        spawned_s = self.clock.now_ms() / 1000
        reports = self.run_crew(info, tokens)
        time.sleep(0.3)  # the last events are on their way
        self.say("the agents are gone; looking over each tenant's shoulder")
        leaks = self.count_leaks(info, tokens)
        errors = self.hub_errors()
        monitor.over.set()
        monitor.join(timeout=5)
        self.say("kill -9 of the hub, while somebody writes")
        acked, lost, doubled = self.kill_and_restart(reports)
        found = self.second_generation()
        return [
            *self.criteria(reports, monitor, spawned_s, leaks, errors),
            Criterion(
                criterion="nothing acknowledged is lost by kill -9",
                wanted="0 lost, 0 doubled",
                measured=f"{lost} lost, {doubled} doubled of {acked} acknowledged",
                ok=lost == 0 and doubled == 0 and acked > 0,
            ),
            Criterion(
                criterion="a second generation finds what the dead ones learned",
                wanted="episodes of at least 3 dead agents",
                measured=f"{len(found)} dead agents: {', '.join(sorted(found)) or 'none'}",
                ok=len(found) >= 3,  # noqa: PLR2004
            ),
        ]

    # -- processes -------------------------------------------------------------------------------------------------

    def fedctl(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        """Run a command as a user would."""
        done = subprocess.run(  # noqa: S603  our own command
            [sys.executable, "-m", "fedctl", *arguments], env=self.environment, capture_output=True, check=False
        )
        if check and done.returncode:
            raise Failure(f"fedctl {' '.join(arguments[:2])}: {done.stderr.decode(errors='replace').strip()}")
        return done

    def start_hub(self) -> HubInfo:
        """Start a hub on ports of the system's choice and wait until it is ready."""
        log = (self.home / "hub.log").open("ab")
        with log:
            self.hub = subprocess.Popen(
                [sys.executable, "-m", "fedctl", "hub", "start", "--port", "0", "--http-port", "0"],
                env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        done = self.fedctl("hub", "status", "--wait", _HUB_START, "--json", check=False)
        if done.returncode:
            raise Failure(f"the hub did not start: {self.hub_log() or done.stderr.decode(errors='replace')}")
        return msgspec.json.decode(done.stdout, type=HubInfo)

    def hub_log(self) -> str:
        """Return the end of the hub's log."""
        return (self.home / "hub.log").read_text("utf-8", "replace")[-500:].strip()

    def issue_token(self, role: str) -> Path:
        """Issue an agent's token and put it where only its owner reads it."""
        tenant = APART if role == "isolated" else SHARED
        done = self.fedctl("token", "issue", "--tenant", tenant, "--agent", role, "--ttl", "10m", "--json")
        path = self.home / f"{role}.token"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(msgspec.json.decode(done.stdout)["token"])
        return path

    def run_crew(self, info: HubInfo, tokens: dict[str, Path]) -> dict[str, Report]:
        """Start the five agents and wait for their reports."""
        for role in ROLES:
            orders = Orders(
                role=role,
                tenant_id=APART if role == "isolated" else SHARED,
                hub_url=info.url,
                token_file=str(tokens[role]),
                home=str(self.home / "home"),
                modules=self.modules,
                iterations_min=ITERATIONS_MIN,
                seconds=self.seconds,
                lifetime_s=min(900.0, max(60.0, self.seconds * 4)),
            )
            path = self.home / f"{role}.orders"
            path.write_bytes(msgspec.json.encode(orders))
            self.crew[role] = subprocess.Popen(  # noqa: S603  our own module
                [sys.executable, "-m", "fedctl.demo.crew", str(path)],
                env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip
        self.say(f"five agents at work: {', '.join(ROLES)}")
        reports: dict[str, Report] = {}
        for role, process in self.crew.items():
            try:
                out, err = process.communicate(timeout=max(120.0, self.seconds * 5))
            except subprocess.TimeoutExpired:
                raise Failure(f"the {role} did not come to an end") from None
            if not out:
                raise Failure(f"the {role} gave no report: {err.decode(errors='replace').strip()[-500:]}")
            reports[role] = msgspec.json.decode(out.splitlines()[-1], type=Report)
            self.say(f"{role}: {reports[role].iterations} iterations, then left with {process.returncode}")
        return reports

    def clean_up(self) -> None:
        """End whatever is still running."""
        processes = [*self.crew.values(), *([] if self.hub is None else [self.hub])]
        for process in processes:
            if process.poll() is None:
                process.terminate()
        for process in processes:
            try:
                process.communicate(timeout=_END_WAIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()

    # -- what is measured ------------------------------------------------------------------------------------------

    def count_leaks(self, info: HubInfo, tokens: dict[str, Path]) -> tuple[int, int]:
        """Ask with each tenant's token for what is the other's, by every verb; return (rows seen, questions asked)."""
        leaks = asked = 0
        for role, own, other in (("isolated", APART, SHARED), ("researcher", SHARED, APART)):
            theirs = self.all_episodes(other)
            mine = RemoteCaller(info.url, token=tokens[role].read_text())
            try:
                for request in _nosy(theirs):
                    asked += 1
                    leaks += _foreign_rows(mine, request, own, None)
                    asked += 1
                    leaks += _foreign_rows(mine, request, own, other)
            finally:
                mine.close()
        return leaks, asked

    def all_episodes(self, tenant: str) -> list[Any]:
        """Return all of a tenant's episodes, as the home's owner sees them."""
        with self.owner(tenant) as caller:
            return [episode for page in pages(caller, m.ListEpisodes(order="oldest")) for episode in page.episodes]

    @contextlib.contextmanager
    def owner(self, tenant: str = SHARED) -> Iterator[RemoteCaller]:
        """Open a session of the home's owner."""
        caller = RemoteCaller(f"unix:{hub_socket(self.home / 'home')}", tenant_id=tenant)
        try:
            yield caller
        finally:
            caller.close()

    def hub_errors(self) -> dict[str, int]:
        """Return how many calls the hub could not serve, by code."""
        with self.owner() as caller:
            errors = caller.call(GetHubStats()).stats.errors
        return {code: count for code, count in errors.items() if code in ("unavailable", "timeout", "failure")}

    def kill_and_restart(self, reports: dict[str, Report]) -> tuple[int, int, int]:
        """Kill the hub under a writer and start it again; return (acknowledged, lost, doubled)."""
        acked = [(APART if one.role == "isolated" else SHARED, i) for one in reports.values() for i in one.stored_ids]
        assert self.hub is not None
        killer = threading.Timer(0.7, self.hub.send_signal, (signal.SIGKILL,))
        with self.owner() as caller:
            killer.start()
            with contextlib.suppress(Unavailable):
                while True:
                    drafts = [
                        EpisodeDraft(id=self.clock.new_id(), task="write until the hub dies", output="acknowledged")
                        for _ in range(10)
                    ]
                    answer = caller.call(m.StoreEpisodes(episodes=drafts))
                    acked += [(SHARED, one.id) for one in answer.results if one.ok]
        killer.join()
        self.hub.wait()
        self.start_hub()
        lost = doubled = 0
        for tenant in (SHARED, APART):
            wanted = [i for of, i in acked if of == tenant]
            there = [episode.id for episode in self.all_episodes(tenant)]
            lost += len(set(wanted) - set(there))
            doubled += len(there) - len(set(there))
        return len(acked), lost, doubled

    def second_generation(self) -> set[str]:
        """Let a new agent ask, from inside, what the dead ones learned; return whose episodes it found."""
        found: set[str] = set()
        for name in MODULES_WITH_DOCTESTS[:3] if self.modules[0].name in MODULES_WITH_DOCTESTS else ("module",):
            done = self.fedctl(
                "agent", "spawn", "--tenant", SHARED, "--type", "second-generation", "--lifetime", "30s", "--quiet",
                "--", sys.executable, "-m", "fedctl", "memory", "query", f"what do we know of the module {name}",
                "-k", "20", "--json",
            )  # fmt: skip
            found |= {hit["agent_id"] for hit in msgspec.json.decode(done.stdout) if hit["agent_id"] in ROLES}
        return found

    def criteria(
        self,
        reports: dict[str, Report],
        monitor: _Monitor,
        spawned_s: float,
        leaks: tuple[int, int],
        errors: dict[str, int],
    ) -> list[Criterion]:
        """Return the ten criteria of a crew's life; `errors` are the hub's, by code."""
        last_s = max(monitor.first_ready.get(role, float("inf")) for role in ROLES) - spawned_s
        fewest = min(report.iterations for report in reports.values())
        shared = sum(len(report.stored_ids) for report in reports.values() if report.role != "isolated")
        apart = len(reports["isolated"].stored_ids)
        endings = [report.ending for report in reports.values()]
        syncs = sum(one.syncs for one in endings)
        mean_ms = sum((one.sync_mean_ms or 0) * one.syncs for one in endings) / syncs if syncs else float("inf")
        lost = sum(one.connection_errors for one in endings)
        troubles = [f"{lost} times an agent lost the hub"] * (lost > 0)
        troubles += [f"{count} calls refused as {code}" for code, count in sorted(errors.items())]
        seen = sum(monitor.saw(role) for role in ROLES)
        statuses = self.final_statuses()
        graceful = sum(
            one.exit == 0 and one.reason == "done" and statuses.get(one.agent_id) == "dead" for one in endings
        )
        rows = (
            ("all five agents connect", f"within {CONNECT_MAX_S:g} s", f"{last_s:.2f} s", last_s <= CONNECT_MAX_S),
            ("every agent iterates", f">= {ITERATIONS_MIN} times", f"{fewest} at least", fewest >= ITERATIONS_MIN),
            ("episodes in all", ">= 50", str(shared + apart), shared + apart >= 50),  # noqa: PLR2004
            (f"episodes in {SHARED}", ">= 40", str(shared), shared >= 40),  # noqa: PLR2004
            (f"episodes in {APART}", ">= 10", str(apart), apart >= 10),  # noqa: PLR2004
            ("no row crosses tenants, by any verb", "0", f"{leaks[0]} in {leaks[1]} questions", leaks[0] == 0),
            ("average sync", f"< {SYNC_MEAN_MAX_MS:g} ms", f"{mean_ms:.1f} ms of {syncs}", mean_ms < SYNC_MEAN_MAX_MS),
            ("no connection error", "0", ", ".join(troubles) or "0", not troubles),
            ("the monitor saw every agent come, work and go", "5", str(seen), seen == len(ROLES)),
            ("all agents left gracefully", "5", str(graceful), graceful == len(ROLES)),
        )  # fmt: skip
        return [Criterion(criterion=c, wanted=w, measured=v, ok=bool(ok)) for c, w, v, ok in rows]

    def final_statuses(self) -> dict[str, str]:
        """Return each agent's last phase in the registry."""
        with self.owner() as caller:
            return {
                one.id: one.status
                for tenant in (SHARED, APART)
                for one in caller.call(a.ListAgents(all=True), tenant_id=tenant).agents
            }


def _nosy(theirs: list[Any]) -> list[Any]:
    """Return questions, one a verb, that would show another tenant's rows if any did."""
    ids = [episode.id for episode in theirs][:50]
    words = theirs[0].critique or theirs[0].task
    return [
        m.QueryEpisodes(text=words, k=100),
        m.QueryEpisodes(text=words, k=100, mode="keyword"),
        m.QueryEpisodes(text=words, k=100, mode="semantic"),
        m.GetEpisodes(ids=ids),
        m.ListEpisodes(),
        m.PullEpisodes(cursor=0, limit=1000),
        m.PullEpisodes(query=words),
        m.MemoryStats(),
        m.DeleteEpisodes(ids=ids),
        a.ListAgents(all=True),
        *(a.GetAgent(id=episode.agent_id) for episode in theirs[:1] if episode.agent_id),
    ]


def _foreign_rows(caller: RemoteCaller, request: Any, own: str, named: str | None) -> int:
    """Return how many rows of an answer are not the asker's own tenant's; a refusal shows none."""
    try:
        answer = caller.call(request, tenant_id=named)
    except FedctlError:
        return 0
    document = msgspec.to_builtins(answer)
    rows = [hit["episode"] for hit in document.get("hits", [])]
    rows += document.get("episodes", []) if isinstance(document.get("episodes"), list) else []
    rows += document.get("agents", []) + ([document["agent"]] if "agent" in document else [])
    foreign = sum(1 for row in rows if row is not None and row["tenant_id"] != own)
    foreign += int(document.get("tenant_id", own) != own)
    # Nothing of the other's was deleted or known: every id must be reported as missing.
    return foreign + (len(document["deleted"]) if isinstance(request, m.DeleteEpisodes) else 0)
