"""What an instance's sandboxes are opened with, and why they can't be.

Left out: how it is come by (`environment`), and what runs in it (`evals.judging`, `agent`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

Tell = Callable[[str], None]
"""Takes a line of progress; may be called from another thread."""


class Source(StrEnum):
    """Who made the image."""

    PUBLISHED = "published"
    RECIPE = "recipe"
    BUNDLED = "bundled"
    TASK = "task"  # a Terminal-Bench task's own Dockerfile


@dataclass(frozen=True, slots=True)
class InstanceEnvironment:
    """An image that is ready, and the code that goes into it.

    `kind`, `image` and `workdir` are as `sandbox.choose.open_sandbox` takes them; whoever opens a sandbox calls
    `sandbox.images.enter` on it before the checkout. `repository` is a path or URL as `agent.sources.repositories`
    resolves it, `base_commit` a commit in there: the row's own, or that of code that stands for it. `env` and `setup`
    (a shell line, mostly empty) are for test commands only. `test_command` comes without the files to test; empty
    leaves it to the judge. `facts` are JSON: `source`, `digest`, `python`, `packages` (a list), `packages_sha256` and
    what else is known.
    """

    kind: str
    image: str
    workdir: str
    repository: str
    base_commit: str
    env: Mapping[str, str] = field(default_factory=dict)
    setup: str = ""
    test_command: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


class EnvironmentUnavailable(Exception):
    """No environment, which is never the model's doing. The message: what, why, what to do.

    `again`: whether the same call may succeed later, as after a rate limit or when there is room on the disk.
    """

    def __init__(self, message: str, *, again: bool = False) -> None:
        super().__init__(message)
        self.again = again
