"""JSON lines: episodes to store, items to push, and what is done with items. A target of `fuzz`.

What is acknowledged is kept as it was given, value for value; each line is answered once and in its place. The first
byte chooses what the rest is typed at.
"""

from __future__ import annotations

import json
from typing import Any

from fedctl.messages.memory import GetEpisodes
from fedctl.messages.pool import ClaimItems, GetItem, PushItems
from fedctl.model.pool import ItemDraft

from .typist import Desk, Typed

ABOUT = "JSON lines of episodes and items"
INCLUDE = ("fedctl.cli.intake", "fedctl.cli.items", "fedctl.cli.values", "fedctl.model")
WORDS = (b'"id":', b'"task":', b'"input":', b'"output":', b'"reward":', b'"metadata":', b'"data":', b'"key":',
         b"$LEASE", b'"lease_id":', b'"result":', b'"tenant_id":', b'"created_at":', b'"requires":', b'"embedding":',
         b'"then_push":', b'"delay":', b'"retry_in":', rb'"\ud800"', rb'"\u0000"', b"1e999", b"-0.0",
         b"9007199254740993", b"[[[[[[[[", b"9" * 30, b"1.0", b"\xef\xbb\xbf", b"true", b"\n")  # fmt: skip
LEASE = "fuzz-lease"
CHECKED_MAX = 20
DESK = Desk()


def originals() -> list[bytes]:
    """Return lines that can be read, of each kind."""
    episode = (
        b'{"id":"e1","task":"t","input":{"a":[1,2.5,null,"x",true]},"output":"o","reward":0.5}\n'
        b'{"task":"t2","output":[[],{}],"metadata":{"a.b":1,"c":{"d":-0.5}},"created_at":"2026-01-01T00:00:00Z"}\n'
        b'{"id":"e1","task":"t","input":{"a":[1,2.5,null,"x",true]},"output":"o","reward":0.5}\n'
    )
    items = (
        b'{"id":"i1","data":{"path":"a"},"priority":3,"key":"k"}\n{"data":[1.0,1,18446744073709551616],"delay":"1h"}\n'
        b'{"data":null,"requires":["gpu"],"max_retries":1,"at":"2026-01-01T00:00:00Z"}\n{"id":"i1","key":"k"}\n'
    )
    done = (
        b'{"id":"c1","lease_id":"$LEASE","result":{"a":1.0},"then_push":[{"pool":"q","data":1}]}\n'
        b'{"id":"c2","lease_id":"$LEASE","episode":{"task":"t","output":"o"}}\n{"id":"c1","lease_id":"other"}\n'
    )
    failed = (
        b'{"id":"c1","lease_id":"$LEASE","error":"e","retry_in":"5m"}\n{"id":"c3","lease_id":"$LEASE","poison":true}\n'
    )
    held = b'{"id":"c1","lease_id":"$LEASE"}\n{"id":"c2","lease_id":"x"}\n'
    return [bytes([kind]) + some for kind, some in enumerate((episode, items, done, failed, held, held))]


def check(data: bytes) -> None:
    """Type the lines at the command that the first byte names, and look at what became of them."""
    if not data:
        return
    kind, text = data[0] % 6, data[1:].replace(b"$LEASE", LEASE.encode())
    tenant = DESK.tenant()
    if kind == 0:
        _stored(tenant, text, DESK.type(tenant, "memory", "store", "--batch", stdin=text))
        return
    if kind == 1:
        answer = DESK.type(tenant, "pool", "push", "p", "--batch", stdin=text)
        _kept(tenant, text, answer, "data")
        return
    drafts = [ItemDraft(id=f"c{number}", data=number) for number in range(1, 5)]
    caller = DESK.caller(tenant)
    caller.call(PushItems(pool="p", items=drafts))
    caller.call(ClaimItems(pool="p", worker_id="w", count=4, lease_id=LEASE))
    verb = ("complete", "fail", "extend", "release")[kind - 2]
    answer = DESK.type(tenant, "pool", verb, "--batch", stdin=text)
    if verb == "complete":
        _kept(tenant, text, answer, "result")
    else:
        _in_place(text, answer)


def _in_place(text: bytes, answer: Typed) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Hold the number of answers to that of the lines that are not blank; return what went well, and what was given."""
    answers = answer.lines()
    lines = [one for one in text.removeprefix(b"\xef\xbb\xbf").split(b"\n") if one.strip()]
    if answer.code not in (0, 3):
        assert len(answers) <= len(lines), f"{answer} to {text!r}"
        return []
    assert len(answers) == len(lines), f"{len(answers)} answers to {len(lines)} lines: {answer} to {text!r}"
    assert (answer.code == 3) == any(not one["ok"] for one in answers), answer
    pairs = []
    for line, one in zip(lines, answers, strict=True):
        assert one["ok"] or one["error"]["message"], one
        if one["ok"] and len(pairs) < CHECKED_MAX:
            given = json.loads(line.decode())
            pairs.append((given, one))
    return pairs


def _stored(tenant: str, text: bytes, answer: Typed) -> None:
    for given, one in _in_place(text, answer):
        if one["deleted"]:
            continue
        (kept,) = DESK.caller(tenant).call(GetEpisodes(ids=[one["id"]])).episodes
        assert kept.tenant_id == tenant
        for name in ("task", "input", "output", "critique", "id", "reward", "session_id", "agent_id", "metadata"):
            wanted = given.get(name)
            if (name == "id" and wanted is None) or (name == "metadata" and not wanted):
                continue
            found = getattr(kept, name)
            if name == "reward" and wanted is not None:
                wanted = float(wanted) + 0.0
            assert same(found, wanted), f"{name}: {found!r} is not {wanted!r}"


def _kept(tenant: str, text: bytes, answer: Typed, field: str) -> None:
    for given, one in _in_place(text, answer):
        if field == "data" and one["existing"] and one["id"] != given.get("id"):
            continue  # the item that has the key
        item = DESK.caller(tenant).call(GetItem(id=one["id"])).item
        assert field == "data" or item.status == "done", item
        assert same(getattr(item, field), given.get(field)), f"{getattr(item, field)!r} is not {given.get(field)!r}"


def same(one: Any, other: Any) -> bool:
    """Return whether two JSON values are equal, type for type."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)
