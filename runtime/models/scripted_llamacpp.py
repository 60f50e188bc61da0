"""The paths of llama.cpp's server for the scripted server: `/completion` with token ids, and what tells about it.

As the real one does, a stream leaves out the ids of tokens that end inside of a character: what they write comes with
the token that completes it. What is left out: turns (`scripted_engine`), prompts that are text, slots to choose from,
and `/v1/chat/completions` (`scripted_chat`).
"""

from __future__ import annotations

import codecs
import json
import secrets
from typing import TYPE_CHECKING, Any, Final

from runtime.models.http_server import Exchange, HttpError
from runtime.models.scripted_chat import serve_chat
from runtime.models.scripted_delivery import Delivery, ServedRequest
from runtime.models.scripted_tokens import ids_of, serve

if TYPE_CHECKING:
    from runtime.models.scripted import Routes, ScriptedServer
    from runtime.models.scripted_engine import Answer

SLOTS: Final = 4
BUILD: Final = "b1-scripted"
_STOPS: Final = {"stop": "eos", "length": "limit"}


def routes(server: ScriptedServer) -> Routes:
    paths = _LlamaCppPaths(server)
    return {
        ("GET", "/health"): paths.health,
        ("GET", "/props"): paths.props,
        ("GET", "/v1/models"): paths.models,
        ("POST", "/completion"): paths.completion,
        ("POST", "/v1/chat/completions"): paths.chat,
        ("POST", "/tokenize"): paths.tokenize,
    }


class _LlamaCppPaths:
    def __init__(self, server: ScriptedServer) -> None:
        self._server = server

    async def completion(self, exchange: Exchange) -> None:
        server, body = self._server, exchange.request.json()
        served = ServedRequest("/completion", secrets.token_hex(8), body, ids_of(body))
        server.requests.append(served)
        length, prompt = server.script.context_length, len(served.prompt_ids)
        if prompt >= length:
            error = HttpError(
                400,
                f"request ({prompt} tokens) exceeds the available context size ({length} tokens), try increasing it",
            )
            server.refused(served, error)
            raise error
        wanted = body.get("n_predict", -1)
        limit = length - prompt if wanted < 0 else min(wanted, length - prompt)
        await serve(server, exchange, served, limit, lambda delivery: _Completion(server, delivery))

    async def chat(self, exchange: Exchange) -> None:
        await serve_chat(self._server, exchange)

    async def health(self, exchange: Exchange) -> None:
        await exchange.json({"status": "ok"})

    async def props(self, exchange: Exchange) -> None:
        script = self._server.script
        props = {
            "default_generation_settings": {"params": {}, "n_ctx": script.context_length},
            "total_slots": SLOTS,
            "model_alias": script.name,
            "model_path": f"{script.name}.gguf",
            "modalities": {"vision": False, "audio": False},
            "build_info": BUILD,
        }
        await exchange.json({**props, **self._server.info})

    async def models(self, exchange: Exchange) -> None:
        script = self._server.script
        card = {
            "id": script.name,
            "object": "model",
            "created": 0,
            "owned_by": "llamacpp",
            "meta": {"n_ctx": script.context_length},
        }
        await exchange.json({"object": "list", "data": [card]})

    async def tokenize(self, exchange: Exchange) -> None:
        content = exchange.request.json().get("content")
        if not isinstance(content, str):
            raise HttpError(400, "`content` must be a text.")
        await exchange.json({"tokens": self._server.engine.encode(content)})


class _Completion:
    """One answer in llama.cpp's shapes."""

    def __init__(self, server: ScriptedServer, delivery: Delivery) -> None:
        self._delivery = delivery
        self._name = server.script.name
        self._tokenizer = server.engine.tokenizer
        self._ids = delivery.answer.tokens.ids
        self._ends = delivery.answer.finish["type"] == "stop"
        self._with_ids = bool(delivery.served.body.get("return_tokens"))
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._unsent = ""

    def events(self, start: int, stop: int) -> list[str]:
        found = [self._progress()] if start == 0 and self._delivery.served.body.get("return_progress") else []
        found += [event for at in range(start, stop) if (event := self._token(at)) is not None]
        if stop == len(self._ids):
            final = self._final(_STOPS[self._delivery.answer.finish["type"]], stop)
            found.append({**final, "content": "", "tokens": []})
        return list(map(json.dumps, found))

    def whole(self, finish: str) -> dict[str, Any]:
        written = self._delivery.served.written
        ids = list(self._ids[:written])
        text = self._tokenizer.decode(ids[:-1] if self._ends and written == len(self._ids) else ids)
        final = self._final(_STOPS.get(finish, "none"), written)
        return {**final, "content": text, "tokens": ids if self._with_ids else []}

    def _progress(self) -> dict[str, Any]:
        """What is sent before the first token, with a token that is none."""
        prompt, cached = len(self._delivery.prompt.ids), self._delivery.answer.cached_tokens
        progress = {"total": prompt, "cache": cached, "processed": cached, "time_ms": 0}
        return {**self._partial("", -1, 0), "prompt_progress": progress}

    def _token(self, at: int) -> dict[str, Any] | None:
        """The event of one token; None while it leaves a character unfinished."""
        token = self._ids[at]
        ending = self._ends and at == len(self._ids) - 1
        self._unsent += self._decoder.decode(b"" if ending else self._tokenizer.decode_bytes([token]))
        if self._decoder.getstate()[0]:
            return None
        text, self._unsent = self._unsent, ""
        return self._partial(text, token, at + 1)

    def _partial(self, text: str, token: int, written: int) -> dict[str, Any]:
        return {
            "index": 0,
            "content": text,
            "tokens": [token] if self._with_ids else [],
            "stop": False,
            "id_slot": 0,
            "tokens_predicted": written,
            "tokens_evaluated": len(self._delivery.prompt.ids),
        }

    def _final(self, stop_type: str, written: int) -> dict[str, Any]:
        answer: Answer = self._delivery.answer
        fields = {
            "index": 0,
            "id_slot": 0,
            "stop": True,
            "model": self._name,
            "tokens_predicted": written,
            "tokens_evaluated": answer.prompt_tokens,
            "truncated": False,
            "stop_type": stop_type,
            "stopping_word": "",
            "tokens_cached": answer.prompt_tokens + written,
            "timings": {
                "cache_n": answer.cached_tokens,
                "prompt_n": answer.prompt_tokens - answer.cached_tokens,
                "predicted_n": written,
            },
        }
        wanted = self._delivery.served.body.get("response_fields")
        return {key: value for key, value in fields.items() if not wanted or key in wanted}
