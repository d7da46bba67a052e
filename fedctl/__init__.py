"""Memory and work for fleets of short-lived agents."""

__version__ = "0.1.0"
