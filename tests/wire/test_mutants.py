"""Damaged sessions, the same ones every time: both sides of the wire answer or refuse them, and raise nothing."""

import itertools

import pytest

from scripts.prove.targets import mutants, wire

CLIENT = mutants.valid_client_frames()
SERVER = mutants.valid_server_frames(wire.WELCOME, wire.DECODER)
STREAM = [b"\x00\x00\x00\x05hello\x00\x00\x00\x00"]


@pytest.mark.parametrize(("side", "originals"), list(enumerate((CLIENT, CLIENT, SERVER, SERVER, STREAM))))
def test_no_damage_to_a_session_raises_anything(side, originals):
    damaged = mutants.mutants(originals, seed=7)
    for _ in range(600):
        wire.check(bytes([side]) + b"\n".join(itertools.islice(damaged, 3)))


def test_valid_sessions_are_taken_as_they_are():
    wire.check(b"\x00" + b"\n".join(CLIENT))
    wire.check(b"\x02" + b"\n".join(SERVER))


def test_the_same_seed_does_the_same_damage():
    one, two, other = (list(itertools.islice(mutants.mutants(CLIENT, seed), 50)) for seed in (1, 1, 2))
    assert one == two != other
