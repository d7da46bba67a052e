"""What fedctl can do: one synchronous function per request, in one table."""
