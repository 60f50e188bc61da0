"""The work tree in a sandbox: filled, kept as it changes, restored, and given out as a patch."""

from __future__ import annotations

import shlex
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent import checkout
from agent.worktree import Worktree, WorktreeProblem
from sandbox.base import Sandbox
from sandbox.local import open_local
from sandbox.policy import SandboxSpec
from tests.agent.repos import CALC, git, make_repo


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    opened = await open_local(SandboxSpec())
    yield opened
    await opened.close()


@pytest.fixture
async def worktree(sandbox: Sandbox, tmp_path: Path) -> Worktree:
    repo = make_repo(tmp_path / "repo", {**CALC, "run.sh": "#!/bin/sh\n", "crlf.txt": b"a\r\nb\r\n"})
    base = await checkout.take_base(tmp_path / "bare", str(repo), git(repo, "rev-parse", "HEAD"))
    worktree = Worktree(sandbox, tmp_path / "bare", base)
    await worktree.fill()
    return worktree


async def sh(sandbox: Sandbox, script: str) -> str:
    result = await sandbox.run(script, cwd=sandbox.workdir)
    assert result.exit_code == 0, result.output
    return result.output.decode()


async def test_the_model_finds_a_clean_checkout(worktree: Worktree, sandbox: Sandbox) -> None:
    assert await sh(sandbox, "git status --porcelain; git log --format=%s; git remote; git config user.name") == (
        "Start\nPatchwright\n"
    )
    assert not await worktree.checkpoint()
    assert await worktree.diff() == ""


async def test_only_what_a_patch_may_hold_is_kept(worktree: Worktree, sandbox: Sandbox) -> None:
    await sh(sandbox, "echo x > debug.log; mkdir -p __pycache__; echo y > __pycache__/a.pyc; touch calc/ops.py")
    assert not await worktree.checkpoint()
    await sh(sandbox, "echo new > new.txt; rm crlf.txt; chmod +x run.sh; printf '\\0\\377' > bin; ln -s new.txt link")
    assert await worktree.checkpoint()
    patch = await worktree.diff()
    for part in (
        "b/new.txt",
        "deleted file mode 100644",
        "new mode 100755",
        "GIT binary patch",
        "new file mode 120000",
    ):
        assert part in patch
    assert "debug.log" not in patch and "pycache" not in patch


async def test_what_the_model_does_to_git_changes_nothing(worktree: Worktree, sandbox: Sandbox) -> None:
    await sh(sandbox, "echo fixed > calc/ops.py; git add -A; git commit -qm done; git config core.excludesFile /x")
    patch = await worktree.diff()
    assert "+fixed" in patch
    await sh(sandbox, "rm -rf .git; echo more >> calc/ops.py")
    assert "+more" in await worktree.diff()


async def test_any_kept_tree_can_be_restored_in_a_fresh_sandbox(
    worktree: Worktree, sandbox: Sandbox, tmp_path: Path
) -> None:
    await sh(sandbox, "echo one > calc/ops.py; mkdir deep; echo d > deep/file; rm run.sh")
    await worktree.checkpoint()
    first = worktree.tree
    await sh(sandbox, "echo two > calc/ops.py; rm -r deep")
    await worktree.checkpoint()
    other = await open_local(SandboxSpec())
    try:
        base = await checkout.read_base(tmp_path / "bare")
        again = Worktree(other, tmp_path / "bare", base)
        await again.fill()
        await again.restore(first)
        assert await sh(other, "cat calc/ops.py deep/file; ls run.sh 2>/dev/null; true") == "one\nd\n"
        assert not await again.checkpoint()
        assert again.tree == first
        await sh(other, "echo junk > junk; echo k > kept.log")
        await again.switch(worktree.tree)
        assert await sh(other, "cat calc/ops.py; ls deep junk kept.log 2>/dev/null; git log --format=%s; true") == (
            "two\nStart\n"
        )
    finally:
        await other.close()


async def test_a_change_too_large_to_keep_is_named(worktree: Worktree, sandbox: Sandbox, monkeypatch) -> None:
    monkeypatch.setattr("agent.worktree.MAX_PACK", 1 << 20)
    await sh(sandbox, "head -c 3000000 /dev/urandom > core.dump")
    with pytest.raises(WorktreeProblem, match="more than the 1 MiB"):
        await worktree.checkpoint()


async def test_file_names_may_be_anything(worktree: Worktree, sandbox: Sandbox) -> None:
    await sandbox.write("a\nb \udcff\"'.txt", b"odd")
    await worktree.checkpoint()
    changed = await checkout.changed_files(worktree._bare, worktree._base.tree, worktree.tree)
    assert changed == [("A", "a\nb \udcff\"'.txt")]


async def test_a_change_counts_as_what_it_unpacks_to(
    worktree: Worktree, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of holes costs its sender nothing; a patch of it would take its whole size of the host's memory."""
    monkeypatch.setattr("agent.worktree.MAX_PACK", 1 << 20)
    await sh(sandbox, "truncate -s 900K one")
    assert await worktree.checkpoint()
    await sh(sandbox, "truncate -s 900K two && printf x >> two")
    with pytest.raises(WorktreeProblem, match="1 MiB, more than the 1 MiB that are kept: remove large files"):
        await worktree.checkpoint()
    await sh(sandbox, "rm two")
    assert not await worktree.checkpoint()


async def test_a_large_text_is_not_compared_by_its_lines(worktree: Worktree, sandbox: Sandbox) -> None:
    """Git takes twenty times a text's size of the host's memory for that."""
    name = 'a [la*rge] "te\\xt".txt'
    await sh(sandbox, f"yes | head -c 17M > {shlex.quote(name)}; echo small > 'a lrge texttxt'")
    patch = await worktree.diff()
    assert patch.count("GIT binary patch") == 1 and "+small" in patch and len(patch) < 1 << 20
    clean = await open_local(SandboxSpec())
    try:
        again = Worktree(clean, worktree._bare, worktree._base)
        await again.fill()
        assert await again.apply(patch)
        assert await sh(clean, f"wc -c < {shlex.quote(name)}") == f"{17 << 20}\n"
    finally:
        await clean.close()
