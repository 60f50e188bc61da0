"""Running the evaluation script inside the sandbox; its output goes into a file there and comes out within bounds.

The variables that our sandboxes set for an agent's comfort are taken away, because the official containers don't have
them and tests can tell: unbuffered output tears results in two, and pytest's own tests look for .pyc files.
"""

from __future__ import annotations

import asyncio
import shlex
import time
from dataclasses import dataclass
from typing import Final

from evals.grading.logs import MAX_LOG
from evals.judging.base import (
    OUTPUT_FILE,
    SCRIPT_FILE,
    TESTS_ERRORED,
    TESTS_TIMED_OUT,
    JudgeSpec,
    JudgingFailed,
    timeout_text,
)
from evals.judging.files import OfficialFiles
from evals.judging.place import Place
from sandbox.base import CommandEnd, CommandResult, FileProblem
from sandbox.guest_python import OURS
from sandbox.policy import MIB

LOOK_EVERY: Final = 1.0
"""Seconds between looks at the size of the output."""
KEPT_OF_TOO_LONG: Final = 8 * MIB
_PIECE: Final = 4 * MIB
_NOT_OFFICIAL: Final = (
    "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "TERM", "PAGER", "GIT_PAGER", "MANPAGER", "SYSTEMD_PAGER",
    "EDITOR", "VISUAL", "GIT_EDITOR", "GIT_SEQUENCE_EDITOR", "npm_config_yes",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TestRun:
    """How the script ended. `memory`: something was killed because the sandbox's memory limit was reached."""

    __test__ = False  # it is no test class

    seconds: float
    timed_out: bool = False
    too_long: bool = False
    memory: bool = False


async def run_tests(place: Place, spec: JudgeSpec, files: OfficialFiles) -> TestRun:
    """Run the script that lies in the place, and write its output to test_output.txt with the official words."""
    output = place.state(OUTPUT_FILE)
    started = time.monotonic()
    result = await _watched(place, spec, output)
    seconds = time.monotonic() - started
    if result is not None and result.exit_code == 127 and not await _size(place, output):
        said = result.output.decode("utf-8", "replace").strip()
        raise JudgingFailed(f"the image has no bash to run the evaluation script: {said[-400:]}", again=False)
    run = TestRun(
        seconds,
        timed_out=result is not None and result.end is CommandEnd.TIMEOUT,
        too_long=result is None or await _size(place, output) > MAX_LOG,
        memory=result is not None and result.end is CommandEnd.MEMORY,
    )
    await _bring(place, output, files, run, spec.seconds)
    return run


async def _watched(place: Place, spec: JudgeSpec, output: str) -> CommandResult | None:
    """The command's result; None when it was stopped because it wrote too much."""
    sandbox = place.sandbox
    unset = [name for name in _NOT_OFFICIAL if name not in spec.environment.env]
    script = (
        f'unset {" ".join(unset)}\nexport PATH="$PATH:{OURS}"\n'
        f"exec bash {shlex.quote(place.state(SCRIPT_FILE))} >{shlex.quote(output)} 2>&1 </dev/null"
    )
    env = {**spec.environment.env, **place.variables}
    running = asyncio.create_task(sandbox.run(script, cwd=sandbox.workdir, env=env, timeout=spec.seconds))
    try:
        while not running.done():
            await asyncio.wait({running}, timeout=LOOK_EVERY)
            if not running.done() and await _size(place, output) > MAX_LOG:
                return None
        return running.result()
    finally:
        if not running.done():
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def _size(place: Place, path: str) -> int:
    try:
        return (await place.sandbox.stat(path)).size
    except FileProblem:  # not there yet, or the tests took it away
        return 0


async def _bring(place: Place, output: str, files: OfficialFiles, run: TestRun, limit: float) -> None:
    """The output as it came, then the official words for a run that was stopped. The file is whole or not there."""
    scratch = files.path(f".{OUTPUT_FILE}.partial")
    bound = KEPT_OF_TOO_LONG if run.too_long else MAX_LOG
    try:
        with scratch.open("wb") as file:
            try:
                while file.tell() < bound:
                    piece = await place.sandbox.read(output, offset=file.tell(), limit=min(_PIECE, bound - file.tell()))
                    if not piece:
                        break
                    file.write(piece)
            except FileProblem as problem:
                file.write(f"\n{TESTS_ERRORED}: the tests' output is gone: {problem}\n".encode())
            if run.too_long:
                file.write(
                    f"\n{TESTS_ERRORED}: more than {MAX_LOG >> 20} MB of output; the rest is left out\n".encode()
                )
            if run.timed_out:
                # The last line is ours: without it a log whose markers are there would be graded when it is graded
                # again, where the harness never grades one that timed out.
                file.write(f"{timeout_text(limit)}\n{TESTS_TIMED_OUT}\n".encode())
        scratch.replace(files.path(OUTPUT_FILE))
    finally:
        scratch.unlink(missing_ok=True)
