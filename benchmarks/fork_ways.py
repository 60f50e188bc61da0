"""Three ways to fork a container's work folder, and bubblewrap's layers beside them: what keeping and forking take.

    python benchmarks/fork_ways.py [--repeat N] [--json FILE]

- commit: the work folder lies in the container's own layer (unbounded); the engine makes an image of it, and a fork
  is a container of that image.
- overlay volume: the work folder is a memory volume; a fork's is an overlay over it, mounted by the engine's `local`
  driver. A volume that a container writes to can't be frozen, so keeping ends that container and starts another one
  over it. Making the overlay's folders is left out of the time: done here on the engine's disk, as root.
- copy: what `snapshot` and `fork` do: a tar through the guest, unpacked in a new sandbox.

All containers have the sandbox's own settings and are started with the guest's interpreter waiting for its source;
only `copy` and `layers` also hand it over, so theirs is the time until commands can run. Left out: restore, which is
a fork and the end of what was there.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sandbox.channel import GUEST_ARGV
from sandbox.docker_engine import connect, find_image
from sandbox.docker_settings import container_settings
from sandbox.machine import GuestSandbox
from sandbox.policy import BASE_IMAGE, MIB, Limits, SandboxSpec, inside_ids

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

SPEC = SandboxSpec(limits=Limits(memory=512 * MIB, workdir_bytes=1024 * MIB), labels={"run": "benchmark"})
WORK = SPEC.workdir


@dataclass(frozen=True, slots=True)
class TreeSize:
    name: str
    files: int
    size: int  # bytes, in all

    @property
    def script(self) -> str:
        return (
            f"import os\nfor i in range({self.files}):\n    folder = '{WORK}/d%d' % (i // 100)\n"
            "    os.makedirs(folder, exist_ok=True)\n"
            f"    open(folder + '/f%d' % i, 'wb').write(os.urandom({self.size // self.files}))\n"
        )


TREES = (TreeSize("500 files, 10 MB", 500, 10_000_000), TreeSize("20 000 files, 200 MB", 20_000, 200_000_000))


@dataclass(slots=True)
class Times:
    """Seconds, one for each repetition."""

    keep: list[float] = field(default_factory=list)
    fork: list[float] = field(default_factory=list)


@contextmanager
def timed(into: list[float]) -> Iterator[None]:
    started = time.perf_counter()
    yield
    into.append(time.perf_counter() - started)


# ---------------------------------------------------------------- through the engine alone


def settings(**changes: Any) -> dict[str, Any]:
    """The sandbox's settings, except for where the work folder lies."""
    made = container_settings(SPEC, 2.0)
    made["tmpfs"] = {path: options for path, options in made["tmpfs"].items() if path != WORK}
    return {**made, "name": f"fork-ways-{uuid.uuid4().hex[:8]}", **changes}


def started(client: DockerClient, image: str, **changes: Any) -> Container:
    container = client.containers.create(image, list(GUEST_ARGV), **settings(**changes))
    container.start()
    return container


def fill(container: Container, tree: TreeSize) -> None:
    uid, gid = inside_ids()
    done = container.exec_run(["python3", "-c", tree.script], user=f"{uid}:{gid}")
    if done.exit_code:
        raise SystemExit(f"the tree can't be made: {done.output.decode(errors='replace')}")


def check(container: Container, tree: TreeSize) -> None:
    found = container.exec_run(["sh", "-c", f"find {WORK} -type f | wc -l; echo x >{WORK}/d0/new"])
    if int(found.output) != tree.files:
        raise SystemExit(f"the fork has {found.output!r} files, not {tree.files}")


def commit(client: DockerClient, image: str, tree: TreeSize, repeat: int) -> Times:
    times = Times()
    writable = {"read_only": False, "user": "0:0", "cap_drop": []}  # the image's work folder is root's
    origin = started(client, image, **writable)
    try:
        fill(origin, tree)
        for _ in range(repeat):
            with timed(times.keep):
                kept = origin.commit()
            try:
                with timed(times.fork):
                    fork = started(client, kept.id, **writable)
                check(fork, tree)
                fork.remove(force=True)
            finally:
                client.images.remove(kept.id, force=True)
    finally:
        origin.remove(force=True)
    return times


def volume(client: DockerClient, kind: str, options: str) -> Any:
    driver = {"type": kind, "device": kind, "o": options}
    return client.volumes.create(f"fork-ways-{uuid.uuid4().hex[:8]}", driver_opts=driver)


def overlay_volume(client: DockerClient, image: str, tree: TreeSize, repeat: int) -> Times:
    times, uid_gid = (
        Times(),
        ",".join(f"{name}={value}" for name, value in zip(("uid", "gid"), inside_ids(), strict=True)),
    )
    origin_volume = volume(client, "tmpfs", f"size={SPEC.limits.workdir_bytes},{uid_gid}")
    volumes, containers = [origin_volume], []
    try:
        origin = started(client, image, volumes={origin_volume.name: {"bind": WORK}})
        containers.append(origin)
        holder = started(client, image, volumes={origin_volume.name: {"bind": WORK}})  # else the memory goes
        containers.append(holder)
        fill(origin, tree)
        for _ in range(repeat):
            tops = [_overlay(client, origin_volume, volumes) for _ in range(2)]
            with timed(times.keep):
                origin.remove(force=True)
                origin = started(client, image, volumes={tops[0].name: {"bind": WORK}})
                containers.append(origin)
            with timed(times.fork):
                fork = started(client, image, volumes={tops[1].name: {"bind": WORK}})
                containers.append(fork)
            check(fork, tree)
    finally:
        for container in containers:
            _quietly(partial(container.remove, force=True))
        for one in reversed(volumes):
            _quietly(partial(one.remove, force=True))
    return times


def _overlay(client: DockerClient, lower: Any, volumes: list[Any]) -> Any:
    disk = client.volumes.create(f"fork-ways-{uuid.uuid4().hex[:8]}")
    place = Path(disk.attrs["Mountpoint"])
    for name in ("upper", "work"):
        (place / name).mkdir()
        os.chown(place / name, *inside_ids())
    options = f"lowerdir={lower.attrs['Mountpoint']},upperdir={place}/upper,workdir={place}/work"
    volumes += [disk, made := volume(client, "overlay", options)]
    return made


def _quietly(remove: Callable[[], object]) -> None:
    from docker.errors import APIError

    try:
        remove()
    except APIError as error:
        if error.status_code != 404:
            print(f"left behind: {error}", file=sys.stderr)


# ---------------------------------------------------------------- through our sandboxes


async def through_the_guest(
    open_one: Callable[[SandboxSpec], Awaitable[GuestSandbox]], tree: TreeSize, repeat: int
) -> Times:
    times = Times()
    async with await open_one(SPEC) as origin:
        await origin.run(["python3", "-c", tree.script], timeout=600)
        for _ in range(repeat):
            await origin.run("echo x >d0/changed")
            with timed(times.keep):
                name = await origin.snapshot()
            with timed(times.fork):
                fork = await origin.fork(name)
            async with fork:
                found = await fork.run("find . -type f | wc -l; echo x >d0/new")
                assert int(found.output) == tree.files + 1, found.output
            await origin.drop(name)
    return times


def ours(kind: str, tree: TreeSize, repeat: int) -> Times:
    from sandbox.bubblewrap import open_bubblewrap
    from sandbox.docker import open_docker

    return asyncio.run(through_the_guest(open_docker if kind == "copy" else open_bubblewrap, tree, repeat))


def measure(repeat: int) -> list[dict[str, Any]]:
    client = connect()
    image = find_image(client, BASE_IMAGE)
    rows = []
    for tree in TREES:
        for name, way in {
            "commit": lambda t, n: commit(client, image, t, n),
            "overlay volume": lambda t, n: overlay_volume(client, image, t, n),
            "copy": lambda t, n: ours("copy", t, n),
            "layers (bubblewrap)": lambda t, n: ours("layers", t, n),
        }.items():
            times = way(tree, repeat)
            rows.append({"tree": tree.name, "way": name, "keep": times.keep, "fork": times.fork})
            print(row(rows[-1]), flush=True)
    client.close()
    return rows


def row(one: dict[str, Any]) -> str:
    def shown(seconds: list[float]) -> str:
        return " / ".join(f"{1000 * value:.0f}" for value in (min(seconds), statistics.median(seconds), max(seconds)))

    return f"| {one['tree']} | {one['way']} | {shown(one['keep'])} | {shown(one['fork'])} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    print("Milliseconds, min / median / max.\n\n| tree | way | keep | fork |\n|---|---|---|---|", flush=True)
    rows = measure(options.repeat)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
