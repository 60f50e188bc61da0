"""`agent model serve` with the real SGLang server on this machine's CPU: started, asked, stopped, killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent import prompts
from runtime.chat import render
from tests.runtime.serving.test_process import alive, descendants, free_port, until
from tests.runtime.serving.test_recipes import GOLDEN, PROGRAMS
from tests.servers.sglang import DEMO_CHECKPOINT, ROOT, installed
from tools import standard_tools

PYTHON = ROOT / "examples/sglang_cpu/python"

pytestmark = [
    pytest.mark.sglang,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not installed(), reason="SGLang isn't installed: run scripts/sglang-cpu.sh"),
]


@contextmanager
def served(home: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command, just started, and the URL that it will serve at."""
    port = free_port()
    environment = {**os.environ, "PATCHWRIGHT_SGLANG_PYTHON": str(PYTHON), "PATCHWRIGHT_HOME": str(home)}
    command = [sys.executable, "-m", "cli.main", "model", "serve", str(DEMO_CHECKPOINT), "--device", "cpu", "--json"]
    process = subprocess.Popen(
        [*command, "--port", str(port), *arguments], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield process, f"http://127.0.0.1:{port}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait()
        process.stdout.close()


def ask(url: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as response:
        return json.loads(response.read())


def wait_gone(numbers: list[int], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while alive(numbers):
        assert time.monotonic() < deadline, f"still running: {alive(numbers)}"
        time.sleep(0.2)


def assert_the_front_is_cached(url: str) -> None:
    """A run's first request finds the system prompt and the tools computed, up to the last checkpoint of 64 tokens."""
    messages = [
        {"role": "system", "content": prompts.system_prompt()},
        {"role": "user", "content": prompts.task_prompt("It breaks.", workdir="/workspace")},
    ]
    text = render(messages, [tool.spec for tool in standard_tools()])
    front = text[: text.rindex("<|im_start|>user")]
    tokens = ask(f"{url}/tokenize", {"prompt": front, "add_special_tokens": False})["count"]
    answer = ask(f"{url}/generate", {"text": text, "sampling_params": {"max_new_tokens": 1}})
    assert answer["meta_info"]["cached_tokens"] == tokens // 64 * 64


def test_ready_asked_and_stopped(tmp_path: Path) -> None:
    with served(tmp_path) as (process, url):
        events = until(process, "ready")
        said = [event["doing"] for event in events if event["event"] == "progress"]
        assert said[0] == "started" and said.index("loading the weights") < said.index("answering")
        assert events[-1]["url"] == url
        warmed = int(said[-1].removeprefix("has the shared prefix of ").split()[0].replace(",", ""))
        assert warmed > 1000

        chat = ask(f"{url}/v1/chat/completions", {"model": "x", "messages": [{"role": "user", "content": "hi"}]})
        assert chat["choices"][0]["message"]["role"] == "assistant"
        assert chat["usage"]["prompt_tokens_details"]["cached_tokens"] == 0  # the cache report is on
        written = ask(f"{url}/generate", {"input_ids": [5, 6, 7], "sampling_params": {"max_new_tokens": 4}})
        assert len(written["output_ids"]) == 4

        assert_the_front_is_cached(url)

        numbers = descendants(process.pid)
        assert len(numbers) >= 4  # the keeper, the server, its scheduler and detokenizer
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert alive(numbers) == []
        (log,) = (tmp_path / "servers").glob("*.log")
        assert "crashed" not in log.read_text(), "the server took our signal for a crash"


def test_kill_9_leaves_nothing(tmp_path: Path) -> None:
    with served(tmp_path) as (process, _):
        numbers: list[int] = []
        deadline = time.monotonic() + 600
        while not any("scheduler" in _title(pid) for pid in numbers):  # the server's own processes are there
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.2)
            numbers = descendants(process.pid)
        process.kill()
        process.wait()
        wait_gone(numbers, 60)


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def test_the_list_of_options_is_the_programs_own() -> None:
    """The list that all recipes are held against, made again from the installed SGLang."""
    code = (
        "import argparse\nfrom sglang.srt.server_args import ServerArgs\n"
        "parser = argparse.ArgumentParser()\nServerArgs.add_cli_args(parser)\n"
        "for action in parser._actions:\n"
        "    for name in action.option_strings:\n"
        "        choices = '{' + ','.join(sorted(str(c) for c in action.choices)) + '}' if action.choices else ''\n"
        "        print('FLAG', name + ('' if action.nargs == 0 else '=' + choices))\n"
    )
    done = subprocess.run([PYTHON, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    found = {line.removeprefix("FLAG ") for line in done.stdout.splitlines() if line.startswith("FLAG --")}
    kept = (GOLDEN / PROGRAMS["sglang.launch_server"]).read_text().splitlines()
    assert found == {line for line in kept if line.startswith("--")}
