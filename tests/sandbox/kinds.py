"""Which kinds of sandbox the tests can use here; a missing one skips, or fails where the environment demands it."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import cache, partial

import pytest

from sandbox.base import SandboxError
from sandbox.choose import available
from sandbox.machine import GuestSandbox
from sandbox.policy import BASE_IMAGE, MIB, Limits, SandboxSpec
from tests.sandbox import no_python

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

# What a kind opens, where its name goes on behind a colon: Docker or bubblewrap with another image. A function makes
# the image ready and returns its tag or folder; it may raise SandboxError, which is why the kind can't be had.
IMAGES: dict[str, Callable[[], str]] = {
    "docker:no-python": no_python.for_contract,
    "bubblewrap:no-python": no_python.tree_for_contract,
}
ENGINES = [
    pytest.param("docker", marks=pytest.mark.docker),
    pytest.param("podman", marks=pytest.mark.podman),
]
ISOLATED = [*ENGINES, pytest.param("bubblewrap", marks=pytest.mark.bubblewrap)]
KINDS = [*ISOLATED, pytest.param("none")]
NO_PYTHON = [  # the image can't run the guest by itself; all of the suites again, so only in `make test-all`
    pytest.param("docker:no-python", marks=[pytest.mark.docker, pytest.mark.heavy]),
    pytest.param("bubblewrap:no-python", marks=[pytest.mark.bubblewrap, pytest.mark.heavy]),
]


@cache
def _missing(name: str) -> str | None:
    kind, _, image = name.partition(":")
    fact = next(fact for fact in available() if fact.kind == kind)
    if not fact.usable:
        return f"{fact.said}. {fact.todo}"
    try:
        if image:
            IMAGES[name]()
        elif kind in ("docker", "podman"):
            _find_base(kind)
    except SandboxError as problem:
        return str(problem)
    return None


def _find_base(kind: str) -> None:
    from sandbox.docker_engine import connect, find_image

    client = connect(kind)
    try:
        find_image(client, BASE_IMAGE)
    finally:
        client.close()


def need(name: str) -> None:
    """Skip when this kind can't be had; fail when PATCHWRIGHT_REQUIRE names it."""
    why = _missing(name)
    if why is not None and name.partition(":")[0] in REQUIRED:
        pytest.fail(f"PATCHWRIGHT_REQUIRE names {name}, which can't be had: {why}")
    if why is not None:
        pytest.skip(f"no {name}: {why}")


def opener(name: str) -> Callable[[SandboxSpec], Awaitable[GuestSandbox]]:
    need(name)
    kind, _, image = name.partition(":")
    if kind in ("docker", "podman"):
        from sandbox.docker import open_docker

        if not image:
            return partial(open_docker, kind=kind)
        return lambda spec: open_docker(replace(spec, image=IMAGES[name]()), kind)
    if kind == "bubblewrap":
        from sandbox.bubblewrap import open_bubblewrap

        return open_bubblewrap if not image else lambda spec: open_bubblewrap(replace(spec, image=IMAGES[name]()))
    from sandbox.local import open_local

    return open_local
