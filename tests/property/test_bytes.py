"""Whatever bytes come in, by any door: the targets of `scripts/prove/fuzz`, a hundred inputs each."""

from __future__ import annotations

import importlib
import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scripts.prove.targets import mutants

TARGETS = ("grammar", "settings", "ledger", "archive", "query", "lines", "files", "argv")


@pytest.fixture(scope="module", params=TARGETS)
def target(request):
    return importlib.import_module(f"scripts.prove.targets.{request.param}")


def test_any_bytes_come_to_something_documented(target):
    originals = target.originals()
    tokens = (*mutants.TOKENS, *target.WORDS)
    damaged = st.integers(0, 1 << 32).map(lambda seed: next(mutants.mutants(originals, seed, tokens)))

    @settings(max_examples=100)
    @given(st.one_of(damaged, st.binary(max_size=200)))
    @example(b"")
    def check(data: bytes) -> None:
        target.check(data)

    check()


def test_what_is_valid_passes(target):
    some = target.originals()
    for data in random.Random(1).sample(some, min(len(some), 12)):
        target.check(data)
