"""Whether the model behind a URL is still the one that a run began with.

A server may be started anew with other weights at any time, and ids mean something only to the model that they were
made for. It is asked where that may have happened: after a failure, and after a silence in which the connection was
lost. Left out: the first time (`runtime.models.connect`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

from runtime.models.base import ModelChanged
from runtime.models.checked import parse_object
from runtime.models.http_client import Transport
from runtime.models.http_wire import TransportError
from runtime.models.refusals import Host
from runtime.models.sglang_facts import Identity

SILENCE_BEFORE_DOUBT: Final = 1.0  # seconds after which a lost connection may mean another server

Reader = Callable[[Mapping[str, Any]], Identity | None]


class SameServer:
    """Asks again who is there. Without an `expected` identity it never does."""

    def __init__(
        self, host: Host, transport: Transport, expected: Identity | None, paths: tuple[str, ...], read: Reader
    ) -> None:
        """`paths` are tried in their order until one isn't a 404; `read` finds the identity in the answer."""
        self._host = host
        self._transport = transport
        self._expected = expected
        self._paths = paths
        self._read = read
        self._in_doubt = False  # a request failed since the server was last known to be the same
        self._heard = 0.0  # when it last answered in full, by the loop's clock

    def failed(self) -> None:
        self._in_doubt = True

    def answered(self) -> None:
        self._heard = asyncio.get_running_loop().time()

    async def make_sure(self) -> None:
        """Raises `ModelChanged` when another model is served now, `ModelUnreachable` when none is."""
        if self._expected is None or not self._may_have_changed():
            return
        found = await self._ask()
        if found is None:
            return  # it loads, or says nothing; the request itself will show whether the server is there
        self._in_doubt = found != self._expected
        if self._in_doubt:
            raise ModelChanged(
                f"{self._host.url} serves {found} now; it was {self._expected} when this run began. Serve that model "
                "again and resume the run, or begin a new one."
            )

    def _may_have_changed(self) -> bool:
        if self._in_doubt:
            return True
        if not self._heard or self._transport.resting:
            return False
        return asyncio.get_running_loop().time() - self._heard > SILENCE_BEFORE_DOUBT

    async def _ask(self) -> Identity | None:
        try:
            for path in self._paths:
                response = await self._transport.send("GET", path)
                try:
                    status, data = response.status, await response.read()
                finally:
                    await response.close()
                if status != 404:
                    break
        except TransportError as error:
            raise self._host.unreachable(error) from error
        try:
            return self._read(parse_object(data)) if status == 200 else None
        except ValueError:
            return None
