"""The API does what its OpenAPI description says, whatever it is asked: schemathesis over HTTP, against a real process.

Deterministic: the same requests each time. What no schema describes is in `test_hostile`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="needs the extra `service`")
pytest.importorskip("schemathesis", reason="needs the extra `dev`")

from service.store import State
from tests.service.processes import Seeded, Web, seed, web_process

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600)]
OFTEN = {"PATCHWRIGHT_RATE_REPOSITORY": "1000000", "PATCHWRIGHT_RATE_SENDER": "1000000"}


@pytest.fixture
def there(tmp_path: Path) -> Iterator[tuple[Web, Seeded]]:
    seeded = seed(tmp_path, f"sqlite:///{tmp_path}/service.sqlite")
    with web_process(tmp_path, seeded.database, **OFTEN) as web:
        yield web, seeded


def schemathesis(folder: Path, web: Web, token: str, phases: str, run: str = "") -> None:
    """All of its checks; fails with what it says."""
    config = folder / "schemathesis.toml"
    config.write_text(f'[parameters]\n"path.run_id" = "{run}"\n' if run else "")
    command = [
        sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run", f"{web.url}/api/v1/openapi.json",
        "--checks", "all", "--header", f"Authorization: Bearer {token}", "--generation-deterministic", "--no-color",
        "--max-examples", "10", "--phases", phases, "--continue-on-failure", "--request-timeout", "120",
        "--warnings", "off", "--suppress-health-check", "all",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=folder, env=os.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2000:]
    assert "7 selected / 7 total" in done.stdout
    assert "Coverage (in" in done.stdout
    said = web.said.read_text()
    assert "Traceback" not in said, said


@pytest.mark.parametrize("scope", ["read", "write"])
def test_nothing_that_is_asked_contradicts_the_schema(tmp_path: Path, there: tuple[Web, Seeded], scope: str) -> None:
    web, seeded = there
    schemathesis(
        tmp_path, web, seeded.writer if scope == "write" else seeded.reader, "examples,coverage,fuzzing,stateful"
    )


@pytest.mark.parametrize("state", [State.WAITING, State.DONE])
def test_nothing_that_is_asked_about_a_run_does(tmp_path: Path, there: tuple[Web, Seeded], state: State) -> None:
    web, seeded = there
    schemathesis(tmp_path, web, seeded.writer, "coverage,fuzzing", seeded.ids[state])
