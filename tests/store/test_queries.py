from __future__ import annotations

import re
from pathlib import Path

import pytest

import fedctl.store
from fedctl.store.queries import load
from fedctl.store.store import Store

STORE = Path(fedctl.store.__file__).parent
COLUMNS = sorted(path.stem for path in (STORE / "queries").glob("*.sql"))
FRAGMENTS = {"filter", "columns"}


@pytest.mark.parametrize("column", COLUMNS)
def test_every_column_of_queries_has_a_gateway(column: str):
    assert (STORE / f"{column}.py").is_file()


@pytest.mark.parametrize("column", COLUMNS)
def test_every_statement_is_used_by_its_gateway(column: str):
    code = (STORE / f"{column}.py").read_text(encoding="utf-8")
    assert [name for name in load(column) if name not in FRAGMENTS and f'"{name}"' not in code] == []


@pytest.mark.parametrize("column", COLUMNS)
def test_every_name_that_a_gateway_uses_is_a_statement(column: str):
    code = (STORE / f"{column}.py").read_text(encoding="utf-8")
    used = set(re.findall(r'(?:_sql\[|_words\()"(\w+)"', code))
    assert used
    assert used <= set(load(column))


@pytest.mark.parametrize("column", COLUMNS)
def test_every_statement_is_one_that_this_schema_understands(column: str, clock):
    store = Store.in_memory(clock)
    with store.write():
        store.database.run_script(load("memory")["create_words"].replace("{words}", "words_1"))
    for name, sql in load(column).items():
        if name in FRAGMENTS or name == "create_words":
            continue
        bare = re.sub(r"--.*", "", sql).replace("{words}", "words_1")
        store.database.rows(f"EXPLAIN {bare}", dict.fromkeys(re.findall(r":(\w+)", bare)))
    store.close()


@pytest.mark.parametrize("column", COLUMNS)
def test_no_statement_reads_the_time_or_rolls_dice(column: str):
    for sql in load(column).values():
        bare = re.sub(r"--.*", "", sql).lower()
        assert not re.search(r"\b(now|random|randomblob|datetime|date|time|strftime|unixepoch)\s*\(|current_time", bare)


@pytest.mark.parametrize("column", COLUMNS)
def test_no_fragment_is_left_unfilled(column: str):
    for sql in load(column).values():
        assert set(re.findall(r"\{(\w+)\}", sql)) <= {"words"}
