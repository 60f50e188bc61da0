"""A task's docker-compose.yaml: which of its containers the agent works in, and whether there are others.

Left out: everything that compose files can say besides image and build; a sandbox is one container with our own limits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from evals.instance import RowBroken

COMPOSE: Final = "docker-compose.yaml"


@dataclass(frozen=True, slots=True)
class Client:
    """The container that the agent works in. Paths relative to the task's folder; "" for none."""

    image: str = ""
    dockerfile: str = ""
    context: str = "."
    workdir: str = ""


def check_compose(path: Path) -> None:
    """RowBroken for a file that asks for more than one container."""
    if not path.is_file():
        return
    from evals.terminal.yaml_files import read_yaml

    others = sorted(set(_services(read_yaml(path))) - {"main"})
    if others:
        raise RowBroken(f"it runs in several containers ({', '.join(others[:3])} beside main), and a sandbox is one")


def client_of(folder: Path) -> Client:
    """Where the agent of an older task works: its compose file's container, else the Dockerfile beside it."""
    path = folder / COMPOSE
    plain = Client(dockerfile="Dockerfile" if (folder / "Dockerfile").is_file() else "")
    if not path.is_file():
        return plain
    from evals.terminal.yaml_files import read_yaml

    services = _services(read_yaml(path))
    if len(services) != 1:
        named = ", ".join(sorted(services)[:4]) or "none"
        raise RowBroken(f"it runs in several containers, and a sandbox is one: {COMPOSE} names {named}")
    (service,) = services.values()
    image = str(service.get("image") or "")
    build = service.get("build")
    workdir = str(service.get("working_dir") or "")
    if build is None:
        return Client("" if "${" in image else image, plain.dockerfile, workdir=workdir)
    said = build if isinstance(build, Mapping) else {"context": str(build)}
    context = _inside(str(said.get("context") or "."))
    dockerfile = _inside(str(PurePosixPath(context, str(said.get("dockerfile") or "Dockerfile"))))
    if not (folder / dockerfile).is_file():
        raise RowBroken(f"its {COMPOSE} builds {dockerfile}, which isn't there")
    return Client("", dockerfile, context, workdir)


def _services(said: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    services = said.get("services")
    if not isinstance(services, Mapping):
        raise RowBroken(f"its {COMPOSE} has no services")
    return {str(name): value if isinstance(value, Mapping) else {} for name, value in services.items()}


def _inside(path: str) -> str:
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts or "$" in path:
        raise RowBroken(f"its {COMPOSE} builds from {path!r}, which leaves the task's folder")
    return parts.as_posix()
