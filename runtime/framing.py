"""Token ids of rendered text in which only our framing is special, whatever the text inside of it spells.

`runtime.chat` decides the text. Here the same conversation is rendered a second time with the contents blanked
out at the same length: every special token that is spelled in this outline stands for framing, and every one that
is spelled in the text only comes from a user, a tool or a file and becomes ordinary tokens.

Left out: the order in which things are said (`runtime.transcript`), and turns of the model, whose ids are kept as
the model wrote them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from runtime import chat
from runtime.chat import ChatFormatError
from runtime.tokenizer import Tokenizer

_FRAMING: Final = re.compile(
    r"<\|im_start\|>|<\|im_end\|>|</?think>|</?tool_call>|</?tool_response>"
    r"|<\|vision_start\|>|<\|vision_end\|>|<\|image_pad\|>|<\|video_pad\|>"
)
_THINK_MARK: Final = re.compile(f"({chat.THINK_OPEN}|{chat.THINK_CLOSE})")
_PICTURE_KEYS: Final = ("image", "image_url", "video")

Hide = Callable[[str], str]
"""Text to text of the same length in which no special token can begin."""


def prompt_ids(
    tokenizer: Tokenizer,
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]] = (),
    *,
    enable_thinking: bool = True,
) -> list[int]:
    """A whole conversation up to the model's next turn; decodes to what `chat.render` gives.

    Messages are dicts as `chat.render` takes them, without odd shapes. Raises `ChatFormatError`.
    """

    def rendered(messages: Sequence[Mapping[str, Any]], tools: Sequence[Any]) -> str:
        return chat.render(messages, tools, enable_thinking=enable_thinking, preserve_thinking=True)

    text = rendered(messages, tools)
    hide = _hiding(text)
    outline = rendered([_message(message, hide) for message in messages], [_json_outline(tool) for tool in tools])
    return _encode(tokenizer, text, outline)


def observation_ids(tokenizer: Tokenizer, texts: Sequence[chat.Body], *, enable_thinking: bool = True) -> list[int]:
    """What follows a turn of the model that called tools: one response per text, then the generation prompt.

    A response with pictures comes as parts.
    """
    return _after_turn(tokenizer, chat.render_tool_responses, texts, enable_thinking)


def user_ids(
    tokenizer: Tokenizer, text: str, answers: Sequence[chat.Body] = (), *, enable_thinking: bool = True
) -> list[int]:
    """What follows a turn of the model when the user speaks next, up to the generation prompt.

    Before it come the `answers` to the turn's calls, if it had any.
    """

    def rendered(bodies: Sequence[chat.Body]) -> str:
        before = chat.render_tool_responses(bodies[:-1]) if answers else ""
        return before + chat.render_user(str(bodies[-1]))

    return _after_turn(tokenizer, rendered, [*answers, text], enable_thinking)


def _after_turn(
    tokenizer: Tokenizer,
    rendered: Callable[[Sequence[chat.Body]], str],
    bodies: Sequence[chat.Body],
    enable_thinking: bool,
) -> list[int]:
    text = rendered(bodies)
    hide = _hiding(text)
    outline = rendered([_content(body, hide) for body in bodies])
    prompt = chat.generation_prompt(enable_thinking)
    return _encode(tokenizer, f"\n{text}{prompt}", f"\n{outline}{prompt}")


def _encode(tokenizer: Tokenizer, text: str, outline: str) -> list[int]:
    """All between two special tokens is encoded in one piece, as a tokenizer does with the whole text."""
    if len(text) != len(outline):
        raise ChatFormatError(
            f"The conversation renders to {len(text)} characters and its outline to {len(outline)}; "
            "use plain dicts, lists and strings without repeated keys in messages and tools."
        )
    ids: list[int] = []
    done = 0
    for mark in _FRAMING.finditer(outline):
        ids += tokenizer.encode(text[done : mark.start()])
        ids.append(tokenizer.special(mark[0]))
        done = mark.end()
    return ids + tokenizer.encode(text[done:])


def _hiding(text: str) -> Hide:
    """Replaces `<`, with which every special token begins, by a character that the text doesn't have."""
    blank = next(mark for mark in map(chr, range(0xE000, 0x110000)) if mark not in text)
    return lambda part: part.replace("<", blank)


def _message(message: Mapping[str, Any], hide: Hide) -> dict[str, Any]:
    if not isinstance(message, dict):
        raise ChatFormatError(f"A message of a prompt is a dict, not {type(message).__name__}.")
    role, content, reasoning = message["role"], message.get("content"), message.get("reasoning_content")
    outline: dict[str, Any] = {"role": role}
    if isinstance(reasoning, str):
        outline["reasoning_content"] = hide(reasoning)
        outline["content"] = _content(content, hide)
    elif role == "assistant":
        outline["content"] = _hide_around_thinking(_plain_text(content), hide)
    else:
        outline["content"] = _content(content, hide)
    if calls := message.get("tool_calls"):
        outline["tool_calls"] = [_call(call, hide) for call in _listed(calls, "tool calls")]
    return outline


def _content(content: Any, hide: Hide) -> Any:
    if content is None or isinstance(content, str):
        return hide(content or "")
    return [_part(part, hide) for part in _listed(content, "parts")]


def _part(part: Any, hide: Hide) -> dict[str, Any]:
    if not isinstance(part, dict):
        raise ChatFormatError(f"A part of a message is a dict, not {type(part).__name__}.")
    outline = {key: True for key in _PICTURE_KEYS if key in part}
    return outline | {"type": part.get("type"), "text": hide(str(part.get("text", "")))}


def _plain_text(content: Any) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    parts = _listed(content, "parts")
    if any(not isinstance(part, dict) or not isinstance(part.get("text"), str) for part in parts):
        raise ChatFormatError("The parts of an assistant's message are texts.")
    return "".join(part["text"] for part in parts)


def _hide_around_thinking(text: str, hide: Hide) -> str:
    """Thinking that was left in the content is found by its marks, so those up to its end must stay."""
    head, end, tail = text.rpartition(chat.THINK_CLOSE)
    marked = (part if index % 2 else hide(part) for index, part in enumerate(_THINK_MARK.split(head)))
    return "".join(marked) + end + hide(tail)


def _call(call: Any, hide: Hide) -> dict[str, Any]:
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict):
        raise ChatFormatError("A tool call is a dict with `name` and `arguments`, or with a `function` of these.")
    arguments = function.get("arguments", {})
    return {
        "name": hide(function["name"]),
        "arguments": {hide(name): _value(value, hide) for name, value in arguments.items()},
    }


def _value(value: Any, hide: Hide) -> str:
    return hide(value) if isinstance(value, str) else "-" * len(json.dumps(value, ensure_ascii=False))


def _json_outline(tool: Any) -> str | int:
    """Something that takes as much room as JSON as the spec does and spells nothing."""
    length = len(json.dumps(tool, ensure_ascii=False))
    return "-" * (length - 2) if length > 1 else 0


def _listed(value: Any, what: str) -> Iterable[Any]:
    if not isinstance(value, list | tuple):
        raise ChatFormatError(f"The {what} of a message come as a list, not {type(value).__name__}.")
    return value
