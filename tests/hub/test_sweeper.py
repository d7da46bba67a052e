"""Presence and deadlines, on a loop whose time the test tells."""

import pytest

from fedctl.access.tokens import NEVER_MS, Verified
from fedctl.errors import Denied
from fedctl.hub.sweeper import DROPPED_GRACE_S, OVERDUE_EVERY_S, Sweeper
from fedctl.log import Log, LogOptions
from fedctl.messages.agent import ReportAgent
from fedctl.model.agent import Agent
from fedctl.model.hub import Event
from fedctl.model.principal import Principal
from fedctl.model.time import to_rfc3339
from fedctl.wire import frames


class Timer:
    def __init__(self, at_s, call):
        self.at_s, self.call, self.cancelled = at_s, call, False

    def cancel(self):
        self.cancelled = True


class Loop:
    """The part of an event loop that keeps time."""

    def __init__(self, clock):
        self.clock, self.timers = clock, []

    def call_later(self, delay_s, function, *arguments):
        timer = Timer(self.clock.monotonic_s() + delay_s, lambda: function(*arguments))
        self.timers.append(timer)
        return timer

    def advance(self, seconds):
        self.clock.advance(round(seconds * 1000))
        while due := [one for one in self.timers if one.at_s <= self.clock.monotonic_s()]:
            for timer in due:
                self.timers.remove(timer)
                if not timer.cancelled:
                    timer.call()


class Peer:
    """A session as the sweeper sees it."""

    def __init__(self, agent_id=None, token_id=None, expires_at_ms=None, tenant_id="acme"):
        self.principal = Principal(tenant_id=tenant_id, role="agent", agent_id=agent_id, token_id=token_id)
        self.token = None
        if token_id is not None:
            end_ms = NEVER_MS if expires_at_ms is None else expires_at_ms
            self.token = Verified(principal=self.principal, expires_at_ms=end_ms, key_id="k1")
        self.agents = set()
        self.ended = []
        self.dropped_why = None

    def end(self, code, reason):
        self.ended.append((code, reason))


class World:
    def __init__(self, clock):
        self.clock = clock
        self.loop = Loop(clock)
        self.reports = []
        self.overdue = []
        self.lines = []
        self.keys = {"k1": NEVER_MS}
        self.sweeper = Sweeper(
            self.loop,
            clock,
            Log(LogOptions("detailed"), clock, self.lines.append),
            report=lambda tenant, request: self.reports.append((tenant, request)),
            overdue=lambda _before_ms: self.overdue,
            key_ends=self.look_at_keys,
        )

    def look_at_keys(self):
        if isinstance(self.keys, Exception):
            raise self.keys
        return self.keys

    def rotated(self, **keys):
        """Note keys and their ends, and what the log says of it."""
        self.keys = keys
        self.sweeper.changed([Event(seq=1, tenant_id="acme", kind="key_rotated", subject="k2", detail={}, at="")])

    def join(self, **parts):
        peer = Peer(**parts)
        self.sweeper.joined(peer)
        return peer

    def register(self, peer, agent_id="a1", lifetime_s=60, status="spawning"):
        now_ms = self.clock.now_ms()
        agent = Agent(
            id=agent_id, tenant_id="acme", type="t", status=status, spawned_at=to_rfc3339(now_ms),
            expires_at=to_rfc3339(now_ms + lifetime_s * 1000), last_sync_at=None, host="h", pid=1, episodes_stored=0,
        )  # fmt: skip
        self.sweeper.registered(peer, agent)
        return agent


@pytest.fixture
def world(make_clock):
    return World(make_clock())


DEAD = ("acme", ReportAgent(id="a1", status="dead"))


def test_an_ordinary_session_ends_with_its_token(world):
    peer = world.join(token_id="t", expires_at_ms=world.clock.now_ms() + 10_000)
    world.loop.advance(9.9)
    assert not peer.ended
    world.loop.advance(0.2)
    assert peer.ended == [(frames.EXPIRED, "the token has expired")]
    assert not world.reports


def test_a_session_without_a_token_has_no_deadline(world):
    peer = world.join()
    world.loop.advance(10**6)
    assert not peer.ended


def test_an_agents_session_outlives_the_agent_by_the_time_for_its_last_push(world):
    peer = world.join(agent_id="a1", token_id="t", expires_at_ms=world.clock.now_ms() + 3_600_000)
    world.register(peer, lifetime_s=60)
    world.loop.advance(74.9)
    assert not peer.ended
    world.loop.advance(0.2)
    assert peer.ended == [(frames.EXPIRED, "the agent's lifetime is over")]
    assert world.reports == [DEAD]


def test_a_token_that_ends_first_ends_an_agents_session_after_the_same_grace(world):
    peer = world.join(agent_id="a1", token_id="t", expires_at_ms=world.clock.now_ms() + 20_000)
    world.register(peer, lifetime_s=60)
    world.loop.advance(34.9)
    assert not peer.ended
    world.loop.advance(0.2)
    assert peer.ended


def test_an_agent_that_drops_is_called_dead_after_a_grace(world):
    peer = world.join(agent_id="a1")
    world.register(peer)
    world.sweeper.left(peer)
    world.loop.advance(DROPPED_GRACE_S - 0.1)
    assert not world.reports
    world.loop.advance(0.2)
    assert world.reports == [DEAD]
    assert any("agent.dropped" in line for line in world.lines)


def test_an_agent_that_comes_back_in_time_lives_on(world):
    peer = world.join(agent_id="a1")
    world.register(peer)
    world.sweeper.left(peer)
    world.loop.advance(10)
    again = world.join(agent_id="a1")
    world.loop.advance(20)
    assert not world.reports
    world.sweeper.left(again)
    world.loop.advance(20)
    assert world.reports == [DEAD]


def test_one_of_two_sessions_may_drop(world):
    one, two = world.join(agent_id="a1"), world.join(agent_id="a1")
    world.register(one)
    world.sweeper.left(one)
    world.loop.advance(30)
    assert not world.reports
    assert world.sweeper.peers_of("acme", "a1") == (two,)


def test_an_agent_that_said_it_is_dead_is_not_reported_again(world):
    peer = world.join(agent_id="a1")
    world.register(peer)
    world.register(peer, status="dead")
    world.sweeper.left(peer)
    world.loop.advance(100)
    assert not world.reports
    assert not any("agent.dropped" in line for line in world.lines)


def test_an_agent_that_was_shutting_down_and_dropped_is_called_dead(world):
    peer = world.join(agent_id="a1")
    world.register(peer, status="shutting_down")
    world.sweeper.left(peer)
    world.loop.advance(20)
    assert world.reports == [DEAD]


def test_a_session_with_an_agents_token_that_never_registered_is_nobodys_death(world):
    world.sweeper.left(world.join(agent_id="a1"))
    world.loop.advance(100)
    assert not world.reports


def test_an_owners_session_speaks_for_the_agent_it_registers(world):
    peer = world.join()
    world.register(peer)
    assert world.sweeper.peers_of("acme", "a1") == (peer,)
    assert world.sweeper.connected_agents == 1
    world.sweeper.left(peer)
    assert world.sweeper.connected_agents == 0
    world.loop.advance(20)
    assert world.reports == [DEAD]


def test_agents_of_two_tenants_with_one_name_are_two(world):
    one, two = world.join(agent_id="a1"), world.join(agent_id="a1", tenant_id="other")
    assert world.sweeper.connected_agents == 2
    assert world.sweeper.peers_of("acme", "a1") == (one,)
    assert world.sweeper.peers_of("other", "a1") == (two,)


def test_a_new_life_moves_the_deadline_of_every_session_of_the_agent(world):
    one, two = world.join(agent_id="a1"), world.join(agent_id="a1")
    world.register(one, lifetime_s=60)
    world.loop.advance(50)
    world.register(two, lifetime_s=60)
    world.loop.advance(70)
    assert not one.ended
    assert not two.ended
    world.loop.advance(10)
    assert one.ended
    assert two.ended


def revoked(token_id):
    return Event(seq=1, tenant_id="acme", kind="token_revoked", subject=token_id, detail={}, at="")


def test_a_revoked_token_ends_its_sessions_and_no_others(world):
    one, two, other = world.join(token_id="t"), world.join(token_id="t"), world.join(token_id="u")
    world.sweeper.changed([revoked("x"), revoked("t")])
    assert [peer.ended for peer in (one, two)] == [[(frames.REVOKED, "the token was revoked")]] * 2
    assert not other.ended


def test_a_session_that_left_is_not_ended_by_a_later_revocation(world):
    peer = world.join(token_id="t", expires_at_ms=world.clock.now_ms() + 1000)
    world.sweeper.left(peer)
    world.sweeper.changed([revoked("t")])
    world.loop.advance(10)
    assert not peer.ended


def test_a_session_ends_with_the_key_of_its_token_and_no_other_does(world):
    old, owner = world.join(token_id="t", expires_at_ms=world.clock.now_ms() + 3_600_000), world.join()
    end_ms = world.clock.now_ms() + 10_000
    world.rotated(k1=end_ms, k2=NEVER_MS)
    new = world.join(token_id="u", expires_at_ms=world.clock.now_ms() + 3_600_000)
    new.token = Verified(principal=new.principal, expires_at_ms=new.token.expires_at_ms, key_id="k2")
    world.loop.advance(8.9)
    assert not old.ended
    world.loop.advance(1.2)
    assert old.ended == [(frames.REVOKED, "the key of its token was rotated out")]
    world.loop.advance(60)
    assert not new.ended
    assert not owner.ended


def test_an_agents_session_has_no_grace_beyond_the_end_of_its_key(world):
    peer = world.join(agent_id="a1", token_id="t", expires_at_ms=world.clock.now_ms() + 3_600_000)
    world.register(peer, lifetime_s=600)
    world.rotated(k1=world.clock.now_ms(), k2=NEVER_MS)
    world.loop.advance(0)
    assert peer.ended == [(frames.REVOKED, "the key of its token was rotated out")]
    assert not world.reports, "it lives on and may come back with another token"


def test_a_key_that_was_taken_away_is_noticed_without_being_told(world):
    world.sweeper.start()
    peer = world.join(token_id="t", expires_at_ms=world.clock.now_ms() + 3_600_000)
    world.loop.advance(OVERDUE_EVERY_S + 0.1)
    assert not peer.ended
    world.keys = {"k2": NEVER_MS}
    world.loop.advance(OVERDUE_EVERY_S + 0.1)
    world.loop.advance(0)
    assert peer.ended


def test_a_later_rotation_with_a_longer_grace_brings_no_key_back(world):
    peer = world.join(token_id="t", expires_at_ms=world.clock.now_ms() + 3_600_000)
    world.rotated(k1=world.clock.now_ms() + 5000, k2=NEVER_MS)
    world.rotated(k1=world.clock.now_ms() + 60_000, k2=world.clock.now_ms() + 60_000, k3=NEVER_MS)
    world.loop.advance(5.1)
    assert peer.ended


def test_keys_that_cannot_be_read_end_nobody(world):
    peer = world.join(token_id="t", expires_at_ms=world.clock.now_ms() + 3_600_000)
    world.keys = Denied("the keys cannot be read")
    world.sweeper.start()
    assert not peer.ended
    assert any("cannot be read" in line for line in world.lines)


def test_agents_left_behind_by_an_earlier_hub_are_called_dead_at_the_start_and_later(world):
    world.overdue = [("acme", "a1")]
    world.sweeper.start()
    assert world.reports == [DEAD]
    world.overdue = [("acme", "a2")]
    world.loop.advance(OVERDUE_EVERY_S + 0.1)
    assert world.reports[1:] == [("acme", ReportAgent(id="a2", status="dead"))]


def test_an_overdue_agent_with_a_session_is_left_to_its_own_deadline(world):
    world.register(world.join(agent_id="a1"))
    world.overdue = [("acme", "a1")]
    world.sweeper.start()
    assert not world.reports


def test_nobody_dies_because_the_hub_stops(world):
    peer = world.join(agent_id="a1", token_id="t", expires_at_ms=world.clock.now_ms() + 1000)
    world.register(peer)
    world.sweeper.start()
    world.sweeper.stop()
    world.sweeper.left(peer)
    world.loop.advance(1000)
    assert not world.reports
    assert not peer.ended


@pytest.mark.parametrize("jump_ms", [3_600_000, -3_600_000, 315_360_000_000])
def test_an_agent_that_comes_back_after_a_jump_of_the_clock_lives_as_long_as_it_was_to(world, jump_ms):
    world.register(world.join(agent_id="a1"), lifetime_s=60)
    (first,) = world.sweeper.peers_of("acme", "a1")
    world.loop.advance(10)
    world.clock.jump(jump_ms)
    world.sweeper.left(first)
    world.overdue = [("acme", "a1")]  # by the clock as it is now
    world.loop.advance(OVERDUE_EVERY_S + 1)
    peer = world.join(agent_id="a1")
    world.loop.advance(60 + 15 - 16 - 1)
    assert world.reports == []
    assert peer.ended == []
    world.loop.advance(2)
    assert world.reports == [DEAD]
    assert peer.ended[0][0] == frames.EXPIRED


@pytest.mark.parametrize("jump_ms", [3_600_000, -3_600_000])
def test_an_open_session_ends_when_its_token_would_have_whatever_the_clock_says_by_now(world, jump_ms):
    peer = world.join(token_id="t1", expires_at_ms=world.clock.now_ms() + 60_000)
    world.clock.jump(jump_ms)
    world.rotated(k1=world.clock.now_ms() + 30_000)
    world.loop.advance(29)
    assert peer.ended == []
    world.loop.advance(2)
    assert peer.ended[0][0] == frames.REVOKED
