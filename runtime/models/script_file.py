"""Script files: what the scripted model server says, turn by turn (format: `docs/scripted-model.md`).

`load_script` reads JSON (a script, or a list of turns) or JSONL (a turn per line); `parse_script` takes the same
as Python values. Everything is checked here and once, so that the server needs no checks; a bad file ends in a
`ScriptError` that names the turn and says what to write. What is left out: tokens and serving.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, TypeVar

from runtime.prefix import CacheRules, Strategy

_Chosen = TypeVar("_Chosen", bound=StrEnum)
MAX_TURNS: Final = 100_000  # of one conversation, repetitions counted
DEFAULT_FAULT_MESSAGE: Final = "a fault that the script asked for"


class ScriptError(ValueError):
    """A script that can't be served: where the mistake is and what to write instead."""


class After(StrEnum):
    """What comes when a conversation has had all its turns."""

    ERROR = "error"  # refuse the request (410), so that a test never goes on by accident
    STOP = "stop"  # an empty turn
    REPEAT_LAST = "repeat_last"  # the last turn again


class FaultKind(StrEnum):
    CUT = "cut"  # close the connection after `tokens` tokens
    HTTP = "http"  # answer with `status`
    SLOW = "slow"  # `seconds` before every token
    STALL = "stall"  # say nothing for `seconds` after `tokens` tokens, then go on
    LENGTH = "length"  # end after `tokens` tokens, finish reason `length`
    GARBAGE = "garbage"  # after `tokens` tokens, bytes that aren't the protocol
    EMPTY = "empty"  # an answer without anything in it
    ABORT = "abort"  # after `tokens` tokens, the server itself ends the request, for the reason `status` (503)


@dataclass(frozen=True, slots=True)
class Fault:
    kind: FaultKind
    times: int = 1  # requests of the turn that are hit before it is served normally; -1: every one
    tokens: int = 0
    seconds: float = 0.0
    status: int = 500
    retry_after: float | None = None
    message: str = DEFAULT_FAULT_MESSAGE


@dataclass(frozen=True, slots=True, eq=False)
class ScriptTurn:
    """What the model writes in one turn: `text` as it stands, else the canonical form of the other three."""

    text: str | None = None
    reasoning: str = ""
    content: str = ""
    calls: tuple[Mapping[str, Any], ...] = ()  # each with `name` and `arguments`
    repeat: int = 1
    ends_by_length: bool = False
    usage: Mapping[str, int] = field(default_factory=dict)
    cost: float | None = None  # US dollars, in chat answers
    when_closed: str | None = None  # what comes behind a `</think>` that somebody else wrote into the open turn
    when_constrained: str | None = None  # what the model writes instead, under a structural tag
    expect: tuple[str, ...] = ()  # must occur in the prompt
    expect_new: tuple[str, ...] = ()  # must occur behind the model's previous turn
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns for the prompts whose first user message holds `match`; repetitions are already unrolled."""

    turns: tuple[ScriptTurn, ...]
    match: str = ""
    after: After = After.ERROR


class Reading(StrEnum):
    """How the server reads text."""

    QWEN = "qwen3.6"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Script:
    conversations: tuple[Conversation, ...]  # the first that matches is served
    name: str = "scripted"
    context_length: int = 262_144
    token_delay: float = 0.0  # seconds before every token
    cache: CacheRules = field(default_factory=lambda: CacheRules(Strategy.TOKENS))
    pool_tokens: int = 4_000_000
    pool_states: int | None = None
    lasting_cache: bool = False  # earlier turns of a prompt count as served, also those before a restart
    tokenizer: Reading = Reading.QWEN
    template: Reading = Reading.QWEN


def load_script(path: Path) -> Script:
    """The script in a `.json` or `.jsonl` file. Raises `ScriptError`, also for a file that can't be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ScriptError(f"The script {path} can't be read ({error}); give a JSON or JSONL file.") from error
    try:
        return parse_script(_decode(text, lines=path.suffix == ".jsonl"))
    except ScriptError as error:
        raise ScriptError(f"{path}: {error}") from error


def parse_script(value: Any) -> Script:
    """A script from a mapping, or from a list of turns. Raises `ScriptError`."""
    if isinstance(value, Script):
        return value
    if isinstance(value, list):
        value = {"turns": value}
    fields = _Fields(value, "the script")
    after = fields.choice("after", After, After.ERROR)
    conversations = [
        _conversation(part, f"conversations[{index}]", after)
        for index, part in enumerate(fields.items("conversations"))
    ]
    if fields.has("turns") or not conversations:
        conversations.append(Conversation(_turns(fields.items("turns"), "turns"), after=after))
    script = Script(
        conversations=tuple(conversations),
        name=fields.text("name", "scripted"),
        context_length=fields.integer("context_length", 262_144, least=1),
        token_delay=fields.number("token_delay", 0.0),
        cache=_cache(fields.mapping("cache")),
        pool_tokens=fields.integer("pool_tokens", 4_000_000, least=1),
        pool_states=fields.integer("pool_states", 1, least=1) if fields.has("pool_states") else None,
        lasting_cache=fields.truth("lasting_cache"),
        tokenizer=fields.choice("tokenizer", Reading, Reading.QWEN),
        template=fields.choice("template", Reading, Reading.QWEN),
    )
    fields.end()
    return script


def _cache(value: Mapping[str, Any]) -> CacheRules:
    fields = _Fields(value, "`cache`")
    rules = CacheRules(
        fields.choice("strategy", Strategy, Strategy.TOKENS),
        page=fields.integer("page", 1, least=1),
        prefill_grid=fields.integer("prefill_grid", 64, least=1),
        decode_interval=fields.integer("decode_interval", 256, least=1),
        prefill_chunk=fields.integer("prefill_chunk", 8192, least=1) if fields.has("prefill_chunk") else None,
    )
    fields.end()
    return rules


def _decode(text: str, *, lines: bool) -> Any:
    if not lines:
        try:
            return json.loads(text)
        except ValueError as error:
            raise ScriptError(f"not JSON: {error}. A file of one turn per line must end in .jsonl.") from error
    turns = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            try:
                turns.append(json.loads(line))
            except ValueError as error:
                raise ScriptError(f"line {number} is not JSON: {error}.") from error
    return turns


def _conversation(value: Any, where: str, after: After) -> Conversation:
    fields = _Fields(value, where)
    conversation = Conversation(
        turns=_turns(fields.items("turns"), f"{where}.turns"),
        match=fields.text("match", ""),
        after=fields.choice("after", After, after),
    )
    fields.end()
    return conversation


def _turns(values: list[Any], where: str) -> tuple[ScriptTurn, ...]:
    if not values:
        raise ScriptError(f'`{where}` needs at least one turn, for example {{"text": "Done."}}.')
    unrolled: list[ScriptTurn] = []
    for index, value in enumerate(values):
        turn = _turn(value, f"{where}[{index}]")
        if len(unrolled) + turn.repeat > MAX_TURNS:
            raise ScriptError(f"`{where}` has more than {MAX_TURNS} turns with its repetitions.")
        unrolled.extend([turn] * turn.repeat)
    return tuple(unrolled)


def _turn(value: Any, where: str) -> ScriptTurn:
    fields = _Fields(value, where)
    text = fields.text("text", "") if fields.has("text") else None
    if text is not None and any(fields.has(name) for name in ("reasoning", "content", "calls")):
        raise ScriptError(
            f"{where}: give either `text` (exactly what the model writes) or "
            "`reasoning`, `content` and `calls`, not both."
        )
    if text is not None and "<|im_end|>" in text:
        raise ScriptError(f"{where}: leave <|im_end|> out of `text`; the server ends the turn itself.")
    turn = ScriptTurn(
        text=text,
        reasoning=fields.text("reasoning", ""),
        content=fields.text("content", ""),
        calls=tuple(_call(call, f"{where}.calls[{n}]") for n, call in enumerate(fields.items("calls"))),
        repeat=fields.integer("repeat", 1, least=1),
        ends_by_length=fields.choice("finish", _Finish, _Finish.STOP) is _Finish.LENGTH,
        usage=_usage(fields.mapping("usage"), f"{where}.usage"),
        cost=fields.number("cost", 0) if fields.has("cost") else None,
        when_closed=fields.text("when_closed", "") if fields.has("when_closed") else None,
        when_constrained=fields.text("when_constrained", "") if fields.has("when_constrained") else None,
        expect=fields.texts("expect"),
        expect_new=fields.texts("expect_new"),
        faults=tuple(_fault(item, f"{where}.faults[{n}]") for n, item in enumerate(fields.items("faults"))),
    )
    fields.end()
    if text is None and not (turn.reasoning or turn.content or turn.calls):
        raise ScriptError(f"{where} is empty: give `text`, or some of `reasoning`, `content` and `calls`.")
    return turn


class _Finish(StrEnum):
    STOP = "stop"
    LENGTH = "length"


def _call(value: Any, where: str) -> Mapping[str, Any]:
    fields = _Fields(value, where)
    call = {"name": fields.text("name", ""), "arguments": fields.mapping("arguments")}
    fields.end()
    if not call["name"]:
        raise ScriptError(f"{where}: `name` is missing; it is the tool's name, for example bash.")
    return call


def _usage(value: Mapping[str, Any], where: str) -> Mapping[str, int]:
    fields = _Fields(value, where)
    names = ("prompt_tokens", "cached_tokens")
    usage = {name: fields.integer(name, 0, least=0) for name in names if fields.has(name)}
    fields.end()
    return usage


def _fault(value: Any, where: str) -> Fault:
    fields = _Fields(value, where)
    if not fields.has("kind"):
        raise ScriptError(f"{where}: `kind` is missing; it is one of {', '.join(FaultKind)}.")
    always = fields.get("times") == "always"
    kind = fields.choice("kind", FaultKind, FaultKind.CUT)
    fault = Fault(
        kind=kind,
        times=-1 if always else fields.integer("times", 1, least=1),
        tokens=fields.integer("tokens", 0, least=0),
        seconds=fields.number("seconds", 0.0),
        status=fields.integer("status", 503 if kind is FaultKind.ABORT else 500, least=400),
        retry_after=fields.number("retry_after", 0.0) if fields.has("retry_after") else None,
        message=fields.text("message", DEFAULT_FAULT_MESSAGE),
    )
    fields.end()
    if fault.status > 599:
        raise ScriptError(f"{where}: `status` is an HTTP error from 400 to 599, not {fault.status}.")
    return fault


class _Fields:
    """The fields of one JSON object, each asked for once by its type; `end` refuses those nobody asked for."""

    def __init__(self, value: Any, where: str) -> None:
        if not isinstance(value, Mapping):
            raise ScriptError(f"{where} must be a JSON object, not {_named(value)}.")
        self._value = value
        self._where = where
        self._known: set[str] = set()

    def has(self, name: str) -> bool:
        self._known.add(name)
        return name in self._value

    def get(self, name: str) -> Any:
        self._known.add(name)
        return self._value.get(name)

    def text(self, name: str, default: str) -> str:
        value: str = self._typed(name, default, "a text", lambda given: isinstance(given, str))
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """A text or a list of texts."""
        value = self._typed(
            name,
            [],
            "a text or a list of texts",
            lambda given: (
                isinstance(given, str) or (isinstance(given, list) and all(isinstance(part, str) for part in given))
            ),
        )
        return (value,) if isinstance(value, str) else tuple(value)

    def integer(self, name: str, default: int, *, least: int) -> int:
        value: int = self._typed(
            name,
            default,
            f"a whole number of at least {least}",
            lambda given: isinstance(given, int) and not isinstance(given, bool) and given >= least,
        )
        return value

    def number(self, name: str, default: float) -> float:
        value: float = self._typed(
            name,
            default,
            "a number of at least 0",
            lambda given: isinstance(given, int | float) and not isinstance(given, bool) and given >= 0,
        )
        return value

    def truth(self, name: str) -> bool:
        value: bool = self._typed(name, False, "true or false", lambda given: isinstance(given, bool))
        return value

    def items(self, name: str) -> list[Any]:
        value: list[Any] = self._typed(name, [], "a list", lambda given: isinstance(given, list))
        return value

    def mapping(self, name: str) -> Mapping[str, Any]:
        value: Mapping[str, Any] = self._typed(name, {}, "a JSON object", lambda given: isinstance(given, Mapping))
        return value

    def choice(self, name: str, kind: type[_Chosen], default: _Chosen) -> _Chosen:
        value = self.text(name, default.value)
        try:
            return kind(value)
        except ValueError as error:
            raise ScriptError(f"{self._where}: `{name}` is {value!r}; write one of {', '.join(kind)}.") from error

    def end(self) -> None:
        strangers = sorted(set(self._value) - self._known)
        if strangers:
            raise ScriptError(
                f"{self._where}: unknown field {strangers[0]!r}; the fields are {', '.join(sorted(self._known))}."
            )

    def _typed(self, name: str, default: Any, wanted: str, fits: Callable[[Any], bool]) -> Any:
        self._known.add(name)
        value = self._value.get(name, default)
        if not fits(value):
            raise ScriptError(f"{self._where}: `{name}` must be {wanted}, not {_named(value)}.")
        return value


def _named(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), repr(value))
