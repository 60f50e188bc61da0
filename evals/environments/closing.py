"""What an image leaks beside its work folder: audited once, closed where it can be, told where it can't.

A sandbox mounts its own checkout over the image's, so the history of that one is out of reach. A checkout elsewhere in
the image isn't: its git folder is removed, in an image that an engine derives for that. Everything else that the audit
finds, such as a later version of the project in `site-packages`, may be what the tests need, so it stays and is told.

Left out: looking for gold, which needs no image of ours (`agent eval audit --dataset`).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from agent.ends import RunProblem
from agent.worktree import WorktreeProblem
from evals.environments.base import Tell
from evals.environments.code import Code
from evals.environments.facts import digest_of, is_there
from evals.instance import Instance
from evals.leaks import AuditFailed, Leak, LeakKind
from evals.leaks.own import audit_own
from evals.predictions import write_whole
from sandbox.images.cache import cache_dir
from sandbox.images.resolve import as_lines
from sandbox.scratch import scratch

_PLACE: Final = re.compile(r"(?:/[\w.+@ -]+){2,}")
_VERSION: Final = 1  # of what is looked for: a higher one asks again
_FAILED: Final = "it couldn't be audited: "
_ROUNDS: Final = 3  # an audit names twelve places of a kind at most


@dataclass(frozen=True, slots=True)
class Closed:
    """An image without the project's history, and what survives in it all the same: a line each."""

    image: str
    leaks: tuple[str, ...]


async def closed(kind: str, image: str, workdir: str, code: Code, instance: Instance, tell: Tell) -> Closed:
    """The image, audited and closed; what it came to is kept in the cache by the image's content and the commit.

    An audit that comes to nothing is a leak like any other here: it is told, and the environment can be used.
    Raises ImageProblem, SandboxUnavailable.
    """
    asked = json.dumps([_VERSION, kind, digest_of(kind, image), workdir, code.commit, instance.repo, instance.version])
    file = cache_dir() / "leaks" / f"{hashlib.sha256(asked.encode()).hexdigest()[:16]}.json"
    done = _read(file)
    if done is None or not is_there(kind, done.image):
        done = await _closed(kind, image, workdir, code, _without_gold(instance), tell)
        if not any(line.startswith(_FAILED) for line in done.leaks):
            write_whole(file, json.dumps({"image": done.image, "leaks": done.leaks}) + "\n")
    for line in done.leaks:
        tell(f"{instance.instance_id}: the image leaks: {line}")
    return done


def _read(file: Path) -> Closed | None:
    try:
        said: Any = json.loads(file.read_text("utf-8"))
        return Closed(str(said["image"]), tuple(map(str, said["leaks"])))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _without_gold(instance: Instance) -> Instance:
    """What an audit needs to know the project by."""
    return replace(instance, patch="", test_patch="", eval_script="", fail_to_pass=(), pass_to_pass=(), rest={})


async def _closed(kind: str, image: str, workdir: str, code: Code, instance: Instance, tell: Tell) -> Closed:
    leaks: tuple[Leak, ...] = ()
    for _ in range(_ROUNDS):
        tell(f"{instance.instance_id}: looking for leaks in {image}")
        try:
            done = await audit_own(
                code.repository, code.commit, kind=kind, image=image, workdir=workdir, instance=instance, progress=tell
            )
        except (AuditFailed, RunProblem, WorktreeProblem) as problem:  # an image without git, say
            return Closed(image, (f"{_FAILED}{problem}",))
        leaks = done.leaks
        histories = sorted({leak.where for leak in leaks if _removable(leak, workdir)})
        if not histories or kind == "bubblewrap":  # whose folders are recipes' or the user's own
            break
        tell(f"{instance.instance_id}: removing the project's history from the image: {', '.join(histories)}")
        image = await asyncio.to_thread(_without, kind, image, histories, tell)
    return Closed(image, tuple(map(str, leaks)))


def _removable(leak: Leak, workdir: str) -> bool:
    """Whether a leak is a git folder of the image's own, whose name the finding gives whole."""
    whole = _PLACE.fullmatch(leak.where) is not None and not leak.where.endswith("...")
    return leak.kind is LeakKind.CHECKOUT and whole and not f"{leak.where}/".startswith(f"{workdir}/")


def _without(kind: str, image: str, folders: list[str], tell: Tell) -> str:
    """An image derived from this one in which these folders are gone."""
    from sandbox.images.dockerfile import build_text
    from sandbox.images.engine import connect

    command = "rm -rf -- " + " ".join(map(shlex.quote, folders))
    text = f"FROM {image}\nUSER root\nRUN {json.dumps(['/bin/sh', '-ec', command])}\n"
    client = connect(kind)
    try:
        with scratch("closing") as empty:
            return build_text(client, text, empty, "the image without histories", as_lines(tell))
    finally:
        client.close()
