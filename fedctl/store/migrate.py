"""Numbered migrations: each runs once, in its own place, and is recorded with its digest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fedctl.errors import Corrupt
from fedctl.store.database import APPLICATION_ID

if TYPE_CHECKING:
    from fedctl.store.database import Database

_FOLDER = Path(__file__).parent / "migrations"
SCHEMA_VERSION = 7
"""The number of the newest migration; a test compares it with the folder."""

_RECORD = """
CREATE TABLE IF NOT EXISTS migrations (
  number        INTEGER PRIMARY KEY,
  name          TEXT    NOT NULL,
  sha256        TEXT    NOT NULL,
  applied_at_ms INTEGER NOT NULL
) STRICT
"""


def check(database: Database) -> bool:
    """Return whether the store is at this fedctl's schema; False when it is older.

    Raises:
        Corrupt: The file is no store of fedctl, or its schema is newer.
    """
    if database.pragma("application_id") != APPLICATION_ID:
        raise Corrupt(f"{database.path} is not a store of fedctl", hint="move it aside, or point --home somewhere else")
    version = int(database.pragma("user_version"))
    if version > SCHEMA_VERSION:
        raise Corrupt(
            f"the store's schema is {version}, this fedctl knows up to {SCHEMA_VERSION}",
            hint="use the newer fedctl that made it",
            details={"schema_version": version, "known": SCHEMA_VERSION},
        )
    return version == SCHEMA_VERSION


def migrate(database: Database, now_ms: int, *, through: int = SCHEMA_VERSION) -> None:
    """Bring the store to this fedctl's schema, or `through` an earlier one, inside a write transaction."""
    import hashlib  # noqa: PLC0415  it brings OpenSSL: 3 ms of every command that finds the schema as it is

    database.run_script(_RECORD)
    present = int(database.pragma("user_version"))
    for file in sorted(_FOLDER.glob("*.sql")):
        number = int(file.name[:4])
        if not present < number <= through:
            continue
        text = file.read_bytes()
        database.run_script(text.decode())
        database.run(
            "INSERT INTO migrations (number, name, sha256, applied_at_ms) VALUES (:number, :name, :sha256, :now_ms)",
            {"number": number, "name": file.stem, "sha256": hashlib.sha256(text).hexdigest(), "now_ms": now_ms},
        )
    database.run_script(f"pragma application_id = {APPLICATION_ID}; pragma user_version = {through}")


def altered(database: Database) -> list[str]:
    """Return the names of migrations that ran with another text than this fedctl has."""
    import hashlib  # noqa: PLC0415  likewise

    known = {file.stem: hashlib.sha256(file.read_bytes()).hexdigest() for file in _FOLDER.glob("*.sql")}
    rows = database.rows("SELECT name, sha256 FROM migrations ORDER BY number")
    return [name for name, digest in rows if known.get(name) != digest]
