"""What a policy makes of episodes, held against a definition that is slow and plain."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fedctl.model.retention import Policy, Record
from fedctl.retention.policy import apply, condemns, protects

NOW_MS = 1_000_000
DAY_MS = 1000


def record(seq: int, **fields) -> Record:
    plain = {"created_at_ms": NOW_MS, "reward": None, "success": None, "pinned": False, "wanted": False,
             "size_bytes": 10}  # fmt: skip
    return Record(seq=seq, **(plain | fields))


def gone(records: list[Record], **rules) -> list[int]:
    """Return the sequences that go, oldest first; the records are given oldest first."""
    return sorted(seq for seq, _, _ in apply(reversed(records), Policy(**rules), NOW_MS))


def test_an_empty_policy_removes_nothing():
    plan = apply([record(2, created_at_ms=0, reward=0.0), record(1, created_at_ms=0)], Policy(), NOW_MS)
    assert (plan.examined, plan.removed, plan.reasons, list(plan)) == (2, 0, {}, [])


def test_what_is_older_than_the_age_goes_and_what_is_as_old_stays():
    ages = [DAY_MS + 1, DAY_MS, DAY_MS - 1]
    assert gone([record(n, created_at_ms=NOW_MS - age) for n, age in enumerate(ages)], max_age_ms=DAY_MS) == [0]


def test_what_is_dated_ahead_never_goes_by_age():
    assert gone([record(1, created_at_ms=NOW_MS * 9)], max_age_ms=1) == []


def test_a_reward_below_the_least_goes_and_neither_an_equal_one_nor_none():
    rewards = [0.0, 0.69, 0.7, 1.0, None]
    assert gone([record(n, reward=reward) for n, reward in enumerate(rewards)], min_reward=0.7) == [0, 1]


def test_rules_are_ored_and_the_reason_is_the_first_that_says_so():
    records = [record(1, created_at_ms=0, reward=0.1), record(2, reward=0.1), record(3, created_at_ms=0), record(4)]
    plan = apply(reversed(records), Policy(max_age_ms=DAY_MS, min_reward=0.5, max_episodes=0), NOW_MS)
    assert plan.reasons == {"max_age": 2, "min_reward": 1, "max_episodes": 1}
    assert [plan.rule_of(n) for n in range(1, 6)] == ["max_age", "min_reward", "max_age", "max_episodes", None]
    assert plan.bytes_freed == 40


def test_of_too_many_the_oldest_go_that_nothing_protects():
    records = [record(1), record(2, pinned=True), record(3), record(4, wanted=True), record(5)]
    assert gone(records, max_episodes=3) == [1, 3]
    assert gone(records, max_episodes=0) == [1, 3, 5]
    assert gone(records, max_episodes=5) == []
    assert gone(records, max_episodes=2, keep_last=2) == [1, 3]


def test_each_keep_rule_wins_over_every_rule_that_removes():
    old = {"created_at_ms": 0, "reward": 0.0}
    rules = {"max_age_ms": 1, "min_reward": 1.0, "max_episodes": 0}
    assert gone([record(1, **old)], **rules) == [1]
    assert gone([record(1, **old, pinned=True)], **rules) == []
    assert gone([record(1, **old, wanted=True)], **rules) == []
    assert gone([record(1, **old, success=True)], **rules) == [1]
    assert gone([record(1, **old, success=True)], keep_success=True, **rules) == []
    assert gone([record(n, **old) for n in range(5)], keep_last=2, **rules) == [0, 1, 2]
    assert gone([record(n, **old) for n in range(2)], keep_last=9, **rules) == []


# -- against the plain definition ----------------------------------------------------------------------------------

RECORDS = st.lists(
    st.builds(
        record,
        seq=st.just(0),
        created_at_ms=st.sampled_from([0, NOW_MS - DAY_MS - 1, NOW_MS - DAY_MS, NOW_MS, NOW_MS + DAY_MS]),
        reward=st.sampled_from([None, 0.0, 0.5, 1.0]),
        success=st.sampled_from([None, False, True]),
        pinned=st.booleans(),
        wanted=st.booleans(),
        size_bytes=st.integers(0, 9),
    ),
    max_size=12,
).map(lambda found: [one._replace(seq=seq) for seq, one in enumerate(found, start=1)])
POLICIES = st.builds(
    Policy,
    max_age_ms=st.sampled_from([None, 1, DAY_MS, 2 * NOW_MS]),
    min_reward=st.sampled_from([None, 0.0, 0.5, 1.0]),
    max_episodes=st.none() | st.integers(0, 12),
    keep_last=st.none() | st.integers(0, 12),
    keep_success=st.booleans(),
)


def kept_plainly(records: list[Record], policy: Policy) -> set[int]:
    newest = {one.seq for one in records[len(records) - (policy.keep_last or 0) :]} if policy.keep_last else set()

    def safe(one: Record) -> bool:
        return one.pinned or one.wanted or one.seq in newest or (policy.keep_success and one.success is True)

    left = [
        one
        for one in records
        if safe(one)
        or not (
            (policy.max_age_ms is not None and NOW_MS - one.created_at_ms > policy.max_age_ms)
            or (policy.min_reward is not None and one.reward is not None and one.reward < policy.min_reward)
        )
    ]
    while policy.max_episodes is not None and len(left) > policy.max_episodes and not all(map(safe, left)):
        left.remove(next(one for one in left if not safe(one)))
    return {one.seq for one in left}


@given(records=RECORDS, policy=POLICIES)
def test_what_goes_is_what_a_plain_definition_says(records: list[Record], policy: Policy):
    plan = apply(reversed(records), policy, NOW_MS)
    going = [seq for seq, _, _ in plan]
    assert {one.seq for one in records} - set(going) == kept_plainly(records, policy)
    assert len(going) == len(set(going)) == plan.removed == sum(plan.reasons.values())
    assert plan.examined == len(records)
    assert plan.bytes_freed == sum(one.size_bytes for one in records if one.seq in going)


@given(records=RECORDS, policy=POLICIES)
def test_every_reason_holds_for_what_goes_by_it_and_nothing_protects_that(records: list[Record], policy: Policy):
    by_seq = {one.seq: (place, one) for place, one in enumerate(reversed(records), start=1)}
    for seq, size_bytes, rule in apply(reversed(records), policy, NOW_MS):
        place, one = by_seq[seq]
        assert protects(policy, one, place) == []
        assert size_bytes == one.size_bytes
        assert rule == "max_episodes" or rule == condemns(policy, one, NOW_MS)[0]


def test_a_policy_without_a_rule_that_removes_is_none():
    assert not Policy(keep_last=5, keep_success=True, keep_where=[("a", "=", 1)]).removes
    for rule in ("max_age_ms", "min_reward", "max_episodes", "items_max_age_ms", "events_max_age_ms",
                 "agents_max_age_ms"):  # fmt: skip
        assert Policy(**{rule: 0}).removes, rule
