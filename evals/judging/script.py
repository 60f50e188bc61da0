"""The evaluation script: puts the tests back, applies the tests' patch, runs the tests between the markers.

A row of the 5.x schema brings its own, which gets what swebench 5.0.2 adds to it. For others it is made here in the
form of 4.1.0: for a published image of a Python project it is that release's own script to the letter. In other
environments the lines that need conda, a network or root are left out, and the environment's own ones are in.

Left out: running it (`judge`).
"""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from evals.grading.logs import END, START
from evals.grading.semantics import GradingFailed, Semantics
from evals.instance import Instance, Schema
from evals.judging.commands import PROJECTS, Project
from evals.judging.patches import directives_of, files_before

if TYPE_CHECKING:
    from evals.environments.base import InstanceEnvironment

TESTBED: Final = "/testbed"
"""Where the published images and the rows' scripts have the checkout."""
_HEAD: Final = ("#!/bin/bash", "set -uxo pipefail")
_CONDA: Final = ("source /opt/miniconda3/bin/activate", "conda activate testbed")
# A stand-in's only commit adds every file: too much for a log, and binary or in any encoding, which ends its grading.
_SHOW_STAND_IN: Final = "git show --stat=80 --format=short"
_DELIMITER: Final = "EOF_114329324912"
_VARIABLE: Final = "SWEBENCH_TEST_EXIT_CODE"
_MADE_BY_CODE: Final = frozenset({"Automattic/wp-calypso"})


class ScriptUnknown(Exception):
    """Nothing says how this instance's tests are run; the message says what is missing and who could say it."""


def eval_script(instance: Instance, environment: InstanceEnvironment, semantics: Semantics | None = None) -> str:
    """The script's text, for bash in the checkout. ScriptUnknown when neither row, environment nor table say how.

    `semantics` 5 also records the tests' exit code in scripts of ours; rows of the 5.x schema always have it.
    """
    if instance.eval_script:
        _refuse_assets(instance)
        lines = [*_setup(environment), *_own(instance, environment)]
    elif instance.schema is Schema.SWE_SMITH:
        lines = _smith(instance, environment)
    else:
        lines = _made(instance, environment)
    if instance.eval_script or semantics is Semantics.V5:
        lines = _recording(lines)
    return "\n".join([*_HEAD, *lines]) + "\n"


def _own(instance: Instance, environment: InstanceEnvironment) -> list[str]:
    """The row's script as 5.0.2 takes it apart, at the place and on the commit that the environment has."""
    lines = [line for line in instance.eval_script.strip().split("\n") if line not in _HEAD]
    if environment.workdir != TESTBED:
        places = {f"cd {TESTBED}", f"git config --global --add safe.directory {TESTBED}"}
        lines = [line.replace(TESTBED, environment.workdir) if line.strip() in places else line for line in lines]
    old, new = instance.base_commit, environment.base_commit
    if old and new and old != new:
        lines = [line.replace(old, new) if line.startswith("git ") else line for line in lines]
    return lines


def _recording(lines: list[str]) -> list[str]:
    """With the tests' own exit status noted behind the end marker."""
    if any(line.startswith(f"{_VARIABLE}=") for line in lines):
        return lines
    for place, line in enumerate(lines):
        if END in line:
            note = f'echo ">>>>> Test Exit Code: ${_VARIABLE}"'
            return [*lines[:place], f"{_VARIABLE}=$?", line, note, *lines[place + 1 :]]
    return lines


def _setup(environment: InstanceEnvironment) -> list[str]:
    return [environment.setup] if environment.setup else []


def _published(environment: InstanceEnvironment) -> bool:
    return environment.facts.get("source") == "published"


def _made(instance: Instance, environment: InstanceEnvironment) -> list[str]:
    project, specs = PROJECTS.get(instance.repo), None
    if project is None and (specs := _official_specs(instance, environment)) is not None:
        if not specs["python"]:
            return _other_language(instance, environment, specs)
        project = Project(specs["test_cmd"], specs.get("install", ""), tuple(specs.get("eval_commands", ())))
    if project is None and instance.schema is Schema.SWE_BENCH_LIVE and not environment.test_command:
        return _live(instance, environment)
    project = (project or Project("", "")).of(instance.version)
    published = _published(environment)
    conda = list(_CONDA) if published else []
    place, commit = shlex.quote(environment.workdir), environment.base_commit
    return [
        *conda,
        f"cd {place}",
        *(project.before if published else ()),
        *_setup(environment),
        f"git config --global --add safe.directory {place}",
        f"cd {place}",
        "git status",
        _SHOW_STAND_IN if environment.facts.get("code") == "stand-in" else "git show",
        f"git -c core.fileMode=false diff {commit}",
        *conda,
        *([project.install] if published and project.install else []),
        *_tested(instance, commit, "git apply -v -", [], _commands(instance, environment, project.test)),
    ]


def _other_language(instance: Instance, environment: InstanceEnvironment, specs: dict[str, Any]) -> list[str]:
    """4.1.0's script for projects that aren't in Python."""
    _refuse_assets(instance)
    commands = [environment.test_command] if environment.test_command else _as_list(specs["test_cmd"])
    commit, build, place = environment.base_commit, _as_list(specs.get("build")), shlex.quote(environment.workdir)
    return [
        f"cd {place}",
        *_setup(environment),
        f"git config --global --add safe.directory {place}",
        f"cd {place}",
        *_tested(instance, commit, "git apply --verbose --reject -", build, commands),
    ]


def _live(instance: Instance, environment: InstanceEnvironment) -> list[str]:
    """SWE-bench Live: what is built again, then commands that test everything, then those that print the log.

    Its harness reads what the last ones print, where there are any.
    """
    named = {name: _as_list(instance.rest.get(name)) for name in ("rebuild_cmds", "test_cmds", "print_cmds")}
    tests = named["test_cmds"] or _as_list(instance.rest.get("test_cmd"))
    if not tests:
        raise ScriptUnknown(_missing(instance))
    build, printed = named["rebuild_cmds"], named["print_cmds"]
    if printed:
        build, tests = [*build, *tests], printed
    commit, place = environment.base_commit, shlex.quote(environment.workdir)
    return [
        f"cd {place}",
        *_setup(environment),
        f"git config --global --add safe.directory {place}",
        f"cd {place}",
        *_tested(instance, commit, "git apply -v -", build, tests),
    ]


def _refuse_assets(instance: Instance) -> None:
    """SWE-bench Multimodal: files that can't be in a patch. The field is JSON in a string, or an object."""
    value = instance.rest.get("image_assets")
    try:
        said = json.loads(value) if isinstance(value, str) and value else value
    except ValueError:
        return
    if isinstance(said, dict) and said.get("test_patch"):
        raise ScriptUnknown(
            f"{instance.instance_id}: its tests compare with pictures that the row names by address only, and nothing "
            "is fetched while judging, so its verdict couldn't equal the official one"
        )


def _tested(instance: Instance, commit: str, apply: str, build: list[str], commands: list[str]) -> list[str]:
    """From the tests as they were, over the tests' patch and the tests, to the tests as they were."""
    files = " ".join(map(shlex.quote, files_before(instance.test_patch)))
    reset = f"git checkout {commit} {files}"
    if not files and apply.endswith("--reject -"):
        reset = 'echo "No test files to reset"'
    delimiter = _DELIMITER
    while delimiter in instance.test_patch.split("\n"):
        delimiter += "_"
    patch = [f"{apply} <<'{delimiter}'", instance.test_patch, delimiter] if instance.test_patch else []
    return [reset, *patch, *build, f": '{START}'", *commands, f": '{END}'", reset]


def _commands(instance: Instance, environment: InstanceEnvironment, known: str) -> list[str]:
    """The test commands with the files to test."""
    command = environment.test_command or known
    if not command:
        raise ScriptUnknown(_missing(instance))
    return [" ".join([command, *map(shlex.quote, directives_of(instance))])]


def _missing(instance: Instance) -> str:
    if instance.schema is Schema.SWE_BENCH_PRO:
        return (
            f"{instance.instance_id} is a row of SWE-bench Pro, whose scripts and parsers lie in files that its rows "
            "don't bring: name a test command in a recipe, and a parser with --log-parser"
        )
    return (
        f"{instance.instance_id}: nothing says how {instance.repo} is tested: neither the row nor swebench 4.1.0's "
        "table does. Name a test_command in a recipe; languages but Python also need scripts/swebench.sh once"
    )


def _smith(instance: Instance, environment: InstanceEnvironment) -> list[str]:
    """SWE-smith: the tests are there already, since the bug is what was added; they are put back and run by file."""
    command = environment.test_command or (_as_list(instance.rest.get("test_cmd")) or [""])[0]
    if not command:
        raise ScriptUnknown(
            f"{instance.instance_id} is a row of SWE-smith, which names no test command: name one in a recipe"
        )
    files = smith_test_files(instance)
    reset = f"git checkout {environment.base_commit} -- {' '.join(map(shlex.quote, files))}"
    run = " ".join([command, *map(shlex.quote, files)])
    place = [f"cd {shlex.quote(environment.workdir)}", *_setup(environment)]
    return [*place, *([reset] if files else []), f": '{START}'", run, f": '{END}'"]


def smith_test_files(instance: Instance) -> tuple[str, ...]:
    """The files that the tests lie in which the bug breaks, by their ids (`path::test`): its harness runs no others."""
    return tuple(dict.fromkeys(test.partition("::")[0] for test in instance.fail_to_pass if "::" in test))


def smith_tests(instance: Instance) -> Instance:
    """A row of SWE-smith with those tests to keep that its harness looks at: those that lie in the files it runs."""
    files = smith_test_files(instance)
    kept = tuple(test for test in instance.pass_to_pass if not files or test.startswith(files))
    return replace(instance, pass_to_pass=kept)


def _official_specs(instance: Instance, environment: InstanceEnvironment) -> dict[str, Any] | None:
    """What 4.1.0 knows of a project that our table lacks; None where it knows nothing, or isn't there."""
    from evals.grading.official import official_modules

    try:
        constants = official_modules(Semantics.V4)["constants"]
    except GradingFailed:
        return None  # without a command of the row or the environment either, `_commands` says what is missing
    found = constants.MAP_REPO_VERSION_TO_SPECS.get(instance.repo, {}).get(instance.version)
    if not found or "test_cmd" not in found:
        return None
    if instance.repo in _MADE_BY_CODE and not environment.test_command:
        raise ScriptUnknown(
            f"{instance.instance_id}: swebench 4.1.0 makes the test commands of {instance.repo} by code of its own, "
            "which isn't here: name a test_command in a recipe"
        )
    return {**found, "python": constants.MAP_REPO_TO_EXT[instance.repo] == "py"}


def _as_list(commands: object) -> list[str]:
    if not commands:
        return []
    return [commands] if isinstance(commands, str) else [str(one) for one in commands]  # type: ignore[attr-defined]
