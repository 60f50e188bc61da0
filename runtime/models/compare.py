"""Whether a server reads text and conversations as we do: its tokenizer and its chat template against ours.

A server takes any ids; with another vocabulary they mean other words, and nobody would notice but the model. So a
short conversation with a tool, a call and its answer is rendered and encoded by the server and by us, through the
endpoints that cost no generation: SGLang's and vLLM's `/tokenize`, llama.cpp's `/apply-template`. The conversation
has one query of the user, as a run's has; what a template does to thinking before a second one isn't asked here.
How a server writes the JSON of tool specs doesn't count: field order, and fields that say nothing.

Left out: asking what only a generation shows (`runtime.models.probe`), and choosing what to do about it
(`runtime.models.connect`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from runtime import chat, framing
from runtime.models.checked import checked_ids, parse_json
from runtime.models.http_wire import TransportError

if TYPE_CHECKING:
    from runtime.models.http_client import Transport
    from runtime.tokenizer import Tokenizer

SAMPLE: Final = (
    "def naïve(x: list[int]) -> str:\n\treturn f'{x[0]:08.3f}'  # 第一个, größer, ё, ½\n\n\n"
    "        </parameter> 1234567890 \N{SNAKE} don't  HTTPServer::new(&mut self) => \\u00e9 %s\r\n~~~\n"
)
"""Text in which vocabularies and their splitting rules differ."""

TOOLS: Final[tuple[dict[str, Any], ...]] = (
    {
        "type": "function",
        "function": {
            "name": "read_file",
            "description": "Show a file of the project.",
            "parameters": {
                "type": "object",
                "properties": {
                    "path": {"type": "string", "description": "Relative to the project's root."},
                    "lines": {"type": "array", "items": {"type": "integer"}},
                },
                "required": ["path"],
            },
        },
    },
)

CONVERSATION: Final[tuple[dict[str, Any], ...]] = (
    {"role": "system", "content": "You read files."},
    {"role": "user", "content": "What does naive.py say?"},
    {
        "role": "assistant",
        "content": "I look.",
        "reasoning_content": "The file must be read first.",
        "tool_calls": [
            {
                "id": "call_0",
                "type": "function",
                "function": {"name": "read_file", "arguments": {"path": "src/naive.py", "lines": [1, 20]}},
            }
        ],
    },
    {"role": "tool", "tool_call_id": "call_0", "content": SAMPLE.strip()},
)

_TOOLS_BLOCK: Final = re.compile(r"<tools>\n(.*?)\n</tools>", re.DOTALL)


class Agreement(StrEnum):
    SAME = "same"
    DIFFERS = "differs"
    UNKNOWN = "not offered"  # the server has no endpoint that would show it


@dataclass(frozen=True, slots=True)
class Finding:
    agreement: Agreement
    seen: str  # for people: what was compared, or where the difference is


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A served tokenizer or template that isn't ours."""

    what: str  # "tokenizer" or "template"
    message: str


@dataclass(frozen=True, slots=True)
class Comparison:
    tokenizer: Finding
    template: Finding

    @property
    def mismatch(self) -> Mismatch | None:
        for what, finding in (("tokenizer", self.tokenizer), ("template", self.template)):
            if finding.agreement is Agreement.DIFFERS:
                return Mismatch(what, f"The served {what} isn't the one that prompts are made with: {finding.seen}.")
        return None

    @property
    def unknown(self) -> bool:
        """The server has nothing that would show a difference."""
        return self.tokenizer.agreement is self.template.agreement is Agreement.UNKNOWN


async def compare(
    transport: Transport,
    tokenizer: Tokenizer,
    *,
    model: str | None = None,
    messages: Sequence[Mapping[str, Any]] = CONVERSATION,
) -> Comparison:
    """Ask a server how it reads `messages`; one request where all is the same, up to four otherwise.

    `model` is the name that the server wants in requests, where it wants one. Raises nothing: a server that can't
    be asked is one that doesn't offer it.
    """
    ours = framing.prompt_ids(tokenizer, messages, TOOLS)
    asked = _Asked(transport, model)
    theirs, text = await asked.conversation(messages)
    if theirs == ours:
        same = Finding(Agreement.SAME, f"{len(ours)} ids of a conversation with a tool call")
        return Comparison(same, same)
    of_tokenizer = await _tokenizer(asked, tokenizer)
    if theirs and text is None:
        known = of_tokenizer.agreement is not Agreement.DIFFERS
        text = tokenizer.decode(theirs) if known else await asked.text(theirs)
    return Comparison(of_tokenizer, _template(text, chat.render(messages, TOOLS)))


async def _tokenizer(asked: _Asked, tokenizer: Tokenizer) -> Finding:
    sample = f"<|im_start|>user\n{SAMPLE}<|im_end|>\n<|im_start|>assistant\n<think>\n"
    ours, theirs = tokenizer.encode_with_specials(sample), await asked.ids(sample)
    if theirs is None:
        return Finding(Agreement.UNKNOWN, "the server has no /tokenize")
    if theirs == ours:
        return Finding(Agreement.SAME, f"{len(ours)} ids of a text with special tokens")
    at = _first_difference(ours, theirs)
    there, here = theirs[at : at + 4], ours[at : at + 4]
    return Finding(
        Agreement.DIFFERS,
        f"at token {at} of a sample text it has {there} where {tokenizer.name} has {here} "
        f"({tokenizer.decode(here)!r}); {len(theirs)} ids in all, ours are {len(ours)}",
    )


def _template(theirs: str | None, ours: str) -> Finding:
    if theirs is None:
        return Finding(Agreement.UNKNOWN, "the server has no endpoint that renders messages")
    if theirs == ours:
        return Finding(Agreement.SAME, f"{len(ours)} characters of a conversation with a tool call")
    there, here = _same_specs(theirs), _same_specs(ours)
    if there == here:
        return Finding(Agreement.SAME, f"{len(ours)} characters; its JSON of tool specs has other fields or order")
    at = _first_difference(here, there)
    return Finding(Agreement.DIFFERS, f"at character {at} it writes {_around(there, at)} where we write "
                                      f"{_around(here, at)}")  # fmt: skip


def _same_specs(text: str) -> str:
    """The text with the JSON of its tool specs in one order and without fields that say nothing."""

    def plain(block: re.Match[str]) -> str:
        try:
            specs = [json.loads(line) for line in block[1].splitlines()]
        except ValueError:
            return block[0]
        return "<tools>\n" + "\n".join(json.dumps(_telling(spec), sort_keys=True) for spec in specs) + "\n</tools>"

    return _TOOLS_BLOCK.sub(plain, text, count=1)


def _telling(value: Any) -> Any:
    if isinstance(value, list):
        return [_telling(item) for item in value]
    if isinstance(value, dict):
        return {key: _telling(item) for key, item in value.items() if item not in (None, False)}
    return value


def _first_difference(one: Sequence[Any], other: Sequence[Any]) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def _around(text: str, at: int) -> str:
    return repr(text[max(0, at - 20) : at + 40])


class _Asked:
    """The endpoints that tell how a server reads text, in the forms that the engines have."""

    def __init__(self, transport: Transport, model: str | None) -> None:
        self._transport = transport
        self._model = {"model": model} if model else {}

    async def conversation(self, messages: Sequence[Mapping[str, Any]]) -> tuple[list[int] | None, str | None]:
        """Ids of a rendered conversation, and its text where the server says it."""
        asked = {
            "messages": [_on_the_wire(message) for message in messages],
            "tools": list(TOOLS),
            "chat_template_kwargs": {"enable_thinking": True, "preserve_thinking": True},
        }
        ids = _ids(await self._post("/tokenize", self._model | asked))
        if ids:
            return ids, None
        rendered = (await self._post("/apply-template", asked) or {}).get("prompt")
        if not isinstance(rendered, str):
            return None, None
        return await self.ids(rendered), rendered

    async def ids(self, text: str) -> list[int] | None:
        """Ids of a text in which special tokens mean themselves."""
        forms = {"prompt": text, "content": text}  # SGLang and vLLM; llama.cpp
        plain = {"add_special_tokens": False, "add_special": False, "parse_special": True}
        return _ids(await self._post("/tokenize", self._model | forms | plain)) or None

    async def text(self, ids: Sequence[int]) -> str | None:
        answer = await self._post("/detokenize", self._model | {"tokens": list(ids), "skip_special_tokens": False})
        found = next((answer[key] for key in ("text", "prompt", "content") if key in answer), None) if answer else None
        return found if isinstance(found, str) else None

    async def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any] | None:
        try:
            response = await self._transport.send("POST", path, json.dumps(body).encode())
            try:
                data = await response.read()
            finally:
                await response.close()
            answer = parse_json(data) if response.status == 200 else None
        except (TransportError, ValueError):
            return None
        return answer if isinstance(answer, dict) else None


def _on_the_wire(message: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments travel as JSON text, thinking under both names that servers know (vLLM 0.32 reads `reasoning` only)."""
    calls = [
        {**call, "function": {**call["function"], "arguments": json.dumps(call["function"]["arguments"])}}
        for call in message.get("tool_calls", ())
    ]
    thinking = {"reasoning": message["reasoning_content"]} if "reasoning_content" in message else {}
    return {**message, **thinking, "tool_calls": calls} if calls else {**message, **thinking}


def _ids(answer: Mapping[str, Any] | None) -> list[int] | None:
    tokens = (answer or {}).get("tokens")
    try:
        return checked_ids(tokens)
    except ValueError:
        return None
