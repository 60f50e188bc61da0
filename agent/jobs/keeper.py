"""The thread that says "I live", stops work that isn't ours any more, and takes up what lost workers left.

A thread, so that work which blocks its loop doesn't look like a dead worker. A worker is lost when its process is gone
(this machine's) or its heartbeat is older than the lease. Who judges others by their heartbeats must have been in touch
with the database for a whole lease itself: after an outage everybody gets that long to come back.
"""

from __future__ import annotations

import logging
import threading
import time

from sqlalchemy.exc import SQLAlchemyError

from agent.jobs.engine import Engine
from agent.jobs.machine import Identity, is_gone
from agent.jobs.store import Store

_LOG = logging.getLogger(__name__)
_BEATS = 6  # per lease


class Keeper:
    """Beats until `stop`. `lease` in seconds."""

    def __init__(self, store: Store, me: Identity, engine: Engine, lease: float) -> None:
        self._store, self._me, self._engine, self._lease = store, me, engine, lease
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name="jobs-keeper", daemon=True)
        self._in_touch_since = self._last = time.monotonic()
        self._idle: set[str] = set()  # jobs that are ours by the database and that nothing here works on

    def start(self) -> None:
        """After the first heartbeat, which has to be there before the first claim."""
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _go_on(self) -> None:
        wait = 0.0  # at once: what a dead process of this machine left is taken up before anything new
        while not self._stop.wait(wait):
            wait = self._lease / _BEATS
            try:
                self._turn()
            except SQLAlchemyError:
                continue  # the database is away: the next turn finds out for how long

    def _turn(self) -> None:
        runs = {(run.job.id, run.token): run for run in list(self._engine.runs)}
        self._store.beat(self._me, len(runs))
        now = time.monotonic()
        if now - self._last > self._lease / 2:
            self._in_touch_since = now
        self._last = now
        for claim, reason in self._store.stopped(list(runs)).items():
            runs[claim].stop(reason)
        claims = self._store.claims()
        self._give_back_idle(claims.pop(self._me.id, set()))
        self._take_up(claims, now - self._in_touch_since >= self._lease)

    def _give_back_idle(self, mine: set[str]) -> None:
        """A claim whose start failed, say for an outage between the two, would wait for ever: its worker lives."""
        idle = mine - self._engine.active()
        self._store.give_back(self._me.id, idle & self._idle)
        self._idle = idle - self._idle

    def _take_up(self, claims: dict[str, set[str]], may_judge: bool) -> None:
        leases = {lease.id: lease for lease in self._store.leases() if lease.id != self._me.id}
        for worker in claims.keys() | leases.keys():
            lease = leases.get(worker)
            gone = lease is not None and is_gone(self._me, lease.place, lease.pid, lease.started)
            if gone or (may_judge and (lease is None or lease.age > self._lease)):
                given = self._store.give_back(worker, claims.get(worker, ()))
                self._store.forget(worker)
                _LOG.info("worker %s is lost; %d of its jobs went back to the queue", worker, given)
