"""A conversation as the body of a chat request, in the dialect of its host.

`reasoning_content` (or what the host calls it) goes back on every assistant turn, and the host is told to keep it.
A `tool_choice` is never sent: hosts refuse one while thinking. Left out: reading the ids (`runtime.conversation`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from runtime.models.base import Image, ModelRefused, Sampling
from runtime.models.chat_dialects import Dialect, Thinking
from runtime.models.pictures import data_url

if TYPE_CHECKING:
    from runtime.conversation import Conversation


def request_body(
    conversation: Conversation,
    sampling: Sampling,
    *,
    model: str,
    dialect: Dialect,
    max_tokens: int,
    images: Sequence[Image] = (),
) -> dict[str, Any]:
    """What is sent for the conversation's open turn. Raises ModelRefused where a picture is missing."""
    body: dict[str, Any] = {
        "model": model,
        "messages": wire_messages(conversation.messages, dialect, images),
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": max_tokens,
    }
    if conversation.tools:
        body["tools"] = list(conversation.tools)
    for ours, theirs in dialect.sampling.items():
        value = getattr(sampling, ours)
        if value is not None:
            body[theirs] = value
    if dialect.usage_cost:
        body["usage"] = {"include": True}
    return body | _thinking(dialect, conversation.thinking, sampling.thinking_budget)


def wire_messages(
    messages: Sequence[Mapping[str, Any]], dialect: Dialect, images: Sequence[Image] = ()
) -> list[dict[str, Any]]:
    """Messages with arguments as JSON text, pictures as data, and thinking under the host's names for it.

    `images` belong to the parts `{"type": "image"}` in order. Raises ModelRefused where their numbers differ.
    """
    pictures = iter(images)
    wired: list[dict[str, Any]] = []
    aside: list[dict[str, Any]] = []  # what tools showed, for hosts that take it from users only
    for message in messages:
        if aside and message["role"] != "tool":
            wired.append({"role": "user", "content": aside})
            aside = []
        made = _message(message, dialect, pictures)
        if message["role"] == "tool" and not dialect.pictures_in_tools:
            made["content"] = _without_pictures(made["content"], aside)
        wired.append(made)
    if aside:
        wired.append({"role": "user", "content": aside})
    if next(pictures, None) is not None:
        raise ModelRefused(f"The request has more pictures ({len(images)}) than its prompt has places for.")
    return wired


def _without_pictures(content: Any, aside: list[dict[str, Any]]) -> str:
    """A tool's answer as text; its pictures go to those that are put aside, each under a name."""
    if isinstance(content, str):
        return content
    texts: list[str] = []
    for part in content:
        if part["type"] == "text":
            texts.append(part["text"])
            continue
        name = f"[picture {len(aside) // 2 + 1} of these answers]"
        aside += [{"type": "text", "text": name}, part]
        texts.append(name)
    return "\n".join(text for text in texts if text.strip())


def _message(message: Mapping[str, Any], dialect: Dialect, pictures: Iterator[Image]) -> dict[str, Any]:
    wired = {**message, "content": _content(message["content"], pictures)}
    if message["role"] != "assistant":
        return wired
    thought = wired.pop("reasoning_content", "")
    wired |= dict.fromkeys(dialect.thinking_back, thought)
    if dialect.thinking_details and thought:
        wired["reasoning_details"] = [{"type": "reasoning.text", "text": thought, "index": 0}]
    if calls := message.get("tool_calls"):
        wired["tool_calls"] = [_call(call) for call in calls]
    return wired


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call["function"]
    arguments = json.dumps(function["arguments"], ensure_ascii=False)
    return {**call, "function": {**function, "arguments": arguments}}


def _content(content: Any, pictures: Iterator[Image]) -> Any:
    if isinstance(content, str):
        return content
    return [_part(part, pictures) for part in content]


def _part(part: Mapping[str, Any], pictures: Iterator[Image]) -> dict[str, Any]:
    if part["type"] == "text":
        return dict(part)
    if part["type"] != "image":
        raise ModelRefused(f"The prompt has a part of type {part['type']!r}; chat hosts get texts and images only.")
    image = next(pictures, None)
    if image is None:
        raise ModelRefused("The prompt has a place for a picture that the request doesn't bring.")
    return {"type": "image_url", "image_url": {"url": data_url(image)}}


def _thinking(dialect: Dialect, thinking: bool, budget: int | None) -> dict[str, Any]:
    match dialect.thinking:
        case Thinking.TOP_LEVEL:
            limit = {"thinking_budget": budget} if thinking and budget is not None else {}
            return {"enable_thinking": thinking, "preserve_thinking": True, **limit}
        case Thinking.TEMPLATE:
            return {"chat_template_kwargs": {"enable_thinking": thinking, "preserve_thinking": True}}
        case Thinking.REASONING:
            if thinking and budget is not None:
                return {"reasoning": {"max_tokens": budget}}
            return {"reasoning": {"enabled": thinking}}
        case Thinking.EFFORT:
            return {} if thinking else {"reasoning_effort": "none"}
        case Thinking.UNSAID:
            return {}
