"""`fedctl`, whose hub takes small tenants for big ones and looks after its files all the time: proofs in seconds."""

from __future__ import annotations

import runpy

from fedctl.hub import background
from fedctl.operations import index
from fedctl.recall import index as flat

RESIDENT_ROWS = 1400
"""A flat file of so many vectors of 384 dimensions is held in memory, a larger one is looked up."""

index.TAIL_ROWS = 100
index.GRAPH_ROWS = 1000
index.GRAPH_BEHIND_ROWS = 100
index.GRAPH_BEHIND_SHARE = 0.0
flat.RESIDENT_MAX_BYTES = RESIDENT_ROWS * 384 * 2
background.UPKEEP_AT_LEAST_EVERY_S = background.CHECKPOINT_EVERY_S = 0.3

if __name__ == "__main__":
    runpy.run_module("fedctl", run_name="__main__")
