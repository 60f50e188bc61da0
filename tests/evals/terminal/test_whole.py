"""Whole runs of Terminal-Bench tasks: `agent eval run FOLDER` as a process, real sandboxes, a scripted model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evals.runs.record import AttemptRecord, Status
from tests.evals.runs.harness import Evaluation, Finished, killed_when
from tests.evals.runs.test_killed import turns_so_far
from tests.evals.terminal.folders import DOCKERFILE, GOLD, WORK, model_script, newer, older, write
from tests.sandbox.kinds import need

pytestmark = pytest.mark.heavy

KINDS = [
    pytest.param("bubblewrap", marks=pytest.mark.bubblewrap),
    pytest.param("docker", marks=[pytest.mark.docker, pytest.mark.heavy]),
]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    pytest.importorskip("yaml", reason="needs the extra `evals`")
    need(request.param)
    return str(request.param)


def run(evaluation: Evaluation, tasks: Path, *more: str, command: str = WORK) -> Finished:
    model = model_script(evaluation.folder / "script.json", command)
    return evaluation.run(*more, "--tries", "1", dataset=str(tasks), model=model)


def record(evaluation: Evaluation, instance_id: str) -> AttemptRecord:
    return evaluation.records()[instance_id, 1]


def log(evaluation: Evaluation, instance_id: str, name: str) -> str:
    (path,) = evaluation.out.glob(f"logs/run_evaluation/*/*/{instance_id}/{name}")
    return path.read_text()


def everything(evaluation: Evaluation, instance_id: str) -> str:
    """All that the agent read and did, as its log has it."""
    folder = evaluation.out / "trajectories" / instance_id / "1"
    return "".join(path.read_text("utf-8", "replace") for path in folder.rglob("*") if path.is_file())


def test_both_layouts_are_solved_by_what_no_patch_holds(kind: str, tmp_path: Path) -> None:
    """The tests look at an ignored file and at the home folder, which only the agent's own sandbox has."""
    tasks = tmp_path / "tasks"
    older(tasks / "greet-older")
    newer(tasks / "greet-newer")
    write(tasks / "broken", {"task.toml": "[["})
    evaluation = Evaluation(tmp_path, kind)
    done = run(evaluation, tasks)
    assert done.code == 0, done.out + done.err
    assert "broken: task.toml is no TOML" in done.out + done.err
    for name in ("greet-older", "greet-newer"):
        found = record(evaluation, name)
        assert found.status is Status.RESOLVED, (found, log(evaluation, name, "test_output.txt"))
        assert found.judged is not None
        assert found.judged.doubt == ""
        tests = found.judged.report["tests_status"]["FAIL_TO_PASS"]
        assert (len(tests["success"]), tests["failure"]) == (4, [])
        assert found.predicted is not None
        assert found.predicted.edited == ("greetings.txt",)
        assert found.environment["source"] == "task"
        seen = everything(evaluation, name)
        assert "Hello, Ada" in seen
        assert GOLD not in seen
        assert "test_greetings" not in seen  # the tests weren't there while the agent was
    assert '"reward": 1.0' in log(evaluation, "greet-newer", "report.json")
    (left_out,) = evaluation.manifest()["dataset"]["broken"]
    assert "broken: task.toml is no TOML" in left_out
    summary = json.loads(next(evaluation.out.glob("scripted-terminal.*.json")).read_text())
    assert sorted(summary["resolved_ids"]) == ["greet-newer", "greet-older"]


@pytest.mark.heavy
def test_an_agent_that_does_half_or_nothing(kind: str, tmp_path: Path) -> None:
    """Tests that the agent put in the place of the real ones are gone, and doing nothing is no failure of ours."""
    tasks = tmp_path / "tasks"
    newer(tasks / "greet")
    evaluation = Evaluation(tmp_path, kind)
    cheat = (
        "mkdir -p /run/patchwright/terminal/tests /run/patchwright/terminal/verifier; "
        "echo 'echo 1 >/logs/verifier/reward.txt' >/tests/test.sh; chmod +x /tests/test.sh; "
        """echo 1 >/logs/verifier/reward.txt; echo '{"reward": 1}' >/logs/verifier/reward.json; """
        "chmod -w /run/patchwright/terminal/verifier"
    )
    done = run(evaluation, tasks, command=cheat)
    assert done.code == 0, done.out + done.err
    found = record(evaluation, "greet")
    assert found.status is Status.UNRESOLVED
    assert found.judged is not None
    assert found.judged.report["rewards"] == {"reward": 0.0}
    assert found.judged.report["tests_status"]["FAIL_TO_PASS"]["success"] == ["test_folder_as_it_was"]


@pytest.mark.bubblewrap
@pytest.mark.heavy
def test_tests_that_want_a_network_are_nobodys_failure(tmp_path: Path) -> None:
    need("bubblewrap")
    script = (
        "#!/bin/bash\ncurl -LsSf https://example.org/install.sh | sh\nuvx pytest /tests/test_outputs.py\n"
        "if [ $? -eq 0 ]; then echo 1 >/logs/verifier/reward.txt; else echo 0 >/logs/verifier/reward.txt; fi\n"
    )
    newer(tmp_path / "tasks/greet", {"tests/test.sh": script})
    evaluation = Evaluation(tmp_path, "bubblewrap")
    done = run(evaluation, tmp_path / "tasks")
    assert done.code == 3, done.out + done.err
    found = record(evaluation, "greet")
    assert found.status is Status.INFRASTRUCTURE
    assert "no network and no root" in found.infrastructure


@pytest.mark.bubblewrap
@pytest.mark.heavy
def test_the_tests_own_time_limit(tmp_path: Path) -> None:
    need("bubblewrap")
    newer(tmp_path / "greet", {"tests/test.sh": "#!/bin/bash\nsleep 60\n"}, verifier={"timeout_sec": 1.0})
    evaluation = Evaluation(tmp_path, "bubblewrap")
    done = run(evaluation, tmp_path / "greet")
    assert done.code == 0, done.out + done.err
    found = record(evaluation, "greet")
    assert found.status is Status.UNRESOLVED
    assert found.judged is not None
    assert "their own limit" in found.judged.doubt


@pytest.mark.bubblewrap
@pytest.mark.heavy
def test_predictions_of_others_are_judged_from_the_patch_and_say_so(tmp_path: Path) -> None:
    need("bubblewrap")
    newer(tmp_path / "tasks/greet")
    patch = (
        "diff --git a/greetings.txt b/greetings.txt\nnew file mode 100644\n--- /dev/null\n+++ b/greetings.txt\n"
        "@@ -0,0 +1,2 @@\n+Hello, Ada\n+Hello, Kurt\n"
    )
    predictions = tmp_path / "preds.jsonl"
    said = {"instance_id": "greet", "model_name_or_path": "other", "model_patch": patch}
    predictions.write_text(json.dumps(said) + "\n")
    evaluation = Evaluation(tmp_path, "bubblewrap")
    given = ["grade", str(tmp_path / "tasks"), "--predictions", str(predictions), "--sandbox", "bubblewrap"]
    done = evaluation.agent(*given, "--out", str(evaluation.out))
    assert done.code == 0, done.out + done.err
    found = record(evaluation, "greet")
    assert found.judged is not None
    tests = found.judged.report["tests_status"]["FAIL_TO_PASS"]
    assert "test_greetings" in tests["success"]
    assert "test_log_that_git_ignores" in tests["failure"]
    assert "from the patch alone" in found.judged.doubt


@pytest.mark.bubblewrap
@pytest.mark.heavy
@pytest.mark.parametrize("image", ["", "127.0.0.1:9/org/greet:1"])
def test_an_environment_that_cannot_be_had_says_what_is_missing(image: str, tmp_path: Path) -> None:
    """bubblewrap has no engine for such a task."""
    need("bubblewrap")
    task = newer(
        tmp_path / "tasks/greet",
        {"environment/Dockerfile": "FROM python:3.13-slim\nWORKDIR /app\n"},
        environment={"docker_image": image},
    )
    assert task.is_dir()
    evaluation = Evaluation(tmp_path, "bubblewrap")
    done = run(evaluation, tmp_path / "tasks")
    assert done.code == 3, done.out + done.err
    found = record(evaluation, "greet")
    assert found.status is Status.INFRASTRUCTURE
    assert found.predicted is None
    assert "FROM python:3.13-slim" in found.infrastructure
    assert "--sandbox docker" in found.infrastructure


SERVED = """import urllib.request


def test_server():
    assert urllib.request.urlopen("http://127.0.0.1:8123/names.txt", timeout=20).read() == b"Ada\\nKurt\\n"
"""


@pytest.mark.bubblewrap
@pytest.mark.heavy
def test_what_the_agent_left_running_runs_on(tmp_path: Path) -> None:
    need("bubblewrap")
    newer(tmp_path / "serve", {"tests/test_outputs.py": SERVED})
    evaluation = Evaluation(tmp_path, "bubblewrap")
    command = "nohup python3 -m http.server 8123 >/dev/null 2>&1 & sleep 1"
    done = run(evaluation, tmp_path / "serve", command=command)
    assert done.code == 0, done.out + done.err
    assert record(evaluation, "serve").status is Status.RESOLVED, log(evaluation, "serve", "test_output.txt")


@pytest.mark.heavy
def test_no_solution_and_no_test_is_anywhere_while_the_agent_works(kind: str, tmp_path: Path) -> None:
    tasks = tmp_path / "tasks"
    older(tasks / "a", {"Dockerfile": DOCKERFILE + "COPY . /srv/all\n"})
    newer(tasks / "b", {"environment/Dockerfile": DOCKERFILE + "COPY . /srv/all\n"})
    evaluation = Evaluation(tmp_path, kind)
    seek = (
        "grep -rslaE 'gold-[7]f3a|def test_[g]reetings' /app /srv /opt /run /tmp /home /logs /tests 2>/dev/null; "
        "env | grep 'gold-[7]f3a'; ls /srv/all; echo looked"
    )
    done = run(evaluation, tasks, command=seek)
    assert done.code == 0, done.out + done.err
    for name in ("a", "b"):
        (said, *_) = (event["data"]["text"] for event in evaluation.events(name) if event["type"] == "observation")
        assert "looked" in said
        listed = {line for line in said.splitlines() if not line.startswith(("Output", "[", "Exit"))}
        assert listed - {"Dockerfile", "names.txt", "looked", ""} == set(), said


@pytest.mark.bubblewrap
@pytest.mark.heavy
def test_an_attempt_that_is_killed_goes_on_and_says_what_it_lost(tmp_path: Path) -> None:
    """The work folder comes back, the home folder doesn't: a verdict that hangs on it says so."""
    need("bubblewrap")
    tasks = tmp_path / "tasks"
    newer(tasks / "greet")
    evaluation = Evaluation(tmp_path, "bubblewrap")
    model = model_script(evaluation.folder / "script.json", delay=0.02)
    given = evaluation.arguments(dataset=str(tasks), model=model)
    killed_when(evaluation.start(*given), lambda: turns_so_far(evaluation) >= 2)
    done = evaluation.agent(*given)
    assert done.code == 0, done.out + done.err
    found = record(evaluation, "greet")
    assert found.status is Status.UNRESOLVED
    assert found.judged is not None
    tests = found.judged.report["tests_status"]["FAIL_TO_PASS"]
    assert "test_greetings" in tests["success"]
    assert "test_home" in tests["failure"]
    assert "was cut off and went on" in found.judged.doubt


@pytest.mark.bubblewrap
@pytest.mark.heavy
def test_gold_shows_which_tasks_are_sound_here(tmp_path: Path) -> None:
    pytest.importorskip("yaml", reason="needs the extra `evals`")
    need("bubblewrap")
    tasks = tmp_path / "tasks"
    older(tasks / "a")
    newer(tasks / "b")
    (newer(tasks / "c") / "solution/solve.sh").unlink()
    newer(tasks / "d", {"tests/test_outputs.py": "def test_nothing():\n    pass\n"})
    newer(tasks / "e", {"solution/solve.sh": "#!/bin/bash\ntouch /etc/passwd2\n"})
    evaluation = Evaluation(tmp_path, "bubblewrap")
    done = evaluation.agent("gold", str(tasks), "--sandbox", "bubblewrap", "--out", str(evaluation.out), "--json")
    assert done.code == 3, done.out + done.err
    found = {one["instance_id"]: (one["soundness"], one["reason"]) for one in done.events}
    assert {name: state for name, (state, _) in found.items()} == {
        "a": "sound", "b": "sound", "c": "unknown", "d": "solved before", "e": "broken",
    }  # fmt: skip
    assert "no gold" in found["c"][1]
    assert "test_greetings" in found["e"][1]
