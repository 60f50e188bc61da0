"""The work tree inside a sandbox: filled from the run's repository, kept as git tree objects as it changes.

Git runs inside the sandbox with a repository and an index of our own beside the work folder, so that neither
what the model does to `.git` nor the user's settings change what is kept. Objects come out as a pack and go into
the run's bare repository. Cost: one stat per file after each call that may have changed something; git runs only
when a stat differs.

Left out: ignored files. They are not part of a patch, and a restored work tree doesn't have them.
"""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path

from agent import checkout
from agent.checkout import Base
from agent.git import GitError
from sandbox.base import FileProblem, Sandbox, SandboxError
from sandbox.guest_python import OURS

MAX_PACK = 256 * 1024 * 1024  # bytes of changed content that one checkpoint may hold
_GIT_TIMEOUT = 600.0
_OUR_GIT = f'PATH="$PATH:{OURS}"'  # for an image that has none; the model's own commands don't get it
_SHA256_DIGITS = 64
_NO_CONFIG = "GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null"
# For repositories that tests make, and those that an image brings with another owner.
_IDENTITY = """
to=$HOME/.gitconfig
[ -n "$HOME" ] && [ ! -e "$to" ] && [ -w "$HOME" ] || exit 0
printf '%s\\n' '[user]' 'name = Patchwright' 'email = patchwright@localhost' '[safe]' 'directory = *' >"$to"
"""


class WorktreeProblem(SandboxError):
    """The work tree can't be set up, kept or restored."""


def _refuse_too_much(size: int) -> None:
    if size > MAX_PACK:
        raise WorktreeProblem(
            f"the change holds {size >> 20} MiB, more than the {MAX_PACK >> 20} MiB that are kept: "
            "remove large files from the work tree or ignore them"
        )


class Worktree:
    """One sandbox's work folder and what was last seen of it."""

    def __init__(self, sandbox: Sandbox, bare: Path, base: Base) -> None:
        self._sandbox = sandbox
        self._bare = bare
        self._base = base
        self._fingerprint = ""
        self.tree = base.tree

    @property
    def _git(self) -> str:
        state = self._sandbox.state_dir
        settings = " ".join(
            f"-c {setting}"
            for setting in (
                "core.autocrlf=false", "core.fsmonitor=false", "core.hooksPath=/dev/null",
                "core.excludesFile=/dev/null", "gc.auto=0", "safe.directory='*'", "core.fileMode=true",
                "core.untrackedCache=false", "advice.addEmbeddedRepo=false",
            )
        )  # fmt: skip
        return (
            f"{_NO_CONFIG} GIT_DIR={shlex.quote(state)}/git "
            f"GIT_INDEX_FILE={shlex.quote(state)}/index GIT_WORK_TREE={shlex.quote(self._sandbox.workdir)} "
            f"git {settings}"
        )

    async def _run(self, script: str, what: str, *, max_output: int = 64 * 1024) -> str:
        result = await self._sandbox.run(
            f"{_OUR_GIT}\n{script}", cwd=self._sandbox.workdir, timeout=_GIT_TIMEOUT, max_output=max_output
        )
        text = result.output.decode("utf-8", "replace").strip()
        if result.exit_code or result.end != "exited":
            raise WorktreeProblem(f"{what} failed in the sandbox ({result.end}, {result.exit_code}): {text[-800:]}")
        return text

    async def fill(self) -> None:
        """Put the base commit's checkout into the empty work folder."""
        await self._sandbox.unpack(await checkout.git_folder_tar(self._bare))
        await self._run(
            "command -v git >/dev/null || { echo 'the image has no git, and ours is not there: add it'; exit 127; }\n"
            f"{_NO_CONFIG} git -c core.hooksPath=/dev/null checkout --quiet --force main --",
            "the checkout",
        )
        await self._set_up()
        self._fingerprint = await self._sandbox.fingerprint()
        self.tree = self._base.tree

    async def _set_up(self) -> None:
        """Our repository in the state folder, and git's identity: what a new sandbox has beside its work folder."""
        state = shlex.quote(self._sandbox.state_dir)
        work = shlex.quote(self._sandbox.workdir)
        names = "--object-format=sha256" if len(self._base.tree) == _SHA256_DIGITS else ""
        await self._run(
            f"{_NO_CONFIG} git init --quiet --bare --template= {names} {state}/git || exit\n"
            f"mkdir -p {state}/git/objects/info && echo {work}/.git/objects > {state}/git/objects/info/alternates\n"
            f"cp .git/shallow {state}/git/shallow 2>/dev/null\n"
            f"{self._git} read-tree {self._base.tree} && {self._git} update-index -q --refresh; true",
            "setting up our repository",
        )
        if self._sandbox.kind != "none":  # there it would be the user's own home
            await self._run(_IDENTITY, "setting git's identity")

    async def fork(self, sandbox: Sandbox) -> Worktree:
        """This work tree in a fork of its sandbox, made since the last checkpoint: the files are there already.

        The fork's state folder is empty, so our repository is set up anew. Raises WorktreeProblem.
        """
        other = Worktree(sandbox, self._bare, self._base)
        await other._set_up()
        exclude = "git/info/exclude"  # what the image keeps out of patches
        with contextlib.suppress(FileProblem):
            known = await self._sandbox.read(f"{self._sandbox.state_dir}/{exclude}")
            await sandbox.write(f"{sandbox.state_dir}/{exclude}", known)
        if self.tree != self._base.tree:
            await other._take(self.tree)
            await other._run(
                f"{other._git} read-tree {self.tree} && {other._git} update-index -q --refresh; true", "reading a tree"
            )
        other._fingerprint, other.tree = await sandbox.fingerprint(), self.tree
        return other

    async def apply(self, patch: str) -> bool:
        """Apply a patch as anybody would who gets it; False when it doesn't fit. Call after `fill`.

        The model's own .git is not there: this checkout is fresh, and `git apply` reads no configuration of it.
        """
        file = f"{self._sandbox.state_dir}/patch.diff"
        await self._sandbox.write(file, patch.encode("utf-8", "surrogateescape"))
        script = f"{_OUR_GIT}\ngit apply --whitespace=nowarn {shlex.quote(file)}"
        return (await self._sandbox.run(script, cwd=self._sandbox.workdir)).exit_code == 0

    async def checkpoint(self) -> bool:
        """Keep the work tree as a tree object in the run's repository. True when `tree` changed.

        Raises WorktreeProblem, e.g. when more changed than a checkpoint may hold.
        """
        fingerprint = await self._sandbox.fingerprint()
        if fingerprint == self._fingerprint:
            return False
        try:
            tree = await self._keep()
        except WorktreeProblem:
            await self._heal()
            tree = await self._keep()
        self._fingerprint = fingerprint
        changed, self.tree = tree != self.tree, tree
        return changed

    async def _keep(self) -> str:
        tree = (await self._run(f"{self._git} add -A && {self._git} write-tree", "keeping the work tree")).split()[-1]
        if tree != self.tree:
            await self._export(tree)
        return tree

    async def _heal(self) -> None:
        """Our repository borrows objects from the checkout's `.git`. Bring back what went when that was damaged."""
        pack = f"{self._sandbox.state_dir}/heal.pack"
        await self._sandbox.write(pack, await checkout.export_pack(self._bare, self.tree))
        await self._run(
            f"cd {shlex.quote(self._sandbox.state_dir)}/git && rm -f objects/info/alternates && "
            f"{self._git} unpack-objects -q < {shlex.quote(pack)}; rm -f {shlex.quote(pack)}",
            "bringing back git objects",
        )

    async def _export(self, tree: str) -> None:
        pack = f"{self._sandbox.state_dir}/pack"
        size = await self._run(
            f"printf '%s\\n' {tree} ^{self.tree} | {self._git} pack-objects --revs --stdout -q "
            f"> {shlex.quote(pack)} && wc -c < {shlex.quote(pack)}",
            "packing the change",
        )
        _refuse_too_much(int(size))
        try:
            await checkout.import_pack(self._bare, await self._sandbox.read(pack, limit=MAX_PACK))
            changed = await checkout.changed_bytes(self._bare, self._base.tree, tree)
        except GitError as error:
            raise WorktreeProblem(f"what came out of the sandbox is no sound git data: {error.stderr}") from None
        _refuse_too_much(changed)  # a pack may unpack to a thousand times its size, and the host makes a patch of that

    async def restore(self, tree: str) -> None:
        """Make the work tree as in a kept tree object. Call after `fill`."""
        if tree != self._base.tree:
            await self._take(tree)
            await self._run(f"{self._git} read-tree --reset -u {tree}", "restoring the work tree")
        self._fingerprint = await self._sandbox.fingerprint()
        self.tree = tree

    async def _take(self, tree: str) -> None:
        """Bring a kept tree's objects into our repository."""
        pack = f"{self._sandbox.state_dir}/restore.pack"
        await self._sandbox.write(pack, await checkout.export_pack(self._bare, tree, self._base.tree))
        await self._run(f"{self._git} unpack-objects -q < {shlex.quote(pack)}", "bringing git objects")

    async def move(self, sandbox: Sandbox, tree: str) -> None:
        """Go on in another sandbox, with an empty work folder, from a kept tree."""
        self._sandbox = sandbox
        await self.fill()
        if tree != self._base.tree:
            await self.restore(tree)

    async def switch(self, tree: str) -> None:
        """Make the work tree as in a kept tree, and remove every file that is in none, ignored ones too."""
        await self._run(
            f"{self._git} clean -ffdxq && {self._git} read-tree --reset -u {self._base.tree}", "cleaning up"
        )
        await self.restore(tree)

    async def diff(self) -> str:
        """The patch as it would be extracted now."""
        await self.checkpoint()
        return await checkout.diff(self._bare, self._base.tree, self.tree)
