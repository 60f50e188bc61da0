"""A guest that lies or is silent, because what it runs took it over: the host believes nothing."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from sandbox.base import SandboxDied
from sandbox.channel import HEADER
from sandbox.machine import GuestSandbox
from sandbox.policy import SandboxSpec
from tests.sandbox.kinds import SPEC, opener

pytestmark = pytest.mark.heavy

LIAR = """import os, struct, sys, time
def get(n):
    b = b""
    while len(b) < n:
        part = os.read(0, n - len(b))
        if not part: sys.exit()
        b += part
    return b
def frame(body, data=b""): return struct.pack(">II", len(body), len(data)) + body + data
get(int(get(8)))
j, d = struct.unpack(">II", get(8)); get(j + d)
os.write(1, frame(b'{"id":0,"pid":5,"done":{}}'))
j, d = struct.unpack(">II", get(8)); get(j + d)
os.write(1, %s)
time.sleep(60)
"""


@pytest.mark.parametrize(
    "answer",
    [
        "b'\\xff' * 8",
        "struct.pack('>II', 0, 1 << 31)",
        "frame(b'[' * 100000)",
        "frame(b'not json')",
        "frame(b'[1, 2]')",
        "frame(b'{}') * 2000",
        "frame(b'{\"id\": 1}')",
        "frame(b'{\"id\": 1, \"part\": 1}', b'x')",
        'frame(b\'{"id":1,"exit_code":0,"head":9,"total":1,"seconds":0,"end":"exited","still_running":[]}\')',
        'frame(b\'{"id":1,"exit_code":0,"head":0,"total":\' + b\'9\' * 5000 + b\'}\')',
        'frame(b\'{"id":1,"exit_code":-1,"head":0,"total":0,"seconds":0,"end":"exited","still_running":[]}\')',
        'frame(b\'{"id":1,"exit_code":0,"head":0,"total":0,"seconds":0,"end":"great","still_running":[]}\')',
        'frame(b\'{"id":1,"exit_code":0,"head":0,"total":9999999,"seconds":0,"end":"exited","still_running":[]}\''
        ", b'x' * 9999999)",
    ],
)
async def test_a_hostile_guest_ends_its_sandbox_and_nothing_else(answer: str) -> None:
    box = await _liar(LIAR % answer)
    started = time.monotonic()
    with pytest.raises(SandboxDied, match="protocol"):
        await box.run("true", timeout=30)
    assert time.monotonic() - started < 10
    await box.close()


async def test_a_guest_that_is_silent() -> None:
    box = await _liar(LIAR % "b''", replace(SPEC, answer_grace=0.5))
    started = time.monotonic()
    with pytest.raises(SandboxDied, match="did not answer within"):
        await box.run("true", timeout=0.2)
    assert time.monotonic() - started < 10
    with pytest.raises(SandboxDied, match="did not answer"):
        await box.stat("x")
    await box.close()


async def test_a_guest_that_is_stopped_by_what_it_runs(cell: GuestSandbox) -> None:
    async with await opener(cell.kind)(replace(SPEC, answer_grace=1.0)) as other:
        started = time.monotonic()
        with pytest.raises(SandboxDied, match="did not answer within"):
            await other.run(f"kill -STOP {other.facts['pid']}; sleep 50", timeout=1)
        assert time.monotonic() - started < 20


async def _liar(source: str, spec: SandboxSpec = SPEC) -> GuestSandbox:
    from sandbox.local import LocalMachine, open_local
    from sandbox.pipes import spawn
    from sandbox.scratch import scratch_folder

    stream, channel = await spawn([sys.executable, "-c", source], {})
    machine = LocalMachine(stream, spec, Path("/"), scratch_folder("state"), None)
    box = GuestSandbox(machine, channel, spec, workdir="/", state_dir="/", reopen=open_local)
    await box.start({})
    return box


def test_the_frame_header_is_what_the_liar_speaks() -> None:
    assert HEADER.pack(1, 2) == b"\0\0\0\1\0\0\0\2"
