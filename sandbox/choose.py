"""Which kind of sandbox a run gets, what this machine offers, and the clean-up of what killed runs left.

Left out: making an image ready (`sandbox.images`), which comes between choosing and opening.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sandbox.base import ImageProblem, Sandbox, SandboxUnavailable
from sandbox.policy import BASE_IMAGE, SandboxSpec

if TYPE_CHECKING:
    from sandbox.machine import GuestSandbox

ENGINES = ("docker", "podman")  # they speak Docker's API: images are tags, and a spec may name a runtime
KINDS = (*ENGINES, "bubblewrap", "none")


@dataclass(frozen=True, slots=True)
class Fact:
    """One kind of sandbox on this machine, for `agent doctor`."""

    kind: str
    usable: bool
    said: str  # what was found
    todo: str  # what to do to get it; empty when it is there


def available() -> list[Fact]:
    """Every kind, the preferred one first. Starts nothing that stays; takes well under a second."""
    return [*_isolating(), Fact("none", True, "always there, isolates nothing; only by name", "")]


def _isolating() -> Iterator[Fact]:
    """Looked at one by one: who takes the first that works doesn't wait for the others."""
    yield from map(_engine, ENGINES)
    yield _bubblewrap()


def _engine(kind: str) -> Fact:
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    from sandbox.docker_engine import connect, find_image, look

    try:
        client = connect(kind)
    except SandboxUnavailable as error:
        said, _, todo = str(error).partition(". ")
        return Fact(kind, False, said, todo)
    try:
        said = look(client).said
        try:
            find_image(client, BASE_IMAGE)
        except ImageProblem:
            return Fact(kind, True, f"{said}; the base image is made at the first run", "")
        return Fact(kind, True, f"{said}, base image there", "")
    except (DockerException, RequestException) as error:
        return Fact(kind, False, f"the engine answers, and says nothing of itself: {error}", "Start it again.")
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
    """`auto` becomes docker or podman where an engine answers, else bubblewrap where it works; other kinds stay.

    Raises SandboxUnavailable with what to do. Never chooses `none`.
    """
    if kind in KINDS:
        return kind
    if kind != "auto":
        raise SandboxUnavailable(f"There is no sandbox of kind {kind!r}; use auto, {', '.join(KINDS)}.")
    facts: list[Fact] = []
    looking = _isolating()
    while fact := await asyncio.to_thread(next, looking, None):
        if fact.usable:
            return fact.kind
        facts.append(fact)
    found = "\n".join(f"- {fact.kind}: {fact.said}. {fact.todo}" for fact in facts)
    raise SandboxUnavailable(
        f"No sandbox can be had on this machine.\n{found}\nTo run without isolation, as you and on this machine, "
        "ask for it by name: `--sandbox none`."
    )


async def open_sandbox(kind: str, spec: SandboxSpec) -> Sandbox:
    """Open a sandbox of this kind (`auto | docker | podman | bubblewrap | none`). Raises SandboxError.

    Waits while the machine has no memory for it (`sandbox.admission`).
    """
    chosen = await choose(kind)
    if spec.runtime and chosen not in ENGINES:
        raise SandboxUnavailable(
            f"The kind {chosen} has no OCI runtimes, and {spec.runtime!r} is asked for: use `--sandbox docker`."
        )
    from sandbox.lease import take

    lease = await take(chosen, spec)
    try:
        return (await _opened(chosen, spec)).leased(lease)
    except BaseException:  # cancelled too: what nobody opened holds nothing
        lease.release()
        raise


async def _opened(kind: str, spec: SandboxSpec) -> GuestSandbox:
    match kind:
        case "docker" | "podman":
            from sandbox.docker import open_docker

            return await open_docker(spec, kind)
        case "bubblewrap":
            from sandbox.bubblewrap import open_bubblewrap

            return await open_bubblewrap(spec)
        case _:
            from sandbox.local import open_local

            return await open_local(spec)


def prune() -> dict[str, int]:
    """Remove what killed processes left of every kind: name of the thing -> how many went."""
    from sandbox.leftovers import sweep

    return dict(Counter(one.what for one in sweep()))
