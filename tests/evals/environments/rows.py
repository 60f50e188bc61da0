"""Instances of our own for the tests of environments."""

from __future__ import annotations

from typing import Any

from evals.instance import Instance, read_instance


def instance(instance_id: str = "acme__lib-1", **fields: Any) -> Instance:
    """A row of the 4.x schema, with these fields on top; those that are None aren't in it."""
    row: dict[str, Any] = {
        "instance_id": instance_id,
        "repo": "acme/lib",
        "version": "1.0",
        "base_commit": "0" * 40,
        "patch": "",
        "test_patch": "",
        "FAIL_TO_PASS": ["t"],
        "PASS_TO_PASS": [],
    }
    return read_instance({name: value for name, value in {**row, **fields}.items() if value is not None})
