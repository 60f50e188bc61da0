"""Group commit: one thread writes what many requests brought, as many as have come in one transaction.

A commit waits for the disk, some milliseconds; a thousand deliveries a second share a few hundred of them. `record`
returns when the delivery is on the disk. Left out: the rules (`service.store.receiving`).
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Final

from service.store.engine import StoreUnavailable, checkpoint, checkpoint_aside
from service.store.model import Received
from service.store.store import Store
from service.webhooks.model import Delivery

_LOG = logging.getLogger("patchwright.service")
_MOST: Final = 200  # deliveries in a transaction
_APART: Final = 0.01  # seconds between the beginnings of two: what comes meanwhile shares the second's cost
_LONGEST_LINE: Final = 5000
_CHECKPOINT_SECONDS: Final = 1.0

Item = tuple[Delivery, "asyncio.Future[Received]"]
Result = Received | BaseException


class Recorder:
    """Used as an async context: closing writes what is still in line."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._line: queue.SimpleQueue[Item | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._work, name="recorder", daemon=True)
        self._ended = threading.Event()
        self._aside = threading.Thread(target=self._checkpoint, name="checkpoints", daemon=True)

    async def __aenter__(self) -> Recorder:
        checkpoint_aside(self._store.engine)
        self._thread.start()
        self._aside.start()
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._line.put(None)
        self._ended.set()
        await asyncio.to_thread(self._thread.join)
        await asyncio.to_thread(self._aside.join)

    def _checkpoint(self) -> None:
        """Beside the writing, which would else wait for it after every thousand pages."""
        while not self._ended.wait(_CHECKPOINT_SECONDS):
            try:
                checkpoint(self._store.engine)
            except StoreUnavailable as problem:
                _LOG.warning("the write-ahead log stays longer: %s", problem)

    async def record(self, delivery: Delivery) -> Received:
        """Raises StoreUnavailable: it may be sent again."""
        if self._line.qsize() >= _LONGEST_LINE:
            raise StoreUnavailable("more deliveries come than can be stored; send it again in a while")
        answer: asyncio.Future[Received] = self._loop.create_future()
        self._line.put((delivery, answer))
        return await answer

    def _work(self) -> None:
        began = 0.0
        while (first := self._line.get()) is not None:
            time.sleep(max(0.0, began + _APART - time.monotonic()))
            began = time.monotonic()
            items, last = [first], False
            while len(items) < _MOST and not last:
                try:
                    item = self._line.get_nowait()
                except queue.Empty:
                    break
                if item is None:
                    last = True
                else:
                    items.append(item)
            results = self._write([delivery for delivery, _ in items])
            answers = [answer for _, answer in items]
            self._loop.call_soon_threadsafe(_tell, answers, results)
            if last:
                return

    def _write(self, deliveries: Sequence[Delivery]) -> Sequence[Result]:
        try:
            return self._store.receive(deliveries)
        except StoreUnavailable as error:
            return [error] * len(deliveries)
        # one delivery's fault, whatever it is, must neither be the others' nor end the thread
        except Exception as error:  # noqa: BLE001
            if len(deliveries) > 1:
                return [self._write([delivery])[0] for delivery in deliveries]
            _LOG.exception("delivery %s can't be stored", deliveries[0].guid)
            return [error]


def _tell(answers: Sequence[asyncio.Future[Received]], results: Sequence[Result]) -> None:
    for answer, result in zip(answers, results, strict=True):
        if answer.done():  # whoever asked has gone
            continue
        if isinstance(result, BaseException):
            answer.set_exception(result)
        else:
            answer.set_result(result)
