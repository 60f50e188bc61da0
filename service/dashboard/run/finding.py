"""Which run an address means: by the id of a request, or by the run's own. Both are looked up; no path is made of them.

Left out: what the run has come to (`reading`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.runs import RunFolder
from service.api.finding import folder_of
from service.bot.running import run_in
from service.dashboard.frame import moment
from service.dashboard.run.phases import begun_at
from service.store import ACTIVE, Request, Store
from service.webhooks.model import WishKind

_REQUEST: Final = re.compile(r"r[0-9a-f]{24}")
_RUN: Final = re.compile(r"\d{8}-\d{6}-[0-9a-f]{4}")
_ATTEMPT: Final = re.compile(r"(\d+)-(\d+)-\d+")  # a folder of runs: repository, issue, attempt
_RUNS: Final = frozenset({WishKind.FIX, WishKind.CONTINUE, WishKind.RETRY, WishKind.REVIEWED, WishKind.CHECKS_FAILED})


@dataclass(frozen=True, slots=True)
class Found:
    """`folder`: None where the request has no run yet, or its files are on another machine.

    `active`: the request for which the run goes on now, if it does.
    """

    request: Request
    folder: RunFolder | None
    active: Request | None


def find(runs: Path, store: Store, key: str) -> Found | None:
    """The run of a request or of its own id; None for what is neither. Raises StoreUnavailable."""
    if _REQUEST.fullmatch(key):
        request = store.request(key)
    elif _RUN.fullmatch(key):
        request = _of_run(runs, store, key)
    else:
        return None
    if request is None:
        return None
    folder = folder_of(runs, store, request) or _left_behind(runs, store, request)
    return Found(request, folder, _active(runs, store, request, folder))


def _of_run(runs: Path, store: Store, run: str) -> Request | None:
    """The request that goes on with a run now, or else the last that did."""
    found = next((named for named in _attempts(runs) if run in named[2]), None)
    asked = _of_conversation(store, found[0], found[1]) if found else []
    going = [one for one in asked if one.state in ACTIVE and _is(folder_of(runs, store, one), run)]
    ended = [one for one in asked if one.run == run]
    left = [one for one in asked if _is(_left_behind(runs, store, one), run)]
    return next((some[-1] for some in (going, ended, left) if some), None)


def _attempts(runs: Path) -> Iterator[tuple[int, int, frozenset[str]]]:
    """(repository, issue, what lies in its folder) of all attempts on this machine."""
    found = ((_ATTEMPT.fullmatch(folder.name), folder) for folder in (runs.iterdir() if runs.is_dir() else ()))
    return ((int(named[1]), int(named[2]), _names(folder)) for named, folder in found if named)


def _names(folder: Path) -> frozenset[str]:
    try:
        return frozenset(path.name for path in folder.iterdir())
    except OSError:  # it was pruned just now
        return frozenset()


def _is(folder: RunFolder | None, run: str) -> bool:
    return folder is not None and folder.id == run


def _of_conversation(store: Store, repository_id: int, number: int) -> list[Request]:
    """What was asked for runs at an issue and at our pull request for it, oldest first."""
    thread = store.thread(repository_id, number)
    numbers = {number, *((thread.number, thread.pull or thread.number) if thread else ())}
    found = [one for each in numbers for one in store.of_thread(repository_id, each) if one.wish.kind in _RUNS]
    return sorted(found, key=lambda one: one.created)


def _left_behind(runs: Path, store: Store, request: Request) -> RunFolder | None:
    """The run of a request that was stopped, or failed, before it could say which: the last that had begun then."""
    ended = moment(request.ended)
    if ended is None or request.run or request.wish.kind not in _RUNS:
        return None
    thread = store.thread(request.repository_id, request.wish.number)
    number = thread.number if thread else request.wish.number
    found = (run_in(folder) for folder in runs.glob(f"{request.repository_id}-{number}-*"))
    begun = [(at, one) for one in found if one and (at := begun_at(one.id)) and at <= ended.timestamp()]
    return max(begun, key=lambda pair: pair[0])[1] if begun else None


def _active(runs: Path, store: Store, request: Request, folder: RunFolder | None) -> Request | None:
    if request.state in ACTIVE:
        return request
    others = _of_conversation(store, request.repository_id, request.wish.number) if folder else []
    return next((one for one in others if one.state in ACTIVE and folder_of(runs, store, one) == folder), None)
