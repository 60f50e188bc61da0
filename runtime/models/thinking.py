"""A model that thinks no longer than it may: `sampling.thinking_budget`, kept by the client.

When as many tokens of thinking have come, the request is ended, a short sentence and `</think>` are written for the
model, and the turn goes on behind them in a second request, which finds the prefix cached. So it works on any host
that takes and gives token ids; others are left to keep the budget themselves.

The budget is that of the turn: what the prompt's open turn holds already counts too. Thinking ends with `</think>`,
and also with `<tool_call>` (see `runtime.models.open_turn`); a budget of 0 means that nothing is thought. The cut
comes exactly behind the last token that the budget allows, wherever the chunks end, and even in the middle of a
character. Left out: budgets of a server's own.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Final, cast

from runtime.models.around import Around
from runtime.models.base import NO_OPTIONS, Chunk, Feature, FinishReason, Model, RequestOptions, Sampling
from runtime.models.continued import ContinuedTurn
from runtime.models.open_turn import ThinkingMarks

if TYPE_CHECKING:
    from runtime.ids import Ids

CLOSING: Final = "\n\nI have thought for as long as I may; I go on with what I have."
"""What is written before `</think>` where a budget is spent."""


def with_thinking_budget(model: Model) -> Model:
    """`model`, with the budget of each request's sampling kept. Closing it closes `model`."""
    return _BudgetedModel(model)


class _BudgetedModel(Around):
    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self._marks = ThinkingMarks.of(model.tokenizer)
        self._closing = tuple(model.tokenizer.encode_with_specials(f"{CLOSING}\n</think>\n\n"))
        self._empty = tuple(model.tokenizer.encode_with_specials("\n</think>\n\n"))

    async def stream(
        self, ids: Ids, sampling: Sampling, *, request_id: str, options: RequestOptions = NO_OPTIONS
    ) -> AsyncGenerator[Chunk, None]:
        left = self._left(ids, sampling)
        if left is None:
            async with self._ask(ids, sampling, request_id, options) as chunks:
                async for chunk in chunks:
                    yield chunk
            return
        turn = ContinuedTurn(self._model, ids, replace(sampling, thinking_budget=None))
        if left:
            is_over = False
            async with self._ask(turn.prompt(), turn.sampling(), request_id, options) as chunks:
                async for chunk in chunks:
                    is_over = is_over or self._ends_thinking(chunk.ids[: left - len(turn.received)])
                    taken = turn.take(chunk if is_over else _cut(chunk, left - len(turn.received), left))
                    yield taken
                    if taken.finish is None and not is_over and len(turn.received) >= left:
                        break
                else:
                    return
        closing = self._closing_of(ids, turn)
        is_full = turn.left <= len(closing)
        yield turn.add(closing, FinishReason.LENGTH if is_full else None)
        if is_full:
            return
        turn.next_request()
        async with self._ask(turn.prompt(), turn.sampling(), request_id, options) as chunks:
            async for chunk in chunks:
                yield turn.take(chunk)

    def _left(self, ids: Ids, sampling: Sampling) -> int | None:
        """Tokens of thinking that the turn may still have. None: no budget, or none to keep here."""
        budget = sampling.thinking_budget
        if budget is None or self._marks is None or Feature.EXACT_IDS not in self._model.facts.features:
            return None
        spent = self._marks.length(ids)
        if spent is None or len(ids) >= self.context_length:
            return None
        return max(0, budget - spent)

    def _ends_thinking(self, ids: tuple[int, ...]) -> bool:
        return self._marks is not None and not self._marks.ends.isdisjoint(ids)

    def _closing_of(self, ids: Ids, turn: ContinuedTurn) -> tuple[int, ...]:
        """What ends the thinking; where there was none, only the marks."""
        nothing_thought = self._marks is not None and not turn.received and not self._marks.length(ids)
        closing = self._empty if nothing_thought else self._closing
        return closing[: max(0, turn.left)]

    def _ask(
        self, ids: Ids, sampling: Sampling, request_id: str, options: RequestOptions
    ) -> aclosing[AsyncGenerator[Chunk, None]]:
        source = self._model.stream(ids, sampling, request_id=request_id, options=options)
        return aclosing(cast("AsyncGenerator[Chunk, None]", source))


def _cut(chunk: Chunk, left: int, budget: int) -> Chunk:
    """The chunk as far as the budget reaches."""
    if len(chunk.ids) <= left:
        return chunk
    usage = replace(chunk.usage, reasoning_tokens=min(chunk.usage.reasoning_tokens, budget))
    return Chunk(chunk.ids[:left], None, usage)
