"""Our HTTP client against bytes as servers may send them, and through a proxy."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.models.base import ModelError, ModelRefused, Sampling
from runtime.models.connect import connect
from runtime.models.http_client import Transport, open_transport
from runtime.models.http_wire import ChunkedBody, ConnectError, IdleError, TransportError
from runtime.models.scripted import ScriptedServer
from tests.runtime.models.helpers import ask, encoded, prompt

CHUNKED = b"5\r\nhello\r\n1;ext=1\r\n \r\n0000A\r\n0123456789\r\n2\r\n\r\n\r\n0\r\ntrailer: x\r\n\r\n"
CONTENT = b"hello 0123456789\r\n"


@given(st.lists(st.integers(0, len(CHUNKED)), max_size=12))
def test_chunks_do_not_depend_on_how_the_bytes_arrive(cuts: list[int]) -> None:
    body = ChunkedBody()
    found = b""
    for start, stop in pairwise([0, *sorted(cuts), len(CHUNKED)]):
        assert not body.complete or start == len(CHUNKED)
        found += body.feed(CHUNKED[start:stop])
    assert (found, body.complete, body.surplus) == (CONTENT, True, False)


def test_what_is_behind_the_last_chunk_is_surplus() -> None:
    body = ChunkedBody()
    assert (body.feed(CHUNKED + b"HTTP"), body.surplus) == (CONTENT, True)


def test_a_length_that_is_none() -> None:
    with pytest.raises(TransportError, match="a chunk has the length b'xyz'"):
        ChunkedBody().feed(b"xyz\r\n")


@asynccontextmanager
async def serving(
    *answers: bytes, keep: bool = False, idle: float = 5
) -> AsyncIterator[tuple[Transport, list[tuple[int, bytes]]]]:
    """A server that gives the answers in turn, and what it was asked on which connection."""
    pending = list(answers)
    asked: list[tuple[int, bytes]] = []
    writers: list[asyncio.StreamWriter] = []  # kept, so that their ids stay different

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        while pending:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionError):
                break
            asked.append((id(writer), head))
            writer.write(pending.pop(0))
            await writer.drain()
            if not keep:
                break
        if keep:
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    transport = open_transport(
        f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/base/", idle_timeout=idle, api_key="k"
    )
    try:
        yield transport, asked
    finally:
        await transport.close()
        server.close()


async def get(transport: Transport) -> tuple[int, bytes]:
    response = await transport.send("GET", "/x")
    try:
        return response.status, await response.read()
    finally:
        await response.close()


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", (200, b"ok")),
        (b"HTTP/1.0 404\r\n\r\nnot here", (404, b"not here")),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKED, (200, CONTENT)),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n1", (200, b"1")),
        (b"HTTP/1.1 204 No Content\r\n\r\n", (204, b"")),
    ],
)
async def test_bodies(answer: bytes, expected: tuple[int, bytes]) -> None:
    async with serving(answer) as (transport, asked):
        assert await get(transport) == expected
    ((_, head),) = asked
    assert head.startswith(b"GET /base/x HTTP/1.1\r\nhost: 127.0.0.1:")
    assert b"authorization: Bearer k\r\n" in head


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (b"", ConnectError, "without an answer"),
        (b"HTTP/1.1 200 OK\r\ncontent-le", ConnectError, "without an answer"),
        (b"220 mail ready\r\n\r\n", ConnectError, "no HTTP"),
        (b"x" * 300_000, ConnectError, "no HTTP"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n", ConnectError, "no HTTP"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nok", TransportError, "inside the answer"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel", TransportError, "inside the answer"),
    ],
)
async def test_answers_that_are_none(answer: bytes, error: type[Exception], message: str) -> None:
    async with serving(answer) as (transport, _):
        with pytest.raises(error, match=message):
            await get(transport)


@pytest.mark.parametrize(
    "endless",
    [b"transfer-encoding: chunked\r\n\r\n" + b"1" * 2**20, b"\r\n" + b"x" * (2**24 + 1)],
    ids=["a line between chunks", "a body"],
)
async def test_an_answer_without_end_is_given_up(endless: bytes) -> None:
    async with serving(b"HTTP/1.1 200 OK\r\n" + endless) as (transport, _):
        with pytest.raises(TransportError, match=r"has no end|more than 16,777,216 bytes"):
            await get(transport)


async def test_of_an_error_only_the_beginning_is_read() -> None:
    async with serving(b"HTTP/1.1 500 X\r\n\r\n" + b"x" * 2**24, keep=True) as (transport, _):
        status, body = await get(transport)
    assert (status, len(body)) == (500, 2**16)


async def test_silence_is_limited_and_a_slow_answer_is_not() -> None:
    async with serving(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nok", keep=True, idle=0.1) as (transport, _):
        with pytest.raises(IdleError, match=r"nothing came for 0.1 s"):
            await get(transport)
    async with serving(b"", keep=True, idle=0.1) as (transport, _):
        with pytest.raises(IdleError):
            await get(transport)


OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@pytest.mark.parametrize(
    ("first", "keep", "connections"),
    [
        (OK, True, 1),
        (OK + b"surplus", True, 2),
        (b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok", True, 2),
        (OK, False, 2),
    ],
    ids=["can be used", "surplus bytes", "the server says so", "the server ends it"],
)
async def test_a_connection_is_used_again_only_where_it_can_be(first: bytes, keep: bool, connections: int) -> None:
    async with serving(first, OK, keep=keep) as (transport, asked):
        assert await get(transport) == (200, b"ok")
        assert await get(transport) == (200, b"ok")
    assert len({connection for connection, _ in asked}) == connections


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_only_what_changes_nothing_is_sent_again(method: str) -> None:
    """A server that took the second request and lost the connection may be working on it."""
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while len(asked) != 1 or asked[0] == b"lost":
            asked.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(OK)
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        asked[0] = b"lost"
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    transport = open_transport(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", idle_timeout=5)
    await get(transport)
    if method == "GET":
        assert await get(transport) == (200, b"ok")
    else:
        with pytest.raises(ConnectError):
            await transport.send("POST", "/generate")
    assert len(asked) == (3 if method == "GET" else 2)
    await transport.close()
    server.close()


async def test_a_connection_that_ended_while_the_loop_was_busy_is_not_used() -> None:
    ended = threading.Event()

    def serve(listening: socket.socket) -> None:
        for _ in range(2):
            connection, _ = listening.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(OK)
                ended.wait(5)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = threading.Thread(target=serve, args=(listening,))
        server.start()
        transport = open_transport(f"http://127.0.0.1:{listening.getsockname()[1]}", idle_timeout=5)
        await get(transport)
        ended.set()
        time.sleep(0.1)  # the loop must not notice
        response = await transport.send("POST", "/x")
        assert await response.read() == b"ok"
        await response.close()
        await transport.close()
        server.join()


@pytest.mark.parametrize("key", ["sk-a\nx: y", "sk-a\rb", "schlüssel", "sk-\x00"])
def test_a_key_that_cannot_be_sent_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(ModelRefused, match="The API key in the environment") as raised:
        open_transport("http://127.0.0.1:1", idle_timeout=1, api_key=key)
    assert key not in str(raised.value)


async def test_blanks_around_a_key_are_not_sent() -> None:
    async with serving(OK) as (transport, asked):
        url = f"http://127.0.0.1:{transport._port}"  # type: ignore[attr-defined]
        other = open_transport(url, idle_timeout=5, api_key=" key\n")
        await get(other)
        await other.close()
    ((_, head),) = asked
    assert b"authorization: Bearer key\r\n" in head


@pytest.mark.parametrize("host", [".", "a" * 64, "a..b"])
async def test_names_that_no_resolver_takes(host: str) -> None:
    transport = open_transport(f"http://{host}:1", idle_timeout=1)
    with pytest.raises(ConnectError):
        await transport.send("GET", "/")


async def test_an_answer_that_is_not_read_to_its_end_costs_its_connection() -> None:
    async with ScriptedServer([{"text": "one two three"}]) as server:
        transport = open_transport(server.url, idle_timeout=5)
        for _ in range(2):
            response = await transport.send("GET", "/v1/models")
            await response.close()
        assert server.connections == 2
        await get(transport)
        await get(transport)
        assert server.connections == 3
        await transport.close()


async def test_a_slow_reader_makes_the_server_wait() -> None:
    written = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(64):
            writer.write(b"x" * 2**20)
            await writer.drain()
            written += 1
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    transport = open_transport(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", idle_timeout=5)
    response = await transport.send("GET", "/")
    await asyncio.sleep(0.3)
    assert written < 40
    assert sum([len(data) async for data in response.chunks()]) == 2**26
    await response.close()
    server.close()


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host",
        "http://",
        "host:1",
        "http://host:port",
        "http://host:99999",
        "http://hö",
        "http://a b",
        "http://a\n",
    ],
)
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(ValueError):
        open_transport(url, idle_timeout=1)


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    """A proxy that takes `POST http://anything/path` to our server, one request per connection."""
    head = await reader.readuntil(b"\r\n\r\n")
    first, _, rest = head.partition(b"\r\n")
    verb, target, version = first.split(b" ")
    assert target.startswith(b"http://model.invalid/"), target
    to_read, to_write = await asyncio.open_connection("127.0.0.1", port)
    path = target.removeprefix(b"http://model.invalid")
    rest = rest.replace(b"keep-alive", b"close")
    to_write.write(b" ".join([verb, path, version]) + b"\r\n" + rest)

    async def pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
        sink.close()

    await asyncio.gather(pipe(reader, to_write), pipe(to_read, writer), return_exceptions=True)


async def through_a_proxy() -> None:
    """Run in a process of its own, because it sets the environment."""
    faults = [{"kind": "cut", "tokens": 1}]
    async with ScriptedServer([{"text": "one two", "faults": faults}]) as server:
        port = int(server.url.rpartition(":")[2])
        proxy = await asyncio.start_server(lambda r, w: _forward(r, w, port), "127.0.0.1", 0)
        os.environ["http_proxy"] = f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
        model = await connect("http://model.invalid")
        received: list[int] = []
        try:
            async for chunk in model.stream(prompt(), Sampling(), request_id="t"):
                received += chunk.ids
        except ModelError as error:
            print(type(error).__name__, len(received))
        assert (await ask(model, prompt()))[0] == [*encoded("one two"), 248046]
        await model.close()
        proxy.close()
    print("through")


def test_a_proxy_of_the_environment_is_used_for_other_machines() -> None:
    code = "import asyncio; from tests.runtime.models.test_http_client import through_a_proxy as f; asyncio.run(f())"
    clean = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).parents[3],
        env=clean,
    )
    assert done.stdout.split("\n")[:2] == ["StreamCut 1", "through"], done.stderr


@asynccontextmanager
async def events_apart(pieces: list[bytes], seconds: float) -> AsyncIterator[Transport]:
    """A server whose event stream comes in these pieces, so far apart."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(seconds)
        if pieces[-1].endswith(b"\r\n\r\n"):
            await reader.read()  # the end must be seen though the connection stays
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    transport = open_transport(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", idle_timeout=5)
    try:
        yield transport
    finally:
        await transport.close()
        server.close()


PIECES = [b"4\r\nab\n\n\r\n"] * 12  # as chunks of an event stream


@pytest.mark.parametrize("window", [0.1, 60.0])
@pytest.mark.parametrize("end", [[b"0\r\n\r\n"], []], ids=["whole", "cut"])
async def test_events_that_come_soon_after_each_other_are_read_together(
    monkeypatch: pytest.MonkeyPatch, window: float, end: list[bytes]
) -> None:
    monkeypatch.setattr("runtime.models.http_client._WINDOW_SECONDS", window)
    found: list[bytes] = []
    async with events_apart(PIECES + end, 0.01) as transport, asyncio.timeout(4):
        response = await transport.send("POST", "/")
        if end:
            found += [data async for data in response.chunks()]
        else:
            with pytest.raises(TransportError):
                found += [data async for data in response.chunks()]
        await response.close()
    if end:
        assert b"".join(found) == b"ab\n\n" * len(PIECES)
        assert len(found) < len(PIECES)


async def test_an_answer_that_is_no_event_stream_is_read_as_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.models.http_client._WINDOW_SECONDS", 60.0)
    body = b'{"a": 1}'
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n"
    async with serving(answer + body, keep=True) as (transport, _), asyncio.timeout(4):
        assert await (await transport.send("GET", "/")).read() == body
