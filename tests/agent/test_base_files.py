"""The base commit's files for an image build: all of them, and nothing beside the folder is ever written to."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from agent import checkout
from agent.machine import unpack_base
from sandbox.images.detect import Setup, Tree
from sandbox.images.setup_context import OWN, setup_context
from tests.agent.repos import ENV, commit, git, make_repo


async def unpacked(repo: Path, tmp_path: Path, revision: str = "HEAD") -> Path:
    bare, folder = tmp_path / "bare", tmp_path / "files"
    folder.mkdir()
    await checkout.take_base(bare, str(repo), git(repo, "rev-parse", revision))
    await unpack_base(bare, folder)
    return folder


async def test_what_a_release_leaves_out_is_there_and_nothing_is_filled_in(tmp_path: Path) -> None:
    """Most PHP libraries mark their tests and phpunit.xml so; without them no test command is found."""
    left_out = "/tests export-ignore\nphpunit.xml export-ignore\nversion.py export-subst\n"
    files = {".gitattributes": left_out, "tests/a.php": "x", "phpunit.xml": "y", "version.py": "at = '$Format:%H$'\n"}
    folder = await unpacked(make_repo(tmp_path / "repo", files), tmp_path)
    assert {path.name for path in folder.rglob("*") if path.is_file()} == {Path(name).name for name in files}
    assert (folder / "version.py").read_text() == files["version.py"]


async def test_links_that_lead_outside_are_kept_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.toml").write_text("[project]")
    repo = make_repo(tmp_path / "repo", {"a.txt": "x"})
    (repo / "absolute").symlink_to("/etc/hosts")
    (repo / "pyproject.toml").symlink_to("../secret.toml")
    commit(repo, "links")
    folder = await unpacked(repo, tmp_path)
    assert (folder / "absolute").readlink() == Path("/etc/hosts")
    assert Tree(folder).has("pyproject.toml") and Tree(folder).text("pyproject.toml") == ""


async def test_a_commit_that_holds_a_name_twice_writes_nothing_through_a_link(tmp_path: Path) -> None:
    """No git makes such a tree, but anybody can."""
    outside = tmp_path / "outside"
    outside.mkdir()
    repo = make_repo(tmp_path / "repo", {"a.txt": "x"})
    below = _object(repo, "tree", b"100644 planted\0" + bytes.fromhex(_object(repo, "blob", b"mine")))
    link = _object(repo, "blob", str(outside).encode())
    both = b"120000 way\0" + bytes.fromhex(link) + b"40000 way\0" + bytes.fromhex(below)
    hostile = git(repo, "commit-tree", _object(repo, "tree", both), "-m", "x")
    git(repo, "branch", "hostile", hostile)
    with pytest.raises(Exception, match="way"):  # by git where it looks, else by us
        await unpacked(repo, tmp_path, "hostile")
    assert not list(outside.iterdir())


def test_our_own_folder_in_a_build_is_never_the_repositorys(tmp_path: Path) -> None:
    outside, source = tmp_path / "outside", tmp_path / "source"
    outside.mkdir()
    source.mkdir()
    (source / "kept.txt").write_text("x")
    (source / OWN).symlink_to(outside)
    with setup_context(Setup(), Tree(source), "/workspace", whole=True) as context:
        assert (context / "kept.txt").exists() and (context / OWN / "finish.py").exists()
        assert not (context / OWN).is_symlink() and not list(outside.iterdir())


def _object(repo: Path, kind: str, data: bytes) -> str:
    command = ["git", "-C", str(repo), "hash-object", "-w", "--literally", "-t", kind, "--stdin"]
    return subprocess.run(command, input=data, check=True, capture_output=True, env=ENV).stdout.decode().strip()
