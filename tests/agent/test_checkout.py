"""The run's repository: what goes in, what a sandbox gets, what comes out as a patch."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from agent import checkout, deliver
from agent.ends import InputProblem
from agent.git import Bounds, GitError
from agent.sources import repositories
from tests.agent.repos import CALC, ENV, commit, git, make_repo, write


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return make_repo(tmp_path / "repo", CALC)


async def test_a_dirty_work_tree_is_refused_and_left_alone(repo: Path) -> None:
    write(repo, {"calc/ops.py": "changed\n"})
    index = (repo / ".git/index").read_bytes()
    with pytest.raises(InputProblem, match=r"uncommitted changes \(calc/ops.py\).*--allow-dirty"):
        await checkout.local_commit(repo, "HEAD", allow_dirty=False)
    assert await checkout.local_commit(repo, "HEAD", allow_dirty=True) == git(repo, "rev-parse", "HEAD")
    assert (repo / ".git/index").read_bytes() == index


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.mkdir(), "not a git repository: run `git init`"),
        (lambda path: make_empty(path), "no commit yet"),
        (lambda path: make_repo(path, CALC), "no revision 'nowhere'"),
    ],
)
async def test_what_is_no_commit_is_refused_with_what_to_do(tmp_path: Path, make, message: str) -> None:
    make(tmp_path / "x")
    revision = "nowhere" if "revision" in message else "HEAD"
    with pytest.raises(InputProblem, match=message):
        await checkout.local_commit(tmp_path / "x", revision, allow_dirty=False)


def make_empty(path: Path) -> None:
    path.mkdir()
    git(path, "init", "--quiet")


async def test_the_sandbox_gets_the_past_and_nothing_of_the_future(repo: Path, tmp_path: Path) -> None:
    base_commit = git(repo, "rev-parse", "HEAD")
    git(repo, "tag", "v1")
    write(repo, {"later.py": "the answer"})
    later = commit(repo, "The fix")
    git(repo, "branch", "other")
    git(repo, "remote", "add", "origin", "https://user:secret@example.invalid/x.git")
    base = await checkout.take_base(tmp_path / "bare", str(repo), base_commit)
    assert base.commit == base_commit

    clone = tmp_path / "clone"
    clone.mkdir()
    with tarfile.open(fileobj=io.BytesIO(await checkout.git_folder_tar(tmp_path / "bare"))) as tar:
        tar.extractall(clone, filter="data")
    git(clone, "checkout", "--quiet", "--force", "main")
    assert git(clone, "log", "--format=%H", "--all") == base_commit
    assert git(clone, "remote") == git(clone, "tag") == ""
    assert git(clone, "status", "--porcelain") == ""
    found = subprocess.run(["git", "-C", str(clone), "cat-file", "-e", later], env=ENV, capture_output=True)
    assert found.returncode != 0
    assert subprocess.run(["grep", "-r", "secret", str(clone)], capture_output=True).returncode == 1
    assert (clone / "calc/ops.py").read_text() == CALC["calc/ops.py"]


async def test_a_repository_cannot_run_programs_on_the_host(repo: Path, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    program = tmp_path / "evil.sh"
    program.write_text(f"#!/bin/sh\ntouch {witness}\n")
    program.chmod(0o755)
    for key in ("core.fsmonitor", "core.pager", "diff.external", "core.sshCommand", "uploadpack.packObjectsHook"):
        git(repo, "config", key, str(program))
    for hook in ("post-checkout", "pre-commit", "reference-transaction", "post-index-change"):
        (repo / ".git/hooks" / hook).write_text(program.read_text())
        (repo / ".git/hooks" / hook).chmod(0o755)
    commit_id = await checkout.local_commit(repo, "HEAD", allow_dirty=False)
    base = await checkout.take_base(tmp_path / "bare", str(repo), commit_id)
    message = await deliver.commit_message(tmp_path / "bare", base, base.tree, "x", "y", "run")
    assert not witness.exists()
    await deliver.to_branch(tmp_path / "bare", base, base.tree, repo, "fix", message)
    assert not witness.exists()


async def tree_with(bare: Path, base: checkout.Base, repo: Path, files: dict[str, str | bytes]) -> str:
    """The tree of the base with some files changed, made in a clone and imported as a sandbox's would be."""
    write(repo, files)
    git(repo, "add", "-A")
    tree = git(repo, "write-tree")
    pack = subprocess.run(
        ["git", "-C", str(repo), "pack-objects", "--revs", "--stdout", "-q"],
        input=f"{tree}\n^{base.tree}\n".encode(), env=ENV, capture_output=True, check=True,
    ).stdout  # fmt: skip
    await checkout.import_pack(bare, pack)
    return tree


async def test_the_patch_holds_new_and_binary_files_and_applies(repo: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    (tmp_path / "gitconfig").write_text("[diff]\n noprefix = true\n external = false\n[color]\n ui = always\n")
    base = await checkout.take_base(tmp_path / "bare", str(repo), git(repo, "rev-parse", "HEAD"))
    files = {"new.bin": bytes(range(256)), "calc/ops.py": "fixed\r\n", "name with\ttab": "x", "ignored.log": "no"}
    tree = await tree_with(tmp_path / "bare", base, repo, files)
    patch = await checkout.diff(tmp_path / "bare", base.tree, tree)
    assert "diff --git a/calc/ops.py b/calc/ops.py" in patch
    assert "ignored.log" not in patch
    git(repo, "reset", "--quiet", "--hard", "HEAD")
    git(repo, "clean", "-fdxq")
    subprocess.run(["git", "-C", str(repo), "apply"], input=patch.encode("utf-8", "surrogateescape"), check=True)
    assert (repo / "new.bin").read_bytes() == bytes(range(256))
    assert (repo / "calc/ops.py").read_bytes() == b"fixed\r\n"
    changed = await checkout.changed_files(tmp_path / "bare", base.tree, tree)
    assert sorted(changed) == [("A", "name with\ttab"), ("A", "new.bin"), ("M", "calc/ops.py")]


async def test_broken_objects_are_not_taken_in(repo: Path, tmp_path: Path) -> None:
    base = await checkout.take_base(tmp_path / "bare", str(repo), git(repo, "rev-parse", "HEAD"))
    with pytest.raises(GitError):
        await checkout.import_pack(tmp_path / "bare", b"PACK nonsense")
    evil = git(repo, "mktree", "--missing", text=f"100644 blob {git(repo, 'hash-object', '-w', 'calc/ops.py')}\t.git\n")
    pack = subprocess.run(
        ["git", "-C", str(repo), "pack-objects", "--stdout", "-q"], input=f"{evil}\n".encode(), env=ENV,
        capture_output=True, check=True,
    ).stdout  # fmt: skip
    with pytest.raises(GitError):
        await checkout.import_pack(tmp_path / "bare", pack)
    assert base.notes == ()


async def test_a_branch_leaves_the_users_checkout_as_it_is(repo: Path, tmp_path: Path) -> None:
    base = await checkout.take_base(tmp_path / "bare", str(repo), git(repo, "rev-parse", "HEAD"))
    other = make_repo(tmp_path / "other", CALC)
    tree = await tree_with(tmp_path / "bare", base, other, {"calc/ops.py": "fixed\n"})
    write(repo, {"untracked.txt": "mine", "calc/__init__.py": "half done"})
    before = (git(repo, "status", "--porcelain"), git(repo, "rev-parse", "HEAD"), git(repo, "branch", "--show-current"))
    commit_id = await deliver.to_branch(tmp_path / "bare", base, tree, repo, "fix/mean", "Mend mean\n\nIt was off.")
    after = (git(repo, "status", "--porcelain"), git(repo, "rev-parse", "HEAD"), git(repo, "branch", "--show-current"))
    assert before == after
    assert git(repo, "rev-parse", "fix/mean") == commit_id
    assert git(repo, "rev-parse", "fix/mean^") == base.commit
    assert git(repo, "show", "fix/mean:calc/ops.py") == "fixed"
    assert not (repo / ".git/FETCH_HEAD").exists()
    with pytest.raises(InputProblem, match="already has a branch"):
        await deliver.check_branch(repo, "fix/mean")
    with pytest.raises(InputProblem, match="no name that git allows"):
        await deliver.check_branch(repo, "--upload-pack=evil")


async def test_a_shallow_repository_is_a_fine_source(repo: Path, tmp_path: Path) -> None:
    write(repo, {"more.txt": "1"})
    commit(repo, "More")
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{repo}", str(tmp_path / "shallow"))
    source = await repositories.resolve(str(tmp_path / "shallow"))
    base = await repositories.fetch_base(source, tmp_path / "bare", None, allow_dirty=False)
    assert base.commit == git(repo, "rev-parse", "HEAD")
    assert await checkout.git_folder_tar(tmp_path / "bare")


async def test_submodules_are_reported(repo: Path, tmp_path: Path) -> None:
    git(repo, "update-index", "--add", "--cacheinfo", f"160000,{git(repo, 'rev-parse', 'HEAD')},vendor/lib")
    git(repo, "commit", "--quiet", "-m", "submodule")
    base = await checkout.take_base(tmp_path / "bare", str(repo), git(repo, "rev-parse", "HEAD"))
    assert base.notes == ("Submodules are not checked out: vendor/lib",)


@pytest.mark.parametrize(
    ("bounds", "said"), [(Bounds(memory=64 << 20), "emory"), (Bounds(seconds=0.01), "more than 0 s")]
)
async def test_a_pack_takes_no_more_of_the_host_than_its_bounds(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bounds: Bounds, said: str
) -> None:
    """A pack of some kilobytes that unpacks to hundreds of megabytes, which git holds in memory as a whole."""
    await checkout.take_base(tmp_path / "bare", str(repo), None)
    with (repo / "zeros").open("wb") as file:
        file.truncate(200 << 20)
    commit(repo, "zeros")
    pack = await checkout.export_pack(repo, git(repo, "rev-parse", "HEAD^{tree}"))
    assert len(pack) < 1 << 20
    monkeypatch.setattr(checkout, "PACK_BOUNDS", bounds)
    with pytest.raises(GitError, match=said):
        await checkout.import_pack(tmp_path / "bare", pack)
    monkeypatch.undo()
    await checkout.import_pack(tmp_path / "bare", pack)
