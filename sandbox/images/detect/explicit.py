"""What a repository says outright about its machine: devcontainer.json and Dockerfile. Read as data, nothing is built.

Left out: `.patchwright.toml`, which the caller has read already; Compose files; a devcontainer's features, which are
programs from a registry and are reported.
"""

from __future__ import annotations

import posixpath
import shlex
from typing import Any

from sandbox.images.detect.base import Detection, Evidence, Setup, Source
from sandbox.images.detect.tree import Tree, table

_DEVCONTAINERS = (".devcontainer/devcontainer.json", ".devcontainer.json")
_DOCKERFILES = ("Dockerfile", "docker/Dockerfile", ".docker/Dockerfile")
_IGNORED = ("dockerComposeFile", "features", "runArgs", "mounts", "initializeCommand", "onCreateCommand",
            "updateContentCommand", "postStartCommand", "postAttachCommand")  # fmt: skip


def devcontainer(tree: Tree) -> Detection | None:
    """A devcontainer that names an image or a Dockerfile; else None."""
    file = next(iter((*tree.existing(_DEVCONTAINERS), *tree.match(".devcontainer/*/devcontainer.json"))), None)
    if file is None:
        return None
    said = tree.json(file)
    build = table(said, "build")
    folder = posixpath.dirname(file)
    dockerfile = build.get("dockerfile") or said.get("dockerFile")
    image = said.get("image")
    if not (dockerfile or image):
        return None
    command = _command(said.get("postCreateCommand"))
    chosen = f"the Dockerfile {dockerfile}" if dockerfile else f"the image {image}"
    evidence = [Evidence(file, "a development container", chosen)]
    if command:
        evidence.append(Evidence(file, "postCreateCommand", f"run when the image is made: {command}"))
    notes = [f"{file}: `{name}` is not supported and left out" for name in _IGNORED if said.get(name)]
    if build.get("args"):
        notes.append(f"{file}: `build.args` is not supported and left out")
    variables = {**_strings(said.get("containerEnv")), **_strings(said.get("remoteEnv"))}
    plain = tuple(sorted((name, value) for name, value in variables.items() if "${" not in value))
    return Detection(
        Source.DEVCONTAINER,
        tuple(evidence),
        image=None if dockerfile else str(image),
        dockerfile=_joined(folder, str(dockerfile)) if dockerfile else None,
        context=_joined(folder, str(build.get("context") or said.get("context") or ".")),
        command=command or None,
        setup=Setup(env=plain),
        notes=tuple(notes),
    )


def dockerfile(tree: Tree) -> Detection | None:
    """A Dockerfile at one of the usual places."""
    file = tree.first(*_DOCKERFILES)
    if file is None:
        return None
    seen = Evidence(file, "a Dockerfile", "its image, if it holds git")
    return Detection(Source.DOCKERFILE, (seen,), dockerfile=file)


def _joined(folder: str, name: str) -> str:
    return posixpath.normpath(posixpath.join(folder, name))


def _command(said: Any) -> str:
    """A devcontainer's command: a line for the shell, an argument list, or several of them by name."""
    if isinstance(said, str):
        return said
    if isinstance(said, list):
        return shlex.join(str(word) for word in said)
    if isinstance(said, dict):
        return " && ".join(f"({_command(part)})" for part in said.values() if part)
    return ""


def _strings(said: Any) -> dict[str, str]:
    return (
        {str(name): value for name, value in said.items() if isinstance(value, str)} if isinstance(said, dict) else {}
    )
