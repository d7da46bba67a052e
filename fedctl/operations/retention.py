"""Retention: policies, and carrying them out in small transactions that let others in between."""

from __future__ import annotations

from array import array
from collections import Counter, deque
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec

from fedctl.errors import Conflict, Denied, DiskFull, FedctlError, NotFound, UsageError
from fedctl.messages import retention as r
from fedctl.model import limits
from fedctl.model.retention import GUARD_FROM_ROWS, Policy, check_policy
from fedctl.model.time import to_rfc3339
from fedctl.operations import erasure
from fedctl.operations.job import Deadline, exclusive_job
from fedctl.retention.policy import apply, condemns, protects

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from fedctl.model.principal import Principal
    from fedctl.model.retention import Record
    from fedctl.operations.context import Context
    from fedctl.retention.policy import Rule

T = TypeVar("T")

JOB = "prune"
EPISODES_AT_ONCE = 8
"""Episodes in one transaction: a millisecond or two, and the disk's for its commit."""
ROWS_AT_ONCE = 100
"""The same of what has no words."""
CHECKPOINT_EVERY = 64
"""Transactions after which the log is folded in, where no hub does: by itself it only grows beside other writers."""
PAUSE = 2
"""How many times as long as a transaction took the next one waits: who writes meets it one time in three."""
ALONE_AFTER_S = 1.0
"""When nobody else has written for so long, nobody is taken to wait..."""
ALONE_TIMES = 8
"""...and a transaction takes so many times as many rows, and stands aside for a moment only."""
ASIDE_LEAST_S = 0.001
_HINT_SET = "set one first: fedctl retention set --max-age 90d"


# -- policies ----------------------------------------------------------------------------------------------------


def set_(ctx: Context, who: Principal, request: r.SetPolicy) -> r.PolicyAnswer:
    """Set rules of the tenant's policy."""
    given = {name: value for name in Policy.__struct_fields__ if (value := getattr(request, name)) is not msgspec.UNSET}
    if not given:
        raise UsageError("say which rule to set, or to lift")
    now_ms = ctx.clock.now_ms()
    check_policy(Policy(**given))
    with ctx.store.write():
        tenant_key = ctx.store.tenants.key_for_writing(who.tenant_id, now_ms)
        before = ctx.store.retention.policy(tenant_key) or Policy()
        policy = msgspec.structs.replace(before, **given)
        if policy != before:
            ctx.store.retention.set_policy(tenant_key, policy, now_ms)
            detail = msgspec.to_builtins(policy)
            ctx.store.changes.add(tenant_key, "retention_set", who.tenant_id, now_ms=now_ms, detail=detail)
    return r.PolicyAnswer(tenant_id=who.tenant_id, policy=policy)


def show(ctx: Context, who: Principal, _request: r.GetPolicy) -> r.PolicyAnswer:
    """Return the tenant's policy."""
    tenant_key = ctx.store.tenants.key(who.tenant_id)
    found = None if tenant_key is None else ctx.store.retention.policy(tenant_key)
    return r.PolicyAnswer(tenant_id=who.tenant_id, policy=found or Policy())


def explain(ctx: Context, who: Principal, request: r.ExplainEpisode) -> r.ExplainAnswer:
    """Say what the policy makes of an episode: by the very function that prunes, over all of the tenant."""
    limits.check_id("episode", request.id)
    now_ms = ctx.clock.now_ms()
    with ctx.store.read():
        tenant_key = ctx.store.tenants.key(who.tenant_id)
        seq = None if tenant_key is None else ctx.store.episodes.known_ids(tenant_key, [request.id]).get(request.id)
        if tenant_key is None or seq is None:
            raise NotFound(f"no such episode: {request.id}")
        policy = ctx.store.retention.policy(tenant_key) or Policy()
        seen = _Watched(ctx.store.retention.records(tenant_key, policy.keep_where), seq)
        plan = apply(seen, policy, now_ms)
    assert seen.record is not None
    rule, removed_by = plan.rule_of(seq), condemns(policy, seen.record, now_ms)
    kept_by = protects(policy, seen.record, seen.place)
    if rule == "max_episodes":
        removed_by.append(rule)
    goes_at_ms = None if rule is None else now_ms
    if rule is None and not kept_by and policy.max_age_ms is not None:
        goes_at_ms = seen.record.created_at_ms + policy.max_age_ms
    return r.ExplainAnswer(
        id=request.id,
        verdict="kept" if rule is None else "going",
        removed_by=list(removed_by),
        kept_by=list(kept_by),
        goes_at=None if goes_at_ms is None else to_rfc3339(goes_at_ms),
        place=seen.place,
        examined=plan.examined,
    )


class _Watched:
    """Records as they come, with an eye on one of them."""

    def __init__(self, records: Iterable[Record], seq: int) -> None:
        self._records = records
        self._seq = seq
        self.record: Record | None = None
        self.place = 0

    def __iter__(self) -> Iterator[Record]:
        for place, record in enumerate(self._records, start=1):
            if record.seq == self._seq:
                self.record, self.place = record, place
            yield record


# -- carrying them out -------------------------------------------------------------------------------------------


class Guard(NamedTuple):
    """How much one run may remove: `max_rows`, or without it a share of what it looked at."""

    max_share: float
    max_rows: int | None = None

    def refuses(self, going: int, examined: int) -> bool:
        """Return whether so many of so many are too many."""
        if self.max_rows is not None:
            return going > self.max_rows
        # Within a millionth of a row: 29 % of 100 are 28.999999999999996 to a computer.
        return going > GUARD_FROM_ROWS and going > self.max_share * examined + 1e-6


def prune(ctx: Context, who: Principal, request: r.Prune) -> r.PruneAnswer:
    """Carry out the tenant's policy, or everybody's; on a thread of its own, for it takes its time."""
    limits.check_unit_interval("max_share", request.max_share)
    for name in ("max_rows", "max_ms"):
        limits.check_count(name, getattr(request, name) or 0)
    if request.all_tenants and not who.may("operator"):
        raise Denied(f"retention.prune of all tenants needs the role operator, this token is of role {who.role}")
    guard = Guard(request.max_share, request.max_rows)
    deadline = Deadline(ctx.clock, request.max_ms)

    def over() -> bool:
        return deadline.over or (ctx.hub is not None and ctx.hub.stopping)

    def carry_out() -> list[r.Pruned]:
        if request.all_tenants:
            return prune_all(ctx, guard, dry_run=request.dry_run, over=over)
        return [prune_tenant(ctx, who.tenant_id, guard, dry_run=request.dry_run, over=over)]

    if request.dry_run:
        return r.PruneAnswer(results=carry_out())
    with exclusive_job(ctx.home, JOB):  # whoever asks may ask again: a hub has few threads to wait with
        _finish_erasures(ctx, request.max_ms)
        return r.PruneAnswer(results=carry_out())


def _finish_erasures(ctx: Context, max_ms: int | None) -> None:
    """Go on with what somebody began to erase; that it cannot be done keeps nobody from pruning."""
    try:
        notes = erasure.finish(ctx, max_ms)
    except FedctlError as error:
        notes = [error.message]
    for note in notes:
        ctx.log(note)


def prune_all(ctx: Context, guard: Guard, *, dry_run: bool, over: Callable[[], bool]) -> list[r.Pruned]:
    """Carry out the policy of every tenant that has one; what keeps one from it stands in its result."""
    results = []
    for name in ctx.store.retention.tenants():
        tenant_key = ctx.store.tenants.key(name)
        policy = None if tenant_key is None else ctx.store.retention.policy(tenant_key)
        if policy is None or not policy.removes:
            continue
        if over():
            results.append(r.Pruned(tenant_id=name, policy=policy, dry_run=dry_run, more=True))
            continue
        try:
            results.append(prune_tenant(ctx, name, guard, dry_run=dry_run, over=over))
        except (Conflict, UsageError) as error:
            results.append(r.Pruned(tenant_id=name, policy=policy, dry_run=dry_run, error=error.as_dict()))
    return results


def prune_tenant(
    ctx: Context, tenant_id: str, guard: Guard, *, dry_run: bool, over: Callable[[], bool] = lambda: False
) -> r.Pruned:
    """Remove what a tenant's policy says, until nothing is left of it or `over`, which is asked between transactions.

    Raises:
        UsageError: It has no policy, or one by which nothing goes.
        Conflict: The guard refuses: nothing was removed. A dry run says so in its result.
    """
    with ctx.store.read():
        tenant_key = ctx.store.tenants.key(tenant_id)
        policy = None if tenant_key is None else ctx.store.retention.policy(tenant_key)
        if tenant_key is None or policy is None or not policy.removes:
            why = "has no policy" if policy is None or policy == Policy() else "has only rules of what to keep"
            raise UsageError(f"the tenant {tenant_id} {why}: nothing would ever go", hint=_HINT_SET)
        going = _Going(ctx, tenant_key, policy)
    refusal = going.refusal(guard)
    if dry_run:
        error = None if refusal is None else refusal.as_dict()
        return msgspec.structs.replace(going.as_planned(tenant_id), dry_run=True, error=error)
    if refusal is not None:
        raise refusal
    return _Removal(ctx, tenant_id, tenant_key, going, over).run()


class _Old:
    """What goes for its age alone: (key, bytes) of each, of as many as there are. 16 bytes a row but for agents."""

    def __init__(self, examined: int, found: Iterable[tuple[Any, int]], *, keys: list[str] | array[int]) -> None:
        self.examined = examined
        self._keys = keys
        self._sizes = array("q")
        for key, size_bytes in found:
            self._keys.append(key)
            self._sizes.append(size_bytes)

    @property
    def going(self) -> int:
        """How many go."""
        return len(self._keys)

    @property
    def bytes_freed(self) -> int:
        """What their text takes."""
        return sum(self._sizes)

    def __iter__(self) -> Iterator[tuple[Any, int]]:
        """Yield (key, bytes) of each."""
        return zip(self._keys, self._sizes, strict=True)


class _Going:
    """All that goes of a tenant, from one snapshot of it."""

    def __init__(self, ctx: Context, tenant_key: int, policy: Policy) -> None:
        self.policy = policy
        self.now_ms = now_ms = ctx.clock.now_ms()
        gate = ctx.store.retention
        records = gate.records(tenant_key, policy.keep_where) if policy.removes_episodes else ()
        self.episodes = apply(records, policy, now_ms)
        self.before_ms = {
            what: now_ms - age_ms
            for what, age_ms in (("items", policy.items_max_age_ms), ("events", policy.events_max_age_ms),
                                 ("agents", policy.agents_max_age_ms))
            if age_ms is not None
        }  # fmt: skip
        self.old: dict[str, _Old] = {}
        if "items" in self.before_ms:
            found = gate.old_items(tenant_key, self.before_ms["items"])
            self.old["items"] = _Old(gate.count_items(tenant_key), found, keys=array("q"))
        if "agents" in self.before_ms:
            agents = gate.old_agents(tenant_key, self.before_ms["agents"])
            self.old["agents"] = _Old(gate.count_agents(tenant_key), agents, keys=[])
        if "events" in self.before_ms:
            found = gate.old_events(tenant_key, self.before_ms["events"])
            self.old["events"] = _Old(gate.count_events(tenant_key), found, keys=array("q"))

    def refusal(self, guard: Guard) -> Conflict | None:
        """Return why the guard lets nothing go, if it does not."""
        numbers = {"episodes": (self.episodes.removed, self.episodes.examined)}
        numbers |= {what: (old.going, old.examined) for what, old in self.old.items()}
        over = {what: (going, of) for what, (going, of) in numbers.items() if guard.refuses(going, of)}
        if not over:
            return None
        said = ", ".join(f"{going:,} of {of:,} {what}" for what, (going, of) in over.items())
        most = f"{guard.max_rows:,}" if guard.max_rows is not None else f"{100 * guard.max_share:g}%"
        needed = max(-(-100 * going // of) if of else 100 for going, of in over.values())
        return Conflict(
            f"{said} would go, more than --max-delete {most}: nothing was removed",
            hint=f"is the clock right, and the policy (fedctl retention show)? If so: --max-delete {needed}%",
            details={"would_remove": {what: going for what, (going, _) in numbers.items()}},
        )

    def as_planned(self, tenant_id: str) -> r.Pruned:
        """Return what the run will have done."""
        return r.Pruned(
            tenant_id=tenant_id,
            policy=self.policy,
            dry_run=False,
            examined=self.episodes.examined,
            removed=self.episodes.removed,
            kept=self.episodes.examined - self.episodes.removed,
            reasons=self.episodes.reasons,
            bytes_freed=self.episodes.bytes_freed + sum(old.bytes_freed for old in self.old.values()),
            items_removed=self._old_going("items"),
            events_removed=self._old_going("events"),
            agents_removed=self._old_going("agents"),
        )

    def _old_going(self, what: str) -> int:
        return self.old[what].going if what in self.old else 0


class _Removal:
    """Removes what goes, a few rows a transaction, and counts what went."""

    def __init__(self, ctx: Context, tenant_id: str, tenant_key: int, going: _Going, over: Callable[[], bool]) -> None:
        self._ctx = ctx
        self._tenant_id = tenant_id
        self._key = tenant_key
        self._going = going
        self._over = over
        self._counts: Counter[str] = Counter()
        self._uncommitted: Counter[str] = Counter()
        self._steps = 0
        self._version = ctx.store.data_version()
        self._met_at_s = ctx.clock.monotonic_s()
        self._alone = False

    def run(self) -> r.Pruned:
        """Remove until nothing is left, or it is over."""
        # Events before agents: what the log has of an agent is old as well, and counted where it is planned.
        more = not (self._episodes() and self._items() and self._events() and self._agents())
        examined, removed = self._going.episodes.examined, self._counts["episodes"]
        reasons = {rule: self._counts[rule] for rule in self._going.episodes.reasons}
        return r.Pruned(
            tenant_id=self._tenant_id,
            policy=self._going.policy,
            dry_run=False,
            examined=examined,
            removed=removed,
            kept=examined - removed,
            reasons={rule: count for rule, count in reasons.items() if count},
            bytes_freed=self._counts["bytes"],
            items_removed=self._counts["items"],
            events_removed=self._counts["events"],
            agents_removed=self._counts["agents"],
            more=more,
        )

    def _step(self, remove: Callable[[], None]) -> bool:
        """Remove a little in a transaction of its own, then stand aside for a while; False when it is over."""
        if self._over():
            return False
        clock = self._ctx.clock
        self._uncommitted = Counter()
        with self._ctx.store.write():
            began_s = clock.monotonic_s()
            self._look_around(began_s)
            if not self._holds():
                return False
            remove()
        self._counts.update(self._uncommitted)
        self._steps += 1
        if self._ctx.hub is None and self._steps % CHECKPOINT_EVERY == 0:
            self._ctx.store.checkpoint()
        # The lock on writing is not fair: who takes it again at once keeps the others waiting.
        clock.sleep_s(ASIDE_LEAST_S if self._alone else PAUSE * (clock.monotonic_s() - began_s))
        return True

    def _look_around(self, now_s: float) -> None:
        """Note whether anybody else has committed something lately."""
        version = self._ctx.store.data_version()
        if version != self._version:
            self._version, self._met_at_s = version, now_s
        self._alone = now_s - self._met_at_s > ALONE_AFTER_S

    def _parts(self, rows: Iterable[T], size: int) -> Iterator[list[T]]:
        """Yield the rows, so many at a time, or more of them while nobody waits."""
        source = iter(rows)
        while part := list(islice(source, size * ALONE_TIMES if self._alone else size)):
            yield part

    def _all(self, parts: Iterable[list[T]], remove: Callable[[list[T]], None]) -> bool:
        """Remove part after part, each in a transaction of its own; False when it is over."""
        return all(self._part(part, remove) for part in parts)

    def _part(self, part: list[T], remove: Callable[[list[T]], None]) -> bool:
        try:
            return self._step(partial(remove, part))
        except DiskFull:  # on a disk that is nearly full there is room for the log of few rows only
            if len(part) == 1:
                raise
        half = len(part) // 2
        return self._part(part[:half], remove) and self._part(part[half:], remove)

    def _holds(self) -> bool:
        """Return whether the policy is what it was: somebody may have thought better of it meanwhile."""
        tenants, gate = self._ctx.store.tenants, self._ctx.store.retention
        return tenants.key(self._tenant_id) == self._key and gate.policy(self._key) == self._going.policy

    # -- episodes --------------------------------------------------------------------------------------------------

    def _episodes(self) -> bool:
        return self._all(self._parts(self._going.episodes, EPISODES_AT_ONCE), self._remove_episodes)

    def _remove_episodes(self, part: list[tuple[int, int, Rule]]) -> None:
        """Remove episodes with their words, vectors and log entries, and leave tombstones that say so to who pulls."""
        store, now_ms = self._ctx.store, self._ctx.clock.now_ms()
        found = store.retention.unpinned(self._key, [seq for seq, _, _ in part])
        if not found:
            return
        planned = {seq: (size_bytes, rule) for seq, size_bytes, rule in part}
        reasons = Counter(planned[seq][1] for seq, _ in found)
        # Before the entries are removed: so none of them is the newest of the log, which must stay.
        detail = {"count": len(found), "reasons": dict(reasons)}
        change = store.changes.add(self._key, "episodes_pruned", self._tenant_id, now_ms=now_ms, detail=detail)
        for seq, episode_id in found:
            store.episodes.remove(self._key, seq)
            store.episodes.bury(self._key, episode_id, change, now_ms)
        store.changes.remove(self._key, [seq for seq, _ in found])
        self._uncommitted.update(reasons, episodes=len(found), bytes=sum(planned[seq][0] for seq, _ in found))

    # -- items, events, agents -------------------------------------------------------------------------------------

    def _items(self) -> bool:
        gate, before_ms = self._ctx.store.retention, self._going.before_ms.get("items", 0)
        return self._old("items", lambda seqs: gate.remove_items(self._key, seqs, before_ms))

    def _events(self) -> bool:
        return self._old("events", lambda seqs: self._ctx.store.changes.remove(self._key, seqs))

    def _old(self, what: str, remove: Callable[[list[int]], int]) -> bool:
        def remove_part(part: list[tuple[int, int]]) -> None:
            self._note(what, remove([seq for seq, _ in part]), sum(size_bytes for _, size_bytes in part))

        return self._all(self._parts(self._going.old.get(what, ()), ROWS_AT_ONCE), remove_part)

    def _agents(self) -> bool:
        waiting = deque(self._going.old.get("agents", ()))
        while waiting:
            if not self._step(partial(self._remove_agents, waiting)):
                return False
        return True

    def _remove_agents(self, waiting: deque[tuple[str, int]]) -> None:
        """Remove the first of the agents, and what the log has of them, as far as a transaction is to go."""
        gate, before_ms = self._ctx.store.retention, self._going.before_ms["agents"]
        room = ROWS_AT_ONCE
        seqs: list[int] = []
        removed = size = 0
        while waiting and room > 0:
            agent_id, size_bytes = waiting[0]
            if gate.is_old_agent(self._key, agent_id, before_ms):
                changes = gate.agent_changes(self._key, agent_id, room + 1)
                seqs += changes[:room]
                if len(changes) > room:  # the agent goes with the last of them
                    break
                room -= len(changes)
                gate.remove_agent(self._key, agent_id)
                removed, size = removed + 1, size + size_bytes
            room -= 1
            waiting.popleft()
        self._note("agents", removed, size)
        self._ctx.store.changes.remove(self._key, seqs)

    def _note(self, what: str, removed: int, size_bytes: int) -> None:
        """Count what went, and tell the log."""
        if removed:
            self._uncommitted.update({what: removed, "bytes": size_bytes})
            now_ms = self._ctx.clock.now_ms()
            self._ctx.store.changes.add(self._key, "retention_pruned", what, now_ms=now_ms, detail={"count": removed})
