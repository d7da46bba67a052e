"""The Python API of fedctl: agents that live for minutes, and the workers and pools behind them (`api.backends`)."""

from fedctl.api.agent import EphemeralAgent
from fedctl.api.backends import create_registration_backend, create_work_backend

__all__ = ["EphemeralAgent", "create_registration_backend", "create_work_backend"]
