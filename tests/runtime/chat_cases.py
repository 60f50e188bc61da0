"""Conversations of every sort for the comparison with the official template, good ones and odd ones."""

from __future__ import annotations

import enum
from types import SimpleNamespace
from typing import Any

from hypothesis import strategies as st

FRAGMENTS = [
    *("", " ", "\n", "\n\n", "\t", "\r\n", "\x0b", "\x1c", "\u0085", "\u00a0", "\u2003", "\u200b", "\ufeff"),
    *(
        "<think>",
        "</think>",
        "<tool_response>",
        "</tool_response>",
        "<tool_call>",
        "<|im_end|>",
        "<|im_start|>",
    ),
    *(
        "word",
        "image",
        "video",
        "text",
        "image_url",
        "{{ x }}",
        "{% raw %}",
        "<b>&amp;'\"",
        "é",
        "日本",
        "🦊",
        "\\n",
    ),
]
ROLES = ["user", "assistant", "tool", "system"]


class Shouting(str):
    """A text whose `str()` isn't its contents."""

    def __str__(self) -> str:
        return self.upper()


class Colour(enum.StrEnum):
    RED = "red\n"


class OnceOnly(list[Any]):
    """Stands for an iterator over its elements; `fresh` makes one, since each rendering uses it up."""


class AsObject(dict[str, Any]):
    """Stands for an object with these attributes."""


def fresh(value: Any) -> Any:
    """A copy to render, with the stand-ins made real."""
    if isinstance(value, OnceOnly):
        return (fresh(element) for element in value)
    if isinstance(value, AsObject):
        return SimpleNamespace(**{key: fresh(element) for key, element in value.items()})
    if isinstance(value, dict):
        return {key: fresh(element) for key, element in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(fresh(element) for element in value)
    return value


def rarely(usual: st.SearchStrategy[Any], odd: st.SearchStrategy[Any], one_in: int = 30) -> st.SearchStrategy[Any]:
    return st.integers(1, one_in).flatmap(lambda draw: odd if draw == one_in else usual)


def with_some(required: dict[str, Any], optional: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(required, optional=optional)


texts = st.lists(st.sampled_from(FRAGMENTS), max_size=7).map("".join) | st.text(max_size=12)
names = st.sampled_from(["bash", "path", "a b", "", "ünï", "x>"])
numbers = (
    st.integers()
    | st.sampled_from([0, -1, 2**53 + 1, 10**40, True, False])
    | st.floats()
    | st.sampled_from([1.0, 1e5, 1e22, 1.5e-9, -0.0])
)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
oddities = st.sampled_from(
    [b"bytes", {1, 2}, object(), 3, 2.5, (), ("a", 1), {1: 2}, Shouting("loud"), Colour.RED, None]
)
values = rarely(json_values, oddities | st.just(10**5000))

good_parts = (
    st.fixed_dictionaries({"type": st.just("text"), "text": texts})
    | st.fixed_dictionaries({"type": st.just("image"), "image": texts})
    | st.fixed_dictionaries({"type": st.just("image_url"), "image_url": st.just({"url": "data:"})})
    | st.fixed_dictionaries({"type": st.just("video"), "video": texts})
    | st.sampled_from([{"type": "image"}, {"type": "video"}, {"text": "only"}, {"image": None}, {"text": None}])
)
odd_parts = (
    texts
    | oddities
    | with_some({}, {"type": st.sampled_from(["text", "image", "audio", None]), "text": values, "video": values})
    | st.sampled_from([("image",), ("text",), ["video"], {"text"}, {"type": "video_url", "video_url": "x"}, {}])
    | st.builds(AsObject, st.fixed_dictionaries({"type": st.just("image")}))
)
part_lists = st.lists(rarely(good_parts, odd_parts, 25), max_size=4)
contents = st.one_of(
    texts,
    texts,
    texts,
    part_lists,
    rarely(part_lists.map(tuple) | st.none(), part_lists.map(OnceOnly) | oddities | st.just({"text": "x"}), 5),
)
arguments = rarely(
    st.dictionaries(names, values, max_size=4),
    oddities | st.dictionaries(st.integers(), texts, max_size=1) | st.sampled_from(["{}", "", []]),
)
functions = with_some({"name": rarely(names, oddities)}, {"arguments": arguments})
calls = rarely(
    st.fixed_dictionaries({"type": st.just("function"), "function": functions}) | functions,
    st.builds(AsObject, functions) | oddities | st.sampled_from([{}, {"function": None}, {"function": {}}, "ab", []]),
)
call_lists = st.lists(calls, max_size=3)
odd_calls = call_lists.map(tuple) | call_lists.map(OnceOnly) | oddities | st.sampled_from(["", "ab", {}, {"name": "x"}])
# A text with thinking in it, as clients without `reasoning_content` send it.
thinking_contents = st.builds("{}<think>{}</think>{}".format, texts, texts, texts)

users = with_some({"role": st.just("user")}, {"content": contents}) | st.fixed_dictionaries(
    {"role": st.just("user"), "content": texts.map("<tool_response>{}</tool_response>".format)}
)
assistants = with_some(
    {"role": st.just("assistant")},
    {
        "content": contents | thinking_contents,
        "reasoning_content": rarely(texts | st.none(), oddities, 10),
        "tool_calls": rarely(call_lists | st.none(), odd_calls, 10),
    },
)
tool_messages = st.fixed_dictionaries({"role": st.just("tool"), "content": contents})
systems = st.fixed_dictionaries({"role": st.just("system"), "content": contents})
odd_messages: st.SearchStrategy[Any] = (
    st.sampled_from([{}, {"role": "developer"}, {"content": "x"}, None, "user", 5, ("role",), []]) | systems
)
bodies = st.lists(rarely(users | assistants | tool_messages, odd_messages, 60), max_size=6)
specs = with_some(
    {"type": st.just("function")},
    {"function": st.fixed_dictionaries({"name": names, "description": texts, "parameters": json_values})},
)
tool_lists = rarely(
    st.lists(specs, max_size=3),
    st.lists(specs, max_size=2).map(tuple)
    | st.lists(specs, max_size=2).map(OnceOnly)
    | st.sampled_from([None, {}, {"a": 1}, "ab", 7, [object()], [b"x"], ["text"], [{1: 2, None: 3}]]),
    6,
)


@st.composite
def conversations(draw: st.DrawFn) -> list[Any]:
    """Mostly a system message, a user message somewhere, and any others in any order."""
    before, after = draw(bodies), draw(bodies)
    opening = draw(rarely(st.lists(systems, max_size=1), st.lists(odd_messages, max_size=2), 20))
    query = draw(rarely(st.lists(users, min_size=1, max_size=1), st.just([]), 20))
    messages = [*opening, *before, *query, *after]
    as_objects = draw(rarely(st.just(False), st.just(True), 20))
    if as_objects:
        return [AsObject(message) if isinstance(message, dict) else message for message in messages]
    return messages


message_lists = rarely(
    conversations(),
    conversations().map(tuple)
    | conversations().map(OnceOnly)
    | oddities
    | st.sampled_from([[], "user", {0: {"role": "user"}}]),
)
flag_values = rarely(st.booleans(), st.sampled_from([None, 0, 1, "false", "", []]), 4)
flags = st.fixed_dictionaries(
    {"enable_thinking": flag_values, "preserve_thinking": flag_values, "add_generation_prompt": flag_values}
)
