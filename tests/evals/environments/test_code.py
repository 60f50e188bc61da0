"""Where an instance's code comes from: clones, stand-ins, a host of repositories; and what is said where it can't."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from agent.sources.repositories import fetch_base, resolve
from evals.environments.base import EnvironmentUnavailable
from evals.environments.code import code_of
from evals.instance import Instance
from tests.evals.environments.rows import instance

told: list[str] = []


def git(at: Path, *arguments: str) -> str:
    env = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.invalid"]
    done = subprocess.run(["git", *identity, *arguments], cwd=at, env=env, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def repository(folder: Path, commits: int = 3) -> list[str]:
    """A repository with a few commits; their ids, the oldest first."""
    folder.mkdir(parents=True)
    git(folder, "init", "-q", "-b", "main")
    ids = []
    for number in range(commits):
        (folder / "file.txt").write_text(f"{number}\n")
        git(folder, "add", ".")
        git(folder, "commit", "-q", "-m", f"commit {number}")
        ids.append(git(folder, "rev-parse", "HEAD"))
    return ids


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATCHWRIGHT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where `owner/name.git` lie, in place of GitHub."""
    monkeypatch.setenv("PATCHWRIGHT_GITHUB_URL", f"file://{tmp_path}/host")
    return tmp_path / "host"


async def code(of: Instance, repositories: Path | None = None) -> tuple[str, str, str]:
    found = await code_of(of, repositories, told.append)
    return found.repository, found.commit, found.said


@pytest.mark.parametrize("name", ["acme__lib", "acme/lib", "acme__lib.git"])
async def test_a_clone_in_the_folder(name: str, tmp_path: Path) -> None:
    ids = repository(tmp_path / name)
    assert await code(instance(base_commit=ids[1]), tmp_path) == (str(tmp_path / name), ids[1], "base commit")


async def test_code_that_stands_for_an_instance_goes_before_the_clone(tmp_path: Path) -> None:
    repository(tmp_path / "acme__lib")
    ids = repository(tmp_path / "acme__lib-1", commits=1)
    assert await code(instance(base_commit="1" * 40), tmp_path) == (str(tmp_path / "acme__lib-1"), ids[0], "stand-in")


async def test_a_clone_without_the_commit_is_named_with_what_to_do(tmp_path: Path, cache: Path, host: Path) -> None:
    repository(tmp_path / "acme__lib")
    with pytest.raises(EnvironmentUnavailable, match=r"doesn't hold 1111.*fetch origin 1111") as caught:
        await code(instance(base_commit="1" * 40), tmp_path)
    assert not caught.value.again
    (tmp_path / "acme__lib-1").mkdir()
    with pytest.raises(EnvironmentUnavailable, match="stands for the code of acme__lib-1, is no git repository"):
        await code(instance(base_commit="1" * 40), tmp_path)


async def test_a_folder_of_clones_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentUnavailable, match="is no folder"):
        await code(instance(), tmp_path / "missing")


async def test_what_isnt_in_the_folder_is_fetched_once_and_holds_nothing_later(
    tmp_path: Path, cache: Path, host: Path
) -> None:
    ids = repository(host / "acme/lib.git")
    git(host / "acme/lib.git", "config", "uploadpack.allowAnySHA1InWant", "true")
    bare = str(cache / "repositories/acme__lib.git")
    (tmp_path / "clones").mkdir()
    told.clear()
    assert await code(instance(base_commit=ids[1]), tmp_path / "clones") == (bare, ids[1], "base commit")
    assert told == [f"fetching file://{host}/acme/lib.git at {ids[1][:12]}"]
    assert git(Path(bare), "rev-list", "--all").split() == [ids[1], ids[0]]
    (host / "acme/lib.git").rename(host / "gone")
    assert (await code(instance(base_commit=ids[1])))[1] == ids[1]
    assert len(told) == 1
    base = await fetch_base(await resolve(bare), tmp_path / "run.git", ids[1], allow_dirty=True)
    assert base.commit == ids[1]


async def test_several_commits_of_a_project_at_once(cache: Path, host: Path) -> None:
    ids = repository(host / "acme/lib.git", commits=5)
    git(host / "acme/lib.git", "config", "uploadpack.allowAnySHA1InWant", "true")
    wanted = [instance(f"acme__lib-{number}", base_commit=commit) for number, commit in enumerate(ids)]
    found = await asyncio.gather(*(code(one) for one in wanted))
    assert [commit for _, commit, _ in found] == ids
    assert len({where for where, _, _ in found}) == 1


async def test_code_that_is_nowhere(tmp_path: Path, cache: Path, host: Path) -> None:
    (tmp_path / "clones").mkdir()
    with pytest.raises(EnvironmentUnavailable) as caught:
        await code(instance(), tmp_path / "clones")
    said = str(caught.value)
    assert f"not in {tmp_path}/clones (as acme__lib-1 or acme__lib)" in said
    assert f"file://{host}/acme/lib.git" in said
    assert "--repositories" in said


async def test_a_commit_that_the_host_doesnt_have_isnt_tried_again(cache: Path, host: Path) -> None:
    repository(host / "acme/lib.git")
    with pytest.raises(EnvironmentUnavailable) as caught:
        await code(instance(base_commit="1" * 40))
    assert not caught.value.again


async def test_an_unreachable_host_may_come_back(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATCHWRIGHT_GITHUB_URL", "http://127.0.0.1:9")
    with pytest.raises(EnvironmentUnavailable, match=r"127\.0\.0\.1") as caught:
        await code(instance())
    assert caught.value.again


async def test_a_row_without_a_commit_needs_a_folder(tmp_path: Path) -> None:
    row = instance(base_commit=None)
    with pytest.raises(EnvironmentUnavailable, match="names no base commit"):
        await code(row)
    ids = repository(tmp_path / "acme__lib-1")
    assert (await code(row, tmp_path))[1] == ids[-1]


async def test_a_bundled_task_brings_its_own() -> None:
    from evals.mini import dataset

    row = dataset.mini_dataset().instances[0]
    found = await code_of(row, None, told.append)
    assert (found.commit, found.said) == (row.base_commit, "bundled")
    assert git(Path(found.repository), "rev-parse", "main") == row.base_commit
