"""A server that is killed, exchanged, busy, stuck or full in the middle of a turn: which ids arrive, and which error.

The server is a process of its own where it is killed; its model is a script, so the ids that must arrive are known.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.models.base import (
    Chunk,
    ContextExceeded,
    FinishReason,
    Model,
    ModelBusy,
    ModelChanged,
    ModelError,
    ModelFailed,
    ModelUnreachable,
    Sampling,
    StreamCut,
)
from runtime.models.retry import Retry, RetryPolicy, with_retries
from runtime.models.scripted import ScriptedServer
from runtime.models.sglang import SGLangModel
from runtime.models.sglang_facts import identity_of
from runtime.qwen_bpe import qwen_tokenizer
from tests.runtime.models.helpers import ask, encoded, http, prompt

COMMAND = [sys.executable, "-c", "from cli.model import model; model()", "script"]
TURN = "I look around.\n</think>\n\n" + "Grüße 🎉 and so on. " * 12
IDS = [*encoded(TURN), 248046]
QUICK = RetryPolicy(retries=6, first_delay=0.0005, longest_delay=0.001)
WAITING = RetryPolicy(retries=200, first_delay=0.05, longest_delay=0.1)


class Process:
    """`agent model script` as a process, on one port however often it is started."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = 0
        self.url = ""
        self._running: subprocess.Popen[str] | None = None

    def start(self, name: str = "scripted", **turn: Any) -> None:
        file = self._folder / "script.json"
        file.write_text(json.dumps({"name": name, "turns": [{"text": TURN} | turn]}))
        options = ["--port", str(self._port), "--token-delay", "0.01", "--quiet"]
        self._running = subprocess.Popen(
            [*COMMAND, str(file), *options], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]
        )
        assert self._running.stdout is not None
        self.url = self._running.stdout.readline().removeprefix("listening on ").strip()
        self._port = int(self.url.rpartition(":")[2])

    def kill(self) -> None:
        if self._running is not None:
            self._running.kill()
            self._running.communicate()
            self._running = None


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    server = Process(tmp_path)
    server.start()
    try:
        yield server
    finally:
        server.kill()


@asynccontextmanager
async def client(url: str, policy: RetryPolicy = QUICK, **options: Any) -> AsyncIterator[tuple[Model, list[Retry]]]:
    retries: list[Retry] = []
    identity = identity_of((await http(url, "/model_info")).json())
    host = SGLangModel(url, qwen_tokenizer(), name="m", identity=identity, **({"context_length": 262_144} | options))
    try:
        yield with_retries(host, policy, on_retry=retries.append), retries
    finally:
        await host.close()


async def test_a_server_killed_in_mid_turn_and_started_again(process: Process) -> None:
    received: list[int] = []
    last = Chunk(())
    killed_at = 0
    async with client(process.url, WAITING) as (model, retries):
        restart: asyncio.Task[None] | None = None
        async for chunk in model.stream(prompt(), Sampling(), request_id="t"):
            received += chunk.ids
            last = chunk
            if restart is None and len(received) >= 10:
                killed_at = len(received)
                process.kill()
                restart = asyncio.create_task(asyncio.to_thread(process.start))
        assert restart is not None
        await restart
    assert received == IDS
    assert last.finish is FinishReason.STOP
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (len(prompt()), len(IDS))
    kinds = [type(retry.error) for retry in retries]
    assert kinds[0] is StreamCut
    assert set(kinds[1:]) <= {ModelUnreachable}
    assert all(killed_at <= retry.kept < len(IDS) for retry in retries)


async def test_another_model_on_the_same_port_ends_the_turn(process: Process) -> None:
    received: list[int] = []
    async with client(process.url, WAITING) as (model, retries):
        with pytest.raises(ModelChanged, match=r"serves other .* it was scripted"):
            async for chunk in model.stream(prompt(), Sampling(), request_id="t"):
                received += chunk.ids
                if not retries and len(received) >= 10:
                    process.kill()
                    await asyncio.to_thread(process.start, "other")
    assert received == IDS[: len(received)]
    assert len(received) >= 10


async def test_a_server_that_stays_away_ends_in_a_named_error(process: Process) -> None:
    policy = RetryPolicy(retries=3, first_delay=0.01, longest_delay=0.01)
    async with client(process.url, policy) as (model, retries):
        process.kill()
        with pytest.raises(ModelUnreachable, match="Check that the server runs"):
            await ask(model, prompt())
    assert len(retries) == 3


@contextmanager
def scripted(faults: list[dict[str, Any]], **options: Any) -> Iterator[ScriptedServer]:
    yield ScriptedServer({"turns": [{"text": TURN, "faults": faults}]}, **options)


BREAKS = st.lists(
    st.one_of(
        st.builds(lambda n: {"kind": "cut", "tokens": n}, st.integers(0, 80)),
        st.builds(
            lambda n, s: {"kind": "abort", "tokens": n, "status": s}, st.integers(0, 80), st.sampled_from([500, 503])
        ),
        st.builds(lambda n: {"kind": "stall", "tokens": n, "seconds": 60}, st.integers(0, 80)),
        st.builds(lambda status: {"kind": "http", "status": status}, st.sampled_from([429, 500, 502, 503])),
        st.just({"kind": "empty"}),
    ),
    max_size=5,
)


@settings(max_examples=60, deadline=None)
@given(BREAKS, st.booleans(), st.integers(1, 7))
def test_whatever_happens_on_the_way_the_ids_are_those_that_were_written(
    faults: list[dict[str, Any]], incremental: bool, interval: int
) -> None:
    async def run() -> None:
        with scripted(faults, incremental=incremental, stream_interval=interval) as server:
            async with server, client(server.url, idle_timeout=0.05) as (model, retries):
                ids, last = await ask(model, prompt())
        assert ids == IDS
        assert last.finish is FinishReason.STOP
        assert last.usage.completion_tokens == len(IDS)
        assert len(retries) <= len(faults)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("fault", "error", "least_delay"),
    [
        ({"kind": "http", "status": 500}, ModelFailed, 0.0),
        ({"kind": "http", "status": 503, "retry_after": 0.3}, ModelBusy, 0.3),
        ({"kind": "http", "status": 429, "retry_after": 0.2}, ModelBusy, 0.2),
        ({"kind": "abort", "message": "The request queue is full."}, ModelBusy, 0.0),
        ({"kind": "abort", "tokens": 5, "message": "Request running timeout reached."}, ModelBusy, 0.0),
        ({"kind": "abort", "tokens": 5, "status": 500, "message": "Out of memory"}, ModelFailed, 0.0),
        ({"kind": "stall", "tokens": 5, "seconds": 60}, StreamCut, 0.0),
    ],
    ids=["500", "503", "429", "queue full", "given up", "out of memory", "hang"],
)
async def test_each_trouble_by_name_and_the_turn_after_it(
    fault: dict[str, Any], error: type[ModelError], least_delay: float
) -> None:
    with scripted([fault]) as server:
        async with server, client(server.url, idle_timeout=0.2) as (model, retries):
            ids, _ = await ask(model, prompt())
            while server.open_requests:
                await asyncio.sleep(0.01)
    assert ids == IDS
    (retry,) = retries
    assert type(retry.error) is error
    assert retry.delay >= least_delay
    assert list(server.requests[-1].prompt_ids) == [*prompt(), *IDS[: retry.kept]]


async def test_a_queue_that_stays_full_ends_in_its_name() -> None:
    fault = {"kind": "abort", "message": "The request queue is full.", "times": "always"}
    with scripted([fault]) as server:
        async with server, client(server.url) as (model, retries):
            with pytest.raises(ModelBusy, match="The request queue is full"):
                await ask(model, prompt())
    assert len(retries) == QUICK.retries


async def test_too_long_a_context_isn_t_asked_for_again() -> None:
    long = prompt("word " * 600)
    async with ScriptedServer({"turns": [{"text": TURN}], "context_length": 500}) as server:
        async with client(server.url, context_length=500) as (model, retries):
            with pytest.raises(ContextExceeded, match="Shorten the conversation"):
                await ask(model, long)
        assert not server.requests
        async with client(server.url) as (model, retries):
            with pytest.raises(ContextExceeded, match="longer than the model's context length"):
                await ask(model, long)
    assert (len(server.requests), retries) == (1, [])


async def test_a_context_that_a_cut_turn_has_filled_is_its_end() -> None:
    """Only the finish was lost: to ask again for no tokens would be refused."""
    room = 20
    with scripted([{"kind": "cut", "tokens": room}]) as server:
        async with server, client(server.url, context_length=len(prompt()) + room) as (model, retries):
            ids, last = await ask(model, prompt())
    assert (ids, last.finish, retries) == (IDS[:room], FinishReason.LENGTH, [])
