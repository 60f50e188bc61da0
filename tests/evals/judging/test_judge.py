"""Verdicts in real sandboxes of the kind `none`: patches of all sorts, hostile ones, limits, and no verdict at all."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from evals.grading.semantics import Semantics
from evals.judging.base import OFFICIAL_FILES, JudgingFailed, official_error
from evals.judging.judge import judge
from evals.judging.reversing import reversed_patch
from tests.agent.repos import commit, write
from tests.evals.judging.subject import F2P, FIXED, P2P, PASSED, TESTED, Subject, make_subject, quick

GOLDEN = Path(__file__).parents[2] / "golden" / "judging"


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return make_subject(tmp_path_factory.mktemp("subject") / "repo")


def output(folder: Path) -> str:
    return (folder / "test_output.txt").read_text()


def log(folder: Path) -> str:
    return (folder / "run_instance.log").read_text()


# -- verdicts


@pytest.mark.parametrize("semantics", Semantics)
async def test_gold_is_resolved(subject: Subject, semantics: Semantics, tmp_path: Path) -> None:
    judged = await judge(subject.spec(semantics=semantics), subject.gold, tmp_path)
    assert judged.report["resolved"] is True
    assert judged.report["tests_status"]["FAIL_TO_PASS"] == {"success": F2P, "failure": []}
    assert judged.report["tests_status"]["PASS_TO_PASS"] == {"success": P2P, "failure": []}
    assert (judged.swebench, judged.doubt) == (semantics.release, "")
    assert 0 < judged.seconds < 120
    assert json.loads((tmp_path / "report.json").read_text()) == {"pallets__flask-1": judged.report}
    assert (tmp_path / "patch.diff").read_text() == subject.gold
    assert not official_error(output(tmp_path))
    assert (">>>>> Test Exit Code: 0" in output(tmp_path)) is (semantics is Semantics.V5)


async def test_without_a_patch_it_is_unresolved(subject: Subject, tmp_path: Path) -> None:
    judged = await judge(subject.spec(), "", tmp_path, unpatched=True)
    assert judged.report["resolved"] is False
    assert judged.report["tests_status"]["FAIL_TO_PASS"]["failure"] == F2P
    assert judged.report["tests_status"]["PASS_TO_PASS"]["success"] == P2P


async def test_a_patch_that_breaks_what_worked(subject: Subject, tmp_path: Path) -> None:
    wrong = str(FIXED["calc/ops.py"]).replace("return sum(values)\n", "return 0\n")
    judged = await judge(subject.spec(), subject.diff({"calc/ops.py": wrong}), tmp_path)
    assert judged.report["resolved"] is False
    assert judged.report["tests_status"]["PASS_TO_PASS"]["failure"] == P2P
    assert judged.report["tests_status"]["FAIL_TO_PASS"]["success"] == F2P


async def test_an_empty_patch_is_not_run(subject: Subject, tmp_path: Path) -> None:
    judged = await judge(subject.spec(), "", tmp_path)
    assert judged.report == {
        "patch_is_None": True, "patch_exists": False, "patch_successfully_applied": False, "resolved": False,
    }  # fmt: skip
    assert {file.name for file in tmp_path.iterdir()} == set(OFFICIAL_FILES)
    assert judged.seconds < 1


async def test_an_empty_patch_is_run_where_the_row_says_so(subject: Subject, tmp_path: Path) -> None:
    judged = await judge(quick(subject, grade_empty_patch=True), "", tmp_path)
    assert judged.report["resolved"] is True


@pytest.mark.parametrize("semantics", Semantics)
async def test_a_patch_that_wont_apply(subject: Subject, semantics: Semantics, tmp_path: Path) -> None:
    patch = subject.gold.replace("len(values) + 1", "len(others) + 1").replace("def total", "def sum_up")
    judged = await judge(subject.spec(semantics=semantics), patch.replace("index", "xedni"), tmp_path)
    assert judged.report["patch_exists"] is True
    assert judged.report["patch_successfully_applied"] is False
    assert judged.report["resolved"] is False
    assert "tests_status" not in judged.report
    assert judged.doubt == ""
    assert output(tmp_path).startswith(">>>>> Patch Apply Failed:\n")
    assert official_error(output(tmp_path))
    tries = re.findall(r"Failed to apply patch to container: (.*)", log(tmp_path))
    five = ["git apply --verbose", "git apply --verbose --3way", "git apply --verbose --reject"]
    tool = "patch --batch --forward --fuzz=5 -p1 -i" if semantics is Semantics.V5 else "patch --batch --fuzz=5 -p1 -i"
    assert tries == [one for one in five if semantics is Semantics.V5 or "3way" not in one] + [tool]
    assert {file.name for file in tmp_path.iterdir()} == set(OFFICIAL_FILES)


async def test_each_official_file(subject: Subject, tmp_path: Path) -> None:
    """The log and the script as they were seen to be right, free of times and of places of this machine."""
    patch = subject.diff({"calc/ops.py": FIXED["calc/ops.py"], "tests/conftest.py": "x = 1\n"})
    await judge(quick(subject, "echo PASSED; : "), patch, tmp_path)
    for name in ("run_instance.log", "eval.sh"):
        text = (tmp_path / name).read_text()
        text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}|\d+\.\d\d seconds", "TIME", text)
        text = re.sub(r"/\S*/patchwright-work-[\w-]+", "/testbed", text).replace(subject.commit, "BASE")
        assert text.rstrip("\n") == (GOLDEN / f"one-{name}").read_text().rstrip("\n"), name
    assert output(tmp_path).endswith(
        "+ : '>>>>> Start Test Output'\n+ echo PASSED\nPASSED\n+ : tests/test_new.py tests/test_ops.py\n"
        f"+ : '>>>>> End Test Output'\n+ git checkout {subject.commit} tests/test_ops.py\nUpdated 1 path from eb7c047\n"
    )


async def test_an_earlier_try_leaves_nothing(subject: Subject, tmp_path: Path) -> None:
    for name in OFFICIAL_FILES:
        (tmp_path / name).write_text("of an earlier try")
    with pytest.raises(JudgingFailed):
        await judge(quick(subject, environment={"repository": "/nowhere"}), subject.gold, tmp_path)
    assert not any("earlier" in file.read_text() for file in tmp_path.iterdir())
    assert not (tmp_path / "report.json").exists()


# -- rows of other schemas


async def test_a_row_of_5_is_run_by_its_own_script(subject: Subject, tmp_path: Path) -> None:
    script = f"""\
#!/bin/bash
set -uxo pipefail
cd /testbed
git checkout {subject.commit} tests/test_ops.py
: '>>>>> Start Test Output'
{PASSED}
false
: '>>>>> End Test Output'
"""
    row = {"eval_script": script, "log_parser": "parse_log_flask", "eval_type": "pass_and_fail", "image": ""}
    judged = await judge(quick(subject, "not run", **row), subject.gold, tmp_path)
    assert judged.swebench == "5.0.2"
    assert ">>>>> Test Exit Code: 1" in output(tmp_path)
    assert judged.report["resolved"] is False, "the command failed, and the log knows of no failure"
    assert "tests_status" not in judged.report


async def test_smith_begins_with_the_bug(tmp_path: Path) -> None:
    """Their rows' patch makes the bug; the fix is its reverse, and the tests that are there decide."""
    subject = make_subject(tmp_path / "repo")
    write(subject.repository, {**FIXED, **TESTED})
    good = commit(subject.repository, "Good")
    sound = Subject(subject.repository, good)
    bug = sound.diff({"calc/ops.py": str(FIXED["calc/ops.py"]).replace("len(values)", "(len(values) + 1)")})
    fix = reversed_patch(bug)
    fields = {"base_commit": None, "image_name": "i", "patch": bug, "test_patch": ""}
    spec = sound.spec(parser="parse_log_pytest", **fields)
    assert spec.instance.patch_breaks
    cheat = sound.diff({"tests/test_ops.py": "def test_mean():\n    pass\n\ndef test_total():\n    pass\n"})
    assert (await judge(spec, "", tmp_path / "bug", unpatched=True)).report["resolved"] is False
    assert (await judge(spec, fix, tmp_path / "fix")).report["resolved"] is True
    assert (await judge(spec, cheat, tmp_path / "cheat")).report["resolved"] is False


# -- hostile patches


async def test_tests_of_the_patch_dont_count(subject: Subject, tmp_path: Path) -> None:
    """Files that the tests' patch changes or adds are the tests' own, whatever the patch put there."""
    cheat = subject.diff(
        {
            "tests/test_ops.py": "def test_mean():\n    pass\n\ndef test_total():\n    pass\n",
            "tests/test_new.py": "def test_one():\n    pass\n",
        }
    )
    judged = await judge(subject.spec(), cheat, tmp_path)
    assert judged.report["tests_status"]["FAIL_TO_PASS"]["failure"] == F2P
    assert judged.report["tests_status"]["PASS_TO_PASS"]["success"] == P2P
    assert "Note: the patch touches files of the tests, which are put back: tests/test_new.py" in log(tmp_path)


async def test_a_folder_in_the_way_of_a_test(subject: Subject, tmp_path: Path) -> None:
    fixed = subject.diff({"calc/ops.py": FIXED["calc/ops.py"], "tests/test_new.py/x.py": "x"})
    assert (await judge(subject.spec(), fixed, tmp_path)).report["resolved"] is True


async def test_a_link_in_the_place_of_the_tests_folder(subject: Subject, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "test_new.py").write_text("mine")
    lines = subject.diff(dict.fromkeys(("tests/test_ops.py", "tests/conftest.py")))
    link = (
        "diff --git a/tests b/tests\nnew file mode 120000\n--- /dev/null\n+++ b/tests\n@@ -0,0 +1 @@\n"
        f"+{outside}\n\\ No newline at end of file\n"
    )
    judged = await judge(subject.spec(), lines + link + subject.gold, tmp_path / "judged")
    assert [file.name for file in outside.iterdir()] == ["test_new.py"]
    assert (outside / "test_new.py").read_text() == "mine"
    assert judged.report["resolved"] is True, "the tests' folder is put back, and the source is mended"


HOOK = "#!/bin/sh\ntouch MARK\n"
CONFIG = (
    '[core]\n\tfsmonitor = touch MARK; false\n[filter "evil"]\n\tsmudge = touch MARK; cat\n\tclean = touch MARK; cat\n'
)


def loose(name: str, text: str) -> str:
    """A new file in a form that only `patch` takes: a hunk of another file doesn't fit by git's strict rules."""
    body = "".join(f"+{line}\n" for line in text.splitlines())
    head = f"diff --git a/{name} b/{name}\nnew file mode 100755\n--- /dev/null\n+++ b/{name}\n"
    return f"{head}@@ -0,0 +1,{len(text.splitlines())} @@\n{body}"


FUZZY = (
    "--- a/calc/ops.py\n+++ b/calc/ops.py\n@@ -1,5 +1,5 @@\n def mean(numbers):\n"
    "-    return sum(values) / (len(values) + 1)\n+    return sum(values) / len(values)\n \n \n def total(values):\n"
)
"""Its context fits with a fuzz only, which git doesn't have."""


@pytest.mark.parametrize("semantics", Semantics)
@pytest.mark.parametrize("nested", ["", "calc/"])
async def test_nothing_is_left_for_git(subject: Subject, semantics: Semantics, nested: str, tmp_path: Path) -> None:
    """A patch that only the tool `patch` takes writes hooks, settings and attributes; git runs none of them."""
    mark = tmp_path / "mark"
    hook, config = HOOK.replace("MARK", str(mark)), CONFIG.replace("MARK", str(mark))
    patch = (
        FUZZY
        + loose(".gitattributes", "* filter=evil\n")
        + "".join(loose(f"{nested}.git/hooks/{name}", hook) for name in ("post-checkout", "post-index-change"))
        + loose(f"{nested}.git/evil", config)
    )
    command = f"cat .git/hooks/post-checkout {nested}.git/evil; git log --oneline; git config -l --local; {PASSED}"
    judged = await judge(quick(subject, command, semantics=semantics), patch, tmp_path / "judged")
    assert ">>>>> Applied Patch:\npatching file calc/ops.py" in log(tmp_path / "judged")
    assert not mark.exists()
    assert re.search(r"\+ git log --oneline\n[0-9a-f]+ .*Start\n", output(tmp_path / "judged"))
    assert "touch" not in output(tmp_path / "judged").partition("Start Test Output")[2].replace(command, "")
    assert judged.report["resolved"] is True
    assert "Note: the patch touches files that steer how tests run: .gitattributes" in log(tmp_path / "judged")


@pytest.mark.parametrize("semantics", Semantics)
async def test_a_patch_of_gits_own_settings_is_no_patch(subject: Subject, semantics: Semantics, tmp_path: Path) -> None:
    """The file is there while git applies, which refuses it, and not while `patch` does, which then finds nothing."""
    patch = "--- a/.git/config\n+++ b/.git/config\n@@ -1,1 +1,3 @@\n [core]\n+\tfsmonitor = touch /nowhere\n+\tx = y\n"
    judged = await judge(quick(subject, semantics=semantics), patch, tmp_path)
    assert judged.report["patch_successfully_applied"] is False


@pytest.mark.parametrize("semantics", Semantics)
async def test_nothing_is_written_outside(subject: Subject, semantics: Semantics, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    link = (
        "diff --git a/way b/way\nnew file mode 120000\n--- /dev/null\n+++ b/way\n@@ -0,0 +1 @@\n"
        f"+{outside}\n\\ No newline at end of file\n"
    )
    up = "/".join([".."] * 12) + str(outside)
    patches = [
        link + loose("way/in", "x\n"),
        loose(f"{up}/up", "x\n"),
        FUZZY + link + loose("way/in", "x\n"),
        FUZZY + loose(f"{up}/up", "x\n"),
        FUZZY + loose(f"/{outside}/absolute", "x\n"),
    ]
    for number, patch in enumerate(patches):
        await judge(quick(subject, semantics=semantics), patch, tmp_path / str(number))
        assert list(outside.iterdir()) == []


async def test_a_conftest_is_noted(subject: Subject, tmp_path: Path) -> None:
    patch = subject.diff({"calc/conftest.py": "", "sitecustomize.py": "import os\n"})
    await judge(quick(subject), patch, tmp_path)
    assert "steer how tests run: calc/conftest.py, sitecustomize.py" in log(tmp_path)


async def test_text_that_no_file_can_hold(subject: Subject, tmp_path: Path) -> None:
    judged = await judge(quick(subject), "half a pair: \ud83d\n", tmp_path)
    assert judged.report["patch_successfully_applied"] is False
    assert (tmp_path / "patch.diff").read_bytes() == b"half a pair: ?\n"


# -- what tests do


async def test_the_time_limit(subject: Subject, tmp_path: Path) -> None:
    """Both markers are there and all tests passed: a run that was stopped is none, now and when it is graded again."""
    spec = quick(subject, f"{PASSED}; echo \"+ : '>>>>> End Test Output'\"; sleep 300; : ", seconds=1)
    judged = await judge(spec, subject.gold, tmp_path)
    assert judged.report["resolved"] is False
    assert judged.report["patch_successfully_applied"] is False
    assert output(tmp_path).endswith("\n\nTimeout error: 1 seconds exceeded.\n>>>>> Tests Timed Out\n")
    assert official_error(output(tmp_path))
    assert judged.doubt == "the log shows the harness's sign tests_timed_out: the patch may be the cause as well"
    assert judged.seconds < 60


async def test_output_is_bounded(subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evals.judging.testing.MAX_LOG", 1 << 20)
    monkeypatch.setattr("evals.judging.testing.KEPT_OF_TOO_LONG", 1 << 16)
    monkeypatch.setattr("evals.judging.testing.LOOK_EVERY", 0.05)
    command = f"{PASSED}; for i in $(seq 1000); do head -c 100000 /dev/zero | tr '\\0' x; sleep 0.05; done; : "
    judged = await judge(quick(subject, command), subject.gold, tmp_path)
    assert judged.report["resolved"] is False
    assert (tmp_path / "test_output.txt").stat().st_size < (1 << 16) + 200
    assert ">>>>> Tests Errored: more than 1 MB of output" in output(tmp_path)
    assert judged.doubt == "the tests were stopped because of what they wrote"
    assert judged.seconds < 30


async def test_more_output_than_a_call_of_the_sandbox_may_give(subject: Subject, tmp_path: Path) -> None:
    command = f"head -c 20000000 /dev/zero | tr '\\0' x; echo; {PASSED}"
    judged = await judge(quick(subject, command), subject.gold, tmp_path)
    assert judged.report["resolved"] is True
    assert (tmp_path / "test_output.txt").stat().st_size > 20_000_000


async def test_output_that_is_no_text(subject: Subject, tmp_path: Path) -> None:
    """The official harness stops there, without a report."""
    judged = await judge(quick(subject, f"{PASSED}; printf '\\377'; : "), subject.gold, tmp_path)
    assert judged.report["resolved"] is False
    assert "isn't UTF-8" in log(tmp_path)
    assert b"\xff" in (tmp_path / "test_output.txt").read_bytes()


async def test_tests_that_take_their_output_away(subject: Subject, tmp_path: Path) -> None:
    command = f"{PASSED}; rm -r $(dirname $(readlink -f /proc/$$/fd/1)); : "
    judged = await judge(quick(subject, command), subject.gold, tmp_path)
    assert judged.report["resolved"] is False
    assert ">>>>> Tests Errored: the tests' output is gone" in output(tmp_path)


async def test_what_is_left_running_doesnt_hold_it_up(subject: Subject, tmp_path: Path) -> None:
    judged = await judge(quick(subject, f"sleep 100 & {PASSED}"), subject.gold, tmp_path)
    assert judged.report["resolved"] is True
    assert judged.seconds < 60


async def test_the_tests_variables(subject: Subject, tmp_path: Path) -> None:
    """Those of the environment; none of those that our sandboxes set for an agent; git can't reach the user's."""
    env = {"MINE": "a b", "PAGER": "less"}
    await judge(quick(subject, f"env; {PASSED}", environment={"env": env}), subject.gold, tmp_path)
    found = dict(re.findall(r"^(\w+)=(.*)$", output(tmp_path).partition("Start Test")[2], re.MULTILINE))
    assert (found["MINE"], found["PAGER"], found["PIP_NO_INDEX"]) == ("a b", "less", "1")
    assert not {"PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "TERM", "EDITOR"} & set(found)
    assert "patchwright-state" in found["GIT_CONFIG_GLOBAL"]
