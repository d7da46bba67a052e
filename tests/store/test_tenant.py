from __future__ import annotations

import pytest


def test_a_tenant_comes_into_being_with_its_first_record_and_keeps_its_key(bench):
    tenants = bench.store.tenants
    assert tenants.key("a") is None
    with bench.store.write():
        key = tenants.key_for_writing("a", 1)
        assert tenants.key_for_writing("a", 2) == key
    assert tenants.key("a") == key
    assert tenants.all() == [(key, "a")]
    assert tenants.count() == 1


def test_a_key_that_was_rolled_back_is_not_remembered(bench):
    tenants = bench.store.tenants
    with pytest.raises(KeyError), bench.store.write():
        lost = tenants.key_for_writing("lost", 1)
        assert tenants.key("lost") == lost
        raise KeyError
    assert tenants.key("lost") is None
    with bench.store.write():
        other = tenants.key_for_writing("other", 1)
        # The number is free again: whoever remembered it for the lost one would now write into the other's memory.
        assert other == lost
        assert tenants.key("lost") is None
        assert tenants.key_for_writing("lost", 1) != other


def test_names_are_compared_exactly(bench):
    with bench.store.write():
        keys = {bench.store.tenants.key_for_writing(name, 1) for name in ("a", "A", "a.", "a:")}
    assert len(keys) == 4


def test_a_tenant_that_another_process_made_is_found(bench):
    other = bench.another()
    with bench.store.write():
        key = bench.store.tenants.key_for_writing("a", 1)
        assert other.store.tenants.key("a") is None
    assert other.store.tenants.key("a") == key
