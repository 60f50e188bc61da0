"""The seam between the agent and any way to reach a model: token ids in, token ids out, streamed.

One file per way lies beside this one. What is left out: prompts, tool calls and what a turn means (that is
`runtime.transcript` and `runtime.tool_calls`), and retries of whole turns, which the agent decides.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
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


@dataclass(frozen=True, slots=True)
class Chunk:
    """New token ids since the last chunk, in order. The last chunk of a stream carries `finish` and `usage`."""

    ids: tuple[int, ...]
    finish: FinishReason | None = None
    usage: Usage = field(default_factory=Usage)


class Model(Protocol):
    """One reachable model. Safe for several concurrent `stream` calls."""

    @property
    def name(self) -> str: ...

    @property
    def tokenizer(self) -> Tokenizer: ...

    @property
    def context_length(self) -> int:
        """Most tokens that prompt and output may have together."""
        ...

    def stream(self, ids: Ids, sampling: Sampling, *, request_id: str) -> AsyncIterator[Chunk]:
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


class ModelRefused(ModelError):
    """The server answered with an error that a retry would not mend (4xx, a body that isn't its protocol)."""


class ModelFailed(ModelError):
    """The server failed (5xx); worth another try."""
