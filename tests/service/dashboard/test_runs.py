"""The list of runs over a store and run folders as they are left: what is shown, chosen, stopped."""

from __future__ import annotations

import json
import re

import pytest

pytest.importorskip("fastapi", reason="needs the extra `service`")

from service.dashboard.settings import DashboardSettings, forge_pages
from service.store import State
from service.webhooks.model import WishKind
from tests.service.dashboard.seeds import READ, USUAL, WRITE, Asked, ask
from tests.service.dashboard.serving import Dashboard

pytestmark = pytest.mark.heavy


def rows(page: str) -> list[str]:
    """What each row of the list is about."""
    return re.findall(r'<a id="run-[^>]*>([^<]*)</a>', page)


def test_runs_are_listed_with_what_came_of_them(site: Dashboard) -> None:
    for asked in USUAL:
        ask(site.store, site.runs, asked)
    with site.visitor() as client:
        page = client.get("/").text
    assert rows(page) == [f"{one.slug} #{one.number}" for one in reversed(USUAL)]
    assert 'href="https://forge.example/octo/calc/issues/3"' in page
    assert 'href="https://forge.example/octo/calc/pull/4"' in page
    assert page.count("<span>verified") == 2
    assert "the forge doesn&#39;t take the push: 403" in page
    assert "Stop this run" not in page


def test_runs_are_chosen_by_repository_and_state(site: Dashboard) -> None:
    for asked in USUAL:
        ask(site.store, site.runs, asked)
    with site.visitor() as client:
        assert rows(client.get("/?repository=octo/calc&state=done").text) == ["octo/calc #7", "octo/calc #3"]
        assert rows(client.get("/?repository=&state=failed").text) == ["octo/calc #9"]
        assert "Nothing matches" in client.get("/?repository=nobody/nothing").text


def test_runs_come_in_pages(site: Dashboard) -> None:
    for at in range(1, 31):
        ask(site.store, site.runs, Asked("octo/calc", at, State.WAITING))
    with site.visitor() as client:
        first = client.get("/?repository=octo/calc").text
        assert rows(first) == [f"octo/calc #{at}" for at in range(30, 5, -1)]
        older = re.search(r'id="older" class="button" href="([^"]*)"', first)
        assert older
        second = client.get(older[1].replace("&amp;", "&")).text
        assert rows(second) == [f"octo/calc #{at}" for at in range(5, 0, -1)]
        assert 'id="newest" class="button" href="/?repository=octo%2Fcalc"' in second
        assert "hx-get" not in second


def test_an_empty_service_says_how_to_begin(site: Dashboard) -> None:
    with site.visitor() as client:
        assert "@patchwright fix" in client.get("/").text


def test_the_outcome_is_that_of_the_requests_own_end(site: Dashboard) -> None:
    ask(site.store, site.runs, USUAL[0])
    (log,) = site.runs.glob("*/*/events.jsonl")
    begun, ended = (json.loads(line) for line in log.read_text().splitlines())
    later = {**ended, "time": ended["time"] + 3600, "data": {**ended["data"], "outcome": "no patch"}}
    written = [begun, {**begun, "data": {"text": '"run_ended"'}}, ended, later]
    log.write_text("".join(json.dumps(one) + "\n" for one in written) + '{"type": "run_ended", "time": 1')
    with site.visitor() as client:
        assert "<span>verified" in client.get("/").text
        log.write_text("".join(json.dumps(one) + "\n" for one in (begun, later)))
        page = client.get("/").text
    assert rows(page) == ["octo/calc #3"]
    assert "verified" not in page
    assert "no patch" not in page


def test_stopping_is_for_tokens_that_may(site: Dashboard) -> None:
    key = ask(site.store, site.runs, USUAL[-1]).id
    with site.visitor(*READ) as client:
        assert "Stop this run" not in client.get("/").text
        assert client.post(f"/runs/{key}/cancel", data=form(client)).status_code == 403
    with site.visitor(*WRITE) as client:
        assert "Stop this run" in client.get("/").text
        answer = client.post(f"/runs/{key}/cancel", data={**form(client), "next": "/queue"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/queue")
        assert client.post(f"/runs/r{'0' * 24}/cancel", data=form(client)).status_code == 404
        assert client.post("/runs/..%2fx/cancel", data=form(client)).status_code in (404, 422)
        assert "Stop this run" not in client.get("/").text
    *_, last = site.store.of_thread(77, USUAL[-1].number)
    assert (last.wish.kind, last.asked_by and last.asked_by.login) == (WishKind.STOP, "dashboard:ada")


def form(client: object) -> dict[str, str]:
    found = re.search(r'name="form_token" value="(\w+)"', client.get("/").text)  # type: ignore[attr-defined]
    assert found
    return {"form_token": found[1]}


@pytest.mark.parametrize(
    ("slug", "number", "address"),
    [
        ("octo/calc", 7, "https://forge.example/octo/calc/issues/7"),
        ("o?/#x", 7, "https://forge.example/o%3F/%23x/issues/7"),
        ("../..", 7, ""),
        ("octo", 7, ""),
        ("octo/calc", 0, ""),
        ("javascript:x/y", 1, "https://forge.example/javascript%3Ax/y/issues/1"),
    ],
)
def test_addresses_at_the_forge(slug: str, number: int, address: str) -> None:
    assert DashboardSettings(forge="https://forge.example").issue(slug, number) == address
    assert DashboardSettings(forge="").issue(slug, number) == ""


@pytest.mark.parametrize(
    ("api", "pages"),
    [
        ("https://api.github.com", "https://github.com"),
        ("https://git.corp.example/api/v3/", "https://git.corp.example"),
        ("javascript:alert(1)", ""),
        ("https://me:secret@host/api/v3", ""),
    ],
)
def test_where_the_forges_pages_are(api: str, pages: str) -> None:
    assert forge_pages(api) == pages
