"""An instance as a row again: what a run keeps of its data set, hashes, and hands to other machines.

The row has the fields of the instance's own schema, so that `read_instance` gives the same instance back. Left out:
how a field was spelt in the source (tests as JSON in a string become lists).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

from evals.instance import Instance, Schema

_IMAGE: Final = {
    Schema.SWE_BENCH_PRO: "dockerhub_tag",
    Schema.SWE_SMITH: "image_name",
    Schema.SWE_BENCH_LIVE: "docker_image",
}
_TEXTS: Final = ("problem_statement", "base_commit", "patch", "test_patch", "version", "difficulty")
_FOLDERS: Final = frozenset({"bundled", "task_folder"})
_GRADER: Final = ("eval_script", "log_parser", "eval_type")


def row_of(instance: Instance) -> dict[str, Any]:
    """A row that `read_instance` reads as this instance."""
    schema = instance.schema
    tests = ("fail_to_pass", "pass_to_pass")
    texts = {name: getattr(instance, name) for name in (*_TEXTS, *_GRADER)}
    kept = ("eval_script", "log_parser") if schema is Schema.SWE_BENCH_5 else ()
    row: dict[str, Any] = {"instance_id": instance.instance_id, "repo": instance.repo}
    row |= {name: text for name, text in texts.items() if text or name in kept}
    named = {Schema.SWE_BENCH_PRO, Schema.SWE_SMITH}  # known by the field of their image
    if instance.image or schema in named:
        row[_IMAGE.get(schema, "image")] = instance.image
    for name in tests:
        row[name if schema is Schema.SWE_BENCH_PRO else name.upper()] = list(getattr(instance, name))
    return {**instance.rest, **row}


def row_line(instance: Instance) -> str:
    """The row as one line of JSON, the same for the same instance."""
    return json.dumps(row_of(instance), sort_keys=True, ensure_ascii=False, default=str)


def rows_sha256(instances: Iterable[Instance]) -> str:
    """Of all lines, in the order of their ids: names the content, wherever it came from and however it was cut.

    Where a task's folder lies says nothing of it.
    """
    named = (
        replace(one, rest={name: value for name, value in one.rest.items() if name not in _FOLDERS})
        for one in instances
    )
    lines = sorted((instance.instance_id, row_line(instance)) for instance in named)
    digest = hashlib.sha256()
    for _, line in lines:
        digest.update(line.encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()
