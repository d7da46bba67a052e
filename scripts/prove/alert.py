"""`fedctl`, which asks each second whether its peers are there, and gives those up sooner that are not.

Its wall clock may jump (`jumping.py`). Who imports this is as alert as a client.
"""

from __future__ import annotations

import runpy

import jumping  # noqa: F401  what a clock that jumps needs

from fedctl.agent import lifecycle
from fedctl.client import link, transport

PING_EVERY_S = 1.0

link.PING_EVERY_S = link.PONG_WITHIN_S = transport.PING_EVERY_S = transport.PONG_WITHIN_S = PING_EVERY_S
lifecycle.FINAL_SYNC_GRACE_MS = 2000

if __name__ == "__main__":
    from fedctl.hub import peer, server, sweeper

    server.PING_EVERY_S = server.PONG_WITHIN_S = PING_EVERY_S
    sweeper.DROPPED_GRACE_S = 1.0
    peer.NOTICE_BUFFER_BYTES = 256 << 10
    peer.TOO_SLOW_S = 1.0
    runpy.run_module("fedctl", run_name="__main__")
