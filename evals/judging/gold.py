"""Is an environment sound? The tests without a patch must fail, with the gold patch they must pass, every time.

What doesn't hold is put down test by test (`flaky`), so that a verdict which hangs on it can be marked. Nothing is
repaired and nothing is left out of a run because of it.

Left out: where environments come from, and what is printed (`cli.eval_gold`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from evals.grading.semantics import Semantics
from evals.instance import Instance
from evals.judging.base import OUTPUT_FILE, TEST_SECONDS, JudgeSpec, JudgingFailed
from evals.judging.flaky import InstanceTests, KnownTests, some
from evals.judging.judge import judge
from evals.judging.reversing import reversed_patch
from evals.terminal.judging import judge_task
from evals.terminal.tasks import is_terminal, task_of

if TYPE_CHECKING:
    from evals.environments.base import InstanceEnvironment
    from evals.runs.record import Judged

GOLD: Final = "gold"
UNPATCHED: Final = "unpatched"


class Soundness(StrEnum):
    """What the checks say of an instance's environment, the worst that holds."""

    SOUND = "sound"
    FLAKY = "flaky"
    """Some test's result differs between two runs of the same patch."""
    SOLVED = "solved before"
    """The tests pass without any patch."""
    BROKEN = "broken"
    """The gold patch isn't resolved in any run."""
    UNKNOWN = "unknown"
    """There was no environment, or its sandbox failed."""


@dataclass(frozen=True, slots=True)
class GoldCheck:
    """What was found of one instance. `gold` and `unpatched` say of each run whether it was resolved."""

    instance_id: str
    soundness: Soundness
    reason: str = ""
    gold: tuple[bool, ...] = ()
    unpatched: tuple[bool, ...] = ()
    failing: tuple[str, ...] = ()  # tests that fail with gold in every run
    flaky: tuple[str, ...] = ()
    seconds: float = 0.0
    environment: Mapping[str, Any] | None = None  # its facts

    def row(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self), "soundness": self.soundness.value}

    @property
    def known(self) -> InstanceTests:
        broken = self.reason if self.soundness is Soundness.BROKEN and not self.failing else ""
        return InstanceTests(frozenset(self.failing), frozenset(self.flaky), broken)


@dataclass(frozen=True, slots=True)
class GoldOptions:
    """How it is checked. Logs go below `folder` in the official layout, a run each: gold-1, unpatched-1, ..."""

    folder: Path
    times: int = 1
    seconds: float = TEST_SECONDS
    semantics: Semantics | None = None
    parser: str = ""


def gold_patch(instance: Instance) -> str:
    """What solves the instance; for SWE-smith, whose rows hold the bug, its reverse. ValueError when it has none."""
    return reversed_patch(instance.patch) if instance.patch_breaks else instance.patch


async def check_gold(instance: Instance, environment: InstanceEnvironment, options: GoldOptions) -> GoldCheck:
    """Judge the base commit and the gold patch, `times` each. Infrastructure's failures are in the answer."""
    facts = dict(environment.facts)
    if not _has_gold(instance):
        return GoldCheck(instance.instance_id, Soundness.UNKNOWN, "the row has no gold patch", environment=facts)
    runs: dict[str, list[Judged]] = {UNPATCHED: [], GOLD: []}
    try:
        gold_patch(instance)
        for number in range(1, options.times + 1):
            for name, judged in runs.items():
                judged.append(await _judged(instance, environment, options, name, number))
    except (JudgingFailed, ValueError) as problem:  # the latter: a bug that can't be turned round
        return GoldCheck(instance.instance_id, Soundness.UNKNOWN, str(problem), environment=facts)
    soundness, reason = _soundness(instance, runs, options)
    failing, flaky = _tests(runs)
    return GoldCheck(
        instance.instance_id,
        soundness,
        reason,
        gold=_resolved(runs[GOLD]),
        unpatched=_resolved(runs[UNPATCHED]),
        failing=failing,
        flaky=flaky,
        seconds=round(sum(one.seconds for judged in runs.values() for one in judged), 2),
        environment=facts,
    )


def _has_gold(instance: Instance) -> bool:
    if is_terminal(instance):
        return task_of(instance).solution.is_file()
    return bool(instance.patch or instance.rest.get("grade_empty_patch"))


async def _judged(
    instance: Instance, environment: InstanceEnvironment, options: GoldOptions, name: str, number: int
) -> Judged:
    run = f"{name}-{number}"
    spec = JudgeSpec(instance, environment, name, run, options.seconds, options.semantics, options.parser)
    folder = _folder(options, instance, name, number)
    if is_terminal(instance):
        return await judge_task(spec, "", folder, solution=name == GOLD)
    patch = gold_patch(instance) if name == GOLD else ""
    return await judge(spec, patch, folder, unpatched=not patch)


def _folder(options: GoldOptions, instance: Instance, name: str, number: int) -> Path:
    return options.folder / "logs" / "run_evaluation" / f"{name}-{number}" / name / instance.instance_id


def _resolved(judged: Iterable[Judged]) -> tuple[bool, ...]:
    return tuple(bool(one.report["resolved"]) for one in judged)


def _soundness(instance: Instance, runs: Mapping[str, Sequence[Judged]], options: GoldOptions) -> tuple[Soundness, str]:
    failing, flaky = _tests(runs)
    gold = _resolved(runs[GOLD])
    if not any(gold):
        if failing:
            why = f"; {doubt}" if (doubt := runs[GOLD][-1].doubt) else ""
            return Soundness.BROKEN, f"{len(failing)} tests fail with the gold patch: {some(failing)}{why}"
        if flaky:
            return Soundness.FLAKY, f"no run passes all tests, and {len(flaky)} differ: {some(flaky)}"
        log = _folder(options, instance, GOLD, 1) / OUTPUT_FILE
        return Soundness.BROKEN, f"the gold patch's log shows no valid run: {_last_line(log)}"
    # The right end of some of our own tasks is no patch: there both are the same.
    if any(_resolved(runs[UNPATCHED])) and (instance.patch or is_terminal(instance)):
        return Soundness.SOLVED, "the tests pass without a patch"
    if flaky or not all(gold):
        return Soundness.FLAKY, f"{len(flaky)} tests differ between runs: {some(flaky)}"
    return Soundness.SOUND, ""


def _last_line(log: Path) -> str:
    lines = log.read_bytes()[-4000:].decode("utf-8", "replace").strip().splitlines()
    return lines[-1][:200] if lines else "it is empty"


def _tests(runs: Mapping[str, Sequence[Judged]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Tests that fail in every run with gold, and tests whose result differs between two runs of the same patch."""
    gold = [_statuses(one) for one in runs[GOLD]]
    failing = {test for test in gold[0] if all(said.get(test) is False for said in gold)} if gold else set()
    flaky: set[str] = set()
    for judged in runs.values():
        said = [_statuses(one) for one in judged]
        names = {test for one in said for test in one}
        flaky |= {test for test in names if len({one.get(test) for one in said}) > 1}
    return tuple(sorted(failing)), tuple(sorted(flaky))


def _statuses(judged: Judged) -> dict[str, bool]:
    """Test -> whether it passed; tests in neither list aren't in."""
    lists = judged.report.get("tests_status") or {}
    return {
        test: passed
        for name in ("FAIL_TO_PASS", "PASS_TO_PASS")
        for key, passed in (("success", True), ("failure", False))
        for test in lists.get(name, {}).get(key, ())
    }


def known_of(checks: Iterable[GoldCheck]) -> KnownTests:
    """What runs should know of the checked instances."""
    return KnownTests({check.instance_id: check.known for check in checks if check.known})
