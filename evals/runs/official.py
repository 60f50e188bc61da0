"""A run in the official layout: predictions and a summary per attempt, as sb-cli and the harness read them.

Written anew from the records whenever it is asked for. Left out: logs and reports of single instances, which lie there
already (`evals.judging`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from evals.grading.logs import MAX_LOG
from evals.grading.semantics import Semantics
from evals.judging.base import LOG_FILE, OUTPUT_FILE, PATCH_FAILED, official_error
from evals.predictions import Prediction, write_predictions, write_whole
from evals.reports import Graded, summary
from evals.runs.folder import EvalFolder
from evals.runs.manifest import Manifest
from evals.runs.record import AttemptKey, AttemptRecord
from evals.runs.sending import patches_left

_LOOKED_AT: Final = 4 << 20  # bytes of a log's end in which signs of a broken environment are looked for
_STOPPED: Final = r"^[-\d]{10} [\d:,]{12} - INFO - Error in evaluating model for "
"""The line of an instance whose log the official grader stops on; a patch's own lines are indented by their diff."""


def write_official(folder: EvalFolder, manifest: Manifest, records: Sequence[AttemptRecord]) -> list[Path]:
    """`predictions.jsonl` and `<model>.<run>.json` of each attempt that has ended; the summaries' paths."""
    attempts = sorted({record.attempt for record in records})
    return [_write(folder, manifest, attempt, [r for r in records if r.attempt == attempt]) for attempt in attempts]


def _write(folder: EvalFolder, manifest: Manifest, attempt: int, records: Sequence[AttemptRecord]) -> Path:
    model = manifest.model_name
    predictions = {record.instance_id: made for record in records if (made := _prediction(folder, record)) is not None}
    write_predictions(folder.predictions(attempt), predictions.values())
    graded = {record.instance_id: _graded(folder, record) for record in records}
    rules = Semantics.named(manifest.settings.semantics) or _rules(records)
    path = folder.summary(model, manifest.run, attempt)
    write_whole(path, json.dumps(summary(manifest.dataset.instances, predictions, graded, rules), indent=4) + "\n")
    return path


def _prediction(folder: EvalFolder, record: AttemptRecord) -> Prediction | None:
    """None where the model hasn't had its say, which the summary calls incomplete."""
    if record.predicted is None or record.predicted.outcome == MISSING:
        return None
    patch = next(patches_left(folder, _key(record), record.model), "")
    return Prediction(record.instance_id, record.model, patch)


MISSING: Final = "missing"  # the outcome of an instance that somebody's predictions leave out


def _graded(folder: EvalFolder, record: AttemptRecord) -> Graded:
    """The report where the harness would have left one, and the two logs that it looks for broken environments in."""
    log = folder.log(_key(record), record.model)
    output, told = _log_end(log / OUTPUT_FILE), _log_end(log / LOG_FILE)
    report: Mapping[str, object] | None = record.judged.report if record.judged else None
    if report and not report["resolved"] and _without_report(log / OUTPUT_FILE, output, told):
        report = None
    return Graded(report, f"{output}\n{told}")


def _without_report(path: Path, end: str, told: str) -> bool:
    """Whether the harness would have counted an error: the patch didn't apply, the tests timed out, or its grader
    stopped on their log."""
    return official_error(_log_start(path)) or official_error(end) or bool(re.search(_STOPPED, told, re.MULTILINE))


def _log_start(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(len(PATCH_FAILED)).decode("utf-8", "replace")
    except OSError:
        return ""


def _log_end(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(path.stat().st_size - min(_LOOKED_AT, MAX_LOG), 0))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def _rules(records: Iterable[AttemptRecord]) -> Semantics:
    """Those of 5 where all were judged by them: only its summary has fields for broken environments."""
    said = {record.judged.swebench for record in records if record.judged}
    return Semantics.V5 if said == {Semantics.V5.release} else Semantics.V4


def _key(record: AttemptRecord) -> AttemptKey:
    return AttemptKey(record.run, record.instance_id, record.attempt)
