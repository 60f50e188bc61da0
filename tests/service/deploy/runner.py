"""A workflow runner's part that composite actions see: their steps' shell, expressions, outputs, the event's file."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from agent.forges.fake.acts import FakeForge

ROOT = Path(__file__).parent.parent.parent.parent
_EXPRESSION = re.compile(r"\$\{\{\s*([\w.-]+)\s*\}\}")


@dataclass(frozen=True)
class Job:
    """What one job came to. `outputs` are the action's."""

    code: int
    log: str
    outputs: dict[str, str]


def action() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text())
    return found


@dataclass(frozen=True)
class Runner:
    """A machine that runs the action in a repository on a forge."""

    folder: Path
    api: str
    repository: str
    token: str

    def run(self, event: str, payload: dict[str, Any], **inputs: str) -> Job:
        """The action's steps one after the other, until one fails."""
        temp = self.folder / "temp"
        work = self.folder / "workspace"
        for one in (temp, work):
            one.mkdir(exist_ok=True)
        (temp / "event.json").write_text(json.dumps(payload))
        told = action()
        values = {f"inputs.{name}": str(one.get("default", "")) for name, one in told["inputs"].items()}
        values |= {f"inputs.{name.replace('_', '-')}": value for name, value in inputs.items()}
        values["github.token"] = self.token
        values = {name: fill(value, values) for name, value in values.items()}
        log = ""
        for number, step in enumerate(told["runs"]["steps"]):
            (temp / "output").write_text("")
            done = self._step(step, values, temp, work, event, number)
            log += done.stdout + done.stderr
            for line in (temp / "output").read_text().splitlines():
                name, _, value = line.partition("=")
                values[f"steps.{step['id']}.outputs.{name}"] = value
            if done.returncode:
                break
        outputs = {name: fill(one["value"], values) for name, one in told["outputs"].items()}
        return Job(done.returncode, log, outputs)

    def _step(
        self, step: dict[str, Any], values: dict[str, str], temp: Path, work: Path, event: str, number: int
    ) -> subprocess.CompletedProcess[str]:
        script = temp / f"step-{number}.sh"
        script.write_text(fill(step["run"], values))
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("PATCHWRIGHT_", "GITHUB_"))},
            "GITHUB_EVENT_PATH": str(temp / "event.json"), "GITHUB_EVENT_NAME": event, "GITHUB_API_URL": self.api,
            "GITHUB_REPOSITORY": self.repository, "GITHUB_OUTPUT": str(temp / "output"), "RUNNER_TEMP": str(temp),
            "GITHUB_ACTION_PATH": str(ROOT), "GITHUB_RUN_ID": "77", "CI": "true", "GITHUB_ACTIONS": "true",
            **{name: fill(str(value), values) for name, value in step.get("env", {}).items()},
        }  # fmt: skip
        # as the runner starts `shell: bash`
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)]
        return subprocess.run(
            command, env=environment, cwd=work, capture_output=True, text=True, timeout=500, check=False
        )


def fill(text: str, values: dict[str, str]) -> str:
    """`${{ a.b }}` by its value; what isn't known is empty, as it is there."""
    return _EXPRESSION.sub(lambda found: values.get(found[1], ""), text)


def installed_agent(folder: Path) -> str:
    """An `agent` command of this checkout."""
    file = folder / "agent"
    file.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m cli.main "$@"\n')
    file.chmod(0o755)
    return str(file)


async def until(forge: FakeForge, seen: Callable[[], bool], seconds: float = 400) -> None:
    """Waits for something, and sends failed deliveries again meanwhile: on a busy machine answers come late."""
    async with asyncio.timeout(seconds):
        for look in itertools.count(1):
            if seen():
                return
            if look % 50 == 0:
                forge.redeliver_failed()
            await asyncio.sleep(0.2)
