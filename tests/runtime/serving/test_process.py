"""Servers as processes: ready, warmed, stopped; and nothing is left of them, however the command ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from runtime.serving.plan import Engine
from runtime.serving.process import (
    CannotStart,
    ServerFailed,
    ServerProcess,
    Warmed,
    _prompt_tokens,
    first_end,
    serving,
    warm,
)
from runtime.serving.recipes import Address, Command, Recipe
from runtime.serving.troubles import advice

SERVER = '''
"""A server like SGLang's in what the serving code sees of it: its log, /health, /generate, children, SIGTERM."""
import json, os, signal, subprocess, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

mode, port = sys.argv[1], int(sys.argv[3])
children = [subprocess.Popen(["sleep", "1000"]), subprocess.Popen(["sleep", "1000"], start_new_session=True)]
print("Load weight begin. avail mem=23.00 GB", flush=True)
print("pids", os.getpid(), *(child.pid for child in children), flush=True)
if mode == "crash":
    print("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.", flush=True)
    sys.exit(3)
if mode == "orphan":
    subprocess.run(["sh", "-c", "sleep 1000 & echo orphan $!"])
if mode == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if mode == "graceful":
    def stop(*_):
        print("stopping in good order", flush=True)
        [child.kill() for child in children]
        os._exit(0)
    signal.signal(signal.SIGTERM, stop)

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self, body):
        body = json.dumps(body).encode()
        self.send_response(200 if time.monotonic() > ready else 503)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        if self.path == "/die":
            os._exit(5)
        self.answer({})
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        print("asked", json.dumps(asked), flush=True)
        self.answer({"meta_info": {"prompt_tokens": len(asked["text"])}})
    def log_message(self, *_):
        pass

ready = time.monotonic() + (1000 if mode == "never" else 0.3)
print("The server is fired up and ready to roll!", flush=True)
ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
'''


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "server.py"
    path.write_text(SERVER)
    return path


def command(script: Path, mode: str = "graceful", role: str = "server", **env: str) -> Command:
    address = Address(port=free_port())
    argv = (sys.executable, str(script), mode, "--port", str(address.port))
    return Command(role, argv, address, env)


def pids(log: Path) -> list[int]:
    words = [line.split() for line in log.read_text().splitlines()]
    return [int(word) for line in words if line and line[0] in ("pids", "orphan") for word in line[1:]]


def alive(numbers: list[int]) -> list[int]:
    def runs(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False

    return [pid for pid in numbers if runs(pid)]


def descendants(pid: int) -> list[int]:
    """All that a process has started, and what that has started, and so on."""
    found: dict[int, int] = {}
    for path in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if path.name.isdigit():
                found[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
    family = [pid]
    for member in family:
        family.extend(child for child, parent in found.items() if parent == member)
    return family[1:]


async def gone(numbers: list[int], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while alive(numbers):
        assert time.monotonic() < deadline, f"still running: {alive(numbers)}"
        await asyncio.sleep(0.05)


def quiet(role: str, doing: str) -> None:
    pass


async def test_start_warm_and_stop(script: Path, tmp_path: Path) -> None:
    told: list[tuple[str, str]] = []
    one = command(script, GIVEN="yes")
    async with serving(Recipe((one,)), tmp_path, lambda *event: told.append(event), seconds=60, grace=1000) as (
        server,
    ):
        done = await warm(one.address.url, Engine.SGLANG, "the front")
        assert done.tokens == len("the front")
        numbers = pids(server.log)
        assert len(alive(numbers)) == 3
        assert "GIVEN=yes" in Path(f"/proc/{numbers[0]}/environ").read_text().split("\0")
    assert told == [("server", "started"), ("server", "loading the weights"), ("server", "answering")]
    assert alive(numbers) == []
    log = server.log.read_text()
    assert '"sampling_params": {"max_new_tokens": 1}' in log and "stopping in good order" in log


@pytest.mark.parametrize("mode", ["stubborn", "orphan"])
async def test_what_doesnt_stop_by_itself_is_killed(script: Path, tmp_path: Path, mode: str) -> None:
    async with serving(Recipe((command(script, mode),)), tmp_path, quiet, seconds=60, grace=0.3) as (server,):
        numbers = pids(server.log)
        assert len(alive(numbers)) == (4 if mode == "orphan" else 3)
    assert alive(numbers) == []


async def test_a_crash_is_told_with_its_last_lines_and_what_to_try(script: Path, tmp_path: Path) -> None:
    with pytest.raises(ServerFailed) as failed:
        async with serving(Recipe((command(script, "crash"),)), tmp_path, quiet, seconds=60):
            raise AssertionError("never ready")
    text = str(failed.value)
    assert "server ended with exit code 3" in text
    assert "  | torch.OutOfMemoryError: CUDA out of memory" in text
    assert "-> there was not enough memory: give a smaller --context" in text
    (log,) = tmp_path.glob("server-*.log")
    assert str(log) in text
    await gone(pids(log))


async def test_one_that_never_answers(script: Path, tmp_path: Path) -> None:
    with pytest.raises(ServerFailed, match="doesn't answer after 1 s") as failed:
        async with serving(Recipe((command(script, "never"),)), tmp_path, quiet, seconds=1, grace=0.3):
            raise AssertionError("never ready")
    assert "--ready-timeout" in str(failed.value)
    (log,) = tmp_path.glob("server-*.log")
    assert alive(pids(log)) == []


async def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    absent = Command("server", ("no-such-server", "--port", "1"), Address(port=free_port()))
    with pytest.raises(ServerFailed, match="exit code 127") as failed:
        async with serving(Recipe((absent,)), tmp_path, quiet, seconds=60):
            raise AssertionError("never ready")
    assert "PATCHWRIGHT_LLAMA_SERVER" in str(failed.value)


async def test_replicas_and_router_come_in_order_and_go_together(script: Path, tmp_path: Path) -> None:
    told: list[str] = []
    recipe = Recipe(
        (command(script, role="replica 0"), command(script, role="replica 1")), command(script, role="router")
    )
    async with serving(recipe, tmp_path, lambda role, doing: told.append(f"{role} {doing}"), seconds=60) as servers:
        numbers = [pid for server in servers for pid in pids(server.log)]
        assert len(alive(numbers)) == 9
        ends = asyncio.create_task(first_end(servers))
        await asyncio.sleep(0.1)
        assert not ends.done()
        os.kill(pids(servers[1].log)[0], signal.SIGKILL)
        ended = await asyncio.wait_for(ends, 10)
        assert ended is servers[1] and "exit code 137" in str(ended.failure())
    assert alive(numbers) == []
    answering = {told.index("replica 0 answering"), told.index("replica 1 answering")}
    assert max(answering) < told.index("router started")


async def test_if_one_replica_fails_the_others_go_too(script: Path, tmp_path: Path) -> None:
    recipe = Recipe((command(script, role="replica 0"), command(script, "crash", role="replica 1")))
    with pytest.raises(ServerFailed, match="replica 1 ended with exit code 3"):
        async with serving(recipe, tmp_path, quiet, seconds=60):
            raise AssertionError("never ready")
    for log in tmp_path.glob("replica-*.log"):
        assert alive(pids(log)) == []


async def test_the_end_at_once(script: Path, tmp_path: Path) -> None:
    server = await ServerProcess.start(command(script, "stubborn"), tmp_path, grace=1000)
    await server.ready(20, quiet)
    numbers = pids(server.log)
    await asyncio.wait_for(server.stop(at_once=True), 10)
    assert alive(numbers) == []


@pytest.mark.parametrize("mode", ["stubborn", "orphan"])
async def test_kill_9_of_the_command_leaves_nothing(script: Path, tmp_path: Path, mode: str) -> None:
    one = command(script, mode)
    code = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from runtime.serving.process import serving\n"
        "from runtime.serving.recipes import *\n"
        "async def main():\n"
        f"    one = Command('server', {one.argv!r}, Address(port={one.address.port}))\n"
        f"    async with serving(Recipe((one,)), Path({str(tmp_path)!r}), lambda *_: None, seconds=60, grace=0.3):\n"
        "        print('ready', flush=True)\n"
        "        await asyncio.sleep(1000)\n"
        "asyncio.run(main())\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    assert parent.stdout.readline() == "ready\n"
    (log,) = tmp_path.glob("server-*.log")
    numbers = pids(log)
    assert alive(numbers) == numbers
    parent.kill()
    parent.wait()
    parent.stdout.close()
    await gone(numbers)


async def test_kill_9_of_the_keeper_takes_the_server(script: Path, tmp_path: Path) -> None:
    """The last line of defence: the server itself dies with its keeper. What it started is its own affair then."""
    server = await ServerProcess.start(command(script, "stubborn"), tmp_path)
    await server.ready(20, quiet)
    numbers = pids(server.log)
    os.kill(int(Path(f"/proc/{numbers[0]}/stat").read_text().rpartition(")")[2].split()[1]), signal.SIGKILL)
    await gone(numbers[:1])
    await server.stop()
    for pid in alive(numbers):
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("everywhere", [False, True])
async def test_somebody_elses_server_on_the_port_is_not_taken_for_ours(
    script: Path, tmp_path: Path, everywhere: bool
) -> None:
    one = command(script)
    place = ("0.0.0.0" if everywhere else "127.0.0.1", one.address.port)
    named = f"server can't listen on 127.0.0.1:{one.address.port}"
    with socket.create_server(place), pytest.raises(CannotStart, match=named) as failed:
        async with serving(Recipe((one,)), tmp_path / "logs", quiet, seconds=60):
            raise AssertionError("never ready")
    assert "Nothing was started" in str(failed.value) and "--port" in str(failed.value)
    assert not (tmp_path / "logs").exists()


async def test_the_routers_port_counts_too_and_so_do_ports_and_hosts_that_there_are_not(
    script: Path, tmp_path: Path
) -> None:
    one, router = command(script), command(script, role="router")
    with socket.create_server(("127.0.0.1", router.address.port)), pytest.raises(CannotStart, match="router can't"):
        async with serving(Recipe((one,), router), tmp_path, quiet):
            raise AssertionError("never ready")
    for address in (Address(port=65_536), Address(host="192.0.2.1", port=free_port()), Address(host="no host")):
        with pytest.raises(CannotStart, match="can't listen"):
            async with serving(Recipe((Command("server", one.argv, address),)), tmp_path, quiet):
                raise AssertionError("never ready")


async def test_one_that_ended_is_not_ready_whoever_answers_on_its_port(script: Path, tmp_path: Path) -> None:
    ours = command(script)
    async with serving(Recipe((ours,)), tmp_path, quiet, seconds=60):
        late = await ServerProcess.start(Command("late", ("sh", "-c", "exit 3"), ours.address), tmp_path)
        await late.ended()
        with pytest.raises(ServerFailed, match="late ended with exit code 3"):
            await late.ready(20, quiet)
        await late.stop()


async def test_a_folder_that_cannot_be_written(script: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotStart, match="PATCHWRIGHT_HOME"):
        async with serving(Recipe((command(script),)), tmp_path / "file" / "servers", quiet):
            raise AssertionError("never ready")


@pytest.mark.parametrize(
    ("answer", "tokens"),
    [
        ({"meta_info": {"prompt_tokens": 7}}, 7),
        ({"usage": {"prompt_tokens": 7}}, 7),
        ({"tokens_evaluated": 7}, 7),
        ({}, None),
        ({"usage": None, "meta_info": ["no"], "tokens_evaluated": "7"}, None),
        ({"tokens_evaluated": True}, None),
    ],
)
def test_what_a_server_does_not_count_is_not_told_as_none(answer: dict[str, Any], tokens: int | None) -> None:
    assert _prompt_tokens(answer) == tokens
    assert Warmed(tokens, 1.0).counted == ("" if tokens is None else " of 7 tokens")


def test_advice() -> None:
    assert advice("all is well") == ()
    assert "--port" in advice("OSError: [Errno 98] Address already in use")[0]
    assert "PATCHWRIGHT_SGLANG_PYTHON" in advice("python: No module named sglang.launch_server")[0]
    assert "version" in advice("launch_server.py: error: unrecognized arguments: --x")[0]
    assert "folder" in advice("huggingface_hub.errors.LocalEntryNotFoundError: offline mode")[0]


def run_cli(script: Path, home: Path, *arguments: str, mode: str = "graceful") -> subprocess.Popen[str]:
    """`agent model serve` of a GGUF file, whose server is the script."""
    program = home / "llama-server"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {script} "$MODE" "$@"\n')
    program.chmod(0o755)
    weights = home / "Qwen3.5-4B-Q4_K_M.gguf"
    weights.write_bytes(b"GGUF")
    environment = {**os.environ, "PATCHWRIGHT_LLAMA_SERVER": str(program), "PATCHWRIGHT_HOME": str(home)}
    return subprocess.Popen(
        [sys.executable, "-m", "cli.main", "model", "serve", str(weights), "--device", "cpu", "--json", *arguments],
        env={**environment, "MODE": mode},
        stdout=subprocess.PIPE,
        text=True,
    )


def until(process: subprocess.Popen[str], event: str) -> list[dict[str, Any]]:
    assert process.stdout is not None
    seen: list[dict[str, Any]] = []
    while not seen or seen[-1]["event"] != event:
        line = process.stdout.readline()
        assert line, f"ended without {event}: {seen}"
        seen.append(json.loads(line))
    return seen


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_the_command_and_its_signals(tmp_path: Path, number: signal.Signals) -> None:
    script = tmp_path / "server.py"
    # llama-server gets its port in another place; the script finds it.
    script.write_text(SERVER.replace("int(sys.argv[3])", 'int(sys.argv[sys.argv.index("--port") + 1])'))
    process = run_cli(script, tmp_path, "--port", str(free_port()), "--no-warm")
    try:
        events = until(process, "ready")
        assert [event["event"] for event in events][:2] == ["plan", "progress"]
        (log,) = (tmp_path / "servers").glob("*.log")
        numbers = pids(log)
        assert len(alive(numbers)) == 3
        process.send_signal(number)
        assert process.wait(20) == (0 if number is not signal.SIGKILL else -9)
        deadline = time.monotonic() + 10
        while alive(numbers) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert alive(numbers) == []
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


@pytest.mark.parametrize("trouble", ["port", "home"])
def test_what_cannot_be_started_exits_with_six(tmp_path: Path, trouble: str) -> None:
    script, port = tmp_path / "server.py", free_port()
    script.write_text(SERVER)
    if trouble == "home":
        (tmp_path / "servers").write_text("")
    with contextlib.ExitStack() as stack:
        if trouble == "port":
            stack.enter_context(socket.create_server(("127.0.0.1", port)))
        process = run_cli(script, tmp_path, "--port", str(port), "--no-warm")
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 6
    last = json.loads(out.splitlines()[-1])
    assert last["event"] == "error" and "Nothing was started" in last["message"]


def test_a_second_signal_doesnt_wait(tmp_path: Path) -> None:
    script = tmp_path / "server.py"
    script.write_text(SERVER.replace("int(sys.argv[3])", 'int(sys.argv[sys.argv.index("--port") + 1])'))
    process = run_cli(script, tmp_path, "--port", str(free_port()), "--no-warm", mode="stubborn")
    until(process, "ready")
    (log,) = (tmp_path / "servers").glob("*.log")
    numbers, started = pids(log), time.monotonic()
    process.send_signal(signal.SIGINT)
    until(process, "stopping")
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    assert time.monotonic() - started < 20 and alive(numbers) == []
    assert process.stdout is not None
    process.stdout.close()


def test_a_server_that_dies_ends_the_command(tmp_path: Path) -> None:
    script = tmp_path / "server.py"
    script.write_text(SERVER.replace("int(sys.argv[3])", 'int(sys.argv[sys.argv.index("--port") + 1])'))
    process = run_cli(script, tmp_path, "--port", str(free_port()), "--no-warm")
    until(process, "ready")
    (log,) = (tmp_path / "servers").glob("*.log")
    os.kill(pids(log)[0], signal.SIGKILL)
    assert process.wait(20) == 7
    assert process.stdout is not None
    last = json.loads(process.stdout.read().splitlines()[-1])
    assert last["event"] == "error" and "exit code 137" in last["message"]
    process.stdout.close()
