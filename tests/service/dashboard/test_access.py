"""Who gets in, how a session ends, and that nobody else's page can do anything in a visitor's name."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

pytest.importorskip("fastapi", reason="needs the extra `service`")

import httpx2
import sqlalchemy as sa

from service.dashboard.access import local_path
from service.dashboard.login import FAILURES
from service.store import sessions
from service.store.engine import writing
from service.store.sessions import IDLE, LONGEST, TICKET, begin_session, check_session, make_ticket
from service.store.tables import SESSIONS, TICKETS
from service.store.tokens import revoke_token
from service.webhooks.rates import RateLimit
from tests.service.dashboard.seeds import READ, USUAL, WRITE, ask, session, token
from tests.service.dashboard.serving import Dashboard

pytestmark = pytest.mark.heavy
_FIELD = re.compile(r'name="form_token" value="([0-9a-f]{64})"')


def log_in(site: Dashboard, given: str, client: httpx2.Client | None = None, **fields: str) -> httpx2.Response:
    asking = client or site.client(Origin=site.url)
    return asking.post("/login", data={"token": given, **fields})


def form_token(client: httpx2.Client) -> str:
    found = _FIELD.search(client.get("/").text)
    assert found
    return found[1]


def test_a_token_opens_a_session_that_scripts_and_other_sites_dont_have(site: Dashboard) -> None:
    with site.client(Origin=site.url) as client:
        given = token(site.store, READ)
        answer = log_in(site, given, client, next="/queue")
        assert (answer.status_code, answer.headers["location"]) == (303, "/queue")
        said = answer.headers["set-cookie"]
        assert "HttpOnly" in said
        assert "samesite=strict" in said.lower()
        assert "Secure" not in said
        assert given not in said
        assert client.get("/").status_code == 200
        assert client.get("/login?next=/evaluations").headers["location"] == "/evaluations"


def test_the_cookie_is_for_https_alone_where_the_visitor_came_so(site: Dashboard) -> None:
    with site.client(Origin=site.url, **{"X-Forwarded-Proto": "https"}) as client:
        said = log_in(site, token(site.store, READ), client).headers["set-cookie"]
        assert said.startswith("__Host-patchwright=")
        assert "Secure" in said
        assert "Domain" not in said


def test_the_store_knows_hashes_only(site: Dashboard) -> None:
    secrets = [session(site.store, READ), make_ticket(site.store, "00112233aabb").reveal()]
    stored = site.folder.joinpath("service.sqlite").read_bytes()
    stored += b"".join(path.read_bytes() for path in site.folder.glob("service.sqlite-*"))
    assert not [secret for secret in secrets if secret.encode() in stored]


@pytest.mark.parametrize("given", ["", "pw_", "pw_000000000000_" + "A" * 43, "x" * 5000, "ключ", "pw_\x00"])
def test_what_is_no_token_opens_nothing(site: Dashboard, given: str) -> None:
    answer = log_in(site, given)
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers
    assert "There is no such token" in answer.text


def test_a_revoked_token_opens_nothing_and_ends_its_sessions(site: Dashboard) -> None:
    given = token(site.store, READ)
    with site.client(Origin=site.url) as client:
        log_in(site, given, client)
        assert client.get("/").status_code == 200
        revoke_token(site.store, given.split("_")[1])
        assert client.get("/").headers["location"] == "/login"
    assert log_in(site, given).status_code == 401


def test_a_token_that_may_not_read_gets_no_session(site: Dashboard) -> None:
    answer = log_in(site, token(site.store, ["runs:write"]))
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


def test_guessing_at_a_token_is_slowed_down_for_that_token_alone(site: Dashboard) -> None:
    site.state.failed_logins = RateLimit(FAILURES, clock=lambda: 0.0)
    given, other = token(site.store, READ), token(site.store, READ)
    wrong = given[:-4] + ("AAAA" if given[-4:] != "AAAA" else "BBBB")
    codes = [log_in(site, wrong).status_code for _ in range(12)]
    assert codes == [401] * FAILURES.burst + [429] * (12 - FAILURES.burst)
    refused = log_in(site, given)
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) > 0
    assert log_in(site, other).status_code == 303


def test_a_session_that_somebody_planted_is_not_taken_over(site: Dashboard) -> None:
    planted = session(site.store, READ, "mallory")
    with site.client(planted, Origin=site.url) as client:
        said = log_in(site, token(site.store, READ), client).headers["set-cookie"]
    assert planted not in said
    assert check_session(site.store, planted) is None


@pytest.mark.parametrize(("column", "after"), [("seen", IDLE), ("created", LONGEST)])
def test_sessions_end_by_themselves(site: Dashboard, column: str, after: timedelta) -> None:
    secret = session(site.store, READ)
    set_back(site, SESSIONS, column, after - timedelta(minutes=5))
    assert check_session(site.store, secret) is not None
    set_back(site, SESSIONS, column, after + timedelta(minutes=5))
    assert check_session(site.store, secret) is None
    begin_session(site.store, "00112233aabb")
    with writing(site.store.engine) as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(SESSIONS)).scalar() == 1


def test_coming_back_keeps_a_session(site: Dashboard) -> None:
    secret = session(site.store, READ)
    set_back(site, SESSIONS, "seen", IDLE - timedelta(hours=1))
    assert check_session(site.store, secret) is not None
    with writing(site.store.engine) as connection:
        seen = connection.execute(sa.select(SESSIONS.c.seen)).scalar()
    assert seen is not None
    assert seen > sessions._ago(timedelta(hours=1))


def set_back(site: Dashboard, table: sa.Table, column: str, by: timedelta) -> None:
    with writing(site.store.engine) as connection:
        connection.execute(sa.update(table).values({column: sessions._ago(by)}))


def test_logging_out_ends_the_session_for_whoever_kept_the_cookie(site: Dashboard) -> None:
    secret = session(site.store, READ)
    with site.client(secret, Origin=site.url) as client:
        answer = client.post("/logout", data={"form_token": form_token(client)})
        assert answer.headers["location"] == "/login"
        assert 'patchwright=""' in answer.headers["set-cookie"]
        assert client.get("/").status_code == 303


# -- tickets --------------------------------------------------------------------------------------------------------


def test_a_ticket_logs_in_once_and_not_by_being_looked_at(site: Dashboard) -> None:
    ticket = make_ticket(site.store, token(site.store, READ).split("_")[1]).reveal()
    with site.client(Origin=site.url) as client:
        for _ in range(2):
            shown = client.get(f"/login?ticket={ticket}")
            assert "set-cookie" not in shown.headers
            assert f'value="{ticket}"' in shown.text
        assert client.post("/login", data={"ticket": ticket}).status_code == 303
        assert client.get("/").status_code == 200
    again = site.client(Origin=site.url).post("/login", data={"ticket": ticket})
    assert again.status_code == 401
    assert "was used already" in again.text


def test_a_ticket_gets_old_and_dies_with_its_token(site: Dashboard) -> None:
    given = token(site.store, READ).split("_")[1]
    old, dead = make_ticket(site.store, given).reveal(), ""
    set_back(site, TICKETS, "created", TICKET + timedelta(seconds=5))
    dead = make_ticket(site.store, given).reveal()
    revoke_token(site.store, given)
    client = site.client(Origin=site.url)
    assert [client.post("/login", data={"ticket": one}).status_code for one in (old, dead)] == [401, 401]


# -- where a login leads ------------------------------------------------------------------------------------------


ELSEWHERE = [
    "https://evil.example/", "//evil.example", "/\\evil.example", "\\\\evil.example", "javascript:alert(1)", "evil",
    "/\t/evil.example", "///evil.example", "http:evil.example", " //evil.example", "/\n/evil.example", "", "/é",
]  # fmt: skip


@pytest.mark.parametrize("given", ELSEWHERE)
def test_a_login_leads_to_pages_of_ours_only(site: Dashboard, given: str) -> None:
    assert local_path(given) == "/"
    answer = log_in(site, token(site.store, READ), next=given)
    assert answer.headers["location"] == "/"
    shown = site.client().get("/login", params={"next": given}).text
    assert 'name="next" value="/"' in shown


@pytest.mark.parametrize("path", ["/", "/queue", "/?repository=a%2Fb&state=done", "/runs/r1#step-2"])
def test_a_login_leads_back_to_where_it_was_asked_for(path: str) -> None:
    assert local_path(path) == path


def test_who_isnt_logged_in_is_sent_to_log_in_and_back(site: Dashboard) -> None:
    answer = site.client().get("/?repository=octo/calc&state=done")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/login?next=/%3Frepository%3Docto/calc%26state%3Ddone"
    part = site.client(**{"HX-Request": "true"}).get("/")
    assert (part.status_code, part.headers["hx-refresh"]) == (401, "true")


def test_a_link_on_another_site_asks_the_browser_again_before_it_asks_the_visitor(site: Dashboard) -> None:
    """For browsers keep strict cookies back there."""
    client = site.client(**{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"})
    answer = client.get("/queue")
    assert answer.status_code == 200
    assert '<meta http-equiv="refresh" content="0; url=/login?next=/queue">' in answer.text


# -- forms ----------------------------------------------------------------------------------------------------------


FORMS = ["/logout", "/runs/{}/cancel"]


@pytest.mark.parametrize("path", FORMS)
def test_forms_of_others_do_nothing(site: Dashboard, path: str) -> None:
    key = ask(site.store, site.runs, USUAL[-1]).id
    secret, path = session(site.store, WRITE), path.format(key)
    with site.client(secret, Origin=site.url) as own:
        good = form_token(own)
    with site.visitor(*WRITE) as other:
        foreign = form_token(other)
    own_origin, bad = {"Origin": site.url}, {"form_token": good}
    tried = [
        (own_origin, {}),
        (own_origin, {"form_token": ""}),
        (own_origin, {"form_token": foreign}),
        ({}, bad),
        ({"Origin": "https://evil.example"}, bad),
        ({"Origin": "null"}, bad),
        ({**own_origin, "Sec-Fetch-Site": "cross-site"}, bad),
        ({**own_origin, "Sec-Fetch-Site": "same-site"}, bad),
    ]
    for headers, fields in tried:
        with site.client(secret, **headers) as client:
            assert client.post(path, data=fields).status_code == 403, (headers, fields)
    assert check_session(site.store, secret) is not None
    found = site.store.request(key)
    assert found is not None
    assert found.state == "waiting"
    with site.client(secret, Origin=site.url) as client:
        assert client.post(path, data={"form_token": good}).status_code == 303


def test_nobody_is_logged_in_by_another_site(site: Dashboard) -> None:
    given = token(site.store, READ)
    for headers in ({}, {"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site", "Origin": site.url}):
        assert site.client(**headers).post("/login", data={"token": given}).status_code == 403


def test_forms_are_bounded(site: Dashboard) -> None:
    client = site.client(Origin=site.url)
    assert client.post("/login", data={"token": "x" * 20_000}).status_code == 413
    assert client.post("/login", data={f"f{at}": "1" for at in range(100)}).status_code == 400
    assert client.post("/login", content=b"\xff\xfe").status_code == 400


def test_asking_for_a_page_changes_nothing(site: Dashboard) -> None:
    key = ask(site.store, site.runs, USUAL[-1]).id
    with site.visitor(*WRITE) as client:
        for path in (f"/runs/{key}/cancel", "/logout"):
            assert client.get(path).status_code in (404, 405)
        assert client.get("/").status_code == 200
    found = site.store.request(key)
    assert found is not None
    assert found.state == "waiting"


def test_the_api_doesnt_take_a_session(site: Dashboard) -> None:
    with site.visitor(*WRITE) as client:
        for path in ("/runs", "/queue", f"/runs/r{'0' * 24}", f"/runs/r{'0' * 24}/events"):
            assert client.get(f"/api/v1{path}").status_code == 401
        assert client.post("/api/v1/runs", json={"repository": "octo/calc", "number": 1}).status_code == 401
