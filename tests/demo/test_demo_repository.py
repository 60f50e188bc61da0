"""The demo's repository: two of its tests fail, the scripted edit mends them, and its commits are always the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from examples.demo.prepare import SOURCE, prepare
from examples.demo.script import TURNS


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout


def run_unittest(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-B", "-m", "unittest"]
    return subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_two_tests_fail_until_the_scripted_edit_is_made(tmp_path: Path) -> None:
    prepare(tmp_path / "paging")
    before = run_unittest(tmp_path / "paging")
    assert before.returncode == 1
    assert "FAILED (failures=1, errors=1)" in before.stdout
    edit = next(turn.arguments for turn in TURNS if turn.arguments.get("command") == "str_replace")
    file = tmp_path / "paging" / edit["path"]
    text = file.read_text()
    assert text.count(edit["old_str"]) == 1
    file.write_text(text.replace(edit["old_str"], edit["new_str"]))
    after = run_unittest(tmp_path / "paging")
    assert (after.returncode, "Ran 6 tests" in after.stdout) == (0, True)


def test_the_commits_have_the_same_hashes_whatever_the_user_has_set_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = prepare(tmp_path / "first")
    (tmp_path / "home").mkdir()
    settings = (
        "[user]\nname = X\nemail = x@y\n[core]\nautocrlf = true\n[commit]\ngpgSign = true\n[init]\ntemplateDir = /no\n"
    )
    (tmp_path / "home" / ".gitconfig").write_text(settings)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Somebody")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert prepare(tmp_path / "second") == first
    assert git(tmp_path / "second", "log", "--format=%s").splitlines() == [
        "Show what is expected of the last page",
        "Cut a sequence into pages",
    ]
    assert git(tmp_path / "second", "status", "--porcelain") == ""


def test_every_file_of_the_repository_is_committed(tmp_path: Path) -> None:
    prepare(tmp_path / "paging")
    leftovers = ("__pycache__", ".pytest_cache", ".ruff_cache", ".mypy_cache", ".benchmarks")
    there = {path.relative_to(SOURCE) for path in SOURCE.rglob("*") if path.is_file()}
    wanted = {str(path) for path in there if not set(path.parts) & set(leftovers)}
    assert set(git(tmp_path / "paging", "ls-files").splitlines()) == wanted


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    with pytest.raises(FileExistsError, match="isn't empty"):
        prepare(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
