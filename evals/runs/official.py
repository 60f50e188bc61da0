"""A run in the official layout: predictions and a summary per attempt, as sb-cli and the harness read them.

Written anew from the records whenever it is asked for. Left out: logs and reports of single instances, which lie there
already (`evals.judging`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from evals.grading.logs import MAX_LOG
from evals.grading.semantics import Semantics
from evals.predictions import Prediction, write_predictions, write_whole
from evals.reports import Graded, summary
from evals.runs.folder import EvalFolder
from evals.runs.manifest import Manifest
from evals.runs.record import AttemptKey, AttemptRecord
from evals.runs.sending import patches_left

_LOOKED_AT: Final = 4 << 20  # bytes of a log's end in which signs of a broken environment are looked for


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
    report: Mapping[str, object] | None = record.judged.report if record.judged else None
    return Graded(report, _log_end(folder.log(_key(record), record.model) / "test_output.txt"))


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
