"""Writes the report of a run's folder: report.json, report.html, and a page beside each trajectory.

A page that is newer than everything it was made from is left alone, so that writing a large report again is quick.
Left out: what stands in them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from agent.step_diffs import NAME as STEPS
from evals.predictions import write_whole
from evals.report.instances import trajectory_address
from evals.report.page import page
from evals.report.summary import Row, report_of
from evals.report.trajectory_page import trajectory_page
from evals.runs.folder import read_records

JSON_NAME: Final = "report.json"
PAGE_NAME: Final = "report.html"
_MADE_BY: Final = Path(__file__).parent


class NoRun(Exception):
    """A folder that holds no evaluation run; the message says what to do."""


def read_manifest_json(folder: Path) -> dict[str, Any]:
    """The manifest as it stands, whatever release wrote it. NoRun."""
    path = folder / "manifest.json"
    try:
        said = json.loads(path.read_bytes())
    except OSError as error:
        raise NoRun(f"{path} can't be read ({error.strerror}): give the folder of an evaluation run") from error
    except (ValueError, RecursionError) as error:
        raise NoRun(f"{path} is no JSON ({error}): give the folder of an evaluation run") from error
    if not isinstance(said, dict):
        raise NoRun(f"{path} is no manifest: give the folder of an evaluation run")
    return said


def read_report(folder: Path) -> dict[str, Any]:
    """The report made from the folder's records as they are now. NoRun, RecordBroken."""
    return report_of(read_records(folder), read_manifest_json(folder))


def write_report(folder: Path, progress: Callable[[int, int], None] = lambda done, of: None) -> dict[str, Any]:
    """Write everything; gives the report. `progress` is told (pages written, of how many).

    NoRun, RecordBroken, OSError.
    """
    report = read_report(folder)
    write_whole(folder / JSON_NAME, json.dumps(report, indent=1, sort_keys=True) + "\n")
    rows = [row for row in report["attempts"] if trajectory_address(row)]
    for done, row in enumerate(rows):
        progress(done, len(rows))
        write_trajectory(folder, row)
    progress(len(rows), len(rows))
    write_whole(folder / PAGE_NAME, page(report))
    return report


def write_trajectory(folder: Path, row: Row) -> Path | None:
    """The page of one attempt; None where its folder isn't there."""
    path = folder / trajectory_address(row)
    if not path.parent.is_dir():
        return None
    record = folder / "records" / str(row["instance_id"]) / f"{row['attempt']}.json"
    sources = [path.parent / name for name in ("events.jsonl", "patch.diff", STEPS)]
    if not _newer(path, [record, *sources, *filter(Path.is_file, _MADE_BY.iterdir())]):
        write_whole(path, trajectory_page(path.parent, row))
    return path


def _newer(path: Path, sources: list[Path]) -> bool:
    try:
        written = path.stat().st_mtime_ns
        return all(source.stat().st_mtime_ns < written for source in sources if source.exists())
    except OSError:
        return False


def summary_lines(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The report in a few lines for a terminal: (what, how much)."""
    from evals.report.numbers import count, duration, interval, money, percent, short_count

    counts, rate, usage = report["counts"], report["resolved"], report["usage"]
    lines = [
        ("resolved", f"{count(rate['resolved'])} of {count(rate['attempts'])} attempts, {percent(rate['rate'])} "
                     f"({interval(rate['low'], rate['high'])})"),
        ("denominator", rate["denominator"]),
    ]  # fmt: skip
    for key, name in (("unresolved", "unresolved"), ("no_patch", "no patch"), ("infrastructure", "no verdict")):
        if counts[key]:
            lines.append((name, count(counts[key])))
    if counts["missing"]:
        lines.append(("not ended", f"{count(counts['missing'])} of {count(counts['attempts_asked'])}"))
    if repeats := report["repeats"]:
        last = repeats["curve"][-1]
        lines.append(
            (f"pass@{last['k']}, pass^{last['k']}", f"{percent(last['pass_at'])}, {percent(last['pass_hat'])}")
        )
    if usage["steps"]["known"]:
        lines.append(("tokens written", short_count(usage["completion_tokens"]["sum"])))
        lines.append(("cached", percent(usage["cached_share"]["overall"])))
        lines.append(("cost", money(usage["cost"].get("sum"))))
        lines.append(("time of attempts", duration(usage["seconds"]["sum"])))
    lines += [(f"cause: {one['cause']}", count(len(one["attempts"]))) for one in report["causes"]]
    if report["leaks"]:
        lines.append(("looked for the answer", count(len(report["leaks"]))))
    return lines
