"""The worker loop: claims items, runs a command for each, reports what came of it."""
