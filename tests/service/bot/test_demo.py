"""`agent service demo` tells its story to the end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.service.bot.test_process import children, free_port

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(280)]


def test_the_demo_tells_its_story(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "cli.main",
        "service",
        "demo",
        "--once",
        "--sandbox",
        "none",
        "--port",
        str(free_port()),
    ]
    done = subprocess.run(
        [*command, "--folder", str(tmp_path)], env=os.environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert [line.split(":")[0] for line in lines if line.startswith("the bot")] == [
        "the bot has opened a draft",
        "the bot answers in her thread",
    ]
    assert "Done in" in lines[-1]
    assert not children(1, str(tmp_path))
