"""Opens the sandboxes of one run: kind and image are chosen once, and every sandbox of the run is the same.

Left out: what a sandbox is (`sandbox`), and what is put into it (`agent.worktree`).
"""

from __future__ import annotations

import asyncio
import io
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from agent.config import RepositoryConfig
from agent.git import git
from agent.network import Access
from agent.runs import RunFolder
from sandbox.base import Sandbox
from sandbox.scratch import remove_folder, scratch

if TYPE_CHECKING:
    from sandbox.leftovers import Sweeper

Progress = Callable[[str], None]
_sweepers: list[Sweeper] = []  # of this process


@dataclass(frozen=True, slots=True)
class Machine:
    """A kind of sandbox with an image that is ready."""

    kind: str
    image: str
    workdir: str
    run: RunFolder
    access: Access = field(default_factory=Access)
    tell: Progress = lambda _: None

    async def open(self, purpose: str = "work") -> Sandbox:
        """A fresh sandbox with an empty work folder. Raises SandboxError.

        Without isolation the work folder is a real one: it lies in the run's folder under the purpose's name, so
        that a resumed run finds the paths that the model has seen.
        """
        from sandbox import admission
        from sandbox.choose import open_sandbox
        from sandbox.policy import SandboxSpec

        plain = SandboxSpec(image=self.image or None, workdir=self.workdir, labels={"run": self.run.id})
        spec = self.access.applied(plain)
        if self.kind == "none":
            folder = self.run.path / "work" / purpose
            remove_folder(folder)
            folder.mkdir(parents=True)
            spec = replace(spec, folder=str(folder))
        with admission.told(lambda waiting: self.tell(str(waiting))):
            sandbox = await open_sandbox(self.kind, spec)
        if self.kind != "none":
            await _entered(sandbox)
        return sandbox

    def clear(self) -> None:
        """Remove the folders that were worked in."""
        remove_folder(self.run.path / "work")


async def _entered(sandbox: Sandbox) -> None:
    from sandbox.images import enter

    try:
        await enter(sandbox)
    except BaseException:  # whatever it was: a sandbox that nobody gets must not stay
        await sandbox.close()
        raise


def clear_away() -> None:
    """Remove what killed runs left on this machine, beside this one; once per process."""
    from sandbox.leftovers import Sweeper

    if not _sweepers:
        _sweepers.append(Sweeper())


async def cleared(seconds: float) -> None:
    """Give a clear-away that is under way so many seconds to end."""
    for sweeper in _sweepers:
        await asyncio.to_thread(sweeper.wait, seconds)


async def prepare(
    kind: str,
    image: str | None,
    config: RepositoryConfig,
    run: RunFolder,
    progress: Progress,
    *,
    may_build: bool,
    workdir: str | None = None,
) -> Machine:
    """Choose the sandbox and make its image ready, building what is missing. Raises SandboxError.

    `may_build`: whether what the repository asks for may be built, which runs its code with network. `workdir` goes
    before the repository's and the image's own.
    """
    from sandbox.choose import choose
    from sandbox.images import ImageConfig, environment_for

    clear_away()
    chosen = await choose(kind)
    said = config.sandbox
    wanted = ImageConfig(said.image, said.dockerfile, said.setup, tuple(said.packages))
    with scratch("context") as folder:
        if image is None and chosen != "none":
            await unpack_base(run.repository, folder)
        made = await environment_for(
            chosen,
            context=folder,
            image=image,
            config=wanted,
            workdir=workdir or (said.workdir if "workdir" in said.model_fields_set else None),
            may_build=may_build,
            progress=progress,
        )
    return Machine(chosen, made.image, made.workdir, run)


async def unpack_base(bare: Path, folder: Path) -> None:
    """The base commit's files for an image build, all of them, unpacked as data.

    Links lead where the commit says, outside too, since many repositories hold such; nothing is written through one,
    and whoever reads these files must not follow them.
    """
    attributes = bare / "info" / "attributes"  # goes before the commit's own: what a release leaves out is built from
    attributes.parent.mkdir(exist_ok=True)
    attributes.write_text("* -export-ignore -export-subst\n", encoding="ascii")
    archive = await git("archive", "--format=tar", "refs/heads/main", at=bare)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(folder, filter=_as_data)  # noqa: S202  (what is written is looked at, member by member)


def _as_data(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo | None:
    """Both refuse a member that would be written outside of the folder, through a link as well."""
    return (tarfile.tar_filter if member.issym() else tarfile.data_filter)(member, folder)
