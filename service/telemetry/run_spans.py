"""A run's spans, made of its log when its request has ended: the agent itself knows nothing of tracing.

Their ids are made of the run's id and of the places of events in its log. A job that is done again because its worker
died before its last word sends the same spans with the same ids once more. Left out: what the run was for
(`service.telemetry.traces`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from agent.events import Event, EventType
from service.telemetry import genai
from service.telemetry.redaction import Redactor
from service.telemetry.traces import CLIENT, Span, Value

_MOST: Final = 4096  # characters of a text
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
_SAMPLING: Final = {
    genai.REQUEST_TEMPERATURE: "temperature",
    genai.REQUEST_TOP_P: "top_p",
    genai.REQUEST_TOP_K: "top_k",
}


def run_spans(request: str, run: str, events: Sequence[Event], content: Redactor | None = None) -> Iterator[Span]:
    """The run's span, below the work on the request, and those of turns, calls and verification below it.

    `content`: what takes secrets out of texts; without it spans have none.
    """
    if not events:
        return
    reader = _Reader(request, run, content)
    for event in events:
        yield from reader.take(event)
    yield reader.whole(events)


class _Reader:
    def __init__(self, request: str, run: str, content: Redactor | None) -> None:
        self._request, self._run, self._content = request, run, content
        self._top = ("run", request, run)
        self._model: dict[str, Value | None] = {}
        self._turn: Event | None = None
        self._call: Event | None = None
        self._check: Event | None = None
        self._patch: Event | None = None

    def take(self, event: Event) -> Iterator[Span]:
        """The spans that an event ends. What was begun and cut off has none."""
        match event.type:
            case EventType.MODEL_CONNECTED:
                self._model = _model(event.data)
            case EventType.TURN_STARTED:
                self._turn = event
            case EventType.TURN | EventType.TURN_DROPPED if self._turn is not None:
                yield self._chat(self._turn, event)
                self._turn = None
            case EventType.CALL_STARTED:
                self._call = event
            case EventType.OBSERVATION if self._call is not None:
                yield self._tool(self._call, event)
                self._call = None
            case EventType.PATCH:
                self._patch = event
            case EventType.CHECK_STARTED:
                self._check = event
            case EventType.CHECK if self._check is not None:
                yield self._checked(self._check, event)
                self._check = None
            case EventType.VERIFIED if self._patch is not None:
                yield self._verified(self._patch, event)
                self._patch = None
            case _:
                pass

    def whole(self, events: Sequence[Event]) -> Span:
        ends = [event for event in events if event.type is EventType.RUN_ENDED]
        outcome = str(ends[-1].data["outcome"]) if ends else "cut off"
        attributes: dict[str, Value | None] = {
            genai.OPERATION_NAME: genai.INVOKE_AGENT,
            genai.AGENT_NAME: "patchwright",
            genai.CONVERSATION_ID: self._run,
            genai.PROVIDER_NAME: self._model.get(genai.PROVIDER_NAME),
            genai.REQUEST_MODEL: self._model.get(genai.REQUEST_MODEL),
            "patchwright.outcome": outcome,
            "patchwright.request": self._request,
        }
        name = f"{genai.INVOKE_AGENT} patchwright"
        above = ("work", self._request)
        return Span(self._top, above, name, events[0].time, events[-1].time, attributes=attributes)

    def _chat(self, began: Event, ended: Event) -> Span:
        usage: dict[str, Any] = ended.data.get("usage") or {}
        model = self._model.get(genai.REQUEST_MODEL)
        attributes: dict[str, Value | None] = {
            **self._model,
            genai.OPERATION_NAME: genai.CHAT,
            genai.CONVERSATION_ID: self._run,
            genai.REQUEST_MAX_TOKENS: began.data.get("max_new_tokens"),
            genai.USAGE_INPUT: usage.get("prompt"),
            genai.USAGE_OUTPUT: usage.get("completion"),
            genai.USAGE_CACHE_READ: usage.get("cached"),
            genai.USAGE_REASONING: usage.get("reasoning"),
            "patchwright.turn": began.data.get("turn"),
        }
        if finish := ended.data.get("finish"):
            attributes[genai.RESPONSE_FINISH_REASONS] = [str(finish)]
        if self._content and ended.type is EventType.TURN:
            attributes[genai.OUTPUT_MESSAGES] = _message(ended.data, self._content)
        error = "dropped" if ended.type is EventType.TURN_DROPPED else ""
        return self._span(began, ended, f"{genai.CHAT} {model or ''}".strip(), attributes, CLIENT, error)

    def _tool(self, began: Event, ended: Event) -> Span:
        said = str(began.data.get("name", ""))
        name = said if _NAME.fullmatch(said) else "unknown"  # the model's word
        attributes: dict[str, Value | None] = {
            genai.OPERATION_NAME: genai.EXECUTE_TOOL,
            genai.TOOL_NAME: name,
            genai.TOOL_TYPE: "function",
            genai.TOOL_CALL_ID: f"{began.data.get('turn')}.{began.data.get('call')}",
            genai.CONVERSATION_ID: self._run,
        }
        if self._content:
            arguments = json.dumps(began.data.get("arguments"), ensure_ascii=False)
            attributes[genai.TOOL_CALL_ARGUMENTS] = _bounded(self._content(arguments))
            attributes[genai.TOOL_CALL_RESULT] = _bounded(self._content(str(ended.data.get("text", ""))))
        error = "tool" if ended.data.get("failed") else ""
        return self._span(began, ended, f"{genai.EXECUTE_TOOL} {name}", attributes, error=error)

    def _checked(self, began: Event, ended: Event) -> Span:
        attributes: dict[str, Value | None] = {"patchwright.verdict": str(ended.data.get("verdict", ""))}
        parent = self._key(self._patch) if self._patch else self._top
        return Span(self._key(began), parent, "check", began.time, ended.time, attributes=attributes)

    def _verified(self, began: Event, ended: Event) -> Span:
        attributes: dict[str, Value | None] = {"patchwright.verified": bool(ended.data.get("verified"))}
        return self._span(began, ended, "verification", attributes)

    def _span(
        self, began: Event, ended: Event, name: str, attributes: dict[str, Value | None], kind: str = "INTERNAL",
        error: str = "",
    ) -> Span:  # fmt: skip
        return Span(self._key(began), self._top, name, began.time, ended.time, kind, attributes, error)

    def _key(self, event: Event) -> tuple[object, ...]:
        return ("event", self._run, event.seq)


def _model(data: dict[str, Any]) -> dict[str, Value | None]:
    target, sampling = urlsplit(str(data.get("target", ""))), data.get("sampling") or {}
    found: dict[str, Value | None] = {
        genai.PROVIDER_NAME: str(data.get("engine") or "unknown"),
        genai.REQUEST_MODEL: str(data.get("name", "")),
        genai.SERVER_ADDRESS: target.hostname,
        genai.SERVER_PORT: target.port,
    }
    return found | {name: sampling.get(key) for name, key in _SAMPLING.items()}


def _message(data: dict[str, Any], redact: Redactor) -> str:
    """What the model wrote, in the conventions' form."""
    parts = [
        {"type": "reasoning", "content": _bounded(redact(str(data.get("reasoning") or "")))},
        {"type": "text", "content": _bounded(redact(str(data.get("content") or "")))},
    ]
    return json.dumps([{"role": "assistant", "parts": parts}], ensure_ascii=False)


def _bounded(text: str) -> str:
    return text if len(text) <= _MOST else text[:_MOST] + "..."
