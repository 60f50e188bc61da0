"""What `agent model serve --dry-run` says for a machine, word by word. A change here is a change for users: read it.

PATCHWRIGHT_WRITE_GOLDEN=1 writes the files again.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli.main import cli

GOLDEN = Path(__file__).parents[2] / "golden/serving"
DEMO = Path(__file__).parents[3] / "examples/demo/model"


def dry_run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["model", "serve", "--dry-run", *arguments], catch_exceptions=False)


@pytest.mark.parametrize(
    ("name", "arguments", "code"),
    [
        ("one-24-gb-card", ["--hardware", "1x24"], 0),
        ("one-80-gb-card", ["--hardware", "1x80"], 0),
        ("eight-80-gb-cards", ["--hardware", "8x80"], 0),
        ("two-16-gb-cards", ["--hardware", "2x16"], 0),
        ("no-gpu-32-gb", ["--hardware", "cpu:32"], 0),
        ("no-gpu-8-gb", ["--hardware", "cpu:8"], 6),
        ("one-24-gb-card-quality", ["--hardware", "1x24@8.9", "--prefer", "quality"], 0),
        ("blackwell-32-gb-card", ["--hardware", "1x32@12.0"], 0),
        ("largest-on-eight", ["--hardware", "8x80@9.0", "Qwen3.5-397B-A17B"], 0),
        ("a-million-tokens", ["--hardware", "2x80@9.0", "Qwen3.6-27B", "--context", "1010000"], 0),
        ("vllm", ["--hardware", "1x80@9.0", "--engine", "vllm"], 0),
    ],
)
def test_what_is_said(name: str, arguments: list[str], code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("SGLANG_PYTHON", "ROUTER_PYTHON", "VLLM", "LLAMA_SERVER"):
        monkeypatch.delenv(f"PATCHWRIGHT_{variable}", raising=False)
    result = dry_run(*arguments)
    said = f"$ agent model serve --dry-run {' '.join(arguments)}\n\n{result.output}\nexit code {result.exit_code}\n"
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("PATCHWRIGHT_WRITE_GOLDEN"):
        path.write_text(said)
    assert said == path.read_text()
    assert result.exit_code == code
    assert all(len(line) <= 118 for line in result.output.splitlines() if not line.lstrip().startswith(("-", "python")))


@pytest.mark.parametrize(
    "hardware", ["1x24", "1x80", "8x80", "2x16", "1x48", "1x32@12.0", "4x24@8.6", "cpu:32", "cpu:64"]
)
def test_parts_of_memory_add_up_to_no_more_than_there_is(hardware: str) -> None:
    plan = json.loads(dry_run("--hardware", hardware, "--json").output)
    spent = sum(part["mib"] for part in plan["memory"])
    cards = plan["hardware"]["cards"]
    if plan["engine"] == "llamacpp" and cards:
        there = sum(card["memory"] for card in cards)
    else:
        there = min(card["memory"] for card in cards) if cards else plan["hardware"]["ram"]
    assert 0.9 * there < spent <= there + 1 or plan["context"] == 262_144 or not cards
    assert spent <= there + 1
    assert plan["context"] >= 131_072


def test_json_holds_every_command_in_full() -> None:
    plan = json.loads(dry_run("--hardware", "8x80", "--json").output)
    commands = plan["commands"]
    assert [command["role"] for command in commands] == [*(f"replica {n}" for n in range(8)), "router"]
    assert [command["env"].get("CUDA_VISIBLE_DEVICES") for command in commands[:8]] == list("01234567")
    assert commands[-1]["url"] == plan["url"] == "http://127.0.0.1:30000"
    workers = [command["url"] for command in commands[:8]]
    assert len(set(workers)) == 8 and all(url in commands[-1]["argv"] for url in workers)


def test_what_follows_a_double_dash_is_handed_on() -> None:
    plan = json.loads(dry_run("--hardware", "8x80", "--json", "--", "--watchdog-timeout", "600").output)
    assert all(command["argv"][-2:] == ["--watchdog-timeout", "600"] for command in plan["commands"][:8])
    assert "--watchdog-timeout" not in plan["commands"][-1]["argv"]


def test_programs_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATCHWRIGHT_SGLANG_PYTHON", "/opt/sglang/bin/python")
    commands = json.loads(dry_run("--hardware", "8x80", "--json").output)["commands"]
    assert {command["argv"][0] for command in commands} == {"/opt/sglang/bin/python"}
    monkeypatch.setenv("PATCHWRIGHT_ROUTER_PYTHON", "/opt/router/bin/python")
    commands = json.loads(dry_run("--hardware", "8x80", "--json").output)["commands"]
    assert commands[-1]["argv"][0] == "/opt/router/bin/python"


def test_a_checkpoint_on_a_cpu() -> None:
    plan = json.loads(dry_run(str(DEMO), "--device", "cpu", "--json").output)
    (command,) = plan["commands"]
    assert (plan["engine"], plan["device"], plan["context"]) == ("sglang", "cpu", 32_768)
    assert command["env"]["SGLANG_USE_CPU_ENGINE"] == "1"
    assert command["argv"][command["argv"].index("--model-path") + 1] == str(DEMO)
    assert command["argv"][command["argv"].index("--attention-backend") + 1] == "torch_native"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--hardware", "24"], "describes no hardware"),
        (["--hardware", "1x24", "Qwen3.7"], "nor a model of the catalog"),
        (["--hardware", "1x24", "Qwen3.6-Plus"], "--model dashscope:qwen3.6-plus"),
        (["--hardware", "1x24", "--tp", "2"], "--tp 2 needs 2 cards"),
        (["--hardware", "1x80", "--context", "2000000"], "at most 1,010,000"),
        (["--hardware", "cpu:32", "--device", "cuda"], "there is no card"),
        (["--hardware", "1x24", "Qwen/Qwen3.6-27B-FP8"], "needs about"),
        (["--hardware", "1x24", "nvidia/Qwen3.6-27B-NVFP4"], "compute capability 10.0"),
    ],
)
def test_refusals_say_what_to_do(arguments: list[str], said: str) -> None:
    result = dry_run(*arguments)
    assert result.exit_code == 6
    assert said in " ".join(result.output.split())


def test_nothing_is_started_for_hardware_that_is_only_described() -> None:
    result = CliRunner().invoke(cli, ["model", "serve", "--hardware", "1x80"])
    assert result.exit_code == 6 and "add --dry-run" in result.output


def test_a_file_whose_name_says_no_model_is_told_so(tmp_path: Path) -> None:
    file = tmp_path / "x.gguf"
    file.write_bytes(b"GGUF")
    result = dry_run(str(file))
    assert result.exit_code == 6
    assert f"What model the file {file} holds can't be seen from its name" in result.output
    assert "neither a folder" in dry_run(str(tmp_path / "absent.gguf")).output
    assert "neither a folder" in dry_run("x" * 5000).output


@pytest.mark.parametrize("port", ["0", "65536", "99999", "-1"])
def test_ports_that_there_are_not(port: str) -> None:
    assert dry_run("--port", port).exit_code == 2
