"""A model server that answers from a script: SGLang's `/generate` and `/v1/chat/completions` over real HTTP.

It is how whole runs are tested and agents are compared, so it ships with the package (`agent model script FILE`).
The shapes are those of SGLang 0.5.23; the script's format and the faults are in `docs/scripted-model.md`. Turns
are chosen in `scripted_engine`, chat answers are built in `scripted_chat`. What is left out: sampling (the script
is the model), log probabilities, and batches of prompts in one request.
"""

from __future__ import annotations

import json
import secrets
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from runtime.models.http_server import Exchange, Handler, HttpError, HttpServer
from runtime.models.script_file import FaultKind, Script, load_script, parse_script
from runtime.models.scripted_delivery import BROKEN_JSON, Delivery, GenerateEvents, Outcome, ServedRequest
from runtime.models.scripted_engine import Answer, Prompt, ScriptEngine

if TYPE_CHECKING:
    from runtime.tokenizer import Tokenizer

DEFAULT_MAX_NEW_TOKENS: Final = 128  # what SGLang takes where `/generate` doesn't say
MAX_RECORDS: Final = 10_000


class ScriptedServer:
    """`async with ScriptedServer(script) as server:` serves on `server.url` until the block ends.

    `script` is a `Script`, a path, a mapping or a list of turns. `incremental` sends deltas instead of all ids
    in each event (SGLang's `--incremental-streaming-output`), `stream_interval` is the tokens per event.
    `requests` are the requests for turns in the order of their arrival, when `record` is on; `on_done` is called
    with each when it has been answered or refused.
    """

    def __init__(
        self,
        script: Script | Path | dict[str, Any] | list[Any],
        tokenizer: Tokenizer | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        incremental: bool = False,
        stream_interval: int = 1,
        record: bool = True,
        on_done: Callable[[ServedRequest], None] | None = None,
    ) -> None:
        loaded = load_script(script) if isinstance(script, Path) else parse_script(script)
        self.engine = ScriptEngine(loaded, tokenizer or _qwen_tokenizer())
        self.requests: deque[ServedRequest] = deque(maxlen=MAX_RECORDS if record else 0)
        self.url = ""
        self.incremental = incremental
        self.stream_interval = max(1, stream_interval)
        self._on_done = on_done
        self._host = host
        self._port = port
        self._running: dict[str, list[Delivery]] = {}
        self._http = HttpServer(self._handle)
        self._routes = self._all_routes()

    @property
    def script(self) -> Script:
        return self.engine.script

    @property
    def open_requests(self) -> int:
        """Requests for turns that are being answered now."""
        return sum(map(len, self._running.values()))

    @property
    def connections(self) -> int:
        """Connections taken since the start."""
        return self._http.connections

    async def __aenter__(self) -> ScriptedServer:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Listen. Raises OSError when the port is taken."""
        port = await self._http.listen(self._host, self._port)
        shown = f"[{self._host}]" if ":" in self._host else self._host
        self.url = f"http://{shown}:{port}"

    async def close(self) -> None:
        await self._http.close()

    def deliver(self, exchange: Exchange, prompt: Prompt, answer: Answer, served: ServedRequest) -> Delivery:
        """Start an answer; it can be aborted by its `rid` until `done`. Raises `HttpError` where the fault says so."""
        served.turn, served.cached_tokens = answer.index, answer.cached_tokens
        fault = answer.fault
        if fault is not None:
            served.fault = fault.kind
            if fault.kind is FaultKind.HTTP:
                raise HttpError(fault.status, fault.message, retry_after=fault.retry_after)
        delivery = Delivery(served, exchange, prompt, answer, self.script.token_delay)
        self._running.setdefault(served.rid, []).append(delivery)
        return delivery

    def done(self, delivery: Delivery, outcome: Outcome) -> None:
        served = delivery.served
        served.outcome = outcome
        self.engine.remember(delivery.prompt, delivery.answer.tokens.ids[: served.written])
        same = self._running[served.rid]
        same.remove(delivery)
        if not same:
            del self._running[served.rid]
        if self._on_done is not None:
            self._on_done(served)

    def refused(self, served: ServedRequest, error: HttpError) -> None:
        served.outcome, served.error = Outcome.REFUSED, str(error)
        if self._on_done is not None:
            self._on_done(served)

    def _all_routes(self) -> dict[tuple[str, str], Handler]:
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

    async def _handle(self, exchange: Exchange) -> None:
        request = exchange.request
        route = self._routes.get((request.method, request.path))
        if route is None:
            paths = " ".join(sorted({path for _, path in self._routes}))
            raise HttpError(404, f"{request.method} {request.path} isn't served here; {paths} are.")
        await route(exchange)

    # -- turns ------------------------------------------------------------------------------------------------

    async def _generate(self, exchange: Exchange) -> None:
        body = exchange.request.json()
        ids = body.pop("input_ids", None)
        served = ServedRequest("/generate", str(body.get("rid") or secrets.token_hex(16)), body)
        self.requests.append(served)
        try:
            prompt = self.engine.read(self._prompt_ids(ids, body))
            served.prompt_ids = prompt.ids
            sampling = body.get("sampling_params") or {}
            limit = int(sampling.get("max_new_tokens") or DEFAULT_MAX_NEW_TOKENS)
            delivery = self.deliver(exchange, prompt, self.engine.answer(prompt, limit), served)
        except HttpError as error:
            self.refused(served, error)
            if error.status == 400 and body.get("stream"):
                await _refuse_in_stream(exchange, error)
                return
            raise
        outcome = Outcome.GONE
        try:
            send = self._stream if body.get("stream") else self._send_whole
            outcome = await send(delivery, with_end=_keeps_end(sampling))
        finally:
            self.done(delivery, outcome)

    def _prompt_ids(self, ids: Any, body: dict[str, Any]) -> Sequence[int]:
        if ids is None:
            text = body.get("text")
            if not isinstance(text, str):
                raise HttpError(400, "Either `text` (one text) or `input_ids` (one list of ids) must be given.")
            return self.engine.encode(text)
        try:
            return array("i", ids)
        except (TypeError, OverflowError) as error:
            raise HttpError(400, f"`input_ids` must be one list of whole numbers ({error}).") from error

    async def _stream(self, delivery: Delivery, *, with_end: bool) -> Outcome:
        exchange, served = delivery.exchange, delivery.served
        event = GenerateEvents(delivery, incremental=self.incremental, with_end=with_end)
        exchange.start_events()
        last = False
        while not last:
            outcome = await delivery.pace()
            if outcome is not None:
                return await self._end_early(delivery, event, outcome)
            served.written = min(served.written + self.stream_interval, delivery.length)
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

        await serve_chat(self, exchange)

    # -- everything else --------------------------------------------------------------------------------------

    async def _empty(self, exchange: Exchange) -> None:
        await exchange.raw(b"")

    async def _model_info(self, exchange: Exchange) -> None:
        await exchange.json(
            {
                "model_path": self.script.name,
                "served_model_name": self.script.name,
                "tokenizer_path": self.engine.tokenizer.name,
                "is_generation": True,
                "preferred_sampling_params": None,
                "weight_version": "default",
                "model_type": "scripted",
                "architectures": ["Scripted"],
            }
        )

    async def _server_info(self, exchange: Exchange) -> None:
        length = self.script.context_length
        await exchange.json(
            {
                "model_path": self.script.name,
                "served_model_name": self.script.name,
                "context_length": length,
                "max_total_num_tokens": max(length, 4_000_000),
                "max_req_input_len": length - 1,
                "incremental_streaming_output": self.incremental,
                "stream_interval": self.stream_interval,
                "version": "scripted",
            }
        )

    async def _models(self, exchange: Exchange) -> None:
        card = {
            "id": self.script.name,
            "object": "model",
            "created": 0,
            "owned_by": "patchwright",
            "root": self.script.name,
            "max_model_len": self.script.context_length,
        }
        await exchange.json({"object": "list", "data": [card]})

    async def _abort(self, exchange: Exchange) -> None:
        """As SGLang does: an unknown `rid` is no error, a known one also aborts those that begin with it."""
        body = exchange.request.json()
        rid, everything = str(body.get("rid") or ""), bool(body.get("abort_all"))
        for other, deliveries in self._running.items():
            if everything or (rid in self._running and other.startswith(rid)):
                for delivery in deliveries:
                    delivery.aborted = True
                    delivery.exchange.interrupted.set()
        await exchange.raw(b"")

    async def _flush_cache(self, exchange: Exchange) -> None:
        if self._running:
            raise HttpError(400, "The cache can't be flushed while requests run; wait for them or abort them.")
        self.engine.cache.clear()
        await exchange.raw(b"Cache flushed.\n")

    async def _tokenize(self, exchange: Exchange) -> None:
        prompt = exchange.request.json().get("prompt")
        if not isinstance(prompt, str):
            raise HttpError(400, "`prompt` must be a text.")
        ids = self.engine.encode(prompt)
        length = self.script.context_length
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


def _qwen_tokenizer() -> Tokenizer:
    from runtime.qwen_bpe import qwen_tokenizer

    return qwen_tokenizer()
