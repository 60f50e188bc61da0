"""Making a server compute and keep a prefix before several conversations continue it.

Attempts that start together from one prompt would each compute it, because a prefix can be found only once a
request that computed it has got that far. So one short request goes ahead. Where the model is hybrid, what it leaves
must also lie at the right place: a server keeps a recurrent state where a request ended, or on a grid of the tokens
that it computed (`runtime.prefix`), and the last token of a prompt is never taken from the cache. The request
therefore sends all but the last token and lets one be written: the state is then kept right before that last token,
or on the last grid point before it, and each attempt computes one token, or fewer than a grid's width.

Left out: who goes on from there (`agent.fork`), and prefixes that were evicted since, which is only seen in what a host
reports.
"""

from __future__ import annotations

from typing import Final

from runtime.ids import Ids
from runtime.models.base import NO_OPTIONS, Feature, Model, RequestOptions, Sampling, Usage

_ONE_TOKEN: Final = Sampling(max_new_tokens=1)


async def warm(model: Model, ids: Ids, *, request_id: str, options: RequestOptions = NO_OPTIONS) -> Usage:
    """Let the server compute `ids`, of which prompts that begin with them find all but the tail; what it took.

    Where the host doesn't take ids, or there is nothing to keep, no request is made and the usage is empty.
    Raises a `ModelError`.
    """
    usage = Usage()
    if len(ids) < 2 or Feature.EXACT_IDS not in model.facts.features:
        return usage
    plain = RequestOptions(options.routing_key, options.priority, options.images)
    async for chunk in model.stream(Ids(ids[:-1]), _ONE_TOKEN, request_id=request_id, options=plain):
        usage = chunk.usage if chunk.usage.prompt_tokens else usage
    return usage
