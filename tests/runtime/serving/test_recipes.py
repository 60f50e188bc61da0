"""Every option that a recipe uses exists in the server that it is for, with a value where it takes one."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
from pathlib import Path

import pytest

from runtime.serving.hardware import describe
from runtime.serving.plan import Device, DoesNotFit, Engine, Preference, Wish
from runtime.serving.planner import make_plan
from runtime.serving.recipes import Address, Command, Recipe, make_recipe

GOLDEN = Path(__file__).parents[2] / "golden/serving"
DEMO = str(Path(__file__).parents[3] / "examples/demo/model")
PROGRAMS = {
    "sglang.launch_server": "flags-sglang.txt",
    "sglang_router.launch_router": "flags-sglang-router.txt",
    "llama-server": "flags-llama-server.txt",
    "vllm": "flags-vllm.txt",
}
HARDWARE = ("1x24", "1x24@8.9", "1x32@12.0", "1x48@8.9", "1x80", "2x16", "2x16@8.9", "4x24@8.6", "8x80@9.0", "cpu:32")
WISHES = (
    Wish(),
    Wish(prefer=Preference.QUALITY),
    Wish(model="Qwen3.5-397B-A17B"),
    Wish(model="Qwen3.6-27B", context=524_288),
    Wish(model="Qwen3.5-4B"),
    Wish(images=False, mtp=False),
    Wish(engine=Engine.VLLM),
    Wish(engine=Engine.VLLM, context=1_010_000),
    Wish(engine=Engine.LLAMACPP),
    Wish(engine=Engine.LLAMACPP, context=524_288),
    Wish(model=DEMO, device=Device.CPU),
    Wish(model=DEMO, engine=Engine.SGLANG),
)


def known(program: str) -> dict[str, str]:
    """Option to what it takes: "" nothing, "=" a value, "={a,b}" one of these."""
    lines = (GOLDEN / PROGRAMS[program]).read_text().splitlines()
    found = (re.fullmatch(r"(--[^=]+)(=.*)?", line) for line in lines if line.startswith("--"))
    return {match[1]: match[2] or "" for match in found if match}


def recipes() -> list[tuple[str, Recipe]]:
    made = []
    for hardware, wish in itertools.product(HARDWARE, WISHES):
        try:
            plan = make_plan(wish, describe(hardware))
        except DoesNotFit:
            continue
        made.append((f"{hardware} {wish}", make_recipe(plan, Address("0.0.0.0", 8000))))
    return made


def problems(command: Command) -> list[str]:
    program = next(word for word in command.argv[:3] if word in PROGRAMS)
    options, found = known(program), []
    words = [*command.argv, "--end"]
    for word, following in itertools.pairwise(words):
        if not word.startswith("--"):
            continue
        takes = options.get(word)
        if takes is None:
            found.append(f"{program} has no {word}")
        elif bool(takes) == following.startswith("--"):
            found.append(f"{program} {word} {'lacks' if takes else 'takes no'} value, is followed by {following}")
        elif takes.startswith("={") and following not in takes[2:-1].split(","):
            found.append(f"{program} {word} can't be {following}")
    return found


def test_all_options_exist() -> None:
    made = recipes()
    used = {word for _, recipe in made for command in recipe.commands for word in command.argv if word.startswith("--")}
    assert {
        "--enable-cache-report",
        "--speculative-algorithm",
        "--json-model-override-args",
        "--kv-cache-dtype",
        "--cache-type-k",
        "--hf-overrides",
        "--language-model-only",
        "--attention-backend",
        "--assignment-mode",
        "--rope-scaling",
    } <= used
    found = {problem for _, recipe in made for command in recipe.commands for problem in problems(command)}
    assert not found


def test_the_check_finds_what_is_wrong() -> None:
    (command,) = make_recipe(make_plan(Wish(), describe("1x80"))).servers
    spoiled = Command(
        "server", (*command.argv, "--language-model-only", "--tp-size", "--page-sise", "1"), command.address
    )
    assert problems(command) == []
    assert problems(spoiled) == [
        "sglang.launch_server --tp-size lacks value, is followed by --page-sise",
        "sglang.launch_server has no --page-sise",
    ]


@pytest.mark.parametrize("engine", [Engine.SGLANG, Engine.VLLM])
def test_a_plain_openai_endpoint_for_others(engine: Engine) -> None:
    (command,) = make_recipe(make_plan(Wish(engine=engine), describe("1x80"))).servers
    words = " ".join(command.argv)
    assert "--reasoning-parser qwen3" in words and "--tool-call-parser qwen3_coder" in words
    kwargs = command.argv[command.argv.index("--default-chat-template-kwargs") + 1]
    assert json.loads(kwargs) == {"preserve_thinking": True}
    assert ("--enable-cache-report" in words) == (engine is Engine.SGLANG)


def test_no_recipe_strips_thinking_or_sets_a_temperature() -> None:
    for _, recipe in recipes():
        for command in recipe.commands:
            assert "--strip-thinking-cache" not in command.argv
            assert not {"--temp", "--temperature"} & set(command.argv)


def test_text_only_by_the_config_because_the_flag_is_refused() -> None:
    """SGLang 0.5.23 takes `--language-model-only` for other families; the field of the config works for all."""
    plan = make_plan(Wish(images=False), describe("1x80"))
    (command,) = make_recipe(plan).servers
    override = command.argv[command.argv.index("--json-model-override-args") + 1]
    assert json.loads(override) == {"language_model_only": True}
    assert "--language-model-only" not in command.argv


def test_a_stretched_context() -> None:
    plan = make_plan(Wish(model="Qwen3.6-27B", context=524_288), describe("2x80@9.0"))
    command = make_recipe(plan).servers[0]
    assert command.env["SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN"] == "1"
    rope = json.loads(command.argv[command.argv.index("--json-model-override-args") + 1])["text_config"]
    assert rope["rope_parameters"]["factor"] == 2.0
    assert rope["rope_parameters"]["original_max_position_embeddings"] == 262_144
    assert command.argv[command.argv.index("--context-length") + 1] == "524288"


def test_a_gguf_file(tmp_path: Path) -> None:
    file = tmp_path / "Qwen3.6-35B-A3B-Q4_K_M.gguf"
    file.write_bytes(b"GGUF")
    plan = make_plan(Wish(model=str(file)), describe("cpu:64"))
    (command,) = make_recipe(plan).servers
    assert plan.engine is Engine.LLAMACPP
    assert command.argv[:3] == ("llama-server", "--model", str(file))


def test_shown_commands_are_for_a_shell() -> None:
    (command,) = make_recipe(make_plan(Wish(images=False), describe("1x80"))).servers
    words = subprocess.run(
        ["sh", "-c", "printf '%s\\n' " + command.shown()], capture_output=True, text=True, check=True
    )
    assert tuple(words.stdout.splitlines()) == command.argv
    with_env = Command("server", ("a", "--b", "c d"), Address(), {"X": "y z"})
    assert with_env.shown() == "X='y z' a \\\n    --b 'c d'"


def test_addresses() -> None:
    assert Address("0.0.0.0", 8000).url == "http://127.0.0.1:8000"
    recipe = make_recipe(make_plan(Wish(), describe("8x80")), Address("0.0.0.0", 8000))
    assert recipe.router is not None and recipe.router.argv[4] == "0.0.0.0"
    assert all(server.address.host == "127.0.0.1" for server in recipe.servers)
    assert recipe.url == "http://127.0.0.1:8000"
