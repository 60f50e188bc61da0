"""Environments that recipes make, in real sandboxes: what commits share, what is in them, what fails and how.

All without a network: the recipe pins nothing, and the project is installed by what Python's own environments bring.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from docker.errors import ImageNotFound

from evals.environments import (
    EnvironmentUnavailable,
    InstanceEnvironment,
    Options,
    Prefer,
    Recipe,
    Recipes,
    environment_of,
)
from evals.environments.build import suite_for
from evals.environments.facts import as_record, hash_of
from evals.instance import Instance
from evals.judging.base import JudgeSpec
from evals.judging.judge import judge
from evals.judging.place import Place, fresh_place
from sandbox.base import ImageProblem
from sandbox.images.cache import images_dir
from sandbox.images.engine import connect
from sandbox.images.setup_tree import remove_environment
from tests.evals.environments.rows import instance
from tests.evals.environments.test_code import git
from tests.sandbox.kinds import need

pytestmark = [pytest.mark.slow, pytest.mark.heavy]
MADE: list[str] = []  # of the test that runs
SETUP = """\
import pathlib
from setuptools import setup
pathlib.Path("lib/_made.py").write_text("made = 1\\n")
setup(name="acme-lib", version="1.5", packages=["lib"], entry_points={"console_scripts": ["lib-says = lib:main"]})
"""
MAIN = "def main():\n    from lib import _made\n    print('says', _made.made)\n"
WRONG, RIGHT, BREAKING = (
    f"def twice(x):\n    return x * {n}\n\n\nONE = {one}\n" for n, one in ((3, 1), (2, 1), (2, 0))
)
TESTS = """\
from importlib.metadata import version

import lib.ops


def test_twice():
    assert lib.ops.twice(2) == 4


def test_one():
    assert lib.ops.ONE == 1


def test_installed():
    assert version("acme-lib") == "1.5"
"""
RUNNER = """\
import runpy
import sys

for file in sys.argv[1:]:
    for name, test in runpy.run_path(file).items():
        if name.startswith("test_"):
            try:
                test()
                print(f"PASSED {file}::{name}")
            except Exception as error:
                print(f"FAILED {file}::{name} - {error!r}")
"""


@pytest.fixture(
    params=[pytest.param("bubblewrap", marks=pytest.mark.bubblewrap), pytest.param("docker", marks=pytest.mark.docker)]
)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    need(request.param)
    monkeypatch.setenv("PATCHWRIGHT_BUILD_NETWORK", "none")
    MADE.clear()
    yield str(request.param)
    for image in dict.fromkeys(MADE):  # the upper ones first
        removed(str(request.param), image)


def removed(kind: str, image: str) -> None:
    """Take an image away, wherever it lies."""
    if kind == "bubblewrap":
        remove_environment(images_dir() / Path(image).name)
        return
    client = connect(kind)
    with suppress(ImageNotFound):
        client.images.remove(image)
    client.close()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """`acme/lib` as a clone; one commit. Its name makes each test's images its own."""
    folder = tmp_path / "acme__lib"
    files = {
        "setup.py": SETUP,
        "lib/__init__.py": MAIN,
        ".gitignore": "_made.py\n*.egg-info\n",
        "README": f"{tmp_path}\n",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    git(folder, "init", "-q", "-b", "main")
    commit(folder)
    return folder


def commit(folder: Path, **files: str) -> str:
    """A commit with these files, `a__b` for a/b.py; its id."""
    put(folder, files)
    git(folder, "commit", "-q", "--allow-empty", "-m", "a commit")
    return git(folder, "rev-parse", "HEAD")


def changed(folder: Path, **files: str) -> str:
    """The patch that makes these files; the folder stays as it is."""
    put(folder, files)
    patch = git(folder, "diff", "--cached", "HEAD") + "\n"
    git(folder, "reset", "-q", "--hard")
    return patch


def put(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (folder / name.replace("__", "/")).with_suffix(".py").write_text(text)
    git(folder, "add", ".")


def recipe(project: Path, **fields: object) -> Recipes:
    # a line of its own, so that no other test's environment is taken
    own: dict[str, object] = {"pre_install": (f"echo {project.parent}",), "env": {"LC_ALL": "C.UTF-8"}}
    return Recipes(((Recipe("lib-1.0", "acme/lib", ("1.0",), **{**own, **fields}),),))  # type: ignore[arg-type]


async def made(of: Instance, kind: str, project: Path, recipes: Recipes) -> InstanceEnvironment:
    environment = await environment_of(
        of, kind=kind, recipes=recipes, repositories=project.parent, options=Options(prefer=Prefer.RECIPE)
    )
    MADE[:0] = [environment.image]
    MADE.append(environment.facts["shared"])
    return environment


@asynccontextmanager
async def inside(environment: InstanceEnvironment) -> AsyncIterator[Place]:
    async with fresh_place(environment, {"run": "test"}) as place:
        yield place


async def said(place: Place, command: str) -> str:
    result = await place.sandbox.run(command, cwd=place.sandbox.workdir)
    assert result.exit_code == 0, result.output.decode()
    return result.output.decode().strip()


async def test_a_recipes_environment_holds_the_project_and_says_what_is_in_it(kind: str, project: Path) -> None:
    head = commit(project)
    wanted = recipe(project, setup="export A=1", test_command="pytest -rA", wants_network=("t::*",))
    environment = await made(instance(base_commit=head), kind, project, wanted)
    assert (environment.kind, environment.workdir, environment.base_commit) == (kind, "/testbed", head)
    assert (environment.setup, environment.test_command) == ("export A=1", "pytest -rA")
    assert environment.env == {"LC_ALL": "C.UTF-8"}
    facts = environment.facts
    assert (facts["source"], facts["recipe"], facts["code"]) == ("recipe", "lib-1.0", "base commit")
    assert facts["recipe_sha256"] == wanted.known[0].sha256
    assert facts["python"].startswith("3.11.")
    assert "acme-lib==1.5" in facts["packages"]
    assert facts["packages_sha256"] == hash_of(facts["packages"])
    assert facts["system_packages"] > 50
    assert facts["wants_network"] == ["t::*"]
    json.dumps(dict(facts))
    assert "packages" not in as_record(facts)
    async with inside(environment) as place:
        assert await said(place, "lib-says") == "says 1"  # also what the install made and git ignores
        assert await said(place, "python -c 'import lib; print(lib.__file__)'") == "/testbed/lib/__init__.py"
        assert await said(place, "git status --porcelain") == ""
        assert await said(place, "echo $LC_ALL") == "C.UTF-8"


async def test_verdicts_in_a_recipes_environment(kind: str, project: Path, tmp_path: Path) -> None:
    base = commit(project, lib__ops=WRONG, run=RUNNER)
    patches = {"unpatched": "", "gold": changed(project, lib__ops=RIGHT), "model": changed(project, lib__ops=BREAKING)}
    tests = [f"checks.py::test_{name}" for name in ("twice", "one", "installed")]
    row = instance(
        base_commit=base,
        patch=patches["gold"],
        test_patch=changed(project, checks=TESTS),
        FAIL_TO_PASS=tests[:1],
        PASS_TO_PASS=tests[1:],
    )
    environment = await made(row, kind, project, recipe(project, test_command="python run.py"))
    failed = {}
    for name, patch in patches.items():
        spec = JudgeSpec(row, environment, name, "test", parser="parse_log_pytest")
        report = (await judge(spec, patch, tmp_path / name, unpatched=not patch)).report
        status = report["tests_status"]
        failed[name] = (report["resolved"], status["FAIL_TO_PASS"]["failure"], status["PASS_TO_PASS"]["failure"])
    assert failed == {
        "unpatched": (False, tests[:1], []),
        "gold": (True, [], []),
        "model": (False, [], [tests[1]]),
    }


async def test_commits_share_what_they_dont_change(kind: str, project: Path) -> None:
    first = commit(project)
    second = commit(project, lib__code="x = 2\n")
    third = commit(project, setup=SETUP.replace("1.5", "1.6"))
    wanted = recipe(project)
    images = [(await made(instance(base_commit=one), kind, project, wanted)).image for one in (first, second, third)]
    assert images[0] == images[1] != images[2]


async def test_an_install_that_reads_more_gets_all_files(kind: str, project: Path) -> None:
    (project / "data.txt").write_text("2\n")
    head = commit(project, setup=SETUP.replace('"made = 1\\n"', '"made = " + open("data.txt").read()'))
    environment = await made(instance(base_commit=head), kind, project, recipe(project))
    async with inside(environment) as place:
        assert await said(place, "lib-says") == "says 2"


async def test_a_failing_install_is_no_environment_and_says_why(kind: str, project: Path) -> None:
    wanted = recipe(project, install="echo about to fail; exit 7")
    with pytest.raises(EnvironmentUnavailable, match="about to fail") as caught:
        await made(instance(base_commit=commit(project)), kind, project, wanted)
    assert not caught.value.again


async def test_an_image_that_is_gone_is_made_again(kind: str, project: Path) -> None:
    options, row = Options(prefer=Prefer.RECIPE), instance(base_commit=commit(project))

    async def once() -> InstanceEnvironment:
        return await environment_of(
            row, kind=kind, recipes=recipe(project), repositories=project.parent, options=options
        )

    first = await once()
    assert await once() is first
    MADE.extend([first.image, first.facts["shared"]])
    removed(kind, first.image)
    again = await once()
    assert again is not first
    assert again.image == first.image


@pytest.mark.parametrize("sandbox", ["none", "bubblewrap"])
async def test_what_cant_be_had_says_what_to_do(sandbox: str, project: Path) -> None:
    need(sandbox)
    row = instance(base_commit=commit(project))
    with pytest.raises(EnvironmentUnavailable, match="no recipe names it or acme/lib 1") as caught:
        await made(row, sandbox, project, Recipes())
    assert "--recipes" in str(caught.value)
    with pytest.raises(EnvironmentUnavailable, match=r"wants Python 3\.7|has no image"):
        await made(row, sandbox, project, recipe(project, python="3.7"))


def test_which_release_has_a_python() -> None:
    assert suite_for("3.11", "bookworm") == "bookworm"
    assert suite_for("3.9", "bookworm") == "bullseye"
    assert suite_for("3.10", "noble") == "jammy"
    with pytest.raises(ImageProblem, match=r"3\.11: bookworm"):
        suite_for("3.10", "trixie")
