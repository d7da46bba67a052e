"""How many may be connected, and how many of them without saying who they are."""

import socket

import pytest

from fedctl.hub.guests import SILENT_S, Guest, Guests, counting


class World:
    def __init__(self, clock, most=6, strangers_each=3, strangers_most=100):
        self.clock = clock
        self.refused = []
        self.guests = Guests(
            most=most, strangers_each=strangers_each, strangers_most=strangers_most, now_s=clock.monotonic_s,
            refused=lambda why, address: self.refused.append((why, address)),
        )  # fmt: skip
        self.far_ends = []
        self._port = 0

    def come(self, host="10.0.0.1", port=None):
        """Return a connection that was let in, or None."""
        near, far = socket.socketpair()
        far.setblocking(False)
        self.far_ends.append(far)
        guest = Guest(near.family, near.type, near.proto, fileno=near.detach())
        self._port += 1
        if self.guests.let_in(guest, (host, port or self._port)):
            return guest
        guest.close()
        return None

    def close(self):
        for far in self.far_ends:
            far.close()


@pytest.fixture
def make_world(clock):
    made = []

    def make(**parts):
        made.append(World(clock, **parts))
        return made[-1]

    yield make
    for world in made:
        world.close()


def is_open(guest):
    """Return whether the guest's end of its connection was not shut."""
    try:
        guest.send(b"x")
    except OSError:
        return False
    return True


def close(*guests):
    for guest in guests:
        guest.close()


def test_so_many_strangers_of_one_address_come_in_and_no_more(make_world):
    world = make_world()
    here = [world.come() for _ in range(4)]
    assert [one is not None for one in here] == [True, True, True, False]
    other = world.come("10.0.0.2")
    assert other is not None
    assert world.refused == [("3 of its connections have not said who they are", "10.0.0.1")]
    close(*here[:3], other)
    assert (len(world.guests), world.guests.strangers) == (0, 0)


def test_who_has_said_who_it_is_counts_among_the_strangers_no_more(make_world):
    world = make_world()
    here = [world.come() for _ in range(3)]
    world.guests.known(here[0].fileno())
    assert world.guests.strangers == 2
    here.append(world.come())
    assert here[-1] is not None
    assert len(world.guests) == 4
    close(*here)
    assert len(world.guests) == 0


def test_a_stranger_that_was_silent_for_a_second_makes_room_for_the_next(make_world, clock):
    world = make_world()
    here = [world.come() for _ in range(3)]
    clock.advance(round(SILENT_S * 1000))
    newer = world.come()
    assert newer is not None
    assert [is_open(one) for one in (*here, newer)] == [False, True, True, True]
    assert world.guests.strangers == 3
    close(*here, newer)
    assert world.guests.strangers == 0


def test_over_the_limit_in_all_nobody_comes_in(make_world):
    world = make_world(most=2)
    here = [world.come(f"10.0.0.{number}") for number in range(3)]
    for one in here[:2]:
        world.guests.known(one.fileno())
    assert here[2] is None
    close(here[0])
    again = world.come()
    assert again is not None
    close(here[1], again)


def test_two_connections_from_one_port_are_two_however_often_they_come(make_world, clock):
    """To one listener each; or to one, reset and made again before the end of the first was noticed."""
    world = make_world(most=100)
    for _ in range(4):
        first, second = world.come(port=20_000), world.come(port=20_000)
        world.guests.known(second.fileno())
        assert (len(world.guests), world.guests.strangers) == (2, 1)
        close(first, second)
    here = [world.come(port=20_000) for _ in range(3)]
    clock.advance(2000)
    here.append(world.come(port=20_000))
    assert here[-1] is not None
    close(*here)
    assert (len(world.guests), world.guests.strangers) == (0, 0)


def test_when_strangers_of_many_addresses_are_too_many_the_most_crowded_one_gives_way(make_world, clock):
    world = make_world(most=100, strangers_most=4)
    crowd = [world.come("10.0.0.9") for _ in range(3)]
    lone = world.come("10.0.0.1")
    clock.advance(2000)
    newer = world.come("10.0.0.2")
    assert [is_open(one) for one in (*crowd, lone, newer)] == [False, True, True, True, True]
    close(*crowd, lone, newer)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::2", True),
        ("2001:db8:0:0:1::", "2001:db8::2%eth0", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.2", False),
        ("10.0.0.1", "10.0.0.11", False),
    ],
)
def test_what_counts_as_one_address(make_world, one, other, same):
    world = make_world(strangers_each=1)
    first, second = world.come(one), world.come(other)
    assert (second is None) is same
    close(*(guest for guest in (first, second) if guest is not None))


def test_a_listener_counts_and_a_refused_connection_is_closed(make_world):
    world = make_world(strangers_each=1)
    with counting(socket.create_server(("127.0.0.1", 0)), world.guests) as listener:
        first = socket.create_connection(listener.getsockname())
        second = socket.create_connection(listener.getsockname())
        guest, address = listener.accept()
        assert address == first.getsockname()
        with pytest.raises(ConnectionAbortedError):
            listener.accept()
        assert second.recv(1) == b""
        guest.close()
        assert len(world.guests) == 0
        first.close()
        second.close()
