"""From a patch to the five official files and a verdict, in a sandbox that nobody used before.

The order is the official one: checkout, patch, evaluation script, log, report. What differs on purpose: whatever stands
where the tests' patch adds files is removed first; there is no network; and a patch that doesn't apply, or whose tests
time out, has a report like all others (docs/decisions/0029).

Left out: which instances, how often, and what becomes of the verdicts (`evals.runs`).
"""

from __future__ import annotations

import shlex
import time
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, Final

from evals.grading.logs import read_log
from evals.grading.parsers import PARSERS
from evals.grading.semantics import GradingFailed, parser_family
from evals.grading.verdict import report as report_of
from evals.judging.applying import apply_patch, run
from evals.judging.base import (
    OUTPUT_FILE,
    PATCH_FAILED,
    PATCH_FILE,
    SCRIPT_FILE,
    JudgeSpec,
    JudgingFailed,
)
from evals.judging.doubts import doubt_of
from evals.judging.files import OfficialFiles, as_bytes
from evals.judging.patches import files_added, remarks
from evals.judging.place import Place, fresh_place
from evals.judging.script import ScriptUnknown, eval_script, smith_tests
from evals.judging.testing import TestRun, run_tests
from evals.runs.record import Judged
from sandbox.base import SandboxDied, SandboxError

_DIFF_SECONDS: Final = 120.0
_DIFF: Final = "git -c core.fileMode=false diff"
_COMMIT_BUG: Final = (
    "git -c user.name=Patchwright -c user.email=patchwright@localhost -c commit.gpgsign=false commit -q --no-verify -am"
)


async def judge(spec: JudgeSpec, patch: str, folder: Path, *, unpatched: bool = False) -> Judged:
    """Judge `patch` and write the five official files into `folder`, the instance's own.

    An empty patch gets the report of an empty patch and no run, as in the official harness, unless the row says
    `grade_empty_patch`. `unpatched`: run the tests on the base commit as it is. JudgingFailed when there is no verdict
    to be had, which is the infrastructure's doing.
    """
    started = time.monotonic()
    _script(spec, spec.environment.workdir)  # fails before anything is started
    try:
        files = OfficialFiles(folder)
        try:
            report, doubt = await _judged(spec, _ended(patch), files, unpatched)
            files.report(spec.instance.instance_id, report)
        finally:
            files.close()
    except OSError as problem:
        raise JudgingFailed(
            f"{folder} can't be written: {problem.strerror or problem}; make room or choose another folder", again=True
        ) from problem
    return Judged(report, spec.rules.release, round(time.monotonic() - started, 2), doubt)


def _script(spec: JudgeSpec, workdir: str) -> str:
    """The evaluation script for a checkout there. JudgingFailed also when nobody could read the log it makes."""
    try:
        family = parser_family(spec.rules, spec.instance.repo, spec.instance.log_parser, spec.parser)
        if family not in PARSERS:
            from evals.grading.official import official_parser

            official_parser(family, spec.instance, spec.rules)
        return eval_script(spec.instance, replace(spec.environment, workdir=workdir), spec.rules)
    except (GradingFailed, ScriptUnknown) as problem:
        raise JudgingFailed(str(problem), again=False) from problem


def _ended(patch: str) -> str:
    """A patch whose last newline is missing gets one: nobody takes its last hunk otherwise."""
    return f"{patch}\n" if patch and not patch.endswith("\n") else patch


async def _judged(spec: JudgeSpec, patch: str, files: OfficialFiles, unpatched: bool) -> tuple[dict[str, Any], str]:
    """The report's object and the doubt, with all other files written."""
    files.write(PATCH_FILE, as_bytes(patch))
    files.write(SCRIPT_FILE, as_bytes(_script(spec, spec.environment.workdir)))
    if not (patch or unpatched or spec.instance.rest.get("grade_empty_patch")):
        files.write(OUTPUT_FILE, b"")
        files.log("The patch is empty: nothing is run")
        return _report(spec, files, patch_is_none=True)[0], ""
    for remark in remarks(patch, spec.instance.test_patch):
        files.log(f"Note: {remark}")
    tests = None
    async with fresh_place(spec.environment, {"run": spec.run}) as place:
        # Without isolation the checkout lies where the machine has room, and /testbed may be somebody's.
        script = as_bytes(_script(spec, place.sandbox.workdir))
        files.write(SCRIPT_FILE, script)
        if await _patched(spec, place, patch, files):
            tests = await _tested(spec, place, script, files)
    files.log(f"Grading answer for {spec.instance.instance_id}...")
    report, log = _report(spec, files)
    files.log(f"report: {report}\nResult for {spec.instance.instance_id}: resolved: {report['resolved']}")
    return report, doubt_of(spec, report, log, tests)


def _report(spec: JudgeSpec, files: OfficialFiles, *, patch_is_none: bool = False) -> tuple[dict[str, Any], str]:
    """The official report's object, and the log's text. A log on which the official grader stops resolves nothing."""
    try:
        log = read_log(files.path(OUTPUT_FILE))
        instance = smith_tests(spec.instance) if spec.instance.patch_breaks else spec.instance
        return report_of(instance, log, spec.rules, patch_is_none=patch_is_none, parser=spec.parser), log.text
    except GradingFailed as problem:
        files.log(f"Error in evaluating model for {spec.instance.instance_id}: {problem}")
        unread = {"patch_is_None": False, "patch_exists": True, "patch_successfully_applied": False, "resolved": False}
        return unread, ""


async def _patched(spec: JudgeSpec, place: Place, patch: str, files: OfficialFiles) -> bool:
    """The bug that SWE-smith adds, and the patch. False, with the official words written, if it won't apply."""
    try:
        if spec.instance.patch_breaks:
            await _break(spec, place)
        if patch:
            file = place.state(PATCH_FILE)
            await place.sandbox.write(file, as_bytes(patch))
            applied = await apply_patch(place, file, spec.rules, files.log)
            if not applied.done:
                files.write(OUTPUT_FILE, f"{PATCH_FAILED}:\n{applied.said}".encode())
                return False
        else:
            files.log("Skipping the patch: the tests run on the base commit")
        await _clear_way(spec, place)
        return True
    except SandboxError as problem:
        raise JudgingFailed(f"applying the patch failed in the sandbox: {problem}", again=True) from problem


async def _break(spec: JudgeSpec, place: Place) -> None:
    """Add the bug, where the base commit is without it, and commit it, so that putting the tree back keeps it."""
    file = place.state("bug.diff")
    await place.sandbox.write(file, as_bytes(_ended(spec.instance.patch)))
    apply, name = "git apply --whitespace=nowarn", shlex.quote(file)
    add = f"{apply} {name} && {_COMMIT_BUG} Base"
    result = await run(place, f"if ! {apply} --check --reverse {name} 2>/dev/null; then {add}; fi")
    if result.exit_code:
        said = result.output.decode("utf-8", "replace").strip()
        raise JudgingFailed(
            f"the row's patch, which makes the bug, doesn't apply to {place.base.commit}: {said[-400:]}", again=False
        )


async def _clear_way(spec: JudgeSpec, place: Place) -> None:
    """Remove what stands where the tests' patch adds files: it wouldn't apply, and tests of the patch would count.

    Links on the way go first, or what lies behind them would be removed; git goes through none either.
    """
    added = files_added(spec.instance.test_patch)
    folders = {str(one) for path in added for one in PurePosixPath(path).parents} - {"."}
    lines = [f"if [ -L {folder} ]; then rm -- {folder} || exit; fi" for folder in map(shlex.quote, sorted(folders))]
    lines += [f"rm -rf -- {name} || exit" for name in map(shlex.quote, added)]
    result = await run(place, "\n".join(lines))
    if result.exit_code:
        said = result.output.decode("utf-8", "replace").strip()
        raise JudgingFailed(f"the way for the tests' new files can't be cleared: {said[-400:]}", again=True)


async def _tested(spec: JudgeSpec, place: Place, script: bytes, files: OfficialFiles) -> TestRun:
    """Run the script; what the checkout looks like before and after goes into the log, as in the harness."""
    try:
        before = await _diff(place)
        files.log(f"Git diff before:\n{before}")
        await place.sandbox.write(place.state(SCRIPT_FILE), script, mode=0o755)
        tests = await run_tests(place, spec, files)
    except SandboxError as problem:
        raise JudgingFailed(f"the sandbox failed while tests ran: {problem}", again=True, tests_ran=True) from problem
    files.log(f"Test runtime: {tests.seconds:_.2f} seconds")
    if tests.timed_out:
        files.log(f"Test timed out after {spec.seconds:g} seconds.")
    try:
        after = await _diff(place)
    except SandboxDied as problem:  # all that counts is on the disk already
        files.log(f"No git diff after the tests: {problem}")
        return tests
    files.log(f"Git diff after:\n{after}")
    if before != after:
        files.log("Git diff changed after running eval script")
    return tests


async def _diff(place: Place) -> str:
    result = await run(place, _DIFF, seconds=_DIFF_SECONDS)
    return result.output.decode("utf-8", "replace").strip()
