from __future__ import annotations

from fedctl.client import paging
from fedctl.messages.memory import GetAnswer, GetEpisodes, ListAnswer, ListEpisodes, QueryAnswer
from fedctl.model.episode import Episode, Hit


def episode(number: int) -> Episode:
    return Episode(
        id=f"e{number}", tenant_id="t", agent_id=None, session_id=None, task="t", input=None, output=None, reward=None,
        success=None, critique=None, tokens_used=None, latency_ms=None, metadata={}, pinned=False,
        created_at="2026-01-01T00:00:00.000Z", seq=number,
    )  # fmt: skip


class Shelf:
    """A caller over a list of episodes that answers three at a time."""

    def __init__(self, count: int) -> None:
        self.episodes = [episode(number) for number in range(1, count + 1)]
        self.calls = 0

    def call(self, request, *, tenant_id=None):
        self.calls += 1
        if isinstance(request, GetEpisodes):
            known = {one.id: one for one in self.episodes}
            ids = request.ids[:3]
            return GetAnswer(
                episodes=[known[one] for one in ids if one in known],
                missing=[one for one in ids if one not in known],
                rest=request.ids[3:],
            )
        assert isinstance(request, ListEpisodes)
        rest = [one for one in self.episodes if one.seq > (request.cursor or 0)]
        page = rest[: min(3, request.limit)]
        return ListAnswer(
            episodes=page,
            cursor=page[-1].seq if len(page) < len(rest) else None,
            total=len(self.episodes) if request.count else None,
        )


def test_everything_asked_for_is_fetched_in_its_order_over_pages():
    found, missing = paging.get_all(Shelf(9), ["e7", "x", "e1", "e7", "e2", "y", "e9", "e3"])
    assert [one.id for one in found] == ["e7", "e1", "e2", "e9", "e3"]
    assert missing == ["x", "y"]


def test_thousands_of_ids_go_in_several_requests():
    shelf = Shelf(2500)
    found, missing = paging.get_all(shelf, [one.id for one in shelf.episodes])
    assert len(found) == 2500
    assert missing == []


def test_hits_without_their_episode_get_it_and_vanished_ones_go():
    hits = [
        Hit(rank=1, score=1.0, id="e1", episode=episode(1)),
        Hit(rank=2, score=0.9, id="e2", episode=None),
        Hit(rank=3, score=0.8, id="gone", episode=None),
    ]
    whole = paging.complete(Shelf(5), QueryAnswer(hits=hits, pending=0, notes=[]))
    assert [(hit.rank, hit.episode.id) for hit in whole] == [(1, "e1"), (2, "e2")]


def test_complete_answers_cost_no_further_call():
    shelf = Shelf(1)
    hits = [Hit(rank=1, score=1.0, id="e1", episode=episode(1))]
    assert paging.complete(shelf, QueryAnswer(hits=hits, pending=0, notes=[])) == hits
    assert shelf.calls == 0


def test_a_list_goes_on_to_its_end_or_its_limit():
    everything, total = paging.take(Shelf(8), ListEpisodes(count=True), None)
    assert [one.seq for one in everything] == list(range(1, 9))
    assert total == 8
    shelf = Shelf(8)
    some, _ = paging.take(shelf, ListEpisodes(), 4)
    assert [one.seq for one in some] == [1, 2, 3, 4]
    assert shelf.calls == 2


def test_the_first_page_is_fetched_before_anything_is_shown():
    shelf = Shelf(8)
    paging.take(shelf, ListEpisodes(), None)
    assert shelf.calls == 1
