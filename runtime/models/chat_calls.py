"""The tool calls of a chat answer, put together from their fragments.

Hosts send a call's name once and its arguments as pieces of JSON text. They also leave out names, send arguments
twice encoded, number every call 0, or are cut off by a limit; what can't be made a call with certainty becomes text
that the agent's parser reports to the model, and is never run. Left out: ids (`chat_turn`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from runtime.tool_call_specs import ToolBook

_NAME: Final = re.compile(r"[^\s<>\"'=]{1,256}")
_PARAMETER: Final = re.compile(r"[^<>\n]{1,256}")


@dataclass(frozen=True, slots=True)
class SettledCalls:
    """The calls of an answer that is over."""

    whole: tuple[dict[str, Any], ...] = ()  # name and arguments
    broken: tuple[str, ...] = ()  # what can't be run, as text in which a call is recognised and refused
    cut: str | None = None  # the beginning of the call in which a limit ended the answer, without `<tool_call>`


@dataclass(slots=True)
class _Call:
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.arguments)


class CallFragments:
    """Collects `delta.tool_calls` of a stream."""

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._by_index: dict[object, _Call] = {}

    def __bool__(self) -> bool:
        return bool(self._calls)

    def add(self, fragments: object) -> None:
        """Take one delta's list; what isn't of its shape is left out."""
        for fragment in fragments if isinstance(fragments, list) else ():
            if isinstance(fragment, dict):
                self._add(fragment)

    def _add(self, fragment: dict[str, Any]) -> None:
        function = fragment.get("function")
        function = function if isinstance(function, dict) else {}
        name, arguments = function.get("name") or "", function.get("arguments")
        call = self._call_of(fragment.get("index"), fragment.get("id") or "", bool(name))
        if isinstance(name, str) and not call.name:
            call.name = name
        if isinstance(arguments, str):
            call.arguments.append(arguments)
        elif arguments is not None:
            call.arguments.append(json.dumps(arguments, ensure_ascii=False))

    def _call_of(self, index: object, call_id: str, named: bool) -> _Call:
        """The call that a fragment belongs to. A name under another id begins a new one, whatever its index."""
        index = index if isinstance(index, int) else None
        known = self._by_index.get(index) if index is not None else (self._calls[-1] if self._calls else None)
        another = known is not None and named and call_id and known.id and call_id != known.id
        if known is None or another:
            known = _Call()
            self._calls.append(known)
            self._by_index[index] = known
        known.id = known.id or call_id
        return known

    def settled(self, tools: ToolBook, *, limited: bool) -> SettledCalls:
        """All calls. `limited`: the answer was ended by a limit, so the last one may lack its end."""
        whole: list[dict[str, Any]] = []
        broken: list[str] = []
        cut: str | None = None
        for place, call in enumerate(self._calls):
            if not call.name and not call.text.strip():
                continue
            arguments = _decoded(call.text)
            last = place == len(self._calls) - 1
            if arguments is not None and _NAME.fullmatch(call.name) and not (last and limited and not call.text):
                whole.append({"name": call.name, "arguments": _without_nulls(call.name, arguments, tools)})
            elif last and limited and _NAME.fullmatch(call.name):
                cut = f"\n<function={call.name}>\n{call.text}"
            else:
                broken.append(_as_text(call))
        return SettledCalls(tuple(whole), tuple(broken), cut)


def whole_calls(calls: Iterable[Any]) -> list[dict[str, Any]]:
    """The calls of a message that wasn't streamed, as fragments: each with an index of its own."""
    return [{**call, "index": place} for place, call in enumerate(calls) if isinstance(call, dict)]


def _as_text(call: _Call) -> str:
    name = json.dumps(call.name, ensure_ascii=False)
    return f'<tool_call>\n{{"name": {name}, "arguments": {call.text}}}\n</tool_call>'


def _decoded(text: str) -> dict[str, Any] | None:
    """Arguments as a mapping whose names our call format can hold; None: they are none."""
    if text.strip() in ("", "null"):
        return {}
    value: Any = text
    try:
        for _ in range(2):  # some hosts encode them twice
            if isinstance(value, str):
                value = _json(value)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or not all(map(_PARAMETER.fullmatch, value)):
        return None
    return value


def _json(text: str) -> Any:
    """A JSON value; raw control characters in texts and surplus closing braces behind it are forgiven."""
    value, end = json.JSONDecoder(strict=False).raw_decode(text.strip())
    if text.strip()[end:].strip().strip("}"):
        raise ValueError("text behind the value")
    return value


def _without_nulls(name: str, arguments: dict[str, Any], tools: ToolBook) -> dict[str, Any]:
    """The arguments without nulls that stand for leaving out: as text, `null` would be a value of a string."""
    spec = tools.spec(name)

    def stays(parameter: str, value: Any) -> bool:
        if value is not None:
            return True
        read = spec.convert(parameter, "null")
        return read.value is None and read.complaint is None

    return {parameter: value for parameter, value in arguments.items() if stays(parameter, value)}
