"""Signing keys and tokens: the only place that knows their formats."""
