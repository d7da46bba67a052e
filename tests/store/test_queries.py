from __future__ import annotations

import re
from pathlib import Path

import pytest

import fedctl.store
from fedctl.model.episode import EpisodeFilter
from fedctl.store.memory import filter_parameters
from fedctl.store.queries import load
from fedctl.store.store import Store

STORE = Path(fedctl.store.__file__).parent
COLUMNS = sorted(path.stem for path in (STORE / "queries").glob("*.sql"))
CONDITIONS = {name for name in load("memory") if name.startswith("filter_")}
FRAGMENTS = CONDITIONS | {"columns"}


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


def test_every_part_of_a_filter_has_its_condition_and_the_other_way_round():
    whole = EpisodeFilter(
        agent_id="a", session_id="s", task="t", since="2026-01-01T00:00:00Z", until="2026-01-02T00:00:00Z",
        min_reward=0.5, success=True, pinned=False, where=[("key", ">=", 1)],
    )  # fmt: skip
    given = filter_parameters(whole)
    leaf = {name for name in given if name.startswith("leaf_")}
    assert {f"filter_{name}" for name in given.keys() - leaf} | {"filter_leaf"} == CONDITIONS
    assert all(f":{name}" in load("memory")[f"filter_{name}"] for name in given.keys() - leaf)
    assert set(re.findall(r":(\w+)", load("memory")["filter_leaf"])) == leaf | {"tenant_key"}
    assert len(given.keys() - leaf) == len(EpisodeFilter.__struct_fields__)


@pytest.mark.parametrize("column", COLUMNS)
def test_every_statement_is_one_that_this_schema_understands(column: str, clock):
    store = Store.in_memory(clock)
    assert store.episodes  # with it comes the function that statements call
    with store.write():
        store.database.run_script(load("memory")["create_words"].replace("{words}", "words_1"))
    every_condition = " AND ".join(load("memory")[name] for name in sorted(CONDITIONS))
    for name, sql in load(column).items():
        if name in FRAGMENTS or name == "create_words":
            continue
        bare = re.sub(r"--.*", "", sql).replace("{words}", "words_1").replace("{filter}", every_condition)
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
        assert set(re.findall(r"\{(\w+)\}", sql)) <= {"words", "filter"}
