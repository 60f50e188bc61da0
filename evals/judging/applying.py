"""Applying a patch in the official order of fallbacks, inside the sandbox.

The commands are those of the official harness, so their quirks are, too: 5.0.2 puts the tree back between tries, which
fails after a `--3way` with conflicts, and 4.1.0 lets each try begin with what the last one left.

The patch is hostile text. `git apply` refuses paths into `.git`, out of the work folder and through links; `patch`
refuses all but the first, so the checkout's `.git` isn't there while it runs: no hook, filter or setting can be left
for the git commands that come after. Left out: the tests' own patch, which the evaluation script applies.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from evals.grading.semantics import Semantics
from evals.judging.base import PATCH_APPLIED, PATCH_FAILED, JudgingFailed
from evals.judging.place import Place
from sandbox.base import CommandEnd, CommandResult
from sandbox.guest_python import OURS

APPLY_SECONDS: Final = 600.0
MAX_SAID: Final = 1 << 20
"""Bytes that are kept of what a command says."""
_PATCH_TOOL: Final = "patch --batch"
COMMANDS: Final[dict[Semantics, tuple[str, ...]]] = {
    Semantics.V5: (
        "git apply --verbose",
        "git apply --verbose --3way",
        "git apply --verbose --reject",
        "patch --batch --forward --fuzz=5 -p1 -i",
    ),
    Semantics.V4: (
        "git apply --verbose",
        "git apply --verbose --reject",
        "patch --batch --fuzz=5 -p1 -i",
    ),
}
_RESET: Final = "git checkout -- . ; git clean -fd"
_WITHOUT_GIT: Final = """
command -v patch >/dev/null || exit 126
aside=$(mktemp -d) && mv .git "$aside/git" || exit 125
{command}
status=$?
find . -name .git -prune -exec rm -rf {{}} + && mv "$aside/git" .git || exit 125
rmdir "$aside"
exit $status
"""
_NO_TOOL, _NOT_PUT_BACK = 126, 125

Log = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Applied:
    """`command` that did it, "" for none: then `said` is the last one's output."""

    done: bool
    command: str
    said: str


async def run(place: Place, script: str, *, seconds: float = APPLY_SECONDS) -> CommandResult:
    """A shell line of ours in the work folder, with our git where the image has none."""
    return await place.sandbox.run(
        f'PATH="$PATH:{OURS}"\n{script}',
        cwd=place.sandbox.workdir,
        env=place.variables,
        timeout=seconds,
        max_output=MAX_SAID,
    )


async def apply_patch(place: Place, file: str, semantics: Semantics, log: Log) -> Applied:
    """Apply the patch that lies at `file` in the sandbox, and say so in the official words.

    JudgingFailed where the image lacks the tool that would be next; SandboxError.
    """
    said = ""
    for number, command in enumerate(COMMANDS[semantics]):
        if number and semantics is Semantics.V5:
            await run(place, _RESET)
        result = await _try(place, command, file)
        said = result.output.decode("utf-8", "replace")
        if result.exit_code == 0 and result.end is CommandEnd.EXITED:
            log(f"{PATCH_APPLIED}:\n{said}")
            return Applied(True, command, said)
        log(f"Failed to apply patch to container: {command}")
    if semantics is Semantics.V5:
        # A chain of tries can leave the patch applied in full while each of them failed.
        check = await run(place, f"git apply --check --reverse {shlex.quote(file)}")
        if check.exit_code == 0:
            log(f"{PATCH_APPLIED}: verified already applied")
            return Applied(True, "git apply --check --reverse", said)
    log(f"{PATCH_FAILED}:\n{said}")
    return Applied(False, "", said)


async def _try(place: Place, command: str, file: str) -> CommandResult:
    whole = f"{command} {shlex.quote(file)}"
    if not command.startswith(_PATCH_TOOL):
        return await run(place, whole)
    result = await run(place, _WITHOUT_GIT.format(command=whole))
    if result.exit_code == _NO_TOOL:
        raise JudgingFailed("the image has no `patch`, which the official order falls back to: add it", again=False)
    if result.exit_code == _NOT_PUT_BACK:
        said = result.output.decode("utf-8", "replace").strip()
        raise JudgingFailed(f"the checkout's .git could not be put back after `patch`: {said[-400:]}", again=True)
    return result
