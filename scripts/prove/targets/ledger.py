"""The file of erasures, damaged in any way. A target of `fuzz`.

It is always read; what is damaged takes no other line with it; what is added is there, and stays when the file is cut
behind it.
"""

from __future__ import annotations

from fedctl.store.ledger import Entry, Ledger, episode_digest, tenant_digest

from .typist import scratch

ABOUT = "the file of erasures"
INCLUDE = ("fedctl.store.ledger",)
WORDS = (b"tenant ", b"episode ", b"void ", b"\n", b" ", b"0" * 64, b"ab" * 32, b"-1", b"9" * 30, b"1_0", b"\xd9\xa1")
FOLDER = scratch()
ADDED = Entry("tenant", tenant_digest("gone"), 1_767_225_600_123)
TAKEN_BACK = Entry("episode", episode_digest("kept", "e1"), 1_767_225_600_456)


def originals() -> list[bytes]:
    """Return whole files."""
    path = FOLDER / "whole"
    ledger = Ledger(path)
    ledger.add([Entry("tenant", tenant_digest("a"), 1), Entry("episode", episode_digest("b", "e"), 2), TAKEN_BACK])
    ledger.void([TAKEN_BACK])
    whole = path.read_bytes()
    path.unlink()
    return [whole, whole * 3, b""]


def check(data: bytes) -> None:
    """Read it, add to it, take back, cut it."""
    path = FOLDER / "erasures"
    path.write_bytes(data)
    ledger = Ledger(path)
    before = list(ledger.read())
    lines = data.split(b"\n")[:-1]
    assert len(before) <= len(lines)
    for line in lines:  # each by itself: what stands beside it takes nothing from it but what it was taken back by
        if line.startswith((b"tenant ", b"episode ")) and b"void" not in data:
            path.write_bytes(line + b"\n")
            alone = list(ledger.read())
            assert all(one in before for one in alone), (line, before)
    path.write_bytes(data)
    ledger.add([ADDED])
    added = list(ledger.read())
    assert added[-1] == ADDED
    assert added[:-1] == before, (before, added)  # what was torn off has not come to be a line
    ledger.add([TAKEN_BACK])
    ledger.void([TAKEN_BACK])
    assert TAKEN_BACK not in ledger.read()
    assert ADDED in ledger.read()
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])  # a crash in the last line
    assert ADDED in ledger.read()
