"""The machinery that shares a server, with a server that costs nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.servers.shared import Launch, ServerFailed, shared, start_of

ROOT = Path(__file__).parents[2]
HTTP = Launch(lambda port: [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)], {}, "/", 30)


def gone(pid: int, started: str) -> bool:
    deadline = time.monotonic() + 10
    while start_of(pid) == started:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_is_started_once_and_ends_with_its_last_user(tmp_path: Path) -> None:
    with shared(tmp_path, HTTP) as first:
        with shared(tmp_path, HTTP) as second:
            assert second == first
        with urllib.request.urlopen(first.url, timeout=5) as response:
            assert response.status == 200
    assert start_of(first.pid) != first.started
    with shared(tmp_path, HTTP) as third:
        assert third != first


def test_outlives_no_user_that_is_killed(tmp_path: Path) -> None:
    program = f"""
import sys, time
from pathlib import Path
from tests.servers.shared import Launch, shared
from tests.servers.test_shared import HTTP
with shared(Path({str(tmp_path)!r}), HTTP) as server:
    print(server.pid, server.started, flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True) as user:
        assert user.stdout is not None
        pid, started = user.stdout.readline().split()
        assert start_of(int(pid)) == started
        with shared(tmp_path, HTTP) as server:
            assert (server.pid, server.started) == (int(pid), started)
            user.send_signal(signal.SIGKILL)
            user.wait()
            time.sleep(0.2)
            assert start_of(server.pid) == started
    assert gone(int(pid), started)


def test_a_lone_user_that_is_killed_takes_the_server_along(tmp_path: Path) -> None:
    program = f"""
import os, signal
from pathlib import Path
from tests.servers.shared import shared
from tests.servers.test_shared import HTTP
with shared(Path({str(tmp_path)!r}), HTTP) as server:
    print(server.pid, server.started, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    user = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    pid, started = user.stdout.split()
    assert gone(int(pid), started)


def test_what_it_had_in_shared_memory_goes_with_it(tmp_path: Path) -> None:
    made = f"patchwright-test-{tmp_path.name}-{os.getpid()}"
    before = Path(f"/dev/shm/{made}-before")
    before.write_bytes(b"x" * 100)
    program = f"""
import mmap, sys
from http.server import HTTPServer, SimpleHTTPRequestHandler
maps = []
for name, mode in (("{made}", "wb+"), ("{made}-before", "rb")):
    file = open("/dev/shm/" + name, mode)
    if mode == "wb+": file.truncate(100)
    maps.append(mmap.mmap(file.fileno(), 100, access=mmap.ACCESS_READ))
HTTPServer(("127.0.0.1", int(sys.argv[1])), SimpleHTTPRequestHandler).serve_forever()
"""
    try:
        time.sleep(1.1)  # what is older than the server isn't its own
        with shared(tmp_path, Launch(lambda port: [sys.executable, "-c", program, str(port)], {}, "/", 30)):
            assert Path(f"/dev/shm/{made}").exists()
        assert not Path(f"/dev/shm/{made}").exists()
        assert before.exists()
    finally:
        before.unlink()


def test_a_server_that_fails_shows_its_log(tmp_path: Path) -> None:
    failing = Launch(lambda _: [sys.executable, "-c", "print('out of memory'); raise SystemExit(3)"], {})
    with pytest.raises(ServerFailed, match=r"ended with 3 at its start:\nout of memory"), shared(tmp_path, failing):
        pass


def test_a_server_that_never_answers_is_ended(tmp_path: Path) -> None:
    program = "import os, sys, time; print(os.getpid(), flush=True); time.sleep(60)"
    silent = Launch(lambda _: [sys.executable, "-c", program], {}, seconds=1)
    with pytest.raises(ServerFailed, match="wasn't ready in 1 s"), shared(tmp_path, silent):
        pass
    assert start_of(int((tmp_path / "log").read_text())) is None
