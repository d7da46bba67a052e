"""Histories of concurrent calls, and whether one order of them explains every answer. A module, not a program.

A history is what processes noted of their calls: when each began, when it was answered and with what (both on the
machine's monotonic clock). It is taken apart into histories of single objects: an episode; the items that share a
deduplication key; a record of settings; whether a pool is paused; a token. Each is searched for an order in which
every call has its effect at one moment between its beginning and its end, and a sequential model of the object gives
exactly the noted answers. If each object has one, the whole history has (Herlihy and Wing 1990, locality); the search
is theirs with Lowe's memory of configurations seen before (2017). What was never answered may have happened at any
time after it began, or never. What a lease's end does nobody calls: it may happen to a claimed item once its lease
can have run out, and not before.
"""

from __future__ import annotations

import json
from collections import defaultdict
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
    from pathlib import Path

MS = 1_000_000
SLACK_NS = 20 * MS
"""Leases go by wall time, in whole milliseconds, and the notes by the monotonic clock."""
NEVER = 1 << 62
MOST_STEPS = 3_000_000
MAX_RETRIES = 3
ANY = "?"
"""In a model's answer: whatever was answered is right."""
OPEN = ("pending", "delayed", "claimed")


class Call(NamedTuple):
    """What one process noted of one call; `end_ns` is None where no answer was."""

    by: str
    begin_ns: int
    end_ns: int | None
    what: str
    given: dict[str, Any]
    answer: Any = None
    error: str | None = None


class Op(NamedTuple):
    """A call's part in one object."""

    begin_ns: int
    end_ns: int | None
    by: str
    what: str
    given: dict[str, Any]
    answer: Any = None

    @property
    def latest_ns(self) -> int:
        """The last moment at which it can have had its effect."""
        return NEVER if self.end_ns is None else self.end_ns


class Model(Protocol):
    """A sequential object."""

    first: Hashable

    def outcomes(self, state: Any, op: Op) -> Iterable[tuple[Any, Hashable]]:
        """Yield each answer that the operation may give in this state, and the state after it."""
        ...


class Verdict(NamedTuple):
    """`holds` is None where the search was given up; `why` shows what could not be put in order."""

    holds: bool | None
    steps: int
    why: str = ""


# -- the search --------------------------------------------------------------------------------------------------


def linearize(ops: Sequence[Op], model: Model, most_steps: int = MOST_STEPS) -> Verdict:
    """Look for an order that explains every answer."""
    answered = sorted((op for op in ops if op.end_ns is not None), key=lambda op: op.begin_ns)
    lacking = [op for op in ops if op.end_ns is None]
    stack: list[tuple[int, int, int, Any]] = [(0, 0, 0, model.first)]
    seen = set(stack)
    best, steps = (0, stack[0]), 0
    while stack:
        low, done, taken, state = node = stack.pop()
        steps += 1
        if low == len(answered):
            return Verdict(True, steps)
        if steps > most_steps:
            return Verdict(None, steps, f"given up: {_stuck(answered, best[1])}")
        progress = low + done.bit_count()
        if progress > best[0]:
            best = (progress, node)
        places, soonest = _minimal(answered, low, done)
        following = [
            (low, done, taken | 1 << place, after)
            for place, op in enumerate(lacking)
            if not taken >> place & 1 and op.begin_ns <= soonest
            for _, after in model.outcomes(state, op)
            if after != state
        ]
        for place in sorted(places, key=lambda place: -answered[place].latest_ns):
            op = answered[place]
            for answer, after in model.outcomes(state, op):
                if agree(answer, op.answer):
                    following.append((*_without(low, done, place), taken, after))
        for one in following:  # what was never answered lies lowest: it is tried when nothing else goes on
            if one not in seen:
                seen.add(one)
                stack.append(one)
    return Verdict(False, steps, _stuck(answered, best[1]))


def _minimal(answered: Sequence[Op], low: int, done: int) -> tuple[list[int], int]:
    """Return which operations may come next, those that no other one ended before; and when the first of them ends."""
    places: list[int] = []
    soonest = NEVER
    for place in range(low, len(answered)):
        if done >> (place - low) & 1:
            continue
        op = answered[place]
        if op.begin_ns > soonest:
            break
        places.append(place)
        soonest = min(soonest, op.latest_ns)
    return places, soonest


def _without(low: int, done: int, place: int) -> tuple[int, int]:
    """Return the first operation that is still to come, and which of those after it are done (bits)."""
    done |= 1 << (place - low)
    while done & 1:
        low, done = low + 1, done >> 1
    return low, done


def agree(said: Any, noted: Any) -> bool:
    """Return whether a model's answer is the noted one."""
    if said in (ANY, noted):
        return True
    both = (list, tuple)
    if isinstance(said, both) and isinstance(noted, both) and len(said) == len(noted):
        return all(agree(one, other) for one, other in zip(said, noted, strict=True))
    return False


def _stuck(answered: Sequence[Op], node: tuple[int, int, int, Any]) -> str:
    low, done, _, state = node
    places, _ = _minimal(answered, low, done)
    zero = answered[0].begin_ns
    shown = [
        f"{op.by} {op.what} {json.dumps(op.given)} -> {json.dumps(op.answer)} "
        f"[{(op.begin_ns - zero) / MS:.1f}, {(op.latest_ns - zero) / MS:.1f}] ms"
        for op in (answered[place] for place in places[:4])
    ]
    return f"after {low + done.bit_count()} of {len(answered)} in state {state}: none of {shown} fits"


# -- the models --------------------------------------------------------------------------------------------------


class Episode(NamedTuple):
    """An episode that is there."""

    content: Any
    pinned: bool
    seq: Any


class EpisodeModel:
    """One episode id: nothing, an episode, a tombstone ("deleted"), or one without the id ("erased")."""

    first = "none"

    def outcomes(self, state: Any, op: Op) -> Iterable[tuple[Any, Hashable]]:
        """See `Model`."""
        if op.what == "store":
            return [self._stored(state, op)]
        if op.what == "prune":
            return self._pruned(state, op)
        if op.what == "erase":
            return self._erased(state)
        if not isinstance(state, Episode):
            return [("missing", state)]
        if op.what == "pin":
            pinned = op.given["pinned"]
            return [("same" if state.pinned == pinned else "changed", state._replace(pinned=pinned))]
        return [{"get": (list(state), state), "find": ("found", state), "delete": ("deleted", "deleted")}[op.what]]

    def _erased(self, state: Any) -> list[tuple[Any, Hashable]]:
        if state == "none":
            return [("missing", state)]
        # What is still being cleared away is answered like what was just erased.
        again = [("missing", state)] if state == "erased" else []
        return [("deleted", "erased"), *again]

    def _pruned(self, state: Any, op: Op) -> list[tuple[Any, Hashable]]:
        reward = state.content[1] if isinstance(state, Episode) and not state.pinned else None
        if reward is None or reward >= op.given["min_reward"]:
            return [(None, state)]
        return [(None, "deleted"), *([(None, state)] if op.given["more"] else [])]

    def _stored(self, state: Any, op: Op) -> tuple[Any, Hashable]:
        content = _hashable(op.given["content"])
        if state == "none":
            seq = ANY if op.answer is None else op.answer[1]
            return ["new", seq], Episode(content, False, seq)
        if isinstance(state, Episode):
            return (["existing", state.seq] if state.content == content else ["conflict", None]), state
        return ["deleted", None], state


class Item(NamedTuple):
    """An item that is there; times are in ns of the monotonic clock, the earliest that they can be."""

    status: str
    data: Any
    attempts: int = 0
    worker: str | None = None
    lease: str | None = None
    until_ns: int = 0
    result: Any = None
    error: str | None = None
    past: tuple[tuple[str | None, str], ...] = ()

    def ended(self, outcome: str, status: str, **more: Any) -> Item:
        """Return it given back."""
        past = (*self.past, (self.worker, outcome))
        return self._replace(status=status, worker=None, lease=None, past=past, **more)


Group = tuple[tuple[str, Item], ...]


class ItemModel:
    """The items of a pool that share a deduplication key; or one item without any."""

    first: Group = ()

    def __init__(self, *, keyed: bool) -> None:
        self._keyed = keyed

    def outcomes(self, state: Group, op: Op) -> Iterable[tuple[Any, Hashable]]:
        """See `Model`."""
        found: list[tuple[Any, Hashable]] = []
        for one in self._elapsed(state, op.latest_ns):
            found += self._now(dict(one), op)
        return found

    def _elapsed(self, state: Group, at_ns: int) -> Iterator[Group]:
        """Yield what the items may be by then: those whose lease can have run out may have been taken back."""
        states = [state]
        for item_id, item in state:
            if item.status == "claimed" and item.until_ns <= at_ns:
                poisoned = item.attempts >= MAX_RETRIES
                back = item.ended("expired", "poisoned" if poisoned else "pending", error="the lease ran out")
                states += [_with(dict(one), item_id, back) for one in states]
        yield from states

    def _now(self, items: dict[str, Item], op: Op) -> list[tuple[Any, Hashable]]:
        if op.what == "give_back":
            mine = sorted(
                i for i, item in items.items() if item.status == "claimed" and item.worker == op.given["worker"]
            )
            after = {i: _released(item) if i in mine else item for i, item in items.items()}
            return [(mine, _group(after))]
        if op.what == "purge":
            left = {i: item for i, item in items.items() if item.status != op.given["status"]}
            kept = [(None, _group(items))] if op.given["more"] and len(left) < len(items) else []
            return [(None, _group(left)), *kept]
        item_id = op.given["id"]
        item = items.get(item_id)
        if op.what == "push":
            return [self._push(items, item_id, item, op.given["data"])]
        if item is None:
            return [] if op.what == "claim" else [("not_found", _group(items))]
        if op.what == "read":
            return [(_record(item), _group(items))]
        changes = {"claim": _claim, "complete": _complete, "fail": _fail, "release": _release, "extend": _extend}
        if op.what == "retry":
            answer, changed = self._retry(items, item_id, item)
        else:
            answer, changed = changes[op.what](item, op)
        return [] if answer is None else [(answer, _with(items, item_id, changed))]

    def _push(self, items: dict[str, Item], item_id: str, item: Item | None, data: Any) -> tuple[Any, Hashable]:
        if item is None and self._keyed:
            item_id, item = next(((i, one) for i, one in items.items() if one.status in OPEN), (item_id, None))
        if item is None:
            return "new", _with(items, item_id, Item("pending", data))
        return (["existing", item_id] if item.data == data else "conflict"), _group(items)

    def _retry(self, items: dict[str, Item], item_id: str, item: Item) -> tuple[str, Item]:
        others = self._keyed and any(one.status in OPEN for i, one in items.items() if i != item_id)
        if item.status != "poisoned" or others:
            return "conflict", item
        return "new", item._replace(status="pending", attempts=0, error=None)  # its history still tells of it


def _claim(item: Item, op: Op) -> tuple[Any, Item]:
    if item.status != "pending" and not (item.status == "delayed" and item.until_ns <= op.latest_ns):
        return None, item
    until_ns = op.begin_ns + op.given["lease_ms"] * MS - SLACK_NS
    held = {"worker": op.given["worker"], "lease": op.given["lease"], "until_ns": until_ns}
    return item.attempts + 1, item._replace(status="claimed", attempts=item.attempts + 1, **held)


def _holds(item: Item, op: Op) -> bool:
    return item.status == "claimed" and item.lease == op.given["lease"]


def _complete(item: Item, op: Op) -> tuple[Any, Item]:
    result = _hashable(op.given["result"])
    if item.status == "done" and item.lease == op.given["lease"]:
        return ("existing" if item.result == result else "conflict"), item
    if not _holds(item, op):
        return "conflict", item
    return "new", item._replace(status="done", result=result, error=None)


def _fail(item: Item, op: Op) -> tuple[Any, Item]:
    if not _holds(item, op):
        return "conflict", item
    given = op.given
    status = "delayed" if given["retry_in_ms"] else "pending"
    if given["poison"] or item.attempts >= MAX_RETRIES:
        status = "poisoned"
    until_ns = op.begin_ns + given["retry_in_ms"] * MS - SLACK_NS
    return "new", item.ended("failed", status, error=given["error"], until_ns=until_ns)


def _release(item: Item, op: Op) -> tuple[Any, Item]:
    return ("new", _released(item)) if _holds(item, op) else ("conflict", item)


def _released(item: Item) -> Item:
    return item.ended("released", "pending", attempts=item.attempts - 1)


def _extend(item: Item, op: Op) -> tuple[Any, Item]:
    if not _holds(item, op):
        return "conflict", item
    return "new", item._replace(until_ns=op.begin_ns + op.given["lease_ms"] * MS - SLACK_NS)


def _record(item: Item) -> list[Any]:
    """Return what `pool item` says: `racer.record` makes the same of its answer."""
    status = "pending" if item.status == "delayed" else item.status
    under_way = [(item.worker, item.status)] if item.status in ("claimed", "done") else []
    history = [list(one) for one in (*item.past, *under_way)]
    return [status, item.attempts, item.worker, item.lease, item.result, item.error, item.data, history]


def _with(items: dict[str, Item], item_id: str, item: Item) -> Group:
    return _group(items | {item_id: item})


def _group(items: dict[str, Item]) -> Group:
    return tuple(sorted(items.items(), key=lambda one: one[0]))


def _hashable(value: Any) -> Any:
    return tuple(map(_hashable, value)) if isinstance(value, list) else value


class RecordModel:
    """Settings under one name: a change says which it sets, and answers with all of them."""

    def __init__(self, first: dict[str, Any]) -> None:
        self.first = tuple(sorted(first.items()))

    def outcomes(self, state: Any, op: Op) -> Iterable[tuple[Any, Hashable]]:
        """See `Model`."""
        after = dict(state) | op.given.get("set", {})
        # What was read may be less than all: a claim that got something says that its pool is not paused.
        return [(after, tuple(sorted(after.items())))]


class TokenModel:
    """A token from its issue on: good until it is revoked, and never again."""

    first = "welcome"

    def outcomes(self, state: Any, op: Op) -> Iterable[tuple[Any, Hashable]]:
        """See `Model`."""
        return [("denied", "denied")] if op.what == "revoke" else [(state, state)]


# -- from calls to objects ---------------------------------------------------------------------------------------


class Object(NamedTuple):
    """One object's part of a history."""

    name: str
    model: Model
    ops: list[Op]


def read_notes(file: Path) -> list[Call]:
    """Return what one process noted, but for what was refused; of a line that was cut there was no answer."""
    whole, _, _ = file.read_bytes().rpartition(b"\n")
    asked: dict[int, dict[str, Any]] = {}
    calls: list[Call] = []
    for line in whole.split(b"\n") if whole else ():
        note = json.loads(line)
        if "what" in note:
            asked[note["call"]] = note
            continue
        begun = asked.pop(note["call"])
        error = note.get("error")
        end_ns = None if error else note["at"]
        if error == "refused":
            continue
        calls.append(Call(begun["by"], begun["at"], end_ns, begun["what"], begun["given"], note.get("answer"), error))
    calls += [Call(one["by"], one["at"], None, one["what"], one["given"]) for one in asked.values()]
    return calls


class History:
    """All calls, by object."""

    def __init__(self, calls: Iterable[Call], settings: dict[str, dict[str, Any]]) -> None:
        """Take the calls apart; `settings` are the records that are changed, with what they say at first."""
        self.calls = sorted(calls, key=lambda call: call.begin_ns)
        self._settings = settings
        self._ops: dict[tuple[str, str], list[Op]] = defaultdict(list)
        self.pool_of: dict[str, str] = {}
        self._key_of: dict[str, str | None] = {}
        self._pushed_ns: dict[str, int] = {}
        self._stored: dict[str, tuple[int, float]] = {}
        self._seen: dict[str, set[str]] = defaultdict(set)
        self._there_last: set[str] = set()
        self._survey()
        for call in self.calls:
            if call.what in _PARTS and not (call.end_ns is None and call.what in _READS):
                for kind, name, op in _PARTS[call.what](self, call):
                    self._ops[kind, name].append(op)

    def objects(self) -> Iterator[Object]:
        """Yield every object that anything was done to."""
        for (kind, name), ops in self._ops.items():
            yield Object(f"{kind} {name}", self._model(kind, name), ops)

    def _model(self, kind: str, name: str) -> Model:
        if kind == "items":
            return ItemModel(keyed=name.startswith("key "))
        if kind == "episode":
            return EpisodeModel()
        return TokenModel() if kind == "token" else RecordModel(self._settings.get(name, {"paused": False}))

    def _survey(self) -> None:
        """Note where items lie, who is said to have claimed them, and what is there at the end."""
        for call in self.calls:
            for draft in pushed_by(call):
                self.pool_of[draft["id"]] = draft.get("pool") or call.given["pool"]
                self._key_of[draft["id"]] = draft.get("key")
                self._pushed_ns.setdefault(draft["id"], call.begin_ns)
            if call.what == "store":
                for episode_id, (_, reward) in call.given["episodes"]:
                    self._stored.setdefault(episode_id, (call.begin_ns, reward))
            for item_id, *_ in claimed_by(call):
                self._seen[call.given["worker"]].add(item_id)
            if call.what == "read" and call.end_ns is not None:
                self._there_last.discard(call.given["id"])
                if call.answer != "not_found":
                    self._there_last.add(call.given["id"])
                    for worker, _ in call.answer[-1]:
                        self._seen[worker].add(call.given["id"])

    def group(self, item_id: str) -> tuple[str, str]:
        """Return the object that an item belongs to."""
        key = self._key_of.get(item_id)
        return "items", item_id if key is None else f"key {self.pool_of[item_id]}/{key}"

    def items_before(self, pool: str, at_ns: int) -> list[str]:
        """Return the items of a pool that may have been pushed by then."""
        return [i for i, begun in self._pushed_ns.items() if begun <= at_ns and self.pool_of[i] == pool]

    def episodes_before(self, at_ns: int, below: float) -> list[str]:
        """Return the episodes that may have been stored by then, with a reward below that: an id has but one."""
        return [i for i, (begun, reward) in self._stored.items() if begun <= at_ns and reward < below]

    def claimed_ever(self, worker: str) -> set[str]:
        """Return the items that a worker had, by any answer."""
        return self._seen[worker]

    def maybe_claimed(self, pool: str, worker: str) -> list[str]:
        """Return the items that a claim without an answer may have got: the item's own record says who had it."""
        return [
            i for i, where in self.pool_of.items()
            if where == pool and (i in self._seen[worker] or i not in self._there_last)
        ]  # fmt: skip


Parts = "Iterator[tuple[str, str, Op]]"


def pushed_by(call: Call) -> list[dict[str, Any]]:
    """Return what a call pushes, or may have."""
    if call.what == "push":
        return list(call.given["items"])
    if call.what == "complete":
        return [
            {"id": one["then"], "pool": "after", "data": "follow"} for one in call.given["items"] if one.get("then")
        ]
    return []


def claimed_by(call: Call) -> list[Sequence[Any]]:
    """Return what a call claimed: id, lease, attempts."""
    if call.end_ns is None or call.what not in ("claim", "complete"):
        return []
    return list(call.answer if call.what == "claim" else call.answer["claimed"])


def _op(call: Call, what: str, given: dict[str, Any], answer: Any = None) -> Op:
    return Op(call.begin_ns, call.end_ns, call.by, what, given, answer)


def _answers(call: Call, count: int) -> Sequence[Any]:
    return [None] * count if call.end_ns is None else call.answer


def _push(history: History, call: Call) -> Iterator[tuple[str, str, Op]]:
    drafts = call.given["items"]
    for draft, answer in zip(drafts, _answers(call, len(drafts)), strict=True):
        yield *history.group(draft["id"]), _op(call, "push", {"id": draft["id"], "data": draft["data"]}, answer)


def _claims(history: History, call: Call) -> Iterator[tuple[str, str, Op]]:
    claim = call.given
    if claim["count"] == 0:
        return
    terms = {"worker": claim["worker"], "lease_ms": claim["lease_ms"]}
    if call.end_ns is None:
        for item_id in history.maybe_claimed(claim["pool"], claim["worker"]):
            given = {"id": item_id, "lease": claim["lease"] or ANY, **terms}
            yield *history.group(item_id), _op(call, "claim", given)
            # A hub that cannot deliver the answer gives the items back, and so does a command line.
            yield *history.group(item_id), _op(call, "release", given)
        return
    got = claimed_by(call)
    for item_id, lease, attempts in got:
        yield *history.group(item_id), _op(call, "claim", {"id": item_id, "lease": lease, **terms}, attempts)
    if got:
        yield "paused", claim["pool"], _op(call, "claim", {}, {"paused": False})


def _complete_all(history: History, call: Call) -> Iterator[tuple[str, str, Op]]:
    asked = call.given["items"]
    answers = [None] * len(asked) if call.end_ns is None else call.answer["results"]
    for one, answer in zip(asked, answers, strict=True):
        given = {"id": one["id"], "lease": one["lease"], "result": one["result"]}
        yield *history.group(one["id"]), _op(call, "complete", given, answer)
        # One that was refused, or repeated, has pushed nothing; whether the two always go together is `torn`'s.
        if one.get("then") and answer in (None, "new"):
            pushed = {"id": one["then"], "data": "follow"}
            yield *history.group(one["then"]), _op(call, "push", pushed, answer)
    yield from _claims(history, call)


def _each_item(history: History, call: Call) -> Iterator[tuple[str, str, Op]]:
    asked = call.given["items"]
    for one, answer in zip(asked, _answers(call, len(asked)), strict=True):
        yield *history.group(one["id"]), _op(call, call.what, one, answer)


def _read(history: History, call: Call) -> Iterator[tuple[str, str, Op]]:
    yield *history.group(call.given["id"]), _op(call, "read", call.given, call.answer)


def _give_back(history: History, call: Call) -> Iterator[tuple[str, str, Op]]:
    answered = set(() if call.end_ns is None else call.answer)
    by_group: dict[tuple[str, str], list[str]] = defaultdict(list)
    for item_id in history.claimed_ever(call.given["worker"]) | answered:
        by_group[history.group(item_id)].append(item_id)
    for group, ids in by_group.items():
        yield *group, _op(call, "give_back", call.given, sorted(answered.intersection(ids)))


def _purge(history: History, call: Call) -> Iterator[tuple[str, str, Op]]:
    more = call.end_ns is None or call.answer["more"]
    groups = dict.fromkeys(map(history.group, history.items_before(call.given["pool"], call.end_ns or NEVER)))
    for group in groups:
        yield *group, _op(call, "purge", {"status": call.given["status"], "more": more})


def _store(_: History, call: Call) -> Iterator[tuple[str, str, Op]]:
    drafts = call.given["episodes"]
    for (episode_id, content), answer in zip(drafts, _answers(call, len(drafts)), strict=True):
        yield "episode", episode_id, _op(call, "store", {"content": content}, answer)


def _each_episode(_: History, call: Call) -> Iterator[tuple[str, str, Op]]:
    for episode_id in call.given["ids"]:
        answer = None if call.end_ns is None else call.answer[episode_id]
        yield "episode", episode_id, _op(call, call.what, call.given, answer)


def _prune(history: History, call: Call) -> Iterator[tuple[str, str, Op]]:
    given = call.given | {"more": call.end_ns is None or call.answer["more"]}
    for episode_id in history.episodes_before(call.end_ns or NEVER, call.given["min_reward"]):
        yield "episode", episode_id, _op(call, "prune", given)


def _setting(_: History, call: Call) -> Iterator[tuple[str, str, Op]]:
    yield call.given["kind"], call.given["name"], _op(call, call.what, call.given, call.answer)


def _token(_: History, call: Call) -> Iterator[tuple[str, str, Op]]:
    yield "token", call.given["token"], _op(call, call.what, call.given, call.answer)


_PARTS: dict[str, Callable[[History, Call], Iterator[tuple[str, str, Op]]]] = {
    "push": _push, "claim": _claims, "complete": _complete_all, "fail": _each_item, "release": _each_item,
    "extend": _each_item, "retry": _each_item, "read": _read, "give_back": _give_back, "purge": _purge,
    "store": _store, "get": _each_episode, "find": _each_episode, "delete": _each_episode, "erase": _each_episode,
    "pin": _each_episode, "prune": _prune, "set": _setting, "show": _setting, "use": _token, "revoke": _token,
}  # fmt: skip
_READS = ("read", "get", "find", "show", "use")


# -- what spans objects ------------------------------------------------------------------------------------------


def torn(history: History) -> list[str]:
    """Return items that follow from a completion which was refused or never happened, or are missing after one.

    Their names carry the lease: only that completion pushes them. Of what was purged, and perhaps pushed anew, nothing
    is known.
    """
    last = {call.given["id"]: call.answer for call in history.calls if call.what == "read" and call.by == "last"}
    purged = {call.given["pool"] for call in history.calls if call.what == "purge"}
    wrong = []
    for call in history.calls:
        for one in call.given["items"] if call.what == "complete" else ():
            record = last.get(one["id"])
            if not one.get("then") or record is None:
                continue
            done = record != "not_found" and record[0] == "done" and record[3] == one["lease"]
            follows = last.get(one["then"], "not_found") != "not_found"
            gone = record == "not_found" or (not done and history.pool_of.get(one["id"]) in purged)
            if not gone and done != follows:
                wrong.append(f"{one['id']} is {'done' if done else 'not done'}, {one['then']} is there: {follows}")
    return wrong


def overlooked(history: History, pools: Sequence[str]) -> list[str]:
    """Return claims that got less than they asked for while an item lay claimable all the time.

    That is one whose push had been answered before and that nobody had begun to claim by then. Not for pools that
    are paused or purged.
    """
    first_claim: dict[str, int] = {}
    for call in history.calls:
        if call.what in ("claim", "complete") and call.given["count"]:
            maybe = history.maybe_claimed(call.given["pool"], call.given["worker"])
            for item_id in maybe if call.end_ns is None else [item_id for item_id, *_ in claimed_by(call)]:
                first_claim[item_id] = min(first_claim.get(item_id, NEVER), call.begin_ns)
    lying: dict[str, list[tuple[int, int, str]]] = defaultdict(list)
    for call in history.calls:
        for draft, answer in zip(pushed_by(call), _pushed_answers(call), strict=True):
            until = first_claim.get(draft["id"], NEVER)
            if answer == "new" and call.end_ns is not None and until > call.end_ns:
                lying[history.pool_of[draft["id"]]].append((call.end_ns, until, draft["id"]))
    wrong = []
    for call in history.calls:
        if call.end_ns is None or call.what != "claim" or call.given["pool"] not in pools:
            continue
        there = [i for since, until, i in lying[call.given["pool"]] if since < call.begin_ns and until > call.end_ns]
        if there and len(call.answer) < call.given["count"]:
            wrong.append(f"{call.by} claimed {len(call.answer)} of {call.given['count']} while {there[0]} lay there")
    return wrong


def _pushed_answers(call: Call) -> list[Any]:
    if call.end_ns is None:
        return [None] * len(pushed_by(call))
    if call.what == "push":
        return list(call.answer)
    if call.what == "complete":
        given = zip(call.given["items"], call.answer["results"], strict=True)
        return [answer for one, answer in given if one.get("then")]
    return []


def answers(history: History) -> int:
    """Return how many parts of calls were answered."""
    return sum(op.end_ns is not None for op in chain.from_iterable(history._ops.values()))  # noqa: SLF001
