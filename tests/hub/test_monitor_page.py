"""The monitor in a real browser, where there is one."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from websockets.sync.client import connect

from fedctl.messages.agent import RegisterAgent, ReportAgent
from fedctl.messages.memory import StoreEpisodes
from fedctl.messages.pool import ClaimItems, FailItems, PushItems
from fedctl.messages.tenant import SetTenant
from fedctl.messages.worker import RegisterWorker
from fedctl.model.episode import EpisodeDraft
from fedctl.model.pool import ItemDraft, ItemFailure

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
WITHIN_S = 30
HOSTILE = "<img src=x onerror='window.hurt=1'><script>window.hurt=1</script> \u202egnp.exe\x1b[2J"

pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="there is no Chromium on this machine"),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells whose a connection is"),
]


class Browser:
    """One tab, driven by the DevTools protocol: https://chromedevtools.github.io/devtools-protocol/."""

    def __init__(self, address: str, stack: contextlib.ExitStack) -> None:
        with urlopen(f"http://{address}/json", timeout=WITHIN_S) as listed:
            tab = next(one for one in json.load(listed) if one["type"] == "page")
        self._socket = stack.enter_context(
            connect(tab["webSocketDebuggerUrl"], max_size=None, max_queue=None, ping_interval=None, proxy=None)
        )
        self._ids = itertools.count(1)
        self.complaints: list[str] = []
        for domain in ("Page", "Runtime", "Log"):
            self.tell(f"{domain}.enable")

    def tell(self, method: str, **parameters):
        number = next(self._ids)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=WITHIN_S))
            if message.get("id") == number:
                return message.get("result", {})  # none where a page goes and the next has not come
            if message["method"] in ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled"):
                self.complaints.append(json.dumps(message["params"]))

    def value(self, expression: str):
        answer = self.tell("Runtime.evaluate", expression=expression, returnByValue=True)
        return answer.get("result", {}).get("value")

    def until(self, expression: str) -> None:
        by_s = time.monotonic() + WITHIN_S
        while not self.value(expression):
            assert time.monotonic() < by_s, (
                f"{expression}: {self.complaints}, {self.text('#found')}, {self.text('body')}"
            )
            time.sleep(0.05)

    def text(self, selector: str) -> str:
        return self.value(f"document.querySelector({selector!r})?.textContent")


@pytest.fixture
def browser(tmp_path):
    assert BROWSER is not None
    flags = ["--headless", "--disable-gpu", "--no-first-run", "--remote-debugging-port=0", "--disable-extensions"]
    if os.geteuid() == 0:
        flags.append("--no-sandbox")
    with contextlib.ExitStack() as stack:
        profile = tmp_path / "profile"
        process = stack.enter_context(
            subprocess.Popen(
                [BROWSER, *flags, f"--user-data-dir={profile}", "about:blank"],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )
        )  # fmt: skip
        stack.callback(process.kill)
        yield Browser(_address(process, profile / "DevToolsActivePort"), stack)


def _address(process: subprocess.Popen, told: Path) -> str:
    """Wait until the browser has written down where it listens."""
    by_s = time.monotonic() + WITHIN_S
    while True:
        with contextlib.suppress(OSError):
            if lines := told.read_text().splitlines():
                return f"127.0.0.1:{lines[0]}"
        if process.poll() is not None or time.monotonic() > by_s:
            pytest.skip("the browser on this machine does not start")
        time.sleep(0.05)


@pytest.mark.long
def test_the_page_shows_the_fleet_and_finds_memories_and_runs_nothing_that_was_stored(start_hub, browser):
    hub = start_hub()
    owner = hub.owner("acme")
    hostile = EpisodeDraft(id="e1", task=HOSTILE, input=HOSTILE, output={HOSTILE: 1})
    assert owner.call(StoreEpisodes(episodes=[hostile])).results[0].ok
    owner.call(SetTenant(name="acme", max_episodes=1))
    owner.call(SetTenant(name="aaa", max_episodes=1))
    owner.call(RegisterAgent(id="scout", type="t", lifetime_ms=900_000, host="h", pid=1))
    owner.call(ReportAgent(id="scout", status="initializing"))
    owner.call(RegisterWorker(id="w1"))
    owner.call(PushItems(pool="crawl", items=[ItemDraft(id=f"i{number}") for number in range(5)]))
    claimed = owner.call(ClaimItems(pool="crawl", worker_id="w1")).items[0]
    owner.call(FailItems(failures=[ItemFailure(id=claimed.id, lease_id=claimed.lease_id, error=HOSTILE, poison=True)]))

    browser.tell("Page.navigate", url=hub.info.http_url)
    browser.until("document.querySelector('#state')?.dataset.state === 'live'")
    assert "scout" in browser.text("#agents tbody")
    assert "initializing" in browser.text("#agents tbody")
    assert "15m" in browser.text("#agents tbody") or "14m" in browser.text("#agents tbody")
    assert "4 waiting, 1 poisoned" in browser.text("#pools")
    assert "w1" in browser.text("#workers tbody")
    assert "items poisoned" in browser.text("#events")
    assert browser.value("document.querySelector('#door').hidden") is True
    own = browser.value("location.hostname")
    assert own != urlsplit(hub.info.http_url).hostname
    assert browser.text("#tenants li.full").startswith("acme"), "it is at its quota, and the other is not"
    assert browser.value("document.querySelectorAll('#tenants li.full').length") == 1
    assert browser.text("#agents tbody td:last-child") == "\u2013"
    assert browser.value("document.querySelector('#search-tenant').value") == "acme", "it has the most to be found"

    browser.value("document.querySelector('#query').value = 'onerror'")
    browser.value("document.querySelector('#search').requestSubmit()")
    browser.until("document.querySelector('#hits li') !== null")
    assert "<img src=x onerror='window.hurt=1'><script>" in browser.text("#hits h3")
    assert not {"\u202e", "\x1b"} & set(browser.text("#hits"))
    assert browser.value("document.querySelectorAll('#hits img, #hits script').length") == 0
    assert browser.value("'hurt' in window") is False
    assert browser.complaints == []

    hub.end()
    browser.until("document.querySelector('#state').textContent.startsWith('the hub is gone')")
    assert "scout" in browser.text("#agents tbody"), "what was seen last stays to be read"
    assert browser.value("document.querySelector('#again').checkVisibility()")
    assert browser.value("document.querySelector('#again').href") == f"{hub.info.http_url}/"


@pytest.mark.long
def test_without_tls_a_token_is_given_to_one_hub_and_asked_for_again_when_it_was_gone(start_hub, browser):
    hub = start_hub(uid_of=lambda _peer, _ours: None)
    browser.tell("Page.navigate", url=hub.info.http_url)
    browser.until("document.querySelector('#door')?.checkVisibility()")
    assert urlsplit(hub.info.http_url).netloc in browser.text("#door-plain")
    browser.value(f"document.querySelector('#token').value = '{hub.token(role='operator')}'")
    browser.value("document.querySelector('#enter').requestSubmit()")
    browser.until("document.querySelector('#state').dataset.state === 'live'")
    assert browser.value("sessionStorage.length + localStorage.length") == 0
    hub.end()
    start_hub(hub.home, http_port=urlsplit(hub.info.http_url).port, uid_of=lambda _peer, _ours: None)
    browser.until("document.querySelector('#door').checkVisibility()")
    assert "The hub was gone" in browser.text("#door-why")
