"""What judges `scripts/prove/race`: histories that are right hold, and each that was made wrong is found out."""

from __future__ import annotations

import json

import pytest

from scripts.prove.history import MS, Call, History, linearize, overlooked, read_notes, torn

LEASE = {"pool": "one", "lease": None, "lease_ms": 1000, "count": 1}


class Notes(list):
    """Calls one after the other, 10 ms each, unless it is said when."""

    def note(self, by, what, given, answer=None, *, at=None, ended=True):  # noqa: PLR0913
        begin = (len(self) * 10 if at is None else at[0]) * MS
        end = (len(self) * 10 + 9 if at is None else at[1]) * MS
        self.append(Call(by, begin, end if ended else None, what, given, answer))
        return self

    def push(self, by="w", answer="new", **more):
        return self.note(
            by, "push", {"pool": "one", "items": [{"id": "i", "key": None, "data": "a"}]}, [answer], **more
        )

    def claim(self, by, lease, attempts=1, **more):
        got = [["i", lease, attempts]] if attempts else []
        return self.note(by, "claim", {**LEASE, "worker": by}, got, **more)

    def complete(self, by, lease, answer="new", **more):
        given = {
            "items": [{"id": "i", "lease": lease, "result": by, "then": more.pop("then", None)}],
            **LEASE,
            "count": 0,
        }
        return self.note(by, "complete", {**given, "worker": by}, {"results": [answer], "claimed": []}, **more)

    def fail(self, by, lease, answer="new", **more):
        given = {"id": "i", "lease": lease, "error": "no", "retry_in_ms": 0, "poison": False}
        return self.note(by, "fail", {"items": [given]}, [answer], **more)

    def read(self, *record, item="i", **more):
        return self.note("last", "read", {"id": item}, list(record) if record else "not_found", **more)

    def store(self, answer="new", seq=1, content=("a", 0.5), **more):
        return self.note("w", "store", {"episodes": [["e", list(content)]]}, [[answer, seq]], **more)

    def episode(self, what, answer, **more):
        given = {"ids": ["e"], **({"pinned": more.pop("pinned")} if "pinned" in more else {})}
        return self.note("w", what, given, {"e": answer}, **more)

    def prune(self, **more):
        return self.note("w", "prune", {"min_reward": 0.3}, {"more": False}, **more)

    def set(self, what, answer, **change):
        given = {"kind": "record", "name": "quota", **({"set": change} if change else {})}
        return self.note("w", what, given, answer)


def verdict(notes):
    told = History(notes, {"quota": {"rows": 1, "bytes": 1}})
    return all(linearize(one.ops, one.model).holds for one in told.objects())


DONE = ("done", 1, "w", "L1", "w", None, "a", [["w", "done"]])
TWICE = ("done", 2, "v", "L2", "v", None, "a", [["w", "expired"], ["v", "done"]])
LATER = {"at": (2000, 2009)}

RIGHT = {
    "an item is pushed, claimed and done": Notes().push().claim("w", "L1").complete("w", "L1").read(*DONE),
    "a completion is repeated": Notes().push().claim("w", "L1").complete("w", "L1").complete("w", "L1", "existing"),
    "a lease ends and another claims": (
        Notes().push().claim("w", "L1").claim("v", "L2", 2, **LATER).complete("v", "L2", at=(2010, 2019))
        .complete("w", "L1", "conflict", at=(2020, 2029)).read(*TWICE, at=(2030, 2039))
    ),
    "an item poisoned by its third lease": (
        Notes().push().claim("w", "L1").fail("w", "L1").claim("w", "L2", 2).fail("w", "L2").claim("w", "L3", 3)
        .read("poisoned", 3, None, None, None, "the lease ran out", "a",
              [["w", "failed"], ["w", "failed"], ["w", "expired"]], at=(2000, 2009))
    ),
    "a claim that was never answered had an effect": (
        Notes().push().claim("w", "L1", ended=False).read("claimed", 1, "w", "L1", None, None, "a", [["w", "claimed"]])
    ),
    "a claim that was never answered had none": (
        Notes().push().claim("w", "L1", ended=False).read("pending", 0, None, None, None, None, "a", [])
    ),
    "a deleted episode stays away": (
        Notes().store().episode("delete", "deleted").episode("get", "missing").store("deleted", None)
    ),
    "a read beside a delete sees it or not": (
        Notes().store().episode("delete", "deleted", at=(10, 40)).episode("get", "missing", at=(20, 22))
        .episode("get", "missing", at=(24, 26))
    ),
    "a prune that leaves what is pinned": (
        Notes().store(content=("a", 0.1)).episode("pin", "changed", pinned=True).prune()
        .episode("get", [["a", 0.1], True, 1])
    ),
    "two that set different fields": (
        Notes().set("set", {"rows": 5, "bytes": 1}, rows=5).set("set", {"rows": 5, "bytes": 7}, bytes=7)
    ),
    "a token is good until it is revoked": (
        Notes().note("w", "use", {"token": "t"}, "welcome").note("w", "revoke", {"token": "t"}, "denied")
        .note("w", "use", {"token": "t"}, "denied")
    ),
}  # fmt: skip

WRONG = {
    "two hold one item": Notes().push().claim("w", "L1").claim("v", "L2", 2),
    "two hold one item, at the same time": (
        Notes().push().claim("w", "L1", at=(10, 30)).claim("v", "L2", at=(11, 31))
    ),
    "who lost the lease completes": (
        Notes().push().claim("w", "L1").claim("v", "L2", 2, **LATER).complete("w", "L1", at=(2010, 2019))
    ),
    "who has the lease is refused": Notes().push().claim("w", "L1").complete("w", "L1", "conflict"),
    "a completion was acknowledged and is lost": (
        Notes().push().claim("w", "L1").complete("w", "L1").read("pending", 1, None, None, None, None, "a", [])
    ),
    "an item is done by two": (
        Notes().push().claim("w", "L1").complete("w", "L1").claim("v", "L2", 2, **LATER)
        .complete("v", "L2", at=(2010, 2019))
    ),
    "a push was acknowledged and is lost": Notes().push().read(),
    "an item was pushed twice": Notes().push().push(),
    "an attempt that nobody counted": (
        Notes().push().claim("w", "L1").fail("w", "L1")
        .read("pending", 0, None, None, None, "no", "a", [["w", "failed"]])
    ),
    "an attempt that was counted twice": Notes().push().claim("w", "L1").fail("w", "L1").claim("w", "L2", 3),
    "a fourth attempt": (
        Notes().push().claim("w", "L1").fail("w", "L1").claim("w", "L2", 2).fail("w", "L2").claim("w", "L3", 3)
        .fail("w", "L3").claim("w", "L4", 4)
    ),
    "a lease that ended too early": Notes().push().claim("w", "L1").claim("v", "L2", 2, at=(800, 809)),
    "a stale read of an item": (
        Notes().push().claim("w", "L1").complete("w", "L1")
        .read("claimed", 1, "w", "L1", None, None, "a", [["w", "claimed"]])
    ),
    "two unfinished items with one key": Notes(
        Call("w", n, n, "push", {"pool": "one", "items": [{"id": f"i{n}", "key": "k", "data": "a"}]}, ["new"])
        for n in range(2)
    ),
    "a stale read": Notes().store().episode("get", "missing"),
    "an episode was acknowledged and is lost": Notes().store().store(),
    "a deleted episode comes back": (
        Notes().store().episode("delete", "deleted").episode("get", [["a", 0.5], False, 1])
    ),
    "a deleted episode is stored again": Notes().store().episode("delete", "deleted").store("new", 2),
    "two that delete the same": Notes().store().episode("delete", "deleted").episode("delete", "deleted"),
    "first gone, then there": (
        Notes().store().episode("delete", "deleted", at=(10, 40)).episode("get", "missing", at=(20, 22))
        .episode("get", [["a", 0.5], False, 1], at=(24, 26))
    ),
    "an episode changed its number": Notes().store().store("existing", 2),
    "other content was taken": Notes().store().store("existing", 1, content=("b", 0.5)),
    "a prune took what was pinned": (
        Notes().store(content=("a", 0.1)).episode("pin", "changed", pinned=True).prune().episode("get", "missing")
    ),
    "a prune left what was to go": (
        Notes().store(content=("a", 0.1)).prune().episode("get", [["a", 0.1], False, 1])
    ),
    "one change undoes another": (
        Notes().set("set", {"rows": 5, "bytes": 1}, rows=5).set("set", {"rows": 1, "bytes": 7}, bytes=7)
    ),
    "a revoked token is good": (
        Notes().note("w", "revoke", {"token": "t"}, "denied").note("w", "use", {"token": "t"}, "welcome")
    ),
    "a claim from a paused pool": (
        Notes().push().note("w", "set", {"kind": "paused", "name": "one", "set": {"paused": True}}, {"paused": True})
        .claim("w", "L1")
    ),
    "an item is there after its purge": (
        Notes().push().claim("w", "L1").complete("w", "L1")
        .note("w", "purge", {"pool": "one", "status": "done"}, {"deleted": 0, "more": False}).read(*DONE)
    ),
    "a worker gave all back, and holds one": (
        Notes().push().claim("w", "L1").note("w", "give_back", {"worker": "w"}, []).complete("w", "L1")
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
def test_an_order_is_found_where(name):
    assert verdict(RIGHT[name])


@pytest.mark.parametrize("name", WRONG)
def test_no_order_is_found_where(name):
    assert not verdict(WRONG[name])


@pytest.mark.parametrize("name", WRONG)
def test_it_is_found_beside_what_was_never_answered(name):
    # A process was killed in the middle of some other thing.
    assert not verdict(Notes([*WRONG[name], Call("k", 0, None, "get", {"ids": ["e"]})]))


def test_what_nobody_answered_may_come_late_but_once():
    notes = Notes().push(ended=False).note("last", "read", {"id": "i"}, "not_found")
    there = ["pending", 0, None, None, None, None, "a", []]
    assert verdict(Notes(notes).read(*there))
    assert not verdict(Notes(notes).read(*there).read())


def test_a_search_that_takes_too_long_is_given_up_and_says_so():
    notes = Notes().store()
    for _ in range(12):
        notes.episode("get", [["a", 0.5], False, 1], at=(20, 90))
    told = History(notes.episode("get", "missing", at=(20, 90)), {})
    (one,) = told.objects()
    assert linearize(one.ops, one.model, most_steps=5).holds is None
    assert linearize(one.ops, one.model).holds is False


def test_a_follow_up_without_its_completion_is_torn():
    notes = Notes().push().claim("w", "L1").complete("w", "L1", then="f").read(*DONE)
    assert torn(History([*notes], {})) == ["i is done, f is there: False"]
    there = ("pending", 0, None, None, None, None, "follow", [])
    assert torn(History(Notes(notes).read(*there, item="f"), {})) == []


def test_a_follow_up_of_what_was_purged_and_pushed_anew_is_not_torn():
    there = ("pending", 0, None, None, None, None, "follow", [])
    notes = Notes().push().claim("w", "L1").complete("w", "L1", then="f").read(*there, item="f")
    anew = notes.read("pending", 0, None, None, None, None, "a", [])
    assert torn(History([*anew], {})) == ["i is not done, f is there: True"]
    assert torn(History([*anew.note("w", "purge", {"pool": "one", "status": "done"}, {"more": False})], {})) == []


def test_a_claim_that_overlooks_an_item_is_found():
    assert overlooked(History(Notes().push().claim("w", None, 0), {}), ["one"])
    assert not overlooked(History(Notes().push().claim("v", "L1").claim("w", None, 0), {}), ["one"])
    assert not overlooked(History(Notes().push(at=(0, 30)).claim("w", None, 0, at=(10, 20)), {}), ["one"])


def test_of_half_a_line_there_was_no_answer(tmp_path):
    begun = {"call": 1, "by": "w", "at": 5, "what": "get", "given": {"ids": ["e"]}}
    (tmp_path / "notes").write_text(json.dumps(begun) + '\n{"call": 1, "at": 6, "ans')
    assert read_notes(tmp_path / "notes") == [Call("w", 5, None, "get", {"ids": ["e"]})]
