"""The paths of SGLang 0.5.23 for the scripted server: `/generate`, and what a client asks to find out about it.

What is left out: turns (`scripted_engine`), their pace and faults (`scripted_delivery`), and
`/v1/chat/completions` (`scripted_chat`).
"""

from __future__ import annotations

import json
import secrets
from array import array
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from runtime.models import scripted_reading
from runtime.models.http_server import Exchange, Handler, HttpError
from runtime.models.script_file import FaultKind
from runtime.models.scripted_delivery import BROKEN_JSON, Delivery, GenerateEvents, Outcome, ServedRequest
from runtime.models.scripted_engine import Answer

if TYPE_CHECKING:
    from runtime.models.scripted import Routes, ScriptedServer

DEFAULT_MAX_NEW_TOKENS: Final = 128  # what SGLang takes where `/generate` doesn't say
IMAGE_TOKENS: Final = 256  # of every picture
_NO_GRAMMAR: Final = (
    "Grammar-based generation (json_schema, regex, ebnf, structural_tag) is not supported when the server is launched "
    "with --grammar-backend none"
)
_NO_PRIORITY: Final = "Using priority is disabled for this server. Please send a new request without a priority."


class _Aborted(HttpError):
    """The scheduler gives a request up before it has begun; a streamed one has the status 200 by then."""


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
            "/v1/loads": partial(scripted_reading.loads, self._server),
            "/v1/models": self._models,
            "/flush_cache": self._flush_cache,
        }
        post: dict[str, Handler] = {
            "/generate": self._generate,
            "/v1/chat/completions": self._chat,
            "/abort_request": self._abort,
            "/close_session": self._close_session,
            "/flush_cache": self._flush_cache,
            "/tokenize": partial(scripted_reading.tokenize, self._server),
            "/detokenize": partial(scripted_reading.detokenize, self._server),
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
        sampling = body.get("sampling_params") or {}
        try:
            prompt = self._server.engine.read(self._prompt_ids(ids, body))
            served.prompt_ids = prompt.ids
            refusal = self._refusal(body, sampling)
            if refusal is not None:
                raise refusal
            limit = int(sampling.get("max_new_tokens") or DEFAULT_MAX_NEW_TOKENS)
            constrained = sampling.get("structural_tag") is not None
            answer = self._server.engine.answer(prompt, limit, constrained=constrained)
            answer = self._with_images(answer, prompt.ids, body.get("image_data"))
            delivery = self._server.deliver(exchange, prompt, answer, served)
        except _Aborted as error:
            self._server.refused(served, error)
            if not body.get("stream"):
                raise
            await _abort_at_once(exchange, served.rid, error)
            return
        except HttpError as error:
            self._server.refused(served, error)
            if error.status == 400 and body.get("stream"):
                await _refuse_in_stream(exchange, error)
                return
            raise
        outcome = Outcome.GONE
        try:
            send = self._stream if body.get("stream") else self._send_whole
            outcome = await send(delivery, self._events(delivery, sampling))
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

    def _events(self, delivery: Delivery, sampling: dict[str, Any]) -> GenerateEvents:
        body, tokenizer = delivery.served.body, self._server.engine.tokenizer
        return GenerateEvents(
            delivery,
            incremental=self._server.incremental and bool(body.get("stream")),
            with_end=_keeps_end(sampling),
            thinking_ends=tokenizer.special("</think>") if body.get("require_reasoning") else None,
        )

    def _refusal(self, body: dict[str, Any], sampling: dict[str, Any]) -> HttpError | None:
        """Why SGLang would not even begin, by the flags that it says it was started with."""
        info = self._server.info
        if sampling.get("structural_tag") is not None and info.get("grammar_backend") == "none":
            return _Aborted(400, _NO_GRAMMAR)
        if body.get("priority") is not None and info.get("abort_on_priority_when_disabled"):
            return _Aborted(503, _NO_PRIORITY)
        return None

    def _with_images(self, answer: Answer, ids: Sequence[int], images: Any) -> Answer:
        """Count the tokens of pictures; the ids hold one `<|image_pad|>` for each."""
        if not images:
            return answer
        pads = ids.count(self._server.engine.tokenizer.special("<|image_pad|>"))
        if not isinstance(images, list) or len(images) != pads:
            raise HttpError(400, f"The prompt has {pads} `<|image_pad|>`, and `image_data` isn't a list of as many.")
        return replace(answer, prompt_tokens=answer.prompt_tokens + pads * (IMAGE_TOKENS - 1))

    async def _stream(self, delivery: Delivery, event: GenerateEvents) -> Outcome:
        exchange, served = delivery.exchange, delivery.served
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
        if outcome is Outcome.FAULT and fault is FaultKind.ABORT:
            exchange.event(event.aborted(delivery.abort()))
        if outcome is Outcome.ABORT:
            exchange.event(event.next(delivery.finish(outcome)))
        exchange.event("[DONE]")
        await exchange.end_events()
        return outcome

    async def _send_whole(self, delivery: Delivery, event: GenerateEvents) -> Outcome:
        outcome = await delivery.write_all()
        if outcome is Outcome.GONE:
            return outcome
        if outcome is Outcome.FAULT:
            await delivery.send_fault()
            return outcome
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
                "has_image_understanding": False,
                **self._server.info,
            }
        )

    async def _server_info(self, exchange: Exchange) -> None:
        script = self._server.script
        length = script.context_length
        await exchange.json(
            {
                "model_path": self._server.script.name,
                "served_model_name": self._server.script.name,
                "context_length": length,
                "max_total_num_tokens": script.pool_tokens,
                "max_mamba_cache_size": script.pool_states,
                "max_req_input_len": length - 1,
                "mamba_radix_cache_strategy": script.cache.strategy.value,
                "mamba_track_interval": script.cache.decode_interval,
                "page_size": script.cache.page,
                "chunked_prefill_size": script.cache.prefill_chunk,
                "grammar_backend": "xgrammar",
                "enable_priority_scheduling": False,
                "enable_session_radix_cache": False,
                "incremental_streaming_output": self._server.incremental,
                "stream_interval": self._server.stream_interval,
                "version": "scripted",
                **self._server.info,
            }
        )

    async def _models(self, exchange: Exchange) -> None:
        from runtime.models.scripted_chat import serve_models

        await serve_models(self._server, exchange)

    async def _abort(self, exchange: Exchange) -> None:
        body = exchange.request.json()
        self._server.abort(str(body.get("rid") or ""), everything=bool(body.get("abort_all")))
        await exchange.raw(b"")

    async def _close_session(self, exchange: Exchange) -> None:
        self._server.closed_sessions.append(str(exchange.request.json().get("session_id")))
        await exchange.raw(b"")

    async def _flush_cache(self, exchange: Exchange) -> None:
        if self._server.open_requests:
            raise HttpError(400, "The cache can't be flushed while requests run; wait for them or abort them.")
        self._server.engine.cache.clear()
        await exchange.raw(b"Cache flushed.\n")


def _keeps_end(sampling: dict[str, Any]) -> bool:
    """Whether `text` keeps the `<|im_end|>`; the ids always do."""
    return bool(sampling.get("no_stop_trim")) and sampling.get("skip_special_tokens") is False


async def _abort_at_once(exchange: Exchange, rid: str, error: HttpError) -> None:
    """One event that ends it. SGLang lets a request that it refuses with 400 write one token to a prompt of one."""
    finish = {"type": "abort", "message": str(error), "status_code": error.status, "err_type": None}
    meta: dict[str, Any] = {"id": rid, "finish_reason": finish, "completion_tokens": 0}
    ids: list[int] = []
    if error.status == 400:
        ids, meta = [0], meta | {"prompt_tokens": 1, "completion_tokens": 1, "cached_tokens": 0}
    exchange.start_events()
    exchange.event(json.dumps({"text": "", "output_ids": ids, "meta_info": meta}))
    exchange.event("[DONE]")
    await exchange.end_events()


async def _refuse_in_stream(exchange: Exchange, error: HttpError) -> None:
    """SGLang has sent the status 200 by the time that it looks at a streamed request's length."""
    exchange.start_events()
    body = {"message": str(error), "type": "invalid_request_error", "code": error.status, "retryable": False}
    exchange.event(json.dumps({"error": body}))
    exchange.event("[DONE]")
    await exchange.end_events()
