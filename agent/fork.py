"""Several conversations from one: attempts that begin with the same prefix and cost its server one prefill.

The server computes the prefix before any of them asks, because attempts that start together would each compute it. A
fork shares the storage of what is there; only when it grows are its ids copied, at four bytes each, while their
text for requests stays shared. Left out: forks of the sandbox, and choosing among attempts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from runtime.models.base import NO_OPTIONS

if TYPE_CHECKING:
    from runtime.models.base import Model, RequestOptions
    from runtime.transcript import Transcript


async def forked(
    model: Model, transcript: Transcript, count: int, *, request_id: str, options: RequestOptions = NO_OPTIONS
) -> list[Transcript]:
    """`count` transcripts that go on from `transcript`, once the server of `model` has computed it.

    Their requests need the routing key of `options`, so that they reach the replica that has the prefix. Raises a
    `ModelError`.
    """
    from runtime.models.warm import warm

    if count > 1:
        await warm(model, transcript.ids, request_id=request_id, options=options)
    return [transcript.fork() for _ in range(count)]
