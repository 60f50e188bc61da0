"""Reports in the official layout: `<model>/<instance_id>/report.json`, and the summary `<model>.<run>.json`.

Left out: how a verdict is found (`grading.verdict`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from evals.grading.infra import trouble_in
from evals.grading.semantics import Semantics
from evals.instance import check_id
from evals.predictions import Prediction, write_whole

MAX_REPORT: Final = 64 << 20
SCHEMA_VERSION: Final = 2


class ReportBroken(ValueError):
    """A report file that doesn't say what a report says."""


def model_folder(model: str) -> str:
    """The model's name as the harness makes a folder's name of it. ValueError where that would leave the folder."""
    name = model.replace("/", "__")
    if name in ("", ".", "..") or "\0" in name or len(name.encode()) > 200:
        raise ValueError(f"the model's name {model[:60]!r} can't be a folder's")
    return name


def write_report(folder: Path, model: str, instance_id: str, report: Mapping[str, Any]) -> Path:
    """Write `<folder>/<model>/<instance_id>/report.json`; gives its path."""
    path = folder / model_folder(model) / check_id(instance_id) / "report.json"
    write_whole(path, json.dumps({instance_id: report}, indent=4))
    return path


def read_report(path: Path, instance_id: str) -> dict[str, Any]:
    """The object of `instance_id` in a report file. ReportBroken when it isn't there or doesn't say `resolved`."""
    try:
        if path.stat().st_size > MAX_REPORT:
            raise ReportBroken(f"{path} is longer than {MAX_REPORT >> 20} MB")
        report = json.loads(path.read_bytes())[instance_id]
        if not isinstance(report["resolved"], bool):
            raise ReportBroken(f"{path}: resolved is neither true nor false")
    except OSError as error:
        raise ReportBroken(f"{path} can't be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        if isinstance(error, ReportBroken):
            raise
        raise ReportBroken(f"{path} is no report of {instance_id}: {error!r}") from error
    return dict(report)


@dataclass(frozen=True)
class Graded:
    """What a summary counts of an instance: its report, or None where there is none, and its log's text if any."""

    report: Mapping[str, Any] | None
    log: str = ""


def summary(
    dataset_ids: Iterable[str],
    predictions: Mapping[str, Prediction],
    graded: Mapping[str, Graded],
    semantics: Semantics,
) -> dict[str, Any]:
    """The run's summary, counted as the harness counts: an empty patch is neither completed nor unresolved, an
    instance without a report is an error, and one without a prediction is incomplete."""
    total = list(dataset_ids)
    ids: dict[str, list[str]] = {
        key: [] for key in ("completed", "incomplete", "empty_patch", "resolved", "unresolved", "error")
    }
    for instance_id in total:
        prediction = predictions.get(instance_id)
        report = graded[instance_id].report if instance_id in graded else None
        if prediction is None:
            ids["incomplete"].append(instance_id)
        elif not prediction.patch:
            ids["empty_patch"].append(instance_id)
        elif report is None:
            ids["error"].append(instance_id)
        else:
            ids["completed"].append(instance_id)
            ids["resolved" if report.get("resolved") else "unresolved"].append(instance_id)
    said: dict[str, Any] = {"total_instances": len(total), "submitted_instances": len(predictions)}
    said |= {f"{key}_instances": len(ids[key]) for key in ("completed", "resolved", "unresolved")}
    said |= {f"{key}_instances": len(ids[key]) for key in ("empty_patch", "error")}
    said |= {f"{key}_ids": sorted(found) for key, found in ids.items()}
    said["submitted_ids"] = sorted(predictions)
    if semantics is Semantics.V5:
        said |= _troubles([*ids["unresolved"], *ids["error"]], graded)
    said["schema_version"] = SCHEMA_VERSION
    return said


def _troubles(ids: Iterable[str], graded: Mapping[str, Graded]) -> dict[str, Any]:
    found = {name: trouble_in(graded[name].log) for name in ids if name in graded}
    known = {name: trouble for name, trouble in sorted(found.items()) if trouble}
    certain = [name for name, trouble in known.items() if trouble.certain]
    unsure = [name for name in known if name not in set(certain)]
    return {
        "infra_failure_instances": len(certain),
        "ambiguous_failure_instances": len(unsure),
        "infra_failure_ids": certain,
        "ambiguous_failure_ids": unsure,
        "failure_reasons": {name: trouble.reason for name, trouble in known.items()},
    }
