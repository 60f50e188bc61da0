"""One side of a comparison: which instances a run resolved, read from our folder or from somebody else's files.

Taken are the folder of an evaluation run, a summary of the official harness (`<model>.<run>.json`), a folder with such
summaries of one model, and a folder with its report files (`.../<model>/<instance_id>/report.json`). Several of one
model are attempts at the same instances. Left out: what follows from two sides (`comparison`).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from evals.report.causes import cause_of
from evals.report.folder import NoRun, read_manifest_json
from evals.reports import MAX_REPORT, ReportBroken, read_report
from evals.runs.folder import read_records
from evals.runs.record import AttemptRecord, Status

MEASURES: Final = ("steps", "completion_tokens", "prompt_tokens", "cost", "seconds")


@dataclass(frozen=True, slots=True)
class Result:
    """What a side came to on one instance; `judged` of its attempts have a verdict, `failed` have none.

    `causes`: why attempts aren't resolved, each once; empty where only verdicts are known.
    """

    resolved: int = 0
    judged: int = 0
    failed: int = 0
    used: Mapping[str, float] = field(
        default_factory=dict
    )  # of `MEASURES`, the mean of attempts; what isn't known lacks
    causes: tuple[str, ...] = ()

    @property
    def rate(self) -> float:
        return self.resolved / self.judged


@dataclass(frozen=True, slots=True)
class Side:
    """A run to be compared. `kind` says in words what was read."""

    name: str
    models: tuple[str, ...]
    kind: str
    results: Mapping[str, Result]
    manifest: Mapping[str, Any] | None = None

    @property
    def most_attempts(self) -> int:
        return max((one.judged for one in self.results.values()), default=0)


def read_side(path: Path) -> Side:
    """The side that `path` holds. NoRun says what was looked for; RecordBroken names a broken record."""
    if path.is_file():
        return _of_summaries([path], path)
    if not path.is_dir():
        raise NoRun(f"there is no {path}: give a run's folder, an official summary, or a folder of official reports")
    if (path / "manifest.json").is_file():
        return _of_run(path)
    if summaries := [file for file in sorted(path.glob("*.json")) if _is_summary(file)]:
        return _of_summaries(summaries, path)
    if reports := sorted(path.glob("**/report.json")):
        return _of_reports(reports, path)
    raise NoRun(
        f"{path} holds no evaluation run (manifest.json), no official summary (<model>.<run>.json) and no report files "
        "(<model>/<instance_id>/report.json)"
    )


def _of_run(path: Path) -> Side:
    manifest = read_manifest_json(path)
    found: dict[str, list[AttemptRecord]] = defaultdict(list)
    for record in read_records(path):
        found[record.instance_id].append(record)
    if not found:
        raise NoRun(f"no attempt in {path} has ended yet: nothing to compare")
    models = tuple(sorted({record.model for attempts in found.values() for record in attempts}))
    results = {name: _result(attempts) for name, attempts in found.items()}
    return Side(str(manifest.get("run") or path.resolve().name), models, "an evaluation run", results, manifest)


def _result(attempts: Iterable[AttemptRecord]) -> Result:
    known = list(attempts)
    judged = [record for record in known if record.status is not Status.INFRASTRUCTURE]
    used: dict[str, float] = {}
    ran = [record.predicted.usage for record in judged if record.predicted and record.predicted.usage.steps]
    for name in MEASURES:
        values = [value for usage in ran if (value := getattr(usage, name)) is not None]
        if values and len(values) == len(judged):
            used[name] = sum(values) / len(values)
    resolved = sum(record.status is Status.RESOLVED for record in judged)
    causes = dict.fromkeys(str(cause) for record in judged if (cause := cause_of(record)))
    return Result(resolved, len(judged), len(known) - len(judged), used, tuple(causes))


# -- what others wrote ------------------------------------------------------------------------------------------


def _is_summary(path: Path) -> bool:
    return isinstance(_json(path).get("resolved_ids"), list)


def _json(path: Path) -> Mapping[str, Any]:
    """The object in a file; empty for anything else."""
    try:
        if path.stat().st_size > MAX_REPORT:
            return {}
        said = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _ids(said: Mapping[str, Any], *names: str) -> set[str]:
    lists = (said.get(name) for name in names)
    return {one for found in lists if isinstance(found, list) for one in found if isinstance(one, str)}


def _of_summaries(paths: list[Path], where: Path) -> Side:
    models = {_model_of(path) for path in paths}
    if len(models) > 1:
        raise NoRun(f"{where} holds summaries of {len(models)} models ({', '.join(sorted(models)[:5])}): give one file")
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for path in paths:
        said = _json(path)
        if not isinstance(said.get("resolved_ids"), list):
            raise NoRun(f"{path} is no summary of the official harness: it has no list resolved_ids")
        resolved = _ids(said, "resolved_ids")
        for name in _ids(said, "resolved_ids", "unresolved_ids", "completed_ids", "empty_patch_ids"):
            counts[name][0] += name in resolved
            counts[name][1] += 1
        for name in _ids(said, "error_ids"):
            counts[name][2] += 1
    if not counts:
        raise NoRun(f"{where} names no instance with a verdict: its lists of ids are empty")
    results = {name: Result(won, judged, failed) for name, (won, judged, failed) in counts.items()}
    return Side(
        paths[0].stem if len(paths) == 1 else where.resolve().name, tuple(models), "an official summary", results
    )


def _model_of(path: Path) -> str:
    """The harness writes `<model>.<run>.json`; a model's name may have dots, a run's hardly ever."""
    stem = path.name.removesuffix(".json")
    head, _, tail = stem.rpartition(".")
    if tail.startswith("attempt-"):
        head = head.rpartition(".")[0]
    return (head or stem).replace("__", "/")


def _of_reports(paths: list[Path], where: Path) -> Side:
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    models = set()
    for path in paths:
        instance_id = path.parent.name
        models.add(path.parent.parent.name.replace("__", "/"))
        try:
            resolved = read_report(path, instance_id)["resolved"]
        except ReportBroken:
            counts[instance_id][2] += 1
            continue
        counts[instance_id][0] += resolved
        counts[instance_id][1] += 1
    if len(models) > 1:
        names = ", ".join(sorted(models)[:5])
        raise NoRun(f"{where} holds reports of {len(models)} models ({names}): give the folder of one")
    results = {name: Result(won, judged, failed) for name, (won, judged, failed) in counts.items()}
    return Side(where.resolve().name, tuple(models), "official report files", results)
