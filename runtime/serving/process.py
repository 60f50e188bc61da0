"""Servers as processes: started, watched until they answer, warmed, stopped; nothing outlives this one.

Each runs under a keeper (`runtime.serving.keeper`) that ends it when we end, in whatever way. Its output goes to a
file; progress and the reason of a failure are read from there. What is left out: what to start
(`runtime.serving.recipes`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from runtime.serving.plan import Engine
from runtime.serving.recipes import Command, Recipe
from runtime.serving.troubles import advice

KEEPER: Final = Path(__file__).with_name("keeper.py")
GRACE: Final = 30.0  # seconds that a server has to finish after SIGTERM
POLL: Final = 0.25  # seconds between two looks at a starting server
LAST_LINES: Final = 15

STAGES: Final = (
    (r"Fetching \d+ files|Downloading ", "downloading the weights"),
    (r"Load weight begin|Loading safetensors|Loading model weights|load_tensors|loading model", "loading the weights"),
    (r"Load weight end|Loading weights took|model loaded|load_tensors: .*buffer size", "weights loaded"),
    (
        r"KV Cache is allocated|Memory pool end|GPU KV cache size|Mamba Cache is allocated|llama_kv_cache",
        "memory laid out",
    ),
    (r"Capture cuda graph begin|Capturing", "capturing CUDA graphs"),
    (r"fired up and ready|Application startup complete|server is listening|all slots are idle", "answering"),
)
"""Lines of SGLang's, vLLM's and llama.cpp's logs, and what they mean."""

Progress = Callable[[str, str], None]
"""Told the role of a server and what it is doing now."""


class ServerFailed(Exception):
    """A server ended or didn't answer in time. The text has the end of its log and what to try."""


class CannotStart(Exception):
    """Nothing was started: a port is taken, an address isn't ours, the folder for logs can't be written."""


@dataclass(frozen=True, slots=True)
class Warmed:
    """What warming a server came to."""

    tokens: int | None  # of the shared prefix; None where the server doesn't say
    seconds: float

    @property
    def counted(self) -> str:
        """` of N tokens`, as far as the server told."""
        return "" if self.tokens is None else f" of {self.tokens:,} tokens"


class ServerProcess:
    """One running server."""

    def __init__(self, command: Command, log: Path, process: asyncio.subprocess.Process) -> None:
        self.command = command
        self.log = log
        self._process = process
        self._read = 0
        self._stage = ""

    @classmethod
    async def start(cls, command: Command, folder: Path, *, grace: float = GRACE) -> ServerProcess:
        """Run `command`, its output in a new file in `folder`. Raises OSError when the file can't be written."""
        folder.mkdir(parents=True, exist_ok=True)
        log = folder / f"{command.role.replace(' ', '-')}-{command.address.port}.log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", str(KEEPER), str(grace), *command.argv),
                stdin=asyncio.subprocess.PIPE,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,  # a terminal's Ctrl-C is for us alone; we pass it on
                env={**os.environ, "PYTHONUNBUFFERED": "1", **command.env},
            )
        return cls(command, log, process)

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    async def ready(self, seconds: float, progress: Progress) -> None:
        """Wait until it answers. Raises ServerFailed."""
        deadline = time.monotonic() + seconds
        while not await self._answers():
            self._report(progress)
            self.check_running()
            if time.monotonic() > deadline:
                raise ServerFailed(
                    f"{self.command.role} doesn't answer after {seconds:.0f} s. Its log: {self.log}\n{self._tail()}\n"
                    "Give it more time with --ready-timeout."
                )
            await asyncio.sleep(POLL)
        self.check_running()  # who answers on its port may be somebody else
        self._report(progress)

    def check_running(self) -> None:
        """Raises ServerFailed if it has ended."""
        if not self.running:
            raise self.failure()

    async def ended(self) -> int:
        """Wait for its end; the exit code."""
        return await self._process.wait()

    async def stop(self, *, at_once: bool = False) -> None:
        """End it, with all that it started, and wait until all is gone."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        if at_once and self.running:
            self._process.terminate()
        await self._process.wait()

    def failure(self) -> ServerFailed:
        """That it ended by itself: how, its last lines, what to try."""
        tail = self._tail()
        tips = "".join(f"\n-> {tip}" for tip in advice(tail))
        code = self._process.returncode
        return ServerFailed(f"{self.command.role} ended with exit code {code}. Its log: {self.log}\n{tail}{tips or ''}")

    async def _answers(self) -> bool:
        try:
            status, _ = await _ask(self.command.address.url, "GET", self.command.health, seconds=5)
        except _NoAnswer:
            return False
        return status == 200

    def _report(self, progress: Progress) -> None:
        """Tell of a new stage, if what came into the log since the last look says so."""
        with self.log.open("rb") as file:
            file.seek(self._read)
            new = file.read()
        whole = new.rfind(b"\n") + 1
        self._read += whole
        for line in new[:whole].decode(errors="replace").splitlines():
            stage = next((stage for pattern, stage in STAGES if re.search(pattern, line)), None)
            if stage is not None and stage != self._stage:
                self._stage = stage
                progress(self.command.role, stage)

    def _tail(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(f"  | {line[:300]}" for line in lines[-LAST_LINES:] if line.strip())


def check_startable(recipe: Recipe, folder: Path) -> None:
    """Whether all ports are free and logs can be written. Raises CannotStart.

    Without this, somebody else's server on the port would be taken for ours while ours is still loading.
    """
    for command in recipe.commands:
        address = command.address
        try:
            if address.port > 65_535:
                raise OverflowError("there is no such port")
            found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            family, kind, protocol, _, place = found[0]
            with socket.socket(family, kind, protocol) as trial:
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a server that has just ended is no other
                trial.bind(place)
        except (OSError, OverflowError) as error:
            raise CannotStart(
                f"{command.role} can't listen on {address.host}:{address.port}: {error}. Nothing was started. Give "
                "another --port, or another --host, or stop what listens there."
            ) from None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f".writable-{os.getpid()}").open("wb") as trial_file:
            Path(trial_file.name).unlink()
    except OSError as error:
        raise CannotStart(
            f"The logs of servers can't be written to {folder}: {error.strerror or error}. Nothing was started. Name a "
            "folder that can be written in PATCHWRIGHT_HOME."
        ) from None


@contextlib.asynccontextmanager
async def serving(
    recipe: Recipe,
    folder: Path,
    progress: Progress,
    *,
    seconds: float = 3600.0,
    grace: float = GRACE,
    hurry: asyncio.Event | None = None,
) -> AsyncIterator[tuple[ServerProcess, ...]]:
    """All servers of a recipe, answering; the router after the servers. All are gone afterwards.

    `hurry`: once set, stopping waits for nothing. Raises CannotStart before anything is started, ServerFailed when a
    server doesn't come up.
    """
    check_startable(recipe, folder)
    started: list[ServerProcess] = []
    try:
        for command in recipe.servers:
            started.append(await ServerProcess.start(command, folder, grace=grace))
            progress(command.role, "started")
        await _all([server.ready(seconds, progress) for server in started])
        if recipe.router is not None:
            router = await ServerProcess.start(recipe.router, folder, grace=grace)
            started.append(router)
            progress(recipe.router.role, "started")
            await router.ready(seconds, progress)
        for server in started:
            server.check_running()
        yield tuple(started)
    finally:
        await asyncio.shield(_stop(started, hurry or asyncio.Event()))


async def _stop(servers: Sequence[ServerProcess], hurry: asyncio.Event) -> None:
    async def all_of_them() -> None:
        await asyncio.gather(*(server.stop() for server in reversed(servers)))

    stopping = asyncio.create_task(all_of_them())
    hurried = asyncio.create_task(hurry.wait())
    await asyncio.wait({stopping, hurried}, return_when=asyncio.FIRST_COMPLETED)
    hurried.cancel()
    for server in servers:
        await server.stop(at_once=True)
    await stopping


async def first_end(servers: Sequence[ServerProcess]) -> ServerProcess:
    """The first of the servers that ends by itself."""
    waits = {asyncio.create_task(server.ended()): server for server in servers}
    try:
        done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waits:
            task.cancel()
    return waits[next(iter(done))]


async def warm(url: str, engine: Engine, text: str) -> Warmed:
    """Let a server read `text`, the front that all runs share, so that its cache holds it. Raises ServerFailed."""
    started = time.monotonic()
    path, body = _warming(engine, text)
    try:
        status, answer = await _ask(url, "POST", path, body, seconds=600)
    except _NoAnswer as error:
        raise ServerFailed(f"{url} was ready and then didn't answer to {path}: {error}") from error
    if status != 200:
        raise ServerFailed(f"{url}{path} answered {status} when the shared prefix was sent to warm its cache")
    return Warmed(_prompt_tokens(answer), time.monotonic() - started)


def _prompt_tokens(answer: Mapping[str, Any]) -> int | None:
    """The count in SGLang's, vLLM's or llama.cpp's answer."""
    inner = [answer.get(key) for key in ("meta_info", "usage")]
    counts = [place.get("prompt_tokens") for place in inner if isinstance(place, dict)]
    told = [count for count in (*counts, answer.get("tokens_evaluated")) if type(count) is int and count > 0]
    return told[0] if told else None


def _warming(engine: Engine, text: str) -> tuple[str, dict[str, Any]]:
    """One token after the text, in the server's own way; it is thrown away."""
    if engine is Engine.SGLANG:
        return "/generate", {"text": text, "sampling_params": {"max_new_tokens": 1}}
    if engine is Engine.VLLM:
        return "/v1/completions", {"prompt": text, "max_tokens": 1}
    return "/completion", {"prompt": text, "n_predict": 1, "cache_prompt": True}


async def _all(waits: Sequence[Any]) -> None:
    """Until all are through, or one fails; then the others are given up."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _NoAnswer(Exception):
    pass


async def _ask(
    url: str, method: str, path: str, body: Mapping[str, Any] | None = None, *, seconds: float
) -> tuple[int, dict[str, Any]]:
    """Status and JSON object of one request. Raises _NoAnswer."""
    from runtime.models.http_client import open_transport
    from runtime.models.http_wire import TransportError

    transport = open_transport(url, idle_timeout=seconds)
    try:
        response = await transport.send(method, path, json.dumps(body).encode() if body is not None else b"")
        text = await response.read()
        await response.close()
    except TransportError as error:
        raise _NoAnswer(str(error)) from error
    finally:
        await transport.close()
    try:
        answer = json.loads(text)
    except ValueError:
        answer = {}
    return response.status, answer if isinstance(answer, dict) else {}
