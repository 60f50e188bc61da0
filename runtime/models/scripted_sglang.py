"""The paths of SGLang 0.5.23 for the scripted server: `/generate`, and what a client asks to find out about it.

What is left out: turns (`scripted_engine`), their pace and faults (`scripted_delivery`), and
`/v1/chat/completions` (`scripted_chat`).
"""

from __future__ import annotations

import json
import secrets
from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from runtime.models.http_server import Exchange, Handler, HttpError
from runtime.models.script_file import FaultKind
from runtime.models.scripted_delivery import BROKEN_JSON, Delivery, GenerateEvents, Outcome, ServedRequest

if TYPE_CHECKING:
    from runtime.models.scripted import Routes, ScriptedServer

DEFAULT_MAX_NEW_TOKENS: Final = 128  # what SGLang takes where `/generate` doesn't say


def routes(server: ScriptedServer) -> Routes:
    return _SGLangPaths(server).table()


class _SGLangPaths:
    def __init__(self, server: ScriptedServer) -> None:
        self._server = server

    def table(self) -> Routes:
        get: dict[str, Handler] = {
            "/health": self._empty,
            "/health_generate": self._empty,
            "/ready": self._empty,
            "/model_info": self._model_info,
            "/get_model_info": self._model_info,
            "/server_info": self._server_info,
            "/get_server_info": self._server_info,
            "/v1/models": self._models,
            "/flush_cache": self._flush_cache,
        }
        post: dict[str, Handler] = {
            "/generate": self._generate,
            "/v1/chat/completions": self._chat,
            "/abort_request": self._abort,
            "/flush_cache": self._flush_cache,
            "/tokenize": self._tokenize,
        }
        return {("GET", path): route for path, route in get.items()} | {
            ("POST", path): route for path, route in post.items()
        }

    # -- turns ------------------------------------------------------------------------------------------------

    async def _generate(self, exchange: Exchange) -> None:
        body = exchange.request.json()
        ids = body.pop("input_ids", None)
        served = ServedRequest("/generate", str(body.get("rid") or secrets.token_hex(16)), body)
        self._server.requests.append(served)
        try:
            prompt = self._server.engine.read(self._prompt_ids(ids, body))
            served.prompt_ids = prompt.ids
            sampling = body.get("sampling_params") or {}
            limit = int(sampling.get("max_new_tokens") or DEFAULT_MAX_NEW_TOKENS)
            delivery = self._server.deliver(exchange, prompt, self._server.engine.answer(prompt, limit), served)
        except HttpError as error:
            self._server.refused(served, error)
            if error.status == 400 and body.get("stream"):
                await _refuse_in_stream(exchange, error)
                return
            raise
        outcome = Outcome.GONE
        try:
            send = self._stream if body.get("stream") else self._send_whole
            outcome = await send(delivery, with_end=_keeps_end(sampling))
        finally:
            self._server.done(delivery, outcome)

    def _prompt_ids(self, ids: Any, body: dict[str, Any]) -> Sequence[int]:
        if ids is None:
            text = body.get("text")
            if not isinstance(text, str):
                raise HttpError(400, "Either `text` (one text) or `input_ids` (one list of ids) must be given.")
            return self._server.engine.encode(text)
        try:
            return array("i", ids)
        except (TypeError, OverflowError) as error:
            raise HttpError(400, f"`input_ids` must be one list of whole numbers ({error}).") from error

    async def _stream(self, delivery: Delivery, *, with_end: bool) -> Outcome:
        exchange, served = delivery.exchange, delivery.served
        event = GenerateEvents(delivery, incremental=self._server.incremental, with_end=with_end)
        exchange.start_events()
        last = False
        while not last:
            outcome = await delivery.pace()
            if outcome is not None:
                return await self._end_early(delivery, event, outcome)
            served.written = min(served.written + self._server.stream_interval, delivery.length)
            last = served.written == delivery.length and not delivery.breaks
            exchange.event(event.next(delivery.answer.finish if last else None))
            await exchange.drain()
        exchange.event("[DONE]")
        await exchange.end_events()
        return Outcome(delivery.answer.finish["type"])

    async def _end_early(self, delivery: Delivery, event: GenerateEvents, outcome: Outcome) -> Outcome:
        exchange, fault = delivery.exchange, delivery.served.fault
        if outcome is Outcome.GONE:
            return outcome
        if outcome is Outcome.FAULT and fault is FaultKind.CUT:
            await exchange.cut()
            return outcome
        if outcome is Outcome.FAULT and fault is FaultKind.GARBAGE:
            exchange.event(BROKEN_JSON)
        if outcome is Outcome.ABORT:
            exchange.event(event.next(delivery.finish(outcome)))
        exchange.event("[DONE]")
        await exchange.end_events()
        return outcome

    async def _send_whole(self, delivery: Delivery, *, with_end: bool) -> Outcome:
        outcome = await delivery.write_all()
        if outcome is Outcome.GONE:
            return outcome
        if outcome is Outcome.FAULT:
            await delivery.send_fault()
            return outcome
        event = GenerateEvents(delivery, incremental=False, with_end=with_end)
        await delivery.exchange.raw(event.next(delivery.finish(outcome)).encode(), kind="application/json")
        return outcome or Outcome(delivery.answer.finish["type"])

    async def _chat(self, exchange: Exchange) -> None:
        from runtime.models.scripted_chat import serve_chat

        await serve_chat(self._server, exchange)

    # -- everything else --------------------------------------------------------------------------------------

    async def _empty(self, exchange: Exchange) -> None:
        await exchange.raw(b"")

    async def _model_info(self, exchange: Exchange) -> None:
        await exchange.json(
            {
                "model_path": self._server.script.name,
                "served_model_name": self._server.script.name,
                "tokenizer_path": self._server.engine.tokenizer.name,
                "is_generation": True,
                "preferred_sampling_params": None,
                "weight_version": "default",
                "model_type": "scripted",
                "architectures": ["Scripted"],
            }
        )

    async def _server_info(self, exchange: Exchange) -> None:
        length = self._server.script.context_length
        await exchange.json(
            {
                "model_path": self._server.script.name,
                "served_model_name": self._server.script.name,
                "context_length": length,
                "max_total_num_tokens": max(length, 4_000_000),
                "max_req_input_len": length - 1,
                "incremental_streaming_output": self._server.incremental,
                "stream_interval": self._server.stream_interval,
                "version": "scripted",
            }
        )

    async def _models(self, exchange: Exchange) -> None:
        from runtime.models.scripted_chat import serve_models

        await serve_models(self._server, exchange)

    async def _abort(self, exchange: Exchange) -> None:
        body = exchange.request.json()
        self._server.abort(str(body.get("rid") or ""), everything=bool(body.get("abort_all")))
        await exchange.raw(b"")

    async def _flush_cache(self, exchange: Exchange) -> None:
        if self._server.open_requests:
            raise HttpError(400, "The cache can't be flushed while requests run; wait for them or abort them.")
        self._server.engine.cache.clear()
        await exchange.raw(b"Cache flushed.\n")

    async def _tokenize(self, exchange: Exchange) -> None:
        prompt = exchange.request.json().get("prompt")
        if not isinstance(prompt, str):
            raise HttpError(400, "`prompt` must be a text.")
        ids = self._server.engine.encode(prompt)
        length = self._server.script.context_length
        await exchange.json({"tokens": ids, "count": len(ids), "max_model_len": length})


def _keeps_end(sampling: dict[str, Any]) -> bool:
    """Whether `text` keeps the `<|im_end|>`; the ids always do."""
    return bool(sampling.get("no_stop_trim")) and sampling.get("skip_special_tokens") is False


async def _refuse_in_stream(exchange: Exchange, error: HttpError) -> None:
    """SGLang has sent the status 200 by the time that it looks at a streamed request's length."""
    exchange.start_events()
    body = {"message": str(error), "type": "invalid_request_error", "code": error.status, "retryable": False}
    exchange.event(json.dumps({"error": body}))
    exchange.event("[DONE]")
    await exchange.end_events()
