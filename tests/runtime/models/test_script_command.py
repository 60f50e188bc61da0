"""`agent model script` as its own process."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner

from cli.model import model
from tests.runtime.models.helpers import http, prompt

COMMAND = [sys.executable, "-c", "from cli.model import model; model()", "script"]


def serve(file: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, str(file), *options],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )


def script(folder: Path) -> Path:
    path = folder / "s.json"
    path.write_text('[{"text": "one"}]')
    return path


async def _ask(url: str) -> None:
    body = {"input_ids": list(prompt()), "rid": "r"}
    assert (await http(url, "/generate", body)).json()["text"] == "one"


def test_serves_until_it_is_ended(tmp_path: Path) -> None:
    with serve(script(tmp_path)) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert first.startswith("listening on http://127.0.0.1:")
        asyncio.run(_ask(first.split()[-1]))
        assert "rid=r turn=0" in process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_json_and_options(tmp_path: Path) -> None:
    with serve(script(tmp_path), "--json", "--name", "other") as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        assert (first["event"], first["model"]) == ("listening", "other")
        asyncio.run(_ask(first["url"]))
        line = json.loads(process.stdout.readline())
        assert (line["event"], line["rid"], line["turn"], line["outcome"]) == ("request", "r", 0, "stop")
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


def test_a_bad_script_and_a_taken_port_are_errors(tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text('[{"txt": "one"}]')
    result = CliRunner().invoke(model, ["script", str(bad)])
    assert (result.exit_code, "unknown field 'txt'" in result.output) == (1, True)
    with serve(script(tmp_path), "--quiet") as process:
        assert process.stdout is not None
        port = process.stdout.readline().strip().rpartition(":")[2]
        second = subprocess.run(
            [*COMMAND, str(script(tmp_path)), "--port", port],
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            cwd=Path(__file__).parents[3],
        )
        assert (second.returncode, "Give another --host or --port" in second.stderr) == (1, True)
        process.terminate()
