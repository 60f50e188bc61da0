"""The API inside the web process's app, with tokens that the command makes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="needs the extra `service`")

from starlette.testclient import TestClient

from agent.forges.base import Secret
from service.app import create_app
from service.settings import ServiceSettings

pytestmark = pytest.mark.heavy


def agent(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATCHWRIGHT_HOME": str(folder)}
    command = [sys.executable, "-m", "cli.main", "service", "token", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_a_token_of_the_command_opens_the_api_until_it_is_revoked(tmp_path: Path) -> None:
    token = agent(tmp_path, "make", "editor").stdout.strip()
    (listed,) = json.loads(agent(tmp_path, "list", "--json").stdout)
    assert (listed["name"], listed["scopes"]) == ("editor", ["runs:read"])
    assert token not in json.dumps(listed)
    settings = ServiceSettings(
        Secret(f"sqlite:///{tmp_path}/service.sqlite"), (Secret("s" * 20),), runs=tmp_path / "runs"
    )
    with TestClient(create_app(settings)) as client:
        headers = {"Authorization": f"Bearer {token}"}
        assert client.get("/api/v1/runs", headers=headers).json() == {"runs": [], "next": None}
        described = client.get("/api/v1/openapi.json").json()
        assert "/api/v1/runs/{run_id}/events" in described["paths"]
        assert "/webhooks/github" not in described["paths"]
        assert agent(tmp_path, "revoke", listed["id"]).returncode == 0
        assert client.get("/api/v1/runs", headers=headers).status_code == 401
    assert agent(tmp_path, "revoke", listed["id"]).returncode == 6
