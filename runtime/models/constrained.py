"""Constrained decoding with a way out: `options.constrain_to` is honoured, and given up where it does harm.

A grammar keeps a model to the names and schemas of its tools, and takes something away: a value can't contain
`</parameter>`, and a model that may not write what it wants to may write white space, or the same thing, until its
tokens are spent. So a call is held back until it is whole, and the turn is asked for again without the constraint
when the server refuses the grammar or fails over it, when the tokens end inside a call, and when a call runs on in
white space. What was written before that call was free text and stays; the call is dropped, and nothing of it has
been handed out. The second request goes on behind what stays, which is sound because no rule bound it. Each time is
reported as a `Retry`.

Held back is what follows a `<tool_call>` token; a call whose opening is spelled in ordinary tokens is constrained
all the same, but not watched. When a stream is cut inside a call and continued (`runtime.models.retry`), the rest of
that call is free, since a grammar begins anew with each request. Left out: the grammar (`structural_tag`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, cast

from runtime.models.around import Around
from runtime.models.base import (
    NO_OPTIONS,
    Chunk,
    Feature,
    FinishReason,
    Model,
    ModelError,
    ModelFailed,
    ModelRefused,
    RequestOptions,
    Sampling,
    Usage,
)
from runtime.models.continued import ContinuedTurn
from runtime.models.retry import Retry

if TYPE_CHECKING:
    from runtime.ids import Ids
    from runtime.tokenizer import Tokenizer

MOST_WHITE_SPACE: Final = 64  # tokens in a row inside a call; they hold several times as many characters
_GRAMMAR_WORDS: Final = ("grammar", "structural_tag", "structural tag")


class ConstraintDropped(ModelError):
    """Why a turn was asked for again without its constraint; only ever reported, never raised."""


def with_constraints(model: Model, *, on_retry: Callable[[Retry], None] | None = None) -> Model:
    """`model`, whose constrained turns have a second try without; `on_retry` is told. Closing it closes `model`."""
    return _ConstrainedModel(model, on_retry or _ignore)


class _ConstrainedModel(Around):
    def __init__(self, model: Model, on_retry: Callable[[Retry], None]) -> None:
        super().__init__(model)
        self._on_retry = on_retry
        self._refused: Any = None  # the specs whose grammar the server wouldn't take

    async def stream(
        self, ids: Ids, sampling: Sampling, *, request_id: str, options: RequestOptions = NO_OPTIONS
    ) -> AsyncGenerator[Chunk, None]:
        turn = ContinuedTurn(self._model, ids, sampling)
        free = replace(options, constrain_to=()) if options.constrain_to else options
        if free is not options and self._can_constrain(options):
            hold = _HeldCall(self._model.tokenizer)
            try:
                async with self._ask(turn, request_id, options) as chunks:
                    async for chunk in chunks:
                        found = hold.feed(chunk)
                        if found is not None:
                            yield turn.take(found)
                        if hold.problem:
                            break
                    else:
                        return
                problem: ModelError = ConstraintDropped(f"{self.name}, under a constraint: {hold.problem}.")
            except (ModelRefused, ModelFailed) as error:
                if not any(words in str(error).lower() for words in _GRAMMAR_WORDS):
                    raise
                if not (turn.received or hold.ids):
                    self._refused = options.constrain_to
                problem = error
            turn.next_request()
            self._on_retry(Retry(request_id, 1, problem, 0.0, len(turn.received), len(hold.ids)))
        async with self._ask(turn, request_id, free) as chunks:
            async for chunk in chunks:
                yield turn.take(chunk)

    def _can_constrain(self, options: RequestOptions) -> bool:
        return Feature.CONSTRAINED in self.facts.features and self._refused is not options.constrain_to

    def _ask(
        self, turn: ContinuedTurn, request_id: str, options: RequestOptions
    ) -> aclosing[AsyncGenerator[Chunk, None]]:
        source = self._model.stream(turn.prompt(), turn.sampling(), request_id=request_id, options=options)
        return aclosing(cast("AsyncGenerator[Chunk, None]", source))


class _HeldCall:
    """Holds back a call until it is whole, and sees when it will not become so."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.ids: list[int] = []
        self.problem = ""
        self._tokenizer = tokenizer
        self._opens = tokenizer.special("<tool_call>")
        self._closes = tokenizer.special("</tool_call>")
        self._usage = Usage()
        self._white = 0  # tokens of white space at the end of what is held

    def feed(self, chunk: Chunk) -> Chunk | None:
        """What may be handed out by now. None: nothing."""
        given = self._sort(chunk.ids)
        if chunk.usage.prompt_tokens:
            self._usage = chunk.usage
        if not self.problem and self.ids and chunk.finish is FinishReason.LENGTH:
            self.problem = f"the tokens ended inside a call, after {len(self.ids)} tokens of it"
        if chunk.finish is None or self.problem:
            return Chunk(tuple(given), None, self._usage) if given else None
        given += self.ids
        self.ids = []
        return Chunk(tuple(given), chunk.finish, chunk.usage)

    def _sort(self, ids: Sequence[int]) -> list[int]:
        """The new ids that may be handed out, with a held call that they complete."""
        given: list[int] = []
        for token in ids:
            if not self.ids and token != self._opens:
                given.append(token)
                continue
            self.ids.append(token)
            if token == self._closes:
                given += self.ids
                self.ids, self._white = [], 0
                continue
            self._white = self._white + 1 if self._is_white(token) else 0
            if self._white >= MOST_WHITE_SPACE:
                self.problem = f"a call ran on in white space, {self._white} tokens of it"
                break
        return given

    def _is_white(self, token: int) -> bool:
        return self._tokenizer.decode_bytes((token,)).isspace()


def _ignore(_: Retry) -> None:
    pass
