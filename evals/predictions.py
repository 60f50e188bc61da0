"""Predictions in the official layout: `.json` (a list, or an object by id) or `.jsonl`.

Left out: what becomes of them (`grading`), and data sets (`datasets`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from evals.instance import RowBroken, check_id
from evals.rows import DatasetUnusable, Raw, read_rows


@dataclass(frozen=True)
class Prediction:
    """What a model proposes for an instance; `patch` None or empty: nothing."""

    instance_id: str
    model: str
    patch: str | None

    def row(self) -> dict[str, str | None]:
        """The object as the official harness and sb-cli read it."""
        return {"instance_id": self.instance_id, "model_name_or_path": self.model, "model_patch": self.patch}


@dataclass(frozen=True)
class Predictions:
    """The usable ones by instance id (the last of several counts, as in the harness), and what was left out."""

    by_id: dict[str, Prediction]
    broken: tuple[str, ...] = ()


def read_predictions(path: Path) -> Predictions:
    """Those in `path`. DatasetUnusable when the file as a whole can't be read."""
    if path.suffix == ".parquet":
        raise DatasetUnusable(f"{path}: predictions are .json or .jsonl")
    found: dict[str, Prediction] = {}
    broken = []
    for raw in read_rows(path):
        try:
            prediction = _prediction(raw)
            found[prediction.instance_id] = prediction
        except RowBroken as error:
            broken.append(f"prediction {raw.place}: {error}")
    return Predictions(found, tuple(broken))


def _prediction(raw: Raw) -> Prediction:
    if raw.broken:
        raise RowBroken(raw.broken)
    row = raw.value
    if not isinstance(row, dict):
        raise RowBroken("it is no JSON object")
    patch, model = row.get("model_patch"), row.get("model_name_or_path", "None")
    if patch is not None and not isinstance(patch, str):
        raise RowBroken("model_patch is neither text nor null")
    if not isinstance(model, str):
        raise RowBroken("model_name_or_path is no text")
    return Prediction(check_id(row.get("instance_id")), model, patch)


def write_predictions(path: Path, predictions: Iterable[Prediction]) -> None:
    """Write them to `path` (.json or .jsonl by its name), whole or not at all.

    A patch whose last newline is missing gets one: without it neither `git apply` nor `patch` takes its last hunk.
    """
    rows = [_ended(prediction).row() for prediction in predictions]
    if path.suffix == ".jsonl":
        text = "".join(json.dumps(row) + "\n" for row in rows)
    elif path.suffix == ".json":
        text = json.dumps(rows, indent=2) + "\n"
    else:
        raise ValueError(f"predictions go into a .json or .jsonl file, not into {path.name}")
    write_whole(path, text)


def _ended(prediction: Prediction) -> Prediction:
    if prediction.patch and not prediction.patch.endswith("\n"):
        return Prediction(prediction.instance_id, prediction.model, prediction.patch + "\n")
    return prediction


def write_whole(path: Path, text: str) -> None:
    """Replace `path` by `text` in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        scratch.write_text(text, encoding="utf-8")
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
