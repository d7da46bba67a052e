"""Every request, on every way to the memory: the same answers and the same errors.

Four ways: in-process; encode-decode loopback (both sides of a session, no socket); a real hub on its Unix socket;
a real hub on its WebSocket. A request without an example here fails a test: a new verb is covered by being born.
"""

from __future__ import annotations

import re
import time
from typing import Any

import msgspec
import pytest

from fedctl.clock import Clock
from fedctl.errors import FedctlError
from fedctl.messages import agent as a
from fedctl.messages import hub as h
from fedctl.messages import memory as m
from fedctl.messages import pool as p
from fedctl.messages import retention as r
from fedctl.messages import store as s
from fedctl.messages import tenant as n
from fedctl.messages import token as t
from fedctl.messages import worker as w
from fedctl.model.agent import AgentFigures, NoteDraft
from fedctl.model.episode import EpisodeDraft, EpisodeFilter
from fedctl.model.pool import Completion, FollowUp, Item, ItemDraft, ItemFailure, Lease
from fedctl.model.principal import Principal
from fedctl.operations.table import OPERATIONS, request_types, run
from fedctl.wire import codec, frames
from fedctl.wire import session as said

NOW = "2026-01-01T00:00:00.000Z"


def draft(id_: str, **fields: Any) -> EpisodeDraft:
    return EpisodeDraft(**{"id": id_, "task": "boil water", "created_at": NOW, **fields})


def item(id_: str, **fields: Any) -> ItemDraft:
    return ItemDraft(**{"id": id_, "data": id_, **fields})


LEASES: dict[str, str] = {}
"""Item -> the lease of who claimed it last on the way that is being tried."""


def Held(id_: str, kind: Any = Lease, **fields: Any) -> Any:  # noqa: N802  it stands where a class would
    """Make what names a lease that only the claim will tell."""
    return kind(id=id_, lease_id=f"LEASE OF {id_}", **fields)


def with_leases(request: Any) -> Any:
    """Return a request with the leases that were told in the meantime."""
    for name in ("leases", "failures", "completions"):
        named = [
            msgspec.structs.replace(one, lease_id=LEASES.get(one.id, "none")) if one.lease_id[:5] == "LEASE" else one
            for one in getattr(request, name, ())
        ]
        if named:
            request = msgspec.structs.replace(request, **{name: named})
    return request


def note_leases(answer: Any) -> None:
    for one in [*getattr(answer, "items", ()), *getattr(answer, "claimed", ())]:
        if isinstance(one, Item) and one.lease_id:
            LEASES[one.id] = one.lease_id


HEAVY = {
    "unicode": "zwölf Boxkämpfer 😀 \u2028 \u0085",
    "numbers": [0, -1, 2**63, 10**300, 1.5, 1e-300, True, None],
    "deep": [[[[[[[[{"a": {}}]]]]]]]],
    "control": "\x1b[2J\t\n",
}

SCRIPT: list[Any] = [
    # -- storing: good, again, in conflict, refused one by one
    m.StoreEpisodes(
        episodes=[draft("e1", input=HEAVY, output=2**63, reward=0.9, metadata=HEAVY), draft("e2")], echo=True
    ),
    m.StoreEpisodes(
        episodes=[draft("e1", input=HEAVY, output=2**63, reward=0.9, metadata=HEAVY), draft("e2", task="no")]
    ),
    m.StoreEpisodes(episodes=[draft("e2", task="other")], on_conflict="skip"),
    m.StoreEpisodes(
        episodes=[
            draft("", task="x"),
            draft("n1", reward=float("nan")),
            draft("n2", reward=1.5),
            draft("n3", task="\ud800"),
            draft("n4", task=""),
            draft("n5", input={"a": [float("inf")]}),
            draft("n6", session_id="a/b"),
            draft("n7", tokens_used=-1),
            draft("n8", created_at="yesterday"),
            draft("n9", input="x" * 2_000_000),
            draft("n\0", task="x"),
            draft("n11", metadata={"\udfff": 1}),
            draft("e3", task="make tea", agent_id="tester", success=False, critique="too hot", latency_ms=12.5),
            draft("n13", input="x" * 20_000_000),
        ]
    ),
    m.StoreEpisodes(episodes=[draft("d", input=[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]])]),
    m.StoreEpisodes(episodes=[]),
    m.StoreEpisodes(episodes=[draft(f"many{number}") for number in range(1001)]),
    # -- finding
    m.QueryEpisodes(text="water", explain=True),
    m.QueryEpisodes(text="hot tea", mode="keyword", k=1),
    m.QueryEpisodes(text="hot tea", mode="semantic", filter=EpisodeFilter(agent_id="tester"), fresh=True),
    m.QueryEpisodes(text="water", filter=EpisodeFilter(where=[("numbers", "!=", [2**64, {"b": None}])])),
    m.QueryEpisodes(text="water", k=0),
    m.QueryEpisodes(text="water", k=1001),
    m.QueryEpisodes(text=""),
    m.QueryEpisodes(text="x" * 70_000),
    m.QueryEpisodes(text="water", reward_weight=2),
    m.QueryEpisodes(text="water", filter=EpisodeFilter(min_reward=7)),
    m.QueryEpisodes(text="water", filter=EpisodeFilter(since="now")),
    m.QueryEpisodes(text="water", filter=EpisodeFilter(where=[("a", "~", 1)])),
    # -- fetching, listing, pulling
    m.GetEpisodes(ids=["e1", "absent", "e3", "e1"]),
    m.GetEpisodes(ids=[]),
    m.ListEpisodes(order="oldest", limit=2, count=True),
    m.ListEpisodes(filter=EpisodeFilter(success=False)),
    m.ListEpisodes(cursor=2, order="oldest"),
    m.ListEpisodes(limit=-1),
    m.PullEpisodes(cursor=0, limit=2),
    m.PullEpisodes(query="tea", limit=1),
    m.PullEpisodes(limit=-1),
    # -- deleting
    m.DeleteEpisodes(ids=["e2", "absent"], dry_run=True),
    m.DeleteEpisodes(ids=["e2", "absent"]),
    m.DeleteEpisodes(filter=EpisodeFilter(task="make tea")),
    m.DeleteEpisodes(),
    m.DeleteEpisodes(filter=EpisodeFilter()),
    m.StoreEpisodes(episodes=[draft("e2")]),
    m.PullEpisodes(cursor=0),
    # -- figures and upkeep
    m.MemoryStats(),
    m.Reindex(begin=True),
    m.Reindex(budget_ms=5_000),
    m.EmbedPending(budget_ms=20_000),
    m.EmbedPending(budget_ms=0),
    m.EmbedPending(budget_ms=-1),
    m.EmbedTexts(texts=["water", "tea"]),
    m.EmbedTexts(texts=["x"] * 65),
    s.CheckStore(),
    s.CheckStore(full=True),
    # -- agents
    a.RegisterAgent(id="a1", type="coder", lifetime_ms=60_000, host="host", pid=7),
    a.RegisterAgent(id="a1", type="coder", lifetime_ms=60_000, host="elsewhere", pid=8),
    a.RegisterAgent(id="../a1", type="coder", lifetime_ms=60_000, host="host", pid=7),
    a.RegisterAgent(id="a2", type="coder", lifetime_ms=1, host="host", pid=7),
    a.ReportAgent(id="a1", status="initializing", synced=True),
    a.ReportAgent(id="a1", status="working"),
    a.ReportAgent(id="absent", status="dead"),
    a.ListAgents(),
    a.GetAgent(id="a1"),
    a.GetAgent(id="absent"),
    a.AddNotes(
        agent_id="a1",
        notes=[
            NoteDraft(id="n1", kind="task", text="make tea", data=HEAVY),
            NoteDraft(id="n2", kind="error", text="no water"),
        ],
    ),
    a.AddNotes(agent_id="a1", notes=[NoteDraft(id="n1", kind="task", text="make tea", data=HEAVY, age_ms=9)]),
    a.AddNotes(agent_id="a1", notes=[NoteDraft(id="n1", kind="task", text="make coffee")]),
    a.AddNotes(agent_id="a1", notes=[NoteDraft(id="n3", kind="task", text="x" * 5000)]),
    a.AddNotes(agent_id="absent", notes=[NoteDraft(id="n3", kind="task", text="t")]),
    a.AddNotes(notes=[NoteDraft(id="n3", kind="task", text="t")]),
    a.ReportAgent(id="a1", status="ready", synced=True, pushed=2, took_ms=1.5, figures=AgentFigures(stored=2)),
    a.GetTimeline(id="a1"),
    a.GetTimeline(id="a1", limit=2),
    a.GetTimeline(id="absent"),
    # -- events
    h.ListEvents(limit=3),
    h.ListEvents(newest=4, kinds=["agent_note", "agent_error", "agent_status", "agent_synced"]),
    h.ListEvents(after=10**9, wait_ms=30),
    h.ListEvents(since="2020-01-01T00:00:00Z", all_tenants=True, kinds=["episode_deleted"]),
    h.ListEvents(after=1, newest=1),
    # -- workers
    w.RegisterWorker(id="w1", host="h", pid=7, capabilities=["gpu"], pool="p", metadata=HEAVY, started_at=NOW),
    w.RegisterWorker(id="w1", capabilities=["gpu"]),
    w.RegisterWorker(id="../w1"),
    w.RegisterWorker(id="w2", heartbeat_interval_ms=1),
    w.BeatWorker(id="w1", metadata={"a": 1, "b": None}, extend_leases_ms=60_000, incarnation=2),
    w.BeatWorker(id="w1", incarnation=1),
    w.BeatWorker(id="absent"),
    w.ListWorkers(),
    w.ListWorkers(statuses=["active", "lost"], capability="gpu", pool="q", stale=True, silent_ms=0, limit=5),
    w.GetWorker(id="w1"),
    w.GetWorker(id="absent"),
    # -- pools: pushing and claiming
    p.PushItems(pool="p", items=[item("i1", data=HEAVY, requires=["gpu"]), item("i2", key="k", priority=3)], echo=True),
    p.PushItems(
        pool="p",
        items=[
            item("i1", data=HEAVY, requires=["gpu"]),
            item("i1"),
            item("x", data="i2", key="k"),
            item("y", key="k"),
            item(""),
            item("n1", data=float("nan")),
            item("n2", data="x " * 550_000),
            item("n3", delay_ms=-1),
            item("n4", available_at="soon"),
            item("n5", requires=["a b"]),
            item("n6", priority=2**40),
        ],
    ),
    p.PushItems(pool="p", items=[item(f"many{number}") for number in range(1001)]),
    p.PushItems(pool="../p", items=[item("i1")]),
    p.PushItems(pool="p", items=[item("late", delay_ms=3_600_000), item("big", data="x " * 450_000, priority=-9)]),
    p.ClaimItems(pool="p", worker_id="stranger", count=2),
    p.ClaimItems(pool="p", worker_id="w1", lease_ms=100_000),
    p.ClaimItems(pool="unused", worker_id="w1"),
    p.ClaimItems(pool="unused", worker_id="w1", wait_ms=30),
    p.ClaimItems(pool="p", worker_id="w1", count=0),
    # -- leases
    p.ExtendItems(leases=[Held("i1"), Lease(id="i2", lease_id="x"), Lease(id="absent", lease_id="x")], lease_ms=5000),
    p.ReleaseItems(leases=[Held("big"), Lease(id="\n", lease_id="x")]),
    p.FailItems(failures=[ItemFailure(id="i2", lease_id="x", error="no")], claim=None),
    p.FailItems(failures=[Held("i2", ItemFailure, error="x " * 50_000, retry_in_ms=0)]),
    p.FailItems(failures=[]),
    p.CompleteItems(
        completions=[
            Held(
                "i1",
                Completion,
                result=HEAVY,
                then_push=[FollowUp(pool="next", item=item("n1", data=HEAVY))],
                episode=draft("learned", reward=0.5),
            ),
            Completion(id="i2", lease_id="x", result=1),
            Completion(id="absent", lease_id="x"),
        ],
        claim=p.ClaimItems(pool="next", worker_id="w1"),
    ),
    p.CompleteItems(completions=[Held("i1", Completion, result={"another": "result"})]),
    p.CompleteItems(completions=[Held("n1", Completion, then_push=[FollowUp(pool="../x", item=item("n2"))])]),
    p.CompleteItems(completions=[Held("n1", Completion, episode=draft("learned", task="other"))]),
    p.CompleteItems(completions=[Held("n1", Completion, result="x " * 550_000)]),
    p.ReleaseWorker(worker_id="w1", pool="p"),
    p.ReleaseWorker(worker_id="w1"),
    # -- looking, waiting
    p.ListPools(),
    p.GetPool(name="p"),
    p.GetPool(name="unused"),
    p.ListItems(pool="p", limit=2, count=True),
    p.ListItems(pool="p", status="pending"),
    p.ListItems(pool="p", limit=0),
    p.GetItem(id="i1"),
    p.GetItem(id="i2"),
    p.GetItem(id="absent"),
    p.WaitFor(ids=["i1"]),
    p.WaitFor(pools=["p"], wait_ms=30),
    p.WaitFor(ids=["absent"]),
    p.WaitFor(),
    # -- upkeep
    p.ClaimItems(pool="next", worker_id="w1"),
    p.FailItems(failures=[Held("n1", ItemFailure, poison=True)]),
    p.RetryItems(ids=["n1", "i1", "absent"]),
    p.RetryItems(pool="next"),
    p.RetryItems(),
    p.PausePool(name="p", paused=True),
    p.ClaimItems(pool="p", worker_id="w1"),
    p.PausePool(name="p", paused=False),
    p.PurgePool(pool="p", dry_run=True),
    p.PurgePool(pool="p", status="done"),
    w.SetWorkerStatus(id="w1", status="terminated"),
    w.SetWorkerStatus(id="w1", status="active"),
    w.SetWorkerStatus(id="absent", status="lost"),
    p.ClaimItems(pool="p", worker_id="w1"),
    w.ReapWorkers(),
    # -- retention: after the items are gone, for their sizes differ
    m.PinEpisodes(ids=["e1", "absent"]),
    m.PinEpisodes(ids=["e1"], pinned=False),
    m.PinEpisodes(ids=[]),
    r.Prune(),
    r.SetPolicy(min_reward=0.2, keep_success=True, keep_where=[("tag", "=", "keep")], items_max_age_ms=86_400_000),
    r.SetPolicy(min_reward=None),
    r.SetPolicy(max_age_ms=0),
    r.SetPolicy(),
    r.GetPolicy(),
    r.SetPolicy(min_reward=0.6),
    r.ExplainEpisode(id="learned"),
    r.ExplainEpisode(id="absent"),
    r.Prune(dry_run=True, max_rows=0),
    r.Prune(max_rows=0),
    r.Prune(max_share=2.0),
    r.Prune(all_tenants=True, dry_run=True),
    # -- tokens
    t.IssueToken(tenant_id="acme", agent_id="a1", ttl_ms=60_000),
    t.IssueToken(tenant_id="../acme"),
    t.IssueToken(tenant_id="acme", ttl_ms=0),
    t.IssueToken(tenant_id="acme", agent_id="a1", role="admin"),
    t.ListTokens(),
    t.RevokeToken(id="absent"),
    # -- tenants
    n.GetTenant(name="default"),
    n.GetTenant(name="nobody"),
    n.GetTenant(name="../acme"),
    n.SetTenant(name="acme", max_episodes=5, max_bytes=10_000, rate_per_s=2.5),
    n.SetTenant(name="acme", max_bytes=None),
    n.SetTenant(name="acme", rate_per_s=0),
    n.SetTenant(name="acme", max_episodes=-1),
    n.SetTenant(name="default", max_episodes=1),
    m.StoreEpisodes(episodes=[draft("one too many"), draft("learned", reward=0.5), draft("", task="x")]),
    n.ListTenants(),
    t.RotateKey(grace_ms=-1),
    t.RotateKey(),
    # -- erasing
    m.EraseEpisodes(ids=["learned", "absent"], dry_run=True),
    m.EraseEpisodes(ids=["learned", "absent"]),
    m.EraseEpisodes(filter=EpisodeFilter(task="no such task")),
    m.EraseEpisodes(ids=["x"], filter=EpisodeFilter(task="x")),
    m.StoreEpisodes(episodes=[draft("learned", reward=0.5)]),
    n.EraseTenant(name="acme", dry_run=True),
    n.EraseTenant(name="acme", budget_ms=60_000),
    n.EraseTenant(name="acme"),
    n.EraseTenant(name="../acme"),
    n.ListTenants(),
]

HUB_ONLY: list[Any] = [
    h.GetHubInfo(),
    h.GetHubStats(),
    h.Subscribe(),
    a.StopAgent(id="a1"),
]
"""Without a hub these are `Unavailable`; with one both its sockets answer alike."""


def test_every_request_has_an_example():
    shown = {type(one) for one in [*SCRIPT, *HUB_ONLY]}
    assert shown == set(request_types()), "add an example here for what is missing"


def test_every_operation_is_named_as_its_request_is_tagged():
    for kind, operation in OPERATIONS.items():
        assert operation.name == kind.__struct_config__.tag


class Loopback:
    """A caller through both sides of a session: everything is said in bytes, and nothing crosses a socket."""

    def __init__(self, context: Any, principal: Principal) -> None:
        self._context, self._principal = context, principal
        self._client, self._server = said.ClientSession(), said.ServerSession(codec.RequestDecoder(request_types()))
        self._server.receive(self._client.hello())
        self._client.receive(
            self._server.welcome(frames.Welcome(version=1, fedctl="0", epoch="e", principal=principal, server_time=NOW))
        )

    def call(self, request: Any) -> Any:
        from fedctl.client import batches

        plan = batches.plan(request, self._principal)
        if plan is not None:
            return plan.merge([self._call(part) for part in plan.parts])
        return self._call(request)

    def _call(self, request: Any) -> Any:
        call_id, data = self._client.call(request)
        event = self._server.receive(data)
        if isinstance(event, said.Asked):
            try:
                reply = self._server.answer(call_id, run(self._context, self._principal, event.request))
            except FedctlError as error:
                reply = self._server.fail(call_id, error)
        else:
            reply = event.reply
        answered = self._client.receive(reply)
        if isinstance(answered, said.Answered):
            return answered.answer
        raise answered.error


TIMES = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
IDS = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
TOKENS = re.compile(r"[\w-]+\.[\w-]+\.[\w-]{86}")
MEASURED = {
    "offset_ms", "lived_ms", "lasted_ms", "key_id", "old_keys_until",
    "uptime_s", "latencies", "rss_bytes", "operations", "errors", "commits", "connections", "store_bytes", "size_bytes",
    "disk_free_bytes",
    "acked_episodes", "expires_at", "pid", "age_s", "lease_id", "next_ms", "oldest_pending_s",
}  # fmt: skip
"""What is measured, or differs from home to home."""


def plain(value: Any) -> Any:
    """Return an answer with what no two runs have in common put aside."""
    if isinstance(value, dict):
        return {key: "measured" if key in MEASURED else plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, str):
        return TOKENS.sub("TOKEN", IDS.sub("ID", TIMES.sub("TIME", value)))
    return value


def outcome(caller: Any, request: Any) -> Any:
    try:
        answer = caller.call(with_leases(request))
        note_leases(answer)
        return plain(msgspec.to_builtins(answer))
    except FedctlError as error:
        return type(error).__name__, plain(error.as_dict())


def settled(caller: Any) -> None:
    """Wait until everything is embedded: a hub does it in the background, a query at home on the way."""
    deadline = time.monotonic() + 20
    while caller.call(m.Reindex(budget_ms=1000)).remaining or caller.call(m.MemoryStats()).pending_embeddings:
        assert time.monotonic() < deadline


def told(caller: Any, script: list[Any]) -> list[tuple[str, Any]]:
    """Return what each request of a script comes to."""
    LEASES.clear()
    outcomes = []
    for number, request in enumerate(script):
        if isinstance(request, m.QueryEpisodes | m.MemoryStats | m.PullEpisodes | s.CheckStore):
            settled(caller)
        outcomes.append((f"{number} {type(request).__name__}", outcome(caller, request)))
    return outcomes


@pytest.fixture
def reference(make_bench):
    """What the requests come to in-process."""
    bench = make_bench(clock=Clock())

    class InProcess:
        call = staticmethod(bench.call)

    return InProcess()


def other_way(way, make_bench, start_hub):
    if way == "loopback":
        return Loopback(make_bench(clock=Clock()).context, Principal(tenant_id="default", role="owner"))
    hub = start_hub()
    return hub.owner() if way == "unix" else hub.bearer(hub.token("default", role="operator"))


@pytest.mark.parametrize("way", ["loopback", "unix", "websocket"])
def test_answers_and_errors_are_those_of_the_home_itself(way, reference, make_bench, start_hub):
    expected, got = told(reference, SCRIPT), told(other_way(way, make_bench, start_hub), SCRIPT)
    if way == "websocket":  # there the test's own token is in the list
        expected, got = ([one for one in each if "ListTokens" not in one[0]] for each in (expected, got))
    assert [one for one, other in zip(got, expected, strict=True) if one != other] == []
    assert got == expected


def test_both_sockets_of_a_hub_answer_alike_what_only_a_hub_can_answer(start_hub):
    hub = start_hub()
    ways = [hub.owner(), hub.bearer(hub.token("default", role="operator"))]
    ways[0].call(a.RegisterAgent(id="a1", type="coder", lifetime_ms=60_000, host="host", pid=7))
    unix, websocket = (told(way, HUB_ONLY) for way in ways)
    assert unix == websocket
    assert not any(isinstance(one, tuple) for _, one in unix)


@pytest.mark.parametrize("request_", HUB_ONLY, ids=lambda one: type(one).__name__)
def test_without_a_hub_what_only_a_hub_can_answer_is_unavailable(request_, reference, make_bench):
    reference.call(a.RegisterAgent(id="a1", type="coder", lifetime_ms=60_000, host="host", pid=7))
    context = make_bench(clock=Clock()).context
    loopback = Loopback(context, Principal(tenant_id="default", role="owner"))
    loopback.call(a.RegisterAgent(id="a1", type="coder", lifetime_ms=60_000, host="host", pid=7))
    at_home, looped = outcome(reference, request_), outcome(loopback, request_)
    assert at_home[0] == "Unavailable"
    assert at_home == looped


@pytest.mark.parametrize("way", ["loopback", "unix", "websocket"])
def test_a_role_that_does_not_reach_is_denied_alike(way, make_bench, start_hub):
    bench = make_bench(clock=Clock())
    if way == "loopback":
        caller: Any = Loopback(bench.context, Principal(tenant_id="acme", role="agent"))
    else:
        hub = start_hub()
        token = hub.token("acme", role="agent")
        caller = hub.connect(hub.unix_url if way == "unix" else hub.info.url, token=token)
    for request in [*SCRIPT, *HUB_ONLY]:
        operation = OPERATIONS[type(request)]
        if operation.role != "agent":
            error = bench.refusal(request, tenant="acme", role="agent")
            assert outcome(caller, request) == ("Denied", plain(error.as_dict()))


ONE_EACH = {type(one): one for one in reversed([*SCRIPT, *HUB_ONLY])}
LOOKED_AT: list[Any] = [
    m.StoreEpisodes(episodes=[draft("e1", input=HEAVY, metadata=HEAVY), draft("learned", reward=0.5)]),
    a.RegisterAgent(id="a1", type="coder", lifetime_ms=60_000, host="host", pid=7),
    w.RegisterWorker(id="w1", pool="p", metadata=HEAVY),
    p.PushItems(pool="p", items=[item("i1", data=HEAVY), item("i2")]),
]


@pytest.mark.parametrize("way", ["loopback", "page"])
def test_who_may_only_look_sees_what_the_owner_sees_and_changes_nothing(way, make_bench, start_hub):
    if way == "loopback":
        context = make_bench(clock=Clock()).context
        owner: Any = Loopback(context, Principal(tenant_id="default", role="owner"))
        page: Any = Loopback(context, Principal(tenant_id="default", role="owner", looks_only=True))
    else:
        hub = start_hub()
        context, owner = hub.context, hub.owner()
        page = hub.connect(hub.info.http_url.replace("http", "ws") + "/ws", token=hub.token("default", role="operator"))
    for request in LOOKED_AT:
        owner.call(request)
    settled(owner)
    before = context.store.changes.last_seq()
    for kind, request in ONE_EACH.items():
        got = outcome(page, request)
        if OPERATIONS[kind].looks:
            assert got == outcome(owner, request), kind
        else:
            assert got[0] == "Denied", kind
    assert context.store.changes.last_seq() == before
