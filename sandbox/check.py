"""Measures the hardening: opens a sandbox, tries from inside what must not work, and looks at it from the host.

Each line of `sandbox.policy.HARDENING` has one judge here. Left out: the trying itself (`sandbox.check_probe`), what
the host sees (`sandbox.check_outside`) and the printing.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import secrets
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from sandbox import check_outside, seccomp
from sandbox.base import CommandEnd, Sandbox, SandboxError
from sandbox.check_outside import Outside
from sandbox.policy import HARDENING, HOME, STATE_DIR, Line, SandboxSpec

MARGIN = 32  # processes of ours and of the probe's own, tried beyond the limit
_CLOSED = ("/", "/etc", "/usr", "/usr/bin", "/var", "/opt", "/root", "/home", "/run", "/dev")
_KERNEL = (
    "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname", "/proc/sys/vm/drop_caches", "/proc/sysrq-trigger",
    "/proc/1/oom_score_adj", "/sys/kernel/profiling", "/sys/fs/cgroup/cgroup.procs",
    "/sys/fs/cgroup/memory/cgroup.procs", "/sys/power/state",
)  # fmt: skip
_SOCKETS = {
    "vsock": (40, 1, 0), "packet": (17, 3, 0), "crypto": (38, 5, 0), "bluetooth": (31, 3, 0), "raw": (2, 3, 6),
    "firewall": (16, 3, 12), "sctp": (2, 1, 132),
}  # fmt: skip


class Held(StrEnum):
    YES = "yes"
    WEAKER = "weaker"  # less than promised, and known
    NO = "no"
    UNSEEN = "not seen"  # nothing could be measured


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the hardening in one sandbox."""

    line: str
    policy: str
    seen: str
    held: Held


@dataclass(frozen=True, slots=True)
class Seen:
    """All that was measured of one sandbox."""

    kind: str
    spec: SandboxSpec
    inside: Mapping[str, Any]
    outside: Outside | None
    forked: Mapping[str, Any] | None
    deadline: tuple[CommandEnd, float, int]  # how a command that wouldn't end ended, seconds, what it left running
    output: tuple[int, int]  # bytes that came back, of how many
    owner: str
    labels: Mapping[str, str] | None  # of its container, where it has one

    @property
    def has_group(self) -> bool:
        """Whether the kernel bounds it by itself, not together with what started it."""
        if self.outside is None or self.outside.memory is None:
            return False
        return self.owner in self.outside.groups or self.outside.container is not None


async def check(kind: str, spec: SandboxSpec) -> list[Finding]:
    """Open a sandbox, measure every line, close it. Raises SandboxError when none can be had."""
    from sandbox.check_judges import JUDGES

    seen = await _measured(kind, spec)
    findings = []
    for line in HARDENING:
        held, text = JUDGES[line.name](seen)
        findings.append(_finding(line, seen, held, text))
    return findings


def _finding(line: Line, seen: Seen, held: Held, text: str) -> Finding:
    known = held is Held.NO and line.without_group and seen.outside is not None and not seen.has_group
    if known:
        held, text = Held.WEAKER, f"{text}; {seen.kind} has no control group here: {line.without_group}"
    return Finding(line.name, line.promise, text, held)


async def _measured(kind: str, spec: SandboxSpec) -> Seen:
    from sandbox.choose import open_sandbox
    from sandbox.owner import owner

    with _planted() as (secret, path, port):
        async with _Closing(await open_sandbox(kind, spec)) as box:
            inside = await _probe(box, _questions(box, spec, secret, path, port))
            outside = await _from_outside(box)
            deadline = await _deadline(box)
            output = await _output(box)
            forked = await _forked(box, spec)
            labels = await asyncio.to_thread(_labels, kind, outside)
    return Seen(kind, spec, inside, outside, forked, deadline, output, owner(), labels)


class _Closing:
    def __init__(self, box: Sandbox) -> None:
        self.box = box

    async def __aenter__(self) -> Sandbox:
        return self.box

    async def __aexit__(self, *exc: object) -> None:
        await self.box.close()


@contextmanager
def _planted() -> Iterator[tuple[str, str, int]]:
    """What nobody inside may find: a secret in our environment, a file of ours, a server on our loopback."""
    secret = secrets.token_hex(16)
    os.environ["PATCHWRIGHT_CHECK"] = secret
    try:
        with (
            tempfile.NamedTemporaryFile(prefix="patchwright-check-") as file,
            socket.create_server(("127.0.0.1", 0)) as server,
        ):
            yield secret, file.name, server.getsockname()[1]
    finally:
        del os.environ["PATCHWRIGHT_CHECK"]


def _questions(box: Sandbox, spec: SandboxSpec, secret: str, path: str, port: int) -> dict[str, Any]:
    column = 0 if platform.machine() == "x86_64" else 1
    tables = seccomp.DENIED if spec.allow_tracing else {**seccomp.DENIED, **seccomp.TRACING}
    folders = (box.workdir, "/tmp", HOME, "/dev/shm", STATE_DIR)  # noqa: S108
    return {
        "secret": secret,
        "host_path": path,
        "connect": [("127.0.0.1", port), ("169.254.169.254", 80), ("192.0.2.1", 80), ("2001:db8::1", 80)],
        "folders_closed": _CLOSED,
        "folders": folders,
        "kernel": _KERNEL,
        "calls": {name: numbers[column] for name, numbers in tables.items() if numbers[column] is not None},
        "sockets": _SOCKETS,
    }


async def _probe(box: Sandbox, asked: Mapping[str, Any], timeout: float = 60.0) -> dict[str, Any]:
    source = Path(__file__).with_name("check_probe.py").read_text()
    argv = ["python3", "-I", "-S", "-c", source, json.dumps(asked)]
    done = await box.run(argv, timeout=timeout, max_output=4 << 20)
    try:
        answer = json.loads(done.output)
    except ValueError:
        text = done.output.decode("utf-8", "replace")[-1000:]
        raise SandboxError(
            f"The probe did not run in the {box.kind} sandbox (status {done.exit_code}): {text}. Its image needs a "
            "python3 with ctypes; name another one with --image."
        ) from None
    return dict(answer)


async def _from_outside(box: Sandbox) -> Outside | None:
    """Find one of its processes on the host while it runs."""
    word, file = f"patchwright-check-{secrets.token_hex(8)}", f"{box.workdir}/.patchwright-check"
    await box.write(file, b"")
    script = "import sys; sys.stdin.read(); import time; time.sleep(20)"
    running = asyncio.ensure_future(box.run(["python3", "-I", "-S", "-c", script, word], timeout=25))
    try:
        for _ in range(50):
            await asyncio.sleep(0.1)
            pid = await asyncio.to_thread(check_outside.find, word)
            if pid is not None:
                return check_outside.look(pid, file)
            if running.done():
                break
        return None
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def _deadline(box: Sandbox) -> tuple[CommandEnd, float, int]:
    began = time.monotonic()
    script = "trap '' TERM; (setsid sh -c 'trap \"\" TERM; sleep 61' &) ; sleep 61; sleep 61"
    done = await box.run(script, timeout=0.5)
    seconds = time.monotonic() - began
    left = await box.run("ps -e -o args= 2>/dev/null | grep -c '^sleep 61'")
    return done.end, seconds, int(left.output.split()[0] if left.output.split() else 0)


async def _output(box: Sandbox) -> tuple[int, int]:
    done = await box.run("head -c 33554432 /dev/zero", max_output=4096)
    return len(done.output), done.total_bytes


async def _forked(box: Sandbox, spec: SandboxSpec) -> dict[str, Any] | None:
    try:
        return await _probe(box, {"what": "processes", "processes": spec.limits.processes + MARGIN}, timeout=120)
    except SandboxError:  # the guest ended the probe at its limit, where the kernel doesn't
        return None


def _labels(kind: str, outside: Outside | None) -> dict[str, str] | None:
    """The labels of the container that the process is in."""
    from sandbox.choose import ENGINES

    if kind not in ENGINES or outside is None or outside.container is None:
        return None
    from docker.errors import DockerException

    from sandbox.docker_engine import connect

    client = connect(kind)
    try:
        return dict(client.containers.get(outside.container).labels)
    except DockerException:
        return None
    finally:
        client.close()
