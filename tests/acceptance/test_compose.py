"""The hub and five agents of scripts/docker/compose.yaml: a valid file, and its commands run without a container."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import compose_spec
import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "scripts/docker"


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return yaml.safe_load((DOCKER / "compose.yaml").read_text())


class Containers:
    """Runs services as processes: volumes are folders, the network is this machine."""

    def __init__(self, folder: Path, document: dict[str, Any]) -> None:
        self._folder = folder
        self._document = document
        self._hub_url = ""
        (folder / "bin").mkdir()
        program = folder / "bin/fedctl"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m fedctl "$@"\n')
        program.chmod(0o755)

    def start(self, name: str, *more: str) -> subprocess.Popen[str]:
        service = self._document["services"][name]
        command = [*service.get("entrypoint", ["fedctl"]), *service.get("command", []), *more]
        environment = {"PATH": f"{self._folder}/bin:{os.environ['PATH']}", "FEDCTL_HOME": "/data"}
        environment |= {"HOSTNAME": service.get("hostname", ""), **service.get("environment", {})}
        places = dict(volume.split(":")[:2][::-1] for volume in service["volumes"])
        return subprocess.Popen(
            [self._here(word, places) for word in command],
            env={key: self._here(value, places) for key, value in environment.items()}, cwd=self._folder,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def _here(self, text: str, places: dict[str, str]) -> str:
        """Return what a container would see, as this machine has it."""
        text = text.replace("$$", "$").replace("wss://hub:8443", self._hub_url)
        for place, volume in places.items():
            folder = self._folder / volume
            folder.mkdir(mode=0o700, exist_ok=True)
            text = re.sub(rf"(?<![\w/]){place}(?![\w])", str(folder), text)
        if "/data" not in places:  # an agent's container has a folder of that name, and no volume
            text = re.sub(r"(?<![\w/])/data(?!\w)", str(self._folder / "nothing"), text)
        return text.replace("/issue/$n", f"{self._folder}/access-$n")

    def up(self) -> subprocess.Popen[str]:
        """Run setup and begin the hub, on ports of its own; return it when it is healthy."""
        finish(self.start("setup"))
        hub = self.start("hub", "--port=0", "--http-port=0", "--json")
        assert hub.stdout is not None
        port = json.loads(hub.stdout.readline())["url"].rpartition(":")[2]
        self._hub_url = f"wss://localhost:{port}"
        return hub

    def fedctl(self, *words: str) -> str:
        environment = {**os.environ, "FEDCTL_HOME": str(self._folder / "home")}
        return subprocess.run(
            [self._folder / "bin/fedctl", *words], env=environment, capture_output=True, check=True, text=True
        ).stdout


def finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out


def test_the_compose_file_is_one_by_the_specification(document):
    project = compose_spec.PyCompose.from_json(json.dumps(document))  # it knows no `<<`, which YAML has resolved here
    agents = [f"agent-{number}" for number in range(1, 6)]
    assert list(project.service_names()) == ["setup", "hub", *agents]
    build = {"context": "../..", "dockerfile": "scripts/docker/Dockerfile"}
    assert all(one["build"] == build for one in document["services"].values())  # any of them can be begun with
    used = {volume.split(":")[0] for one in document["services"].values() for volume in one["volumes"]}
    assert used == set(document["volumes"])
    for number, name in enumerate(agents, start=1):
        assert document["services"][name]["volumes"] == [f"access-{number}:/access:ro"]
    with pytest.raises(ValueError, match="imag"):
        compose_spec.PyCompose.from_json('{"services": {"hub": {"imag": "fedctl"}}}')


def test_what_the_image_is_made_of_is_there_and_goes_to_the_builder():
    text = (DOCKER / "Dockerfile").read_text()
    sources = [word for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE) for word in line.split()[:-1]]
    let_through = [
        line[1:] for line in (DOCKER / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] == "!"
    ]
    assert sorted(sources) == sorted(let_through)
    assert all((ROOT / source).exists() for source in sources)
    assert re.search(r"^USER (?!0|root)", text, re.MULTILINE)
    assert json.loads(re.search(r"^ENTRYPOINT (.*)$", text, re.MULTILINE)[1]) == ["fedctl"]


def test_five_agents_share_what_they_learn_through_the_hub(tmp_path, document):
    containers = Containers(tmp_path, document)
    hub = containers.up()
    try:
        health = document["services"]["hub"]["healthcheck"]["test"]
        assert health[:2] == ["CMD", "fedctl"]
        containers.fedctl(*health[2:])
        first = [containers.start(f"agent-{number}") for number in range(1, 5)]
        for agent in first:
            finish(agent)
        before = (tmp_path / "access-5/token").read_text()
        finish(containers.start("setup"))  # new tokens while the hub runs
        assert (tmp_path / "access-5/token").read_text() != before
        found = finish(containers.start("agent-5"))
        assert "agent-1 was here" in found
        kept = json.loads(containers.fedctl("--tenant", "fleet", "memory", "list", "--json"))
        assert sorted(one["agent_id"] for one in kept) == [f"agent-{number}" for number in range(1, 6)]
        shutil.copy(tmp_path / "access-2/token", tmp_path / "access-1/token")
        stolen = containers.start("agent-1")
        assert stolen.communicate(timeout=60)[1].startswith("error: the token is for the agent agent-2")
        assert stolen.returncode == 9
    finally:
        hub.send_signal(signal.SIGTERM)
        hub.communicate(timeout=30)
    assert hub.returncode == 0
