"""The events of a streamed chat answer, in the shapes that hosts give them, as what is new in each.

Left out: ids (`chat_turn`), and calls out of their fragments (`chat_calls`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from runtime.models.base import FinishReason, ModelError, ModelFailed, ModelRefused, StreamCut, Usage
from runtime.models.chat_calls import whole_calls
from runtime.models.chat_errors import Host, error_of
from runtime.models.checked import count, fields, parse_object

DONE: Final = b"[DONE]"
_LENGTH: Final = frozenset({"length", "max_tokens", "model_length"})
_FILTERED: Final = frozenset({"content_filter", "safety", "sensitive"})
_FAILED: Final = frozenset({"error", "insufficient_system_resource"})
_MOST_COST: Final = 1e9  # US dollars of one answer


@dataclass(frozen=True, slots=True)
class Said:
    """What one event adds to the answer."""

    reasoning: str = ""
    content: str = ""
    calls: list[Any] = field(default_factory=list)  # fragments
    finish: FinishReason | None = None
    usage: Usage | None = None


class EventReader:
    """Reads the events of one answer. `begun`: something of an answer has come."""

    def __init__(self, host: Host) -> None:
        self.begun = False
        self._host = host

    def read(self, data: bytes) -> Said:
        """Raises a ModelError: the host's own, or one for what is no event of this protocol."""
        try:
            event = parse_object(data)
        except ValueError:
            if self.begun:  # a broken event inside of a good stream comes from what lies in between
                raise StreamCut(
                    f"{self._host.url} sent an event that can't be read: {self._host.beginning(data)!r}."
                ) from None
            raise self._host.no_protocol(data) from None
        if event.get("error") or event.get("object") == "error":
            raise error_of(self._host, event.get("error") or event)
        choices = event.get("choices")
        if not isinstance(choices, list):
            if "usage" not in event and not self.begun:
                raise self._host.no_protocol(data)
            choices = []
        choice = choices[0] if choices and isinstance(choices[0], dict) else {}
        if choice.get("error"):
            raise error_of(self._host, choice["error"])
        self.begun = True
        return self._said(choice, usage_of(event.get("usage") or choice.get("usage")))

    def _said(self, choice: Mapping[str, Any], usage: Usage | None) -> Said:
        streamed = isinstance(choice.get("delta"), dict)
        delta = choice["delta"] if streamed else choice.get("message")
        delta = delta if isinstance(delta, dict) else {}
        calls = delta.get("tool_calls")
        calls = calls if isinstance(calls, list) else []
        return Said(
            reasoning=_reasoning(delta),
            content=_text(delta.get("content")),
            calls=calls if streamed else whole_calls(calls),
            finish=self._finish(choice.get("finish_reason")),
            usage=usage,
        )

    def _finish(self, reason: object) -> FinishReason | None:
        if not reason:
            return None
        if not isinstance(reason, str):
            raise self._host.no_protocol(f"finish_reason: {reason!r}"[:500].encode(errors="replace"))
        if reason in _LENGTH:
            return FinishReason.LENGTH
        if reason == "abort":
            return FinishReason.ABORT
        if reason in _FILTERED or reason in _FAILED:
            raise self._ended_badly(str(reason))
        return FinishReason.STOP  # stop, tool_calls, function_call, and the names that hosts have for them

    def _ended_badly(self, reason: str) -> ModelError:
        if reason in _FAILED:
            return ModelFailed(f"{self._host.url} gave up in mid-turn ({reason}); another try may help.")
        return ModelRefused(
            f"{self._host.url} stopped the turn by its content filter ({reason}). The same conversation would be "
            "stopped again; go on with another host (`agent resume RUN --model ...`)."
        )


def usage_of(usage: object) -> Usage | None:
    """Token counts and cost as the host states them; None where it states none."""
    if not isinstance(usage, Mapping):
        return None
    prompt, completion = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    of_prompt = fields(usage.get("prompt_tokens_details"))
    of_completion = fields(usage.get("completion_tokens_details"))
    cached = _count(of_prompt, "cached_tokens") or _count(usage, "prompt_cache_hit_tokens", "cached_tokens")
    reasoning = _count(of_completion, "reasoning_tokens") or _count(usage, "reasoning_tokens")
    return Usage(
        prompt_tokens=prompt,
        cached_tokens=min(cached, prompt),
        completion_tokens=completion,
        reasoning_tokens=min(reasoning, completion),
        cost=_cost(usage.get("cost")),
    )


def _count(owner: Mapping[str, Any], *names: str) -> int:
    return next((found for name in names if (found := count(owner.get(name)))), 0)


def _cost(cost: object) -> float | None:
    """US dollars. None for what is no price of anything: a sum with it would be none either, or hide what was paid."""
    if not isinstance(cost, int | float) or isinstance(cost, bool) or not 0 <= cost < _MOST_COST:
        return None
    return float(cost)


def _reasoning(delta: Mapping[str, Any]) -> str:
    """Thinking under the first name that has any; hosts that use several say the same under each."""
    for name in ("reasoning_content", "reasoning"):
        if text := _text(delta.get(name)):
            return text
    details = delta.get("reasoning_details")
    parts = [part for part in details if isinstance(part, dict)] if isinstance(details, list) else []
    return "".join(str(part.get("text") or part.get("summary") or "") for part in parts)


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "".join(str(part.get("text") or "") for part in parts if isinstance(part, dict))
