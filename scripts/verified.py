"""Judges instances whose official verdicts are known, in environments that our recipes make, and prints a table.

    python scripts/verified.py ROWS.jsonl --repositories CLONES --out FOLDER [--sandbox bubblewrap] [--only ID]

Each line of ROWS holds `instance` (a row of the data set), a model's patch and its official verdict. Three runs each:
the base commit as it is, the gold patch, the model's patch. FOLDER gets the five official files of every run, and
`verdicts.jsonl`. Ends with 1 when a verdict isn't the expected one. The same runs are in `agent eval gold` and
`agent eval grade`; this puts them beside what is known.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from evals.environments import EnvironmentUnavailable, InstanceEnvironment, Options, Prefer, Recipes, environment_of
from evals.instance import Instance, read_instance
from evals.judging.base import JudgeSpec, JudgingFailed
from evals.judging.judge import judge
from evals.runs.record import Judged

_PATCH: Final = "gemini3pro_patch"
_VERDICT: Final = "verdict_gemini3pro_official_docker"
_HEAD: Final = "| instance | code | packages | made | unpatched | gold | model's patch | official | as expected |"


@dataclass(frozen=True, slots=True)
class Known:
    """An instance, a model's patch for it and what the official harness said of that."""

    instance: Instance
    patch: str
    official: bool


@dataclass(frozen=True, slots=True)
class Line:
    """What came of one instance. `judged` by the name of the run."""

    known: Known
    environment: InstanceEnvironment
    made: float  # seconds
    judged: dict[str, Judged]

    @property
    def expected(self) -> bool:
        """Whether all three are as they should be; what wants a network has a doubt instead of a verdict."""
        gold, model = self.judged["gold"], self.judged["model"]
        gold_right = gold.report["resolved"] or "want a network" in gold.doubt
        model_right = model.report["resolved"] == self.known.official or (
            self.known.official and "want a network" in model.doubt
        )
        return bool(not self.judged["unpatched"].report["resolved"] and gold_right and model_right)

    def cells(self) -> list[str]:
        facts = self.environment.facts
        return [
            self.known.instance.instance_id,
            str(facts["code"]),
            f"{len(facts['packages'])}, `{facts['packages_sha256'][:8]}`",
            f"{self.made:.0f} s",
            *(_said(self.judged[name]) for name in ("unpatched", "gold", "model")),
            "resolved" if self.known.official else "unresolved",
            "yes" if self.expected else "NO",
        ]

    def row(self) -> dict[str, Any]:
        judged = {
            name: {"resolved": one.report["resolved"], "doubt": one.doubt, "seconds": one.seconds, **_counts(one)}
            for name, one in self.judged.items()
        }
        facts = dict(self.environment.facts)
        return {
            "instance_id": self.known.instance.instance_id,
            "official": self.known.official,
            "as_expected": self.expected,
            "made_seconds": round(self.made, 1),
            "judged": judged,
            "environment": facts,
        }


def _counts(judged: Judged) -> dict[str, list[int]]:
    status = judged.report.get("tests_status") or {}
    return {
        kind: [len(status[kind]["success"]), len(status[kind]["failure"])]
        for kind in ("FAIL_TO_PASS", "PASS_TO_PASS")
        if kind in status
    }


def _said(judged: Judged) -> str:
    counts = _counts(judged)
    word = "resolved" if judged.report["resolved"] else "environment" if judged.doubt else "unresolved"
    shown = ", ".join(f"{good}/{good + bad}" for good, bad in counts.values())
    return f"{word} ({shown}; {judged.seconds:.0f} s)" if counts else f"{word} ({judged.seconds:.0f} s)"


def read_known(file: Path) -> list[Known]:
    """The instances of a file of such lines."""
    rows = [json.loads(line) for line in file.read_text("utf-8").splitlines() if line.strip()]
    return [Known(read_instance(row["instance"]), row[_PATCH] or "", bool(row[_VERDICT])) for row in rows]


async def run(known: Known, out: Path, arguments: argparse.Namespace, options: Options) -> Line:
    """Make the environment and judge three times. Raises EnvironmentUnavailable, JudgingFailed."""
    began = time.monotonic()
    environment = await environment_of(
        known.instance,
        kind=arguments.sandbox,
        recipes=Recipes.load(arguments.recipes),
        repositories=arguments.repositories,
        options=options,
        progress=lambda line: print(f"  {line}", file=sys.stderr),
    )
    made = time.monotonic() - began
    judged = {}
    for name, patch in (("unpatched", ""), ("gold", known.instance.patch), ("model", known.patch)):
        spec = JudgeSpec(known.instance, environment, name, "verified")
        folder = out / "logs/run_evaluation/verified" / name / known.instance.instance_id
        judged[name] = await judge(spec, patch, folder, unpatched=not patch)
    return Line(known, environment, made, judged)


async def main(arguments: argparse.Namespace) -> int:
    wanted = [
        one for one in read_known(arguments.rows) if not arguments.only or one.instance.instance_id in arguments.only
    ]
    options = Options(prefer=Prefer.RECIPE)
    right = 0
    arguments.out.mkdir(parents=True, exist_ok=True)
    print(_HEAD)
    print("|" + " --- |" * (_HEAD.count("|") - 1))
    with (arguments.out / "verdicts.jsonl").open("w", encoding="utf-8") as file:
        for known in wanted:
            try:
                line = await run(known, arguments.out, arguments, options)
            except (EnvironmentUnavailable, JudgingFailed) as problem:
                print(f"| {known.instance.instance_id} | {' '.join(str(problem).split())[:300]} |", flush=True)
                continue
            right += line.expected
            print(f"| {' | '.join(line.cells())} |", flush=True)
            file.write(json.dumps(line.row()) + "\n")
            file.flush()
    print(f"\n{right} of {len(wanted)} as expected.")
    return 0 if right == len(wanted) else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--repositories", type=Path)
    parser.add_argument("--recipes", type=Path, action="append", default=[])
    parser.add_argument("--sandbox", default="auto")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", action="append", default=[])
    sys.exit(asyncio.run(main(parser.parse_args())))
