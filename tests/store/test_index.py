"""What is known of the index files."""

from __future__ import annotations

import pytest

from fedctl.store.index import BlockRow, GraphRow

A_GRAPH = GraphRow("g1", 10, 99, "digest", 5)


@pytest.fixture
def shelf(bench):
    """Two tenants, `a` and `b`."""
    bench.keep("a1", tenant="a")
    bench.keep("b1", tenant="b")
    return bench


def keys(bench) -> tuple[int, int]:
    return bench.key("a"), bench.key("b")


def model(bench, name: str = "m"):
    with bench.store.write():
        return bench.store.embeddings.add_model(name, 1)


def publish(  # noqa: PLR0913  what a snapshot is made of
    bench, key: int, model_key: int, generation: str, *, fresh: bool, first: int = 0, rows: int = 5
) -> None:
    bench.store.indexes.put_snapshot(
        key, model_key, generation=generation, vectors=first + rows, through_key=first + rows, stamp="s", now_ms=1,
        block=BlockRow(first, rows, f"digest{first}"), fresh=fresh,
    )  # fmt: skip


def test_a_file_grows_by_blocks_and_a_new_generation_begins_without(shelf):
    a, b = keys(shelf)
    one = model(shelf)
    indexes = shelf.store.indexes
    assert indexes.snapshot(a, one.key) is None
    with shelf.store.write():
        publish(shelf, a, one.key, "g1", fresh=True)
        publish(shelf, a, one.key, "g1", fresh=False, first=5)
        publish(shelf, b, one.key, "g2", fresh=True)
    assert indexes.snapshot(a, one.key).vectors == 10
    assert [(block.first, block.vectors) for block in indexes.blocks(a, one.key)] == [(0, 5), (5, 5)]
    with shelf.store.write():
        publish(shelf, a, one.key, "g3", fresh=True, rows=7)
    assert indexes.snapshot(a, one.key).generation == "g3"
    assert indexes.blocks(a, one.key) == [BlockRow(0, 7, "digest0")]
    assert indexes.snapshot(b, one.key).generation == "g2"


def test_the_age_of_the_index_is_that_of_the_file_which_lags_most_behind(shelf):
    a, b = keys(shelf)
    one = model(shelf)
    indexes = shelf.store.indexes
    assert indexes.most_outdated_ms(1000) == 0
    with shelf.store.write():
        publish(shelf, a, one.key, "g1", fresh=True, rows=0)
    assert indexes.most_outdated_ms(1000) == 0
    with shelf.store.write():
        shelf.store.embeddings.add(a, one.key, [(1, [b"\0\0"])])
        publish(shelf, b, one.key, "g1", fresh=True, rows=9)
    assert indexes.most_outdated_ms(1000) == 999
    with shelf.store.write():
        publish(shelf, a, one.key, "g2", fresh=True, rows=9)
    assert indexes.most_outdated_ms(1000) == 0


def test_a_file_is_forgotten_or_restamped_only_if_it_is_still_the_same(shelf):
    a, _ = keys(shelf)
    one = model(shelf)
    indexes = shelf.store.indexes
    with shelf.store.write():
        publish(shelf, a, one.key, "g1", fresh=True)
        old = indexes.snapshot(a, one.key)
        publish(shelf, a, one.key, "g1", fresh=False, first=5)
        indexes.restamp(a, one.key, old, "stale")
        assert indexes.snapshot(a, one.key).stamp == "s"
        indexes.restamp(a, one.key, indexes.snapshot(a, one.key), "new")
        assert indexes.snapshot(a, one.key).stamp == "new"
        assert not indexes.drop_snapshot(a, one.key, "g0")
        assert indexes.drop_snapshot(a, one.key, "g1")
    assert indexes.snapshot(a, one.key) is None
    assert indexes.blocks(a, one.key) == []


def test_a_tenant_has_one_graph_a_model_and_a_new_one_takes_its_place(shelf):
    a, b = keys(shelf)
    one, other = model(shelf), model(shelf, "other")
    indexes = shelf.store.indexes
    assert indexes.graph(a, one.key) is None
    newer = A_GRAPH._replace(generation="g2", vectors=12, through_key=101)
    with shelf.store.write():
        for key, model_key in ((a, one.key), (a, other.key), (b, one.key)):
            indexes.put_graph(key, model_key, A_GRAPH)
        indexes.put_graph(a, one.key, newer)
    assert indexes.graph(a, one.key) == newer
    assert indexes.graph(a, other.key) == indexes.graph(b, one.key) == A_GRAPH
    assert indexes.graph(b, other.key) is None
    assert indexes.graphs() == [(a, one.key, "g2"), (a, other.key, "g1"), (b, one.key, "g1")]


def test_a_graph_is_forgotten_only_if_it_is_still_the_same(shelf):
    a, b = keys(shelf)
    one = model(shelf)
    indexes = shelf.store.indexes
    with shelf.store.write():
        indexes.put_graph(a, one.key, A_GRAPH)
        indexes.put_graph(b, one.key, A_GRAPH)
        assert not indexes.drop_graph(a, one.key, "g0")
        assert indexes.drop_graph(a, one.key, "g1")
        assert not indexes.drop_graph(a, one.key, "g1")
    assert indexes.graphs() == [(b, one.key, "g1")]


def test_files_of_other_models_are_forgotten_of_one_tenant(shelf):
    a, b = keys(shelf)
    one, other = model(shelf), model(shelf, "other")
    indexes = shelf.store.indexes
    with shelf.store.write():
        for key in (a, b):
            for which in (one, other):
                publish(shelf, key, which.key, "g", fresh=True)
                indexes.put_graph(key, which.key, A_GRAPH)
        indexes.drop_other_models(a, other.key)
    left = [(a, other.key), (b, one.key), (b, other.key)]
    assert [row[:2] for row in indexes.snapshots()] == [row[:2] for row in indexes.graphs()] == left
    assert indexes.blocks(a, one.key) == []
    assert len(indexes.blocks(b, one.key)) == 1
