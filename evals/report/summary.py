"""The report of an evaluation run as JSON: what is counted and over what, from its records and its manifest.

The same records give the same report: it holds no date of its own. Left out: showing it (`page`), reading and writing
files (`folder`), and comparing two runs (`comparison`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any, Final

from evals.report.asked import Asked, asked_of
from evals.report.causes import MEANINGS, Cause, cause_of, failed_tests, passed_of, signs_of
from evals.report.distributions import distribution
from evals.runs.record import AttemptRecord, Status, Usage
from evals.statistics import pass_at_k, pass_hat_k, wilson_clustered

FORMAT: Final = 1
MAX_LISTED: Final = 40  # tests of one list that are named for an attempt
MAX_TEXT: Final = 600  # characters of one message
_DIGITS: Final = 6  # of rates
_TIMES: Final = frozenset({"seconds", "judge_seconds", "started", "ended", "worker"})

Row = dict[str, Any]


def report_of(records: Iterable[AttemptRecord], manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The whole report, fit for JSON. A later record of the same attempt counts instead of an earlier one."""
    known = {(record.instance_id, record.attempt): record for record in records}
    found = [known[key] for key in sorted(known)]
    rows = [_row(record) for record in found]
    asked = asked_of(manifest, found)
    return {
        "format": FORMAT,
        "run": str(manifest.get("run") or next((record.run for record in found), "")),
        "models": sorted({record.model for record in found}),
        "manifest": _made_with(manifest),
        "counts": _counts(rows, asked),
        "resolved": _resolved(rows, asked),
        "repeats": _repeats(rows, asked),
        "by": {
            "repository": _by(rows, lambda row: row["repo"] or "not said"),
            "difficulty": _by(rows, lambda row: row["difficulty"] or "not said"),
            "end": _by(rows, lambda row: row["end"] or row["outcome"] or "not said"),
        },
        "usage": _usage(rows),
        "causes": _causes(rows),
        "leaks": [_named(row, "leaks") for row in rows if row["leaks"]],
        "doubts": [_named(row, "doubt") for row in rows if row["doubt"]],
        "infrastructure": [_named(row, "infrastructure") for row in rows if row["infrastructure"]],
        "missing": [{"instance_id": name, "attempt": attempt} for name, attempt in asked.missing(known)],
        "attempts": rows,
    }


def without_times(report: Mapping[str, Any]) -> dict[str, Any]:
    """What two runs of the same thing have in common: no seconds, no worker, no run's name, no failed tries."""
    same = {key: value for key, value in report.items() if key not in ("run", "manifest", "usage", "attempts")}
    same["counts"] = {key: value for key, value in report["counts"].items() if key != "retried"}
    same["usage"] = {key: value for key, value in report["usage"].items() if key != "seconds"}
    dropped = _TIMES | {"tries", "environment"}
    same["attempts"] = [{k: v for k, v in row.items() if k not in dropped} for row in report["attempts"]]
    return same


def _made_with(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest without what follows from it or stands in the attempts: seeds and environments of each instance."""
    kept = {name: value for name, value in manifest.items() if name != "environments"}
    if isinstance(seeds := kept.get("seeds"), Mapping):
        kept["seeds"] = {name: value for name, value in seeds.items() if name != "by_instance"}
    return kept


# -- one attempt ------------------------------------------------------------------------------------------------


def _row(record: AttemptRecord) -> Row:
    predicted, judged = record.predicted, record.judged
    usage = predicted.usage if predicted else Usage()
    report: Mapping[str, Any] = judged.report if judged else {}
    cause = cause_of(record)
    return {
        "instance_id": record.instance_id,
        "attempt": record.attempt,
        "status": record.status.value,
        "cause": cause.value if cause else None,
        "signs": [sign.value for sign in signs_of(record)],
        "repo": record.repo,
        "difficulty": record.difficulty,
        "outcome": predicted.outcome if predicted else "",
        "end": predicted.end if predicted else "",
        "message": _short(predicted.message) if predicted else "",
        "steps": usage.steps,
        "prompt_tokens": usage.prompt_tokens,
        "cached_tokens": usage.cached_tokens,
        "completion_tokens": usage.completion_tokens,
        "cost": usage.cost,
        "seconds": usage.seconds,
        "judge_seconds": judged.seconds if judged else 0.0,
        "swebench": judged.swebench if judged else "",
        "fail_to_pass": passed_of(report, "FAIL_TO_PASS"),
        "pass_to_pass": passed_of(report, "PASS_TO_PASS"),
        "failed": {
            which: [_short(test) for test in failed_tests(report, which)[:MAX_LISTED]]
            for which in ("FAIL_TO_PASS", "PASS_TO_PASS")
        },
        "edited": [_short(name) for name in predicted.edited[:MAX_LISTED]] if predicted else [],
        "leaks": [_short(leak) for leak in predicted.leaks[:MAX_LISTED]] if predicted else [],
        "doubt": _short(judged.doubt) if judged else "",
        "infrastructure": _short(record.infrastructure),
        "tries": [_short(one) for one in record.tries[:MAX_LISTED]],
        "environment": dict(record.environment),
        "trajectory": predicted.trajectory if predicted else "",
        "worker": record.worker,
        "started": record.started,
        "ended": record.ended,
    }


def _short(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]} ... ({len(text) - MAX_TEXT} characters more)"


def _named(row: Row, field: str) -> Row:
    return {"instance_id": row["instance_id"], "attempt": row["attempt"], field: row[field]}


# -- counts and rates -------------------------------------------------------------------------------------------


def _counts(rows: Sequence[Row], asked: Asked) -> dict[str, int]:
    by_status = Counter(row["status"] for row in rows)
    return {
        "instances": len({row["instance_id"] for row in rows}),
        "instances_asked": asked.instances,
        "attempts": len(rows),
        "attempts_asked": asked.total,
        "per_instance": asked.attempts,
        **{status.value: by_status[status.value] for status in Status},
        "missing": asked.total - len(rows),
        "doubtful": sum(row["cause"] == Cause.DOUBT for row in rows),
        "retried": sum(bool(row["tries"]) for row in rows),
    }


def rate_of(rows: Sequence[Row]) -> dict[str, Any]:
    """Resolved of these attempts: the mean over instances of the share that is resolved, with its interval."""
    groups: dict[str, list[bool]] = defaultdict(list)
    for row in rows:
        groups[row["instance_id"]].append(row["status"] == Status.RESOLVED)
    counted = [(sum(group), len(group)) for group in groups.values()]
    interval = wilson_clustered(counted)
    return {
        "resolved": sum(count for count, _ in counted),
        "attempts": len(rows),
        "instances": len(groups),
        "rate": round(fmean(count / size for count, size in counted), _DIGITS) if counted else None,
        "low": round(interval.low, _DIGITS),
        "high": round(interval.high, _DIGITS),
    }


def _resolved(rows: Sequence[Row], asked: Asked) -> dict[str, Any]:
    judged = [row for row in rows if row["status"] != Status.INFRASTRUCTURE]
    sure = [row for row in judged if row["cause"] != Cause.DOUBT]
    of = "all attempts asked for" if len(rows) >= asked.total else "the attempts that have ended"
    return {
        "denominator": f"{of}; an infrastructure failure counts as not resolved",
        **rate_of(rows),
        "with_a_verdict": rate_of(judged),
        "without_doubtful": rate_of(sure),
    }


def _repeats(rows: Sequence[Row], asked: Asked) -> dict[str, Any] | None:
    """pass@k and pass^k over the instances all of whose attempts have ended; None where each has one attempt."""
    most = asked.attempts
    if most < 2:
        return None
    groups: dict[str, list[bool]] = defaultdict(list)
    for row in rows:
        groups[row["instance_id"]].append(row["status"] == Status.RESOLVED)
    whole = [(len(group), sum(group)) for group in groups.values() if len(group) >= most]
    curve = []
    for k in range(1, most + 1):
        at = fmean(pass_at_k(n, c, k) for n, c in whole) if whole else None
        hat = fmean(pass_hat_k(n, c, k) for n, c in whole) if whole else None
        curve.append({"k": k, "pass_at": _rate(at), "pass_hat": _rate(hat)})
    times = Counter(min(c, most) for _, c in whole)
    return {
        "attempts": most,
        "instances": len(whole),
        "unfinished": len(groups) - len(whole),
        "curve": curve,
        "resolved_times": [times[count] for count in range(most + 1)],
    }


def _rate(value: float | None) -> float | None:
    return None if value is None else round(value, _DIGITS)


def _by(rows: Sequence[Row], key: Callable[[Row], str]) -> list[dict[str, Any]]:
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return [
        {"name": name, **rate_of(group), "infrastructure": sum(r["status"] == Status.INFRASTRUCTURE for r in group)}
        for name, group in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    ]


# -- what was used ----------------------------------------------------------------------------------------------


def _usage(rows: Sequence[Row]) -> dict[str, Any]:
    ran = [row for row in rows if row["steps"] or row["seconds"]]  # the agent's own, not somebody's predictions

    def of(value: Callable[[Row], float | None], *, whole: bool = False) -> dict[str, Any]:
        pairs = [(found, row["status"]) for row in ran if (found := value(row)) is not None]
        return distribution(pairs, len(rows) - len(pairs), whole=whole)

    return {
        "steps": of(lambda row: row["steps"], whole=True),
        "prompt_tokens": of(lambda row: row["prompt_tokens"], whole=True),
        "completion_tokens": of(lambda row: row["completion_tokens"], whole=True),
        "cached_share": of(lambda row: row["cached_tokens"] / row["prompt_tokens"] if row["prompt_tokens"] else None)
        | {"overall": _cached_overall(ran)},
        "cost": of(lambda row: row["cost"]),
        "seconds": of(lambda row: row["seconds"]),
    }


def _cached_overall(rows: Sequence[Row]) -> float | None:
    prompts = sum(row["prompt_tokens"] for row in rows)
    return round(sum(row["cached_tokens"] for row in rows) / prompts, _DIGITS) if prompts else None


def _causes(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """A cluster per cause that occurs, in the causes' own order."""
    clusters = []
    for cause in Cause:
        members = [row for row in rows if row["cause"] == cause]
        if members:
            clusters.append(
                {
                    "cause": cause.value,
                    "meaning": MEANINGS[cause],
                    "attempts": [[row["instance_id"], row["attempt"]] for row in members],
                    "also": sum(cause.value in row["signs"] for row in rows) - len(members),
                }
            )
    return clusters
