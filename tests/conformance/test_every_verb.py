"""Every verb, by every role, on what is one's own, another tenant's, and nobody's.

The requests are made from the message types: a verb is covered by being born. A field that nobody knows fails here
with its name: say in `REFERENCES` what it refers to, or in `PLAIN` what it may be.
"""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any, get_args, get_origin

import msgspec
import pytest

from fedctl.errors import Denied, FedctlError, NotFound, UsageError
from fedctl.messages import agent as a
from fedctl.messages import pool as p
from fedctl.messages import retention as r
from fedctl.messages import token as t
from fedctl.messages import worker as w
from fedctl.model.episode import EpisodeDraft, EpisodeFilter
from fedctl.model.hub import HubInfo
from fedctl.model.pool import ItemDraft, ItemFailure
from fedctl.operations.table import OPERATIONS

ROLES = ("agent", "admin", "operator", "owner")

# -- who may what: said here once more, in words, so that the table is held against it -----------------------------

WORK = ("memory", "pool", "worker", "agent")
"""Of these an agent may everything in its tenant but what is said below."""
AGENTS_TOO = {"hub.info", "hub.subscribe", "hub.events", "retention.show", "retention.explain"}
ADMINS = {"memory.delete", "memory.erase", "pool.purge", "pool.pause", "token.issue", "token.list", "token.revoke",
          "tenant.list", "tenant.show", "retention.set", "retention.prune"}  # fmt: skip
"""What takes something away for good, or lets somebody in: all of its own tenant."""
OPERATORS = {"memory.reindex", "tenant.set", "tenant.erase", "token.rotate_key", "hub.stats", "store.check"}
"""What is about the whole store or the hub."""


def role_of(name: str) -> str:
    if name in ADMINS:
        return "admin"
    if name in OPERATORS:
        return "operator"
    if name in AGENTS_TOO or name.partition(".")[0] in WORK:
        return "agent"
    pytest.fail(f"{name} is new: say here who may ask for it")


# -- requests out of types -----------------------------------------------------------------------------------------

REFERENCES = {
    "memory.ids": "episode",
    "EpisodeDraft.id": "episode",
    "EpisodeDraft.agent_id": "agent",
    "EpisodeDraft.session_id": "session",
    "EpisodeDraft.tenant_id": "tenant",
    "EpisodeFilter.agent_id": "agent",
    "EpisodeFilter.session_id": "session",
    "agent.id": "agent",
    "agent.agent_id": "agent",
    "NoteDraft.id": "note",
    "worker.id": "worker",
    "worker.pool": "pool",
    "pool.id": "item",
    "pool.ids": "item",
    "pool.pool": "pool",
    "pool.pools": "pool",
    "pool.name": "pool",
    "pool.worker_id": "worker",
    "pool.lease_id": "lease",
    "Lease.id": "held",
    "Lease.lease_id": "lease",
    "ItemFailure.id": "held",
    "ItemFailure.lease_id": "lease",
    "Completion.id": "held",
    "Completion.lease_id": "lease",
    "ItemDraft.id": "item",
    "ItemDraft.key": "key",
    "FollowUp.pool": "pool",
    "ClaimItems.pool": "pool",
    "ClaimItems.worker_id": "worker",
    "ClaimItems.lease_id": "lease",
    "retention.id": "episode",
    "tenant.name": "tenant",
    "token.id": "token",
    "token.tenant_id": "tenant",
    "token.agent_id": "agent",
}
"""A field, of a verb's column or of a type within, and the kind of thing that it names."""

PLAIN: dict[str, Any] = {
    "text": "alpha beta", "texts": ["alpha beta"], "task": "alpha beta", "data": 1, "type": "coder", "host": "h",
    "pid": 7, "lifetime_ms": 60_000, "paused": True, "kind": "task", "at": "2026-01-01T00:00:00.000Z",
    "max_episodes": 5,
}  # fmt: skip


GIVEN = {"SetPolicy.max_episodes"}
"""What need not be given, where one of several must be."""


def fill(kind: Any, column: str, refs: dict[str, str], chosen: str | None = None) -> Any:
    """Return an instance with what must be given, and the optional reference `chosen`."""
    given = {}
    for field in msgspec.structs.fields(kind):
        if field.required or field.name == chosen or f"{kind.__name__}.{field.name}" in GIVEN:
            given[field.name] = value_of(kind, field, column, refs)
    return kind(**given)


def value_of(kind: Any, field: Any, column: str, refs: dict[str, str]) -> Any:
    reference = reference_of(kind, field.name, column)
    type_ = _without_none(field.type)
    if reference is not None:
        value: Any = refs[reference]
        return [value] if get_origin(type_) is list else value
    inner = get_args(type_)[0] if get_origin(type_) is list else type_
    if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
        made = fill(inner, column, refs)
        return [made] if get_origin(type_) is list else made
    if field.name in PLAIN:
        return PLAIN[field.name]
    if get_args(type_) and isinstance(get_args(type_)[0], str):  # a Literal
        return get_args(type_)[0]
    pytest.fail(f"{kind.__name__}.{field.name} is new: say in REFERENCES what it refers to, or in PLAIN what it may be")


def _without_none(type_: Any) -> Any:
    kinds = [one for one in get_args(type_) if one not in (type(None), msgspec.UnsetType)]
    return kinds[0] if kinds and type(None) in get_args(type_) else type_


def reference_of(kind: Any, name: str, column: str) -> str | None:
    return REFERENCES.get(f"{kind.__name__}.{name}") or REFERENCES.get(f"{column}.{name}")


def requests(kind: Any, refs: dict[str, str]) -> list[Any]:
    """Return the request with what must be given, and one more for each optional field that refers to something."""
    column = OPERATIONS[kind].name.partition(".")[0]
    optional = [
        field.name
        for field in msgspec.structs.fields(kind)
        if not field.required and (reference_of(kind, field.name, column) or _is_struct(_without_none(field.type)))
    ]
    return [fill(kind, column, refs, chosen) for chosen in (None, *optional)]


def _is_struct(type_: Any) -> bool:
    return isinstance(type_, type) and issubclass(type_, msgspec.Struct)


# -- a world with two tenants that are alike -----------------------------------------------------------------------

MINE, THEIRS = "acme", "theirs"


class Hub:
    """What a hub lends to operations, where its agents are connected."""

    stopping = False

    def __init__(self) -> None:
        self.agents: set[tuple[str, str]] = set()

    def info(self) -> HubInfo:
        return HubInfo(pid=1, version="0", url="ws://h:1", http_url="http://h:2", socket="s", home="h",
                       started_at="2026-01-01T00:00:00.000Z", ready=True)  # fmt: skip

    def stats(self) -> Any:
        from fedctl.clock import Clock
        from fedctl.hub.stats import Figures

        return Figures(Clock()).stats(connected_agents=0, connections=0)

    def seldom(self, _name: str, question: Any) -> Any:
        return question()

    def stop_agent(self, tenant_id: str, agent_id: str) -> None:
        if (tenant_id, agent_id) not in self.agents:
            raise NotFound(f"the agent {agent_id} is not connected to this hub")


def populate(bench: Any, hub: Hub, tenant: str) -> dict[str, str]:
    """Give a tenant one of everything; return kind -> its name."""
    refs = {kind: f"{tenant}-{kind}" for kind in {*REFERENCES.values()} - {"tenant", "token", "lease"}}
    refs["tenant"] = tenant

    def call(request: Any) -> Any:
        return bench.call(request, tenant=tenant)

    bench.keep(
        EpisodeDraft(id=refs["episode"], task="alpha beta", input=f"secret of {tenant}", agent_id=refs["agent"],
                     session_id=refs["session"]), tenant=tenant,
    )  # fmt: skip
    call(a.RegisterAgent(id=refs["agent"], type="coder", lifetime_ms=60_000, host="h", pid=7))
    hub.agents.add((tenant, refs["agent"]))
    call(w.RegisterWorker(id=refs["worker"], pool=refs["pool"]))
    call(p.PushItems(pool=refs["pool"], items=[ItemDraft(id=refs["held"], data=f"secret of {tenant}")]))
    [held] = call(p.ClaimItems(pool=refs["pool"], worker_id=refs["worker"])).items
    refs["lease"] = held.lease_id
    lost = f"{tenant}-poisoned"
    call(p.PushItems(pool=refs["pool"], items=[ItemDraft(id=lost, data=1)]))
    [one] = call(p.ClaimItems(pool=refs["pool"], worker_id=refs["worker"])).items
    call(p.FailItems(failures=[ItemFailure(id=lost, lease_id=one.lease_id, poison=True)]))
    call(p.PushItems(pool=refs["pool"], items=[ItemDraft(id=refs["item"], data=1, key=refs["key"])]))
    refs["token"] = call(t.IssueToken(tenant_id=tenant)).record.id
    call(r.SetPolicy(items_max_age_ms=86_400_000))
    return refs


@pytest.fixture
def make_world(make_bench):
    def make() -> Any:
        bench, hub = make_bench(), Hub()
        mine, theirs = populate(bench, hub, MINE), populate(bench, hub, THEIRS)
        bench.context = bench.context.with_hub(hub, bench.logged.append)
        absent = {kind: f"absent-{kind}" for kind in mine} | {
            "tenant": "absent", "lease": "0" * 32, "token": "00000000-0000-7000-8000-000000000000",
        }  # fmt: skip
        return SimpleNamespace(bench=bench, mine=mine, theirs=theirs, absent=absent)

    return make


def outcome(world: Any, request: Any, role: str) -> tuple[str, Any]:
    # These two an agent may do to itself only.
    own = role == "agent" and isinstance(request, a.StopAgent | a.AddNotes)
    try:
        answer = world.bench.call(request, tenant=MINE, role=role, agent=f"{MINE}-agent" if own else None)
        return "answer", msgspec.to_builtins(answer)
    except FedctlError as error:
        return type(error).__name__, error.as_dict()


def said(found: Any, refs: dict[str, str]) -> str:
    """Return what was answered with every name that was asked for replaced by its kind, and chance left out."""
    text = msgspec.json.encode(found).decode()
    for kind, name in sorted(refs.items(), key=lambda one: -len(one[1])):
        text = re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", f"<{kind}>", text)
    text = re.sub(r"[\w-]+\.[\w-]+\.[\w-]{86}", "<a token>", text)
    return re.sub(r"\b[0-9a-f]{32}\b", "<a lease>", text)


def belongings(bench: Any, tenant: str) -> dict[str, list[Any]]:
    """Return every row of a tenant, by table."""
    database, key = bench.store.database, bench.key(tenant)
    tables = [row[0] for row in database.rows("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    rows = {}
    for table in tables:
        columns = {row[1] for row in database.rows(f"pragma table_info({table})")}
        for column, value in (("tenant_key", key), ("tenant_id", tenant)):
            if column in columns:
                rows[table] = database.rows(f"SELECT * FROM {table} WHERE {column} = :value", {"value": value})
    assert len(rows) > 8
    return rows


# -- the tests -----------------------------------------------------------------------------------------------------

VERBS = [pytest.param(kind, id=operation.name) for kind, operation in OPERATIONS.items()]


@pytest.mark.parametrize("kind", VERBS)
def test_a_verb_is_for_the_roles_that_it_is_for(make_world, kind):
    operation = OPERATIONS[kind]
    needed = role_of(operation.name)
    assert operation.role == needed
    for role in ROLES:
        world = make_world()
        outcomes = [outcome(world, request, role) for request in requests(kind, world.mine)]
        if ROLES.index(role) < ROLES.index(needed):
            assert {name for name, _ in outcomes} == {"Denied"}
            assert {one["message"] for _, one in outcomes} == {
                f"{operation.name} needs the role {needed}, this token is of role {role}"
            }
        else:
            assert "answer" in {name for name, _ in outcomes}, outcomes
            assert {name for name, _ in outcomes} <= {"answer", "UsageError", "Conflict"}, outcomes


@pytest.mark.parametrize("kind", [one for one in VERBS if OPERATIONS[one.values[0]].role != "operator"])
def test_what_is_another_tenant_s_is_what_does_not_exist(make_world, kind):
    for role in ("agent", "admin"):
        if ROLES.index(role) < ROLES.index(OPERATIONS[kind].role):
            continue
        told = []
        for whose in ("theirs", "absent"):
            world = make_world()
            before = belongings(world.bench, THEIRS)
            refs = getattr(world, whose)
            found = [outcome(world, request, role) for request in requests(kind, refs)]
            assert belongings(world.bench, THEIRS) == before, "nothing of theirs was touched"
            told.append([said(one, refs) for one in found])
        assert told[0] == told[1]
        assert not any("secret of theirs" in one for one in told[0])


@pytest.mark.parametrize("kind", [one for one in VERBS if OPERATIONS[one.values[0]].role != "operator"])
def test_nobody_hears_of_another_tenant_who_asks_for_its_own(make_world, kind):
    world = make_world()
    before = belongings(world.bench, THEIRS)
    for request in requests(kind, world.mine):
        found = said(outcome(world, request, OPERATIONS[kind].role), {})
        assert THEIRS not in found
        assert world.theirs["token"] not in found
        assert world.theirs["lease"] not in found
    assert belongings(world.bench, THEIRS) == before


def test_the_worlds_have_what_can_be_taken(make_world):
    """Else the tests above would hold for nothing."""
    world = make_world()
    rows = belongings(world.bench, THEIRS)
    assert all(rows[table] for table in ("episodes", "agents", "workers", "items", "pools", "tokens", "changes"))
    both = requests(next(kind for kind in OPERATIONS if OPERATIONS[kind].name == "pool.complete"), world.theirs)
    assert "answer" in {outcome_of_theirs(world, request) for request in both}


def outcome_of_theirs(world: Any, request: Any) -> str:
    answer = world.bench.call(request, tenant=THEIRS)
    return "answer" if any(one.ok for one in answer.results) else "refused"


@pytest.mark.parametrize("role", ["agent", "admin"])
def test_all_tenants_are_for_operators(make_world, role):
    world = make_world()
    flags = [kind for kind in OPERATIONS if "all_tenants" in kind.__struct_fields__]
    for kind in flags:
        if OPERATIONS[kind].kind != "session":  # that is the session's to refuse: tests/hub
            assert isinstance(world.bench.refusal(kind(all_tenants=True), tenant=MINE, role=role), Denied)
    assert flags


def test_an_agent_s_token_speaks_for_no_other_agent(make_world):
    world = make_world()
    who = {"tenant": MINE, "role": "agent", "agent": "another"}
    for request in (
        a.RegisterAgent(id=world.mine["agent"], type="coder", lifetime_ms=60_000, host="h", pid=8),
        a.ReportAgent(id=world.mine["agent"], status="dead"),
        a.StopAgent(id=world.mine["agent"]),
    ):
        assert isinstance(world.bench.refusal(request, **who), Denied)
    [stored] = world.bench.call(
        OPERATIONS_BY_NAME["memory.store"](episodes=[EpisodeDraft(id="x", task="t", agent_id=world.mine["agent"])]),
        **who,
    ).results
    assert stored.ok
    listed = world.bench.call(OPERATIONS_BY_NAME["memory.list"](filter=EpisodeFilter(agent_id="another")), **who)
    assert [one.id for one in listed.episodes] == ["x"], "who stores is who asks, whatever a draft says"


OPERATIONS_BY_NAME = {operation.name: kind for kind, operation in OPERATIONS.items()}


def test_a_request_for_another_tenant_s_token_is_denied_like_one_for_a_tenant_that_is_not(make_world):
    world = make_world()
    for role in ("admin",):
        errors = [
            world.bench.refusal(t.IssueToken(tenant_id=name), tenant=MINE, role=role).as_dict()
            for name in (THEIRS, "absent")
        ]
        assert errors[0] == errors[1]


@pytest.mark.parametrize("name", ["acme%", "../acme", "acme/x", "", ".acme", "a b", "acme\0"])
def test_what_is_no_tenant_s_name_is_refused_wherever_a_verb_takes_one(make_world, name):
    world = make_world()
    for kind in OPERATIONS:
        column = OPERATIONS[kind].name.partition(".")[0]
        if "tenant" in {reference_of(kind, field, column) for field in kind.__struct_fields__}:
            for request in requests(kind, world.mine | {"tenant": name}):
                assert isinstance(world.bench.refusal(request, tenant=MINE, role="operator"), UsageError)
