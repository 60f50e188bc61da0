"""The chat template that our checkpoints carry, against `runtime.chat.render`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.checkpoints.chat_template import chat_template
from runtime.chat import render

TEXTS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["", " padded \n", "<think>a</think>\n\nb", "b</think>", "<tool_response>x</tool_response>", "{{ x }} 日本"]
    ),
)
PARTS = st.lists(
    st.one_of(
        st.builds(lambda text: {"type": "text", "text": text}, TEXTS),
        st.just({"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}),
    ),
    min_size=1,
    max_size=3,
)
VALUES = st.one_of(
    TEXTS, st.integers(), st.booleans(), st.none(), st.lists(st.integers(), max_size=2), st.just({"a": "é"})
)
CALLS = st.lists(
    st.builds(
        lambda name, arguments: {"type": "function", "function": {"name": name, "arguments": arguments}},
        st.sampled_from(["bash", "submit"]),
        st.dictionaries(st.sampled_from(["command", "path", "n"]), VALUES, max_size=3),
    ),
    max_size=3,
)
ASSISTANT = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": TEXTS}, optional={"reasoning_content": TEXTS, "tool_calls": CALLS}
)
USER = st.fixed_dictionaries({"role": st.just("user"), "content": st.one_of(TEXTS, PARTS)})
TOOL = st.fixed_dictionaries({"role": st.just("tool"), "content": TEXTS})
SYSTEM = st.fixed_dictionaries({"role": st.just("system"), "content": TEXTS})
QUERY = {"role": "user", "content": "Fix it."}
CONVERSATIONS = st.builds(
    lambda system, before, after: [*system, *before, QUERY, *after],
    st.lists(SYSTEM, max_size=1),
    st.lists(st.one_of(USER, ASSISTANT, TOOL), max_size=4).filter(lambda all_: not all_ or all_[0]["role"] != "tool"),
    st.lists(st.one_of(USER, ASSISTANT, TOOL), max_size=6),
)
TOOLS = [{"type": "function", "function": {"name": "bash", "description": "Runs <b>é</b>", "parameters": {}}}]


def rendered() -> Callable[..., str]:
    """The template as transformers and SGLang use it."""
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    return environment.from_string(chat_template()).render


RENDERED = rendered()


@given(CONVERSATIONS, st.booleans(), st.booleans(), st.booleans(), st.booleans())
def test_renders_as_our_code_does(
    messages: list[dict[str, Any]], tools: bool, thinking: bool, preserve: bool, prompt: bool
) -> None:
    settings = {"enable_thinking": thinking, "preserve_thinking": preserve, "add_generation_prompt": prompt}
    specs = TOOLS if tools else []
    assert RENDERED(messages=messages, tools=specs, **settings) == render(messages, specs, **settings)


def test_keeps_only_recent_thinking_unless_told() -> None:
    messages = [
        QUERY,
        {"role": "assistant", "content": "done", "reasoning_content": "old thought"},
        {"role": "user", "content": "more"},
    ]
    assert "old thought" not in RENDERED(messages=messages)
    assert "old thought" in RENDERED(messages=messages, preserve_thinking=True)


def test_the_demo_checkpoint_has_it() -> None:
    file = Path(__file__).parents[2] / "examples" / "demo" / "model" / "chat_template.jinja"
    assert file.read_text() == chat_template(), "run examples/checkpoints/serving_files.py on examples/demo/model"


@pytest.mark.torch
def test_transformers_finds_it_in_a_checkpoint() -> None:
    transformers = pytest.importorskip("transformers", reason="needs the extra `embedded`")
    folder = Path(__file__).parents[2] / "examples" / "demo" / "model"
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    messages = [{"role": "system", "content": "Be brief."}, QUERY]
    text = tokenizer.apply_chat_template(messages, tools=TOOLS, tokenize=False, add_generation_prompt=True)
    assert text == render(messages, TOOLS)
    assert tokenizer.encode(text, add_special_tokens=False)[0] == tokenizer.convert_tokens_to_ids("<|im_start|>")
