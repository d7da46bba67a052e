"""Who is told of what, and how a commit is noticed."""

import threading

import pytest

from fedctl.hub.events import Feed, Subscribers, Subscription
from fedctl.log import Log, LogOptions
from fedctl.messages.hub import Subscribe
from fedctl.model.hub import Event
from fedctl.model.limits import FRAME_MAX_BYTES
from fedctl.wire import session as said


def event(seq=5, tenant_id="acme", kind="episode_stored", subject="e1", **detail):
    return Event(seq=seq, tenant_id=tenant_id, kind=kind, subject=subject, detail=detail, at="2026-01-01T00:00:00.000Z")


def subscription(tenant_id="acme", agent_id=None, after_seq=0, **parts):
    return Subscription.of(Subscribe(**parts), tenant_id=tenant_id, agent_id=agent_id, after_seq=after_seq)


def test_a_session_hears_of_its_own_tenant_only():
    assert subscription().wants(event())
    assert not subscription().wants(event(tenant_id="other"))
    assert subscription(all_tenants=True).wants(event(tenant_id="other"))


def test_a_session_hears_of_what_comes_after_it_subscribed():
    assert not subscription(after_seq=5).wants(event(seq=5))
    assert subscription(after_seq=5).wants(event(seq=6))


def test_a_session_may_choose_the_kinds_it_hears_of():
    only = subscription(kinds=["agent_status"])
    assert only.wants(event(kind="agent_status"))
    assert not only.wants(event())


def test_an_agent_is_not_told_of_its_own_doing():
    agent = subscription(agent_id="a1")
    assert not agent.wants(event(agent_id="a1"))
    assert agent.wants(event(agent_id="a2"))
    assert agent.wants(event())
    assert not agent.wants(event(kind="agent_status", subject="a1", status="ready"))
    assert agent.wants(event(kind="agent_status", subject="a2", status="ready"))
    assert not agent.wants(event(kind="agent_note", subject="a1"))


class Peer:
    def __init__(self):
        self.subscription = None
        self.heard = []

    def notify(self, frame):
        self.heard += [one.seq for one in said.ClientSession().receive(frame).events]


def test_each_event_goes_to_those_who_want_it_and_once():
    subscribers, one, two, operator = Subscribers(), Peer(), Peer(), Peer()
    subscribers.add(one, subscription())
    subscribers.add(two, subscription("other"))
    subscribers.add(operator, subscription(all_tenants=True))
    subscribers.publish([event(seq=1), event(seq=2, tenant_id="other"), event(seq=3, tenant_id="third")])
    assert (one.heard, two.heard, operator.heard) == ([1], [2], [1, 2, 3])


def test_what_would_not_fit_into_a_frame_comes_in_several_in_order():
    subscribers, peer, sizes = Subscribers(), Peer(), []
    subscribers.add(peer, subscription())
    notify = peer.notify
    peer.notify = lambda frame: (sizes.append(len(frame)), notify(frame))
    subscribers.publish([event(seq=seq, ids=["x" * 100_000] * 3) for seq in range(1, 41)])
    assert peer.heard == list(range(1, 41))
    assert len(sizes) > 1
    assert max(sizes) <= FRAME_MAX_BYTES


def test_subscribing_again_replaces_what_was_subscribed_to():
    subscribers, peer = Subscribers(), Peer()
    subscribers.add(peer, subscription())
    subscribers.add(peer, subscription("other"))
    subscribers.publish([event(seq=1), event(seq=2, tenant_id="other")])
    assert peer.heard == [2]


def test_who_has_left_hears_nothing():
    subscribers, peer = Subscribers(), Peer()
    subscribers.add(peer, subscription())
    subscribers.remove(peer)
    subscribers.remove(peer)
    subscribers.publish([event()])
    assert peer.heard == []


@pytest.fixture
def feed(bench):
    """A feed on the bench's store, and what it delivers; `heard.wait()` waits for the next delivery."""
    events, heard = [], threading.Event()

    def deliver(some):
        events.extend(some)
        heard.set()

    context = bench.context.fork()
    feed = Feed(context, deliver, Log(LogOptions("silent"), bench.clock))
    yield feed, events, heard
    feed.stop()
    assert feed.join(10)


def test_another_connections_commit_is_noticed_without_being_told(bench, feed):
    _, events, heard = feed
    bench.keep("e1", "e2")
    assert heard.wait(10)
    assert [(one.kind, one.subject, one.tenant_id) for one in events] == [
        ("episode_stored", "e1", "default"),
        ("episode_stored", "e2", "default"),
    ]


def test_what_was_there_before_the_feed_began_is_history(bench):
    bench.keep("old")
    events, heard = [], threading.Event()
    feed = Feed(
        bench.context.fork(), lambda some: (events.extend(some), heard.set()), Log(LogOptions("silent"), bench.clock)
    )
    bench.keep("new")
    assert heard.wait(10)
    feed.stop()
    assert feed.join(10)
    assert [one.subject for one in events] == ["new"]


def test_a_long_stretch_comes_in_order_and_whole(bench, feed):
    one, events, heard = feed
    for start in range(0, 2500, 500):
        bench.keep(*(f"e{number}" for number in range(start, start + 500)))
        one.wake()
    while len(events) < 2500:
        heard.clear()
        assert len(events) >= 2500 or heard.wait(10)
    assert [each.subject for each in events] == [f"e{number}" for number in range(2500)]
