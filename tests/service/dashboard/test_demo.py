"""`agent service demo` hands over a link that opens the dashboard once, with the bot's runs in it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="needs the extra `service`")

import httpx2

from tests.service.bot.test_process import children, free_port

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(280)]


def test_the_demos_link_opens_the_dashboard_once(tmp_path: Path) -> None:
    arguments = [
        "service",
        "demo",
        "--no-open",
        "--sandbox",
        "none",
        "--port",
        str(free_port()),
        "--folder",
        str(tmp_path),
    ]
    command = [sys.executable, "-m", "cli.main", *arguments]
    with subprocess.Popen(
        command, env={**os.environ, "PYTHONUNBUFFERED": "1"}, stdout=subprocess.PIPE, text=True
    ) as running:
        try:
            assert running.stdout is not None
            found = (re.search(r"(http://127\.0\.0\.1:\d+)/login\?ticket=(\S+)", line) for line in running.stdout)
            link = next(one for one in found if one)
            with httpx2.Client(base_url=link[1], headers={"Origin": link[1]}, timeout=60) as client:
                assert link[2] in client.get(f"/login?ticket={link[2]}").text
                assert client.post("/login", data={"ticket": link[2]}).status_code == 303
                assert client.post("/login", data={"ticket": link[2]}).status_code == 401
                page = until(client, "/", "octo/calc #1")
                assert re.search(r'href="http://127\.0\.0\.1:\d+/octo/calc/issues/1"', page)
                until(client, "/queue", "state-up")
        finally:
            running.send_signal(signal.SIGINT)
            running.wait(100)
    assert not children(1, str(tmp_path))


def until(client: httpx2.Client, path: str, shown: str) -> str:
    deadline = time.monotonic() + 120
    while shown not in (page := client.get(path).text):
        assert time.monotonic() < deadline, page
        time.sleep(0.2)
    return page
