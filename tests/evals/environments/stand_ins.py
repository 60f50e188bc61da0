"""Code that stands for base commits of real instances: source distributions of the release before the fix, under git.

    stand_ins(instances, folder)    # folder/<instance_id>, as `--repositories` takes it

A base commit itself can't be had from a package index. What the distribution lacks of it is what other people changed
between the release and the commit; that the instance's own patches apply, and what its tests say, shows whether that
matters. Left out: instances whose distributions hold no tests.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from evals.instance import Instance
from tests.replay.prepare import FLASK_5014, commit, unpack


@dataclass(frozen=True, slots=True)
class StandIn:
    """A release. `after`: instances whose fix and tests came between it and the base commit."""

    distribution: str
    version: str
    sha256: str
    after: tuple[str, ...] = ()
    to_base: Callable[[Path], None] = lambda tree: None


_DJANGO = StandIn("Django", "4.2", "")
STAND_INS: Mapping[str, StandIn] = {
    "pallets__flask-5014": StandIn(
        FLASK_5014.distribution, FLASK_5014.version, FLASK_5014.sha256, to_base=FLASK_5014.to_base
    ),
}


def stand_in(instance: Instance, known: Mapping[str, Instance], folder: Path) -> Path:
    """Make `folder/<instance_id>`. `known`: the instances that `after` may name. Raises SourceUnavailable."""
    of = STAND_INS[instance.instance_id]
    target = folder / instance.instance_id
    unpack(of, target)
    of.to_base(target)
    for name in of.after:
        for patch in (known[name].patch, known[name].test_patch):
            subprocess.run(["git", "apply", "-"], cwd=target, input=patch.encode(), check=True)
    commit(target, f"{of.distribution} {of.version}, for {instance.instance_id}")
    return target
