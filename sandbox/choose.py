"""Which kind of sandbox a run gets, what this machine offers, and the clean-up of what killed runs left.

Left out: making an image ready (`sandbox.images`), which comes between choosing and opening.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

from sandbox.base import ImageProblem, Sandbox, SandboxUnavailable
from sandbox.policy import BASE_IMAGE, SandboxSpec

KINDS = ("docker", "bubblewrap", "none")


@dataclass(frozen=True, slots=True)
class Fact:
    """One kind of sandbox on this machine, for `agent doctor`."""

    kind: str
    usable: bool
    said: str  # what was found
    todo: str  # what to do to get it; empty when it is there


def available() -> list[Fact]:
    """Every kind, the preferred one first. Starts nothing that stays; takes well under a second."""
    return [_docker(), _bubblewrap(), Fact("none", True, "always there, isolates nothing; only by name", "")]


def _docker() -> Fact:
    from sandbox.docker_engine import connect, find_image

    try:
        client = connect()
    except SandboxUnavailable as error:
        said, _, todo = str(error).partition(". ")
        return Fact("docker", False, said, todo)
    try:
        version = client.version()["Version"]
        try:
            find_image(client, BASE_IMAGE)
        except ImageProblem:
            return Fact("docker", True, f"engine {version}; the base image is made at the first run", "")
        return Fact("docker", True, f"engine {version}, base image there", "")
    finally:
        client.close()


def _bubblewrap() -> Fact:
    from sandbox.bubblewrap import find_tree, why_not

    problem = why_not()
    if problem is not None:
        said, _, todo = problem.partition(". ")
        return Fact("bubblewrap", False, said, todo)
    tree = "base tree there" if find_tree(None) else "no base tree yet: this machine's own programs"
    return Fact("bubblewrap", True, f"namespaces work; {tree}", "")


async def choose(kind: str) -> str:
    """`auto` becomes docker where an engine answers, else bubblewrap where it works; other kinds stay.

    Raises SandboxUnavailable with what to do. Never chooses `none`.
    """
    if kind in KINDS:
        return kind
    if kind != "auto":
        raise SandboxUnavailable(f"There is no sandbox of kind {kind!r}; use auto, {', '.join(KINDS)}.")
    facts = await asyncio.to_thread(lambda: (_docker(), _bubblewrap()))
    for fact in facts:
        if fact.usable:
            return fact.kind
    found = "\n".join(f"- {fact.kind}: {fact.said}. {fact.todo}" for fact in facts)
    raise SandboxUnavailable(
        f"No sandbox can be had on this machine.\n{found}\nTo run without isolation, as you and on this machine, "
        "ask for it by name: `--sandbox none`."
    )


async def open_sandbox(kind: str, spec: SandboxSpec) -> Sandbox:
    """Open a sandbox of this kind (`auto | docker | bubblewrap | none`). Raises SandboxError."""
    match await choose(kind):
        case "docker":
            from sandbox.docker import open_docker

            return await open_docker(spec)
        case "bubblewrap":
            from sandbox.bubblewrap import open_bubblewrap

            return await open_bubblewrap(spec)
        case _:
            from sandbox.local import open_local

            return await open_local(spec)


def prune() -> dict[str, int]:
    """Remove what killed processes left of every kind: name of the thing -> how many went."""
    from sandbox import cgroups
    from sandbox.scratch import prune_scratch

    return {**dict(_prune_containers()), "control groups": cgroups.prune(), "folders": prune_scratch()}


def _prune_containers() -> Iterator[tuple[str, int]]:
    from sandbox import docker_engine

    try:
        yield "containers", docker_engine.prune()
    except SandboxUnavailable:
        return  # no engine: nothing of it can be left
