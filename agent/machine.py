"""Opens the sandboxes of one run: kind and image are chosen once, and every sandbox of the run is the same.

Left out: what a sandbox is (`sandbox`), and what is put into it (`agent.worktree`).
"""

from __future__ import annotations

import io
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent.config import RepositoryConfig
from agent.git import git
from sandbox.base import Sandbox

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Machine:
    """A kind of sandbox with an image that is ready."""

    kind: str
    image: str
    run: str

    async def open(self) -> Sandbox:
        """A fresh sandbox with an empty work folder. Raises SandboxError."""
        from sandbox.choose import open_sandbox
        from sandbox.policy import SandboxSpec

        return await open_sandbox(self.kind, SandboxSpec(image=self.image, labels={"run": self.run}))


async def prepare(
    kind: str, image: str | None, config: RepositoryConfig, bare: Path, run: str, progress: Progress
) -> Machine:
    """Choose the sandbox and make its image ready, building what is missing. Raises SandboxError."""
    from sandbox.choose import choose
    from sandbox.images import ImageConfig, resolve_image

    chosen = await choose(kind)
    wanted = ImageConfig(**config.sandbox.model_dump())
    with tempfile.TemporaryDirectory(prefix="patchwright-context-") as folder:
        if image is None and (wanted.dockerfile or wanted.setup):
            await _unpack_base(bare, Path(folder))
        name = await resolve_image(chosen, image=image, config=wanted, context=Path(folder), progress=progress)
    return Machine(chosen, name, run)


async def _unpack_base(bare: Path, folder: Path) -> None:
    """The base commit's files for an image build: unpacked as data, no link or path that leaves the folder."""
    archive = await git("archive", "--format=tar", "refs/heads/main", at=bare)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")
