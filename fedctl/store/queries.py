"""SQL by name: each `queries/<column>.sql` holds statements headed `-- name: <name>`.

One statement per job, named parameters only, `:now_ms` for time: what PostgreSQL will need too. `{words}` stands
for the tenant's own table of words, the one thing in a statement that cannot be a parameter.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

_FOLDER = Path(__file__).parent / "queries"


@cache
def load(column: str) -> dict[str, str]:
    """Return the statements of one column by name, with their comments."""
    text = (_FOLDER / f"{column}.sql").read_text(encoding="utf-8")
    found: dict[str, str] = {}
    for part in text.split("-- name: ")[1:]:
        name, _, sql = part.partition("\n")
        assert name.strip() not in found, f"{column}.sql names {name.strip()} twice"
        found[name.strip()] = sql.strip()
    # The columns of a record, a fragment of the same file, are put in their place once, here.
    return {name: sql.replace("{columns}", found.get("columns", "")) for name, sql in found.items()}
