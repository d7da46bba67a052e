"""The levels and categories of the debug stream."""

from __future__ import annotations

LEVELS = ("silent", "basic", "detailed", "verbose", "trace")
"""Each says what those before it say, and more (`fedctl.log.Log` says what)."""
CATEGORIES = (
    "agent", "command", "commit", "embedding", "error", "event", "hub", "index", "item", "link", "memory",
    "pool", "retention", "session", "store", "sync", "tenant", "token", "work", "worker",
)  # fmt: skip
"""What an event is about; those named like operations are their calls as well."""
