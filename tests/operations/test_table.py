"""The table of operations: who may ask for what, and that nothing is left out of it."""

from __future__ import annotations

import inspect

import msgspec
import pytest

import fedctl.messages.agent
import fedctl.messages.hub
import fedctl.messages.memory
import fedctl.messages.pool
import fedctl.messages.retention
import fedctl.messages.store
import fedctl.messages.tenant
import fedctl.messages.token
import fedctl.messages.worker
from fedctl.errors import Denied, UsageError
from fedctl.messages.base import Answer, Request, answer_type
from fedctl.operations.table import OPERATIONS, request_types

COLUMNS = [
    getattr(fedctl.messages, name)
    for name in ("agent", "hub", "memory", "pool", "retention", "store", "tenant", "token", "worker")
]
REQUESTS = {kind for column in COLUMNS for _, kind in inspect.getmembers(column, inspect.isclass)
            if issubclass(kind, Request) and kind is not Request}  # fmt: skip
ROLES = ["agent", "admin", "operator", "owner"]


def test_every_request_is_an_operation_and_every_operation_a_request():
    assert set(OPERATIONS) == REQUESTS == set(request_types())


def test_an_operation_is_called_what_its_request_is_called_on_the_wire():
    for kind, operation in OPERATIONS.items():
        assert kind.__struct_config__.tag == operation.name
        assert kind.__module__.rpartition(".")[2] == operation.name.partition(".")[0]
        module = operation.function.__module__.rpartition(".")[2]
        # A pool's items fill a file of their own, and so does what erases.
        apart = {"pool": "item", "memory": "erasure", "tenant": "erasure"}
        assert module in operation.name.split(".") or apart[operation.name.partition(".")[0]] == module
    assert len({operation.name for operation in OPERATIONS.values()}) == len(OPERATIONS)


def test_every_request_says_what_answers_it():
    for kind in REQUESTS:
        assert issubclass(answer_type(kind), Answer)


@pytest.mark.parametrize("kind", sorted(REQUESTS, key=lambda one: one.__name__), ids=lambda one: one.__name__)
def test_a_role_below_the_operation_s_is_denied_before_anything_else(bench, kind):
    needed = OPERATIONS[kind].role
    required = {field.name: "" for field in msgspec.structs.fields(kind) if field.required}
    for role in ROLES[: ROLES.index(needed)]:
        assert isinstance(bench.refusal(kind(**required), role=role), Denied)


def test_what_is_no_operation_is_refused(bench):
    assert isinstance(bench.refusal(object()), UsageError)  # type: ignore[arg-type]


def test_who_may_only_look_is_denied_whatever_changes_something_or_gives_a_key_away(bench):
    looks = {kind for kind in REQUESTS if OPERATIONS[kind].looks}
    assert not [kind for kind in looks if OPERATIONS[kind].kind == "write" or OPERATIONS[kind].frees]
    assert {OPERATIONS[kind].name.rpartition(".")[2] for kind in looks} == {
        "query", "get", "list", "stats", "show", "timeline", "items", "item", "wait", "explain", "info", "events",
        "subscribe",
    }  # fmt: skip
    for kind in REQUESTS - looks:
        required = {field.name: "" for field in msgspec.structs.fields(kind) if field.required}
        error = bench.refusal(kind(**required), looks_only=True)
        assert (type(error), error.message) == (
            Denied,
            f"{OPERATIONS[kind].name} is not for a session that may only look",
        )
    assert not OPERATIONS[fedctl.messages.token.ListTokens].looks
