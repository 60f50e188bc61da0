from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from runtime.models import connect
from runtime.models.base import ModelFailed, ModelRefused, ModelUnreachable
from runtime.models.scripted import ScriptedServer
from tests.runtime.models.helpers import ask, encoded, prompt

SCRIPT = {"name": "served", "context_length": 4096, "turns": [{"text": "one"}]}


@pytest.mark.parametrize("ending", ["", "/", "/v1", "/v1/", "/generate"])
async def test_a_server_by_its_url(ending: str) -> None:
    async with ScriptedServer(SCRIPT) as server:
        model = await connect(server.url + ending)
        assert (model.name, model.context_length, model.tokenizer.name) == ("served", 4096, "qwen3.6")
        assert (await ask(model, prompt()))[0] == [*encoded("one"), 248046]
        await model.close()


async def test_a_name_and_a_shorter_context() -> None:
    async with ScriptedServer(SCRIPT) as server:
        model = await connect(server.url, name="mine", context_length=1000)
        assert (model.name, model.context_length) == ("mine", 1000)
        wide = await connect(server.url, context_length=10**6)
        assert wide.context_length == 4096
        await model.close()
        await wide.close()


async def test_a_script_is_served_in_this_process(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    path.write_text(json.dumps(SCRIPT))
    model = await connect(f"script:{path}")
    assert (await ask(model, prompt()))[0] == [*encoded("one"), 248046]
    await model.close()
    await asyncio.sleep(0)
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("nowhere", "'nowhere' names no model: there is no such folder. A model is http://HOST:PORT"),
        ("localhost:30000", "write http://localhost:30000"),
        ("script:/no/such.json", "can't be read.*give a JSON or JSONL file"),
        ("ftp://host/model", "names no model"),
    ],
)
async def test_what_is_no_model(target: str, message: str) -> None:
    with pytest.raises(ModelRefused, match=message):
        await connect(target)


async def test_no_server() -> None:
    with pytest.raises(ModelUnreachable, match=r"No answer from http://127.0.0.1:1 .*Check that the server runs"):
        await connect("http://127.0.0.1:1")


async def _connected(paths: dict[str, tuple[int, Any]]) -> tuple[str, int]:
    """Name and context that are found at a server with these answers."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode()
        status, body = paths.get(path, (404, {"detail": "Not Found"}))
        content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        head = f"HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {len(content)}\r\n\r\n"
        writer.write(head.encode() + content)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        model = await connect(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        await model.close()
        return model.name, model.context_length
    finally:
        server.close()


CARD = {"data": [{"id": "card", "max_model_len": 131_072}]}


@pytest.mark.parametrize(
    ("paths", "name", "length"),
    [
        (
            {
                "/model_info": (200, {"model_path": "Qwen/Qwen3.6-27B"}),
                "/server_info": (200, {"context_length": None, "max_total_num_tokens": 500_000}),
                "/v1/models": (200, CARD),
            },
            "Qwen/Qwen3.6-27B",
            131_072,
        ),
        (
            {
                "/get_model_info": (200, {"model_path": "/models/q"}),
                "/get_server_info": (200, {"context_length": 262_144, "max_total_num_tokens": 90_000}),
            },
            "/models/q",
            90_000,
        ),
        ({"/v1/models": (200, CARD)}, "card", 131_072),
        ({"/model_info": (200, {"model_path": "m"})}, "m", 262_144),
    ],
    ids=["default context", "old names, small cache", "only a list of models", "says nothing"],
)
async def test_what_servers_say(paths: dict[str, tuple[int, Any]], name: str, length: int) -> None:
    assert await _connected(paths) == (name, length)


async def test_a_web_server_that_serves_no_model() -> None:
    with pytest.raises(ModelRefused, match="answers, but neither /model_info nor /v1/models"):
        await _connected({"/model_info": (200, "<html>")})


async def test_a_server_that_fails() -> None:
    with pytest.raises(ModelFailed, match="answered 500"):
        await _connected({"/model_info": (500, {"error": "boom"})})
