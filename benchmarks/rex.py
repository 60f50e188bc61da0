"""SWE-ReX beside ours: its server in a container of the same image, and what asks it.

Its packages come from `requirements/bench-sandbox.txt` into an environment of their own, and are copied into the
container, whose Python must be of the same minor version. Its DockerDeployment would build an image for that, from a
registry; what runs in the end is the same: `swerex-remote` in a container, asked over HTTP. The container has this
machine's network, because the server wants a TCP port. Left out: the asking (`rex_loop`).
"""

from __future__ import annotations

import io
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


class Asked:
    """SWE-ReX's own Python, which asks it for one command after another."""

    def __init__(self, python: Path, where: str) -> None:
        command = [str(python), str(Path(__file__).with_name("rex_loop.py")), where]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.failed = 0  # commands that it gave up on
        if self._line() != "ready":
            raise BenchmarkError("SWE-ReX could not be asked.")

    def once(self, way: str) -> float:
        """Milliseconds of `true`: `session` or `execute`. One that failed is repeated."""
        assert self._process.stdin is not None
        for _ in range(20):
            self._process.stdin.write(f"{way}\n")
            self._process.stdin.flush()
            answer = self._line()
            if answer != "failed":
                return float(answer)
            self.failed += 1
        raise BenchmarkError("SWE-ReX failed at `true` twenty times in a row.")

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


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
