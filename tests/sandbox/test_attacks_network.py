"""Hostile code that looks for somebody to talk to: this machine, its model server, metadata, other sandboxes."""

from __future__ import annotations

import ctypes
import socket
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from sandbox.machine import GuestSandbox
from tests.sandbox.inside import python
from tests.sandbox.kinds import SPEC, opener

pytestmark = pytest.mark.heavy

METADATA = [
    "169.254.169.254", "::ffff:169.254.169.254", "fd00:ec2::254", "fe80::a9fe:a9fe%lo", "169.254.170.2",
    "100.100.100.200", "192.0.0.192", "metadata.google.internal", "0xa9fea9fe", "2852039166",
]  # fmt: skip
THIS_MACHINE = [
    "127.0.0.1", "127.1.2.3", "localhost", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::", "172.17.0.1",
    "host.docker.internal", "gateway.docker.internal", "host.containers.internal", "10.0.2.2", "fe80::1%lo",
    "2130706433",
]  # fmt: skip


@dataclass
class Service:
    """Stands for a model server of this machine: answers on every address, over TCP and UDP, and counts who came."""

    port: int
    came: list[str] = field(default_factory=list)


@pytest.fixture
def service() -> Iterator[Service]:
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        found = Service(server.getsockname()[1])
        udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        udp.bind(("::", found.port))
        udp.settimeout(0.1)

        def serve() -> None:
            while True:
                try:
                    connection, peer = server.accept()
                except OSError:
                    return
                found.came.append(str(peer))
                connection.sendall(b"model")
                connection.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield found
        try:
            found.came.append(str(udp.recvfrom(100)))
        except TimeoutError:
            pass
        udp.close()
        server.shutdown(socket.SHUT_RDWR)
        thread.join(10)
    assert not found.came


def own_addresses() -> set[str]:
    """Of this machine, as far as a look at where packets would leave from tells."""
    found = set()
    for target in ("192.0.2.1", "10.0.0.1", "172.17.0.2"):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((target, 9))
            except OSError:
                continue
            found.add(probe.getsockname()[0])
    return found


TALK = """import socket, sys
for address in sys.argv[2:]:
    for port in (int(sys.argv[1]), 80, 30000):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            try: found = socket.getaddrinfo(address, port, type=kind)
            except OSError: continue
            for family, _, protocol, _, where in found:
                try:
                    s = socket.socket(family, kind, protocol); s.settimeout(2); s.connect(where)
                    if kind == socket.SOCK_STREAM: print("CONNECTED", where, s.recv(5))
                    else: s.send(b"hello")
                except OSError: pass
for family in (socket.AF_INET, socket.AF_INET6):
    try: socket.socket(family, socket.SOCK_RAW, 1); print("RAW")
    except OSError: pass
print("done")"""


async def test_neither_a_model_server_nor_a_metadata_service_answers(cell: GuestSandbox, service: Service) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=5) as here:
        assert here.recv(5) == b"model", "it does answer this machine"
    service.came.clear()
    addresses = [*THIS_MACHINE, *METADATA, *own_addresses(), socket.gethostname()]
    result = await cell.run(["python3", "-c", TALK, str(service.port), *addresses], timeout=60)
    assert result.output == b"done\n"


async def test_unix_sockets_of_the_host(cell: GuestSandbox, tmp_path_factory: pytest.TempPathFactory) -> None:
    """An abstract socket has no file: only a network namespace of its own keeps a sandbox off it."""
    name = f"patchwright-test-{uuid.uuid4().hex}"
    path = str(tmp_path_factory.mktemp("s") / "socket")
    with socket.socket(socket.AF_UNIX) as abstract, socket.socket(socket.AF_UNIX) as named:
        abstract.bind("\0" + name)
        named.bind(path)
        for server in (abstract, named):
            server.listen()
        with socket.socket(socket.AF_UNIX) as here:
            here.connect("\0" + name)
        places = [f"\\0{name}", path, f"/proc/1/root{path}", "/run/docker.sock", "/var/run/docker.sock"]
        script = "".join(
            f"try: socket.socket(1).connect('{place}'); print('IN')\nexcept OSError: pass\n" for place in places
        )
        assert await python(cell, f"import socket\n{script}print('done')") == "done\n"
        listed = (await cell.run("cat /proc/net/unix /proc/self/net/unix /proc/1/net/unix")).output
        assert name.encode() not in listed


SHARED = """import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
key = %d
print([libc.shmget(key, 4096, 0), libc.msgget(key, 0), libc.semget(key, 1, 0)])
rt = ctypes.CDLL("librt.so.1", use_errno=True)
print(rt.mq_open(b"/patchwright-test-%d", os.O_RDONLY), os.path.exists("/dev/shm/patchwright-test-%d"))"""


async def test_memory_and_queues_that_processes_share_by_number(cell: GuestSandbox) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    key = uuid.uuid4().int % (1 << 30) + 1
    shared = libc.shmget(key, 4096, 0o1666)
    assert shared >= 0
    look = SHARED % (key, key, key)
    try:
        assert await python(cell, look) == "[-1, -1, -1]\n-1 False\n", "the host's"
        made = look.replace("4096, 0)", "4096, 0o1666)").replace("msgget(key, 0)", "msgget(key, 0o1666)")
        made += f"\nopen('/dev/shm/patchwright-test-{key}', 'w')"
        assert "[-1" not in await python(cell, made)
        async with await opener(cell.kind)(SPEC) as other:
            assert await python(other, look) == "[-1, -1, -1]\n-1 False\n", "another sandbox's"
    finally:
        libc.shmctl(shared, 0, None)
