"""Messages and tool specs as the text that Qwen3.6 was trained on.

`render` gives, byte for byte, what the official chat template gives for every conversation that the template
accepts, and refuses (`ChatFormatError`) where the template raises. The smaller functions give the text of one
piece each: what a turn of the model looks like when it is canonical, and what is put between two turns.

Left out: tokens (`runtime.transcript`), reading what a model wrote (`runtime.tool_calls`), and numbers for
pictures (`add_vision_id`), which no caller of ours uses.

The template reads every field first as an attribute and then as a key, tests by truth, and treats what is
missing as empty. Those habits decide which odd conversations it accepts, so they are kept here (`_field`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

IM_START: Final = "<|im_start|>"
IM_END: Final = "<|im_end|>"
THINK_OPEN: Final = "<think>"
THINK_CLOSE: Final = "</think>"
TOOL_CALL_OPEN: Final = "<tool_call>"
TOOL_CALL_CLOSE: Final = "</tool_call>"
TOOL_RESPONSE_OPEN: Final = "<tool_response>"
TOOL_RESPONSE_CLOSE: Final = "</tool_response>"
IMAGE: Final = "<|vision_start|><|image_pad|><|vision_end|>"
VIDEO: Final = "<|vision_start|><|video_pad|><|vision_end|>"

GENERATION_PROMPT: Final = f"{IM_START}assistant\n{THINK_OPEN}\n"
GENERATION_PROMPT_WITHOUT_THINKING: Final = f"{GENERATION_PROMPT}\n{THINK_CLOSE}\n\n"

TOOLS_INTRODUCTION: Final = "# Tools\n\nYou have access to the following functions:\n\n<tools>"
CALL_INSTRUCTIONS: Final = """
</tools>

If you choose to call a function ONLY reply in the following format with NO suffix:

<tool_call>
<function=example_function_name>
<parameter=example_parameter_1>
value_1
</parameter>
<parameter=example_parameter_2>
This is the value for the second parameter
that can span
multiple lines
</parameter>
</function>
</tool_call>

<IMPORTANT>
Reminder:
- Function calls MUST follow the specified format: an inner <function=...></function> block must be nested \
within <tool_call></tool_call> XML tags
- Required parameters MUST be specified
- You may provide optional reasoning for your function call in natural language BEFORE the function call, \
but NOT after
- If there is no function call available, answer the question like normal with your current knowledge and do \
not tell the user about function calls
</IMPORTANT>"""

Body: TypeAlias = str | Sequence[Mapping[str, Any]]
"""What a tool gave: text, or OpenAI-style parts where there are pictures in it."""

_MISSING: Final = object()


class ChatFormatError(ValueError):
    """A conversation that the chat format has no form for; the message says which part and why."""


def render(
    messages: Sequence[Mapping[str, Any]],
    tools: Iterable[Any] | None = (),
    *,
    enable_thinking: bool = True,
    preserve_thinking: bool = True,
    add_generation_prompt: bool = True,
) -> str:
    """The whole conversation as one text, identical to the official template's.

    `messages` are OpenAI-style: `role`, `content` (text or parts), `reasoning_content`, `tool_calls` whose
    `arguments` are mappings. `preserve_thinking` keeps the thinking of every assistant turn, else only that
    after the last user query. Raises `ChatFormatError` where the template raises.
    """
    if not messages:
        raise ChatFormatError("There is nothing to render: No messages provided.")
    try:
        first, newest_first = messages[0], messages[::-1]
    except (TypeError, LookupError, AttributeError) as error:
        raise ChatFormatError("Messages must come as a list: No user query found in messages.") from error
    pieces = [_system_turn(first, tools)]
    last_query = len(messages) - 1 - _distance_of_last_query(newest_first)
    for index, message in enumerate(messages):
        with_thinking = preserve_thinking is True or index > last_query
        try:
            pieces.append(_turn(messages, index, message, with_thinking))
        except ChatFormatError as error:
            raise ChatFormatError(f"Message {index}: {error}") from error
    if add_generation_prompt:
        pieces.append(generation_prompt(enable_thinking))
    return "".join(pieces)


def generation_prompt(enable_thinking: bool = True) -> str:
    """What stands before a turn of the model; only exactly `False` turns thinking off, as in the template."""
    return GENERATION_PROMPT_WITHOUT_THINKING if enable_thinking is False else GENERATION_PROMPT


def canonical_turn(reasoning: str | None, content: str, calls: Iterable[Any] = ()) -> str:
    """What a model writes after the generation prompt, as `render` will repeat it, without `<|im_end|>`.

    `reasoning` None stands for a generation prompt without thinking. `calls` are mappings or objects with
    `name` and `arguments`, or with a `function` that has them.
    """
    return _model_turn(reasoning, content.strip(), calls)


def render_user(text: str) -> str:
    """A user turn, with the newline that follows its `<|im_end|>`; the text is trimmed."""
    return f"{IM_START}user\n{text.strip()}{IM_END}\n"


def render_tool_responses(bodies: Sequence[Body]) -> str:
    """The turn that answers the calls of one model turn, in their order; each body is trimmed."""
    return f"{IM_START}user" + "".join(_tool_response(_text(body)) for body in bodies) + f"{IM_END}\n"


def render_system(text: str, tools: Iterable[Any] = ()) -> str:
    """The system turn: the tool specs, how to call them, then the text; empty when there is neither."""
    return _system_turn({"role": "system", "content": text} if text else {}, tools)


def _model_turn(reasoning: str | None, content: str, calls: Iterable[Any]) -> str:
    thinking = "" if reasoning is None else f"{reasoning.strip()}\n{THINK_CLOSE}\n\n"
    blocks = "\n".join(_call(call) for call in calls)
    between = "\n\n" if blocks and content.strip() else ""
    return thinking + content + between + blocks


def _turn(messages: Sequence[Any], index: int, message: Any, with_thinking: bool) -> str:
    content = _text(_field(message, "content"))
    role = _field(message, "role")
    if role == "user":
        return render_user(content)
    if role == "assistant":
        return _assistant_turn(message, content, with_thinking)
    if role == "tool":
        return _tool_turn(messages, index, content)
    if role != "system":
        raise ChatFormatError("A role is system, user, assistant or tool: Unexpected message role.")
    if index:
        raise ChatFormatError("There is one system message at most: System message must be at the beginning.")
    return ""


def _system_turn(first: Any, tools: Iterable[Any] | None) -> str:
    specs = _elements(tools) if tools else None  # an iterator counts even when it is empty
    is_system = _field(first, "role") == "system"
    text = _text(_field(first, "content"), allow_pictures=False) if is_system else ""
    if specs is None:
        return f"{IM_START}system\n{text}{IM_END}\n" if is_system else ""
    listed = "".join("\n" + _json(spec, "A tool spec") for spec in specs)
    addition = "\n\n" + text if text else ""
    return f"{IM_START}system\n{TOOLS_INTRODUCTION}{listed}{CALL_INSTRUCTIONS}{addition}{IM_END}\n"


def _assistant_turn(message: Any, content: str, with_thinking: bool) -> str:
    reasoning = _field(message, "reasoning_content")
    if not isinstance(reasoning, str):
        reasoning, content = _split_thinking(content)
    calls = _field(message, "tool_calls")
    listed = _elements(calls) if calls else None
    opening = GENERATION_PROMPT if with_thinking else f"{IM_START}assistant\n"
    turn = _model_turn(reasoning if with_thinking else None, content, listed or ())
    return f"{opening}{turn}{IM_END}\n"


def _split_thinking(content: str) -> tuple[str, str]:
    """Thinking that a client left in the content: what is before the first and after the last end mark."""
    before, mark, _ = content.partition(THINK_CLOSE)
    if not mark:
        return "", content
    return before.rpartition(THINK_OPEN)[2], content.rpartition(THINK_CLOSE)[2].lstrip("\n")


def _tool_turn(messages: Sequence[Any], index: int, content: str) -> str:
    """One response; neighbours share a user turn. A response that comes first of all gets no opening."""
    before = messages[index - 1] if index else None
    opening = f"{IM_START}user" if before and _field(before, "role") != "tool" else ""
    is_last = index == len(messages) - 1
    closing = f"{IM_END}\n" if is_last or _field(messages[index + 1], "role") != "tool" else ""
    return opening + _tool_response(content) + closing


def _tool_response(body: str) -> str:
    return f"\n{TOOL_RESPONSE_OPEN}\n{body}\n{TOOL_RESPONSE_CLOSE}"


def _call(call: Any) -> str:
    function = _field(call, "function")
    if function is not _MISSING:
        call = function
    name = _field(call, "name")
    if not isinstance(name, str):
        raise ChatFormatError("A tool call needs a `name` that is text.")
    parameters = "".join(_parameter(key, value) for key, value in _arguments(call))
    return TOOL_CALL_OPEN + "\n<function=" + name + ">\n" + parameters + "</function>\n" + TOOL_CALL_CLOSE


def _arguments(call: Any) -> Iterable[tuple[Any, Any]]:
    arguments = _field(call, "arguments")
    if arguments is _MISSING:
        return ()
    if not isinstance(arguments, Mapping):
        raise ChatFormatError(
            f"The arguments of a tool call must be a mapping, not {type(arguments).__name__}; "
            "decode JSON text first: Can only get item pairs from a mapping."
        )
    return arguments.items()


def _parameter(name: Any, value: Any) -> str:
    if not isinstance(name, str):
        raise ChatFormatError(f"An argument's name must be text, not {type(name).__name__}.")
    text = str(value) if isinstance(value, str) else _json(value, "An argument")
    return "<parameter=" + name + ">\n" + text + "\n</parameter>\n"


def _distance_of_last_query(newest_first: Iterable[Any]) -> int:
    """How many messages follow the last user message that isn't tool responses written as a user message."""
    for distance, message in enumerate(newest_first):
        if _field(message, "role") == "user":
            text = _text(_field(message, "content"))
            if not (text.startswith(TOOL_RESPONSE_OPEN) and text.endswith(TOOL_RESPONSE_CLOSE)):
                return distance
    raise ChatFormatError("A conversation needs a message of the user: No user query found in messages.")


def _text(content: Any, *, allow_pictures: bool = True) -> str:
    """Content as trimmed text, pictures as placeholders."""
    if isinstance(content, str):
        return str(content).strip()
    if content is None or content is _MISSING:
        return ""
    parts = _elements(content)
    if parts is None:
        raise ChatFormatError(
            f"Content must be text or a list of parts, not {type(content).__name__}: Unexpected content type."
        )
    return "".join(_part(part, allow_pictures) for part in parts).strip()


def _part(part: Any, allow_pictures: bool) -> str:
    kind = _field(part, "type")
    try:
        is_image = "image" in part or "image_url" in part or kind == "image"
        is_video = not is_image and ("video" in part or kind == "video")
        is_text = not is_image and not is_video and "text" in part
    except TypeError:  # nothing can be "in" a number
        is_image = is_video = is_text = False
    if (is_image or is_video) and not allow_pictures:
        named = "images" if is_image else "videos"
        raise ChatFormatError(f"Give pictures in a user message: System message cannot contain {named}.")
    if is_image or is_video:
        return IMAGE if is_image else VIDEO
    if not is_text:
        raise ChatFormatError("A part must be a text, an image or a video: Unexpected item type in content.")
    text = _field(part, "text")
    return "" if text is _MISSING else str(text)


def _field(owner: Any, name: str) -> Any:
    """An attribute, else a key, else `_MISSING`."""
    try:
        return getattr(owner, name)
    except AttributeError:
        try:
            return owner[name]
        except (TypeError, LookupError):
            return _MISSING


def _elements(value: Any) -> Iterator[Any] | None:
    """An iterator over anything that can be iterated except a mapping, else None."""
    if isinstance(value, Mapping):
        return None
    try:
        elements: Iterator[Any] | None = iter(value)
    except TypeError:
        elements = None
    return elements


def _json(value: Any, what: str) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ChatFormatError(f"{what} can't be written as JSON: {error}.") from error
