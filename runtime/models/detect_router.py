"""What is behind SGLang's router, which says next to nothing itself: one of its servers is asked in its place.

Seen of sglang-router 0.3.2: it answers 404 to `/model_info`, `/server_info`, `/tokenize` and `/abort_request`,
`/get_server_info` is about itself, `GET /workers` lists the servers, and of a request to `/generate` it passes on only
the fields that it knows: `structural_tag` and `session_id` get lost without a word. Left out: starting it
(`runtime.serving`), and routers that split a request into its prefill and its decoding.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from runtime.models.base import Feature, ModelError, Pools
from runtime.models.target import base_url, is_near

if TYPE_CHECKING:
    from runtime.models.detect import Found, Server

_NOT_PASSED_ON: Final = frozenset({Feature.CONSTRAINED, Feature.SESSIONS})
_MOST_ASKED: Final = 3  # servers, one after the other, until one answers
_RANK: Final = re.compile(r"@\d+$")  # a router that knows of data parallelism lists each rank, so


@dataclass(frozen=True, slots=True)
class Workers:
    """The servers of one model behind a router."""

    urls: tuple[str, ...]  # as far as they can be asked from here
    count: int


def is_router(said: Mapping[str, Any]) -> bool:
    """From `/get_server_info`."""
    return said.get("router_manager") is True


async def workers_of(router: Server) -> Workers | None:
    """None where it has no such list. Raises a `ModelError` when the router can't be reached."""
    listed = (await router.get("/workers") or {}).get("workers")
    workers = [worker for worker in listed if isinstance(worker, dict)] if isinstance(listed, list) else []
    if not workers:
        return None
    workers = [worker for worker in workers if worker.get("is_healthy") is not False] or workers
    model = workers[0].get("model_id")
    workers = [worker for worker in workers if worker.get("model_id") == model]
    found = (_askable(worker.get("url"), router.url) for worker in workers)
    return Workers(tuple(dict.fromkeys(url for url in found if url)), len(workers))


async def behind(
    router: Server,
    workers: Workers,
    info: Mapping[str, Any],
    read: Callable[[Server, Mapping[str, Any]], Awaitable[Found]],
) -> Found | None:
    """What the first server that answers says (`read` gets it and its `/model_info`), for all of them together.

    `info` is the router's own; a server of another model isn't believed. None: no server could be asked.
    """
    for url in workers.urls[:_MOST_ASKED]:
        try:
            worker = router.at(url)
        except ModelError:
            continue
        try:
            said = await worker.get("/model_info", "/get_model_info")
            if said is None or said.get("model_path") != info.get("model_path", said.get("model_path")):
                continue
            found = await read(worker, said)
        except ModelError:
            continue
        finally:
            await worker.transport.close()
        return _together(found, url, workers.count)
    return None


def _together(found: Found, url: str, count: int) -> Found:
    servers = "1 server" if count == 1 else f"{count} servers"
    note = (
        f"It is a router before {servers}; what is known is from {url}, with the memory of all. It passes on neither "
        "constrained decoding nor session retention."
    )
    pools = found.facts.pools
    facts = replace(
        found.facts,
        features=found.facts.features - _NOT_PASSED_ON,
        pools=Pools(*(_times(size, count) for size in (pools.kv_tokens, pools.states, pools.requests, pools.slots))),
        notes=(*found.facts.notes, note),
    )
    return replace(found, facts=facts, worker=url)


def _times(size: int | None, count: int) -> int | None:
    return None if size is None else size * count


def _askable(url: object, router: str) -> str | None:
    """The address of a listed server. None: it isn't HTTP, or it is on the loopback of another machine than this."""
    if not isinstance(url, str) or not url.startswith(("http://", "https://")):
        return None
    try:
        found = base_url(_RANK.sub("", url))
    except ModelError:
        return None
    near, router_near = (is_near(urlsplit(each).hostname or "") for each in (found, router))
    return None if near and not router_near else found
