"""`fedctl`, which gives up in a second or two whoever says or reads nothing, where it else waits longer."""

from __future__ import annotations

import runpy

from fedctl.agent import lifecycle
from fedctl.client import link
from fedctl.hub import links, peer

link.PING_EVERY_S = link.PONG_WITHIN_S = 1.0
lifecycle.FINAL_SYNC_GRACE_MS = 2000
links.HELLO_TIMEOUT_S = 2.0
peer.TOO_SLOW_S = 1.0
peer.NOTICE_BUFFER_BYTES = 256 << 10

if __name__ == "__main__":
    runpy.run_module("fedctl", run_name="__main__")
