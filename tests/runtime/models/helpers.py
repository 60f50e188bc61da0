"""Prompts, and plain HTTP against a server, for the tests of models."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

from runtime.ids import Ids
from runtime.models.base import Chunk, Model, Sampling
from runtime.qwen_bpe import qwen_tokenizer

OPEN = "<|im_start|>assistant\n<think>\n"


def prompt(text: str = "Fix it.", *, opening: str = OPEN) -> Ids:
    return encoded(f"<|im_start|>user\n{text}<|im_end|>\n{opening}")


def encoded(text: str) -> Ids:
    return Ids(qwen_tokenizer().encode_with_specials(text))


def answered(ids: Ids, turn: list[int], observation: str = "ok") -> Ids:
    """The prompt of the next turn, as an append-only transcript gives it."""
    framing = f"\n<|im_start|>user\n<tool_response>\n{observation}\n</tool_response><|im_end|>\n{OPEN}"
    return ids.extended(turn).extended(qwen_tokenizer().encode_with_specials(framing))


async def ask(
    model: Model, ids: Ids, sampling: Sampling | None = None, request_id: str = "test"
) -> tuple[list[int], Chunk]:
    """All the ids of an answer, and its last chunk."""
    received: list[int] = []
    last = Chunk(())
    async for chunk in model.stream(ids, sampling or Sampling(), request_id=request_id):
        assert last.finish is None, "something came behind the finish"
        received += chunk.ids
        last = chunk
    return received, last


class Answer:
    def __init__(self, status: int, headers: dict[str, str], body: bytes, complete: bool) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.complete = complete  # ended as HTTP says that it must

    def json(self) -> Any:
        return json.loads(self.body)

    def events(self) -> list[str]:
        return [event.removeprefix("data: ") for event in self.body.decode().split("\n\n") if event]


async def http(url: str, path: str, body: Any = None, *, method: str | None = None, headers: str = "") -> Answer:
    """One request on its own connection, without any client library."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    verb = method or ("GET" if body is None else "POST")
    head = f"{verb} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(content)}\r\n{headers}connection: close\r\n\r\n"
    writer.write(head.encode() + content)
    try:
        received = await reader.read()
    finally:
        writer.close()
    return _parsed(received)


def _parsed(received: bytes) -> Answer:
    head, _, rest = received.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    status = int(first.split()[1]) if first else 0
    if headers.get("transfer-encoding") != "chunked":
        return Answer(status, headers, rest, len(rest) == int(headers.get("content-length", -1)))
    body = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        if int(size, 16) == 0:
            return Answer(status, headers, body, True)
        body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return Answer(status, headers, body, False)


async def raw_server(answers: list[bytes]) -> AsyncIterator[str]:
    """A server that gives these bytes, one item per connection, then closes; for what our server never sends."""
    pending = list(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if pending:
            writer.write(pending.pop(0))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
