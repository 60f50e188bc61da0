"""Sandboxes for the contract suite, and the check that none of them leaves anything behind."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from sandbox.base import SandboxUnavailable
from sandbox.choose import ENGINES
from sandbox.machine import GuestSandbox
from sandbox.owner import owner
from tests.sandbox.kinds import ISOLATED, KINDS, NO_PYTHON, SPEC, opener


@pytest.fixture(params=[*KINDS, *NO_PYTHON])
async def box(request: pytest.FixtureRequest) -> AsyncIterator[GuestSandbox]:
    """A sandbox of each kind."""
    async with await opener(request.param)(SPEC) as sandbox:
        yield sandbox


@pytest.fixture(params=[*ISOLATED, *NO_PYTHON])
async def cell(request: pytest.FixtureRequest) -> AsyncIterator[GuestSandbox]:
    """A sandbox of each kind that promises isolation."""
    async with await opener(request.param)(SPEC) as sandbox:
        yield sandbox


@pytest.fixture(scope="session", autouse=True)
def nothing_left_behind() -> Iterator[None]:
    shm_before = set(os.listdir("/dev/shm"))
    yield
    mine = owner()
    assert not list(Path("/sys/fs/cgroup").glob(f"*/patchwright/{mine}*")), "control groups left"
    assert not list(Path("/tmp").glob(f"patchwright-*-{mine}-*")), "folders left"
    assert "/tmp/patchwright-" not in Path("/proc/self/mountinfo").read_text(), "mounts left"
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    left = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children]
    assert not [line for line in left if b"bwrap" in line or b"exec(compile(get" in line], "processes left"
    new = {name for name in set(os.listdir("/dev/shm")) - shm_before if "patchwright" in name}
    assert not new, "shared memory left"
    for engine in ENGINES:
        assert not _containers(engine, mine), "containers left"


def _containers(engine: str, mine: str) -> list[str]:
    from sandbox.docker_engine import OWNER_LABEL, connect

    try:
        client = connect(engine)
    except SandboxUnavailable:
        return []
    try:
        return [c.name for c in client.containers.list(all=True, filters={"label": f"{OWNER_LABEL}={mine}"})]
    finally:
        client.close()
