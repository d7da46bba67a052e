"""The truth: SQLite, and a gateway for each kind of record."""
