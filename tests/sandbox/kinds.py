"""Which kinds of sandbox the tests can use here; a missing one skips, or fails where the environment demands it."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from functools import cache

import pytest

from sandbox.choose import available
from sandbox.machine import GuestSandbox
from sandbox.policy import MIB, Limits, SandboxSpec

SPEC = SandboxSpec(
    limits=Limits(
        memory=256 * MIB,
        processes=100,
        workdir_bytes=300 * MIB,
        tmp_bytes=32 * MIB,
        home_bytes=32 * MIB,
        state_bytes=64 * MIB,
        shm_bytes=16 * MIB,
    ),
    labels={"run": "test"},
)
REQUIRED = {kind for kind in os.environ.get("PATCHWRIGHT_REQUIRE", "").split(",") if kind}

KINDS = [
    pytest.param("docker", marks=pytest.mark.docker),
    pytest.param("bubblewrap", marks=pytest.mark.bubblewrap),
    pytest.param("none"),
]
ISOLATED = KINDS[:2]


@cache
def _missing(kind: str) -> str | None:
    fact = next(fact for fact in available() if fact.kind == kind)
    if not fact.usable:
        return f"{fact.said}. {fact.todo}"
    if kind == "docker":
        from sandbox.base import ImageProblem
        from sandbox.docker_engine import connect, find_image
        from sandbox.policy import BASE_IMAGE

        client = connect()
        try:
            find_image(client, BASE_IMAGE)
        except ImageProblem as problem:
            return str(problem)
        finally:
            client.close()
    return None


def need(kind: str) -> None:
    """Skip when this kind can't be had; fail when PATCHWRIGHT_REQUIRE names it."""
    why = _missing(kind)
    if why is not None and kind in REQUIRED:
        pytest.fail(f"PATCHWRIGHT_REQUIRE names {kind}, which can't be had: {why}")
    if why is not None:
        pytest.skip(f"no {kind}: {why}")


def opener(kind: str) -> Callable[[SandboxSpec], Awaitable[GuestSandbox]]:
    need(kind)
    if kind == "docker":
        from sandbox.docker import open_docker

        return open_docker
    if kind == "bubblewrap":
        from sandbox.bubblewrap import open_bubblewrap

        return open_bubblewrap
    from sandbox.local import open_local

    return open_local
