"""Requests that aren't what they say: about their length, their host, their path, who asks, and what they hold."""

from __future__ import annotations

import gzip
import json
from urllib.parse import quote

import httpx2
import pytest

from service.store import State
from service.webhooks import sign
from tests.service.processes import SECRET, SLUG
from tests.service.security.conftest import HIDDEN, There
from tests.service.security.raw import head, statuses, talk

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(300)]
SUBMIT = json.dumps({"repository": SLUG, "number": 9}).encode()
BEHIND = b"GET /healthz HTTP/1.1\r\nHost: behind\r\n\r\n"

SMUGGLED: dict[str, list[str | bytes]] = {
    "two lengths": [f"Content-Length: {len(SUBMIT)}", "Content-Length: 0"],
    "a list of lengths": [f"Content-Length: {len(SUBMIT)}, 0"],
    "a length with a sign": [f"Content-Length: +{len(SUBMIT)}"],
    "a negative length": ["Content-Length: -1"],
    "a length in hexadecimal": ["Content-Length: 0x10"],
    "an endless length": ["Content-Length: " + "9" * 5000],
    "an unknown encoding": ["Transfer-Encoding: xchunked"],
    "a hidden encoding": ["Transfer-Encoding: chunked, identity"],
    "a blank before the colon": [f"Content-Length : {len(SUBMIT)}"],
    "a line break in a name": [b"Content-Len\ngth: 0"],
    "NUL in a value": [b"X-Name: a\x00b"],
    "a bare return": [b"X-Name: a\rContent-Length: 5"],
}


@pytest.mark.parametrize("kind", SMUGGLED)
def test_a_request_of_doubtful_length_is_refused_with_all_that_follows(there: There, kind: str) -> None:
    fields = ["Content-Type: application/json", f"Authorization: Bearer {there.seeded.writer}", *SMUGGLED[kind]]
    start = head("POST /api/v1/runs HTTP/1.1", *fields).replace(b"Connection: close\r\n", b"")
    said = talk(there.web.port, start, SUBMIT, BEHIND)
    assert statuses(said) == [400], said


def test_a_length_beside_chunks_doesnt_count(there: There) -> None:
    """The chunks do, and what is sent behind them is no request: the connection is closed."""
    fields = [f"Authorization: Bearer {there.seeded.writer}", "Content-Type: application/json", "Content-Length: 4"]
    start = head("POST /api/v1/runs HTTP/1.1", *fields, "Transfer-Encoding: chunked")
    said = talk(there.web.port, start, b"2\r\n{}\r\n0\r\n\r\n", BEHIND)
    assert statuses(said) in ([400], [422]), said


def test_a_body_that_is_longer_than_it_says_is_cut_there(there: There) -> None:
    fields = [f"Authorization: Bearer {there.seeded.writer}", "Content-Type: application/json", "Content-Length: 2"]
    said = talk(there.web.port, head("POST /api/v1/runs HTTP/1.1", *fields), b"{}" + SUBMIT)
    assert statuses(said) == [422], said


def test_a_body_that_is_shorter_than_it_says_asks_for_nothing(there: There) -> None:
    fields = [f"Authorization: Bearer {there.seeded.writer}", "Content-Type: application/json"]
    start = head("POST /api/v1/runs HTTP/1.1", *fields, f"Content-Length: {len(SUBMIT) + 5}")
    assert 202 not in statuses(talk(there.web.port, start, SUBMIT, end=True))


@pytest.mark.parametrize("path", ["/api/v1/runs", "/webhooks/github"])
def test_endless_chunks_are_cut_off(there: There, path: str) -> None:
    fields = [
        f"Authorization: Bearer {there.seeded.writer}", "Content-Type: application/json", "Transfer-Encoding: chunked",
        "X-Hub-Signature-256: " + sign(SECRET.encode(), b""),
    ]  # fmt: skip
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    said = talk(there.web.port, head(f"POST {path} HTTP/1.1", *fields), *[chunk] * 200)
    assert statuses(said) in ([413], []), said  # the answer is lost where it meets what still comes
    assert httpx2.get(f"{there.web.url}/readyz", timeout=120).status_code == 200


def test_who_has_no_token_is_refused_before_the_body_is_read(there: There) -> None:
    start = head("POST /api/v1/runs HTTP/1.1", "Content-Type: application/json", "Content-Length: 1000000")
    assert statuses(talk(there.web.port, start)) == [401]


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "x-gzip", "gzip, gzip"])
def test_packed_bodies_are_not_unpacked(there: There, encoding: str) -> None:
    bomb = gzip.compress(b'{"action":"' + b" " * 50_000_000)
    fields = {"Content-Encoding": encoding, "Content-Type": "application/json"}
    signed = {"X-Hub-Signature-256": sign(SECRET.encode(), bomb), "X-GitHub-Event": "issues", "X-GitHub-Delivery": "b"}
    hook = httpx2.post(f"{there.web.url}/webhooks/github", content=bomb, headers={**fields, **signed}, timeout=120)
    bearer = {"Authorization": f"Bearer {there.seeded.writer}"}
    api = httpx2.post(f"{there.web.url}/api/v1/runs", content=bomb, headers={**fields, **bearer}, timeout=120)
    assert (hook.status_code, api.status_code) == (400, 400)


BODIES = {
    "deep lists": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "deep in a value": b'{"repository":' + b"[" * 900 + b"]" * 900 + b"}",
    "a number of many digits": b'{"number":' + b"9" * 4000 + b"}",
    "a number of too many digits": b'{"number":' + b"9" * 100_000 + b"}",
    "a number beyond floats": b'{"number": 1e999, "repository": "octo/calc"}',
    "not a number": b'{"number": NaN}',
    "infinity": b'{"number": -Infinity}',
    "half a character": b'{"repository": "\\ud800", "number": 1}',
    "half a character in a name": b'{"\\udfff": 1}',
    "half a character in a text": b'{"repository": "octo/calc", "number": 9, "text": "\\ud800"}',
    "no UTF-8": b'{"repository": "\xff\xfe"}',
    "UTF-16": '{"number": 1}'.encode("utf-16"),
    "many keys": json.dumps({str(number): number for number in range(50_000)}).encode(),
    "nothing": b"",
    "a list": b"[]",
    "a slug with a line": b'{"repository": "octo/calc\\n", "number": 9}',
    "a slug that leads up": b'{"repository": "../..", "number": 9}',
}


@pytest.mark.parametrize("kind", BODIES)
def test_what_no_schema_describes_is_refused_in_its_form(there: There, kind: str) -> None:
    fields = {"Authorization": f"Bearer {there.seeded.writer}", "Content-Type": "application/json"}
    answer = httpx2.post(f"{there.web.url}/api/v1/runs", content=BODIES[kind], headers=fields, timeout=120)
    assert answer.status_code in (400, 404, 422), answer.text
    assert isinstance(answer.json()["detail"], str if answer.status_code != 422 else list)
    assert len(answer.content) < 20_000
    body = BODIES[kind]
    signed = {"X-Hub-Signature-256": sign(SECRET.encode(), body), "X-GitHub-Event": "issues", "X-GitHub-Delivery": "d"}
    fields["Content-Type"] = "application/json"
    hook = httpx2.post(f"{there.web.url}/webhooks/github", content=body, headers={**fields, **signed}, timeout=120)
    assert hook.status_code in (400, 422), hook.text


def test_of_keys_that_come_twice_the_last_counts_for_all_who_read(there: There) -> None:
    """No part of the service reads another value than the one that was checked."""
    body = b'{"repository": "../..", "repository": "octo/calc", "number": 9, "number": 11}'
    fields = {"Authorization": f"Bearer {there.seeded.writer}", "Content-Type": "application/json"}
    made = httpx2.post(f"{there.web.url}/api/v1/runs", content=body, headers=fields, timeout=120).json()
    assert (made["repository"], made["number"]) == (SLUG, 11)


def test_no_text_is_refused_by_the_database(there: There) -> None:
    fields = {"Authorization": f"Bearer {there.seeded.writer}"}
    asked = {"repository": SLUG, "number": 12, "text": "a\x00b"}
    made = httpx2.post(f"{there.web.url}/api/v1/runs", json=asked, headers=fields, timeout=120)
    assert made.status_code == 202
    assert httpx2.get(f"{there.web.url}/api/v1/runs", headers=fields, timeout=120).status_code == 200


# -- who asks


@pytest.mark.parametrize("name", ["token", "session", "Authorization", "patchwright", "__Host-session", "pw"])
def test_a_cookie_is_no_token(there: There, name: str) -> None:
    cookie = {"Cookie": f"{name}={there.seeded.writer}", "Origin": there.web.url}
    for method, path in (("GET", "/api/v1/runs"), ("POST", "/api/v1/runs"), ("GET", "/api/v1/queue")):
        assert httpx2.request(method, there.web.url + path, headers=cookie, timeout=120).status_code == 401


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_what_a_form_of_another_site_can_send_is_no_request(there: There, kind: str) -> None:
    fields = {"Authorization": f"Bearer {there.seeded.writer}", **({"Content-Type": kind} if kind else {})}
    answer = httpx2.post(f"{there.web.url}/api/v1/runs", content=SUBMIT, headers=fields, timeout=120)
    assert answer.status_code == 422


def test_no_other_site_is_let_in(there: There) -> None:
    for method in ("OPTIONS", "GET"):
        asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "GET"}
        answer = httpx2.request(method, f"{there.web.url}/api/v1/runs", headers=asked, timeout=120)
        assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "given",
    ["", "Bearer", "Basic {}", "{}", "Bearer {}x", "Bearer x{}", "Bearer {} {}", "Bearer\t{}", "Bearer {},"],
)
def test_a_token_has_one_form(there: There, given: str) -> None:
    fields = {"Authorization": given.format(there.seeded.reader, there.seeded.reader)}
    answer = httpx2.get(f"{there.web.url}/api/v1/runs", headers=fields, timeout=120)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"


def test_of_two_tokens_none_counts(there: There) -> None:
    twice = [f"Authorization: Bearer {there.seeded.reader}"] * 2
    assert statuses(talk(there.web.port, head("GET /api/v1/runs HTTP/1.1", *twice))) == [401]


# -- hosts and paths


@pytest.mark.parametrize(
    "path", ["/api/v1/runs/", "//evil.example/api/v1/runs", "/healthz/", "//evil.example/..", "/api/v1/queue/"]
)
@pytest.mark.parametrize("host", ["evil.example", "service.example:80@evil.example", "[::1]evil"])
def test_nothing_leads_to_the_host_that_a_request_names(there: There, path: str, host: str) -> None:
    start = head(f"GET {path} HTTP/1.1", "X-Forwarded-Host: evil.example", "X-Forwarded-Proto: https")
    said = talk(there.web.port, start.replace(b"service.example", host.encode()))
    assert b"evil" not in said
    assert statuses(said)[0] in (400, 401, 404), said


def test_a_host_that_is_missing_or_named_twice_is_refused(there: There) -> None:
    start = head("GET /healthz HTTP/1.1")
    for other in (b"", b"Host: a\r\nHost: b\r\n"):
        assert statuses(talk(there.web.port, start.replace(b"Host: service.example\r\n", other))) == [400]


STEPS = [
    "../hidden", "..%2fhidden", "%2e%2e%2fhidden", "..%252fhidden", "%252e%252e%252fhidden", "..\\hidden",
    "..%5chidden",
    "..%c0%afhidden", "....//hidden", "/etc/passwd", "%2fetc%2fpasswd", "file:///etc/passwd", "hidden%00",
    "%00", "..;/hidden",
    "{}/../../hidden", "{}%2f..%2f..%2fhidden", "{}%00", "{}%0a", "{} ", "{}%20", "{}.", "%ff%fe", "\udcff", "*", "~",
    "r" + "0" * 24 + "/../hidden", "a" * 5000,
]  # fmt: skip
PLACES = [
    "/api/v1/runs/{}", "/api/v1/runs/{}/patch", "/api/v1/runs/{}/events", "/runs/{}", "/runs/{}/patch",
    "/runs/{}/steps/0",
    "/runs/{}/live", "/static/{}", "/evaluations/{}", "/evaluations/x/{}", "/{}", "/api/v1/{}", "/webhooks/{}",
]  # fmt: skip


@pytest.mark.parametrize("step", STEPS)
def test_no_path_leads_out_of_where_it_belongs(there: There, step: str) -> None:
    done = there.seeded.ids[State.DONE]
    for place in PLACES:
        target = place.replace("{}", step.replace("{}", done)).encode("utf-8", "surrogateescape")
        line = b"GET " + target + b" HTTP/1.1"
        fields = f"Authorization: Bearer {there.seeded.reader}"
        said = talk(there.web.port, head("LINE", fields).replace(b"LINE", line, 1))
        assert HIDDEN.encode() not in said
        assert b"root:" not in said
        assert statuses(said)[0] in (303, 400, 401, 404, 405, 422), (place, said)


@pytest.mark.parametrize(
    "step", ["hidden", "../hidden", "%00", "r" + "0" * 23, "", "\n", "\x00", "é", "'; --", "1e400", "9" * 400]
)
def test_no_query_leads_anywhere_else(there: There, step: str) -> None:
    fields = {"Authorization": f"Bearer {there.seeded.reader}"}
    for name in ("repository", "state", "limit", "before"):
        answer = httpx2.get(f"{there.web.url}/api/v1/runs?{name}={quote(step)}", headers=fields, timeout=120)
        found = answer.status_code == 200 and answer.json()["runs"]
        assert not found, (name, answer.text)
        assert answer.status_code == 422 or name == "repository"


def test_what_a_header_cant_hold_isnt_sent_back(there: There) -> None:
    """Neither in a header of the answer nor as the beginning of a second one."""
    split = "x%0d%0aSet-Cookie:%20a=b"
    for path in (f"/login?next=/{split}", f"/runs/{split}", f"/api/v1/runs/{split}", f"/{split}"):
        said = talk(
            there.web.port, head(f"GET {path} HTTP/1.1", f"Last-Event-ID: {split}", f"Idempotency-Key: {split}")
        )
        assert b"\r\nSet-Cookie: a=b" not in said.split(b"\r\n\r\n")[0]
        assert len(statuses(said)) == 1


@pytest.mark.parametrize(("length", "status"), [(100, 202), (101, 422), (20_000, 422)])
def test_a_key_of_an_attempt_has_a_bounded_length(there: There, length: int, status: int) -> None:
    fields = {"Authorization": f"Bearer {there.seeded.writer}", "Idempotency-Key": "k" * length}
    asked = {"repository": SLUG, "number": 13}
    made = httpx2.post(f"{there.web.url}/api/v1/runs", json=asked, headers=fields, timeout=120)
    assert made.status_code == status
