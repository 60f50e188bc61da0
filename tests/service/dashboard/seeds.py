"""What the dashboard's tests look at: requests, run folders and evaluations as the bot and `agent eval` leave them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from agent.events import EventLog, EventType
from agent.forges.base import Person
from service.store import Request, State, Store
from service.store.sessions import begin_session
from service.store.tokens import make_token
from service.webhooks.model import Delivery, ObjectKey, ObjectKind, Wish, WishKind

_HEAD = "<!doctype html><link rel=icon href='data:,'><meta name=viewport content='width=device-width'>"
REPORT = (
    f"{_HEAD}<title>r</title><p id=it>no script ran</p><script>document.getElementById('it').textContent = 'origin '"
    " + self.origin</script><a href='trajectories/astropy__astropy-12907/1/index.html'>A trajectory</a>"
)
TRAJECTORY = f"{_HEAD}<title>t</title><p>what happened</p><a href='../../../report.html'>Report</a>"
READ, WRITE = ["runs:read"], ["runs:read", "runs:write"]


@dataclass(frozen=True)
class Asked:
    """A request and what became of it."""

    slug: str
    number: int
    state: State
    kind: WishKind = WishKind.FIX
    who: str = "mia"
    why: str = ""
    pull: int | None = None
    outcome: str = ""
    repository: int = 77


USUAL = (
    Asked("octo/calc", 3, State.DONE, pull=4, outcome="verified"),
    Asked("octo/calc", 7, State.DONE, pull=9, outcome="unverified", who="noor"),
    Asked("harbor/tide-tables", 112, State.DONE, why="", outcome="no patch", who="jun-w", repository=78),
    Asked("octo/calc", 9, State.FAILED, WishKind.REVIEWED, why="the forge doesn't take the push: 403", repository=77),
    Asked("harbor/tide-tables", 118, State.CANCELLED, why="closed came after it", repository=78),
    Asked("harbor/tide-tables", 121, State.DONE, pull=122, outcome="verified", who="jun-w", repository=78),
    Asked("octo/calc", 14, State.RUNNING, outcome=""),
    Asked("harbor/tide-tables", 130, State.RUNNING, WishKind.CHECKS_FAILED, who="jun-w", repository=78),
    Asked("harbor/tide-tables", 131, State.QUEUED, WishKind.CONTINUE, repository=78),
    Asked("octo/calc", 15, State.WAITING, who="noor"),
)


def ask(store: Store, runs: Path, asked: Asked) -> Request:
    """Stores a request and, where it has one, its run's folder."""
    at = (datetime.now(UTC) - timedelta(minutes=5)).strftime("%Y-%m-%dT%H:%M:%SZ")
    delivery = Delivery(
        f"{asked.slug}{asked.number}{asked.kind}", "issues", "labeled", asked.repository, asked.slug, 1,
        Person(sum(asked.who.encode()), asked.who), ObjectKey(ObjectKind.ISSUE, asked.number, at), at,
        Wish(asked.kind, asked.number),
    )  # fmt: skip
    (received,) = store.receive([delivery])
    key = received.request
    assert key is not None
    run = f"20260101-000000-{key[1:5]}" if asked.state not in (State.WAITING, State.QUEUED) else None
    if run:
        folder = runs / f"{asked.repository}-{asked.number}-1" / run
        folder.mkdir(parents=True, exist_ok=True)
        log = EventLog(folder / "events.jsonl")
        log.append(EventType.RUN_STARTED, base={"commit": "c" * 40, "notes": []})
        if asked.outcome:
            log.append(EventType.RUN_ENDED, outcome=asked.outcome, exit_code=0, message="")
        log.close()
    if asked.state is not State.WAITING:
        store.change(key, asked.state, why=asked.why, run=run, pull=asked.pull)
    found = store.request(key)
    assert found is not None
    return found


def token(store: Store, scopes: list[str], name: str = "ada") -> str:
    return make_token(store, name, scopes).reveal()


def session(store: Store, scopes: list[str], name: str = "ada") -> str:
    """A cookie's value."""
    return begin_session(store, token(store, scopes, name).split("_")[1]).reveal()


def evaluate(folder: Path, name: str, *, report: bool = True, page: str = "", **more: Any) -> Path:
    """An evaluation run's folder, with a report of two attempts."""
    place = folder / name
    place.mkdir(parents=True)
    manifest = {
        "format": 1,
        "run": name,
        "created": more.get("created", 1_780_000_000.0),
        "model": {"name": more.get("model", "Qwen/Qwen3.6-27B")},
        "dataset": {"name": more.get("dataset", "princeton-nlp/SWE-bench_Verified")},
        "settings": {"model": "http://gpu-server:30000"},
    }
    (place / "manifest.json").write_text(json.dumps(manifest))
    if report:
        (place / "report.json").write_text(json.dumps(_report(name, **more)))
    if page:
        (place / "report.html").write_text(page)
    for row in _report(name, **more)["attempts"]:
        beside = place / "trajectories" / row["instance_id"].replace("/", "_") / "1"
        beside.mkdir(parents=True)
        (beside / "index.html").write_text(TRAJECTORY)
    return place


def _report(name: str, **more: Any) -> dict[str, Any]:
    instance, cause = more.get("instance", "astropy__astropy-12907"), more.get("cause", "incomplete fix")
    row = {"attempt": 1, "steps": 14, "seconds": 312.4, "cost": None}
    attempts = [
        {**row, "instance_id": instance, "status": "resolved", "cause": ""},
        {**row, "instance_id": f"{instance}-2", "status": "unresolved", "cause": cause},
    ]
    rate = {"resolved": 36, "rate": 0.610169, "low": 0.483, "high": 0.724, "denominator": "all attempts asked for"}
    counts = {"attempts": 59, "attempts_asked": more.get("asked", 60), "infrastructure": 1, "doubtful": 0}
    return {
        "format": 1, "run": name, "counts": counts, "resolved": rate, "attempts": attempts,
        "causes": [{"cause": cause, "meaning": more.get("meaning", "tests still fail"), "attempts": [["a", 1]]}],
        "usage": {"cost": {"sum": None}, "seconds": {"sum": 18000.0}},
    }  # fmt: skip
