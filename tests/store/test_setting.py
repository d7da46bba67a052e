from __future__ import annotations


def test_a_setting_is_what_it_was_set_to_last(bench):
    settings = bench.store.settings
    assert settings.get("model") is None
    with bench.store.write():
        settings.put("model", "a")
        settings.put("model", "b")
    assert settings.get("model") == "b"
    assert bench.another().store.settings.epoch() == settings.epoch() != ""
