"""Where a hub is found."""

import os
import stat
import tempfile
from pathlib import Path

import pytest

from fedctl.client import address
from fedctl.errors import Denied, UsageError


@pytest.fixture
def runtime(monkeypatch):
    """A runtime folder whose own path is short, as those of systems are."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="run") as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        yield Path(folder)


def test_the_socket_is_in_the_home(tmp_path):
    assert address.hub_socket(tmp_path) == tmp_path / "hub.sock"


def test_a_path_too_long_for_a_socket_is_hashed_into_the_runtime_folder(tmp_path, runtime):
    homes = [tmp_path / ("x" * 100) / name for name in ("one", "two")]
    paths = [address.hub_socket(home) for home in homes]
    assert all(path.parent == runtime and address.fits(path) for path in paths)
    assert paths[0] != paths[1]
    assert address.hub_socket(homes[0]) == paths[0]


def test_a_runtime_folder_with_a_long_path_helps_nobody(tmp_path, monkeypatch):
    runtime = tmp_path / ("r" * 100)
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    assert address.fits(address.hub_socket(tmp_path / ("x" * 120)))


def test_two_ways_to_one_home_lead_to_one_socket(tmp_path, runtime):
    home = tmp_path / ("x" * 120)
    home.mkdir()
    (tmp_path / ("y" * 120)).symlink_to(home)
    assert address.hub_socket(tmp_path / ("y" * 120)) == address.hub_socket(home)


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o777])
def test_a_runtime_folder_that_others_can_enter_is_not_used(tmp_path, runtime, mode):
    runtime.chmod(mode)
    path = address.hub_socket(tmp_path / ("x" * 120))
    assert path.parent != runtime
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert path.parent.stat().st_uid == os.getuid()


def test_a_runtime_folder_laid_out_by_somebody_else_is_refused(tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(address, "_is_own", lambda _folder: False)
    with pytest.raises(Denied, match="not this user's alone"):
        address.hub_socket(tmp_path / ("x" * 120))
    assert address.local_hub(tmp_path / ("x" * 120)) is None


def test_no_hub_is_found_where_none_is(tmp_path):
    assert address.local_hub(tmp_path) is None
    assert address.local_hub(tmp_path / "absent") is None
    assert address.read_info(tmp_path) is None
    (tmp_path / "hub.sock").touch()
    (tmp_path / "hub.json").write_text('{"pid": "x"}')
    assert address.local_hub(tmp_path) is None
    assert address.read_info(tmp_path) is None


@pytest.mark.parametrize(
    "url", ["unix:/a/b", "ws://localhost", "ws://localhost:8443", "wss://hub.example.org:8443/", "ws://[::1]:8443"]
)
def test_addresses_of_hubs_are_taken_as_they_are(url):
    assert address.check_url(url) == url


@pytest.mark.parametrize(
    "url", ["", "unix:", "localhost:8443", "http://localhost", "ws://", "ws:///x", "ws://:80", "ws://u:p@h", "WS"]
)
def test_what_is_no_address_is_refused(url):
    with pytest.raises(UsageError, match="is not the address of a hub"):
        address.check_url(url)
