"""`agent service demo` tells its story to the end, twice in one folder, and leaves nothing when it is interrupted."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.service.bot.test_process import free_port

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600)]
DEMO = [sys.executable, "-m", "cli.main", "service", "demo", "--sandbox", "none"]


def told(*more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*DEMO, *more], env=os.environ, capture_output=True, text=True, timeout=250, check=False)


def descendants(of: int) -> list[int]:
    """Processes below one, at any depth. Each part of the service has a session of its own, and still its parent."""
    listed = subprocess.run(["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = dict(map(int, row.split()) for row in listed.splitlines())
    below: list[int] = []
    for pid in parents:
        at = pid
        while (at := parents.get(at, 0)) > 1:
            if at == of:
                below.append(pid)
                break
    return below


def is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_the_demo_tells_its_story_twice_in_one_folder(tmp_path: Path) -> None:
    options = ["--once", "--port", str(free_port()), "--folder", str(tmp_path)]
    for _ in range(2):
        done = told(*options)
        assert done.returncode == 0, done.stdout + done.stderr
        lines = done.stdout.splitlines()
        assert [line.split(":")[0] for line in lines if line.startswith("the bot")] == [
            "the bot has opened a draft",
            "the bot answers in her thread",
        ]
        assert "Done in" in lines[-1]


@contextmanager
def watched(command: list[str], environment: dict[str, str]) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    timer = threading.Timer(500, process.kill)  # a line that doesn't come ends the test instead of hanging it
    timer.start()
    try:
        yield process, []
    finally:
        timer.cancel()
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def until(process: subprocess.Popen[str], pattern: str) -> str:
    """What it said until a line has the pattern."""
    said = ""
    assert process.stdout is not None
    for line in process.stdout:
        said += line
        if re.search(pattern, line):
            return said
    raise AssertionError(f"{pattern!r} was never said:\n{said}")


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM], ids=lambda sent: sent.name)
def test_interrupted_in_mid_run_it_leaves_nothing(tmp_path: Path, sent: signal.Signals) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PATCHWRIGHT_GITHUB_TOKEN": "of another service"}
    with watched([*DEMO, "--port", str(free_port())], environment) as (process, _):
        until(process, "the bot goes to work")
        below = descendants(process.pid)
        assert len(below) >= 2
        process.send_signal(sent)
        assert process.stdout is not None
        rest = process.stdout.read()
        assert process.wait() == 130, rest
        assert "Traceback" not in rest
    assert not [pid for pid in below if is_there(pid)]
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_is_taken_is_named_and_the_usual_one_replaced(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = told("--once", "--port", str(port), "--folder", str(tmp_path / "none"))
        assert (done.returncode, f"port {port} can't be had" in done.stderr) == (6, True)
        assert not (tmp_path / "none").exists()
    usual = socket.socket()
    try:
        usual.bind(("127.0.0.1", 8117))
        usual.listen()
    except OSError:
        pass  # somebody else has it, which is as good
    with usual, watched([*DEMO, "--no-open"], {**os.environ, "TMPDIR": str(tmp_path)}) as (process, _):
        said = until(process, "the dashboard, logged in once")
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
    assert said.startswith("Port 8117 is taken")
    assert "http://127.0.0.1:8117/" not in said


@pytest.mark.parametrize("command", ["demo", "start", "worker"])
def test_without_the_extra_it_says_how_to_get_it(command: str) -> None:
    code = (
        "import sys\nsys.modules.update(dict.fromkeys(['uvicorn', 'fastapi']))\nfrom cli.main import cli\n"
        f"cli(['service', {command!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (6, "")
    assert "missing: fastapi, uvicorn" in done.stderr
    assert "pip install 'patchwright[service]'" in done.stderr
