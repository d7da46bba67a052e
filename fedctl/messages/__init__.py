"""The verbs: one request type per operation. Every surface speaks these."""
