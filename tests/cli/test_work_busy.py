"""`fedctl pool work` where somebody else has the store."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from fedctl.clock import Clock
from fedctl.store.store import Store

ROOT = Path(__file__).parents[2]


def test_a_run_is_let_in_later_when_somebody_has_the_store_for_longer_than_its_lease_would_bear(fedctl):
    """The holder may have been stopped in the middle of a commit: the run waits, for there is no lease to lose yet."""
    assert fedctl("pool", "push", "p", "1").code == 0
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "FEDCTL_HOME": str(fedctl.home)}
    command = ["pool", "work", "p", "--lease", "300ms", "--once", "-q", "--", "true"]
    store = Store.open(fedctl.home, Clock(), create=False, timeout_s=5.0)
    with store.write():
        process = subprocess.Popen([sys.executable, "-m", "fedctl", *command], env=environ, stderr=subprocess.PIPE)
        time.sleep(2.0)  # it asks for a second where a lease would end
        assert process.poll() is None
    store.close()
    assert process.communicate(timeout=60) == (None, b"")
    assert process.returncode == 0
    assert fedctl("pool", "show", "p", "--json").json["done"] == 1
