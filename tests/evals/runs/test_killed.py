"""kill -9 at any moment: the same command goes on, nothing is lost or done twice, and the report is the same."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest

from evals.report.folder import read_report
from tests.evals.runs.harness import LIGHT, SECONDS, Evaluation, chosen, killed_when, scripted

pytestmark = pytest.mark.heavy

CUT = "mini__sweep-14"
"""Its commands leave nothing outside of the work tree, which is what a resumed run gets back."""


def turns_so_far(evaluation: Evaluation) -> int:
    logs = (evaluation.folder / "home" / "evals" / ".work").glob("out/*/*/predict/*/events.jsonl")
    return sum(line.startswith('{"seq"') and '"type":"turn"' in line for log in logs for line in log.open())


@pytest.mark.bubblewrap
def test_a_run_that_is_killed_goes_on_to_the_same_report(tmp_path_factory: pytest.TempPathFactory) -> None:
    whole, cut = (Evaluation(tmp_path_factory.mktemp(name), "bubblewrap") for name in ("whole", "cut"))
    model = scripted(whole.folder / "script.json", delay=0.004)
    assert whole.run(*chosen(CUT), model=model).code == 0
    after = random.Random().randrange(1, 6)  # turns; another one each time
    killed_when(cut.start(*cut.arguments(*chosen(CUT), model=model)), lambda: turns_so_far(cut) >= after)
    assert not cut.records()
    done = cut.run(*chosen(CUT), model=model)
    assert done.code == 0, f"killed after {after} turns: {done.out}{done.err}"
    assert cut.report() == whole.report(), f"killed after {after} turns"
    kinds = [event["type"] for event in cut.events(CUT)]
    assert kinds.count("run_started") == 1
    assert "run_resumed" in kinds
    assert kinds.count("prompt") == 1


def test_ctrl_c_stops_softly_and_says_how_to_go_on(tmp_path: Path) -> None:
    evaluation = Evaluation(tmp_path)
    process = evaluation.start(*evaluation.arguments(*chosen(*LIGHT)))
    due = time.monotonic() + SECONDS
    while turns_so_far(evaluation) < 2:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < due
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, out + err
    assert f"To go on: agent eval run --out {evaluation.out}" in out
    assert "Traceback" not in err
    assert read_report(evaluation.out)["counts"]["missing"] == 1
    done = evaluation.agent("run", "--out", str(evaluation.out))  # nothing else has to be said again
    assert done.code == 0, done.out + done.err
    assert [record.status for record in evaluation.records().values()] == ["resolved"]
