"""What a probe asks a server besides turns, in the forms that the engines have: live requests, refusals.

Left out: turns (`runtime.models.probe`), and how the server reads text (`runtime.models.compare`).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Any, Final

from runtime.models.base import ModelRefused
from runtime.models.http_client import Transport, open_transport
from runtime.models.http_wire import TransportError
from runtime.models.target import read_target

_RUNNING: Final = re.compile(
    r"^(?:sglang:num_running_reqs|vllm:num_requests_running|llamacpp:requests_processing)(?:\{[^}]*\})? ([0-9.e+]+)$",
    re.MULTILINE,
)
_LENGTH_WORDS: Final = re.compile(r"context|length|too long|token", re.IGNORECASE)
MOST_SENT: Final = 48_000  # ids of the longest prompt that is sent only to be refused: some 250 kB


class ServerPaths:
    """One server's own endpoints. Raises nothing: what can't be asked isn't offered."""

    def __init__(self, url: str, *, api_key: str | None = None) -> None:
        self.url = url
        key = api_key or os.environ.get("PATCHWRIGHT_API_KEY")
        self.transport: Transport = open_transport(url, idle_timeout=60.0, api_key=key)

    async def close(self) -> None:
        await self.transport.close()

    async def running(self) -> int | None:
        """Requests that are being answered now, where the server says it."""
        status, text = await self.ask("GET", "/v1/loads?include=core")
        if status == 200 and (count := _sum_of_loads(text)) is not None:
            return count
        status, text = await self.ask("GET", "/slots")
        if status == 200 and (count := _busy_slots(text)) is not None:
            return count
        status, text = await self.ask("GET", "/metrics")
        found = _RUNNING.findall(text) if status == 200 else []
        return int(sum(map(float, found))) if found else None

    async def refuse_too_long(self, engine: str, name: str, context: int, token: int) -> tuple[int | None, str]:
        """The server's answer to a request that its context can't hold: status and words. None: not asked."""
        short: dict[str, Any] = {"sampling_params": {"max_new_tokens": context}, "input_ids": [token] * 4}
        if engine == "vllm":
            return await self.ask(
                "POST", "/v1/completions", {"model": name, "prompt": [token] * 4, "max_tokens": context}
            )
        if engine == "llamacpp":
            if context > MOST_SENT:
                return None, f"a prompt of more than {context} tokens was not sent"
            return await self.ask("POST", "/completion", {"prompt": [token] * (context + 1), "n_predict": 1})
        if engine == "chat":
            return None, "a chat host renders the prompt itself"
        return await self.ask("POST", "/generate", short)

    async def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> tuple[int | None, str]:
        """Status and text of an answer; status None where none came."""
        try:
            response = await self.transport.send(method, path, json.dumps(body).encode() if body else b"")
            try:
                return response.status, (await response.read()).decode(errors="replace")
            finally:
                await response.close()
        except TransportError as error:
            return None, str(error)


def address_of(target: str) -> str | None:
    """The server's URL in what names a model, as `connect` takes it; None where there is none."""
    try:
        return read_target(target).address
    except ModelRefused:
        return None


def says_too_long(status: int, text: str) -> bool:
    """Whether a refusal is one for its length, and says so."""
    return 400 <= status < 500 and bool(_LENGTH_WORDS.search(text))


def _sum_of_loads(text: str) -> int | None:
    try:
        return sum(int(load["num_running_reqs"]) for load in json.loads(text)["loads"])
    except (ValueError, KeyError, TypeError):
        return None


def _busy_slots(text: str) -> int | None:
    try:
        slots = json.loads(text)
        return sum(bool(slot["is_processing"]) for slot in slots) if isinstance(slots, list) else None
    except (ValueError, KeyError, TypeError):
        return None
