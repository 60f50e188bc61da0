"""The seam between the agent and any way to reach a model: token ids in, token ids out, streamed.

One file per way lies beside this one. What is left out: prompts, tool calls and what a turn means (that is
`runtime.transcript` and `runtime.tool_calls`), and retries of whole turns, which the agent decides.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from runtime.prefix import CacheRules
    from runtime.tokenizer import Tokenizer
    from runtime.transcript import Ids


class FinishReason(StrEnum):
    STOP = "stop"  # the model ended its turn
    LENGTH = "length"  # max_new_tokens or the context was used up
    ABORT = "abort"  # we or the server cancelled


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling parameters of one request; the defaults are Qwen3.6's for precise coding with thinking."""

    temperature: float = 0.6
    top_p: float = 0.95
    top_k: int = 20
    min_p: float = 0.0
    presence_penalty: float = 0.0
    repetition_penalty: float = 1.0
    max_new_tokens: int = 32_768
    seed: int | None = None
    thinking_budget: int | None = None  # most tokens of thinking in one turn; then `</think>` is written for the model

    def limited_to(self, max_new_tokens: int) -> Sampling:
        """The same parameters with at most so many new tokens."""
        if max_new_tokens >= self.max_new_tokens:
            return self
        return replace(self, max_new_tokens=max_new_tokens)


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one request, as the server reports them."""

    prompt_tokens: int = 0
    cached_tokens: int = 0  # of the prompt, served from the prefix cache
    completion_tokens: int = 0
    reasoning_tokens: int = 0  # of the completion, inside the thinking; 0 also where the host doesn't say
    fetched_tokens: int = 0  # of the cached, those that the server brought back from main memory or storage
    cost: float | None = None  # US dollars, from the host's answer or the catalog's prices; None: no price is known


@dataclass(frozen=True, slots=True)
class Chunk:
    """New token ids since the last chunk, in order. The last chunk of a stream carries `finish` and `usage`."""

    ids: tuple[int, ...]
    finish: FinishReason | None = None
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True, slots=True)
class Image:
    """One picture of a prompt. The ids hold one `<|image_pad|>` for it; the server makes as many as it needs."""

    data: bytes  # the file as it is
    media_type: str  # "image/png"


@dataclass(frozen=True, slots=True)
class RequestOptions:
    """What a request carries besides its ids and sampling. A host without the `Feature` leaves it out."""

    routing_key: str | None = None  # the same for all requests of a run: one replica, and one session of its cache
    priority: int | None = None  # higher goes first
    images: tuple[Image, ...] = ()  # in the order of their pads in the ids
    constrain_to: tuple[Mapping[str, Any], ...] = ()  # specs of tools; calls can then only be written as they allow


NO_OPTIONS: Final = RequestOptions()


class Feature(StrEnum):
    """What a host can do beyond streaming a turn."""

    EXACT_IDS = "exact ids"  # takes and gives token ids; without it the ids are our rendering of what it said
    CACHED_TOKENS = "cached tokens"  # says how many tokens of a prompt came from its cache
    IMAGES = "images"
    CONSTRAINED = "constrained decoding"
    PRIORITY = "priority"
    ROUTING = "routing"
    SESSIONS = "session retention"  # keeps the cache of a named session longer than others'


@dataclass(frozen=True, slots=True)
class Pools:
    """A server's memory for live requests, as it states it; None where it doesn't."""

    kv_tokens: int | None = None  # tokens that fit into the key-value pool
    states: int | None = None  # recurrent states that fit into theirs
    requests: int | None = None  # most requests that run at once
    slots: int | None = None  # prefixes that it keeps, one each, where it keeps no more than that


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What is known of the host behind a model: read from it, not assumed."""

    engine: str  # sglang, vllm, llamacpp, ktransformers, chat, embedded, scripted
    version: str | None = None
    features: frozenset[Feature] = frozenset({Feature.EXACT_IDS})
    pools: Pools = Pools()
    cache: CacheRules | None = None  # where its prefix cache can be hit
    notes: tuple[str, ...] = ()  # what a user should know, such as a tokenizer that differs from ours


class Model(Protocol):
    """One reachable model. Safe for several concurrent `stream` calls."""

    @property
    def facts(self) -> HostFacts: ...

    @property
    def name(self) -> str: ...

    @property
    def tokenizer(self) -> Tokenizer: ...

    @property
    def context_length(self) -> int:
        """Most tokens that prompt and output may have together."""
        ...

    def stream(
        self, ids: Ids, sampling: Sampling, *, request_id: str, options: RequestOptions = NO_OPTIONS
    ) -> AsyncIterator[Chunk]:
        """Generate after `ids`. The ids end with the turn's `<|im_end|>` when the finish is `stop`.

        Closing the iterator early aborts the request on the server.
        Raises a `ModelError`; chunks that were yielded before it remain valid prefixes of the turn.
        """
        ...

    async def close(self) -> None: ...


class ModelError(Exception):
    """Something between us and the model went wrong; the text says what, to which server, and what to do."""


class ModelUnreachable(ModelError):
    """No connection to the server, or none any more before the first token."""


class ModelBusy(ModelError):
    """The server refused for now (429, 503); `retry_after` in seconds, None if it didn't say."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class StreamCut(ModelError):
    """The stream ended before the finish reason came."""


class ContextExceeded(ModelError):
    """Prompt and requested output don't fit into the model's context."""


class ModelChanged(ModelError):
    """Behind the URL is another model than the one that was connected to; its ids would mean something else."""


class ModelRefused(ModelError):
    """The server answered with an error that a retry would not mend (4xx, a body that isn't its protocol)."""


class ModelFailed(ModelError):
    """The server failed (5xx); worth another try."""
