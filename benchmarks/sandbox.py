"""What sandboxes cost: a trivial command beside docker-py's `exec_run` and SWE-ReX; create, fork, close; memory; 32.

Run `python benchmarks/sandbox.py [--check] [--no-peer] [--rounds N]`; it prints Markdown tables and, for each goal,
whether it is met. The exit status is 1 when one is missed. What is measured, and how, is in `benchmarks/README.md`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from measuring import BenchmarkError, machine, median, spread, table
from rex import Asked, labels, rex_python, rex_server, rex_version
from sandbox_memory import Memory, weighed

from sandbox.machine import GuestSandbox
from sandbox.policy import BASE_IMAGE, SandboxSpec

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

MOST_MS, LEAST_RATIO, AT_ONCE = 5.0, 10.0, 32
COMMANDS, WARM = 15, 2  # of each kind in a round; the first ones aren't counted
FILES, FILE_BYTES = 500, 20_000  # in a work folder that is kept and forked
SPEC = SandboxSpec(labels={"run": "benchmark"})
EXEC, REX, REX_LOCAL = "exec_run of docker-py", "SWE-ReX, session", "SWE-ReX, session, no container"
REX_EXECUTE = "SWE-ReX, command without a session"
OTHERS = (EXEC, REX, REX_LOCAL)  # what the goal is about
STEPS = ("create", "fill", "snapshot", "fork", "restore", "close")

Opener = Callable[[SandboxSpec], Awaitable[GuestSandbox]]
Once = Callable[[], Awaitable[float]]  # one command; milliseconds
Rounds = dict[str, list[float]]  # milliseconds, a median for each round


@dataclass(slots=True)
class Crowd:
    """Many sandboxes at once, one item per round: seconds, and MiB in all."""

    opened: list[float] = field(default_factory=list)
    ran: list[float] = field(default_factory=list)
    closed: list[float] = field(default_factory=list)
    memory: list[Memory] = field(default_factory=list)
    lost: int = 0


@dataclass(slots=True)
class Found:
    """All that was measured."""

    commands: Rounds = field(default_factory=dict)
    steps: dict[str, Rounds] = field(default_factory=dict)
    idle: dict[str, Memory] = field(default_factory=dict)
    crowds: dict[str, Crowd] = field(default_factory=dict)
    rex_start: float | None = None
    rex: list[Asked] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12, help="repetitions; medians are shown")
    parser.add_argument("--check", action="store_true", help="only what the goals need, and fewer rounds")
    parser.add_argument("--no-peer", action="store_true", help="without SWE-ReX")
    options = parser.parse_args()
    rounds = min(options.rounds, 6) if options.check else options.rounds
    kinds, before, found = openers(), machine(), Found()
    if not kinds:
        raise BenchmarkError("Neither Docker nor bubblewrap works here; `agent sandbox check` says why.")
    asyncio.run(measure(kinds, found, rounds, peer=not options.no_peer, whole=not options.check))
    show(found)
    print(f"\nMachine: {before} before and {os.getloadavg()[0]:.1f} after; {rounds} rounds.\n")
    checked = list(goals(found))
    for met, line in checked:
        print(f"{'met   ' if met else 'MISSED'} {line}")
    sys.exit(0 if all(met for met, _ in checked) else 1)


def openers() -> dict[str, Opener]:
    """The kinds that work here and isolate."""
    from sandbox.bubblewrap import open_bubblewrap
    from sandbox.choose import available
    from sandbox.docker import open_docker

    usable = {fact.kind for fact in available() if fact.usable}
    all_kinds: dict[str, Opener] = {"docker": open_docker, "bubblewrap": open_bubblewrap}
    if "podman" in usable:
        all_kinds["podman"] = lambda spec: open_docker(spec, "podman")
    return {kind: opener for kind, opener in all_kinds.items() if kind in usable}


async def measure(kinds: dict[str, Opener], found: Found, rounds: int, *, peer: bool, whole: bool) -> None:
    for opener in kinds.values():
        await (await opener(SPEC)).close()  # makes what a first use makes
    async with AsyncExitStack() as stack:
        contenders = await ours(stack, kinds)
        if "docker" in kinds:
            contenders |= others(stack, found, peer=peer)
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}, load {os.getloadavg()[0]:.1f}", file=sys.stderr)
            order = list(contenders.items())
            await run_commands(found.commands, order[number % len(order) :] + order[: number % len(order)])
    for number in range(min(rounds, 5) if whole else 0):
        print(f"steps, round {number + 1}", file=sys.stderr)
        for kind, opener in kinds.items():
            await run_steps(found.steps.setdefault(kind, {}), opener)
    for kind, opener in kinds.items():
        if whole:
            found.idle[kind] = await idle_memory(opener)
        crowd = found.crowds.setdefault(kind, Crowd())
        for number in range(min(rounds, 3)):
            print(f"{AT_ONCE} of {kind}, round {number + 1}", file=sys.stderr)
            await run_crowd(crowd, opener)


# -- a trivial command


async def run_commands(rounds: Rounds, contenders: Sequence[tuple[str, Once]]) -> None:
    """Some of each, one kind after the other; all are open, so that nobody's start or end falls into another's time."""
    for name, once in contenders:
        times = [await once() for _ in range(WARM + COMMANDS)]
        rounds.setdefault(name, []).append(median(times[WARM:]))


async def ours(stack: AsyncExitStack, kinds: dict[str, Opener]) -> dict[str, Once]:
    """Each kind as the `bash` tool uses it, with a session, and without."""

    async def once(sandbox: GuestSandbox, keep: bool) -> float:
        started = time.perf_counter()
        result = await sandbox.run("true", keep_session=keep)
        if result.exit_code:
            raise BenchmarkError(f"`true` ended with status {result.exit_code} in {sandbox.kind}")
        return (time.perf_counter() - started) * 1e3

    found: dict[str, Once] = {}
    for kind, opener in kinds.items():
        sandbox = await stack.enter_async_context(await opener(SPEC))
        found[f"ours, {kind}"] = partial(once, sandbox, True)
        found[f"ours, {kind}, without a session"] = partial(once, sandbox, False)
    return found


def others(stack: AsyncExitStack, found: Found, *, peer: bool) -> dict[str, Once]:
    """docker-py's `exec_run` in a container of our image, and SWE-ReX in another one and without one."""
    from sandbox.docker_engine import connect

    client = connect()
    stack.callback(client.close)
    container = stack.enter_context(sleeping(client))
    contenders: dict[str, Once] = {EXEC: partial(asyncio.to_thread, exec_run, container)}
    if not peer:
        return contenders
    python = rex_python()
    port, token, found.rex_start = stack.enter_context(rex_server(client, BASE_IMAGE, python))
    for name, where in ((REX, f"{port}:{token}"), (REX_LOCAL, "local")):
        asked = Asked(python, where)
        stack.callback(asked.close)
        found.rex.append(asked)
        contenders[name] = partial(asyncio.to_thread, asked.once, "session")
        if name == REX:
            contenders[REX_EXECUTE] = partial(asyncio.to_thread, asked.once, "execute")
    return contenders


def exec_run(container: Container) -> float:
    started = time.perf_counter()
    code, _ = container.exec_run(["bash", "-c", "true"])
    if code:
        raise BenchmarkError(f"`true` ended with status {code} in exec_run")
    return (time.perf_counter() - started) * 1e3


@contextmanager
def sleeping(client: DockerClient) -> Iterator[Container]:
    """A container as plain as can be, in favour of who runs commands in it."""
    container = client.containers.run(
        BASE_IMAGE, ["sleep", "infinity"], entrypoint=[], network_mode="none", init=True, detach=True, labels=labels()
    )
    try:
        yield container
    finally:
        container.remove(force=True)


# -- create, fork, close


async def run_steps(rounds: Rounds, opener: Opener) -> None:
    """Each once; a sandbox counts as created when it has answered, a fork when its files are there."""
    opened: list[GuestSandbox] = []

    async def timed(name: str, step: Awaitable[object]) -> object:
        started = time.perf_counter()
        result = await step
        rounds.setdefault(name, []).append((time.perf_counter() - started) * 1e3)
        return result

    async def created(how: Awaitable[object]) -> GuestSandbox:
        sandbox = await how
        assert isinstance(sandbox, GuestSandbox)
        opened.append(sandbox)
        await sandbox.run("true")
        return sandbox

    script = f"for i in $(seq {FILES}); do head -c {FILE_BYTES} /dev/urandom >f$i; done"
    try:
        sandbox = await timed("create", created(opener(SPEC)))
        assert isinstance(sandbox, GuestSandbox)
        await timed("fill", sandbox.run(script))
        name = await timed("snapshot", sandbox.snapshot())
        await timed("fork", created(sandbox.fork(str(name))))
        await sandbox.run("rm f1; echo more >more")
        await timed("restore", sandbox.restore(str(name)))
    finally:
        for each in reversed(opened):
            await (timed("close", each.close()) if each is opened[0] else each.close())


# -- memory, and many at once


async def idle_memory(opener: Opener, count: int = 8) -> Memory:
    """Of one sandbox that waits, as the mean of several."""
    before = weighed([])
    opened = [await opener(SPEC) for _ in range(count)]
    try:
        for sandbox in opened:
            await sandbox.run("true")
        return weighed(opened).less(before).share(count)
    finally:
        await asyncio.gather(*(sandbox.close() for sandbox in opened))


async def run_crowd(crowd: Crowd, opener: Opener) -> None:
    before, started = weighed([]), time.monotonic()
    opened = await asyncio.gather(*(opener(SPEC) for _ in range(AT_ONCE)), return_exceptions=True)
    living = [each for each in opened if isinstance(each, GuestSandbox)]
    crowd.opened.append(time.monotonic() - started)
    try:
        started = time.monotonic()
        scripts = [f"echo {number} >mine; cat mine" for number in range(len(living))]
        answers = await asyncio.gather(*map(GuestSandbox.run, living, scripts), return_exceptions=True)
        crowd.ran.append(time.monotonic() - started)
        said = [answer if isinstance(answer, BaseException) else answer.output for answer in answers]
        crowd.lost += AT_ONCE - sum(said[number] == b"%d\n" % number for number in range(len(said)))
        crowd.memory.append(weighed(living).less(before))
    finally:
        started = time.monotonic()
        await asyncio.gather(*(sandbox.close() for sandbox in living))
        crowd.closed.append(time.monotonic() - started)
    for each in opened:
        if isinstance(each, BaseException):
            print(f"a sandbox could not be opened: {each}", file=sys.stderr)


# -- what is shown


def show(found: Found) -> None:
    ours = [name for name in found.commands if name.startswith("ours") and "without" not in name]
    head = ["`true`", "ms", "best round", *(f"in times of {name}" for name in ours)]
    rows = [
        [name, spread(times), f"{min(times):.2f}", *(f"{ratio(found, name, other):.1f}" for other in ours)]
        for name, times in found.commands.items()
    ]
    print(table(head, rows))
    if found.rex_start is not None:
        failed = sum(asked.failed for asked in found.rex)
        print(f"\nSWE-ReX is version {rex_version()}; its server answered {found.rex_start:.1f} s after its container")
        print(
            f"was created, copying its packages in included. {failed} commands in its sessions failed, because it gives"
        )
        print("its shell a tenth of a second for a prompt. They were repeated, and are not counted.")
    if found.steps:
        rows = [[kind, *(spread(steps[step], 0) for step in STEPS)] for kind, steps in found.steps.items()]
        print("\n" + table(["ms", *STEPS], rows))
    if found.idle:
        rows = [[kind, *memory.shown()] for kind, memory in found.idle.items()]
        print("\n" + table(["MiB of an idle sandbox", *Memory.HEAD], rows))
    head = [f"{AT_ONCE} at once", "all open, s", "a command in each, s", "all closed, s", *Memory.HEAD, "lost"]
    rows = [
        [
            kind,
            *(spread(times, 1) for times in (crowd.opened, crowd.ran, crowd.closed)),
            *max(crowd.memory, key=lambda memory: memory.inside).shown(0),
            str(crowd.lost),
        ]
        for kind, crowd in found.crowds.items()
    ]
    print("\n" + table(head, rows))


def ratio(found: Found, name: str, other: str) -> float:
    """The median of the ratios within rounds."""
    pairs = zip(found.commands[name], found.commands[other], strict=True)
    return median([mine / theirs for mine, theirs in pairs])


def goals(found: Found) -> Iterator[tuple[bool, str]]:
    for kind, crowd in found.crowds.items():
        name = f"ours, {kind}"
        best = min(found.commands[name])
        yield best <= MOST_MS, f"{kind}: {best:.2f} ms for `true` in the best round, at most {MOST_MS:g}"
        for other in OTHERS:
            if other in found.commands:
                times = ratio(found, other, name)
                yield times >= LEAST_RATIO, f"{kind}: {other} takes {times:.1f} times as long, at least {LEAST_RATIO:g}"
        yield crowd.lost == 0, f"{kind}: {crowd.lost} of {AT_ONCE} at once lost, none"


if __name__ == "__main__":
    main()
