"""A set-up as an image of a Docker engine: a Dockerfile is written and built as any other."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from sandbox.images.detect.base import Setup, Step
from sandbox.images.detect.tree import Tree
from sandbox.images.dockerfile import build_text
from sandbox.images.progress import Report
from sandbox.images.setup_context import FINISH, environment, setup_context

if TYPE_CHECKING:
    from docker import DockerClient


def setup_image(
    client: DockerClient,
    base: str,
    setup: Setup,
    tree: Tree | None,
    workdir: str,
    *,
    report: Report,
    whole: bool = False,
    test: str = "",
) -> str:
    """Apply a set-up to the image `base`; returns the new image's tag. Raises ImageProblem."""
    with setup_context(setup, tree, workdir, whole=whole, test=test) as context:
        return build_text(client, _dockerfile(base, setup, workdir), context, "the environment", report)


def _dockerfile(base: str, setup: Setup, workdir: str) -> str:
    lines = [f"FROM {base}", "USER root"]
    lines += [f"ENV {name}={_quoted(value)}" for name, value in environment(setup, workdir).items()]
    lines += [f"COPY . {workdir}", f"WORKDIR {workdir}"]
    lines += [f"RUN {json.dumps(['/bin/sh', '-ec', _named(step)])}" for step in (*setup.steps, FINISH)]
    return "\n".join(lines) + "\n"


def _named(step: Step) -> str:
    """The command, with its name where an engine shows the step."""
    return f"# {step.name}\n{step.command}"


def _quoted(value: str) -> str:
    return '"' + re.sub(r'(["\\$])', r"\\\1", value) + '"'


def exists(client: DockerClient, tag: str, path: str) -> bool:
    """Whether an image holds a path. Starts nothing."""
    from docker.errors import NotFound

    from sandbox.docker_engine import LABEL, OWNER_LABEL
    from sandbox.owner import owner

    container = client.containers.create(tag, ["true"], labels={LABEL: "probe", OWNER_LABEL: owner()})
    try:
        stream, _ = container.get_archive(path)
        stream.close()
        return True
    except NotFound:
        return False
    finally:
        container.remove(force=True, v=True)


def folder_exists(root: Path, path: str) -> bool:
    """The same for a root folder; a link at the end counts, wherever it leads."""
    return os.path.lexists(root / path.lstrip("/"))
