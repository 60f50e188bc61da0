"""Several attempts from one: they begin with the same prefix, which costs its server one prefill, and the same files.

The server computes the prefix before any of them asks, because attempts that start together would each compute it. A
fork shares the storage of what is there; only when it grows are its ids copied, at four bytes each, while their
text for requests stays shared. A sandbox is prepared once (opened, checked out, whatever a set-up does) and forked
from one snapshot. Left out: choosing among attempts.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from runtime.models.base import NO_OPTIONS

if TYPE_CHECKING:
    from agent.worktree import Worktree
    from runtime.models.base import Model, RequestOptions
    from runtime.transcript import Transcript
    from sandbox.base import Sandbox


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


async def sandboxes(prepared: Sandbox, worktree: Worktree, count: int) -> list[tuple[Sandbox, Worktree]]:
    """`count` forks of a sandbox as it is now, each with its work tree; the caller closes them.

    Raises a `SandboxError`; then none is left open.
    """
    await worktree.checkpoint()
    snapshot = await prepared.snapshot()
    opened: list[Sandbox] = []

    async def one() -> tuple[Sandbox, Worktree]:
        opened.append(fork := await prepared.fork(snapshot))
        return fork, await worktree.fork(fork)

    tasks = [asyncio.ensure_future(one()) for _ in range(count)]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:  # cancelled or not: a sandbox that nobody gets must not stay
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await asyncio.gather(*(fork.close() for fork in opened))
        raise
    finally:
        await prepared.drop(snapshot)
