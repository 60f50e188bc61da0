"""Running a task's tests inside a sandbox that the agent has worked in, or one that stands for it.

The tests come in only now, and what the agent may have put in their place goes first. Left out: what they mean
(`verdict`), and which sandbox it is (`judging`).
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from evals.terminal.start import PLACE
from evals.terminal.tasks import Layout, TerminalTask
from evals.terminal.verdict import Said
from sandbox.base import CommandEnd, FileProblem, Sandbox, SandboxError
from sandbox.policy import MIB

MAX_OUTPUT: Final = 8 * MIB
MAX_RESULT: Final = 4 * MIB
_NOT_OFFICIAL: Final = ("PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "TERM", "PAGER", "GIT_PAGER", "MANPAGER")
_PREPARE: Final = """
place=$1
chmod -R u+rwx "$place" 2>/dev/null
rm -rf "$place" && mkdir -p "$place/tests" "$place/solution" "$place/verifier" "$place/agent" "$place/artifacts" || exit
for link in tests logs/verifier; do
    [ -d "/$link/." ] || { echo "/$link doesn't lead to $place"; exit 1; }
done
"""


async def run_tests(sandbox: Sandbox, task: TerminalTask) -> Said:
    """Bring the tests in and run them, with their own time limit. SandboxError, OSError."""
    await _prepare(sandbox)
    await sandbox.unpack(tests_tar(task), f"{PLACE}/tests")
    command = "bash /tests/run-tests.sh" if task.layout is Layout.OLDER else "/tests/test.sh"
    unset = " ".join(name for name in _NOT_OFFICIAL if name not in task.env)
    result = await sandbox.run(
        f"unset {unset}\nexec {command} 2>&1 </dev/null",
        cwd=sandbox.workdir,
        env=dict(task.env),
        timeout=task.test_seconds,
        max_output=MAX_OUTPUT,
    )
    return Said(
        result.output.decode("utf-8", "replace"),
        result.exit_code,
        result.seconds,
        timed_out=result.end is CommandEnd.TIMEOUT,
        reward_json=await _left(sandbox, "reward.json"),
        reward_text=await _left(sandbox, "reward.txt"),
        ctrf=await _left(sandbox, "ctrf.json"),
    )


async def run_solution(sandbox: Sandbox, task: TerminalTask) -> str:
    """Run the task's own solution, in a sandbox that no agent works in; what it said. SandboxError, OSError."""
    await _prepare(sandbox)
    where = task.solution.parent if task.layout is Layout.NEWER else task.solution
    await sandbox.unpack(_packed([*where.iterdir()] if where.is_dir() else [where]), f"{PLACE}/solution")
    result = await sandbox.run(
        f"exec bash /solution/{task.solution.name} 2>&1 </dev/null",
        cwd=sandbox.workdir,
        env=dict(task.env),
        timeout=task.agent_seconds,
        max_output=MAX_OUTPUT,
    )
    return result.output.decode("utf-8", "replace") + f"\n[{result.end}, {result.exit_code}]\n"


async def _prepare(sandbox: Sandbox) -> None:
    prepared = await sandbox.run(["/bin/sh", "-c", _PREPARE, "sh", PLACE])
    if prepared.exit_code:
        said = prepared.output.decode("utf-8", "replace").strip()
        raise SandboxError(f"the places for the tests can't be made: {said[-400:]}. Run it again.")


async def _left(sandbox: Sandbox, name: str) -> str | None:
    """A file that the tests left; None where there is none."""
    try:
        data = await sandbox.read(f"{PLACE}/verifier/{name}", limit=MAX_RESULT)
    except FileProblem:
        return None
    return data.decode("utf-8", "replace")


def tests_tar(task: TerminalTask) -> bytes:
    """What goes to /tests: the folder of tests, and in the older layout the script beside it."""
    found = sorted(task.tests.iterdir()) if task.tests.is_dir() else []
    return _packed([*found, task.script] if task.layout is Layout.OLDER else found)


def _packed(paths: Iterable[Path]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in paths:
            tar.add(path, arcname=path.name, filter=_plain)
    return packed.getvalue()


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    if member.isfile() and member.name.endswith(".sh"):
        member.mode |= 0o111  # as both packages see to it
    return member
