"""What holds for all pages: the policy, a session, checked forms, errors that are pages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="needs the extra `service`")

from fastapi.routing import APIRoute

from service.dashboard.frame import HEADERS
from service.dashboard.joining import ROUTERS
from tests.service.dashboard.seeds import REPORT, USUAL, WRITE, ask, evaluate, session
from tests.service.dashboard.serving import Dashboard, dashboard

pytestmark = pytest.mark.heavy


def own_paths(site: Dashboard) -> dict[str, list[str]]:
    """method -> addresses of all pages, with names that there are."""
    key = ask(site.store, site.runs, USUAL[0]).id
    evaluate(site.evaluations, "nightly", page=REPORT)
    known = {"name": "nightly", "instance": "astropy__astropy-12907", "attempt": "1", "key": key}
    found: dict[str, list[str]] = {"GET": [], "POST": []}
    for route in (one for router in ROUTERS for one in router.routes if isinstance(one, APIRoute)):
        if not route.path.startswith("/static/"):
            for method in route.methods:
                found[method].append(re.sub(r"\{(\w+)(:\w+)?\}", lambda one: known.get(one[1], "1"), route.path))
    assert {"/", "/queue", "/evaluations", "/login", "/evaluations/nightly/report.html"} <= set(found["GET"])
    return found


def test_every_page_has_the_policy(site: Dashboard) -> None:
    paths = own_paths(site)["GET"]
    with site.visitor() as visitor, site.client() as guest:
        for client in (visitor, guest):
            for path in (*paths, "/nothing", "/?state=nothing", "/?before=x", "/evaluations/none"):
                with client.stream("GET", path) as answer:
                    said = answer.headers
                assert said["x-content-type-options"] == "nosniff", path
                assert said["cache-control"].startswith("no-"), path
                assert said["referrer-policy"] in ("same-origin", "no-referrer"), path
                policy = said["content-security-policy"]
                assert policy == HEADERS["Content-Security-Policy"] or policy.startswith("sandbox allow-scripts;"), path
                assert "text/html" not in said.get("content-type", "") or "frame-ancestors 'none'" in policy


def test_every_page_needs_a_session(site: Dashboard) -> None:
    paths = own_paths(site)
    with site.client(Origin=site.url) as guest, site.visitor("runs:write") as writer:
        for path in set(paths["GET"]) - {"/login"}:
            with guest.stream("GET", path) as answer:
                assert (answer.status_code, answer.headers["location"][:6]) == (303, "/login"), path
            with writer.stream("GET", path) as answer:
                assert answer.status_code == 403, path
        for path in set(paths["POST"]) - {"/login"}:
            assert guest.post(path).status_code == 303, path


def test_every_form_is_checked(site: Dashboard) -> None:
    paths = own_paths(site)["POST"]
    with site.visitor(*WRITE) as visitor:
        for path in set(paths) - {"/login"}:
            assert visitor.post(path).status_code == 403, path
    with site.client(session(site.store, WRITE), Origin="https://evil.example") as elsewhere:
        for path in paths:
            assert elsewhere.post(path).status_code == 403, path


def test_the_dashboard_isnt_part_of_the_described_api(site: Dashboard) -> None:
    described = site.client().get("/api/v1/openapi.json").json()["paths"]
    assert not [path for path in described if not path.startswith("/api/v1/")]


def test_errors_are_pages_for_people_and_json_for_programs(site: Dashboard) -> None:
    with site.visitor() as client:
        shown = client.get("/nothing")
        assert (shown.status_code, shown.headers["content-type"]) == (404, "text/html; charset=utf-8")
        assert "There is no such page" in shown.text
        assert client.get("/?before=0").status_code == 422
        assert client.get("/?state=nothing").status_code == 422
        for path in ("/api/v1/nothing", "/static/nothing"):
            assert client.get(path).json() == {"detail": "Not Found"} or path.startswith("/static")
            assert client.get(path).status_code == 404


def test_a_page_that_breaks_says_so_and_nothing_of_how(tmp_path: Path) -> None:
    with dashboard(tmp_path) as site, site.visitor() as client:
        site.store.engine.dispose()
        (tmp_path / "service.sqlite").unlink()
        (tmp_path / "service.sqlite").mkdir()
        answer = client.get("/")
        assert answer.status_code in (500, 503)
        assert "text/html" in answer.headers["content-type"]
        assert "Traceback" not in answer.text
        assert str(tmp_path) not in answer.text
        (tmp_path / "service.sqlite").rmdir()
