"""Seeded ways to damage bytes, and valid frames of both sides of a session to be damaged. A module, not a program.

The same seed gives the same damage, on every machine.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import msgspec

from fedctl.errors import Conflict
from fedctl.messages.hub import Subscribe
from fedctl.messages.memory import GetAnswer, GetEpisodes, QueryEpisodes, StoreEpisodes
from fedctl.messages.pool import ClaimItems, PushItems
from fedctl.model.episode import EpisodeDraft
from fedctl.model.hub import Event
from fedctl.model.pool import ItemDraft
from fedctl.operations.table import OPERATIONS
from fedctl.wire import frames
from fedctl.wire.codec import to_json
from fedctl.wire.session import ClientSession, ServerSession, notice

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fedctl.wire.codec import RequestDecoder

TOKENS = (
    *(b"null", b"true", b"{}", b"[]", b'""', b"-0", b"1e999", b"NaN", b"9" * 400, b"-1", b"9007199254740993"),
    *(rb'"\ud800"', rb'"\u0000"', b'"\xff\xfe"', b'"\xc3\x28"', b"[" * 1200, b'{"a":' * 1200, b"\x00", b"\xef\xbb\xbf"),
    *(b'"frame":"goodbye"', b'"frame":"hello"', b'"id":null', b'"id":-1', b'"op":"memory.store"', b'"request":[]'),
)
"""What is put where something else was."""


def valid_calls() -> list[bytes]:
    """Return calls that can be read: some with content, one as bare as can be of each operation."""
    draft = EpisodeDraft(id="e1", task="t", input={"a": [1, 2.5, None, "x"]}, output="o", reward=0.5)
    item = ItemDraft(id="i1", data={"path": "a"}, priority=3)
    asked = [
        StoreEpisodes(episodes=[draft, msgspec.structs.replace(draft, id="e2")]),
        QueryEpisodes(text="what was learned", k=5),
        GetEpisodes(ids=["e1", "e2"]),
        PushItems(pool="p", items=[item]),
        ClaimItems(pool="p", worker_id="w"),
        Subscribe(kinds=["episode_stored"]),
    ]
    session = ClientSession()
    calls = [session.call(request)[1] for request in asked]
    for kind in OPERATIONS:
        bare = msgspec.Raw(msgspec.json.encode({"op": kind.__struct_config__.tag}))
        calls.append(msgspec.json.encode(frames.Call(id=len(calls) + 1, request=bare)))
    return calls


def valid_client_frames() -> list[bytes]:
    """Return what a client may say, the hello first."""
    hello = ClientSession().hello(client="mutant", tenant_id="acme", agent_id="a1")
    return [hello, *valid_calls(), ClientSession().goodbye()]


def valid_server_frames(welcome: frames.Welcome, requests: RequestDecoder) -> list[bytes]:
    """Return what a hub may say, the welcome first."""
    session = ServerSession(requests)
    event = Event(seq=1, tenant_id="t", kind="episode_stored", subject="e", detail={"n": 1}, at="2026-01-01T00:00:00Z")
    return [
        session.welcome(welcome),
        session.answer(1, GetAnswer(episodes=[], missing=["e1"], rest=[])),
        session.fail(2, Conflict("it exists", hint="look", details={"a": 1})),
        notice([to_json(event)]),
        session.stop("enough"),
        session.refuse(Conflict("no")),
        session.goodbye(1001, "the hub is stopping"),
    ]


def mutants(originals: list[bytes], seed: int, tokens: tuple[bytes, ...] = TOKENS) -> Iterator[bytes]:
    """Yield damaged originals without end."""
    dice = random.Random(seed)
    while True:
        data = bytearray(dice.choice(originals))
        for _ in range(dice.choice((1, 1, 1, 2, 4, 16))):
            _damage(data, originals, dice, tokens)
        yield bytes(data[: 64 << 10])


def _damage(data: bytearray, originals: list[bytes], dice: random.Random, tokens: tuple[bytes, ...]) -> None:
    begin = dice.randrange(len(data) + 1)
    end = min(len(data), begin + dice.choice((0, 1, 1, 2, 8, 64)))
    how = dice.randrange(7)
    if how == 0 and begin < len(data):
        data[begin] ^= 1 << dice.randrange(8)
    elif how == 1:
        del data[begin:end]
    elif how == 2:
        data[begin:end] = data[begin:end] * dice.choice((2, 3, 50))
    elif how == 3:
        data[begin:end] = dice.choice(tokens)
    elif how == 4:
        data[begin:end] = dice.randbytes(dice.choice((1, 4, 200)))
    elif how == 5:
        del data[begin:]
    else:
        other = dice.choice(originals)
        data[begin:] = other[dice.randrange(len(other) + 1) :]
