"""Following events over whoever answers."""

import threading

import pytest

from fedctl.client.events import Follower, history
from fedctl.clock import Clock
from fedctl.errors import Denied, Unavailable
from fedctl.messages.hub import EventPage, ListEvents
from fedctl.messages.memory import StoreEpisodes
from fedctl.model.episode import EpisodeDraft
from fedctl.model.hub import Event


def event(seq):
    return Event(seq=seq, tenant_id="t", kind="episode_stored", subject=f"e{seq}", detail={}, at="2026-01-01T00:00:00Z")


class Log:
    """A change log that grows, and what answers from it until it is told to fail."""

    def __init__(self):
        self.last, self.epoch, self.failing, self.asked, self.closed = 0, "one", [], [], 0

    def connect(self):
        if self.failing and self.failing[0] == "connect":
            self.failing.pop(0)
            raise Unavailable("no hub answers")
        return self

    def call(self, request):
        self.asked.append(request)
        if self.failing:
            wrong = self.failing.pop(0)
            raise wrong if isinstance(wrong, Exception) else Unavailable("the connection is gone")
        if request.newest is not None:
            return EventPage(events=[], cursor=self.last, more=False, epoch=self.epoch)
        found = [event(seq) for seq in range((request.after or 0) + 1, self.last + 1)][: request.limit]
        cursor = found[-1].seq if found else max(request.after or 0, self.last)
        return EventPage(events=found, cursor=cursor, more=cursor < self.last, epoch=self.epoch)

    def close(self):
        self.closed += 1


def take(pages, number):
    seen = []
    while len(seen) < number:
        seen += [one.seq for one in next(pages)]
    return seen


def test_a_history_is_read_to_its_end_page_by_page():
    log = Log()
    log.last = 7
    assert [one.seq for one in history(log, ListEvents(limit=3))] == list(range(1, 8))
    assert len(log.asked) == 3


def test_whatever_breaks_in_between_nothing_comes_twice_and_nothing_is_lost(clock):
    log, said = Log(), []
    log.last = 5
    follower = Follower(log.connect, ListEvents(limit=2), clock, say=said.append)
    pages = follower.pages()
    seen = take(pages, 3)
    log.failing = ["call", "connect", "connect", "connect", "call"]
    log.last = 9
    seen += take(pages, 9 - len(seen))
    assert seen == list(range(1, 10))
    assert said == ["the connection is gone; trying again"] * 2, "what stays away is said once"


def test_the_pauses_between_tries_grow_and_begin_small_again(clock):
    log = Log()
    log.last = 1
    follower = Follower(log.connect, ListEvents(), clock)
    pages = follower.pages()
    assert take(pages, 1) == [1]
    log.failing, began = ["call", *["connect"] * 8], clock.monotonic
    log.last = 2
    assert take(pages, 1) == [2]
    assert 0.1 + 0.2 + 0.4 + 0.8 + 1.6 + 3.2 + 5 + 5 <= clock.monotonic - began < 25
    log.failing, began, log.last = ["call"], clock.monotonic, 3
    assert take(pages, 1) == [3]
    assert clock.monotonic - began < 1


def test_it_begins_where_it_is_told_to(clock):
    log = Log()
    log.last = 5
    assert take(Follower(log.connect, ListEvents(after=3), clock).pages(), 2) == [4, 5]
    pages = Follower(log.connect, ListEvents(newest=0), clock).pages()
    assert next(pages) == []
    log.last = 6
    assert take(pages, 1) == [6]


def test_nobody_there_at_the_beginning_is_an_error_and_so_is_a_no_at_any_time(clock):
    log = Log()
    log.failing = ["connect"]
    with pytest.raises(Unavailable):
        Follower(log.connect, ListEvents(), clock)
    log.last = 1
    pages = Follower(log.connect, ListEvents(), clock).pages()
    assert take(pages, 1) == [1]
    log.failing = [Denied("the token has expired")]
    with pytest.raises(Denied):
        next(pages)


def test_where_there_is_a_better_way_it_is_taken(clock):
    one, two = Log(), Log()
    one.last = 2
    two.last = 4
    ways = [one, two]

    def connect():
        return ways[0].connect()

    def better():
        return len(ways) == 1 and not two.asked

    follower = Follower(connect, ListEvents(), clock, elsewhere=better)
    pages = follower.pages()
    assert take(pages, 2) == [1, 2]
    ways.pop(0)
    assert take(pages, 2) == [3, 4]
    assert (one.closed, two.closed) == (1, 0)
    follower.close()
    follower.close()
    assert two.closed == 1


def test_a_store_that_was_restored_is_followed_from_its_end_and_that_is_said(clock):
    log, said = Log(), []
    log.last = 9
    pages = Follower(log.connect, ListEvents(after=7), clock, say=said.append).pages()
    assert take(pages, 2) == [8, 9]
    log.epoch, log.last = "two", 4
    assert next(pages) == []
    log.last = 5
    assert take(pages, 1) == [5]
    assert said == ["the store was restored from a backup: going on from its end"]


def test_what_answers_at_once_although_it_was_to_wait_is_not_asked_without_end(clock):
    log = Log()
    pages = Follower(log.connect, ListEvents(), clock).pages()
    began = clock.monotonic
    for _ in range(10):
        assert next(pages) == []
    assert clock.monotonic - began >= 9 * 0.25


def test_a_hub_that_ends_and_comes_back_is_followed_all_the_way(start_hub):
    """Somebody writes through the hub's own end and its successor's beginning, straight into the home."""
    hubs = [start_hub()]
    failed = []

    def connect():
        return hubs[-1].owner()

    follower = Follower(connect, ListEvents(), Clock())

    def write():
        from fedctl.client.local import LocalCaller
        from fedctl.model.principal import Principal
        from fedctl.store.store import Store

        context = hubs[0].context._replace(store=Store.open(hubs[0].home, Clock(), create=False, timeout_s=20))
        caller = LocalCaller(context, Principal(tenant_id="default", role="owner"))
        try:
            for number in range(60):
                caller.call(StoreEpisodes(episodes=[EpisodeDraft(id=f"e{number}", task="t")]))
                if number == 20:
                    hubs[0].end()
                if number == 40:
                    hubs.append(start_hub(hubs[0].home))
        except BaseException as error:  # noqa: BLE001  it is raised where the test waits
            failed.append(error)
        caller.close()

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    seen = []
    for page in follower.pages():
        seen += [one.subject for one in page]
        if len(seen) >= 60 or failed:
            break
    writer.join(20)
    assert not failed
    assert seen == [f"e{number}" for number in range(60)]
    follower.close()
