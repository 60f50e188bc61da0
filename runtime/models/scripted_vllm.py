"""The paths of vLLM 0.32 for the scripted server: `/v1/completions` with token ids, and what tells about it.

`info` of the server may hold `version`, `priority` (whether `--scheduling-policy priority` is set), `cached_tokens`
(whether `--enable-prompt-tokens-details` is, by default) and `token_ids` (false: a version that doesn't return them).
What is left out: turns (`scripted_engine`), prompts that are text, and `/v1/chat/completions` (`scripted_chat`).
"""

from __future__ import annotations

import json
import secrets
import time
from typing import TYPE_CHECKING, Any, Final

from runtime.models.http_server import Exchange, HttpError
from runtime.models.scripted_chat import serve_chat, serve_models
from runtime.models.scripted_delivery import Delivery, ServedRequest
from runtime.models.scripted_tokens import ids_of, serve

if TYPE_CHECKING:
    from runtime.models.scripted import Routes, ScriptedServer

DEFAULT_MAX_TOKENS: Final = 16  # what vLLM takes where a request doesn't say
BLOCK: Final = 16  # tokens of one block of the key-value pool
_PROBE: Final = list(range(8))  # a prompt that isn't a conversation: it is answered with one token, as any model would


def routes(server: ScriptedServer) -> Routes:
    paths = _VLLMPaths(server)
    return {
        ("GET", "/health"): paths.empty,
        ("GET", "/version"): paths.version,
        ("GET", "/metrics"): paths.metrics,
        ("GET", "/v1/models"): paths.models,
        ("POST", "/v1/completions"): paths.completions,
        ("POST", "/v1/chat/completions"): paths.chat,
        ("POST", "/tokenize"): paths.tokenize,
    }


class _VLLMPaths:
    def __init__(self, server: ScriptedServer) -> None:
        self._server = server

    async def completions(self, exchange: Exchange) -> None:
        server, body = self._server, exchange.request.json()
        if body.get("priority") and not server.info.get("priority"):
            raise HttpError(400, f"Got priority {body['priority']} but priority scheduling is not enabled.")
        ids = ids_of(body)
        if list(ids) == _PROBE:
            await exchange.json(self._written(bool(body.get("return_token_ids"))))
            return
        served = ServedRequest("/v1/completions", f"cmpl-{secrets.token_hex(8)}", body, ids)
        server.requests.append(served)
        limit = int(body.get("max_tokens") or DEFAULT_MAX_TOKENS)
        await serve(server, exchange, served, limit, lambda delivery: _Completion(server, delivery))

    def _written(self, with_ids: bool) -> dict[str, Any]:
        """One token for a prompt that is no conversation."""
        choice = _choice("!", [0], "length", with_ids=with_ids and self._server.info.get("token_ids", True))
        usage = _usage(len(_PROBE), 1, 0, detailed=self._server.info.get("cached_tokens", True))
        return {"object": "text_completion", "model": self._server.script.name, "choices": [choice], "usage": usage}

    async def chat(self, exchange: Exchange) -> None:
        await serve_chat(self._server, exchange)

    async def empty(self, exchange: Exchange) -> None:
        await exchange.raw(b"")

    async def version(self, exchange: Exchange) -> None:
        await exchange.json({"version": self._server.info.get("version", "0.32.0")})

    async def metrics(self, exchange: Exchange) -> None:
        blocks = self._server.script.pool_tokens // BLOCK
        labels = {"block_size": BLOCK, "num_gpu_blocks": blocks, "enable_prefix_caching": True}
        inside = ",".join(f'{name}="{value}"' for name, value in labels.items())
        line = f"vllm:cache_config_info{{{inside}}} 1.0\n"
        await exchange.raw(line.encode())

    async def models(self, exchange: Exchange) -> None:
        await serve_models(self._server, exchange, owned_by="vllm")

    async def tokenize(self, exchange: Exchange) -> None:
        prompt = exchange.request.json().get("prompt")
        if not isinstance(prompt, str):
            raise HttpError(400, "`prompt` must be a text.")
        ids = self._server.engine.encode(prompt)
        await exchange.json({"tokens": ids, "count": len(ids), "max_model_len": self._server.script.context_length})


class _Completion:
    """One answer in vLLM's shapes."""

    def __init__(self, server: ScriptedServer, delivery: Delivery) -> None:
        self._delivery = delivery
        body, answer = delivery.served.body, delivery.answer
        self._ids = answer.tokens.ids
        self._texts = [json.loads(f'"{piece}"') for piece in answer.tokens.pieces]
        if answer.finish["type"] == "stop" and self._texts:
            self._texts[-1] = ""
        self._with_ids = bool(body.get("return_token_ids")) and server.info.get("token_ids", True)
        self._with_usage = bool((body.get("stream_options") or {}).get("include_usage"))
        self._detailed = bool(server.info.get("cached_tokens", True))
        self._common = {
            "id": delivery.served.rid,
            "object": "text_completion",
            "created": int(time.time()),
            "model": server.script.name,
        }

    def events(self, start: int, stop: int) -> list[str]:
        last = stop == len(self._ids)
        finish = self._delivery.answer.finish["type"] if last else None
        choice = _choice("".join(self._texts[start:stop]), self._ids[start:stop], finish, with_ids=self._with_ids)
        if start == 0 and self._with_ids:
            choice["prompt_token_ids"] = list(self._delivery.prompt.ids)
        chunks = [{**self._common, "choices": [choice]}]
        if last and self._with_usage:
            chunks.append({**self._common, "choices": [], "usage": self._usage()})
        return [*map(json.dumps, chunks), *(["[DONE]"] if last else [])]

    def whole(self, finish: str) -> dict[str, Any]:
        written = self._delivery.served.written
        choice = _choice("".join(self._texts[:written]), self._ids[:written], finish, with_ids=self._with_ids)
        return {**self._common, "choices": [choice], "usage": self._usage()}

    def _usage(self) -> dict[str, Any]:
        answer = self._delivery.answer
        written = self._delivery.served.written
        return _usage(answer.prompt_tokens, written, answer.cached_tokens, detailed=self._detailed)


def _choice(text: str, ids: Any, finish: str | None, *, with_ids: bool) -> dict[str, Any]:
    choice: dict[str, Any] = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish, "stop_reason": None}
    return {**choice, "token_ids": list(ids)} if with_ids else choice


def _usage(prompt: int, written: int, cached: int, *, detailed: bool) -> dict[str, Any]:
    counts: dict[str, Any] = {
        "prompt_tokens": prompt,
        "total_tokens": prompt + written,
        "completion_tokens": written,
    }
    return {**counts, "prompt_tokens_details": {"cached_tokens": cached}} if detailed else counts
