"""SWE-ReX beside ours: its server in a container of the same image, and what asks it.

Its packages come from `requirements/bench-sandbox.txt` into an environment of their own, and are copied into the
container, whose Python must be of the same minor version. Its DockerDeployment would build an image for that, from a
registry; what runs in the end is the same: `swerex-remote` in a container, asked over HTTP. The container has this
machine's network, because the server wants a TCP port. Left out: the asking (`rex_loop`).
"""

from __future__ import annotations

import io
import json
import secrets
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from measuring import BenchmarkError
from peer import environment, version

from sandbox.docker_engine import LABEL, OWNER_LABEL
from sandbox.owner import owner

if TYPE_CHECKING:
    from docker import DockerClient

LIST = "bench-sandbox"
_FOLDER = "/opt/swe-rex"
_PATIENCE = 60.0


def rex_python() -> Path:
    return environment(LIST)


def rex_version() -> str:
    return version(LIST, "swe-rex")


def labels() -> dict[str, str]:
    """So that `agent sandbox prune` finds what a benchmark that was killed has left."""
    return {LABEL: "1", OWNER_LABEL: owner()}


@contextmanager
def rex_server(client: DockerClient, image: str, python: Path) -> Iterator[tuple[int, str, float]]:
    """The port and the token of a server, and how many seconds it took from creating it until it answered."""
    port, token = _free_port(), secrets.token_hex(16)
    packages = _packed(next((python.parents[1] / "lib").glob("python3.*")) / "site-packages")
    command = ["python3", "-m", "swerex.server", "--host", "127.0.0.1", "--port", str(port), "--auth-token", token]
    started = time.monotonic()
    container = client.containers.create(
        image,
        command,
        entrypoint=[],
        environment={"PYTHONPATH": _FOLDER, "HOME": "/tmp"},
        network_mode="host",
        init=True,
        labels=labels(),
    )
    try:
        container.put_archive("/", packages)
        container.start()
        while not _answers(port):
            container.reload()
            if container.status == "exited" or time.monotonic() - started > _PATIENCE:
                raise BenchmarkError(f"SWE-ReX's server did not start: {container.logs()[-2000:].decode()}")
            time.sleep(0.05)
        yield port, token, time.monotonic() - started
    finally:
        container.remove(force=True)


def ask(python: Path, where: str, times: int) -> dict[str, list[float]]:
    """Milliseconds of `true`, one by one: in a session, and as a command without one."""
    loop = [str(python), str(Path(__file__).with_name("rex_loop.py")), where, str(times)]
    done = subprocess.run(loop, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchmarkError(f"SWE-ReX could not be asked: {done.stderr[-2000:]}")
    found: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _packed(folder: Path) -> bytes:
    print("copying SWE-ReX into a container", file=sys.stderr)
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.add(folder, arcname=_FOLDER.strip("/"), filter=_for_everybody)
    return file.getvalue()


def _for_everybody(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.mode |= 0o555 if member.isdir() else 0o444
    return member
