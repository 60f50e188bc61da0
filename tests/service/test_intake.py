"""The webhook's endpoint over real HTTP: what is answered is stored, what is forged or too much is sent away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
import sqlalchemy as sa

from agent.forges.base import Secret
from service.store import State, Store
from service.webhooks import WishKind, sign
from service.webhooks.rates import Rate
from tests.service.expected import EXPECTED, recorded
from tests.service.serving import SECRET, Served, headers, serving, settings

pytestmark = pytest.mark.heavy


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/service.sqlite"


@pytest.fixture
async def served(sqlite: str) -> AsyncIterator[Served]:
    async with serving(settings(sqlite)) as running:
        yield running


async def test_a_wish_is_in_the_database_when_it_is_answered(served: Served, sqlite: str) -> None:
    event, payload = recorded("issues.labeled")
    first = await served.deliver(event, "guid-1", payload)
    with closing(sa.create_engine(sqlite).connect()) as other:
        assert other.execute(sa.text("SELECT state FROM requests")).scalars().all() == ["waiting"]
    assert first.status_code == 202
    assert first.json()["outcome"] == "new"
    for guid in ("guid-1", "guid-2"):
        answer = await served.deliver(event, guid, payload)
        assert answer.status_code == 200
        assert answer.json() == {"outcome": "duplicate", "request": first.json()["request"]}


async def test_every_recorded_shape_is_answered(served: Served) -> None:
    for number, (name, expected) in enumerate(EXPECTED.items(), 8001):
        event, payload = recorded(name)
        elsewhere = json.loads(json.dumps(payload).replace("7001", str(number)))  # a repository for each
        answer = await served.deliver(event, f"guid-{number}", elsewhere)
        if name == "issues.labeled.no_repository":
            assert (answer.status_code, answer.json()["error"]) == (422, expected)
        elif isinstance(expected, str):
            assert (answer.status_code, answer.json()["why"]) == (200, expected), name
        else:
            assert (answer.status_code, answer.json()["outcome"]) == (202, "new"), name


@pytest.mark.parametrize("signature", [None, "sha256=" + "0" * 64, "sha1=" + "0" * 40, "nonsense"])
async def test_a_bad_signature_is_401_and_leaves_nothing(served: Served, signature: str | None) -> None:
    event, payload = recorded("issues.labeled")
    body = json.dumps(payload).encode()
    given = headers(event, "guid-1", body)
    del given["X-Hub-Signature-256"]
    if signature is not None:
        given["X-Hub-Signature-256"] = signature
    answer = await served.send(body, **given)
    assert answer.status_code == 401
    assert served.store.waiting() == []
    assert served.intake.counts == {"unsigned": 1}


async def test_the_signature_is_of_the_bytes_that_came(served: Served) -> None:
    """JSON that means the same is another body, and nothing is parsed before the signature fits."""
    event, payload = recorded("issues.labeled")
    signed = json.dumps(payload).encode()
    assert (await served.send(signed + b"\n", **headers(event, "guid-1", signed))).status_code == 401
    assert (await served.send(b"{", **headers(event, "guid-1", signed))).status_code == 401


async def test_the_old_secret_holds_while_it_is_replaced(sqlite: str) -> None:
    secrets = (Secret("the newest secret of all"), Secret(SECRET.decode()))
    event, payload = recorded("ping")
    async with serving(settings(sqlite, webhook_secrets=secrets)) as served:
        for secret, status in ((SECRET, 200), (b"the newest secret of all", 200), (b"a stranger's secret", 401)):
            assert (await served.deliver(event, "guid-1", payload, secret)).status_code == status


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b"NaN", 400),
        (b"1" * 10_000, 400),
        (b"[" * 200_000, 400),
        (b'{"a":' * 200_000, 400),
        (b"[]", 422),
        (b"null", 422),
        (b'{"action": "labeled", "sender": null, "repository": 5}', 422),
    ],
)
async def test_signed_nonsense_is_refused_without_harm(served: Served, body: bytes, status: int) -> None:
    assert (await served.send(body, **headers("issues", "guid-1", body))).status_code == status
    assert (await served.client.get("/readyz")).json()["status"] == "ok"


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        ("X-GitHub-Delivery", "", 400),
        ("X-GitHub-Delivery", "a/../b", 400),
        ("X-GitHub-Event", "Issues!", 400),
        ("Content-Type", "application/x-www-form-urlencoded", 415),
    ],
)
async def test_headers_have_to_be_githubs(served: Served, name: str, value: str, status: int) -> None:
    event, payload = recorded("issues.labeled")
    body = json.dumps(payload).encode()
    assert (await served.send(body, **{**headers(event, "guid-1", body), name: value})).status_code == status


async def test_a_repository_and_a_sender_may_ask_so_often(sqlite: str) -> None:
    event, payload = recorded("issues.labeled")

    async def ask(number: int, sender: int = 4101) -> int:
        payload["issue"]["id"] = payload["issue"]["number"] = number
        payload["sender"]["id"] = sender
        answer = await served.deliver(event, f"guid-{number}", payload)
        if answer.status_code == 429:
            assert int(answer.headers["Retry-After"]) in range(1, 61)
        return answer.status_code

    async with serving(settings(sqlite, per_sender=Rate(1, 2), per_repository=Rate(1, 3))) as served:
        assert [await ask(number) for number in (1, 1, 1, 2, 2, 3)] == [202, 200, 200, 202, 429, 429]
        assert [await ask(number, sender=4102) for number in (4, 5)] == [202, 429]
        close_event, close = recorded("issues.closed")
        assert (await served.deliver(close_event, "guid-close", close)).status_code == 202
        assert (await served.deliver("ping", "guid-ping", {})).status_code == 200


@pytest.mark.heavy
async def test_a_database_that_is_away_is_503(served: Served, sqlite: str) -> None:
    event, payload = recorded("issues.labeled")
    path = Path(sqlite.removeprefix("sqlite:///"))
    lock = sa.create_engine(sqlite).connect()
    lock.exec_driver_sql("PRAGMA busy_timeout=0")
    lock.exec_driver_sql("BEGIN EXCLUSIVE")
    sending = asyncio.create_task(served.deliver(event, "guid-1", payload))
    answer = await sending  # after the ten seconds that another's transaction may take
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "5"
    lock.close()
    assert (await served.deliver(event, "guid-1", payload)).status_code == 202
    assert path.exists()


async def test_what_was_stored_before_a_restart_is_known_after_it(sqlite: str) -> None:
    event, payload = recorded("issues.labeled")
    async with serving(settings(sqlite)) as served:
        assert (await served.deliver(event, "guid-1", payload)).status_code == 202
    async with serving(settings(sqlite)) as served:
        assert (await served.deliver(event, "guid-1", payload)).status_code == 200
        assert len(served.store.waiting()) == 1


async def test_close_before_label_begins_nothing(served: Served) -> None:
    closed, labeled = recorded("issues.closed"), recorded("issues.labeled")
    await served.deliver(closed[0], "guid-2", closed[1])
    late = await served.deliver(labeled[0], "guid-1", labeled[1])
    assert late.json()["outcome"] == "stale"
    assert [(one.wish.kind, one.state) for one in served.store.of_thread(7001, 17)] == [
        (WishKind.CLOSED, State.WAITING),
        (WishKind.FIX, State.STALE),
    ]


# -- sizes and times


async def answer_of(port: int, *parts: bytes, pause: float = 0.0) -> bytes:
    """What a connection says to what is written to it piece by piece, until it is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    said = bytearray()

    async def listen() -> None:
        with suppress(ConnectionError):
            while piece := await reader.read(4096):
                said.extend(piece)

    listening = asyncio.create_task(listen())
    with suppress(ConnectionError):
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause)
    await asyncio.wait_for(listening, 20)
    writer.close()
    return bytes(said)


def head(*more: str) -> bytes:
    lines = ["POST /webhooks/github HTTP/1.1", "Host: x", "X-Hub-Signature-256: " + sign(SECRET, b"{}"), *more]
    return "\r\n".join([*lines, "", ""]).encode()


async def test_a_body_that_says_that_it_is_too_large_isnt_read(sqlite: str) -> None:
    async with serving(settings(sqlite, max_body=1000)) as served:
        answer = await answer_of(served.port, head("Content-Length: 1001"))
        assert answer.startswith(b"HTTP/1.1 413")
        assert served.intake.counts == {}


async def test_a_chunked_body_is_counted_while_it_comes(sqlite: str) -> None:
    async with serving(settings(sqlite, max_body=1000)) as served:
        chunk = b"190\r\n" + b"x" * 400 + b"\r\n"
        answer = await answer_of(served.port, head("Transfer-Encoding: chunked"), chunk, chunk, chunk, pause=0.05)
        assert answer.startswith(b"HTTP/1.1 413")


async def test_bodies_at_once_are_bounded(sqlite: str) -> None:
    """Three bodies that don't end, and room for one of them: it is cut off in the end, the others at once."""
    async with serving(settings(sqlite, max_body=1000, max_bodies=1500, body_seconds=3)) as served:
        answers = await asyncio.gather(
            *(answer_of(served.port, head("Content-Length: 1000"), b"x" * 900) for _ in range(3))
        )
        assert sorted(answer.split()[1] for answer in answers) == [b"408", b"503", b"503"]
        forged = headers("ping", "guid-1", b"{}")
        assert (await served.send(b"x" * 900, **forged)).status_code == 401  # there is room again


async def test_a_body_that_trickles_is_cut_off(sqlite: str) -> None:
    async with serving(settings(sqlite, body_seconds=0.5)) as served:
        parts = [b"x"] * 20
        answer = await answer_of(served.port, head("Content-Length: 1000"), *parts, pause=0.1)
        assert answer.startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize("kind", ["silent", "trickling", "second"])
async def test_headers_that_never_end_are_cut_off(sqlite: str, kind: str) -> None:
    async with serving(settings(sqlite, header_seconds=0.5)) as served:
        first = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" if kind == "second" else b""
        trickle = [b"X"] * (0 if kind == "silent" else 20)
        loop = asyncio.get_running_loop()
        began = loop.time()
        answer = await answer_of(served.port, first, *trickle, pause=0.1)
        assert loop.time() - began < 5
        assert answer.startswith(b"HTTP/1.1 200") or kind != "second"
        assert (await served.client.get("/healthz")).status_code == 200


async def test_a_connection_that_rests_between_requests_is_kept(sqlite: str) -> None:
    async with serving(settings(sqlite, header_seconds=1)) as served:
        ask = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
        answer = await answer_of(served.port, ask, ask.replace(b"x", b"x\r\nConnection: close"), pause=1.5)
        assert answer.count(b"HTTP/1.1 200") == 2


async def test_headers_are_bounded(served: Served) -> None:
    answer = await answer_of(served.port, b"GET / HTTP/1.1\r\n" + b"X: " + b"a" * 100_000)
    assert answer.startswith(b"HTTP/1.1 400")


async def test_a_request_that_takes_long_after_its_headers_isnt_cut_off(sqlite: str) -> None:
    async with serving(settings(sqlite, header_seconds=1)) as served:
        body = b"{}"
        told = head(
            "Content-Length: 2", "X-GitHub-Event: ping", "X-GitHub-Delivery: g", "Content-Type: application/json"
        )
        answer = await answer_of(
            served.port, told.replace(b"Host: x", b"Host: x\r\nConnection: close"), b"{", b"}", pause=1.2
        )
        assert answer.startswith(b"HTTP/1.1 200"), body


def test_no_secret_shows_in_the_settings(tmp_path: Path) -> None:
    text = repr(settings("postgresql://someone:password-x@127.0.0.1/x"))
    assert "password-x" not in text
    assert SECRET.decode() not in text


def test_the_store_says_who_doesnt_answer_without_the_password() -> None:
    with pytest.raises(Exception, match="doesn't answer") as caught:
        Store.open("postgresql://someone:password-x@127.0.0.1:1/x")
    assert "password-x" not in str(caught.value)
