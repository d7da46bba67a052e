"""The Python API of fedctl."""

from fedctl.api.agent import EphemeralAgent

__all__ = ["EphemeralAgent"]
