"""The command that an agent runs: its group, its end, its streams."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from fedctl.errors import UsageError
from fedctl.process import Command

ENVIRONMENT = {"PATH": os.environ["PATH"]}


def run(quickly, script, then):
    async def main():
        command = await Command.start(["sh", "-c", script], ENVIRONMENT)
        try:
            return await then(command)
        finally:
            await command.end()

    return quickly(main())


@pytest.mark.parametrize(("script", "status"), [("exit 7", 7), ("kill -TERM $$", 143), ("true", 0)])
def test_the_status_is_as_a_shell_counts_it(quickly, script, status):
    assert run(quickly, script, lambda command: command.wait()) == status


@pytest.mark.parametrize("argv", [["/nowhere/program"], ["/etc/passwd"], ["a\0b"], [""]])
def test_what_cannot_be_run_is_a_usage_error(quickly, argv):
    with pytest.raises(UsageError, match="cannot run"):
        quickly(Command.start(argv, ENVIRONMENT))


def test_the_end_of_what_obeys_is_quick_and_of_what_is_over_immediate(quickly, eventually, tmp_path):
    async def then(command):
        await eventually((tmp_path / "begun").exists)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        await command.end()
        first = loop.time() - begun
        await command.end()
        return first, await command.wait()

    took, status = run(quickly, f"touch {tmp_path}/begun; exec sleep 60", then)
    assert status == 128 + signal.SIGTERM
    assert took < 4.5


def test_the_command_is_a_group_of_its_own(quickly, eventually, tmp_path):
    async def then(command):
        await eventually(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip())
        pid = int((tmp_path / "pid").read_text())
        return os.getpgid(pid), pid

    group, pid = run(quickly, f"echo $$ > {tmp_path}/pid; exec sleep 60", then)
    assert group == pid
    assert group != os.getpgid(0)


def test_nothing_of_the_agents_environment_gets_in_by_itself(quickly, tmp_path, monkeypatch):
    monkeypatch.setenv("FEDCTL_TOKEN", "hush")
    run(quickly, f"env > {tmp_path}/env", lambda command: command.wait())
    assert "hush" not in Path(tmp_path / "env").read_text()
