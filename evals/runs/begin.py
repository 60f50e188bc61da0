"""From what was asked for to a run's folder and manifest: a new run, or the one that was begun with the same settings.

Left out: driving it (`drive`).
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from evals.datasets import Dataset, load_dataset
from evals.instance import Instance
from evals.predictions import write_whole
from evals.runs import facts
from evals.runs.folder import EvalFolder, FolderUnusable, check_run_name, evals_home
from evals.runs.manifest import DatasetFacts, Manifest, ManifestBroken, Settings, differences, read_manifest, same_task
from evals.runs.predict import target_of
from evals.runs.record import AttemptKey
from evals.runs.rows import rows_sha256

MINI: Final = "mini"


class RunConflict(Exception):
    """A run of that name was begun with other settings, or a manifest can't be repeated as it is."""


@dataclass(slots=True)
class Begun:
    """A run that this process may drive until `lock` is closed. `told`: lines for the user."""

    folder: EvalFolder
    manifest: Manifest
    instances: tuple[Instance, ...]
    lock: ExitStack
    told: list[str] = field(default_factory=list)


def dataset_of(source: str, split: str = "") -> Dataset:
    """The set that `source` names, the bundled one too. DatasetUnusable."""
    if source == MINI:
        from evals.mini.dataset import mini_dataset

        return mini_dataset()
    return load_dataset(source, split=split)


def dataset_facts(dataset: Dataset, split: str, chosen: Sequence[Instance]) -> DatasetFacts:
    return DatasetFacts(
        dataset.name,
        split,
        rows_sha256(chosen),
        tuple(instance.instance_id for instance in chosen),
        tuple(str(row) for row in dataset.broken),
    )


async def found_out(settings: Settings, dataset: DatasetFacts, name: str = "") -> Manifest:
    """The manifest of a run that would begin now, without a name. Raises RunProblem when the model can't be reached.

    `name`: whose predictions are graded, where there is no model to ask.
    """
    model: dict[str, Any] = {"name": name}
    sampling: dict[str, Any] = {}
    if settings.kind == "run":
        model, sampling = await facts.model_facts(replace(settings, model=target_of(settings.model)))
    return Manifest(
        run="",
        created=round(time.time(), 3),
        dataset=dataset,
        settings=settings,
        model=model,
        sampling=sampling,
        texts=facts.text_facts(),
        versions=facts.version_facts(settings.semantics),
        machine=facts.machine_facts(),
    )


def begin(wanted: Manifest, instances: tuple[Instance, ...], run: str = "", out: Path | None = None) -> Begun:
    """The run's folder, locked. FolderUnusable, RunConflict, ManifestBroken."""
    if run or out:
        name = check_run_name(run or (out.resolve().name if out else ""))
        return _named(EvalFolder((out or evals_home() / name).resolve()), wanted, instances, name)
    for folder in _unfinished(wanted):
        try:
            return _named(folder, wanted, instances, folder.path.name)
        except FolderUnusable:  # another process drives it
            continue
    name = _new_name(wanted.dataset.name)
    return _named(EvalFolder(evals_home() / name), wanted, instances, name)


def _named(folder: EvalFolder, wanted: Manifest, instances: tuple[Instance, ...], name: str) -> Begun:
    lock = ExitStack()
    lock.enter_context(folder.locked())
    try:
        if not folder.manifest.is_file():
            manifest = replace(wanted, run=name)
            folder.write_instances(instances)
            write_whole(folder.manifest, manifest.text())  # last: with it there, the run has begun
            return Begun(folder, manifest, instances, lock)
        before = read_manifest(folder.manifest)
        other = differences(before, replace(wanted, run=before.run))
        if not same_task(before, wanted):
            lines = "\n".join(f"  {line}" for line in other)
            raise RunConflict(
                f"the run {before.run} in {folder.path} was begun with other settings:\n{lines}\nGive the same again, "
                "or another name with --run."
            )
        told = [f"since the run was begun: {line}" for line in other]
        return Begun(folder, before, folder.read_instances(), lock, told)
    except BaseException:  # whatever it was: the lock isn't this caller's any more
        lock.close()
        raise


def reopened(run: str, out: Path | None) -> Begun | None:
    """A run that was begun, by its name or folder; None where there is none. FolderUnusable, ManifestBroken."""
    folder = EvalFolder((out or evals_home() / check_run_name(run)).resolve())
    if not folder.manifest.is_file():
        return None
    lock = ExitStack()
    lock.enter_context(folder.locked())
    try:
        return Begun(folder, read_manifest(folder.manifest), folder.read_instances(), lock)
    except BaseException:  # as above
        lock.close()
        raise


def repeated(path: Path) -> tuple[Manifest, tuple[Instance, ...]]:
    """A manifest to repeat and its rows: those kept beside it, else the set by its name. RunConflict, ManifestBroken.

    The rows must be the very same.
    """
    before = read_manifest(path)
    beside = EvalFolder(path if path.is_dir() else path.parent)
    wanted = set(before.dataset.instances)
    if beside.instances.is_file():
        rows = beside.read_instances()
    else:
        rows = dataset_of(before.dataset.name, before.dataset.split).instances
    chosen = tuple(instance for instance in rows if instance.instance_id in wanted)
    if rows_sha256(chosen) != before.dataset.sha256:
        raise RunConflict(
            f"the rows of {before.dataset.name} aren't those that {path} was run with: give its folder, with "
            "instances.jsonl in it, or the same revision of the set"
        )
    by_id = {instance.instance_id: instance for instance in chosen}
    return before, tuple(by_id[name] for name in before.dataset.instances)


def _unfinished(wanted: Manifest) -> Iterator[EvalFolder]:
    """Runs of the same task that have attempts left, the newest first."""
    found: list[tuple[float, EvalFolder]] = []
    for path in evals_home().glob("*/manifest.json"):
        folder = EvalFolder(path.parent)
        try:
            manifest = read_manifest(path)
        except ManifestBroken:  # of another release
            continue
        if same_task(manifest, wanted) and not _finished(folder, manifest):
            found.append((manifest.created, folder))
    return (folder for _, folder in sorted(found, key=lambda one: one[0], reverse=True))


def _finished(folder: EvalFolder, manifest: Manifest) -> bool:
    attempts = range(1, manifest.settings.attempts + 1)
    keys = (AttemptKey(manifest.run, name, k) for name in manifest.dataset.instances for k in attempts)
    return all(folder.record(key).is_file() for key in keys)


def _new_name(dataset: str) -> str:
    stem = Path(dataset.partition("@")[0]).name.split(".")[0]
    stem = re.sub(r"[^A-Za-z0-9_-]", "-", stem).strip("-") or "run"
    return f"{stem[:60]}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(2)}"
