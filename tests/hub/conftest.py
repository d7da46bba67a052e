"""Hubs for tests."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def _load_running() -> Any:
    """Return the module beside this one: test folders are no packages."""
    name = "fedctl_tests_running_hub"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("running.py"))
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope="session")
def running_hub() -> Any:
    """What a test makes a hub of that it looks after itself."""
    return _load_running().RunningHub


@pytest.fixture
def start_hub(tmp_path: Path, make_embedder: Any) -> Iterator[Callable[..., Any]]:
    """Start hubs that are stopped when the test is over."""
    started: list[Any] = []

    def start(home: Path | None = None, **options: Any) -> Any:
        hub = _load_running().RunningHub(home or tmp_path / "home", make_embedder(), **options)
        started.append(hub)
        return hub

    yield start
    for hub in started:
        hub.stop()


@pytest.fixture
def hub(start_hub: Callable[..., Any]) -> Any:
    return start_hub()
