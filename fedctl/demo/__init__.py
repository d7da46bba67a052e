"""`fedctl demo`: the main job, end to end, on real input, with its criteria measured."""
