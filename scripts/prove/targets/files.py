"""Files to import: JSON lines, a JSON array, CSV, TSV, a SQLite database. A target of `fuzz`.

An import says how many lines came to what, and these add up; the same file once more brings nothing new. The first
byte chooses the form.
"""

from __future__ import annotations

import csv
import io
import sqlite3
from typing import Any

import msgspec

from .typist import Desk, scratch

ABOUT = "files to import"
INCLUDE = ("fedctl.cli.intake", "fedctl.cli.sources", "fedctl.cli.transfer", "fedctl.cli.values", "fedctl.model")
WORDS = (b"task", b"output", b"metadata.x", b"reward", b"success", b"pinned", b"tokens_used", b'"', b'""', b"\t", b",",
         b"\r\n", b"\n", b"\0", b"1e999", b'{"a":1}', b"true", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"SQLite format 3\0",
         b"CREATE TABLE", b"\xe2\x80\xa8", b"9" * 40)  # fmt: skip
FORMS = ("jsonl", "json", "csv", "tsv", "sqlite")
DESK = Desk()
FOLDER = scratch()


def originals() -> list[bytes]:
    """Return a file of each form."""
    line = b'{"id":"e1","task":"t","output":"o","metadata":{"a":1}}'
    rows = [
        ["task", "output", "reward", "success", "pinned", "tokens_used", "metadata.lang", "metadata"],
        ["one", 'a "quoted"\nline', "0.5", "true", "0", "12", "de", ""],
        ["two", "", "", "0", "1", "", "1.5", '{"a": [1]}'],
    ]
    separated = []
    for delimiter in (",", "\t"):
        text = io.StringIO()
        csv.writer(text, delimiter=delimiter).writerows(rows)
        separated.append(text.getvalue().encode())
    lines = line + b"\n" + line.replace(b"e1", b"e2") + b"\n\n"
    files = [lines, b"[" + line + b"," + line + b"]", *separated, _sqlite()]
    return [bytes([form]) + some for form, some in enumerate(files)]


def _sqlite() -> bytes:
    connection = sqlite3.connect(":memory:")
    connection.execute("pragma page_size=512")
    connection.execute("create table e (task, output, reward, success, metadata)")
    rows = [("one", "o", 0.5, 1, '{"a": 1}'), ("two", 3, None, 0, None), ("three", b"blob", 1, None, "x")]
    connection.executemany("insert into e values (?, ?, ?, ?, ?)", rows)
    connection.commit()
    return connection.serialize()


def check(data: bytes) -> None:
    """Import the file twice."""
    if not data:
        return
    form = FORMS[data[0] % len(FORMS)]
    tenant = DESK.tenant()
    path, refused = FOLDER / "given", FOLDER / "refused"
    path.write_bytes(data[1:])
    first = _imported(tenant, str(path), form, str(refused))
    if first is None:
        return
    again = _imported(tenant, str(path), form, str(refused))
    assert again is not None
    assert again["imported"] == 0, f"{again} after {first}"
    assert again["lines"] == first["lines"], f"{again} after {first}"
    assert again["rejected"] == first["rejected"], f"{again} after {first}"


def _imported(tenant: str, path: str, form: str, refused: str) -> dict[str, Any] | None:
    answer = DESK.type(tenant, "memory", "import", path, "--from", form, "--rejects", refused, "--no-embed", "--json")
    assert answer.code in (0, 1, 2, 3), answer
    if answer.code in (1, 2):
        assert b'"error"' in answer.err, answer
        return None
    counts: dict[str, Any] = msgspec.json.decode(answer.out)
    parts = ("imported", "existing", "skipped", "deleted", "rejected")
    assert counts["lines"] == sum(counts[one] for one in parts), counts
    assert (answer.code == 3) == (counts["rejected"] > 0), answer
    with open(refused, "rb") as file:  # noqa: PTH123  a path as it was given
        told = [msgspec.json.decode(line) for line in file]
    assert len(told) == counts["rejected"], (told, counts)
    return counts
