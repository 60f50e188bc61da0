"""Our own checkouts leak nothing, whatever their source holds; the command says so; gold never reaches an agent."""

from __future__ import annotations

import asyncio
import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from agent import checkout as run_checkout
from agent.fix import fix
from agent.request import FixRequest
from cli.eval_audit import audit
from evals.leaks import find_gold, gold_free, gold_lines
from evals.leaks.gold import files_below, in_audit
from evals.leaks.own import audit_own
from evals.mini.dataset import mini_dataset
from tests.agent.repos import git
from tests.evals.leaks.planted import Story, story
from tests.evals.leaks.test_trajectory import log_of
from tests.runs.harness import call, served


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Story:
    return story(tmp_path_factory.mktemp("story"))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATCHWRIGHT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


async def test_a_checkout_of_a_repository_with_a_future(told: Story, home: Path) -> None:
    done = await audit_own(str(told.upstream), told.base, kind="none", instance=told.instance)
    assert (done.commit, done.leaks) == (told.base, ())


async def test_a_checkout_of_shallow_and_bare_repositories(told: Story, home: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", "--depth=2", f"file://{told.upstream}", str(tmp_path / "shallow"))
    git(tmp_path, "clone", "--quiet", "--mirror", str(told.upstream), str(tmp_path / "mirror"))
    for source, revision in ((tmp_path / "shallow", told.fix), (tmp_path / "mirror", told.base)):
        assert (await audit_own(str(source), revision, kind="none")).leaks == ()


def test_the_command_on_checkouts(told: Story, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def said(revision: str) -> tuple[int, str]:
        arguments = ["--checkout", str(told.upstream), revision, "--sandbox", "none", "--json"]
        done = CliRunner().invoke(audit, arguments)
        return done.exit_code, done.stdout

    assert said(told.base) == (0, "")
    assert said("nowhere")[0] == 6
    taken = run_checkout.git_folder_tar

    async def with_a_remote(bare: Path) -> bytes:
        """As if we left more in a checkout than we do."""
        buffer = io.BytesIO(await taken(bare))
        with tarfile.open(fileobj=buffer, mode="a") as tar:
            text = f"{told.fix}\t\tbranch 'main'\n".encode()
            member = tarfile.TarInfo(".git/FETCH_HEAD")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text))
        return buffer.getvalue()

    monkeypatch.setattr(run_checkout, "git_folder_tar", with_a_remote)
    code, output = said(told.base)
    assert code == 3
    assert json.loads(output)["kind"] == "pseudo ref"


@pytest.mark.parametrize("name", [instance.instance_id for instance in mini_dataset().instances])
def test_the_command_on_the_environments_of_the_bundled_tasks(name: str, home: Path) -> None:
    arguments = ["--environment", "--dataset", "mini", "--instance", name, "--sandbox", "none"]
    done = CliRunner().invoke(audit, arguments)
    assert (done.exit_code, done.stdout) == (0, ""), done.output


def test_the_command_wants_one_thing_to_audit(tmp_path: Path) -> None:
    for arguments, code in (
        ([], 2),
        (["--environment"], 2),
        ([str(tmp_path), "--environment", "--dataset", "mini"], 2),
        (["--environment", "--dataset", "mini", "--instance", "nobody"], 6),
        (["--environment", "--dataset", "mini", "--instance", "mini__tally-7", "--recipes", str(tmp_path / "no")], 6),
    ):
        assert CliRunner().invoke(audit, arguments).exit_code == code, arguments


def test_the_command_on_trajectories(told: Story, tmp_path: Path) -> None:
    folder = tmp_path / "run/trajectories" / told.instance.instance_id / "1"
    folder.mkdir(parents=True)
    log_of(folder, "git reflog", "", 0)
    row = {"instance_id": told.instance.instance_id, "repo": "calc/calc-tools", "base_commit": told.base}
    row |= {"patch": "", "test_patch": "", "FAIL_TO_PASS": "[]", "PASS_TO_PASS": "[]", "problem_statement": ""}
    (tmp_path / "run/instances.jsonl").write_text(json.dumps(row) + "\n")
    done = CliRunner().invoke(audit, [str(tmp_path / "run"), "--json"])
    assert done.exit_code == 3
    assert json.loads(done.stdout)["looks"][0] == "step 1 looked: read the reflog: `git reflog`"
    assert CliRunner().invoke(audit, [str(folder)]).exit_code == 6  # of which instance?
    dataset = ["--dataset", str(tmp_path / "run/instances.jsonl"), "--instance", told.instance.instance_id]
    assert CliRunner().invoke(audit, [str(folder / "events.jsonl"), *dataset]).exit_code == 3
    assert CliRunner().invoke(audit, [str(tmp_path / "nothing"), *dataset]).exit_code == 6


STARTED: list[tuple[str, bytes]] = []
WATCHING: list[bool] = []


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if WATCHING and (place := in_audit(event, arguments)):
        STARTED.append(place)


@contextmanager
def watched() -> Iterator[list[tuple[str, bytes]]]:
    """What processes are started with; the hook itself can't be taken away again."""
    if not STARTED:
        sys.addaudithook(_watch)
        STARTED.append(("the hook is there", b""))
    WATCHING.append(True)
    try:
        yield STARTED
    finally:
        WATCHING.clear()


async def test_gold_reaches_nothing_of_a_run(told: Story, home: Path) -> None:
    """Neither a file of the run nor what any of its processes is started with; the sandbox's own view is asked too."""
    instance = told.instance
    asked = gold_free(instance)
    assert set(asked) == {"problem_statement", "repo", "base_commit", "image"}
    gold = gold_lines(instance)
    assert len(gold) >= 6
    script = "env; cat /proc/self/environ; tr '\\0' '\\n' < /proc/$PPID/cmdline; git log -p --all; echo seen"
    turns = [call("bash", command=script), *[call("submit", summary="Nothing.")] * 2]
    request = FixRequest(
        str(told.upstream), asked["problem_statement"], "", sandbox="none", revision=asked["base_commit"]
    )
    with served(turns) as server, watched() as started:
        result = await fix(replace(request, model=server.url))
    run = home / "runs" / result.run
    places = [*files_below(run), *started, *await asyncio.to_thread(lambda: list(_objects(run / "repository.git")))]
    assert any(b"seen" in content for name, content in places if name == "events.jsonl")
    assert any(b"upload-pack" in content for _, content in started)
    assert list(find_gold(gold, places)) == []
    leaky = [*places, ("x", json.dumps({"test_patch": instance.test_patch}).encode())]
    assert {name for name, _ in find_gold(gold, leaky)} == {"x"}


def _objects(bare: Path) -> Iterator[tuple[str, bytes]]:
    """Every object of a repository, unpacked."""
    command = ["git", "--git-dir", str(bare), "cat-file", "--batch", "--batch-all-objects"]
    yield "objects", subprocess.run(command, capture_output=True, check=True).stdout
