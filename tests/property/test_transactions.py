"""Savepoints in transactions against a model that is a stack of dictionaries."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fedctl.errors import Failure
from fedctl.store.database import Database

# A tree: a number is a row that is added (twice the same is an error), a list a nested transaction, which may end
# badly by itself (the flag).
TREES = st.recursive(
    st.integers(0, 6), lambda inner: st.tuples(st.booleans(), st.lists(inner, max_size=4)), max_leaves=12
)


class GoneWrongError(Exception):
    pass


def carry_out(database: Database, node: Any, model: set[int]) -> None:
    """Do what a node says; leave in `model` what must then be there."""
    if isinstance(node, int):
        try:
            database.run("INSERT INTO numbers VALUES (:n)", {"n": node})
        except Failure:
            assert node in model
            raise
        assert node not in model
        model.add(node)
        return
    fails, parts = node
    kept = set(model)
    try:
        with database.write():
            for part in parts:
                carry_out(database, part, kept)
            if fails:
                raise GoneWrongError
    except (GoneWrongError, Failure):
        return
    model.clear()
    model |= kept


@settings(max_examples=150)
@given(st.lists(st.tuples(st.booleans(), st.lists(TREES, max_size=4)), max_size=4))
def test_what_is_kept_is_what_ended_well_all_the_way_up(transactions: list[Any]):
    database = Database(None)
    with database.write():
        database.run_script("CREATE TABLE numbers (n INTEGER PRIMARY KEY) STRICT")
    model: set[int] = set()
    for transaction in transactions:
        carry_out(database, transaction, model)
        assert {row[0] for row in database.rows("SELECT n FROM numbers")} == model
    database.close()
