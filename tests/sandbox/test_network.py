"""Sandboxes with a network: package indexes through the proxy and nothing else, and what attacks on it get."""

from __future__ import annotations

import asyncio
import hashlib
import io
import ipaddress
import os
import socket
import zipfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from sandbox import network
from sandbox.base import SandboxDied
from sandbox.machine import GuestSandbox
from sandbox.network_settings import host_settings, usual_indexes
from sandbox.policy import CONNECTIONS, PROXY_PORT, Network, NetworkRequest
from tests.sandbox.inside import python
from tests.sandbox.kinds import ISOLATED, SPEC, opener

pytestmark = pytest.mark.heavy

BIG = os.urandom(1 << 20) * 24
RAW = f"""
import socket, sys, time
def ask(*parts, wait=10, port={PROXY_PORT}):
    s = socket.create_connection(('127.0.0.1', port), 10)
    s.settimeout(wait)
    got = bytearray()
    try:
        for part in parts: s.sendall(part)
        while True:
            data = s.recv(65536)
            if not data: break
            got += data
    except OSError as error: got += repr(type(error).__name__).encode()
    return bytes(got)
def status(*parts): return ask(*parts).partition(b'\\r\\n')[0].decode()
"""


@dataclass
class Index:
    """A package index on this machine's loopback, and a server next to it that nobody may reach."""

    port: int
    secret_port: int
    requests: list[bytes] = field(default_factory=list)
    reached: list[bytes] = field(default_factory=list)
    seen: list[NetworkRequest] = field(default_factory=list)


def wheel() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("tiny_pure.py", "answer = 42\n")
        made.writestr("tiny_pure-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-pure\nVersion: 1.0\n")
        made.writestr("tiny_pure-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        made.writestr("tiny_pure-1.0.dist-info/RECORD", "")
    return file.getvalue()


NAME = "tiny_pure-1.0-py3-none-any.whl"
PAGES = {
    b"/simple/tiny-pure/": f'<!DOCTYPE html><a href="/{NAME}">{NAME}</a>'.encode(),
    f"/{NAME}".encode(): wheel(),
    b"/big": BIG,
}


@pytest.fixture
async def index(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Index]:
    """This machine's configuration names it, as a user's would name a mirror in their network."""
    index = Index(0, 0)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await reader.read(65536)
        index.requests.append(data)
        page = PAGES.get(data.split(b" ")[1] if data.count(b" ") > 1 else b"")
        found = b"200 OK" if page is not None else b"404 Not Found"
        kind = b"text/html" if data.split(b" ")[1:2] == [b"/simple/tiny-pure/"] else b"application/octet-stream"
        head = b"HTTP/1.1 %s\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n" % (found, kind, len(page or b""))
        try:
            writer.write(head + (page or b""))
            await writer.drain()
        except ConnectionError:
            pass
        writer.close()

    async def secret(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        index.reached.append(b"somebody")
        writer.close()

    servers = [await asyncio.start_server(serve, "127.0.0.1", 0) for serve in (answer, secret)]
    index.port, index.secret_port = (server.sockets[0].getsockname()[1] for server in servers)
    monkeypatch.setenv("PIP_INDEX_URL", f"http://localhost:{index.port}/simple")
    yield index
    for server in servers:
        server.close()


@pytest.fixture(params=ISOLATED)
async def cell(request: pytest.FixtureRequest, index: Index) -> AsyncIterator[GuestSandbox]:
    spec = replace(SPEC, network=Network.REGISTRIES, on_request=index.seen.append)
    async with await opener(request.param)(spec) as sandbox:
        yield sandbox


async def test_pip_installs_from_the_configured_index(cell: GuestSandbox, index: Index) -> None:
    done = await cell.run("python3 -m pip install --quiet --target lib tiny-pure 2>&1; PYTHONPATH=lib python3 -c "
                          "'import tiny_pure; print(tiny_pure.answer)'", timeout=120)  # fmt: skip
    assert done.output.split()[-1:] == [b"42"], done.output
    assert all(request.allowed for request in index.seen)
    assert {request.target for request in index.seen} == {f"host.internal:{index.port}"}
    assert sum(request.received for request in index.seen) > len(wheel())


@pytest.mark.slow
async def test_pip_installs_from_the_usual_index(request: pytest.FixtureRequest) -> None:
    """What this machine's own pip is configured for, or its default."""
    hosts = sorted(host for host, _ in usual_indexes())
    if not hosts:
        pytest.skip("this machine has no pip that says where it goes")
    host = hosts[-1]
    try:
        socket.create_connection((host, 443), 5).close()
    except OSError as error:
        pytest.skip(f"this machine can't reach the usual index of Python packages: {error}")
    async with await opener("bubblewrap")(replace(SPEC, network=Network.REGISTRIES)) as box:
        done = await box.run("python3 -m pip install --target lib six 2>&1 | tail -3; ls lib", timeout=120)
    assert b"six.py" in done.output, done.output


async def test_a_large_file_arrives_whole(cell: GuestSandbox, index: Index) -> None:
    url = f"http://localhost:{index.port}/big"
    script = f"import hashlib, urllib.request as u; print(hashlib.sha256(u.urlopen('{url}').read()).hexdigest())"
    # the standard library goes around a proxy for localhost
    direct = "import os; os.environ['no_proxy'] = os.environ['NO_PROXY'] = ''\n"
    assert (await python(cell, direct + script)).strip() == hashlib.sha256(BIG).hexdigest()


async def test_only_the_index_can_be_reached(cell: GuestSandbox, index: Index) -> None:
    own = await asyncio.to_thread(socket.gethostbyname, socket.gethostname())
    refused = [
        "CONNECT example.org:443", "CONNECT example.org:80", "CONNECT 1.1.1.1:443",  # other hosts, by name and by IP
        "CONNECT 169.254.169.254:80", "CONNECT metadata.google.internal:80", "CONNECT [fd00:ec2::254]:80",
        f"CONNECT localhost:{index.secret_port}", f"CONNECT 127.0.0.1:{index.secret_port}", "CONNECT localhost:22",
        f"CONNECT 127.0.0.1:{index.port}", f"CONNECT 127.1:{index.port}", f"CONNECT 2130706433:{index.port}",
        f"CONNECT 0x7f.1:{index.port}", f"CONNECT [::1]:{index.port}", f"CONNECT [::ffff:127.0.0.1]:{index.port}",
        f"CONNECT {own}:{index.port}", f"CONNECT localhost.evil.example:{index.port}",
        f"CONNECT {network.INDEXES['Rust'][0]}:22", f"CONNECT {network.INDEXES['Rust'][0]}:80",
        f"GET http://127.0.0.1:{index.secret_port}/", "GET http://169.254.169.254/latest/meta-data/",
        f"GET http://localhost:{index.secret_port}/", "GET http://example.org/",
    ]  # fmt: skip
    script = RAW + "".join(
        f"print(status(b'{line} HTTP/1.1\\r\\nHost: localhost:{index.port}\\r\\n\\r\\n'))\n" for line in refused
    )
    answers = (await python(cell, script)).splitlines()
    found = list(zip(refused, (answer.split(" ")[1] for answer in answers), strict=True))
    assert [line for line, status in found if status != "403"] == [f"CONNECT [::ffff:127.0.0.1]:{index.port}"], found
    assert not index.reached and not index.requests
    assert len(index.seen) == len(refused) and not any(request.allowed for request in index.seen)
    assert {request.why for request in index.seen} != {""}
    # without the proxy there is nothing at all
    said = await python(cell, f"import socket; print(socket.socket().connect_ex(('127.0.0.1', {index.port})))")
    assert int(said) == 111


async def test_a_name_that_leads_home(cell: GuestSandbox, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    """A public index whose name resolves to this machine: nothing of its configuration says that it may."""
    monkeypatch.setattr(network, "INDEXES", {"Home": ("localhost",)})
    spec = replace(cell.spec, network=Network.REGISTRIES)
    async with await opener(cell.kind)(spec) as box:
        said = await python(box, RAW + "print(ask(b'CONNECT localhost:443 HTTP/1.1\\r\\n\\r\\n').decode())")
    assert "403 Forbidden" in said and "an address of this machine" in said


async def test_smuggling(cell: GuestSandbox, index: Index) -> None:
    at = f"localhost:{index.port}"
    second = f"GET http://{at}/second HTTP/1.1\\r\\nHost: {at}\\r\\n\\r\\n"
    chunks = "Transfer-Encoding: chunked\\r\\n\\r\\n0\\r\\n\\r\\n"
    tries = {
        "pipelined": f"GET http://{at}/a HTTP/1.1\\r\\nHost: {at}\\r\\n\\r\\n{second}",
        "length": f"GET http://{at}/a HTTP/1.1\\r\\nHost: {at}\\r\\nContent-Length: 60\\r\\n\\r\\n{second}",
        "chunks": f"GET http://{at}/a HTTP/1.1\\r\\nHost: {at}\\r\\n{chunks}{second}",
        "both": f"GET http://{at}/a HTTP/1.1\\r\\nContent-Length: 4\\r\\n{chunks}",
        "folded": f"GET http://{at}/a HTTP/1.1\\r\\nX: y\\r\\n\\tContent-Length: 60\\r\\n\\r\\n",
        "bare": f"GET http://{at}/a HTTP/1.1\\r\\nX: y\\nContent-Length: 60\\r\\n\\r\\n",
        "post": f"POST http://{at}/a HTTP/1.1\\r\\nContent-Length: 0\\r\\n\\r\\n",
    }
    answers = (await python(cell, RAW + "".join(f"print(status(b'{text}'))\n" for text in tries.values()))).splitlines()
    assert [answer.split()[1] for answer in answers] == ["400"] * 6 + ["405"]
    later = f"print(ask(b'GET http://{at}/a HTTP/1.1\\r\\n\\r\\n', b'{second}').count(b'HTTP/1.1'))"
    assert int(await python(cell, RAW + later)) <= 1
    assert not any(b"second" in request for request in index.requests)


async def test_other_protocols_and_other_names_in_the_tunnel(cell: GuestSandbox, index: Index) -> None:
    connect = f"b'CONNECT localhost:{index.port} HTTP/1.1\\r\\n\\r\\n'"
    script = (
        RAW
        + f"""
import ssl
i, o = ssl.MemoryBIO(), ssl.MemoryBIO()
c = ssl.create_default_context().wrap_bio(i, o, server_hostname='evil.example')
try: c.do_handshake()
except ssl.SSLWantReadError: pass
for after in (b'SSH-2.0-x\\r\\n', b'GET / HTTP/1.1\\r\\n\\r\\n', o.read()):
    print(ask({connect}, after))
"""
    )
    answers = (await python(cell, script)).splitlines()
    assert answers == ["b'HTTP/1.1 200 Connection established\\r\\n\\r\\n'"] * 3
    # at most that somebody connected, and when that is heard is the index's own time
    assert set(index.requests) <= {b""}, "an index was sent what isn't TLS to it"
    assert [request.allowed for request in index.seen] == [False] * 3
    assert "evil.example" in index.seen[2].why


@pytest.fixture
async def company(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[bytes]]:
    """The proxy that this machine itself has to use; says what it was asked, and then something of its own."""
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked.append(head)
        if head.startswith(b"CONNECT"):
            writer.write(b"HTTP/1.1 200 Fine\r\n\r\n")
            asked.append((await reader.read(65536))[:1])
        writer.write(b"a greeting")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://me:p%40ss@127.0.0.1:{server.sockets[0].getsockname()[1]}"
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, url)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("no_proxy", "localhost")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("npm_config_registry", "http://npm.example:8080/")
    yield asked
    server.close()


@pytest.mark.parametrize("kind", [ISOLATED[-1]])
async def test_where_this_machine_needs_a_proxy_itself(kind: str, company: list[bytes], index: Index) -> None:
    host = network.INDEXES["Rust"][0]
    script = (
        RAW
        + f"""
import ssl
i, o = ssl.MemoryBIO(), ssl.MemoryBIO()
c = ssl.create_default_context().wrap_bio(i, o, server_hostname='{host}')
try: c.do_handshake()
except ssl.SSLWantReadError: pass
print(ask(b'CONNECT {host}:443 HTTP/1.1\\r\\n\\r\\n', o.read()))
print(ask(b'GET http://npm.example:8080/x HTTP/1.1\\r\\n\\r\\n'))
print(status(b'CONNECT evil.example:443 HTTP/1.1\\r\\n\\r\\n'))
print(status(b'GET http://localhost:{index.port}/big HTTP/1.1\\r\\n\\r\\n'))
"""
    )
    async with await opener(kind)(replace(SPEC, network=Network.REGISTRIES)) as box:
        answers = (await python(box, script)).splitlines()
        assert "p@ss" not in (await box.run("env; cat /proc/*/environ")).output.decode()
    assert answers[0].endswith("a greeting'") and answers[1] == "b'a greeting'"
    assert answers[2:] == ["HTTP/1.1 403 Forbidden", "HTTP/1.1 200 OK"]
    login = b"proxy-authorization: Basic bWU6cEBzcw==\r\n"
    assert company[0].startswith(b"CONNECT %s:443 HTTP/1.1\r\n" % host.encode()) and login in company[0]
    assert company[1] == b"\x16", "TLS goes on to the server"
    assert company[2].startswith(b"GET http://npm.example:8080/x HTTP/1.1\r\n" + login)
    assert len(company) == 3


async def test_heads_without_end(cell: GuestSandbox, index: Index) -> None:
    script = RAW + (
        "print(status(b'GET http://a/ HTTP/1.1\\r\\n', b'X: ' + b'y' * 100000))\n"
        "print(status(b'GET http://a/ HTTP/1.1\\r\\n', b'X: y\\r\\n' * 100000))\n"
        "print(status(b'\\x00' * 20000))\nprint(status(b'\\r\\n\\r\\n'))"
    )
    answers = (await python(cell, script)).splitlines()
    assert all(answer.startswith("HTTP/1.1 4") or "Reset" in answer or "Broken" in answer for answer in answers)
    assert (await cell.run("echo alive")).output == b"alive\n"


async def test_more_connections_than_there_may_be(cell: GuestSandbox, index: Index) -> None:
    """The rest wait; when the first go, the next are served, and commands don't notice any of it."""
    hold = f"""
import socket, time
all = [socket.create_connection(('127.0.0.1', {PROXY_PORT}), 10) for _ in range({CONNECTIONS} + 40)]
print('open', flush=True)
time.sleep(2)
for s in all: s.close()
"""
    assert "open" in await python(cell, hold)
    script = RAW + f"print(status(b'GET http://localhost:{index.port}/big HTTP/1.1\\r\\n\\r\\n'))"
    assert (await python(cell, script)).strip() == "HTTP/1.1 200 OK"


async def test_one_who_doesnt_read_holds_nobody_up(cell: GuestSandbox, index: Index) -> None:
    ask = f"b'GET http://localhost:{index.port}/big HTTP/1.1\\r\\n\\r\\n'"
    deaf = f"""
import socket, time
all = [socket.create_connection(('127.0.0.1', {PROXY_PORT}), 10) for _ in range(20)]
for s in all: s.sendall({ask})
time.sleep(30)
"""
    running = asyncio.ensure_future(cell.run(["python3", "-c", deaf], timeout=40))
    await asyncio.sleep(1.0)
    count = await python(cell, RAW + f"print(len(ask({ask})))")
    assert int(count) > len(BIG)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert (await cell.run("echo alive")).output == b"alive\n"


async def test_closing_ends_what_is_open(cell: GuestSandbox, index: Index) -> None:
    running = asyncio.ensure_future(cell.run(
        ["python3", "-c", RAW + f"ask(b'CONNECT localhost:{index.port} HTTP/1.1\\r\\n\\r\\n', wait=60)"], timeout=60
    ))  # fmt: skip
    await asyncio.sleep(1.0)
    before = asyncio.all_tasks()
    await cell.close()
    with pytest.raises(SandboxDied):
        await running
    await asyncio.sleep(0.1)
    assert not [task for task in before if "_served" in repr(task) and not task.done()]


async def test_a_fork_has_a_way_of_its_own(cell: GuestSandbox, index: Index) -> None:
    script = RAW + f"print(status(b'GET http://localhost:{index.port}/big HTTP/1.1\\r\\n\\r\\n'))"
    other = await cell.fork()
    async with other:
        await cell.close()
        done = await other.run(["python3", "-c", script])
    assert done.output == b"HTTP/1.1 200 OK\n"


@pytest.mark.parametrize("kind", ISOLATED)
async def test_without_a_network_nothing_listens(kind: str) -> None:
    async with await opener(kind)(SPEC) as box:
        said = await python(box, f"import socket; print(socket.socket().connect_ex(('127.0.0.1', {PROXY_PORT})))")
        assert int(said) == 111
        assert (await box.run("env | grep -ic proxy")).output == b"0\n"


@pytest.mark.parametrize("kind", ISOLATED)
async def test_the_whole_network_is_there_when_asked_for(kind: str) -> None:
    async with await opener(kind)(replace(SPEC, network=Network.FULL)) as box:
        names = (await box.run("tail -n +3 /proc/net/dev | cut -d: -f1")).output.split()
        found = (await box.run("cat /etc/resolv.conf")).output
        assert len(names) > 1, names
        assert b"nameserver" in found or b"nameserver" not in Path("/etc/resolv.conf").read_bytes()
        ambient = await box.run("grep -E 'Cap(Eff|Bnd)' /proc/self/status")
        assert set(ambient.output.split()[1::2]) == {b"0000000000000000"}


def test_no_path_of_the_host_goes_in() -> None:
    """The certificate bundle is sent as bytes, never shown as a folder; wheel folders of the host stay outside."""
    found = host_settings(
        {"PIP_FIND_LINKS": "/somewhere", "PIP_CERT": "/somewhere/else"}, Path("/nowhere"), Path("/nowhere")
    )
    assert not found.variables and found.ca_bundle is None
    assert all(ipaddress.ip_network(text) for text in (*network.NEVER, *network.PRIVATE))
