"""Verification: the patch, on clean sandboxes that the model never touched.

The patch is applied to a fresh checkout and must give the very tree that the model left; then each check runs
without and with it. A patch is verified when it applies, at least one check fails without and passes with it,
and none passes without and fails with it. Nothing the model said counts, only what these commands returned.

Left out: which commands (`agent.checks`), and choosing among attempts.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from agent import checkout
from agent.checkout import Base
from agent.checks import Check
from agent.events import EventLog, EventType
from agent.worktree import Worktree
from sandbox.base import CommandEnd, CommandResult, Sandbox

_TAIL = 4000  # characters of a check's output that are kept
_NO_SUCH_COMMAND = 127


class Verdict(StrEnum):
    FIXED = "fixed"  # failed without the patch, passes with it
    KEPT = "kept"  # passes without and with it
    BROKEN = "broken"  # passes without it, fails with it, or fails more
    FAILING = "failing"  # fails without and with it
    UNCLEAR = "unclear"  # timed out or could not be run


@dataclass(frozen=True, slots=True)
class Verification:
    """What was shown. `verified` is the only thing that makes a run end with exit code 0."""

    applies: bool
    verdicts: tuple[Verdict, ...]

    @property
    def verified(self) -> bool:
        return self.applies and Verdict.FIXED in self.verdicts and Verdict.BROKEN not in self.verdicts


OpenSandbox = Callable[[str], Awaitable[Sandbox]]  # by purpose


async def verify(
    log: EventLog, bare: Path, base: Base, tree: str, patch: str, checks: Sequence[Check], open_sandbox: OpenSandbox
) -> Verification:
    """Prove that the patch applies, then run the checks on both sides. Raises SandboxError."""
    after = await open_sandbox("after")
    try:
        worktree = Worktree(after, bare, base)
        await worktree.fill()
        applies = await _applies(worktree, patch, tree)
        log.append(EventType.CHECK, kind="apply", passed=applies)
        verdicts: list[Verdict] = []
        if applies and checks:
            before = await open_sandbox("before")
            try:
                clean = Worktree(before, bare, base)
                await clean.fill()
                verdicts = [await _check(log, check, (before, clean), (after, worktree)) for check in checks]
            finally:
                await before.close()
        return Verification(applies, tuple(verdicts))
    finally:
        await after.close()


async def _applies(worktree: Worktree, patch: str, tree: str) -> bool:
    if not await worktree.apply(patch):
        return False
    await worktree.checkpoint()
    return worktree.tree == tree


Side = tuple[Sandbox, Worktree]


async def _check(log: EventLog, check: Check, before: Side, after: Side) -> Verdict:
    log.append(EventType.CHECK_STARTED, command=check.command, source=check.source)
    results = []
    for (sandbox, worktree), tree in ((before, check.before), (after, check.after)):
        if worktree.tree != tree:
            await worktree.switch(tree)
        cwd = f"{sandbox.workdir}/{check.cwd}"
        results.append(await sandbox.run(check.command, cwd=cwd, timeout=check.timeout))
        await worktree.checkpoint()  # a check may write files: the next one is put back on its own tree
    verdict = judge(*results)
    log.append(
        EventType.CHECK,
        kind="command",
        command=check.command,
        source=check.source,
        before=_facts(results[0]),
        after=_facts(results[1]),
        verdict=verdict,
    )
    return verdict


def _facts(result: CommandResult) -> dict[str, object]:
    text = result.output.decode("utf-8", "replace")
    return {
        "exit_code": result.exit_code,
        "end": result.end,
        "seconds": round(result.seconds, 2),
        "output": text[-_TAIL:],
    }


def judge(before: CommandResult, after: CommandResult) -> Verdict:
    """The verdict on one command's two results."""
    if after.end is not CommandEnd.EXITED or after.exit_code == _NO_SUCH_COMMAND:
        return Verdict.UNCLEAR
    failed_before = before.exit_code != 0 or before.end is not CommandEnd.EXITED
    if after.exit_code == 0:
        return Verdict.FIXED if failed_before else Verdict.KEPT
    if not failed_before:
        return Verdict.BROKEN
    new = failed_tests(after) - failed_tests(before)
    ran_before = bool(failed_tests(before))
    return Verdict.BROKEN if new and ran_before else Verdict.FAILING


def failed_tests(result: CommandResult) -> frozenset[str]:
    """Test ids that pytest's summary names as failed; empty for output that isn't pytest's."""
    text = result.output.decode("utf-8", "replace")
    return frozenset(re.findall(r"^(?:FAILED|ERROR) (\S+)", text, re.MULTILINE))


async def extract(log: EventLog, bare: Path, base: Base, tree: str, file: Path) -> str:
    """Write the patch between base and tree to a file, and say so in the log."""
    patch = await checkout.diff(bare, base.tree, tree)
    data = patch.encode("utf-8", "surrogateescape")
    partial = file.with_suffix(".partial")
    partial.write_bytes(data)
    partial.replace(file)
    files = await checkout.changed_files(bare, base.tree, tree)
    log.append(EventType.PATCH, tree=tree, bytes=len(data), files=[[status, path] for status, path in files])
    return patch
