"""The quick agents and the hubs of tests/agent."""

from __future__ import annotations

import importlib.util
from pathlib import Path

_spec = importlib.util.spec_from_file_location(
    "fedctl_tests_agent_conftest", Path(__file__).parents[1] / "agent" / "conftest.py"
)
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)

start_hub = _module.start_hub
hub = _module.hub
quickly = _module.quickly
eventually = _module.eventually
life_of = _module.life_of
