"""Judges instances whose official verdicts are known, in environments that our recipes make.

    python scripts/verified.py ROWS.jsonl --repositories CLONES --out FOLDER [--sandbox bubblewrap] [--only ID] [--keep]
    python scripts/verified.py --page          writes docs/evaluation-verified.md from what was kept

Each line of ROWS holds `instance` (a row of the data set), what is known of the base commit as it is and of the gold
patch, a model's patch and its official verdict. Three runs each, in fresh sandboxes: without a patch, with the gold
patch, with the model's. FOLDER gets the five official files of each run, and `verdicts.jsonl`. `--keep` also keeps the
results in docs/evaluation-verified.json, from which the page is made, so that a part can be run again. Ends with 1
when a verdict isn't the one that is known. `agent eval gold` and `agent eval grade` do the same runs for any data set;
this puts them beside what is known.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from evals.environments import EnvironmentUnavailable, InstanceEnvironment, Options, Prefer, Recipes, environment_of
from evals.instance import Instance, read_instance
from evals.judging.base import JudgeSpec, JudgingFailed
from evals.judging.judge import judge
from evals.runs.record import Judged

DOCS: Final = Path(__file__).parent.parent / "docs"
KEPT: Final = DOCS / "evaluation-verified.json"
PAGE: Final = DOCS / "evaluation-verified.md"
BEGIN, END = "<!-- tables: scripts/verified.py -->", "<!-- end of the tables -->"
RUNS: Final = ("unpatched", "gold", "model")
_KINDS: Final = {"FAIL_TO_PASS": "f2p", "PASS_TO_PASS": "p2p"}
_OFFICIAL: Final = "_official_docker"
_NETWORK: Final = "want a network"  # of evals.judging.doubts


@dataclass(frozen=True, slots=True)
class Known:
    """An instance and what is known of it: for each run the patch, the verdict, and the tests as [passed, failed]."""

    instance: Instance
    patches: dict[str, str]
    verdicts: dict[str, str]
    tests: dict[str, dict[str, list[int]] | None]


def read_known(file: Path) -> list[Known]:
    """The instances of a file of such lines."""
    return [_known(json.loads(line)) for line in file.read_text("utf-8").splitlines() if line.strip()]


def _known(row: dict[str, Any]) -> Known:
    instance = read_instance(row["instance"])
    (verdict,) = (name for name in row if name.endswith(_OFFICIAL))
    model = verdict.removeprefix("verdict_").removesuffix(_OFFICIAL)
    before, gold, ours = row["verdict_before_testpatch_only"], row["verdict_gold"], row[f"verdict_{model}_patch_here"]
    # Gold that isn't resolved without a network: then a patch that is right can't be either.
    right = "resolved" if gold["resolved"] else "environment"
    verdicts = {"unpatched": "unresolved", "gold": right, "model": right if row[verdict] else "unresolved"}
    tests = {"unpatched": _tests_of(before), "gold": _tests_of(gold), "model": _tests_of(ours)}
    patches = {"unpatched": "", "gold": instance.patch, "model": row[f"{model}_patch"] or ""}
    return Known(instance, patches, verdicts, tests)


def _tests_of(verdict: dict[str, Any] | None) -> dict[str, list[int]] | None:
    return {kind: list(verdict[short]) for kind, short in _KINDS.items()} if verdict else None


# -- running


async def run(known: Known, environment: InstanceEnvironment, out: Path) -> dict[str, Any]:
    """Judge three times. Raises JudgingFailed."""
    judged: dict[str, Any] = {}
    for name in RUNS:
        spec = JudgeSpec(known.instance, environment, name, "verified")
        folder = out / "logs/run_evaluation/verified" / name / known.instance.instance_id
        patch = known.patches[name]
        judged[name] = _result(await judge(spec, patch, folder, unpatched=not patch), known, name)
    return judged


def _result(judged: Judged, known: Known, name: str) -> dict[str, Any]:
    word = "resolved" if judged.report["resolved"] else "environment" if _NETWORK in judged.doubt else "unresolved"
    status = judged.report.get("tests_status") or {}
    tests = {kind: [len(status[kind][way]) for way in ("success", "failure")] for kind in _KINDS if kind in status}
    wanted = known.tests[name]
    return {
        "verdict": word,
        "known": known.verdicts[name],
        "tests": tests,
        "known_tests": wanted,
        "seconds": round(judged.seconds, 1),
        "doubt": judged.doubt,
    }


def as_known(row: dict[str, Any]) -> bool:
    """Whether all verdicts are the known ones, and the tests' counts where these are known."""
    return all(
        one["verdict"] == one["known"] and one["tests"] == (one["known_tests"] or one["tests"])
        for one in row["runs"].values()
    )


async def measure(known: Known, arguments: argparse.Namespace, options: Options) -> dict[str, Any]:
    """Make the environment and judge in it. Raises EnvironmentUnavailable, JudgingFailed."""
    began = time.monotonic()
    environment = await environment_of(
        known.instance,
        kind=arguments.sandbox,
        recipes=Recipes.load(arguments.recipes),
        repositories=arguments.repositories,
        options=options,
        progress=lambda line: print(f"  {line}", file=sys.stderr, flush=True),
    )
    made = round(time.monotonic() - began, 1)
    facts = environment.facts
    names = ("code", "recipe", "recipe_sha256", "python", "os", "packages_sha256", "system_sha256")
    return {
        "instance_id": known.instance.instance_id,
        "sandbox": environment.kind,
        **{name: facts[name] for name in names},
        "packages": len(facts["packages"]),
        "made": made,
        "runs": await run(known, environment, arguments.out),
    }


async def measure_all(arguments: argparse.Namespace) -> int:
    wanted = [
        one for one in read_known(arguments.rows) if not arguments.only or one.instance.instance_id in arguments.only
    ]
    options = Options(prefer=Prefer.RECIPE)
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows = []
    print(_HEAD, flush=True)
    with (arguments.out / "verdicts.jsonl").open("w", encoding="utf-8") as file:
        for known in wanted:
            try:
                row = await measure(known, arguments, options)
            except (EnvironmentUnavailable, JudgingFailed) as problem:
                print(f"| {known.instance.instance_id} | {' '.join(str(problem).split())[:600]} |", flush=True)
                continue
            rows.append(row)
            print(line_of(row), flush=True)
            file.write(json.dumps(row) + "\n")
            file.flush()
            if arguments.keep:
                keep([row])
    right = sum(map(as_known, rows))
    print(f"\n{right} of {len(wanted)} as known.")
    return 0 if right == len(wanted) else 1


# -- the page

_HEAD: Final = (
    "| instance | recipe | Python, packages | unpatched | gold | model's patch | its official verdict | as known "
    "| made, tested |\n" + "| --- " * 9 + "|"
)


def line_of(row: dict[str, Any]) -> str:
    runs = row["runs"]
    official = "unresolved" if runs["model"]["known"] == "unresolved" else "resolved"
    cells = [
        row["instance_id"],
        row["recipe"],
        f"{row['python']}, {row['packages']} (`{row['packages_sha256'][:8]}`)",
        *(_said(runs[name]) for name in RUNS),
        official,
        "yes" if as_known(row) else "NO",
        f"{row['made']:.0f} s, {sum(one['seconds'] for one in runs.values()):.0f} s",
    ]
    return f"| {' | '.join(cells)} |"


def _said(one: dict[str, Any]) -> str:
    counts = ", ".join(f"{passed}/{passed + failed}" for passed, failed in one["tests"].values())
    return f"{one['verdict']} ({counts})" if counts else str(one["verdict"])


def keep(rows: Iterable[dict[str, Any]]) -> None:
    """Put results in the place of older ones of the same instance, sandbox and kind of code."""
    found = {_place(row): row for row in (*kept(), *rows)}
    lines = ",\n".join(json.dumps(found[place]) for place in sorted(found))
    KEPT.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def kept() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(KEPT.read_text("utf-8")) if KEPT.is_file() else []
    return rows


def _place(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["sandbox"], row["code"], row["instance_id"]


def tables(rows: list[dict[str, Any]]) -> str:
    parts = []
    for (sandbox, code), group in groupby(sorted(rows, key=_place), key=lambda row: _place(row)[:2]):
        lines = list(group)
        right = sum(map(as_known, lines))
        parts.append(f"### {sandbox}, {code}: {right} of {len(lines)} as known\n")
        parts.append("\n".join([_HEAD, *map(line_of, lines)]) + "\n")
    return "\n".join(parts)


def page(rows: list[dict[str, Any]]) -> str:
    """The page with its tables made anew; the rest of it is written by hand."""
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    return f"{before}{BEGIN}\n\n{tables(rows)}\n{END}{rest.partition(END)[2]}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path, nargs="?")
    parser.add_argument("--repositories", type=Path)
    parser.add_argument("--recipes", type=Path, action="append", default=[])
    parser.add_argument("--sandbox", default="auto")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--page", action="store_true", help="run nothing")
    arguments = parser.parse_args()
    if not arguments.page and (arguments.rows is None or arguments.out is None):
        parser.error("ROWS and --out are needed")
    status = 0 if arguments.page else asyncio.run(measure_all(arguments))
    if arguments.page or arguments.keep:
        PAGE.write_text(page(kept()), encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main())
