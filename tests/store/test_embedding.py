"""Vectors as rows, and their queue."""

from __future__ import annotations

import pytest

BLOB = b"\0\x3c"  # 1.0


@pytest.fixture
def shelf(bench, make_embedder):
    """Three episodes of each of two tenants: seqs 1 to 3 of `a`, 4 to 6 of `b`."""
    bench.keep("a1", "a2", "a3", tenant="a")
    bench.keep("b1", "b2", "b3", tenant="b")
    return bench


def keys(bench) -> tuple[int, int]:
    return bench.key("a"), bench.key("b")


def model(bench, name: str = "m", dim: int = 1):
    with bench.store.write():
        return bench.store.embeddings.add_model(name, dim)


def test_a_model_is_entered_once(bench):
    one = model(bench)
    assert model(bench) == one
    assert bench.store.embeddings.model("m") == bench.store.embeddings.model_by_key(one.key) == one
    assert bench.store.embeddings.model("other") is None
    assert model(bench, "other").key != one.key


def test_what_waits_is_told_newest_first_and_by_tenant(shelf):
    a, b = keys(shelf)
    queued = shelf.store.embeddings.queued
    assert [one.seq for one in queued(a, 100)] == [3, 2, 1]
    assert [one.seq for one in queued(a, 2)] == [3, 2]
    assert [one.seq for one in queued(b, 100)] == [6, 5, 4]
    assert shelf.store.embeddings.waiting_tenants() == [a, b]
    assert [shelf.store.embeddings.pending(key) for key in (a, b, None)] == [3, 3, 6]


def test_an_episode_with_its_vectors_waits_no_longer(shelf):
    a, _ = keys(shelf)
    one = model(shelf)
    with shelf.store.write():
        shelf.store.embeddings.add(a, one.key, [(1, [BLOB, BLOB]), (2, [BLOB])])
    assert shelf.store.embeddings.pending(a) == 1
    assert shelf.store.embeddings.still_queued([1, 2, 3, 4, 99]) == {3, 4}
    assert shelf.store.embeddings.count(a, one.key) == 3
    assert shelf.store.embeddings.count_embedded(a, one.key) == 2
    assert shelf.store.embeddings.of_episodes(one.key, [1, 2, 3]) == {1: ("m", [BLOB, BLOB]), 2: ("m", [BLOB])}


def test_embedding_twice_keeps_the_first(shelf):
    a, _ = keys(shelf)
    one = model(shelf)
    for blob in (BLOB, b"\0\0"):
        with shelf.store.write():
            shelf.store.embeddings.add(a, one.key, [(1, [blob])])
    assert shelf.store.embeddings.of_episodes(one.key, [1]) == {1: ("m", [BLOB])}


def test_vectors_and_places_in_the_queue_go_with_their_episode(shelf):
    a, _ = keys(shelf)
    one = model(shelf)
    with shelf.store.write():
        shelf.store.embeddings.add(a, one.key, [(1, [BLOB])])
        shelf.store.episodes.remove(a, 1)
        shelf.store.episodes.remove(a, 2)
    assert shelf.store.embeddings.count(a, one.key) == 0
    assert shelf.store.embeddings.pending(a) == 1


def test_the_key_of_a_vector_is_never_used_again(shelf):
    a, _ = keys(shelf)
    one = model(shelf)
    with shelf.store.write():
        shelf.store.embeddings.add(a, one.key, [(1, [BLOB]), (2, [BLOB])])
    last = shelf.store.embeddings.after(a, one.key, 0, 10)[-1][0]
    with shelf.store.write():
        shelf.store.episodes.remove(a, 2)
        shelf.store.embeddings.add(a, one.key, [(3, [BLOB])])
    assert [row[:2] for row in shelf.store.embeddings.after(a, one.key, last, 10)] == [(last + 1, 3)]


def test_vectors_are_read_by_tenant_and_model_in_order(shelf):
    a, b = keys(shelf)
    one, other = model(shelf), model(shelf, "other")
    with shelf.store.write():
        for seq in (1, 2, 3):
            shelf.store.embeddings.add(a, one.key, [(seq, [BLOB])])
            shelf.store.embeddings.add(b, one.key, [(seq + 3, [BLOB])])
            shelf.store.embeddings.add(a, other.key, [(seq, [BLOB])])
    assert [row[1] for row in shelf.store.embeddings.after(a, one.key, 0, 100)] == [1, 2, 3]
    assert [row[1] for row in shelf.store.embeddings.after(b, one.key, 0, 2)] == [4, 5]
    first = shelf.store.embeddings.after(a, one.key, 0, 1)[0][0]
    assert shelf.store.embeddings.count_after(a, one.key, first, 100) == 2
    assert shelf.store.embeddings.count_after(a, one.key, first, 1) == 1


def test_only_what_lacks_a_vector_of_the_model_is_queued_again(shelf):
    a, b = keys(shelf)
    one, other = model(shelf), model(shelf, "other")
    with shelf.store.write():
        shelf.store.embeddings.add(a, one.key, [(seq, [BLOB]) for seq in (1, 2, 3)])
        shelf.store.embeddings.add(a, other.key, [(1, [BLOB])])
        shelf.store.embeddings.add(b, one.key, [(seq, [BLOB]) for seq in (4, 5, 6)])
        shelf.store.embeddings.enqueue_missing(a, other.key)
    assert [one.seq for key in (a, b) for one in shelf.store.embeddings.queued(key, 100)] == [3, 2]
    assert shelf.store.embeddings.waiting_tenants() == [a]
    with shelf.store.write():
        shelf.store.embeddings.enqueue_missing(None, other.key)
    assert [one.seq for key in (a, b) for one in shelf.store.embeddings.queued(key, 100)] == [3, 2, 6, 5, 4]


def test_dropping_other_models_is_for_one_tenant(shelf):
    a, b = keys(shelf)
    one, other = model(shelf), model(shelf, "other")
    with shelf.store.write():
        for key, seq in ((a, 1), (b, 4)):
            for which in (one, other):
                shelf.store.embeddings.add(key, which.key, [(seq, [BLOB])])
        shelf.store.embeddings.drop_other_models(a, other.key)
    counts = [shelf.store.embeddings.count(key, which.key) for key in (a, b) for which in (one, other)]
    assert counts == [0, 1, 1, 1]
