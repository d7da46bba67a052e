"""Batches that do not go into one frame as they are."""

from hypothesis import given
from hypothesis import strategies as st

from fedctl.client import batches
from fedctl.messages.memory import StoreAnswer, StoreEpisodes, StoreResult
from fedctl.model.episode import EpisodeDraft
from fedctl.model.limits import FRAME_MAX_BYTES, PAGE_MAX_BYTES
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
