"""`/v1/chat/completions` of the scripted server, so that agents which speak chat messages can be run against it.

The prompt is rendered and counted as the real server would, and a turn's calls come back as `tool_calls`. What is
left out: everything of the OpenAI API that no agent needs to run (several choices, log probabilities, audio).
"""

from __future__ import annotations

import json
import secrets
import time
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from runtime.models.http_server import Exchange, HttpError
from runtime.models.script_file import FaultKind
from runtime.models.scripted_delivery import BROKEN_JSON, Delivery, Outcome, ServedRequest
from runtime.models.scripted_engine import Prompt
from runtime.models.scripted_reading import rendered

if TYPE_CHECKING:
    from runtime.models.scripted import Routes, ScriptedServer

_DELTA_CHARACTERS: Final = 4  # about a token


@dataclass(frozen=True, slots=True)
class _Message:
    reasoning: str
    content: str
    calls: Sequence[tuple[str, str]]  # name and arguments as JSON text


def routes(server: ScriptedServer) -> Routes:
    """The paths of a host that knows only chat messages."""

    async def chat(exchange: Exchange) -> None:
        await serve_chat(server, exchange)

    async def models(exchange: Exchange) -> None:
        await serve_models(server, exchange)

    async def empty(exchange: Exchange) -> None:
        await exchange.raw(b"")

    return {("POST", "/v1/chat/completions"): chat, ("GET", "/v1/models"): models, ("GET", "/health"): empty}


async def serve_models(server: ScriptedServer, exchange: Exchange, *, owned_by: str = "patchwright") -> None:
    """`/v1/models`, with the context length where SGLang and vLLM have it."""
    card = {
        "id": server.script.name,
        "object": "model",
        "created": 0,
        "owned_by": owned_by,
        "root": server.script.name,
        "max_model_len": server.script.context_length,
    }
    await exchange.json({"object": "list", "data": [card]})


async def serve_chat(server: ScriptedServer, exchange: Exchange) -> None:
    """Answer one chat request. Raises `HttpError` for a request that can't be served."""
    body = exchange.request.json()
    served = ServedRequest(exchange.request.path, str(body.get("rid") or secrets.token_hex(16)), body)
    server.requests.append(served)
    try:
        prompt, first_user = _read(server, body)
        served.prompt_ids = prompt.ids
        limit = body.get("max_completion_tokens") or body.get("max_tokens")
        room = max(1, server.script.context_length - len(prompt.ids))
        answer = server.engine.answer(prompt, int(limit or room), first_user=first_user)
        delivery = server.deliver(exchange, prompt, answer, served)
    except HttpError as error:
        server.refused(served, error)
        raise
    outcome = Outcome.GONE
    try:
        message = _message(server, delivery, body.get("tools") or ())
        chat = _Chat(server.script.name, delivery, message)
        if body.get("stream"):
            outcome = await chat.stream(with_usage=bool((body.get("stream_options") or {}).get("include_usage")))
        else:
            outcome = await chat.send()
    finally:
        server.done(delivery, outcome)


def _read(server: ScriptedServer, body: Mapping[str, Any]) -> tuple[Prompt, str]:
    text = rendered(server, body)
    messages = body["messages"]
    thinking = (body.get("chat_template_kwargs") or {}).get("enable_thinking", True)
    turns = sum(message.get("role") == "assistant" for message in messages)
    ids = array("i", server.engine.encode(text))
    new_from = server.engine.read(ids).new_from
    return Prompt(ids, turns, thinking=thinking is not False, new_from=new_from), _first_user(messages)


def readable(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """The message as the template wants it: arguments as mappings, `developer` as `system`."""
    changed = dict(message)
    if changed.get("role") == "developer":
        changed["role"] = "system"
    if changed.get("tool_calls"):
        changed["tool_calls"] = [_decoded(call) for call in changed["tool_calls"]]
    return changed


def _decoded(call: Any) -> Any:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("arguments"), str):
        return call
    try:
        arguments = json.loads(function["arguments"] or "{}")
    except ValueError as error:
        raise HttpError(400, f"The arguments of a tool call in `messages` aren't JSON: {error}.") from error
    return {**call, "function": {**function, "arguments": arguments}}


def _first_user(messages: Sequence[Mapping[str, Any]]) -> str:
    for message in messages:
        if message.get("role") == "user":
            content = message.get("content")
            if isinstance(content, str):
                return content
            return "".join(part.get("text", "") for part in content or () if isinstance(part, Mapping))
    return ""


def _message(server: ScriptedServer, delivery: Delivery, tools: Sequence[Any]) -> _Message:
    """The answer as a chat message: from the script where the turn is whole, else read off its text."""
    answer = delivery.answer
    turn = answer.turn
    if turn.text is None and answer.finish["type"] == "stop":
        calls = [(call["name"], _arguments(call["arguments"])) for call in turn.calls]
        return _Message(turn.reasoning if delivery.prompt.thinking else "", turn.content, calls)
    from runtime.tool_calls import parse

    ids = [token for token in answer.tokens.ids if token != server.engine.end]
    text = server.engine.tokenizer.decode(ids)
    parsed = parse(text if delivery.prompt.thinking else "\n</think>\n\n" + text, tools)
    named = [(call.name, _arguments(call.arguments)) for call in parsed.calls]
    return _Message(parsed.reasoning or "", parsed.content, named)


def _arguments(arguments: Mapping[str, Any]) -> str:
    return json.dumps(arguments, ensure_ascii=False)


class _Chat:
    """One answer in OpenAI's shapes, as SGLang fills them."""

    def __init__(self, model: str, delivery: Delivery, message: _Message) -> None:
        self._delivery = delivery
        self._message = message
        self._common = {"id": delivery.served.rid, "created": int(time.time()), "model": model}

    async def send(self) -> Outcome:
        delivery = self._delivery
        outcome = await delivery.write_all()
        if outcome is Outcome.GONE:
            return outcome
        if outcome is Outcome.FAULT:
            await delivery.send_fault()
            return outcome
        message: dict[str, Any] = {"role": "assistant", "content": self._message.content}
        message["reasoning_content"] = self._message.reasoning or None
        message["tool_calls"] = [self._call(number) for number in range(len(self._message.calls))] or None
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self._finish(outcome)}
        answer = {**self._common, "object": "chat.completion", "choices": [choice], "usage": self._usage()}
        await delivery.exchange.json(answer)
        return outcome or Outcome(delivery.answer.finish["type"])

    async def stream(self, *, with_usage: bool) -> Outcome:
        delivery, exchange = self._delivery, self._delivery.exchange
        exchange.start_events()
        exchange.event(self._chunk({"role": "assistant", "content": ""}))
        outcome = None
        for delta in self._deltas():
            outcome = await delivery.pace()
            if outcome is not None:
                break
            delivery.served.written = min(delivery.served.written + 1, delivery.length)
            exchange.event(self._chunk(delta))
            await exchange.drain()
        if outcome is None and delivery.breaks:
            outcome = Outcome.FAULT
        if outcome is Outcome.GONE:
            return outcome
        if outcome is Outcome.FAULT and delivery.served.fault is FaultKind.CUT:
            await exchange.cut()
            return outcome
        if outcome is Outcome.FAULT and delivery.served.fault is FaultKind.GARBAGE:
            exchange.event(BROKEN_JSON)
        elif outcome is Outcome.FAULT and delivery.served.fault is FaultKind.ABORT:
            gave_up = delivery.abort()
            exchange.event(json.dumps({"error": {"message": gave_up["message"], "code": gave_up["status_code"]}}))
        elif outcome is not Outcome.FAULT:
            self._end(outcome, with_usage=with_usage)
        exchange.event("[DONE]")
        await exchange.end_events()
        return outcome or Outcome(delivery.answer.finish["type"])

    def _end(self, outcome: Outcome | None, *, with_usage: bool) -> None:
        delivery = self._delivery
        if outcome is None:
            delivery.served.written = delivery.length
        delivery.exchange.event(self._chunk({}, self._finish(outcome)))
        if with_usage:
            chunk = {**self._common, "object": "chat.completion.chunk", "choices": [], "usage": self._usage()}
            delivery.exchange.event(json.dumps(chunk))

    def _deltas(self) -> Iterator[dict[str, Any]]:
        for name, text in (
            ("reasoning_content", self._message.reasoning),
            ("content", self._message.content),
        ):
            for piece in _pieces(text):
                yield {name: piece}
        for number, (_, arguments) in enumerate(self._message.calls):
            opened = self._call(number)
            opened["function"]["arguments"] = ""
            yield {"tool_calls": [opened]}
            for piece in _pieces(arguments):
                yield {"tool_calls": [{"index": number, "function": {"arguments": piece}}]}

    def _call(self, number: int) -> dict[str, Any]:
        name, arguments = self._message.calls[number]
        return {
            "id": f"call_{self._delivery.answer.index}_{number}",
            "index": number,
            "type": "function",
            "function": {"name": name, "arguments": arguments},
        }

    def _chunk(self, delta: Mapping[str, Any], finish: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return json.dumps({**self._common, "object": "chat.completion.chunk", "choices": [choice]})

    def _finish(self, outcome: Outcome | None) -> str:
        if outcome is Outcome.ABORT:
            return "abort"
        kind: str = self._delivery.answer.finish["type"]
        return "tool_calls" if kind == "stop" and self._message.calls else kind

    def _usage(self) -> dict[str, Any]:
        answer, written = self._delivery.answer, self._delivery.served.written
        cost = answer.turn.cost
        return ({} if cost is None else {"cost": cost}) | {
            "prompt_tokens": answer.prompt_tokens,
            "completion_tokens": written,
            "total_tokens": answer.prompt_tokens + written,
            "prompt_tokens_details": {"cached_tokens": answer.cached_tokens},
        }


def _pieces(text: str) -> Iterator[str]:
    for start in range(0, len(text), _DELTA_CHARACTERS):
        yield text[start : start + _DELTA_CHARACTERS]
