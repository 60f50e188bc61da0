"""The repositories of bundled tasks: the same everywhere, whole or not there, whoever asks and how often."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from evals.datasets import Filter, load_dataset
from evals.instance import read_instance
from evals.mini import bundled_repository, mini_dataset, mini_script
from evals.mini.repositories import RepositoryFailed, repository
from evals.mini.tasks import TaskBroken, read_task, task_ids
from runtime.models.script_file import load_script
from tests.evals.mini.direct import git
from tests.evals.mini.test_tasks import one_here_all_in_test_all

ONE = "mini__sweep-14"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATCHWRIGHT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@one_here_all_in_test_all
def test_the_history_is_that_of_the_row_and_ends_with_the_folder(task_id: str, cache: Path) -> None:
    instance, task = mini_dataset().by_id()[task_id], read_task(task_id)
    made = bundled_repository(instance)
    assert made.is_relative_to(cache)
    log = git("-C", str(made), "log", "--format=%H", "main").split()
    assert log[0] == instance.base_commit
    assert len(log) == len(task.commits) > 1
    assert git("-C", str(made), "for-each-ref", "--format=%(refname)").split() == ["refs/heads/main"]
    assert git("-C", str(made), "fsck", "--strict", "--unreachable") == ""
    folder = task.folder / "repository"
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    checked = cache / "checked"
    git("clone", "--quiet", str(made), str(checked))
    for name, path in files.items():
        if "__pycache__" not in name:
            assert (checked / name).read_bytes() == path.read_bytes()
            assert bool((checked / name).stat().st_mode & 0o100) == (name in task.executable)
    assert set(git("-C", str(checked), "ls-files").splitlines()) == {n for n in files if "__pycache__" not in n}


def test_the_users_settings_change_nothing(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = tmp_path / "gitconfig"
    settings.write_text(
        "[core]\n\tautocrlf = true\n[init]\n\tdefaultObjectFormat = sha256\n[user]\n\tname = somebody\n"
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    monkeypatch.setenv("GIT_AUTHOR_DATE", "2001-01-01T00:00:00Z")
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    assert git("-C", str(repository(read_task(ONE))), "rev-parse", "main").strip() == read_task(ONE).base_commit


@pytest.mark.heavy
def test_many_processes_at_once(cache: Path) -> None:
    code = (
        "from evals.mini.repositories import repository; from evals.mini.tasks import read_task\n"
        f"print(repository(read_task({ONE!r})))"
    )
    started = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(4)]
    said = {process.communicate(timeout=60)[0] for process in started}
    assert [process.returncode for process in started] == [0] * 4
    assert len(said) == 1
    assert [path.suffix for path in (cache / "mini").iterdir()] == [".git"]


def test_what_an_interrupted_one_left_is_in_nobodys_way(cache: Path) -> None:
    left = cache / "mini" / ".unfinished-abc" / "made.git"
    left.mkdir(parents=True)
    assert repository(read_task(ONE)).is_dir()


def test_a_task_that_was_edited_is_noticed(cache: Path) -> None:
    with pytest.raises(TaskBroken, match="freeze it again"):
        repository(replace(read_task(ONE), base_commit="0" * 40))


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PATCHWRIGHT_CACHE", str(tmp_path / "file"))
    with pytest.raises(RepositoryFailed, match="PATCHWRIGHT_CACHE"):
        repository(read_task(ONE))


def test_an_instance_that_is_not_bundled() -> None:
    row = {"instance_id": "a__b-1", "repo": "a/b", "FAIL_TO_PASS": [], "PASS_TO_PASS": []}
    with pytest.raises(TaskBroken, match="no bundled task"):
        bundled_repository(read_instance(row))


def test_the_set_by_its_name() -> None:
    assert len(load_dataset("mini").instances) == 10
    assert [one.instance_id for one in load_dataset("mini", wanted=Filter(repos=("mini/sweep",))).instances] == [ONE]


def test_the_script_can_be_served(cache: Path) -> None:
    script = load_script(mini_script())
    assert mini_script() == mini_script()
    served = {conversation.match for conversation in script.conversations}
    assert served == {read_task(task_id).title for task_id in task_ids()}
    assert [path.suffix for path in (cache / "mini").iterdir()] == [".json"]
