"""Gold never reaches the agent: neither its model nor its sandbox nor its log, nor arguments of any process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evals.instance import Instance, read_instance
from evals.leaks.gold import files_below, find_gold
from evals.mini.tasks import read_task
from evals.runs.predict import Task
from runtime.qwen_bpe import qwen_tokenizer
from tests.evals.runs.harness import LIGHT, Evaluation, dataset
from tests.runs.harness import call, served

pytestmark = pytest.mark.heavy

MARK = "NEVER_TO_BE_SEEN_BY_AN_AGENT"
SEEK = "NEVER_TO_BE_SEEN_[B]Y_AN_AGENT"  # finds the mark and doesn't hold it
HOOK = """
import json, os, sys
def told(event, arguments):
    if event in ("subprocess.Popen", "os.exec", "os.posix_spawn"):
        with open(os.environ["TOLD"], "a") as file:
            file.write(json.dumps([event, repr(arguments)]) + "\\n")
sys.addaudithook(told)
"""


def marked(row: dict[str, Any]) -> dict[str, Any]:
    """The row with the mark in every field that an agent mustn't know."""
    gold = {name: f"{row[name]}\n# {MARK}\n" for name in ("patch", "eval_script")}
    return {
        **row,
        **gold,
        "PASS_TO_PASS": [*row["PASS_TO_PASS"], f"tests/x.py::{MARK}"],
        "hints_text": MARK,
        "difficulty": MARK,
        "solution": {"nested": [MARK]},
    }


def looking(kind: str) -> list[dict[str, Any]]:
    places = "/testbed /tmp /root /home" if kind != "none" else "."
    files = f"{places} /proc/[0-9]*/environ /proc/[0-9]*/cmdline"
    seek = f"grep -rsla '{SEEK}' {files} 2>/dev/null | head; env | grep -c '{SEEK}'"
    done = {"summary": "I looked."}
    return [
        call("bash", command=seek),
        call("bash", command="echo x > x.txt"),
        call("submit", **done),
        call("submit", **done),
    ]


@pytest.mark.parametrize("kind", ["none", pytest.param("bubblewrap", marks=pytest.mark.bubblewrap)])
def test_no_mark_gets_to_the_agent(tmp_path: Path, kind: str) -> None:
    rows = dataset(tmp_path / "rows.jsonl", *LIGHT, change=marked)
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(HOOK)
    evaluation = Evaluation(tmp_path, kind)
    with served(looking(kind)) as server:
        done = evaluation.run(
            dataset=rows, model=server.url, PYTHONPATH=str(tmp_path / "hook"), TOLD=str(tmp_path / "told.jsonl")
        )
        asked = [qwen_tokenizer().decode(list(request.prompt_ids)) for request in server.server.requests]
    assert done.code == 0, done.out + done.err
    found = [event["data"] for event in evaluation.events(LIGHT[0]) if event["type"] == "observation"]
    assert found[0]["text"].startswith("Output:\n0\n"), found[0]["text"]  # no file, and no variable
    assert len(asked) == 4
    told = (tmp_path / "told.jsonl").read_text()
    assert "subprocess.Popen" in told
    places = [("the model", "\n".join(asked).encode()), ("a process", told.encode())]
    left = files_below(evaluation.out / "trajectories")
    places += [place for place in left if not place[0].endswith("index.html")]  # the report's page, written afterwards
    assert not list(find_gold([MARK], places))
    (record,) = evaluation.records().values()
    assert record.judged is not None
    assert MARK in json.dumps(record.judged.report)  # the judge did know


def test_a_task_holds_the_issue_and_nothing_else() -> None:
    from evals.mini.dataset import row

    instance: Instance = read_instance(marked(row(read_task(LIGHT[0]))))
    task = Task.of(instance)
    assert task == Task(LIGHT[0], instance.problem_statement)
    assert MARK not in repr(task)
