"""One of the demo's agents, as a process: it lives through the Python API and does its role's work in children.

`python -m fedctl.demo.crew ORDERS` where ORDERS is a JSON file (`Orders`); the last line on stdout is its `Report`.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from fedctl.agent.plan import Ending
from fedctl.api import EphemeralAgent
from fedctl.demo.work import MODULES_WITH_DOCTESTS

CHILD_TIMEOUT_S = 20.0
ROLES = ("researcher", "coder", "tester", "reviewer", "isolated")


class Module(msgspec.Struct, frozen=True):
    """A Python file of the input, by the name it is spoken of."""

    name: str
    path: str


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent of the crew is to do: at least so many iterations, for at least so long."""

    role: str
    tenant_id: str
    hub_url: str
    token_file: str
    home: str
    modules: list[Module]
    iterations_min: int
    seconds: float
    lifetime_s: float


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent did: the ids it stored, and how it ended."""

    role: str
    agent_id: str
    iterations: int
    stored_ids: list[str]
    ending: Ending


class Lesson(NamedTuple):
    """What one piece of work taught, before it becomes an episode."""

    task: str
    input: Any
    output: Any
    reward: float
    critique: str
    metadata: dict[str, Any]


async def live(orders: Orders) -> Report:
    """Live one life."""
    stored: list[str] = []
    begun = time.monotonic()
    agent = await EphemeralAgent.spawn(
        tenant_id=orders.tenant_id,
        lifetime=orders.lifetime_s,
        hub_endpoint=orders.hub_url,
        agent_id=orders.role,
        agent_type=orders.role,
        token_file=orders.token_file,
        home=orders.home,
        sync_interval="2s",
    )
    pause_s = orders.seconds / orders.iterations_min
    iteration = 0
    while iteration < orders.iterations_min or time.monotonic() - begun < orders.seconds:
        due = begun + pause_s * iteration
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        stored.append(await agent.execute(_iterate, orders, iteration))
        iteration += 1
    ending = await agent.destroy()
    return Report(role=orders.role, agent_id=agent.agent_id, iterations=iteration, stored_ids=stored, ending=ending)


async def _iterate(agent: EphemeralAgent, orders: Orders, iteration: int) -> str:
    """Do one piece of work and remember it; return the episode's id."""
    module = orders.modules[iteration % len(orders.modules)]
    begun = time.monotonic()
    lesson = await _WORK[orders.role](agent, module, iteration)
    episode = await agent.store_episode(
        lesson.task,
        input=lesson.input,
        output=lesson.output,
        reward=lesson.reward,
        critique=lesson.critique,
        session_id=f"demo-{orders.role}",
        latency_ms=round((time.monotonic() - begun) * 1000, 1),
        metadata=lesson.metadata | {"module": module.name},
    )
    return episode.id


async def _research(_agent: EphemeralAgent, module: Module, _iteration: int) -> Lesson:
    found, error = await _child("read", module.path)
    task = f"research the module {module.name}"
    if found is None:
        return Lesson(task, module.path, None, 0.0, f"{module.name} cannot be parsed: {error}", {"kind": "research"})
    critique = (
        f"{module.name} has {found['lines']} lines, {found['functions']} functions, {len(found['classes'])} classes "
        f"and imports {', '.join(found['imports'][:8]) or 'nothing'}"
    )
    # A module that says what it is for is worth more to who comes next.
    return Lesson(task, module.path, found, 1.0 if found["docstring"] else 0.6, critique, {"kind": "research"})


async def _code(_agent: EphemeralAgent, module: Module, _iteration: int) -> Lesson:
    found, error = await _child("compile", module.path)
    task = f"byte-compile the module {module.name}"
    if found is None:
        return Lesson(task, module.path, None, 0.0, f"{module.name} does not compile: {error}", {"kind": "compile"})
    critique = f"{module.name} compiles in {found['compile_ms']} ms to {found['code_bytes']} bytes of code"
    return Lesson(task, module.path, found, 1.0, critique, {"kind": "compile"})


async def _test(_agent: EphemeralAgent, _module: Module, iteration: int) -> Lesson:
    name = MODULES_WITH_DOCTESTS[iteration % len(MODULES_WITH_DOCTESTS)]
    found, error = await _child("doctest", name)
    task = f"run the doctests of the module {name}"
    about = {"kind": "doctest", "tested": name}
    if found is None:
        return Lesson(task, name, None, 0.0, f"the doctests of {name} did not finish: {error}", about)
    passed = found["examples"] - found["failed"]
    critique = f"{name}: {passed} of {found['examples']} examples hold"
    if found["failed"]:
        critique += f"; the first that does not is in {found['first_failure']}"
    return Lesson(task, name, found, passed / found["examples"] if found["examples"] else 0.0, critique, about)


async def _review(agent: EphemeralAgent, module: Module, iteration: int) -> Lesson:
    # One step behind the others, so that there is something to be found.
    hits = await agent.query_memories(f"what do we know of the module {module.name}", k=20)
    seen: dict[str, Any] = {}
    for hit in hits:
        episode = hit.episode
        if episode is not None and episode.metadata.get("kind") in ("research", "compile", "doctest"):
            about = episode.metadata.get("tested") or episode.metadata.get("module")
            if about == module.name:
                seen.setdefault(str(episode.metadata["kind"]), episode)
    lines = [f"{kind}: {episode.critique}" for kind, episode in sorted(seen.items())]
    verdict = "sound" if seen and all((one.reward or 0) >= 0.7 for one in seen.values()) else "needs a look"  # noqa: PLR2004
    output = {"verdict": verdict if seen else "unknown", "evidence": lines, "based_on": [e.id for e in seen.values()]}
    critique = f"{module.name} is {output['verdict']} by {len(seen)} of 3 kinds of evidence"
    return Lesson(
        f"review the module {module.name}", {"question": module.name, "hits": len(hits), "iteration": iteration},
        output, len(seen) / 3, critique, {"kind": "review"},
    )  # fmt: skip


_WORK = {"researcher": _research, "coder": _code, "tester": _test, "reviewer": _review, "isolated": _research}


async def _child(kind: str, subject: str) -> tuple[Any, str]:
    """Run one piece of work in a fresh interpreter; return what it found, or None and why not."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        str(Path(__file__).with_name("work.py")),
        kind,
        subject,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(CHILD_TIMEOUT_S):
            out, err = await child.communicate()
    except TimeoutError:
        child.kill()
        await child.wait()
        return None, f"it took more than {CHILD_TIMEOUT_S:g} s"
    if child.returncode:
        return None, (err.decode(errors="replace").strip().splitlines() or ["no reason given"])[-1][:500]
    return msgspec.json.decode(out.splitlines()[-1]), ""


def main() -> None:
    """Read the orders, live, report."""
    orders = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Orders)
    report = asyncio.run(live(orders))
    sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
    sys.exit(report.ending.exit)


if __name__ == "__main__":
    main()
