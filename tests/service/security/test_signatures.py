"""A delivery counts only with the one right signature of its raw bytes, and nothing looks at them before."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import hmac
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.requests import Request

from service.store import Recorder, Store
from service.webhooks import sign, verify
from service.webhooks.intake import Intake
from service.webhooks.rates import Rate, RateLimit, RateLimits
from tests.service.expected import ME, recorded
from tests.service.processes import SECRET
from tests.service.security.conftest import There
from tests.service.security.raw import head, statuses, talk

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(300)]
BODY = json.dumps(recorded("issues.labeled")[1]).encode()
GOOD = sign(SECRET.encode(), BODY)
DIGITS = GOOD.removeprefix("sha256=")
SHA1 = "sha1=" + hmac.new(SECRET.encode(), BODY, hashlib.sha1).hexdigest()

FORMS: dict[str, list[str | bytes]] = {
    "none": [],
    "empty": ["X-Hub-Signature-256: "],
    "only the name": ["X-Hub-Signature-256: sha256="],
    "without the name": [f"X-Hub-Signature-256: {DIGITS}"],
    "sha1 beside": [f"X-Hub-Signature: {SHA1}"],
    "sha1 in its place": [f"X-Hub-Signature-256: {SHA1}"],
    "sha1 called sha256": ["X-Hub-Signature-256: sha256=" + SHA1.removeprefix("sha1=")],
    "too short": [f"X-Hub-Signature-256: {GOOD[:-1]}"],
    "too long": [f"X-Hub-Signature-256: {GOOD}0"],
    "upper case": [f"X-Hub-Signature-256: sha256={DIGITS.upper()}"],
    "another name": [f"X-Hub-Signature-256: SHA256={DIGITS}"],
    "no hexadecimal": ["X-Hub-Signature-256: sha256=" + "g" * 64],
    "digits of another script": ["X-Hub-Signature-256: sha256=" + "\u0663" * 64],
    "bytes that are no text": [b"X-Hub-Signature-256: sha256=" + b"\xff" * 64],
    "two, the good one first": [f"X-Hub-Signature-256: {GOOD}", "X-Hub-Signature-256: sha256=" + "0" * 64],
    "two, the good one last": ["X-Hub-Signature-256: sha256=" + "0" * 64, f"X-Hub-Signature-256: {GOOD}"],
    "the good one twice": [f"X-Hub-Signature-256: {GOOD}"] * 2,
    "two in one": [f"X-Hub-Signature-256: {GOOD}, {GOOD}"],
    "of another body": ["X-Hub-Signature-256: " + sign(SECRET.encode(), BODY + b" ")],
    "with another secret": ["X-Hub-Signature-256: " + sign(b"another secret entirely", BODY)],
    "with an empty secret": ["X-Hub-Signature-256: " + sign(b"", BODY)],
    "in the query": [],
}


@pytest.mark.parametrize("form", FORMS)
def test_every_other_signature_is_refused(there: There, form: str) -> None:
    path = f"/webhooks/github?X-Hub-Signature-256={GOOD}" if form == "in the query" else "/webhooks/github"
    fields = ["Content-Type: application/json", "X-GitHub-Event: issues", "X-GitHub-Delivery: forged"]
    said = talk(
        there.web.port, head(f"POST {path} HTTP/1.1", *fields, f"Content-Length: {len(BODY)}", *FORMS[form]), BODY
    )
    assert statuses(said) == [401], said
    store = Store.open(there.seeded.database)
    known = [one.object.id for _, one in store.page(None, None, 100)]
    store.close()
    assert recorded("issues.labeled")[1]["issue"]["id"] not in known


def test_what_is_forged_learns_nothing_of_what_it_says(there: There) -> None:
    """Whatever the body and the other headers are, the answer is the same to the byte."""
    bodies = [BODY, b"", b"{", b"[" * 100_000, b"\xff", b'{"action": 1}']
    answers = set()
    for body in bodies:
        for event in ("issues", "ping", "no event!", ""):
            fields = {"X-Hub-Signature-256": "sha256=" + "0" * 64, "X-GitHub-Event": event, "X-GitHub-Delivery": "x"}
            answer = httpx2.post(f"{there.web.url}/webhooks/github", content=body, headers=fields, timeout=120)
            answers.add((answer.status_code, answer.content))
    assert len(answers) == 1


def calls_of(work: Callable[[], object]) -> list[str]:
    """The names of all functions that are called, Python's and C's, in their order."""
    seen: list[str] = []

    def note(frame: Any, event: str, argument: Any) -> None:
        if event == "call":
            seen.append(frame.f_code.co_qualname)
        elif event == "c_call":
            seen.append(argument.__qualname__)

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return seen


def test_the_work_of_a_comparison_says_nothing_of_what_is_compared() -> None:
    """Counted and not timed: the same functions are called wherever a signature goes wrong, and whose secret it is."""
    secrets = [b"the newest secret", b"the older secret"]
    good = sign(secrets[0], BODY)
    last, first = good[:-1] + ("0" if good[-1] != "0" else "1"), "sha256=" + "0" * 64
    older = sign(secrets[1], BODY)
    works = [calls_of(functools.partial(verify, secrets, BODY, one)) for one in (good, older, first, last)]
    assert works[0].count("compare_digest") == 2
    assert all(work == works[0] for work in works)


def test_nothing_is_parsed_before_the_signature_fits(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path}/service.sqlite")
    event, payload = recorded("ping")
    body = json.dumps(payload).encode()

    async def deliver(secret: bytes) -> None:
        fields = {
            "X-Hub-Signature-256": sign(secret, body), "X-GitHub-Event": event, "X-GitHub-Delivery": "x",
            "Content-Type": "application/json",
        }  # fmt: skip
        pairs = [(name.lower().encode(), value.encode()) for name, value in fields.items()]

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        intake = Intake(Recorder(store), [SECRET.encode()], ME, RateLimits([RateLimit(Rate(60, 60))] * 2))
        await intake.github(Request({"type": "http", "method": "POST", "headers": pairs}, receive))

    def run(secret: bytes) -> None:
        asyncio.run(deliver(secret))

    orders = []
    for secret in (b"another secret entirely", SECRET.encode()):
        called = calls_of(functools.partial(run, secret))
        orders.append([name for name in called if name in ("verify", "compare_digest", "_parse", "read")])
    store.close()
    assert orders == [["verify", "compare_digest"], ["verify", "compare_digest", "_parse", "read"]]
