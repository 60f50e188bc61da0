"""What `agent model check` finds on servers that do, and don't do, what runs need."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from runtime.models.base import Chunk, Feature, FinishReason, HostFacts, ModelUnreachable, Usage
from runtime.models.http_server import Exchange, HttpError, HttpServer
from runtime.models.probe import Report, Result, probe
from runtime.models.probe_server import ServerPaths, address_of
from runtime.models.scripted import ScriptedServer
from runtime.qwen_bpe import qwen_tokenizer

ANSWER = {"reasoning": "17 times 23 is 391.", "content": "391"}
CALL = {"reasoning": "I call it.", "calls": [{"name": "read_file", "arguments": {"path": "src/naive.py"}}]}
COUNT = {"content": "one two three four " * 200, "faults": [{"kind": "slow", "seconds": 0.01, "times": "always"}]}


def script(**other: Any) -> dict[str, Any]:
    """A model that does all that a probe asks for."""
    answers = {"17 * 23": ANSWER, "Call the tool": CALL, "Count from 1": COUNT, "Say yes": {"content": "yes"}} | other
    return {
        "conversations": [{"match": match, "turns": [turn], "after": "repeat_last"} for match, turn in answers.items()]
    }


def results(report: Report) -> dict[str, Result]:
    return {check.name: check.result for check in report.checks}


def seen(report: Report, name: str) -> str:
    return next(check.seen for check in report.checks if check.name == name)


async def test_a_server_that_does_everything() -> None:
    async with ScriptedServer(script()) as server:
        report = await probe(server.url)
    found = results(report)
    assert found.pop("stream") in (Result.OK, Result.NOT_SHOWN)  # it is quick
    assert set(found.values()) == {Result.OK}, report.checks
    assert "template: thinking kept" in found
    assert set(found) >= {"ids in", "ids out", "abort", "cache: the same prompt", "thinking", "tool call", "context"}
    assert seen(report, "tool call") == "read_file(path='src/naive.py')"
    assert report.ok
    assert report.host["context"] == 262_144


async def test_a_model_that_only_babbles_is_no_failure() -> None:
    babble = {"text": "apple horse battery " * 40}
    async with ScriptedServer(script(**{"Call the tool": babble})) as server:
        report = await probe(server.url)
    assert results(report)["thinking"] is Result.NOT_SHOWN
    assert results(report)["tool call"] is Result.NOT_SHOWN
    assert report.ok


async def test_a_server_with_another_vocabulary() -> None:
    async with ScriptedServer({**script(), "tokenizer": "other"}) as server:
        report = await probe(server.url)
    assert results(report)["tokenizer"] is Result.DIFFERS
    assert results(report)["template"] is Result.OK  # read back by the server itself
    assert not report.ok


async def test_a_server_with_another_template() -> None:
    async with ScriptedServer({**script(), "template": "other"}) as server:
        report = await probe(server.url)
    assert (results(report)["tokenizer"], results(report)["template"]) == (Result.OK, Result.DIFFERS)


async def test_a_request_that_goes_on_behind_its_client() -> None:
    class Careless(ScriptedServer):
        """Says that as many requests run as were ever begun."""

        @property
        def open_requests(self) -> int:
            return len(self.requests)

    async with Careless(script()) as server:
        report = await probe(server.url)
    assert results(report)["abort"] is Result.DIFFERS


async def test_a_cache_that_keeps_nothing() -> None:
    empty = {**ANSWER, "usage": {"cached_tokens": 0}}
    async with ScriptedServer(script(**{"17 * 23": empty})) as server:
        report = await probe(server.url)
    assert results(report)["cache: a new prompt"] is Result.OK
    assert results(report)["cache: prompt, turn, something new"] is Result.DIFFERS
    assert seen(report, "cache: the same prompt").startswith("0 of ")


async def test_prompts_that_are_counted_otherwise() -> None:
    counted = {**ANSWER, "usage": {"prompt_tokens": 5}}
    async with ScriptedServer(script(**{"17 * 23": counted})) as server:
        report = await probe(server.url)
    assert results(report)["ids in"] is Result.DIFFERS


async def test_thinking_that_goes_wrong() -> None:
    twice = {"text": "<think>\nHm.\n</think>\n\n391"}
    async with ScriptedServer(script(**{"Call the tool": twice})) as server:
        report = await probe(server.url)
    assert results(report)["thinking"] is Result.DIFFERS


async def test_errors_are_results_of_their_checks() -> None:
    broken = {**ANSWER, "faults": [{"kind": "http", "status": 500, "times": "always"}]}
    async with ScriptedServer(script(**{"17 * 23": broken})) as server:
        report = await probe(server.url)
    found = results(report)
    assert (found["ids"], found["cache"], found["tool call"]) == (Result.FAILED, Result.FAILED, Result.OK)
    assert "500" in seen(report, "ids")


async def test_no_server_at_all() -> None:
    with pytest.raises(ModelUnreachable):
        await probe("http://127.0.0.1:9")


class OneShot:
    """A chat host: no ids, no counts, the whole answer at once."""

    name = "one shot"
    context_length = 1000
    delay = 0.0

    def __init__(self) -> None:
        self.tokenizer = qwen_tokenizer()
        self.facts = HostFacts("chat", features=frozenset())

    async def stream(self, *_: Any, **__: Any) -> AsyncIterator[Chunk]:
        await asyncio.sleep(self.delay)
        ids = self.tokenizer.encode_with_specials("Hm.\n</think>\n\n391<|im_end|>")
        yield Chunk(tuple(ids), FinishReason.STOP, Usage(10, 0, len(ids)))

    async def close(self) -> None: ...


async def test_what_a_host_lacks_is_said_and_is_no_failure() -> None:
    report = await probe(OneShot())
    found = results(report)
    assert (found["ids"], found["cache"], found["thinking"]) == (Result.NOT_OFFERED, Result.NOT_OFFERED, Result.OK)
    assert report.ok


async def test_a_turn_in_one_piece_is_no_stream() -> None:
    model = OneShot()
    model.facts = replace(model.facts, features=frozenset({Feature.EXACT_IDS}))
    assert results(await probe(model))["stream"] is Result.NOT_SHOWN
    model.delay = 0.6
    assert results(await probe(model))["stream"] is Result.DIFFERS


@asynccontextmanager
async def paths(**answers: Any) -> AsyncIterator[ServerPaths]:
    async def handle(exchange: Exchange) -> None:
        name = exchange.request.path.partition("?")[0].strip("/").replace("/", "_")
        if name not in answers:
            raise HttpError(404, "not here")
        await exchange.raw(answers[name].encode())

    server = HttpServer(handle)
    asked = ServerPaths(f"http://127.0.0.1:{await server.listen('127.0.0.1', 0)}")
    try:
        yield asked
    finally:
        await asked.close()
        await server.close()


@pytest.mark.parametrize(
    ("answers", "running"),
    [
        ({"v1_loads": '{"loads": [{"num_running_reqs": 2}, {"num_running_reqs": 1}]}'}, 3),
        ({"slots": '[{"is_processing": true}, {"is_processing": false}]'}, 1),
        ({"metrics": '# HELP x\nvllm:num_requests_running{engine="0",model_name="m"} 4.0\n'}, 4),
        ({"metrics": 'sglang:num_running_reqs{model_name="m"} 1.0\nsglang:num_running_reqs{model_name="n"} 1.0\n'}, 2),
        ({"metrics": "llamacpp:requests_processing 0\n"}, 0),
        ({"metrics": "other 1\n"}, None),
        ({"v1_loads": "busy", "slots": "{}"}, None),
        ({}, None),
    ],
)
async def test_running_requests_are_read_in_every_form(answers: dict[str, str], running: int | None) -> None:
    async with paths(**answers) as asked:
        assert await asked.running() == running


def test_a_servers_address_in_what_names_a_model() -> None:
    assert address_of("http://gpu:30000/v1/") == "http://gpu:30000"
    assert address_of("vllm:https://gpu/prefix/v1") == "https://gpu/prefix"
    assert address_of("chat:http://gpu:1/v1/chat/completions#model") == "http://gpu:1"
    assert address_of("llamacpp:127.0.0.1:8080") == "http://127.0.0.1:8080"
    assert address_of("script:file.json") is None
    assert address_of("/models/http://x") is None
    assert address_of("dashscope:qwen3.6-plus") is None


def check_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli.main", "model", "check", *arguments], capture_output=True, text=True, timeout=120
    )


async def test_the_command_prints_a_table_and_its_exit_code_says_how_it_went(tmp_path: Any) -> None:
    async with ScriptedServer(script()) as server:
        good = await asyncio.to_thread(check_command, server.url)
    assert good.returncode == 0, good.stdout + good.stderr
    rows = [line.split(maxsplit=1)[0] for line in good.stdout.splitlines() if line]
    assert rows[:3] == ["ids", "ids", "stream"]
    wrong = {**ANSWER, "usage": {"prompt_tokens": 5}}
    async with ScriptedServer(script(**{"17 * 23": wrong})) as server:
        bad = await asyncio.to_thread(check_command, server.url, "--json")
    assert bad.returncode == 3
    assert json.loads(bad.stdout)["checks"][0] == {
        "check": "ids in", "result": "differs", "seen": json.loads(bad.stdout)["checks"][0]["seen"],
    }  # fmt: skip
    gone = await asyncio.to_thread(check_command, server.url)
    assert (gone.returncode, "No answer from" in gone.stderr) == (7, True)
