"""Rows of SWE-bench's kin as their cards and harnesses have them: SWE-bench Live, SWE-smith, SWE-bench Pro."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from evals.environments.base import EnvironmentUnavailable, InstanceEnvironment
from evals.environments.code import code_of
from evals.environments.published import ImageNames
from evals.grading.parsers import PARSERS
from evals.grading.semantics import Semantics, parser_family
from evals.instance import Instance, Schema, read_instance
from evals.judging.judge import judge
from evals.judging.reversing import reversed_patch
from evals.judging.script import ScriptUnknown, eval_script
from evals.leaks.gold import gold_lines
from evals.runs.predict import Task
from evals.runs.rows import row_of
from tests.agent.repos import commit, write
from tests.evals.environments.test_code import git
from tests.evals.judging.subject import FIXED, TESTED, Subject, make_subject

NAMES = ImageNames()


def image(instance: Instance) -> str:
    return NAMES.of(instance, "x86_64")[0]


# -- SWE-bench Live


def live(**fields: Any) -> Instance:
    """A row as the set of several languages has it."""
    row = {
        "instance_id": "acme__lib-7",
        "repo": "acme/lib",
        "base_commit": "1" * 40,
        "patch": "p",
        "test_patch": "",
        "problem_statement": "It breaks.",
        "FAIL_TO_PASS": ["a"],
        "PASS_TO_PASS": [],
        "rebuild_cmds": ["make clean", "make"],
        "test_cmds": ["./run >all.log 2>&1"],
        "print_cmds": ["cat all.log"],
        "log_parser": "def parse(log):\n    return {}\n",
        **fields,
    }
    return read_instance({name: value for name, value in row.items() if value is not None})


def script(instance: Instance, **fields: Any) -> str:
    said = {"kind": "none", "image": "", "workdir": "/testbed", "repository": "", "base_commit": "1" * 40}
    return eval_script(instance, InstanceEnvironment(**{**said, **fields}))


def order(text: str, *parts: str) -> bool:
    places = [text.index(part) for part in parts]
    return places == sorted(places)


def test_live_builds_again_then_tests_then_prints_the_log() -> None:
    assert live().schema is Schema.SWE_BENCH_LIVE
    text = script(live())
    assert order(text, "make clean\nmake\n", "./run >all.log", "Start Test Output", "cat all.log", "End Test Output")
    plain = script(live(print_cmds=None, rebuild_cmds=None))
    assert order(plain, "Start Test Output", "./run >all.log", "End Test Output")
    assert "make" not in plain
    with pytest.raises(ScriptUnknown):
        script(live(test_cmds=[]))
    assert "pytest -x" in script(live(), test_command="pytest -x")  # a recipe's command goes before


def test_lives_images_are_called_by_a_rule_where_the_row_names_none() -> None:
    assert image(live()) == "starryzhang/sweb.eval.x86_64.acme_1776_lib-7:latest"
    assert image(live(docker_image="org/x:2")) == "org/x:2"


@pytest.mark.parametrize("field", ["log_parser", "parser"])
def test_lives_parser_of_python_rows(field: str) -> None:
    one = live(**{"log_parser": None, field: "pytest"})
    for semantics in Semantics:
        assert parser_family(semantics, one.repo, one.log_parser) in PARSERS
    assert read_instance(row_of(one)).log_parser == "pytest"


# -- SWE-smith


@pytest.fixture
def subject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Subject:
    """A project whose tests pass."""
    monkeypatch.setenv("PATCHWRIGHT_CACHE", str(tmp_path / "cache"))
    made = make_subject(tmp_path / "clones" / "swesmith__acme__lib.1fd52536")
    write(made.repository, {**FIXED, **TESTED})
    return Subject(made.repository, commit(made.repository, "Good"))


def bug_in(subject: Subject) -> str:
    return subject.diff({"calc/ops.py": str(FIXED["calc/ops.py"]).replace("len(values)", "(len(values) + 1)")})


def smith(subject: Subject, base: str | None, **fields: Any) -> Instance:
    said = {"repo": "swesmith/acme__lib.1fd52536", "instance_id": "acme__lib.1fd52536.lm_1", "image_name": "org/i"}
    return subject.instance(**{**said, "base_commit": base, "patch": bug_in(subject), "test_patch": None, **fields})


def with_the_bug(subject: Subject) -> str:
    """The commit that newer rows name: of a branch with the bug in it."""
    broken = str(FIXED["calc/ops.py"]).replace("len(values)", "(len(values) + 1)")
    git(subject.repository, "checkout", "-q", "-b", "acme__lib.1fd52536.lm_1")
    write(subject.repository, {"calc/ops.py": broken})
    made = commit(subject.repository, "Bug Patch")
    git(subject.repository, "checkout", "-q", "-")
    return made


@pytest.mark.parametrize("newer", [False, True])
async def test_an_agent_begins_with_smiths_bug_and_without_the_commit_before(newer: bool, subject: Subject) -> None:
    """The commit before the bug is the solution."""
    one = smith(subject, with_the_bug(subject) if newer else subject.commit)
    assert (one.schema, one.patch_breaks) == (Schema.SWE_SMITH, True)
    assert read_instance(row_of(one)) == one
    code = await code_of(one, subject.repository.parent, lambda _: None)
    where = Path(code.repository)
    assert "(len(values) + 1)" in git(where, "show", f"{code.commit}:calc/ops.py")
    assert git(where, "rev-list", "--all", "--objects").count("calc/ops.py") == 1
    assert git(where, "rev-list", "--all") == code.commit
    assert not (where / "objects/info/alternates").exists()
    assert code.said.endswith("with the row's bug")
    assert await code_of(one, subject.repository.parent, lambda _: None) == code
    gone = subprocess.run(["git", "-C", str(where), "cat-file", "-e", subject.commit], check=False, capture_output=True)
    assert gone.returncode != 0


async def test_smiths_bug_is_added_once_when_it_is_judged(subject: Subject, tmp_path: Path) -> None:
    one = smith(subject, subject.commit)
    code = await code_of(one, subject.repository.parent, lambda _: None)
    environment = {"repository": code.repository, "base_commit": code.commit}
    fields = {"base_commit": subject.commit, "image_name": "i", "patch": one.patch, "test_patch": ""}
    spec = subject.spec(environment=environment, parser="parse_log_pytest", **fields)
    assert (await judge(spec, "", tmp_path / "bug", unpatched=True)).report["resolved"] is False
    assert (await judge(spec, reversed_patch(one.patch), tmp_path / "fix")).report["resolved"] is True


async def test_smiths_mirror_is_fetched_where_the_row_names_no_commit(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATCHWRIGHT_GITHUB_URL", f"file://{tmp_path}/host")
    (tmp_path / "host/swesmith").mkdir(parents=True)
    subject.repository.rename(tmp_path / "host/swesmith/acme__lib.1fd52536.git")
    moved = Subject(tmp_path / "host/swesmith/acme__lib.1fd52536.git", subject.commit)
    code = await code_of(smith(moved, None), None, lambda _: None)
    assert code.said == "mirror's HEAD with the row's bug"
    assert "(len(values) + 1)" in git(Path(code.repository), "show", f"{code.commit}:calc/ops.py")


async def test_code_that_smiths_bug_doesnt_fit(subject: Subject) -> None:
    other = bug_in(subject).replace("def mean", "def median").replace(" return", " yield")
    with pytest.raises(EnvironmentUnavailable, match="neither fits"):
        await code_of(smith(subject, subject.commit, patch=other), subject.repository.parent, lambda _: None)


def test_rows_with_a_tests_patch_are_no_smith(subject: Subject) -> None:
    one = subject.instance(image_name="org/i", test_patch="diff")
    assert (one.schema, one.patch_breaks) == (Schema.SWE_BENCH_4, False)


# -- SWE-bench Pro


def pro(**fields: Any) -> Instance:
    row = {
        "instance_id": "instance_Acme__Lib-0123abc-vnan",
        "repo": "Acme/Lib",
        "base_commit": "1" * 40,
        "problem_statement": "It breaks.",
        "requirements": "- Keep it short.",
        "interface": "def short(text): ...",
        "before_repo_set_cmd": "git reset --hard\ngit checkout abc -- tests/test_a.py",
        "selected_test_files_to_run": "['tests/test_a.py']",
        "fail_to_pass": "['tests/test_a.py::a']",
        "pass_to_pass": "[]",
        **fields,
    }
    return read_instance({name: value for name, value in row.items() if value is not None})


def test_pros_issue_has_what_its_tests_hang_on() -> None:
    one = pro()
    assert one.schema is Schema.SWE_BENCH_PRO
    told = Task.of(one).issue
    assert told.startswith("It breaks.\n")
    assert order(told, "It breaks.", "Requirements:\n- Keep it short.", "New interfaces introduced:\ndef short")
    assert Task.of(read_instance(row_of(one))).issue == told
    assert Task.of(pro(requirements=None, interface=" ")).issue == "It breaks."
    assert Task.of(live()).issue == "It breaks."


def test_what_pros_issue_shows_is_no_gold() -> None:
    line = "    return shortened_to(text, LONGEST)"
    patch = f"--- a/x.py\n+++ b/x.py\n@@ -1 +1,2 @@\n x\n+{line}\n"
    assert line.strip() in gold_lines(pro(patch=patch))
    assert line.strip() not in gold_lines(pro(patch=patch, requirements=f"Write `{line.strip()}`."))


def test_pros_images_are_called_by_a_rule_where_the_row_names_no_tag() -> None:
    assert image(pro(dockerhub_tag="some.tag")) == "jefzda/sweap-images:some.tag"
    assert image(pro()) == "jefzda/sweap-images:acme.lib-Acme__Lib-0123abc"
    web = pro(repo="element-hq/element-web", instance_id="instance_element-hq__element-web-1-vnan")
    assert image(web) == "jefzda/sweap-images:element-hq.element-element-hq__element-web-1"
    long = pro(instance_id="instance_" + "x" * 180)
    assert len(image(long).partition(":")[2]) == 128
