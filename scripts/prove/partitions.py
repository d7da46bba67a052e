"""What `net` does with network namespaces: links that are cut, one way or both, lossy, or gone for good.

A hub and five agents, each in a namespace of its own, each on a link of its own (root and `ip netns`). Nothing gets
through one link, nothing to the hub through the second, nothing to the agent through the third, and one packet in five
is lost on the fourth (`tc netem`, else iptables; where neither is there this counts as not shown). The fifth is cut for
good, and its agent ends first: it says how many episodes it could not deliver, and exits with 7.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import common

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HUB_NS = f"fedhub{os.getpid()}"
NOWHERE = "02:00:00:00:00:99"
"""An address that is nobody's: what is sent to it is gone, silently."""
NOTICED_S = 35.0
"""Within what a peer that does not answer is noticed: a ping every 20 s, an answer within 10 s, and the machine."""
LOSS = 0.2


def ip(*arguments: str, ns: str | None = None, check: bool = True) -> subprocess.CompletedProcess[bytes]:
    """Run `ip`, in a namespace."""
    inside = [] if ns is None else ["-n", ns]
    return subprocess.run(["ip", *inside, *arguments], capture_output=True, check=check)


class Link:
    """A veth pair between the hub's namespace and one of an agent's own."""

    def __init__(self, number: int) -> None:
        self.ns = f"fedagent{os.getpid()}x{number}"
        self.hub_address, self.agent_address = f"10.213.{number}.1", f"10.213.{number}.2"
        self._ends = (HUB_NS, f"h{number}", self.agent_address), (self.ns, f"a{number}", self.hub_address)
        ip("netns", "add", self.ns)
        ip("link", "add", f"h{number}", "netns", HUB_NS, "type", "veth", "peer", "name", f"a{number}", "netns", self.ns)
        for (ns, device, _), address in zip(self._ends, (self.hub_address, self.agent_address), strict=True):
            ip("addr", "add", f"{address}/24", "dev", device, ns=ns)
            ip("link", "set", device, "up", ns=ns)
            ip("link", "set", "lo", "up", ns=ns)

    def cut(self, *, to_agent: bool, to_hub: bool) -> None:
        """Let nothing more through in these directions; neither side is told."""
        for (ns, device, other), way in zip(self._ends, (to_agent, to_hub), strict=True):
            if way:
                ip("neigh", "replace", other, "lladdr", NOWHERE, "dev", device, "nud", "permanent", ns=ns)

    def mend(self) -> None:
        """Let everything through again."""
        for ns, device, other in self._ends:
            ip("neigh", "del", other, "dev", device, ns=ns, check=False)

    def lose(self) -> str | None:
        """Lose one packet in five in both directions; return by what means, None if there are none."""
        for ns, device, _ in self._ends:
            if shutil.which("tc") is None or subprocess.run(
                ["tc", "-n", ns, "qdisc", "add", "dev", device, "root", "netem", "loss", f"{LOSS:.0%}"],
                capture_output=True, check=False,
            ).returncode:  # fmt: skip
                break
        else:
            return "tc netem"
        for program in ("iptables-legacy", "iptables"):
            rule = [
                program,
                "-A",
                "INPUT",
                "-m",
                "statistic",
                "--mode",
                "random",
                "--probability",
                str(LOSS),
                "-j",
                "DROP",
            ]
            if shutil.which(program) and not any(
                subprocess.run(["ip", "netns", "exec", ns, *rule[:3], *(["-i", device]), *rule[3:]],
                               capture_output=True, check=False).returncode
                for ns, device, _ in self._ends
            ):  # fmt: skip
                return program
        return None


class Agent:
    """An agent in its namespace, whose command stores at a steady rate until it is told to end."""

    def __init__(self, name: str, link: Link, hub: common.Hub, folder: Path, lifetime_s: float) -> None:
        self.name, self.link, self.log = name, link, folder / f"{name}.log"
        self._acked, self._over = folder / f"{name}.acked", folder / f"{name}.over"
        token = hub.token("fleet", name, folder / f"{name}.token")
        command = [
            "ip", "netns", "exec", link.ns, sys.executable, "-m", "fedctl",
            "--hub", f"ws://{link.hub_address}:{hub.port}", "--token-file", str(token), "--json",
            "agent", "spawn", "--id", name, "--lifetime", f"{lifetime_s:.0f}s", "--sync-interval", "500ms", "--",
            sys.executable, str(common.HERE / "patient.py"), str(self._acked), "env", "-",
            "--until", str(self._over), "--only-store", "--clients", "1", "--rate", "20",
        ]  # fmt: skip
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, env=common.environment(folder / f"{name}.home", DEBUG_LEVEL="basic", DEBUG_FORMAT="human"),
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log,
            )  # fmt: skip

    def acked(self) -> list[str]:
        """Return the ids of what the agent took."""
        if not self._acked.exists():
            return []
        return [line.split()[3] for line in self._acked.read_text().split("\n") if line.endswith(" ok")]

    def end(self) -> None:
        """Let its command end."""
        self._over.touch()

    def said(self, what: str) -> int | None:
        """Return a number of its last words."""
        found = re.findall(rf'"{what}":\s*(\d+)', self.log.read_text())
        return int(found[-1]) if found else None


class Hub(common.Hub):
    """A hub inside its namespace, on all addresses there."""

    def start(self) -> None:
        """Start it and wait until it says that it is ready."""
        assert self.log is not None
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                ["ip", "netns", "exec", HUB_NS, sys.executable, "-m", "fedctl", "hub", "start", "--host", "0.0.0.0",
                 "--insecure", "--port", str(self.port), "--http-port", str(self.http_port), "--jsonl"],
                env=common.environment(self.home, DEBUG_LEVEL="basic", DEBUG_FORMAT="json"),
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip
        assert self.process.stdout is not None
        if not self.process.stdout.readline():
            sys.exit(f"the hub did not start: {self.log.read_text()[-2000:]}")

    def dropped_s(self, agent: str, since: float) -> float | None:
        """Return after how many seconds of wall time the hub missed an agent."""
        assert self.log is not None
        for line in self.log.read_text().splitlines():
            with contextlib.suppress(ValueError):
                one = json.loads(line)
                at_s = _epoch_s(one["timestamp"])
                if (one["category"], one["operation"], one["agent_id"]) == ("agent", "dropped", agent) and at_s > since:
                    return at_s - since
        return None


def _epoch_s(stamp: str) -> float:
    from fedctl.model.time import from_rfc3339

    return from_rfc3339(stamp) / 1000


@contextlib.contextmanager
def network() -> Iterator[list[Link]]:
    """Make the namespaces, and remove them."""
    made: list[Link] = []
    ip("netns", "add", HUB_NS)
    try:
        ip("link", "set", "lo", "up", ns=HUB_NS)
        made.extend(Link(number) for number in range(5))
        yield made
    finally:
        for ns in (*(link.ns for link in made), HUB_NS):
            ip("netns", "del", ns, check=False)


def run(seconds: float, folder: Path, links: list[Link], figures: common.Figures) -> None:
    """Cut, wait, mend, and count."""
    hub = Hub(folder / "hub-home", log=folder / "hub.log")
    hub.home.mkdir(mode=0o700)
    hub.start()
    names = ("both-ways", "to-the-hub", "to-the-agent", "lossy", "for-good")
    agents = [Agent(name, link, hub, folder, seconds + 120) for name, link in zip(names, links, strict=True)]
    both, to_hub, to_agent, lossy, for_good = agents
    for agent in agents:
        common.wait_for(lambda agent=agent: len(agent.acked()) > 20, f"{agent.name} stores")
    cut_at = time.time()
    both.link.cut(to_agent=True, to_hub=True)
    to_hub.link.cut(to_agent=False, to_hub=True)
    to_agent.link.cut(to_agent=True, to_hub=False)
    for_good.link.cut(to_agent=True, to_hub=True)
    means = lossy.link.lose()
    before = {agent.name: len(agent.acked()) for agent in agents}
    time.sleep(min(3.0, seconds / 2))
    for_good.end()
    time.sleep(max(0.0, cut_at + seconds - time.time()))
    meanwhile = {agent.name: len(agent.acked()) - before[agent.name] for agent in agents}
    for agent in (both, to_hub, to_agent):
        agent.link.mend()
    if seconds >= NOTICED_S + 5:
        for agent in (both, to_hub, to_agent):
            noticed = hub.dropped_s(agent.name, cut_at)
            figures.add(f"{agent.name}: the hub missed it after (s)", None if noticed is None else f"{noticed:.1f}",
                        wanted=f"<= {NOTICED_S:g}", ok=noticed is not None and noticed <= NOTICED_S)  # fmt: skip
            said = "the hub is away" in agent.log.read_text()
            figures.add(f"{agent.name}: the agent said that its hub was away", said, wanted=True)
    for agent in agents:
        agent.end()
    codes = {agent.name: agent.process.wait(120) for agent in agents}
    figures.add("the hub's exit code", hub.stop(), wanted=0)
    held = common.Stored(hub.home, "fleet")
    stored = set(held.ids)
    figures.add("episodes that are there twice", len(held.ids) - len(stored), wanted=0)
    for agent in agents[:4]:
        acked = set(agent.acked())
        if agent is lossy and means is None:
            figures.not_shown(f"one packet in five lost for {seconds:g} s", "there is neither tc netem nor iptables")
            continue
        what = f"{agent.name}{f' ({means})' if agent is lossy else ''}"
        figures.add(f"{what}: stored while it was so", meanwhile[agent.name], ok=meanwhile[agent.name] > 0)
        figures.add(f"{what}: stored in all and not arrived", len(acked - stored), wanted=0)
        figures.add(f"{what}: the agent's exit code", codes[agent.name], wanted=0)
    lost = len(set(for_good.acked()) - stored)
    figures.add("for-good: the agent's exit code", codes[for_good.name], wanted=7)
    figures.add("for-good: not arrived", lost, ok=lost > 0)
    said = for_good.said("undelivered") or 0
    # What arrived just before the cut, and whose acknowledgement did not come back, is said to be undelivered too.
    figures.add(
        "for-good: said to be undelivered", said, wanted=f"{lost} or a batch more", ok=lost <= said <= lost + 60
    )
    common.check(hub.home, figures, "afterwards")
