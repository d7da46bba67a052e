"""The hubs of tests/hub."""

from __future__ import annotations

import importlib.util
from pathlib import Path

_spec = importlib.util.spec_from_file_location(
    "fedctl_tests_hub_conftest", Path(__file__).parents[1] / "hub" / "conftest.py"
)
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)

start_hub = _module.start_hub
hub = _module.hub
