"""What every kind of sandbox does the same: start, close, and a guest that dies."""

from __future__ import annotations

import asyncio
import time

import pytest

from sandbox.base import SandboxDied
from sandbox.machine import GuestSandbox


async def test_closing_twice_and_calls_after_it(box: GuestSandbox) -> None:
    running = asyncio.create_task(box.run("sleep 4330"))
    await asyncio.sleep(0.3)
    await box.close()
    with pytest.raises(SandboxDied, match="closed"):
        await running
    await box.close()
    with pytest.raises(SandboxDied, match="closed"):
        await box.run("true")


async def test_a_guest_that_is_killed(box: GuestSandbox) -> None:
    started = time.monotonic()
    # the guest must be killed from a shell that outlives it for a moment
    with pytest.raises(SandboxDied):
        await box.run(f"kill -9 {box.facts['pid']}; sleep 20", timeout=30)
    assert time.monotonic() - started < 10
    with pytest.raises(SandboxDied, match="ended"):
        await box.read("x")


async def test_the_guest_runs_as_asked(box: GuestSandbox) -> None:
    done = box.facts["done"]
    assert done == {"private": True, "subreaper": True, "no_new_privileges": True, "seccomp": True}
    assert (box.warning is not None) == (box.kind == "none")


async def test_a_caller_that_asks_for_too_much(box: GuestSandbox) -> None:
    with pytest.raises(ValueError, match="bytes; the sandbox takes"):
        await box.run("#" * (9 << 20))
    with pytest.raises(ValueError, match="max_output"):
        await box.run("true", max_output=1 << 30)
