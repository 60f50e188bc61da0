"""What a repository names is never run on the host, and what the model gets is its past and nothing else.

Each program is planted for real, and shown to run under plain git where plain git would run it.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent import checkout, deliver
from agent.ends import InputProblem
from agent.sources import repositories
from agent.worktree import Worktree
from sandbox.local import open_local
from sandbox.policy import SandboxSpec
from tests.agent.repos import CALC, ENV, commit, git, make_repo, write

HOOKS = (
    "post-checkout", "pre-commit", "reference-transaction", "post-index-change", "post-merge", "update", "pre-auto-gc",
    "post-update", "pre-receive", "post-rewrite", "fsmonitor-watchman", "pre-applypatch", "applypatch-msg",
)  # fmt: skip


@dataclass
class Trap:
    """A program that leaves a mark when somebody runs it."""

    folder: Path
    program: Path = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir()
        self.program = self.folder / "evil.sh"
        self.program.write_text(f'#!/bin/sh\necho "$0 $*" >>{self.mark}\ntimeout 1 cat\n')
        self.program.chmod(0o755)

    @property
    def mark(self) -> Path:
        return self.folder / "mark"

    def sprung(self) -> str:
        return self.mark.read_text() if self.mark.exists() else ""


def settings(**values: str) -> Callable[[Path, Trap], None]:
    """A plant: settings of the repository, `_` for `.`, `PROGRAM` for the trap."""

    def plant(repo: Path, trap: Trap) -> None:
        for name, value in values.items():
            key, said = (text.replace("PROGRAM", str(trap.program)) for text in (name.replace("_", "."), value))
            git(repo, "config", key, said)

    return plant


def attributes(driver: str, *variables: str) -> Callable[[Path, Trap], None]:
    def plant(repo: Path, trap: Trap) -> None:
        kind, name = driver.split(".", 1)
        write(repo, {".gitattributes": f"* {kind}={name}\n"})
        commit(repo, "attributes")
        with (repo / ".git/config").open("a") as config:
            lines = [f"{variable} = {trap.program}" for variable in variables]
            config.write(f'[{kind} "{name}"]\n' + "\n".join([*lines, "required = true"]) + "\n")

    return plant


def hooks(repo: Path, trap: Trap) -> None:
    (repo / ".git/hooks").mkdir(exist_ok=True)
    for hook in HOOKS:
        (repo / ".git/hooks" / hook).symlink_to(trap.program)


def hooks_path(repo: Path, trap: Trap) -> None:
    for hook in HOOKS:
        (trap.folder / hook).symlink_to(trap.program)
    git(repo, "config", "core.hooksPath", str(trap.folder))


def included(repo: Path, trap: Trap) -> None:
    write(repo, {"more.config": f'[filter "evil"]\n clean = {trap.program}\n', ".gitattributes": "* filter=evil\n"})
    commit(repo, "include")
    git(repo, "config", "includeIf.gitdir:/.path", "../more.config")


def submodule(repo: Path, trap: Trap) -> None:
    make_repo(repo / "lib", {"a.txt": "1"})
    commit(repo, "a submodule")
    git(repo / "lib", "config", "core.fsmonitor", str(trap.program))


def missing_objects(repo: Path, trap: Trap) -> None:
    """Git would fetch them from a remote that the repository names, by a program that it names."""
    other = shutil.copytree(repo, trap.folder / "other")
    blob = git(repo, "rev-parse", "HEAD:calc/ops.py")
    (repo / ".git/objects" / blob[:2] / blob[2:]).unlink()
    settings(
        core_repositoryformatversion="1", extensions_partialClone="origin", remote_origin_url=f"file://{other}",
        remote_origin_promisor="true", remote_origin_uploadpack="PROGRAM",
    )(repo, trap)  # fmt: skip


PLANTS: dict[str, Callable[[Path, Trap], None]] = {
    "fsmonitor": settings(core_fsmonitor="PROGRAM"),
    "pager": settings(core_pager="PROGRAM", pager_status="PROGRAM", pager_config="PROGRAM"),
    "editor": settings(core_editor="PROGRAM", sequence_editor="PROGRAM"),
    "external diff": settings(diff_external="PROGRAM"),
    "pack hook": settings(uploadpack_packObjectsHook="PROGRAM", gc_recentObjectsHook="PROGRAM"),
    "alternates": settings(core_alternateRefsCommand="PROGRAM"),
    "credentials": settings(credential_helper="!PROGRAM", core_askPass="PROGRAM", core_gitProxy="PROGRAM"),
    "ssh": settings(**{"url_ssh://x/_insteadOf": "file://", "core_sshCommand": "PROGRAM"}),
    "ext": settings(**{"url_ext::PROGRAM _insteadOf": "file://", "protocol_ext_allow": "always"}),
    "aliases": settings(**{f"alias_{name}": "!PROGRAM" for name in ("status", "apply", "config", "rev-parse")}),
    "signatures": settings(gpg_program="PROGRAM", commit_gpgSign="true", log_showSignature="true"),
    "clean": attributes("filter.evil", "clean"),
    "smudge": attributes("filter.evil", "smudge"),
    "process": attributes("filter.evil", "process"),
    "a name with =": attributes("filter.a=b", "clean", "smudge"),
    "textconv": attributes("diff.evil", "textconv", "command"),
    "merge": attributes("merge.evil", "driver"),
    "hooks": hooks,
    "hooks path": hooks_path,
    "include": included,
    "submodule": submodule,
    "missing objects": missing_objects,
}

CONTROL = {  # what springs the trap when plain git does it
    "fsmonitor": ("status",),
    "external diff": ("diff", "HEAD~"),
    "clean": ("status",),
    "process": ("status",),
    "smudge": ("checkout", "HEAD~", "--", "calc"),
    "a name with =": ("status",),
    "textconv": ("diff", "HEAD~"),
    "hooks": ("checkout", "--detach"),
    "hooks path": ("checkout", "--detach"),
    "include": ("status",),
    "submodule": ("status",),
    "ssh": ("fetch", "file:///nowhere"),
    "ext": ("fetch", "file:///nowhere"),
    "missing objects": ("cat-file", "blob", "HEAD:calc/ops.py"),
}


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    folder = make_repo(tmp_path / "repo", CALC)
    write(folder, {"calc/ops.py": "other = 1\n"})
    commit(folder, "other")
    write(folder, {"calc/ops.py": CALC["calc/ops.py"]})
    commit(folder, "and back")
    return folder


def stir(repo: Path) -> None:
    """Git looks into files whose times have changed."""
    for path in (repo / "calc").glob("*.py"):
        os.utime(path, (1, 1))


async def use(repo: Path, folder: Path) -> None:
    """All that a run does with the user's repository."""
    source = await repositories.resolve(str(repo))
    base = await repositories.fetch_base(source, folder / "bare", None, allow_dirty=False)
    other = make_repo(folder / "other", CALC)
    write(other, {"calc/ops.py": "fixed = 1\n", "new.txt": "new\n"})
    git(other, "add", "-A")
    tree = git(other, "write-tree")
    pack = subprocess.run(
        ["git", "-C", str(other), "pack-objects", "--revs", "--stdout", "-q"], input=f"{tree}\n".encode(), env=ENV,
        capture_output=True, check=True,
    ).stdout  # fmt: skip
    await checkout.import_pack(folder / "bare", pack)
    patch = folder / "patch"
    deliver.to_file(await checkout.diff(folder / "bare", base.tree, tree), patch)
    message = await deliver.commit_message(folder / "bare", base, tree, "x", "y", "run")
    await deliver.check_branch(repo, "fix")
    branch = await deliver.to_branch(folder / "bare", base, tree, repo, "fix", message)
    assert git(repo, "rev-parse", "fix^{tree}") == tree
    assert git(repo, "rev-parse", f"{branch}^") == base.commit
    await deliver.to_worktree(repo, patch)


@pytest.mark.parametrize("name", PLANTS)
async def test_no_program_of_the_repository_runs(repo: Path, tmp_path: Path, name: str) -> None:
    trap = Trap(tmp_path / "trap")
    PLANTS[name](repo, trap)
    stir(repo)
    work = tmp_path / "work"
    work.mkdir()
    try:
        await use(repo, work)
    except InputProblem:
        assert name in ("missing objects",)
    assert not trap.sprung(), trap.sprung()


@pytest.mark.parametrize("name", CONTROL)
def test_plain_git_would_have_run_it(repo: Path, tmp_path: Path, name: str) -> None:
    trap = Trap(tmp_path / "trap")
    PLANTS[name](repo, trap)
    stir(repo)
    command = CONTROL[name]
    subprocess.run(["git", "-C", str(repo), *command], env=ENV, capture_output=True, check=False)
    assert trap.sprung()


@pytest.mark.parametrize("name", [name for name in PLANTS if name != "missing objects"])
async def test_no_program_named_in_the_work_tree_runs_when_it_is_kept(repo: Path, tmp_path: Path, name: str) -> None:
    """The model plants it where it works; without isolation, where it would hit the host."""
    base = await checkout.take_base(tmp_path / "bare", str(repo), git(repo, "rev-parse", "HEAD"))
    trap = Trap(tmp_path / "trap")
    sandbox = await open_local(SandboxSpec())
    try:
        worktree = Worktree(sandbox, tmp_path / "bare", base)
        await worktree.fill()
        PLANTS[name](Path(sandbox.workdir), trap)
        before = trap.sprung()  # planting uses plain git, which may spring it
        write(Path(sandbox.workdir), {"calc/ops.py": "changed = 1\n"})
        assert await worktree.checkpoint()
        assert "+changed = 1" in await worktree.diff()
        kept = worktree.tree
        await worktree.switch(base.tree)
        await worktree.restore(kept)
        assert trap.sprung() == before
    finally:
        await sandbox.close()


async def test_files_that_a_repository_puts_elsewhere(repo: Path, tmp_path: Path) -> None:
    git(repo, "config", "core.worktree", str(tmp_path))
    with pytest.raises(InputProblem, match=r"unset core\.worktree"):
        await repositories.resolve(str(repo))


# -- what the model sees


async def unpacked(bare: Path, target: Path) -> Path:
    target.mkdir()
    with tarfile.open(fileobj=io.BytesIO(await checkout.git_folder_tar(bare))) as tar:
        tar.extractall(target, filter="data")
    git(target, "checkout", "--quiet", "--force", "main")
    return target


def objects(folder: Path) -> set[str]:
    listed = git(folder, "cat-file", "--batch-all-objects", "--batch-check=%(objectname)")
    return set(listed.split())


async def test_a_clean_clone(repo: Path, tmp_path: Path) -> None:
    start = git(repo, "rev-parse", "HEAD")
    past = set(git(repo, "rev-list", "--objects", "--no-object-names", start).split())
    git(repo, "tag", "-a", "v1", "-m", "secret tag")
    write(repo, {"later.py": "the answer"})
    commit(repo, "The fix")
    git(repo, "update-ref", "refs/stash", "HEAD")
    git(repo, "notes", "add", "-m", "secret note", start)
    git(repo, "replace", "--graft", start)
    git(repo, "remote", "add", "origin", "https://user:secret@example.invalid/x.git")
    git(repo, "config", "http.https://example.invalid/.extraheader", "Authorization: secret")
    git(repo, "config", "credential.helper", "store --file=secret")
    git(repo, "config", "user.name", "secret name")
    make_repo(tmp_path / "borrowed", {"secret.txt": "borrowed"})
    (repo / ".git/objects/info/alternates").write_text(f"{tmp_path}/borrowed/.git/objects\n")
    git(repo, "repack", "-adq")
    base = await checkout.take_base(tmp_path / "bare", str(repo), start)
    clone = await unpacked(tmp_path / "bare", tmp_path / "clone")
    assert objects(clone) == past
    assert git(clone, "for-each-ref", "--format=%(refname)") == "refs/heads/main"
    assert (
        git(clone, "remote") == git(clone, "tag") == git(clone, "reflog") == git(clone, "status", "--porcelain") == ""
    )
    assert git(clone, "log", "-1", "--format=%H") == base.commit
    files = {path.relative_to(clone).as_posix() for path in clone.rglob("*") if path.is_file()}
    kept = {name for name in files if name.startswith(".git/") and not name.startswith(".git/objects/")}
    assert kept <= {
        ".git/HEAD",
        ".git/config",
        ".git/index",
        ".git/refs/heads/main",
        ".git/shallow",
        ".git/packed-refs",
    }
    assert not {name for name in files if "alternates" in name}
    for needle in ("secret", str(tmp_path)):
        assert subprocess.run(["grep", "-r", needle, str(clone)], capture_output=True).returncode == 1, needle


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "a" * 64 + "\nsize 12345\n"


async def test_what_is_missing_is_named(tmp_path: Path) -> None:
    files = {f"data/{number}.bin": POINTER for number in range(7)} | {"a\nb.bin": POINTER, "small.bin": "no pointer"}
    repo = make_repo(tmp_path / "repo", {**CALC, **files, "data/.gitattributes": "*.bin filter=lfs diff=lfs -text\n"})
    git(repo, "update-index", "--add", "--cacheinfo", f"160000,{git(repo, 'rev-parse', 'HEAD')},vendor/lib")
    git(repo, "commit", "--quiet", "-m", "submodule")
    base = await checkout.take_base(tmp_path / "bare", str(repo), "HEAD")
    assert base.notes == (
        "Submodules are not checked out: vendor/lib",
        "Files in Git LFS are here as pointers, without their content: "
        "a?b.bin, data/0.bin, data/1.bin, data/2.bin, data/3.bin and 3 more",
    )


# -- the forms that a repository can have


def worktree_of(repo: Path, folder: Path) -> Path:
    git(repo, "worktree", "add", "--quiet", "--detach", str(folder / "linked"))
    return folder / "linked"


def bare_of(repo: Path, folder: Path) -> Path:
    git(folder, "clone", "--quiet", "--bare", str(repo), str(folder / "x.git"))
    return folder / "x.git"


def shallow_of(repo: Path, folder: Path) -> Path:
    git(folder, "clone", "--quiet", "--depth=1", f"file://{repo}", str(folder / "shallow"))
    return folder / "shallow"


def detached(repo: Path, folder: Path) -> Path:
    git(repo, "checkout", "--quiet", "--detach")
    return repo


def sha256_of(repo: Path, folder: Path) -> Path:
    new = folder / "sha256"
    new.mkdir()
    git(new, "init", "--quiet", "--initial-branch=main", "--object-format=sha256")
    write(new, dict(CALC))
    commit(new, "and back")
    return new


@pytest.mark.parametrize("form", [worktree_of, bare_of, shallow_of, detached, sha256_of])
async def test_forms_of_repositories(repo: Path, tmp_path: Path, form: Callable[[Path, Path], Path]) -> None:
    source = form(repo, tmp_path)
    expected = git(source, "rev-parse", "HEAD")
    base = await repositories.fetch_base(
        await repositories.resolve(str(source)), tmp_path / "bare", None, allow_dirty=False
    )
    assert base.commit == expected
    sandbox = await open_local(SandboxSpec())
    try:
        worktree = Worktree(sandbox, tmp_path / "bare", base)
        await worktree.fill()
        assert (await sandbox.run("git log -1 --format=%s")).output == b"and back\n"
        write(Path(sandbox.workdir), {"calc/ops.py": "changed = 1\n"})
        assert "+changed = 1" in await worktree.diff()
    finally:
        await sandbox.close()
    branch = await deliver.to_branch(tmp_path / "bare", base, worktree.tree, source, "fix", "Mend it")
    assert git(source, "rev-parse", "fix") == branch
    assert "+changed = 1" in git(source, "show", "fix")


async def test_a_sha256_repository_by_its_address(repo: Path, tmp_path: Path) -> None:
    source = sha256_of(repo, tmp_path)
    found = await repositories.resolve(f"file://{source}")
    base = await repositories.fetch_base(found, tmp_path / "bare", None, allow_dirty=False)
    assert base.commit == git(source, "rev-parse", "HEAD")


async def test_an_empty_repository_by_its_address(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    git(tmp_path / "empty", "init", "--quiet")
    found = await repositories.resolve(f"file://{tmp_path}/empty")
    with pytest.raises(InputProblem, match="can't be fetched"):
        await repositories.fetch_base(found, tmp_path / "bare", None, allow_dirty=False)
