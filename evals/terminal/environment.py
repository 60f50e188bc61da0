"""From a Terminal-Bench task to an environment: its published image, else its Dockerfile, made ready for our sandboxes.

The image is the task's own with a thin layer on top: its work folder is kept for new sandboxes, and /tests and /logs
lead to where a sandbox can write. Left out: running anything in it (`testing`), building images (`sandbox.images`).
"""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from evals.environments.base import EnvironmentUnavailable, InstanceEnvironment, Source, Tell
from evals.environments.facts import facts_of, published_digest
from evals.environments.options import Options
from evals.environments.pull import Trouble
from evals.instance import Instance, RowBroken
from evals.terminal.dockerfile import NotPlain, read_plain
from evals.terminal.start import START, Start, StartFailed, image_lines, look_at, repository_of, unpack
from evals.terminal.tasks import Layout, TerminalTask, content_sha256, is_solution, task_of
from sandbox.base import ImageProblem
from sandbox.images.resolve import as_lines
from sandbox.policy import SandboxSpec
from sandbox.scratch import scratch

if TYPE_CHECKING:
    from docker import DockerClient

DEFAULT_WORKDIR: Final = "/app"
"""Where an image says nothing, and where nearly all tasks work."""
_CONTEXT: Final = "/opt/patchwright-context"
_ENGINES: Final = ("docker", "podman")


@dataclass(frozen=True, slots=True)
class _Made:
    """An image that is ready, and the files that its work folder begins with (in a folder of the caller's)."""

    image: str
    workdir: str
    start: Start
    source: Source
    named: str


async def environment_of_task(instance: Instance, kind: str, options: Options, tell: Tell) -> InstanceEnvironment:
    """The environment of a task, made where it isn't there. EnvironmentUnavailable, ImageProblem, SandboxError."""
    task = checked_task(instance)
    if kind not in (*_ENGINES, "bubblewrap"):
        raise EnvironmentUnavailable(
            f"{instance.instance_id} is a Terminal-Bench task, which names places all over a machine of its own, and "
            f"`{kind}` has none. Use docker, podman or bubblewrap"
        )
    with scratch("terminal") as folder:
        try:
            async with options.builds:
                made = await _made(instance, task, kind, folder, options, tell)
            repository, commit = await repository_of(made.start, f"{instance.instance_id}-{task.sha256[:12]}")
        except StartFailed as problem:
            raise EnvironmentUnavailable(f"{instance.instance_id}: {problem}") from problem
    facts: dict[str, Any] = {
        "source": made.source.value,
        "image": made.named,
        "task_sha256": task.sha256,
        **await facts_of(kind, made.image, made.workdir),
        "code": "the image's work folder",
    }
    if made.source is Source.PUBLISHED:
        facts["image_digest"] = await asyncio.to_thread(published_digest, kind, made.named)
    return InstanceEnvironment(kind, made.image, made.workdir, str(repository), commit, dict(task.env), facts=facts)


def checked_task(instance: Instance) -> TerminalTask:
    """The instance's task, whose folder is here and is what the row was made from. EnvironmentUnavailable."""
    try:
        task = task_of(instance)
        same = task.folder.is_dir() and content_sha256(task.folder) == task.sha256
    except (RowBroken, OSError) as problem:
        raise EnvironmentUnavailable(f"{instance.instance_id}: {problem}") from problem
    if not task.folder.is_dir():
        raise EnvironmentUnavailable(
            f"the folder of {instance.instance_id} isn't on this machine: put it at {task.folder}"
        )
    if not same:
        raise EnvironmentUnavailable(
            f"the folder {task.folder} isn't what it was when the run was begun: begin another run, or put it back"
        )
    return task


async def _made(instance: Instance, task: TerminalTask, kind: str, folder: Path, options: Options, tell: Tell) -> _Made:
    if kind == "bubblewrap":
        return await asyncio.to_thread(_as_folder, instance, task, tell)
    named = ""
    if instance.image:
        named = await _published(instance, task, kind, options, tell)
    source = Source.PUBLISHED if named else Source.TASK
    return await asyncio.to_thread(_in_engine, task, kind, folder, named, source, tell)


# -- in an engine


async def _published(instance: Instance, task: TerminalTask, kind: str, options: Options, tell: Tell) -> str:
    """The image's name once it is in the engine; "" where its Dockerfile has to do. EnvironmentUnavailable."""
    from evals.environments.environment import published_name

    name, failed = await published_name(instance, kind, options, tell)
    if name:
        return name
    assert failed is not None  # an image is named
    passes = failed.trouble in (Trouble.RATE, Trouble.DISK)
    if passes or not task.dockerfile:
        again = passes or failed.trouble in (Trouble.UNREACHABLE, Trouble.OTHER)
        has = f"its {task.dockerfile} is there, and isn't used for that" if task.dockerfile else "it has no Dockerfile"
        raise EnvironmentUnavailable(
            f"there is no environment for {instance.instance_id}: {failed.name} can't be pulled ({failed.trouble}): "
            f"{failed.said}; {has}. `docker load` the image, or name a mirror (--image-mirror)",
            again=again,
        )
    tell(f"{instance.instance_id}: no published image ({failed.trouble}: {failed.said}); building {task.dockerfile}")
    return ""


def _in_engine(task: TerminalTask, kind: str, folder: Path, named: str, source: Source, tell: Tell) -> _Made:
    from sandbox.images.dockerfile import build_text
    from sandbox.images.engine import connect

    report = as_lines(tell)
    client = connect(kind)
    try:
        with build_context(task) as context:
            image = named or _build(client, task, context, tell)
        config = client.images.get(image).attrs.get("Config") or {}
        workdir = workdir_of(task, str(config.get("WorkingDir") or ""))
        start = look_at(_work_folder(client, image, workdir, folder))
        script = ["/bin/sh", "-ec", image_lines(workdir, start.left_out)]
        with tempfile.TemporaryDirectory(dir=folder) as empty:
            text = f"FROM {image}\nUSER root\nRUN {json.dumps(script)}\n"
            ready = build_text(client, text, Path(empty), "the places for the tests", report)
    finally:
        client.close()
    return _Made(ready, workdir, start, source, named or image)


def _build(client: DockerClient, task: TerminalTask, context: Path, tell: Tell) -> str:
    from sandbox.images.dockerfile import build_dockerfile
    from sandbox.images.resolve import have_base

    report = as_lines(tell)
    name = Path(task.dockerfile).relative_to(task.context).as_posix()
    have_base(client, context / name, report)
    return build_dockerfile(client, name, context, report=report)


def _work_folder(client: DockerClient, image: str, workdir: str, folder: Path) -> Path:
    """The work folder's files out of an image; empty where it has none. Nothing is started."""
    from docker.errors import NotFound

    from sandbox.docker_engine import LABEL, OWNER_LABEL
    from sandbox.owner import owner

    files = folder / "files"
    files.mkdir()
    container = client.containers.create(image, ["true"], labels={LABEL: "probe", OWNER_LABEL: owner()})
    try:
        stream, _ = container.get_archive(workdir)
        with tempfile.TemporaryFile(dir=folder) as tar:
            for piece in stream:
                tar.write(piece)
            tar.seek(0)
            return unpack(tar, files)
    except NotFound:
        return files
    finally:
        container.remove(force=True, v=True)


# -- as a folder, for bubblewrap


def _as_folder(instance: Instance, task: TerminalTask, tell: Tell) -> _Made:
    from sandbox.images.base_image import base_tree
    from sandbox.images.detect.base import Setup, Step
    from sandbox.images.detect.tree import Tree
    from sandbox.images.setup_tree import setup_tree

    try:
        if not task.dockerfile:
            raise NotPlain(f"the image {instance.image}")
        plain = read_plain((task.folder / task.dockerfile).read_text("utf-8", "replace"), _CONTEXT)
    except NotPlain as problem:
        raise EnvironmentUnavailable(
            f"{instance.instance_id}: bubblewrap can't make its environment ({problem}); it makes those that start "
            "from patchwright/base and only RUN, COPY, WORKDIR and ENV. Use --sandbox docker or podman"
        ) from None
    workdir = workdir_of(task, plain.workdir)
    report = as_lines(tell)
    with build_context(task) as context:
        # What can't be followed is seen only when it is made, and such tasks are rare among plain ones.
        steps = (*plain.steps, Step("the places for the tests", image_lines(workdir, ())))
        setup = Setup(steps=steps, env=plain.env)
        tree = setup_tree(base_tree(report=report), setup, Tree(context), _CONTEXT, report=report, whole=True)
    start = look_at(tree / START.lstrip("/"))
    if start.left_out:
        raise StartFailed(f"its work folder holds {start.left_out[0]}, which no patch can follow: use docker or podman")
    return _Made(str(tree), workdir, start, Source.TASK, f"{task.dockerfile} over {tree.name}")


# -- both


def workdir_of(task: TerminalTask, said: str) -> str:
    """The task's work folder, else the image's, else the usual one. EnvironmentUnavailable where none can be."""
    found = (task.workdir or said).rstrip("/") or DEFAULT_WORKDIR
    try:
        SandboxSpec(workdir=found)
    except ValueError as problem:
        raise EnvironmentUnavailable(f"{task.folder.name} can't have its work folder here: {problem}") from None
    return found


@contextmanager
def build_context(task: TerminalTask) -> Iterator[Path]:
    """A copy of what the Dockerfile may copy from. Never the solution; tests only where it names them itself."""
    source = task.folder / task.context
    text = ""
    if task.dockerfile:
        text = (task.folder / task.dockerfile).read_text("utf-8", "replace")
    hidden = {"task.yaml", "task.toml", "docker-compose.yaml"}
    hidden |= {name for name in ("tests", "run-tests.sh") if name not in text}

    def left_out(folder: str, names: list[str]) -> set[str]:
        if task.layout is not Layout.OLDER or Path(folder) != source:
            return set()
        return {name for name in names if is_solution(name) or name in hidden}

    with scratch("context") as folder:
        copy = folder / "context"
        try:
            if source.is_dir():
                shutil.copytree(source, copy, symlinks=True, ignore=left_out)
            else:
                copy.mkdir()
        except (shutil.Error, OSError) as error:
            raise ImageProblem(f"the files of {task.folder.name} can't be copied for the build: {error}.") from error
        yield copy
