"""A peer that does not read is dropped, the hub is not."""

import pytest

from fedctl.hub import peer as peer_module
from fedctl.hub.peer import SEND_BUFFER_BYTES, UNSENT_MAX_BYTES, Peer, Unsent
from fedctl.messages.memory import GetEpisodes
from fedctl.wire.codec import RequestDecoder
from fedctl.wire.session import ServerSession

MIB = 1 << 20


class Link:
    """A socket whose other end takes what it is told to."""

    local, looks_only = True, False

    def __init__(self):
        self.unsent, self.aborted = 0, False

    def send(self, frame):
        self.unsent += len(frame)

    def buffered_bytes(self):
        return self.unsent

    def abort(self):
        self.unsent, self.aborted = 0, True


@pytest.fixture
def make_peer():
    unsent, decoder = Unsent(), RequestDecoder((GetEpisodes,))
    return lambda: Peer(Link(), ServerSession(decoder), unsent)


def test_a_peer_that_does_not_read_its_answers_is_dropped(make_peer):
    peer = make_peer()
    for _ in range(SEND_BUFFER_BYTES // MIB):
        peer.send(bytes(MIB))
    assert not peer.link.aborted
    peer.send(b"x")
    assert peer.link.aborted
    assert peer.dropped_why == "it reads too slowly"


def test_when_many_read_slowly_the_slowest_is_dropped_and_the_others_stay(make_peer):
    slowest, *others = [make_peer() for _ in range(UNSENT_MAX_BYTES // MIB // 8)]
    slowest.send(bytes(9 * MIB))
    for peer in others:
        peer.send(bytes(8 * MIB))
    assert slowest.link.aborted
    assert not any(peer.link.aborted for peer in others)


def test_whoever_has_read_is_counted_no_more(make_peer):
    reader = make_peer()
    reader.send(bytes(20 * MIB))
    reader.link.unsent = 0
    others = [make_peer() for _ in range(UNSENT_MAX_BYTES // MIB // 8)]
    for peer in others:
        peer.send(bytes(8 * MIB))
    assert not any(peer.link.aborted for peer in (reader, *others))


def test_those_who_read_well_are_not_looked_at(make_peer):
    peers = [make_peer() for _ in range(3)]
    for peer in peers:
        peer.send(bytes(peer_module.UNSENT_NOTED_BYTES - 1))
    assert not peers[0]._unsent._peers
