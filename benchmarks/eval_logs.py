"""86 test logs and their rows for `evals.py`: the real ones where ../shared is there, else made here, of like size.

Left out: grading them.
"""

from __future__ import annotations

import json
import random
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from measuring import REPOSITORY

from evals.datasets import load_dataset
from evals.grading.logs import END, START
from evals.grading.semantics import Semantics, parser_family
from evals.instance import Instance, Schema

SHARED = REPOSITORY.parent / "shared" / "data"
KINDS = {
    "django/django": 44,
    "astropy/astropy": 6,
    "scikit-learn/scikit-learn": 12,
    "matplotlib/matplotlib": 5,
    "sympy/sympy": 5,
    "psf/requests": 4,
    "pydata/xarray": 6,
    "mwaskom/seaborn": 4,
}
"""Repository -> how many logs; about the mix of the real runs."""


def make(folder: Path) -> tuple[Path, Path, str]:
    """(folder with logs, data set as .jsonl in the schema of 5.x, where they come from)."""
    logs, dataset = folder / "logs", folder / "dataset.jsonl"
    if SHARED.is_dir():
        with tarfile.open(SHARED / "official_harness_logs.tar.xz") as archive:
            archive.extractall(logs, filter="data")
        rows = [_row(one) for one in load_dataset(str(SHARED / "swe-bench-verified-500.jsonl.xz")).instances]
        said = "real runs of the official harness"
    else:
        rows = list(_made(logs / "run" / "model"))
        said = "made logs (../shared isn't there)"
    dataset.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return logs, dataset, said


def _row(one: Instance) -> dict[str, Any]:
    return {
        "instance_id": one.instance_id,
        "repo": one.repo,
        "version": one.version,
        "base_commit": one.base_commit,
        "problem_statement": one.problem_statement,
        "patch": one.patch,
        "test_patch": one.test_patch,
        "FAIL_TO_PASS": json.dumps(one.fail_to_pass),
        "PASS_TO_PASS": json.dumps(one.pass_to_pass),
        "image": "none",
        "eval_script": "",
        "log_parser": f"parse_log_{parser_family(Semantics.V5, one.repo, '')}",
        "eval_type": "pass_and_fail",
    }


def _made(folder: Path) -> Iterator[dict[str, Any]]:
    dice = random.Random(5)
    for repo, count in KINDS.items():
        for number in range(count):
            instance_id = f"{repo.replace('/', '__')}-{number}"
            names = [_name(repo, test) for test in range(dice.randrange(20, 320))]
            failed = set(dice.sample(names, dice.choice((0, 0, 1, 3))))
            place = folder / instance_id
            place.mkdir(parents=True)
            lines = [_line(repo, name, name in failed) for name in names]
            before = [f"+ setting up, line {line}: {'x' * 60}" for line in range(dice.randrange(200, 900))]
            text = [*before, f"+ : '{START}'", *lines, f"+ : '{END}'", "Updated 1 path from abc"]
            (place / "test_output.txt").write_text("\n".join(text))
            (place / "report.json").write_text(json.dumps({instance_id: {"resolved": not failed}}))
            one = Instance(
                instance_id,
                repo,
                Schema.SWE_BENCH_5,
                fail_to_pass=tuple(names[:2]),
                pass_to_pass=tuple(names[2:]),
                version="1",
            )
            yield _row(one)


def _name(repo: str, test: int) -> str:
    if repo == "django/django":
        return f"test_case_{test} (app.tests.CaseTests)"
    return f"test_case_{test}" if repo == "sympy/sympy" else f"tests/test_part.py::test_case[{test}]"


def _line(repo: str, name: str, failed: bool) -> str:
    if repo == "django/django":
        return f"{name} ... {'FAIL' if failed else 'ok'}"
    if repo == "sympy/sympy":
        return f"{name} {'F' if failed else 'ok'}"
    return f"FAILED {name} - assert 1 == 2" if failed else f"PASSED {name}"
