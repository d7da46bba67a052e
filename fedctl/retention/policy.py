"""What a policy makes of a tenant's episodes: which go, and why. Pure: nothing is read and nothing is removed here."""

from __future__ import annotations

from array import array
from collections import Counter
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fedctl.model.retention import Policy, Record

Rule = Literal["max_age", "min_reward", "max_episodes"]
Keep = Literal["pinned", "keep_last", "keep_success", "keep_where"]
_RULES: tuple[Rule, ...] = ("max_age", "min_reward", "max_episodes")


class Plan:
    """What goes, in 17 bytes an episode: there may be millions."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.examined = 0
        self._seqs = array("q")
        self._sizes = array("q")
        self._rules = bytearray()

    def add(self, seq: int, size_bytes: int, rule: Rule) -> None:
        """Note that an episode goes, and by which rule."""
        self._seqs.append(seq)
        self._sizes.append(size_bytes)
        self._rules.append(_RULES.index(rule))

    def add_oldest(self, others: Plan, most: int) -> None:
        """Note that the oldest of others, at most so many, go as well."""
        begin = max(0, len(others._seqs) - most)
        self._seqs = others._seqs[begin:] + self._seqs
        self._sizes = others._sizes[begin:] + self._sizes
        self._rules = others._rules[begin:] + self._rules

    @property
    def removed(self) -> int:
        """How many go."""
        return len(self._seqs)

    @property
    def bytes_freed(self) -> int:
        """What their text takes."""
        return sum(self._sizes)

    @property
    def reasons(self) -> dict[str, int]:
        """How many go by which rule: the first of them that says so."""
        counts = Counter(self._rules)
        return {rule: counts[number] for number, rule in enumerate(_RULES) if counts[number]}

    def rule_of(self, seq: int) -> Rule | None:
        """Return the rule by which an episode goes; None: it stays."""
        try:
            return _RULES[self._rules[self._seqs.index(seq)]]
        except ValueError:
            return None

    def __iter__(self) -> Iterator[tuple[int, int, Rule]]:
        """Yield (seq, size in bytes, rule), each rule's oldest first."""
        for place in reversed(range(len(self._seqs))):
            yield self._seqs[place], self._sizes[place], _RULES[self._rules[place]]


def condemns(policy: Policy, record: Record, now_ms: int) -> list[Rule]:
    """Return the rules by which an episode is to go for what it is; how many others there are is not looked at.

    A date that lies ahead is of no age. An episode without a reward is not below any.
    """
    found: list[Rule] = []
    if policy.max_age_ms is not None and record.created_at_ms < now_ms - policy.max_age_ms:
        found.append("max_age")
    if policy.min_reward is not None and record.reward is not None and record.reward < policy.min_reward:
        found.append("min_reward")
    return found


def protects(policy: Policy, record: Record, place: int) -> list[Keep]:
    """Return what keeps an episode whatever condemns it; `place` is 1 for the newest."""
    found: list[Keep] = []
    if record.pinned:
        found.append("pinned")
    if policy.keep_last is not None and place <= policy.keep_last:
        found.append("keep_last")
    if policy.keep_success and record.success:
        found.append("keep_success")
    if record.wanted:
        found.append("keep_where")
    return found


def apply(records: Iterable[Record], policy: Policy, now_ms: int) -> Plan:
    """Return what goes of these episodes, which come newest first.

    What nothing protects goes by any rule; by `max_episodes` the oldest of it, until no more than so many are left
    or only protected ones are.
    """
    plan = Plan()
    kept = 0
    spare = Plan()  # kept, and protected by nothing: only their number can condemn them
    for place, record in enumerate(records, start=1):
        plan.examined = place
        if not protects(policy, record, place):
            rules = condemns(policy, record, now_ms)
            if rules:
                plan.add(record.seq, record.size_bytes, rules[0])
                continue
            if policy.max_episodes is not None:
                spare.add(record.seq, record.size_bytes, "max_episodes")
        kept += 1
    if policy.max_episodes is not None and kept > policy.max_episodes:
        plan.add_oldest(spare, kept - policy.max_episodes)
    return plan
