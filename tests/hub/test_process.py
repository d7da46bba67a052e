"""A hub as the process it is: signals, kills, and what is left."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from fedctl.client.address import LOCK_NAME, read_info
from fedctl.client.remote import RemoteCaller
from fedctl.errors import FedctlError, Unavailable
from fedctl.messages.memory import ListEpisodes, StoreEpisodes
from fedctl.model.episode import EpisodeDraft

WAIT_S = 30


class HubProcess:
    def __init__(self, home, *flags):
        self.home = home
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("FEDCTL_", "DEBUG_"))}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fedctl", "hub", "start", "--home", str(home), "--port", "0", "--http-port", "0",
             *flags],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip

    def ready(self):
        deadline = time.monotonic() + WAIT_S
        while (info := read_info(self.home)) is None or info.pid != self.process.pid:
            assert self.process.poll() is None, self.process.stderr.read()
            assert time.monotonic() < deadline, "the hub did not start"
            time.sleep(0.02)
        return info

    def caller(self):
        return RemoteCaller(f"unix:{self.ready().socket}", timeout_ms=20_000)

    def wait(self):
        out, err = self.process.communicate(timeout=WAIT_S)
        return self.process.returncode, out, err

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate(timeout=WAIT_S)
        self.process.stdout.close()
        self.process.stderr.close()


@pytest.fixture
def start(tmp_path):
    started = []

    def begin(*flags):
        started.append(HubProcess(tmp_path / "home", *flags))
        return started[-1]

    yield begin
    for one in started:
        one.end()


class Pushers:
    """Threads that store episodes one by one and keep what was acked, until the hub is gone."""

    def __init__(self, hub, count):
        self.acked, self.errors = [], []
        self.threads = [threading.Thread(target=self._push, args=(hub.caller(), number)) for number in range(count)]
        for thread in self.threads:
            thread.start()

    def _push(self, caller, number):
        try:
            for turn in range(100_000):
                name = f"e{time.time_ns()}-{number}-{turn}"
                caller.call(StoreEpisodes(episodes=[EpisodeDraft(id=name, task="a task")]))
                self.acked.append(name)
        except FedctlError as error:
            self.errors.append(error)
        finally:
            caller.close()

    def wait_for(self, count):
        deadline = time.monotonic() + WAIT_S
        while len(self.acked) < count:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def join(self):
        for thread in self.threads:
            thread.join(WAIT_S)
        assert all(isinstance(error, Unavailable) for error in self.errors), self.errors


def stored(caller):
    found, cursor = [], None
    while True:
        page = caller.call(ListEpisodes(cursor=cursor))
        found.extend(one.id for one in page.episodes)
        cursor = page.cursor
        if cursor is None:
            return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_under_load_ends_a_hub_in_order_within_five_seconds(start, number):
    hub = start()
    hub.ready()
    pushers = Pushers(hub, 4)
    pushers.wait_for(100)
    began = time.monotonic()
    hub.process.send_signal(number)
    status, out, err = hub.wait()
    assert time.monotonic() - began < 5
    assert status == 0, err
    assert "Traceback" not in out + err
    pushers.join()
    assert not (hub.home / "hub.sock").exists()
    again = start()
    with_hub = again.caller()
    assert set(pushers.acked) <= set(stored(with_hub))
    with_hub.close()


def test_a_kill_under_load_loses_nothing_that_was_acked_and_doubles_nothing(start):
    acked = []
    for _ in range(3):
        hub = start()
        hub.ready()
        pushers = Pushers(hub, 4)
        pushers.wait_for(100)
        hub.process.kill()
        hub.wait()
        pushers.join()
        acked += pushers.acked
    caller = start().caller()
    kept = stored(caller)
    caller.close()
    assert set(acked) <= set(kept)
    assert len(kept) == len(set(kept))


def test_a_second_hub_ends_with_status_11_and_the_first_goes_on(start):
    first = start()
    info = first.ready()
    status, out, err = start().wait()
    assert status == 11
    assert out == ""
    assert f"pid {info.pid}" in err
    assert "Traceback" not in err
    caller = first.caller()
    assert caller.call(ListEpisodes()).episodes == []
    caller.close()


def test_a_hub_says_little_when_nothing_happens(start):
    hub = start("--debug-level", "silent")
    hub.ready()
    hub.process.send_signal(signal.SIGTERM)
    status, _, err = hub.wait()
    assert (status, err) == (0, "")


def test_many_peers_that_hang_up_abruptly_leave_few_lines(start):
    import socket

    hub = start()
    info = hub.ready()
    host, _, port = info.url.removeprefix("ws://").rpartition(":")
    for turn in range(100):
        with socket.create_connection((host, int(port))) as peer:
            if turn % 2:
                peer.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nUpg")
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    hub.process.send_signal(signal.SIGTERM)
    status, _, err = hub.wait()
    assert status == 0
    assert len(err.splitlines()) < 10


def test_the_lock_is_let_go_of_by_whatever_ends_the_process(start):
    hub = start()
    hub.ready()
    hub.process.kill()
    hub.wait()
    assert (hub.home / LOCK_NAME).exists()
    again = start()
    assert again.ready().pid == again.process.pid
