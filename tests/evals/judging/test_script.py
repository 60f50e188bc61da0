"""The evaluation script: letter by letter in the official form, and what each schema of rows allows."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from evals.datasets import load_dataset
from evals.environments import InstanceEnvironment
from evals.grading.official import cached_wheel, official_modules
from evals.grading.semantics import Semantics
from evals.instance import read_instance
from evals.judging.commands import PROJECTS
from evals.judging.script import ScriptUnknown, eval_script, smith_test_files, smith_tests
from tests.evals.cases import instance, row
from tests.shared_data import SHARED, needs_shared

GOLDEN = Path(__file__).parents[2] / "golden" / "judging"
BASE = "0" * 40
TESTS = """\
diff --git a/tests/admin/test_a.py b/tests/admin/test_a.py
--- a/tests/admin/test_a.py
+++ b/tests/admin/test_a.py
@@ -1 +1 @@
-x = $HOME
+y = `ls`
diff --git a/tests/new b.py b/tests/new b.py
new file mode 100644
--- /dev/null
+++ b/tests/new b.py
@@ -0,0 +1 @@
+z = 1
diff --git a/tests/with space.json b/tests/with space.json
--- a/tests/with space.json
+++ b/tests/with space.json
@@ -1 +1 @@
-1
+2
"""
FIVE = """\
#!/bin/bash
set -uxo pipefail
cd /testbed
git config --global --add safe.directory /testbed
git checkout 0000000000000000000000000000000000000000 tests/a.py
: '>>>>> Start Test Output'
pytest -rA tests/a.py
: '>>>>> End Test Output'
git checkout 0000000000000000000000000000000000000000 tests/a.py
"""
PUBLISHED = {"source": "published"}
official = pytest.mark.skipif(
    not cached_wheel(Semantics.V4).is_file(), reason="swebench 4.1.0 isn't there: scripts/swebench.sh fetches it"
)


def environment(**fields: object) -> InstanceEnvironment:
    said = {"kind": "none", "image": "", "workdir": "/testbed", "repository": "", "base_commit": BASE}
    return InstanceEnvironment(**{**said, **fields})  # type: ignore[arg-type]


def new_row(**fields: object) -> dict[str, object]:
    return row(eval_script=FIVE, log_parser="parse_log_flask", eval_type="pass_and_fail", image="i", **fields)


SCRIPTS = {
    "django-3.2-published": lambda: eval_script(
        instance("django/django", version="3.2", test_patch=TESTS), environment(facts=PUBLISHED)
    ),
    "django-3.2-recipe": lambda: eval_script(
        instance("django/django", version="3.2", test_patch=TESTS),
        environment(setup="export LC_ALL=C.UTF-8", test_command="python -Wa tests/runtests.py"),
    ),
    "flask-recipe-by-5": lambda: eval_script(
        instance(test_patch=TESTS), environment(workdir="/work place"), Semantics.V5
    ),
    "row-of-5": lambda: eval_script(read_instance(new_row()), environment()),
    "row-of-5-elsewhere": lambda: eval_script(
        read_instance(new_row()), environment(workdir="/app", base_commit="1" * 40, setup="export A=1")
    ),
    "live": lambda: eval_script(
        read_instance(row("a/b", test_cmds=["pytest -rA", "true"], test_patch=TESTS)), environment()
    ),
    "smith": lambda: eval_script(
        read_instance(
            {
                "instance_id": "a__b.1",
                "repo": "swesmith/a__b",
                "image_name": "i",
                "FAIL_TO_PASS": ["t/a.py::x"],
                "PASS_TO_PASS": ["t/b c.py::y", "t/a.py::z"],
            }
        ),
        environment(test_command="pytest -rA"),
    ),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_script_is_as_it_was_seen_to_be_right(name: str) -> None:
    assert SCRIPTS[name]() == (GOLDEN / f"{name}.sh").read_text()


@pytest.mark.parametrize("name", SCRIPTS)
def test_bash_can_read_it(name: str) -> None:
    done = subprocess.run(
        [shutil.which("bash") or "bash", "-n"], input=SCRIPTS[name](), text=True, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_patch_with_the_delimiter_in_it_stays_a_patch() -> None:
    patch = TESTS + "EOF_114329324912\nrm -rf /\n"
    script = eval_script(instance(test_patch=patch), environment())
    assert f"<<'EOF_114329324912_'\n{patch}\nEOF_114329324912_\n" in script


def test_a_commit_of_all_files_isnt_shown_whole() -> None:
    """A stand-in's: its text would go into the log, and text that isn't UTF-8 ends the grading."""
    lines = eval_script(instance(), environment(facts={"source": "recipe", "code": "stand-in"})).splitlines()
    assert "git show --stat=80 --format=short" in lines
    assert "git show" not in lines
    assert "git show" in eval_script(instance(), environment(facts={"code": "base commit"})).splitlines()


def test_a_row_that_notes_the_exit_code_by_itself_is_left_alone() -> None:
    script = FIVE.replace("tests/a.py\n: '>>>>> End", "tests/a.py\nSWEBENCH_TEST_EXIT_CODE=$?\n: '>>>>> End")
    made = eval_script(read_instance(new_row() | {"eval_script": script}), environment())
    assert made == script


@needs_shared
@pytest.mark.shared
def test_the_86_real_scripts() -> None:
    """Each script of the real runs, made again from its row: equal to the last byte."""
    rows = load_dataset(str(SHARED / "data" / "swe-bench-verified-500.jsonl.xz")).by_id()
    count = 0
    with tarfile.open(SHARED / "data" / "official_harness_logs.tar.xz") as tar:
        for member in tar:
            place = Path(member.name)
            if place.name != "eval.sh":
                continue
            one = rows[place.parent.name]
            file = tar.extractfile(member)
            assert file is not None
            made = eval_script(one, environment(base_commit=one.base_commit, facts=PUBLISHED))
            assert made == file.read().decode(), one.instance_id
            count += 1
    assert count == 86


@official
@pytest.mark.evals
def test_the_table_is_that_of_the_release() -> None:
    """Command, installation and what goes before, of every version of the twelve projects."""
    specs = official_modules(Semantics.V4)["constants"].MAP_REPO_VERSION_TO_SPECS
    seen = 0
    for repo, project in PROJECTS.items():
        for version, said in specs[repo].items():
            mine = project.of(version)
            theirs = (said["test_cmd"], said["install"], tuple(said.get("eval_commands", ())))
            assert (mine.test, mine.install, mine.before) == theirs, (repo, version)
            seen += 1
    assert seen > 150


@official
@pytest.mark.evals
def test_other_projects_of_the_release() -> None:
    """A Python project that only the full set has, and a project in another language."""
    script = eval_script(instance("pydicom/pydicom", version="2.0", test_patch=TESTS), environment(facts=PUBLISHED))
    assert "\npython -m pip install -e .\ngit checkout" in script
    assert "\npytest -rA tests/admin/test_a.py 'tests/new b.py'\n" in script
    specs = official_modules(Semantics.V4)["constants"].MAP_REPO_VERSION_TO_SPECS["google/gson"]
    version = next(iter(specs))
    gson = eval_script(instance("google/gson", version=version, test_patch=TESTS), environment())
    assert "git apply --verbose --reject - <<" in gson
    commands = gson.partition(": '>>>>> Start Test Output'\n")[2].partition("\n: '>>>>> End")[0].split("\n")
    assert commands == [specs[version]["test_cmd"]] or commands == specs[version]["test_cmd"]


@official
@pytest.mark.evals
def test_what_another_language_lacks_is_said() -> None:
    assets = {"test_patch": [{"path": "a.png", "url": "https://example.invalid/a.png"}]}
    specs = official_modules(Semantics.V4)["constants"].MAP_REPO_VERSION_TO_SPECS
    version = next(iter(specs["chartjs/Chart.js"]))
    with pytest.raises(ScriptUnknown, match="pictures that the row names by address only"):
        eval_script(instance("chartjs/Chart.js", version=version, image_assets=assets), environment())
    with pytest.raises(ScriptUnknown, match="pictures that the row names by address only"):
        eval_script(read_instance(new_row(image_assets=json.dumps(assets))), environment())
    assert eval_script(read_instance(new_row(image_assets='{"patch": []}')), environment())
    version = next(iter(specs["Automattic/wp-calypso"]))
    with pytest.raises(ScriptUnknown, match="by code of its own"):
        eval_script(instance("Automattic/wp-calypso", version=version), environment())


def test_what_is_missing_is_said() -> None:
    with pytest.raises(ScriptUnknown, match=r"neither the row nor .* Name a test_command in a recipe"):
        eval_script(instance("some/thing", test_patch=TESTS), environment())
    with pytest.raises(ScriptUnknown, match="SWE-bench Pro"):
        eval_script(read_instance(row("some/thing", dockerhub_tag="t")), environment())
    smith = {"instance_id": "a__b.1", "repo": "a/b", "image_name": "i", "FAIL_TO_PASS": ["f"], "PASS_TO_PASS": []}
    with pytest.raises(ScriptUnknown, match="SWE-smith"):
        eval_script(read_instance(smith), environment())


def test_files_of_smith_rows() -> None:
    """Their harness runs the files of the tests that the bug breaks, and looks at no others."""
    one = instance(FAIL_TO_PASS=["b.py::x", "a.py::y[::]", "b.py::w"], PASS_TO_PASS=["b.py::z", "c.py::v", "whole"])
    assert smith_test_files(one) == ("b.py", "a.py")
    assert smith_tests(one).pass_to_pass == ("b.py::z",)
    assert smith_tests(instance(FAIL_TO_PASS=["whole"], PASS_TO_PASS=["all"])).pass_to_pass == ("all",)
