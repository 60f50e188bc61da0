"""A model that tries again where trying again can help, and goes on behind the tokens that it has.

A stream that was cut after n tokens is continued from the prompt and those n tokens, so that nothing is written
twice and what was shown stays. Only named errors are retried; what they mean is in `runtime.models.base`. What is
left out: retrying turns whose text was no good, which the agent decides.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, cast

from runtime.models.around import Around
from runtime.models.base import (
    NO_OPTIONS,
    Chunk,
    FinishReason,
    Model,
    ModelBusy,
    ModelError,
    ModelFailed,
    ModelUnreachable,
    RequestOptions,
    Sampling,
    StreamCut,
)
from runtime.models.continued import ContinuedTurn

if TYPE_CHECKING:
    from runtime.ids import Ids

RETRIED: Final = (ModelUnreachable, ModelBusy, ModelFailed, StreamCut)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How patient to be. Both bounds count from the last new token, so a long turn may be cut often."""

    retries: int = 8
    seconds: float = 600.0  # of silence and waiting; one retry is made even where the server was silent for longer
    first_delay: float = 0.5  # doubled each time
    longest_delay: float = 30.0
    jitter: float = 0.25  # share of a delay by which it varies, so that many runs don't come back at once


@dataclass(frozen=True, slots=True)
class Retry:
    """One decision to try again, for the event log."""

    request_id: str
    number: int  # retries since the last new token, this one counted
    error: ModelError
    delay: float  # seconds until then
    kept: int  # tokens of the turn that stay
    dropped: int = 0  # tokens of the turn that were written and given up


def with_retries(
    model: Model, policy: RetryPolicy | None = None, *, on_retry: Callable[[Retry], None] | None = None
) -> Model:
    """`model` with retries; `on_retry` is told of each before its delay. Closing it closes `model`."""
    return _RetryingModel(model, policy or RetryPolicy(), on_retry or _ignore)


class _RetryingModel(Around):
    def __init__(self, model: Model, policy: RetryPolicy, on_retry: Callable[[Retry], None]) -> None:
        super().__init__(model)
        self._policy = policy
        self._on_retry = on_retry

    async def stream(
        self, ids: Ids, sampling: Sampling, *, request_id: str, options: RequestOptions = NO_OPTIONS
    ) -> AsyncGenerator[Chunk, None]:
        turn = ContinuedTurn(self._model, ids, sampling)
        budget = _Patience(self._policy)
        while True:
            try:
                source = self._model.stream(turn.prompt(), turn.sampling(), request_id=request_id, options=options)
                async with aclosing(cast("AsyncGenerator[Chunk, None]", source)) as chunks:
                    async for chunk in chunks:
                        if chunk.ids:
                            budget = _Patience(self._policy)
                        aborted = chunk.finish is FinishReason.ABORT
                        taken = turn.take(replace(chunk, finish=None) if aborted else chunk)
                        if taken.ids or not aborted:
                            yield taken
                        if taken.finish is not None:
                            return
                        if aborted:  # not by us: who closes the stream gets no chunk any more
                            raise StreamCut(f"{self.name} aborted its answer after {len(turn.received)} tokens.")
                raise StreamCut(f"{self.name} ended its answer without a finish reason.")
            except RETRIED as error:
                last = turn.finished()
                if last is None:
                    turn.next_request()
                    delay = budget.delay(error)
                    self._on_retry(Retry(request_id, budget.used, error, delay, len(turn.received)))
                    await asyncio.sleep(delay)
            if last is not None:
                yield last
                return


class _Patience:
    """Counts retries and time since the last progress."""

    def __init__(self, policy: RetryPolicy) -> None:
        self.used = 0
        self._policy = policy
        self._since = asyncio.get_running_loop().time()

    def delay(self, error: ModelError) -> float:
        """Seconds to wait before the next try. Raises `error` when patience is at its end."""
        policy = self._policy
        delay: float = min(policy.first_delay * 2.0 ** min(self.used, 60), policy.longest_delay)
        delay *= 1 + policy.jitter * random.uniform(-1, 1)  # noqa: S311  (no secret hangs on it)
        if isinstance(error, ModelBusy) and error.retry_after is not None:
            delay = max(delay, error.retry_after)
        left = policy.seconds - (asyncio.get_running_loop().time() - self._since if self.used else 0.0)
        if self.used >= policy.retries or delay > left:
            raise error
        self.used += 1
        return delay


def _ignore(_: Retry) -> None:
    pass
