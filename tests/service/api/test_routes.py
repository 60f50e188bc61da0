"""The API over a store and run folders as the bot leaves them: tokens, scopes, pages, events, patches."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="needs the extra `service`")

from fastapi import FastAPI
from starlette.testclient import TestClient

from agent.events import EventLog, EventType
from agent.forges.base import Person
from service.api import install, router
from service.store import State, Store
from service.store.tokens import make_token, revoke_token
from service.webhooks.model import Delivery, ObjectKey, ObjectKind, Wish, WishKind
from service.webhooks.rates import Rate, RateLimit, RateLimits

pytestmark = pytest.mark.heavy

SLUG, REPOSITORY = "octo/calc", 77
MIA = Person(5, "mia")


@dataclass
class Api:
    client: TestClient
    store: Store
    runs: Path
    request: str  # of issue 3, with a run

    def get(self, path: str, scopes: str = "runs:read", **headers: str) -> tuple[int, object]:
        answer = self.client.get(f"/api/v1{path}", headers={**self.token(scopes), **headers})
        body = answer.json() if answer.headers["content-type"] == "application/json" else answer.text
        return answer.status_code, body

    def token(self, scopes: str = "runs:read") -> dict[str, str]:
        return {"Authorization": f"Bearer {make_token(self.store, 'test', scopes.split()).reveal()}"}


def asked(number: int, kind: WishKind = WishKind.FIX) -> Delivery:
    at = f"2026-01-01T00:00:{number:02}Z"
    return Delivery(
        f"g{number}{kind}", "issues", "labeled", REPOSITORY, SLUG, 1, MIA, ObjectKey(ObjectKind.ISSUE, number, at), at,
        Wish(kind, number),
    )  # fmt: skip


def finish(log: EventLog) -> None:
    log.append(EventType.PATCH, tree="t", bytes=3, files=[["M", "calc/ops.py"]])
    log.append(EventType.RUN_ENDED, outcome="verified", exit_code=0, message="")
    log.close()


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    store = Store.open(f"sqlite:///{tmp_path}/service.sqlite")
    received = store.receive([asked(number) for number in (1, 2, 3)])
    key = received[-1].request
    assert key is not None
    folder = tmp_path / "runs" / f"{REPOSITORY}-3-1" / "20260101-000000-abcd"
    folder.mkdir(parents=True)
    (folder / "patch.diff").write_text("diff --git a/x b/x\n")
    log = EventLog(folder / "events.jsonl")
    log.append(EventType.RUN_STARTED, base={"commit": "c" * 40, "notes": []})
    store.change(key, State.RUNNING, run=folder.name)
    app = FastAPI()
    app.include_router(router)
    install(app, router)
    app.state.store, app.state.runs = store, tmp_path / "runs"
    app.state.rates = RateLimits([RateLimit(Rate(60, 60)), RateLimit(Rate(1, 2))])
    with TestClient(app) as client:
        yield Api(client, store, tmp_path / "runs", key)
    log.close()
    store.close()


@pytest.mark.parametrize("path", ["/runs", "/runs/{}", "/runs/{}/patch", "/runs/{}/events", "/queue"])
def test_no_answer_without_the_right_token(api: Api, path: str) -> None:
    url = "/api/v1" + path.format(api.request)
    assert api.client.get(url).status_code == 401
    assert api.client.get(url, headers={"Authorization": "Bearer pw_000000000000_" + "A" * 43}).status_code == 401
    assert api.client.get(url, headers=api.token("runs:write")).status_code == 403
    token = make_token(api.store, "old", ["runs:read"]).reveal()
    revoke_token(api.store, token.split("_")[1])
    assert api.client.get(url, headers={"Authorization": f"Bearer {token}"}).status_code == 401


def test_runs_come_in_pages(api: Api) -> None:
    _, first = api.get("/runs?limit=2")
    assert isinstance(first, dict)
    assert [one["number"] for one in first["runs"]] == [3, 2]
    _, second = api.get(f"/runs?limit=2&before={first['next']}")
    assert isinstance(second, dict)
    assert ([one["number"] for one in second["runs"]], second["next"]) == ([1], None)
    _, running = api.get(f"/runs?state=running&repository={SLUG}")
    assert isinstance(running, dict)
    assert [one["id"] for one in running["runs"]] == [api.request]


def test_a_run_shows_what_it_came_to(api: Api) -> None:
    status, found = api.get(f"/runs/{api.request}")
    assert status == 200
    assert isinstance(found, dict)
    assert (found["state"], found["asked_by"], found["result"]["outcome"]) == ("running", "mia", None)
    assert api.get(f"/runs/{api.request}/patch") == (200, "diff --git a/x b/x\n")


@pytest.mark.parametrize("key", ["r" + "0" * 24, "..%2f..%2fetc", "r" + "0" * 23, "x"])
def test_what_is_no_run_is_not_looked_for(api: Api, key: str) -> None:
    for path in ("", "/patch", "/events"):
        assert api.get(f"/runs/{key}{path}")[0] in (404, 422)


def test_events_go_on_behind_the_last_one_until_the_run_ends(api: Api) -> None:
    file = api.runs / f"{REPOSITORY}-3-1" / "20260101-000000-abcd" / "events.jsonl"

    def end() -> None:
        time.sleep(0.5)
        with file.open("a") as log:
            for seq, kind in enumerate(("patch", "run_ended"), start=1):
                log.write(json.dumps({"seq": seq, "time": 1.0, "type": kind, "data": {"text": "a\nb"}}) + "\n")
        api.store.change(api.request, State.DONE)

    ending = threading.Thread(target=end)
    ending.start()
    status, text = api.get(f"/runs/{api.request}/events", **{"Last-Event-ID": "0"})
    ending.join()
    assert status == 200
    blocks = str(text).strip().split("\n\n")
    assert [block.split("\n")[0] for block in blocks] == ["id: 1", "id: 2", "event: end"]
    assert all(len(block.split("\n")) == 2 for block in blocks)


def test_submitting_is_idempotent_by_its_key(api: Api) -> None:
    body = {"repository": SLUG, "number": 9, "text": "only the parser"}
    headers = {**api.token("runs:write"), "Idempotency-Key": "one"}
    first, again = (api.client.post("/api/v1/runs", json=body, headers=headers).json() for _ in range(2))
    other = api.client.post("/api/v1/runs", json=body, headers={**headers, "Idempotency-Key": "two"}).json()
    assert first == again
    assert (first["asked_by"], first["state"], first["kind"]) == ("api:test", "waiting", "fix")
    assert isinstance(other, dict)
    unknown = api.client.post("/api/v1/runs", json={**body, "repository": "a/b"}, headers=headers)
    assert unknown.status_code == 404


def test_cancelling_asks_for_the_end_of_what_waits(api: Api) -> None:
    waiting = api.store.of_thread(REPOSITORY, 1)[0].id
    answer = api.client.post(f"/api/v1/runs/{waiting}/cancel", headers=api.token("runs:write"))
    assert (answer.status_code, answer.json()["id"]) == (202, waiting)
    (ending,) = [one for one in api.store.of_thread(REPOSITORY, 1) if one.wish.kind is WishKind.STOP]
    assert ending.asked_by is not None
    assert ending.asked_by.login == "api:test"
    assert [one.id for one in api.store.to_end(ending)] == [waiting]  # which the dispatcher does
    assert api.client.post(f"/api/v1/runs/{waiting}/cancel", headers=api.token("runs:read")).status_code == 403


def test_the_queue(api: Api) -> None:
    _, found = api.get("/queue")
    assert isinstance(found, dict)
    assert (found["waiting"], found["running"]) == (2, 1)
