"""Batches that do not go into one frame as they are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedctl.client import batches
from fedctl.messages.memory import StoreAnswer, StoreEpisodes
from fedctl.messages.pool import (
    ClaimAnswer,
    ClaimItems,
    CompleteItems,
    FailItems,
    ItemResult,
    ItemResults,
    PushItems,
)
from fedctl.model.episode import EpisodeDraft, StoreResult
from fedctl.model.limits import FRAME_MAX_BYTES, PAGE_MAX_BYTES, cut_error
from fedctl.model.pool import Completion, FollowUp, Item, ItemDraft, ItemFailure
from fedctl.model.principal import Principal
from fedctl.wire import codec

OWNER = Principal(tenant_id="default", role="owner")
GOOD, NAN, SURROGATE, HUGE = "good", "nan", "surrogate", "huge"


def draft(name, kind=GOOD, size=10):
    if kind == NAN:
        return EpisodeDraft(id=name, task="t", reward=float("nan"))
    if kind == SURROGATE:
        return EpisodeDraft(id=name, task="\ud800")
    if kind == HUGE:
        return EpisodeDraft(id=name, task="t", input="x" * 5_000_000)
    return EpisodeDraft(id=name, task="t", input="x" * size)


def answer(part):
    return StoreAnswer(results=[StoreResult(ok=True, id=one.id) for one in part.episodes])


def test_an_ordinary_batch_needs_no_plan():
    assert batches.plan(StoreEpisodes(episodes=[draft(f"e{n}") for n in range(1000)]), OWNER) is None
    assert batches.plan(StoreEpisodes(episodes=[]), OWNER) is None


def test_a_batch_of_more_than_is_allowed_is_left_to_the_hub_to_refuse():
    assert batches.plan(StoreEpisodes(episodes=[draft(f"e{n}", size=5000) for n in range(1001)]), OWNER) is None


@given(st.lists(st.sampled_from([GOOD, NAN, SURROGATE]) | st.integers(0, 900_000), min_size=1, max_size=8))
def test_every_draft_has_its_result_in_its_place(kinds):
    drafts = [
        draft(f"e{number}", kind) if isinstance(kind, str) else draft(f"e{number}", size=kind)
        for number, kind in enumerate(kinds)
    ]
    request = StoreEpisodes(episodes=drafts, on_conflict="skip", echo=True)
    plan = batches.plan(request, OWNER)
    if plan is None:
        assert len(codec.to_json(request)) <= PAGE_MAX_BYTES
        return
    for part in plan.parts:
        assert (part.on_conflict, part.echo) == ("skip", True)
        assert len(codec.encode_call(1, None, part)) <= FRAME_MAX_BYTES
        assert len(part.episodes) == 1 or len(codec.to_json(part)) <= PAGE_MAX_BYTES + 200
    results = plan.merge([answer(part) for part in plan.parts]).results
    assert [one.id for one in results] == [one.id for one in drafts]
    assert [one.ok for one in results] == [kind not in (NAN, SURROGATE) for kind in kinds]


def test_a_draft_that_goes_into_no_frame_is_refused_as_the_hub_would_refuse_it():
    plan = batches.plan(StoreEpisodes(episodes=[draft("e1", HUGE), draft("e2", NAN), draft("e3", SURROGATE)]), OWNER)
    assert plan.parts == []
    messages = [one.error["message"] for one in plan.merge([]).results]
    assert messages[0].startswith("an episode has at most 1,048,576 bytes as JSON")
    assert messages[1:] == ["reward must be a finite number", "task holds bytes that are not UTF-8 (a lone surrogate)"]


def test_a_draft_that_is_too_large_for_a_hub_but_not_for_a_frame_is_the_hubs_to_refuse():
    plan = batches.plan(StoreEpisodes(episodes=[draft("e1", size=3_000_000)]), OWNER)
    assert [one.id for one in plan.parts[0].episodes] == ["e1"]


def item(name, kind=GOOD, size=10):
    data = {NAN: float("nan"), SURROGATE: "\ud800", HUGE: "x" * 5_000_000}.get(kind, "x" * size)
    return ItemDraft(id=name, data=data)


def completion(name, kind=GOOD, size=10):
    follows = [FollowUp(pool="q", item=item(f"{name}-next", kind, size))]
    return Completion(id=name, lease_id="l", then_push=follows)


@pytest.mark.parametrize(
    ("make", "batch"),
    [
        (item, lambda drafts: PushItems(pool="p", items=drafts, echo=True)),
        (completion, lambda drafts: CompleteItems(completions=drafts, claim=ClaimItems(pool="p", worker_id="w"))),
    ],
)
@given(kinds=st.lists(st.sampled_from([GOOD, NAN, SURROGATE]) | st.integers(0, 900_000), min_size=1, max_size=8))
def test_items_and_completions_are_sent_in_parts_too(make, batch, kinds):
    drafts = [
        make(f"i{number}", kind) if isinstance(kind, str) else make(f"i{number}", size=kind)
        for number, kind in enumerate(kinds)
    ]
    request = batch(drafts)
    plan = batches.plan(request, OWNER)
    if plan is None:
        assert len(codec.to_json(request)) <= PAGE_MAX_BYTES
        return
    for part in plan.parts:
        assert len(codec.encode_call(1, None, part)) <= FRAME_MAX_BYTES
    merged = plan.merge([_answered(part) for part in plan.parts])
    assert [one.id for one in merged.results] == [one.id for one in drafts]
    assert [one.ok for one in merged.results] == [kind not in (NAN, SURROGATE) for kind in kinds]
    # What is to be claimed along with it is claimed once, whatever became of the drafts.
    assert len(merged.claimed) == (1 if make is completion else 0)


def _answered(part):
    if isinstance(part, ClaimItems):
        return ClaimAnswer(items=[_claimed()])
    drafts = part.items if isinstance(part, PushItems) else part.completions
    claimed = [_claimed()] if getattr(part, "claim", None) else []
    return ItemResults(results=[ItemResult(ok=True, id=one.id) for one in drafts], claimed=claimed)


def _claimed():
    fields = dict.fromkeys(Item.__struct_fields__)
    return Item(**{**fields, "id": "c", "pool": "p", "status": "claimed", "priority": 0, "attempts": 1})


def test_items_that_go_into_no_frame_are_refused_as_the_hub_would_refuse_them():
    plan = batches.plan(PushItems(pool="p", items=[item("i1", HUGE), item("i2", NAN)]), OWNER)
    messages = [one.error["message"] for one in plan.merge([]).results]
    assert messages[0].startswith("the data of an item has at most 1,048,576 bytes as JSON")
    assert messages[1] == "the data of an item must hold finite numbers only"
    many = [FollowUp(pool="q", item=item(f"n{number}", size=900_000)) for number in range(5)]
    plan = batches.plan(CompleteItems(completions=[Completion(id="i", lease_id="l", then_push=many)]), OWNER)
    assert "3,145,728" in plan.merge([]).results[0].error["message"]


def test_an_error_text_that_goes_into_no_frame_is_cut_as_the_hub_would_cut_it():
    failures = [ItemFailure(id="i1", lease_id="l", error="e" * 5_000_000), ItemFailure(id="i2", lease_id="l")]
    plan = batches.plan(FailItems(failures=failures), OWNER)
    (part,) = plan.parts
    assert [one.error for one in part.failures] == [cut_error("e" * 5_000_000), None]
    assert len(cut_error("e" * 5_000_000)) == 65_536
    assert cut_error(cut_error("ä" * 70_000)) == cut_error("ä" * 70_000)
