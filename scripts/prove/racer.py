"""One process of `race`: does at random what can be done, and notes each call, before it is made and once answered.

    racer.py NAME NOTES (local | cli | URL) --begin NS --seed N [--until FILE] [--count N] [--rate N] [--pause-ms N]
             [--brief] [--token-file FILE] [--hub URL --tokens FOLDER]

Items and episodes have numbers, and whoever it is works on those whose time it is: `--rate` new ones a second, from
`--begin` on (monotonic). So all meet at the same few. `--brief` opens the home for each call anew. `--hub` is where
tokens are tried that others issue and revoke.

A call that failed is noted with the error's code: it may have happened. Then the process takes another name, so that a
name has at most one call of which nobody knows.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from fedctl import bootstrap, config
from fedctl.client.remote import RemoteCaller
from fedctl.errors import Denied, FedctlError, NotFound, of_exit
from fedctl.messages import memory as m
from fedctl.messages import pool as p
from fedctl.messages import retention as r
from fedctl.messages import tenant as t
from fedctl.messages import token as k
from fedctl.messages.hub import GetHubInfo
from fedctl.model.episode import EpisodeDraft
from fedctl.model.pool import Completion, FollowUp, ItemDraft, ItemFailure, Lease

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fedctl.model.pool import Item

TENANT = "race"
QUOTA_OF = "limited"
POOLS = ("one", "two", "spent", "gate")
"""`spent` is purged, `gate` is paused now and then; what follows from completions goes into the pool `after`."""
MIN_REWARD = 0.3
LEASES_MS = (150, 400, 1500, 30_000)
RETRY_PAUSE_S = 0.05
GIVE_UP_S = 60.0
LOOK_SHARE = 0.3
LOOKED_AT = ("store", "delete", "pin", "push", "complete", "fail", "release")
SETTINGS_AT_ONCE = 3
HELD, PINNED = 40, 8
KEPT = 30
"""Leases that were lost or used up, to be used again."""


def pool_of(number: int) -> str:
    """Return where an item is pushed: nine that follow each other lie together, for a key is one pool's."""
    return POOLS[number // 9 % len(POOLS)]


def key_of(number: int) -> str | None:
    """Return an item's deduplication key: three of nine share one."""
    return f"k{number // 9}" if number % 3 == 0 else None


def content_of(number: int, variant: str) -> list[Any]:
    """Return what an episode says: with its reward, by which a policy judges it."""
    return [variant, round(number * 7 % 10 / 10, 1)]


def _code(error: FedctlError) -> str:
    """Return what is noted of a call that failed: `refused` is one that another of its kind kept from beginning."""
    return "refused" if error.message.startswith("another ") else error.code


def record(answer: p.ItemAnswer) -> list[Any]:
    """Return what `pool item` says, as `history.ItemModel` does."""
    one = answer.item
    history = [[each.worker_id, each.outcome] for each in answer.history]
    return [one.status, one.attempts, one.claimed_by, one.lease_id, one.result, one.error, one.data, history]


def outcome(result: p.ItemResult) -> Any:
    """Return what a line of a batch came to, in a word."""
    if not result.ok:
        return (result.error or {})["code"]
    return "existing" if result.existing else "new"


def got(items: Sequence[Item]) -> list[list[Any]]:
    """Return what was claimed."""
    return [[one.id, one.lease_id, one.attempts] for one in items]


class Shell:
    """Carries out requests by command lines, a process each."""

    def __init__(self, home_hub: str = "auto") -> None:
        self._hub = home_hub

    def call(self, request: Any) -> Any:
        if isinstance(request, p.ClaimItems):
            said = self._run((0, 6), "pool", "claim", request.pool, "--worker", request.worker_id, "--count",
                             str(request.count), "--lease", f"{request.lease_ms}ms", "--json")  # fmt: skip
            return p.ClaimAnswer(items=msgspec.json.decode(said, type=list[p.Item]))
        if isinstance(request, p.GetItem):
            return msgspec.json.decode(self._run((0,), "pool", "item", request.id, "--json"), type=_ShownItem).answer()
        if isinstance(request, m.StoreEpisodes):
            said = self._batch(request.episodes, "memory", "store", "--batch")
            return m.StoreAnswer(results=[msgspec.convert(one, m.StoreResult) for one in said])
        if isinstance(request, m.GetEpisodes):
            (wanted,) = request.ids
            said = self._run((0, 4), "memory", "get", wanted, "--json")
            found = [msgspec.json.decode(said, type=m.Episode)] if said.strip() else []
            return m.GetAnswer(episodes=found, missing=[] if found else request.ids, rest=[])
        verb, lines = {
            p.PushItems: lambda: (("push", request.pool), request.items),
            p.CompleteItems: lambda: (("complete",), request.completions),
            p.FailItems: lambda: (("fail",), [_failure(one) for one in request.failures]),
            p.ReleaseItems: lambda: (("release",), request.leases),
        }[type(request)]()
        said = self._batch(lines, "pool", *verb, "--batch")
        return p.ItemResults(results=[msgspec.convert(one, p.ItemResult, strict=False) for one in said])

    def _batch(self, lines: Sequence[Any], *arguments: str) -> list[dict[str, Any]]:
        given = b"".join(msgspec.json.encode(one) + b"\n" for one in lines)
        said = self._run((0, 3), *arguments, stdin=given)
        answers = [msgspec.json.decode(line) for line in said.splitlines()]
        for one, answer in zip(lines, answers, strict=True):  # a refused line says which line it was
            answer["id"] = answer.get("id") or (one["id"] if isinstance(one, dict) else one.id)
        return answers

    def _run(self, codes: tuple[int, ...], *arguments: str, stdin: bytes | None = None) -> bytes:
        command = [sys.executable, "-m", "fedctl", "--hub", self._hub, "--tenant", TENANT, *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, check=False)
        if done.returncode not in codes:
            raise of_exit(done.returncode)(f"exit {done.returncode}: {done.stderr.decode(errors='replace')}")
        return done.stdout

    def close(self) -> None:
        """There is nothing to let go of."""


class _ShownItem(p.Item, frozen=True, kw_only=True):
    """An item as `pool item` shows it."""

    history: list[p.Attempt]

    def answer(self) -> p.ItemAnswer:
        return p.ItemAnswer(item=self, history=self.history)


def _failure(one: ItemFailure) -> dict[str, Any]:
    return {"id": one.id, "lease_id": one.lease_id, "error": one.error, "poison": one.poison,
            "retry_in": f"{one.retry_in_ms}ms"}  # fmt: skip


class Racer:
    """Does one thing after the other."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._dice = random.Random(f"{options.seed}/{options.name}")
        self._notes = os.open(options.notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._lives = 0
        self._calls = 0
        self._caller: Any = None
        self._aside: Any = None
        self._held: list[list[Any]] = []
        self._spent: list[list[Any]] = []
        self._tokens: list[str] = []
        self._tried_ns = 0
        verbs = SHELL_MIX if options.way == "cli" else MIX if options.hub else OFF_MIX
        self._verbs, self._weights = [verb for verb, _ in verbs], [weight for _, weight in verbs]

    def run(self) -> None:
        """Go on until it is over, or so many calls were made."""
        until = self._options.until and Path(self._options.until)
        while self._calls < self._options.count and not (until and until.exists()):
            (verb,) = self._dice.choices(self._verbs, self._weights)
            with contextlib.suppress(FedctlError):
                verb(self)
            time.sleep(self._dice.uniform(0, self._options.pause_ms / 1000))
        self._close()
        if self._aside is not None:
            self._aside.close()

    # -- asking and noting -----------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The name of this life."""
        return f"{self._options.name}.{self._lives}"

    def _note(self, **note: Any) -> None:
        os.write(self._notes, msgspec.json.encode(note) + b"\n")

    def _ask(self, what: str, given: dict[str, Any], request: Any, read: Callable[[Any], Any]) -> Any:
        """Make a call, and note it; look now and then, past the hub and at once, at what came of it."""
        answer = self._noted(what, given, lambda: read(self._connected().call(request)))
        if self._options.way not in ("local", "cli") and what in LOOKED_AT and self._dice.random() < LOOK_SHARE:
            self._aside = self._aside or _at_home()
            if what in ("store", "delete", "pin"):
                self._get([one if what != "store" else one[0] for one in given.get("ids") or given["episodes"]][:1])
            else:
                self._read(given["items"][0]["id"])
        return answer

    def _noted(self, what: str, given: dict[str, Any], call: Callable[[], Any]) -> Any:
        self._connected()  # before it begins: what could not even be asked needs no explaining
        self._calls += 1
        number = self._calls
        self._note(call=number, by=self.name, at=time.monotonic_ns(), what=what, given=given)
        try:
            answer = call()
        except FedctlError as error:
            self._note(call=number, at=time.monotonic_ns(), error=_code(error), message=error.message)
            self._lives += 1
            self._close()
            self._held.clear()
            raise
        self._note(call=number, at=time.monotonic_ns(), answer=answer)
        if self._options.brief:
            self._close()
        return answer

    def _close(self) -> None:
        caller, self._caller = self._caller, None
        if caller is not None:
            caller.close()

    def _connected(self) -> Any:
        give_up_at = time.monotonic() + GIVE_UP_S
        while self._caller is None:
            try:
                self._caller = self._connect()
            except FedctlError:
                if time.monotonic() > give_up_at:
                    raise SystemExit(f"{self._options.name}: nobody took it within {GIVE_UP_S:g} s") from None
                time.sleep(RETRY_PAUSE_S)
        return self._caller

    def _connect(self) -> Any:
        options = self._options
        if options.way == "cli":
            return Shell()
        if options.way == "local":
            return _at_home()
        if options.token_file is None:
            return RemoteCaller(options.way, tenant_id=TENANT)
        return RemoteCaller(options.way, token=Path(options.token_file).read_text())

    def _number(self) -> int:
        since_s = max(0.0, (time.monotonic_ns() - self._options.begin) / 1e9)
        return int(since_s * self._options.rate) + self._dice.randrange(8)

    def _variant(self) -> str:
        return "b" if self._dice.random() < 0.08 else "a"

    # -- items -----------------------------------------------------------------------------------------------------

    def push(self) -> None:
        """Push one or two."""
        first = self._number()
        same = [n for n in range(first, first + self._dice.choice((1, 1, 2))) if pool_of(n) == pool_of(first)]
        drafts = [{"id": f"i{n}", "key": key_of(n), "data": self._variant()} for n in same]
        request = p.PushItems(pool=pool_of(first), items=[ItemDraft(**one) for one in drafts])

        def read(answer: p.ItemResults) -> list[Any]:
            return [["existing", one.id] if one.existing else outcome(one) for one in answer.results]

        self._ask("push", {"pool": pool_of(first), "items": drafts}, request, read)

    def _terms(self, count: int) -> dict[str, Any]:
        return {
            "pool": self._dice.choice((*POOLS, "after")), "worker": self.name, "count": count,
            "lease": None if self._options.way == "cli" else f"{self.name}/{self._calls}",
            "lease_ms": self._dice.choice(LEASES_MS),
        }  # fmt: skip

    def claim(self) -> None:
        """Claim up to four."""
        terms = self._terms(self._dice.choice((1, 1, 2, 4)))
        self._held += self._ask("claim", terms, _claim(terms), lambda answer: got(answer.items))

    def _take(self) -> list[Any] | None:
        if not self._held:
            self.claim()
            return None
        return self._held.pop(self._dice.randrange(len(self._held)))

    def _use_up(self, held: list[Any]) -> None:
        self._spent = [*self._spent[1 - KEPT :], held]

    def complete(self) -> None:
        """Complete one, with what follows from it or not, and take the next along or not."""
        held = self._take()
        if held is not None:
            self._complete(held, [self.name, held[1]])

    def complete_again(self) -> None:
        """Complete one that is done, or lost, with the same result or with another."""
        if self._spent:
            held = self._dice.choice(self._spent)
            self._complete(held, self._dice.choice(([self.name, held[1]], "another")))

    def _complete(self, held: list[Any], result: Any) -> None:
        item_id, lease, _ = held
        along = self._options.way != "cli"
        terms = self._terms(self._dice.choice((0, 1, 2)) if along else 0)
        follows = along and self._dice.random() < 0.2 and "/" in lease and not item_id.startswith("f-")
        # One name for each time it is tried: who pushed it is known then.
        then = f"f-{item_id}-{lease}-{self._calls}" if follows and held not in self._spent else None
        asked = [{"id": item_id, "lease": lease, "result": result, "then": then}]
        follow_up = [FollowUp(pool="after", item=ItemDraft(id=then, data="follow"))] if then else []
        one = Completion(id=item_id, lease_id=lease, result=result, then_push=follow_up)
        request = p.CompleteItems(completions=[one], claim=_claim(terms) if terms["count"] else None)
        self._use_up(held)

        def read(answer: p.ItemResults) -> dict[str, Any]:
            return {"results": [outcome(one) for one in answer.results], "claimed": got(answer.claimed)}

        self._held += self._ask("complete", {"items": asked, **terms}, request, read)["claimed"]

    def fail(self) -> None:
        """Fail one."""
        held = self._take()
        if held is None:
            return
        item_id, lease, _ = held
        given = {
            "id": item_id, "lease": lease, "error": f"failed by {self.name}",
            "retry_in_ms": self._dice.choice((0, 0, 100)),
            "poison": self._dice.random() < 0.2,
        }  # fmt: skip
        one = ItemFailure(lease_id=lease, **{name: given[name] for name in ("id", "error", "retry_in_ms", "poison")})
        self._use_up(held)
        self._ask("fail", {"items": [given]}, p.FailItems(failures=[one]), _outcomes)

    def release(self) -> None:
        """Give one back."""
        held = self._take()
        if held is not None:
            given = {"id": held[0], "lease": held[1]}
            self._use_up(held)
            self._ask(
                "release", {"items": [given]}, p.ReleaseItems(leases=[Lease(id=held[0], lease_id=held[1])]), _outcomes
            )

    def extend(self) -> None:
        """Keep one longer, perhaps one that is lost."""
        held = self._dice.choice(self._held + self._spent[-2:] or [None])
        if held is not None:
            given = {"id": held[0], "lease": held[1], "lease_ms": self._dice.choice(LEASES_MS)}
            request = p.ExtendItems(leases=[Lease(id=held[0], lease_id=held[1])], lease_ms=given["lease_ms"])
            self._ask("extend", {"items": [given]}, request, _outcomes)

    def forget(self) -> None:
        """Say nothing of one, until its lease has run out."""
        held = self._take()
        if held is not None:
            self._use_up(held)

    def give_back(self) -> None:
        """Give all back."""
        request = p.ReleaseWorker(worker_id=self.name)
        self._ask("give_back", {"worker": self.name}, request, lambda answer: [one.id for one in answer.results])
        self._held.clear()

    def read(self) -> None:
        """Look at one."""
        self._read(f"i{self._number()}")

    def _read(self, item_id: str) -> None:
        def look() -> Any:
            try:
                return record((self._aside or self._connected()).call(p.GetItem(id=item_id)))
            except NotFound:
                return "not_found"

        self._noted("read", {"id": item_id}, look)

    def retry(self) -> None:
        """Give some a fresh budget."""
        ids = [f"i{n}" for n in {self._number() for _ in range(3)}]
        self._ask("retry", {"items": [{"id": one} for one in ids]}, p.RetryItems(ids=ids), _outcomes)

    def purge(self) -> None:
        """Delete what is done, or poisoned."""
        status = self._dice.choice(("done", "done", "poisoned"))

        def read(answer: p.PurgeAnswer) -> dict[str, Any]:
            return {"deleted": answer.deleted, "more": answer.more}

        self._ask("purge", {"pool": "spent", "status": status}, p.PurgePool(pool="spent", status=status), read)

    # -- episodes --------------------------------------------------------------------------------------------------

    def store(self) -> None:
        """Store one to three."""
        numbers = {self._number() for _ in range(self._dice.choice((1, 1, 3)))}
        self._store([(f"e{n}", content_of(n, self._variant())) for n in numbers])

    def hold(self) -> None:
        """Store some that the policy lets go, and pin the last one by one while a prune is at the others.

        A prune takes a few at a time, the oldest first: those that it has not come to stay.
        """
        ids = [f"{self.name}-{self._calls}-{n}" for n in range(HELD)]
        connected, go = threading.Event(), threading.Event()
        pruning = threading.Thread(target=self._prune_beside, args=(connected, go), daemon=True)
        pruning.start()
        try:
            connected.wait(GIVE_UP_S)
            self._store([(one, ["held", 0.0]) for one in ids])
            go.set()
            for one in reversed(ids[-PINNED:]):
                self._pin([one], pinned=True)
        finally:
            go.set()
            pruning.join()

    def _prune_beside(self, connected: threading.Event, go: threading.Event) -> None:
        """Carry out the policy once told to, on a connection of its own."""
        with contextlib.suppress(FedctlError), contextlib.closing(self._connect()) as caller:
            connected.set()
            go.wait(GIVE_UP_S)
            number = f"{self.name}-beside"
            note = {"call": number, "by": number}
            self._note(**note, at=time.monotonic_ns(), what="prune", given={"min_reward": MIN_REWARD})
            try:
                answer = caller.call(r.Prune(max_rows=1_000_000), tenant_id=TENANT)
            except FedctlError as error:
                self._note(call=number, at=time.monotonic_ns(), error=_code(error), message=error.message)
            else:
                self._note(call=number, at=time.monotonic_ns(), answer={"more": answer.results[0].more})

    def _store(self, drafts: Sequence[tuple[str, list[Any]]]) -> None:
        # Each has a word of its own, by which it is found.
        episodes = [
            EpisodeDraft(id=one, task=f"word{one} {content[0]}", input=content, reward=content[1])
            for one, content in drafts
        ]

        def read(answer: m.StoreAnswer) -> list[Any]:
            return [[stored(one), None if one.deleted or not one.ok else one.seq] for one in answer.results]

        self._ask("store", {"episodes": drafts}, m.StoreEpisodes(episodes=episodes), read)

    def get(self) -> None:
        """Fetch one."""
        self._get([f"e{self._number()}"])

    def _get(self, ids: list[str]) -> None:
        def look() -> dict[str, Any]:
            found = (self._aside or self._connected()).call(m.GetEpisodes(ids=ids)).episodes
            return {one.id: [one.input, one.pinned, one.seq] for one in found} or dict.fromkeys(ids, "missing")

        self._noted("get", {"ids": ids}, look)

    def find(self) -> None:
        """Search for one by its word."""
        (wanted,) = ids = [f"e{self._number()}"]

        def read(answer: m.QueryAnswer) -> dict[str, Any]:
            return {wanted: "found" if any(one.id == wanted for one in answer.hits) else "missing"}

        self._ask("find", {"ids": ids}, m.QueryEpisodes(text=f"word{wanted}", k=3, mode="keyword"), read)

    def delete(self) -> None:
        """Delete one or two."""
        self._remove("delete", m.DeleteEpisodes)

    def erase(self) -> None:
        """Erase one or two."""
        self._remove("erase", m.EraseEpisodes)

    def _remove(self, what: str, kind: Any) -> None:
        ids = [f"e{n}" for n in {self._number() for _ in range(self._dice.choice((1, 2)))}]

        def read(answer: Any) -> dict[str, str]:
            return {one: "deleted" if one in answer.deleted else "missing" for one in ids}

        self._ask(what, {"ids": ids}, kind(ids=ids), read)

    def pin(self) -> None:
        """Pin one, or let it go again."""
        self._pin([f"e{self._number()}"], pinned=self._dice.random() < 0.6)

    def _pin(self, ids: list[str], *, pinned: bool) -> None:
        def read(answer: m.PinAnswer) -> dict[str, str]:
            return {
                one: "changed" if one in answer.changed else "missing" if one in answer.missing else "same"
                for one in ids
            }

        self._ask("pin", {"ids": ids, "pinned": pinned}, m.PinEpisodes(ids=ids, pinned=pinned), read)

    def prune(self) -> None:
        """Carry out the policy."""
        request = r.Prune(max_rows=1_000_000)
        self._ask("prune", {"min_reward": MIN_REWARD}, request, lambda answer: {"more": answer.results[0].more})

    # -- the rest --------------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Pause a pool; soon let it go on."""
        for paused in (True, False):
            given = {"kind": "paused", "name": "gate", "set": {"paused": paused}}
            self._ask(
                "set", given, p.PausePool(name="gate", paused=paused), lambda answer: {"paused": answer.pool.paused}
            )
            time.sleep(self._dice.uniform(0, 0.05))

    def show_pool(self) -> None:
        """Look whether it is paused."""
        given = {"kind": "paused", "name": "gate"}
        self._ask("show", given, p.GetPool(name="gate"), lambda answer: {"paused": answer.pool.paused})

    def quota(self) -> None:
        """Set one of a tenant's quotas, or look at them."""
        for _ in range(SETTINGS_AT_ONCE):
            name = self._dice.choice(("max_episodes", "max_bytes", "rate_per_s"))
            change = {name: self._dice.randrange(1000, 9000)}
            given: dict[str, Any] = {"kind": "record", "name": "quota"}
            if self._dice.random() < 0.5:
                self._ask("set", given | {"set": change}, t.SetTenant(name=QUOTA_OF, **change), _quota)
            else:
                self._ask("show", given, t.GetTenant(name=QUOTA_OF), _quota)

    def policy(self) -> None:
        """Set one of the policy's rules, or look at them."""
        for _ in range(SETTINGS_AT_ONCE):
            name = self._dice.choice(("agents_max_age_ms", "keep_last"))
            # No more than a rule can say: nothing is to be kept by it.
            change = {
                name: self._dice.randrange(1, 1000) * 10**9 if name != "keep_last" else self._dice.choice((0, None))
            }
            given: dict[str, Any] = {"kind": "record", "name": "policy"}
            if self._dice.random() < 0.5:
                self._ask("set", given | {"set": change}, r.SetPolicy(**change), _policy)
            else:
                self._ask("show", given, r.GetPolicy(), _policy)

    def issue(self) -> None:
        """Issue a token, for all to try."""
        issued = self._connected().call(k.IssueToken(tenant_id=TENANT, ttl_ms=3_600_000))
        unfinished = Path(self._options.tokens) / f".{issued.record.id}"
        unfinished.write_text(issued.token)
        unfinished.rename(unfinished.with_name(issued.record.id))

    def _some_token(self) -> Path | None:
        there = sorted(one for one in Path(self._options.tokens).iterdir() if not one.name.startswith("."))
        return self._dice.choice(there[-4:]) if there else None

    def revoke(self) -> None:
        """Revoke a token."""
        token = self._some_token()
        if token is not None:
            self._ask("revoke", {"token": token.name}, k.RevokeToken(id=token.name),
                      lambda answer: "denied" if answer.record.revoked_at else "welcome")  # fmt: skip

    def use(self) -> None:
        """Open a session with a token."""
        token = self._some_token()
        if token is None:
            self.issue()
            return

        def enter() -> str:
            try:
                with contextlib.closing(RemoteCaller(self._options.hub, token=token.read_text())) as caller:
                    caller.call(GetHubInfo())
            except Denied:
                return "denied"
            return "welcome"

        self._noted("use", {"token": token.name}, enter)


def stored(result: m.StoreResult) -> str:
    """Return what became of an episode, in a word."""
    if not result.ok:
        return str((result.error or {})["code"])
    return "deleted" if result.deleted else "existing" if result.existing else "new"


def _at_home() -> Any:
    return bootstrap.open_caller(config.load({"hub": "off", "tenant": TENANT}, os.environ), writes=True)


def _claim(terms: dict[str, Any]) -> p.ClaimItems:
    return p.ClaimItems(
        pool=terms["pool"], worker_id=terms["worker"], count=terms["count"], lease_ms=terms["lease_ms"],
        lease_id=terms["lease"],
    )  # fmt: skip


def _outcomes(answer: p.ItemResults) -> list[Any]:
    return [outcome(one) for one in answer.results]


def _quota(answer: t.TenantAnswer) -> dict[str, Any]:
    return {name: getattr(answer.tenant, name) for name in ("max_episodes", "max_bytes", "rate_per_s")}


def _policy(answer: r.PolicyAnswer) -> dict[str, Any]:
    return {name: getattr(answer.policy, name) for name in ("agents_max_age_ms", "keep_last", "min_reward")}


SHELL_MIX = (
    (Racer.push, 4), (Racer.claim, 3), (Racer.complete, 4), (Racer.complete_again, 1), (Racer.fail, 1),
    (Racer.release, 1), (Racer.store, 4), (Racer.get, 2), (Racer.read, 2),
)  # fmt: skip
OFF_MIX = (
    (Racer.push, 14), (Racer.claim, 8), (Racer.complete, 12), (Racer.complete_again, 4), (Racer.fail, 6),
    (Racer.release, 3), (Racer.extend, 4), (Racer.forget, 3), (Racer.give_back, 0.7), (Racer.read, 9),
    (Racer.retry, 3), (Racer.purge, 1), (Racer.store, 14), (Racer.get, 8), (Racer.find, 4), (Racer.delete, 4),
    (Racer.erase, 0.5), (Racer.pin, 6), (Racer.prune, 0.3), (Racer.hold, 0.2), (Racer.pause, 1),
    (Racer.show_pool, 2), (Racer.quota, 3), (Racer.policy, 3),
)  # fmt: skip
MIX = (*OFF_MIX, (Racer.issue, 0.5), (Racer.revoke, 0.7), (Racer.use, 2))


def main() -> None:
    """Race."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("notes")
    parser.add_argument("way")
    parser.add_argument("--begin", type=int, required=True)
    parser.add_argument("--seed", required=True)
    parser.add_argument("--until")
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--rate", type=float, default=10)
    parser.add_argument("--pause-ms", type=float, default=20)
    parser.add_argument("--brief", action="store_true")
    parser.add_argument("--token-file")
    parser.add_argument("--hub")
    parser.add_argument("--tokens")
    Racer(parser.parse_args()).run()


if __name__ == "__main__":
    main()
