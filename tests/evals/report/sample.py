"""A run of 60 instances as records, made up but of one piece: every status, cause and flag occurs."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

from evals.runs.record import AttemptRecord, Judged, Predicted, Usage

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
REPOS = (
    ("django/django", 24),
    ("sympy/sympy", 14),
    ("pytest-dev/pytest", 9),
    ("psf/requests", 7),
    ("pallets/flask", 6),
)
DIFFICULTIES = ("<15 min fix", "15 min - 1 hour", "1-4 hours")
RUN, MODEL = "nightly-7", "Qwen/Qwen3.6-27B"


def small() -> tuple[list[AttemptRecord], dict[str, Any]]:
    """Nine instances with two attempts each, one of them not ended: the golden report's."""
    names = ids()[::7]
    made = [record for record in records(2) if record.instance_id in names]
    said = manifest(2)
    said["dataset"]["instances"] = names
    del made[3]
    return made, said


def manifest(attempts: int = 1) -> dict[str, Any]:
    """As a run writes it, with what doesn't matter here left out."""
    return {
        "format": 1,
        "run": RUN,
        "created": 1795403330.0,
        "dataset": {"name": "verified", "split": "test", "sha256": "4f" * 32, "instances": ids(), "broken": []},
        "settings": {
            "kind": "run", "model": "http://127.0.0.1:30000", "attempts": attempts, "seed": 7, "sandbox": "docker",
            "semantics": "auto", "judge_seconds": 1800.0, "tries": 3,
            "limits": {"steps": 250, "tokens": 1000000, "seconds": 14400.0, "nudges": 3, "cost": None},
            "recipes": {},
        },
        "model": {"name": MODEL, "engine": "sglang", "version": "0.5.23", "context": 262144, "features": ["a", "b"]},
        "sampling": {"temperature": 0.6, "top_p": 0.95, "top_k": 20, "max_new_tokens": 32768},
        "texts": {"prompts": "785e56ae65845d8a", "template": "0011223344556677", "tools": {"bash": "aabb"}},
        "versions": {"patchwright": "0.1.0", "python": "3.11.7", "git": "2.39.5", "rules": "swebench 4.1.0"},
        "machine": {"system": "Linux", "architecture": "x86_64", "cores": 2},
        "environments": {name: {"image": "x"} for name in ids()},
        "seeds": {"rule": "a rule", "by_instance": {name: [1] * attempts for name in ids()}},
    }  # fmt: skip


def ids() -> list[str]:
    return [f"{repo.replace('/', '__')}-{11000 + 37 * at}" for repo, many in REPOS for at in range(many)]


def records(attempts: int = 1, *, seed: int = 11, skill: float = 0.0, run: str = RUN) -> list[AttemptRecord]:
    """`skill` makes instances easier by so much; the same seed gives the same instances."""
    found = []
    for name in ids():
        repo = next(repo for repo, _ in REPOS if name.startswith(repo.replace("/", "__")))
        draw = random.Random(f"{seed}/{name}")
        level = draw.choices((0, 1, 2), (5, 6, 3))[0]
        ease = min(max((0.85, 0.6, 0.25)[level] + draw.uniform(-0.25, 0.2) + skill, 0), 1)
        for attempt in range(1, attempts + 1):
            again = random.Random(f"{seed}/{run}/{name}/{attempt}")
            found.append(_record(name, repo, DIFFICULTIES[level], ease, attempt, again, run))
    return found


def _record(
    name: str, repo: str, difficulty: str, ease: float, attempt: int, draw: random.Random, run: str
) -> AttemptRecord:
    solved = draw.random() < ease
    steps = max(6, int(draw.gauss(34 if solved else 62, 15)))
    cause = None if solved else draw.choices(FAILURES, (4, 3, 2, 5, 1, 2, 1, 1))[0]
    if cause == "ran out":
        steps = 250
    prompt = sum(9000 + 700 * step for step in range(steps))
    usage = Usage(
        steps=steps, prompt_tokens=prompt, cached_tokens=int(prompt * draw.uniform(0.9, 0.985)),
        completion_tokens=steps * draw.randint(260, 620), cost=None if draw.random() < 0.1 else round(prompt * 4e-8, 4),
        seconds=round(steps * draw.uniform(4, 11), 1),
    )  # fmt: skip
    infrastructure = cause == "infrastructure"
    no_edit = cause == "no edit"
    predicted = Predicted(
        outcome="limit" if cause == "ran out" else "no patch" if no_edit else "verified" if solved else "unverified",
        end="step limit" if cause == "ran out" else "sandbox failed" if infrastructure else "submitted",
        message="250 turns were used; --max-steps allows no more" if cause == "ran out" else "",
        usage=usage,
        trajectory=f"trajectories/{name}/{attempt}",
        edited=() if no_edit else ("src/other.py",) if cause == "wrong file" else ("src/core.py",),
        leaks=("step 12 reads the history after the base commit: git log --all",) if draw.random() < 0.04 else (),
    )
    failed = {"incomplete": (1, 0), "broke": (0, 3), "wrong file": (2, 0), "ran out": (2, 0), "doubt": (0, 1)}
    f2p, p2p = failed.get(cause or "", (0, 0))
    said: dict[str, Any] = {"patch_is_None": no_edit, "resolved": solved}
    if not no_edit and cause != "not run":
        said["tests_status"] = {"FAIL_TO_PASS": _list("f2p", f2p, 2), "PASS_TO_PASS": _list("p2p", p2p, 40)}
    doubt = "fails with the gold patch too in 2 of 5 runs" if cause == "doubt" else ""
    return AttemptRecord(
        run=run, instance_id=name, attempt=attempt, model=MODEL, repo=repo, difficulty=difficulty,
        predicted=predicted,
        judged=None if infrastructure else Judged(said, "4.1.0", round(draw.uniform(5, 80), 1), doubt),
        infrastructure="the image could not be pulled: 429 Too Many Requests (waited 900 s)" if infrastructure else "",
        tries=("the sandbox died: its memory was used up",) if draw.random() < 0.05 else (),
        gold_files=("src/core.py",),
        environment={"kind": "docker", "image": "sweb.eval", "digest": "sha256:00"},
        worker="one", started=1795403330.0, ended=1795403330.0 + usage.seconds + 30,
    )  # fmt: skip


FAILURES = ("incomplete", "wrong file", "broke", "ran out", "no edit", "doubt", "infrastructure", "not run")


def _list(name: str, failed: int, of: int) -> dict[str, list[str]]:
    tests = [f"tests/test_{name}.py::test_{number}" for number in range(of)]
    return {"success": tests[failed:], "failure": tests[:failed]}


def write_folder(folder: Path, attempts: int = 1, *, trajectories: int = 3, **chosen: Any) -> list[AttemptRecord]:
    """The folder of such a run; the first few trajectories are a recorded run of the real agent."""
    made = records(attempts, **chosen)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text(json.dumps(manifest(attempts)))
    for at, record in enumerate(made):
        path = folder / "records" / record.instance_id / f"{record.attempt}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record.to_json()))
        if at < trajectories:
            put_trajectory(folder / "trajectories" / record.instance_id / str(record.attempt))
    return made


def put_trajectory(folder: Path) -> None:
    folder.mkdir(parents=True)
    shutil.copy(GOLDEN / "run-1.jsonl", folder / "events.jsonl")
    (folder / "patch.diff").write_text(PATCH)


PATCH = """diff --git a/stats.py b/stats.py
--- a/stats.py
+++ b/stats.py
@@ -1,3 +1,3 @@
 def mean(values):
-    return sum(values) / (len(values) + 1)
+    return sum(values) / len(values)
"""
