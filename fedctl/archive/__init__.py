"""The backup file: its format, writing it, reading it."""
