"""doctor at a hub: this home's own, and one elsewhere with a token."""

from __future__ import annotations

import pytest

from fedctl import config
from fedctl.doctor.examine import CHECKS, examine
from fedctl.doctor.patient import Patient

LOOKED_AT = {name: check for name, check in CHECKS.items() if name not in ("model", "leftovers", "file system", "disk")}


def looked_at(embedder, tmp_path, token=None, **flags):
    environ = {"FEDCTL_TOKEN": token} if token else {}
    settings = config.load({"home": str(tmp_path / "nowhere"), **flags}, environ)
    patient = Patient(settings, environ, embedder=embedder)
    try:
        return {one.check: one for one in examine(patient, checks=LOOKED_AT)}
    finally:
        patient.forget()


def test_a_home_with_a_hub_is_well_and_one_elsewhere_says_what_the_token_may_see(hub, make_embedder, tmp_path):
    here = looked_at(make_embedder(), tmp_path, home=str(hub.home))
    assert {name for name, one in here.items() if one.status != "ok"} == set()
    assert here["hub"].figures["running"] is True
    there = looked_at(make_embedder(), tmp_path, hub.token(role="operator"), hub=hub.info.url)
    assert {name: one.status for name, one in there.items() if one.status != "ok"} == {}
    assert {"hub", "hub disk", "store", "clock", "workers", "pools"} <= there.keys()
    agent = looked_at(make_embedder(), tmp_path, hub.token(role="agent"), hub=hub.info.url)
    assert {name: one.status for name, one in agent.items() if one.status != "ok"} == {
        "store": "note", "hub disk": "note",
    }  # fmt: skip
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("token", ["nonsense", None])
def test_a_hub_that_does_not_let_us_in_is_one_failure(hub, make_embedder, tmp_path, token):
    found = looked_at(make_embedder(), tmp_path, token, hub=hub.info.url)
    assert [name for name, one in found.items() if one.status == "failure"] == ["hub"]
    assert "token" in found["hub"].found
