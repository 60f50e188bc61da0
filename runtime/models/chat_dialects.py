"""Hosts that take chat messages, as data: how each spells what OpenAI's API has no word for.

All of them answer `/chat/completions`. They differ in where thinking is switched on and kept, under which name it
comes and goes back, which sampling parameters they know, and what they count. Read from their documents and sources;
what was not at hand is left unsaid rather than guessed. Left out: requests (`chat_request`) and answers (`chat_host`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from runtime.models.base import Feature

API_KEY: Final = "PATCHWRIGHT_API_KEY"
_OPENAI: Final = {name: name for name in ("temperature", "top_p", "presence_penalty", "seed")}
_SEEN: Final = frozenset({Feature.IMAGES})
_COUNTED: Final = _SEEN | {Feature.CACHED_TOKENS}
_SERVER: Final = _OPENAI | {name: name for name in ("top_k", "min_p", "repetition_penalty")}


class Thinking(StrEnum):
    """Where a request says whether to think, and that earlier thinking stays in the prompt."""

    TOP_LEVEL = "top level"  # enable_thinking, preserve_thinking, thinking_budget beside the messages
    TEMPLATE = "template"  # chat_template_kwargs with enable_thinking and preserve_thinking
    REASONING = "reasoning"  # an object `reasoning` with enabled or max_tokens
    EFFORT = "effort"  # reasoning_effort, of which `none` means not to think
    UNSAID = "unsaid"  # nowhere: the host does as it does


@dataclass(frozen=True, slots=True)
class Dialect:
    """One kind of host."""

    name: str  # as `Price.host` in the catalog calls it
    url: str | None = None  # where the host is, up to and with its version; None: the user says
    url_variable: str | None = None  # the environment variable that overrides it
    keys: tuple[str, ...] = (API_KEY,)  # environment variables that may hold the key; the first that is set counts
    thinking: Thinking = Thinking.UNSAID
    sampling: Mapping[str, str] = field(default_factory=lambda: _OPENAI)  # fields of `Sampling` and its names for them
    thinking_back: tuple[str, ...] = ("reasoning_content",)  # fields of an assistant message that carry its thinking
    thinking_details: bool = False  # and `reasoning_details`, a list of typed parts
    pictures_in_tools: bool = False  # takes pictures in tool messages; else they follow in a message of the user
    usage_cost: bool = False  # has to be asked for the cost of a request
    paid: bool = False  # costs money per token
    routing_header: str | None = None  # carries the routing key to a router in front of several servers
    ends_streams: bool = False  # closes the connection behind every stream without saying so, as llama.cpp does
    features: frozenset[Feature] = _SEEN  # cached tokens only where a host always says how many


DASHSCOPE: Final = Dialect(
    "dashscope",
    url="https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
    url_variable="DASHSCOPE_BASE_URL",
    keys=("DASHSCOPE_API_KEY",),
    thinking=Thinking.TOP_LEVEL,
    sampling=_OPENAI | {"top_k": "top_k", "repetition_penalty": "repetition_penalty"},
    paid=True,
    features=_COUNTED,
)
OPENROUTER: Final = Dialect(
    "openrouter",
    url="https://openrouter.ai/api/v1",
    url_variable="OPENROUTER_BASE_URL",
    keys=("OPENROUTER_API_KEY",),
    thinking=Thinking.REASONING,
    sampling=_SERVER,
    thinking_back=("reasoning",),
    thinking_details=True,
    usage_cost=True,
    paid=True,
    features=_COUNTED,
)
OLLAMA: Final = Dialect(
    "ollama",
    url="http://127.0.0.1:11434/v1",
    url_variable="OLLAMA_HOST",
    thinking=Thinking.EFFORT,
    thinking_back=("reasoning_content", "reasoning"),
)
SGLANG: Final = Dialect(
    "sglang",
    thinking=Thinking.TEMPLATE,
    sampling=_SERVER,
    pictures_in_tools=True,
    routing_header="x-smg-routing-key",
    features=_SEEN | {Feature.ROUTING},
)
VLLM: Final = Dialect(
    "vllm",
    thinking=Thinking.TEMPLATE,
    sampling=_SERVER,
    thinking_back=("reasoning_content", "reasoning"),
    pictures_in_tools=True,
)
LLAMACPP: Final = Dialect(
    "llamacpp",
    thinking=Thinking.TEMPLATE,
    sampling=_OPENAI | {"top_k": "top_k", "min_p": "min_p", "repetition_penalty": "repeat_penalty"},
    ends_streams=True,
    features=_COUNTED,
)
PLAIN: Final = Dialect("chat", paid=True)

DIALECTS: Final = {dialect.name: dialect for dialect in (DASHSCOPE, OPENROUTER, OLLAMA, SGLANG, VLLM, LLAMACPP, PLAIN)}
