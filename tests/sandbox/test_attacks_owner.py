"""A host process that is killed: what it started ends, and prune clears the rest away."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.sandbox.inside import reads
from tests.sandbox.kinds import ISOLATED, opener

OWNER = """import asyncio, sys
from tests.sandbox.kinds import SPEC, opener
async def main():
    box = await opener(sys.argv[1])(SPEC)
    await box.run("sleep 4402 & setsid sleep 4402 &")
    await box.write("f", b"x"); await box.snapshot()
    print("ready", flush=True)
    await box.run("sleep 4402")
asyncio.run(main())
"""


@pytest.fixture(params=[*ISOLATED, pytest.param("none")])
async def orphan(request: pytest.FixtureRequest) -> AsyncIterator[subprocess.Popen[bytes]]:
    opener(request.param)
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, request.param], cwd=root, stdout=subprocess.PIPE, env={**os.environ}
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    yield process
    process.kill()
    process.wait()


async def test_a_killed_owner_leaves_nothing_after_prune(orphan: subprocess.Popen[bytes]) -> None:
    from sandbox.choose import prune
    from sandbox.owner import start_ticks

    mine = f"{orphan.pid}-{start_ticks(orphan.pid)}-"
    orphan.kill()
    orphan.wait()
    for _ in range(100):
        if not _sleepers():
            break
        await asyncio.sleep(0.1)
    assert not _sleepers(), "its processes end by themselves"
    await asyncio.to_thread(prune)
    assert not list(Path("/sys/fs/cgroup").glob(f"*/patchwright/{mine}*"))
    assert not list(Path("/tmp").glob(f"patchwright-*-{mine}*"))
    assert not await asyncio.to_thread(_containers_of, mine)


def _sleepers() -> list[Path]:
    return [p for p in Path("/proc").glob("[0-9]*/cmdline") if reads(p) == b"sleep\0004402\0"]


def _containers_of(mine: str) -> list[str]:
    from sandbox.base import SandboxUnavailable
    from sandbox.docker_engine import LABEL, OWNER_LABEL, connect

    try:
        client = connect()
    except SandboxUnavailable:
        return []
    try:
        all_of_us = client.containers.list(all=True, filters={"label": LABEL})
        return [c.name for c in all_of_us if c.labels[OWNER_LABEL].startswith(mine)]
    finally:
        client.close()
