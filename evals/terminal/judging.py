"""A verdict on a Terminal-Bench task, in the sandbox that the agent worked in, as soon as the agent has ended.

Such tasks change things that no patch holds (files that git ignores, the home folder, programs that go on running), so
the agent's own sandbox is what is judged, as the official packages do it. What its tests said is kept in a file, which
the step of judging turns into the official files. Where there is no such file (a prediction of somebody else's, another
machine that went on) the patch is judged in a fresh sandbox, and the verdict says so.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from agent.ends import End, LoopEnded
from agent.last_look import looked_at
from evals.instance import Instance
from evals.judging.applying import apply_patch
from evals.judging.base import OUTPUT_FILE, PATCH_FAILED, PATCH_FILE, SCRIPT_FILE, JudgeSpec, JudgingFailed
from evals.judging.files import OfficialFiles, as_bytes
from evals.judging.place import fresh_place
from evals.predictions import write_whole
from evals.runs.manifest import Settings
from evals.runs.record import Judged
from evals.terminal.environment import checked_task
from evals.terminal.tasks import TerminalTask, is_terminal, task_of
from evals.terminal.testing import run_solution, run_tests
from evals.terminal.verdict import Said, Verdict, verdict
from sandbox.base import Sandbox, SandboxError

SAID_FILE: Final = "tests-said.json"
FROM_PATCH: Final = (
    "judged from the patch alone: what else the agent may have left (its home, ignored files, running programs) wasn't "
    "there"
)
WENT_ON: Final = "the attempt was cut off and went on: what it had left outside of its work folder was lost"


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the tests said, and whether in the sandbox that all of the work was done in."""

    said: Said
    whole: bool


def settings_for(instance: Instance, settings: Settings) -> Settings:
    """With the task's own time for the agent, where that is less than the run's."""
    if not is_terminal(instance):
        return settings
    seconds = min(settings.limits.seconds, task_of(instance).agent_seconds)
    return replace(settings, limits=replace(settings.limits, seconds=seconds))


@contextmanager
def judged_at_the_end(instance: Instance, folder: Path) -> Iterator[None]:
    """While this is open, a run of the agent that ends has its sandbox judged; what the tests say goes to `folder`."""
    if not is_terminal(instance):
        yield
        return
    file = folder / SAID_FILE

    async def look(sandbox: Sandbox, ended: LoopEnded, resumed: bool) -> None:
        if ended.end in (End.MODEL, End.SANDBOX, End.INTERRUPTED):
            return
        if resumed and file.is_file():  # the process died after the tests: the sandbox that they saw held more
            return
        try:
            said = await run_tests(sandbox, checked_task(instance))
        except (SandboxError, OSError):  # the fresh sandbox of the step of judging has to do, and says so
            return
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(file, json.dumps({"said": asdict(said), "whole": not resumed}) + "\n")

    with looked_at(look):
        yield


async def judge_task(
    spec: JudgeSpec, patch: str, folder: Path, *, seen: Path | None = None, solution: bool = False
) -> Judged:
    """The official files in `folder` and the verdict. `seen`: where `judged_at_the_end` kept what the tests said.

    Without it, or where nothing was kept, the tests run in a fresh sandbox with the patch, or behind the task's own
    solution. JudgingFailed.
    """
    started = time.monotonic()
    task = task_of(spec.instance)
    try:
        files = OfficialFiles(folder)
        try:
            files.write(PATCH_FILE, as_bytes(patch))
            files.write(SCRIPT_FILE, task.script.read_bytes())
            kept = _kept(seen)
            fresh = kept is None
            if kept is None:
                kept = await _in_fresh(spec, task, patch, files, solution)
            found = verdict(task.layout, kept.said) if kept else Verdict()
            if kept:
                files.write(OUTPUT_FILE, as_bytes(kept.said.output))
                files.log(_summary(kept.said))
            if found.environment:
                files.log(f"No verdict: {found.environment}")
                raise JudgingFailed(f"{spec.instance.instance_id}: {found.environment}", again=False, tests_ran=True)
            report = found.report() if kept else {**found.report(), "patch_successfully_applied": False}
            doubt = "" if found.resolved else _doubt(found, fresh=fresh, whole=kept is None or kept.whole, patch=patch)
            files.log(f"report: {report}\nResult for {spec.instance.instance_id}: resolved: {report['resolved']}")
            files.report(spec.instance.instance_id, report)
        finally:
            files.close()
    except OSError as problem:
        raise JudgingFailed(f"{folder} can't be written: {problem}; make room", again=True) from problem
    return Judged(report, task.layout.value, round(time.monotonic() - started, 2), doubt)


def _doubt(found: Verdict, *, fresh: bool, whole: bool, patch: str) -> str:
    """Why an unresolved verdict may not be the model's own."""
    reasons = [found.doubt]
    if fresh and patch:
        reasons.append(FROM_PATCH)
    elif not whole:
        reasons.append(WENT_ON)
    return "; ".join(filter(None, reasons))


def _kept(seen: Path | None) -> _Seen | None:
    if seen is None:
        return None
    try:
        data = json.loads((seen / SAID_FILE).read_bytes())
        return _Seen(Said(**data["said"]), bool(data["whole"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


async def _in_fresh(
    spec: JudgeSpec, task: TerminalTask, patch: str, files: OfficialFiles, solution: bool
) -> _Seen | None:
    """What the tests say of the patch in a sandbox that nobody used; None for a patch that doesn't apply."""
    async with fresh_place(spec.environment, {"run": spec.run}) as place:
        try:
            if patch:
                file = place.state(PATCH_FILE)
                await place.sandbox.write(file, as_bytes(patch if patch.endswith("\n") else f"{patch}\n"))
                applied = await apply_patch(place, file, spec.rules, files.log)
                if not applied.done:
                    files.write(OUTPUT_FILE, f"{PATCH_FAILED}:\n{applied.said}".encode())
                    return None
            if solution:
                files.log(f"The task's solution:\n{await run_solution(place.sandbox, task)}")
            return _Seen(await run_tests(place.sandbox, task), whole=True)
        except SandboxError as problem:
            raise JudgingFailed(
                f"the sandbox failed while tests ran: {problem}", again=True, tests_ran=True
            ) from problem


def _summary(said: Said) -> str:
    how = "were stopped at their time limit" if said.timed_out else f"ended with {said.exit_code}"
    rewards = [text.strip()[:200] for text in (said.reward_json, said.reward_text) if text]
    return f"The tests {how} after {said.seconds:.2f} s; reward: {', '.join(rewards) or 'none'}"


def folder_of(scratch: Path) -> Path:
    """Where an attempt keeps what its tests said."""
    return scratch / "terminal"
