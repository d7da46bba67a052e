"""The folder of an agent's socket: nothing stays of those that were killed, and the living keep theirs."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from fedctl.agent import folder as folders
from fedctl.agent.folder import AgentFolder, abandoned, parent_of, parents


@pytest.fixture
def place(monkeypatch):
    """Where the folders go, for this test alone: short enough for a socket."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        for name in ("XDG_RUNTIME_DIR", "TMPDIR"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


def killed(folder: AgentFolder) -> None:
    """Let go of the folder as the kernel does when its process dies."""
    os.close(folder._lock)
    folder._lock = -1


def test_a_folder_is_its_owners_alone_and_gone_at_the_end(place):
    folder = AgentFolder()
    assert list(place.iterdir()) == [folder.path]
    assert folder.path.stat().st_mode & 0o777 == 0o700
    for _ in range(2):
        folder.close()
        assert list(place.iterdir()) == []


def test_the_next_agent_clears_away_what_a_killed_one_left(place):
    dead, living = AgentFolder(), AgentFolder()
    (dead.path / "agent.sock").touch()
    killed(dead)
    assert list(abandoned(place)) == [dead.path]
    new = AgentFolder()
    assert sorted(place.iterdir()) == sorted([living.path, new.path])
    living.close()
    new.close()


def test_links_and_files_of_that_name_are_left_alone(place, tmp_path):
    (tmp_path / "theirs").mkdir()
    (place / "fedctl-agent-link").symlink_to(tmp_path / "theirs")
    (place / "fedctl-agent-file").touch()
    (place / "something-else").mkdir()
    before = sorted(place.iterdir())
    AgentFolder().close()
    assert sorted(place.iterdir()) == before
    assert (tmp_path / "theirs").is_dir()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a folder away")
def test_what_another_user_left_is_the_other_users(place):
    (place / "fedctl-agent-theirs").mkdir()
    os.chown(place / "fedctl-agent-theirs", 12345, 12345)
    AgentFolder().close()
    assert (place / "fedctl-agent-theirs").is_dir()


def test_what_a_killed_one_left_is_nobody_elses_while_it_is_removed(place):
    dead = AgentFolder()
    killed(dead)
    for left in abandoned(place):
        assert list(abandoned(place)) == [], "another agent that starts now leaves it alone"
        shutil.rmtree(left)
    assert not dead.path.exists()


def test_wherever_a_folder_may_go_is_looked_into(place, monkeypatch):
    monkeypatch.setattr(folders, "LAST_RESORT", place)
    for environ in ({}, {"XDG_RUNTIME_DIR": "/run/user/1"}, {"TMPDIR": f"/{'long' * 30}"}, {"TMPDIR": "/not/there"}):
        assert parent_of(environ) in parents(environ)
        assert parents(environ)[-1] == place
    assert parent_of({"TMPDIR": "/not/there"}) == place
