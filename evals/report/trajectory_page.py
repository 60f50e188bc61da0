"""One attempt as a page: its verdict, the patch, and every turn with thinking, calls, observations and what changed.

A reader of the attempt's folder: events.jsonl, patch.diff, and steps.json where that was kept. Everything in there was
written by a model or a repository: it is shown as text, and each piece and the page as a whole are cut where they get
too long to read. Left out: token ids, pictures (they are named), and what the verdict means (`evals.report.page`).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from agent.events import Event, EventLogError, EventType, read_events
from agent.runs import RunFolder
from agent.step_diffs import kept_steps
from agent.usage import turn_usage
from evals.report.html import Html, document, element
from evals.report.instances import STATUS_NAMES, anchor
from evals.report.numbers import NOTHING, count, duration, money, percent, plural
from evals.report.summary import Row

MAX_TEXT: Final = 8_000  # characters of one observation, argument or thought
MAX_DIFF_LINES: Final = 1_500
MAX_PAGE: Final = 6_000_000  # characters of all turns; the turns after that are only counted
_FEW: Final = 60  # steps whose list is open from the start
_BRIEF: Final = 400  # characters of thinking that is shown from the start
_GLANCE: Final = 32  # characters of a call in the list of all steps
_SHORT: Final = 100  # characters of an argument that stands in the line of its call
_MAIN: Final = frozenset({("bash", "command"), ("submit", "summary")})  # what a call is about, shown without a name
_REPLACEMENT: Final = frozenset({"old_str", "new_str"})
_TIP: Final = "cut: %s characters left out here"


def trajectory_page(run_folder: Path, row: Row | None = None, *, steps: Sequence[Row] | None = None) -> str:
    """The page of the run in `run_folder`. `row`: its attempt in a report; `steps`: diffs, else those of steps.json.

    A log that is damaged or missing gives a page that says so, with what could be read.
    """
    events, damage = _read(run_folder)
    steps = steps if steps is not None else kept_steps(run_folder)
    changed = [step for step in steps or () if isinstance(step, dict) and isinstance(step.get("diff"), str)]
    title = f"{row['instance_id']}, attempt {row['attempt']}" if row else run_folder.name
    turns, left = _turns(events, _by_call(changed))
    return document(
        title,
        element(
            "header",
            element("div", element("a", "Report", href=f"../../../report.html#{anchor(row)}"), class_="eyebrow")
            if row
            else None,
            element("h1", title),
            _facts(row) if row else None,
            _ways(events),
        ),
        element(
            "main",
            [element("p", note, class_="note") for note in _notes(damage, steps, left, row)],
            _tests(row) if row else None,
            _patch(run_folder),
            _issue(events),
            element("h2", "Turns", id="turns"),
            _overview(events, _by_call(changed)),
            turns or element("p", "No turn was taken.", class_="soft"),
            _after(events, changed),
        ),
        script=False,
    )


def _read(run_folder: Path) -> tuple[list[Event], str]:
    events: list[Event] = []
    try:
        for event in read_events(RunFolder(run_folder).events):
            events.append(event)  # noqa: PERF402 - those before the damage count
    except EventLogError as error:
        return events, f"the log is damaged and shown up to there ({str(error).rpartition('/')[2]})"
    except OSError as error:
        return events, f"the log can't be read ({error.strerror or error})"
    return events, ""


def _notes(damage: str, steps: Sequence[Row] | None, left: int, row: Row | None) -> Iterator[str]:
    if damage:
        yield f"Of this run {damage}."
    if steps is None:
        yield "What each step changed wasn't kept; the patch at the end is."
    if left:
        yield f"The page is full: {plural(left, 'turn')} at the end left out; events.jsonl has them."
    for leak in row["leaks"] if row else ():
        yield f"Looked for the answer: {leak}"
    for field, name in (("infrastructure", "No verdict"), ("doubt", "The environment is in doubt")):
        if row and row[field]:
            yield f"{name}: {row[field]}"


def _facts(row: Row) -> Html:
    share = row["cached_tokens"] / row["prompt_tokens"] if row["prompt_tokens"] else None
    lists = [("Issue's tests", row["fail_to_pass"]), ("Other tests", row["pass_to_pass"])]
    facts = [
        ("Result", STATUS_NAMES.get(row["status"], row["status"]), row["cause"] or ""),
        ("End", row["end"] or row["outcome"] or NOTHING, ""),
        *((name, f"{count(pair[0])} of {count(pair[1])}" if pair else NOTHING, "pass") for name, pair in lists),
        ("Steps", count(row["steps"]), duration(row["seconds"])),
        ("Tokens written", count(row["completion_tokens"]), f"{count(row['prompt_tokens'])} read"),
        ("Cached", percent(share), "of tokens read"),
        ("Cost", money(row["cost"]), "" if row["cost"] is not None else "not known"),
    ]
    cells = [
        element("div", element("dt", n), element("dd", v, element("small", s) if s else None)) for n, v, s in facts
    ]
    return element("dl", cells, class_="facts")


def _ways(events: Sequence[Event]) -> Html | None:
    """Links to the steps that failed or changed nothing are many; to the parts of the page they are few."""
    if not any(event.type is EventType.TURN for event in events):
        return None
    parts = (("Patch", "patch"), ("Issue", "issue"), ("Turns", "turns"), ("End", "end"))
    return element("nav", [element("a", name, href=f"#{slug}") for name, slug in parts], aria_label="Parts")


def _tests(row: Row) -> Html | None:
    parts = []
    for which, title in (("FAIL_TO_PASS", "Tests of the issue that fail"), ("PASS_TO_PASS", "Tests that it broke")):
        named = row["failed"][which]
        if named:
            passed, total = row["fail_to_pass" if which == "FAIL_TO_PASS" else "pass_to_pass"] or (0, len(named))
            more = total - passed - len(named)
            items = [element("li", element("code", name)) for name in named]
            items += [element("li", f"and {count(more)} more")] if more > 0 else []
            parts += [element("h3", f"{title} ({count(total - passed)})"), element("ul", items)]
    return element("section", element("h2", "Failing tests"), *parts) if parts else None


def _patch(run_folder: Path) -> Html:
    path = RunFolder(run_folder).patch
    try:
        with path.open("rb") as file:
            text = file.read(8 * MAX_PAGE).decode("utf-8", "replace")
    except OSError:
        text = ""
    shown = diff_block(text) if text.strip() else element("p", "There is none.", class_="soft")
    return element("section", element("h2", "Patch"), shown, id="patch")


def _issue(events: Sequence[Event]) -> Html | None:
    for event in events:
        if event.type is EventType.RUN_STARTED and isinstance(issue := event.data.get("issue"), dict):
            text = str(issue.get("text", ""))
            return element("section", element("h2", "Issue"), element("div", cut(text), class_="said"), id="issue")
    return None


# -- turns ------------------------------------------------------------------------------------------------------

Steps = Mapping[tuple[Any, Any], list[Row]]


def _by_call(steps: Sequence[Row]) -> Steps:
    found: dict[tuple[Any, Any], list[Row]] = defaultdict(list)
    for step in steps:
        found[step.get("turn"), step.get("call")].append(step)
    return found


def _turns(events: Sequence[Event], steps: Steps) -> tuple[list[Html], int]:
    """(the turns' sections, how many didn't fit)."""
    answers: dict[Any, list[Event]] = defaultdict(list)
    for event in events:
        if event.type in (EventType.OBSERVATION, EventType.OBSERVED):
            answers[event.data.get("turn")].append(event)
    sections: list[Html] = []
    size = left = 0
    for event in events:
        if event.type is EventType.TURN:
            if size > MAX_PAGE:
                left += 1
                continue
            section = _turn(event.data, answers[event.data.get("turn")], steps)
            size += len(section)
            sections.append(section)
        elif note := _between(event):
            sections.append(element("p", note, class_="note"))
    return sections, left


def _overview(events: Sequence[Event], steps: Steps) -> Html | None:
    """All steps in a line each: their calls, whether one failed, whether something changed."""
    failed = {
        event.data.get("turn") for event in events if event.type is EventType.OBSERVATION and event.data.get("failed")
    }
    changed = {turn for turn, _ in steps}
    items = []
    for event in events:
        if event.type is EventType.TURN:
            number = int(event.data.get("turn") or 0)
            calls = event.data.get("calls") or []
            names = ", ".join(str(call.get("name", ""))[:60] for call in calls) or "no call"
            about = element("span", f" {_about(calls[0])}", class_="mark") if len(calls) == 1 else None
            marks = [word for word, turns in (("changed", changed), ("failed", failed)) if number in turns]
            mark = element("span", f" – {', '.join(marks)}") if marks else None
            items.append(element("li", element("a", names, href=f"#step-{number + 1}"), about, mark))
    listed = element("ol", items, class_="names")
    return element("details", element("summary", "all steps"), listed, open=len(items) <= _FEW) if items else None


def _about(call: Mapping[str, Any]) -> str:
    """What a call is about, in a few words: its file, or how its command begins."""
    given = call.get("arguments")
    arguments = given if isinstance(given, dict) else {}
    said = next((str(arguments[name]) for name in ("path", "command", "pattern") if arguments.get(name)), "")
    line = said.strip().partition("\n")[0]
    return line if len(line) <= _GLANCE else f"{line[:_GLANCE]}…"


def _between(event: Event) -> str:
    match event.type:
        case EventType.RUN_RESUMED:
            return "The run was cut off here and went on later."
        case EventType.SANDBOX_DIED:
            return f"The sandbox died: {event.data.get('why', '')}"
        case EventType.MODEL_RETRY:
            return f"The model was asked again: {event.data.get('why', '')}"
        case EventType.TURN_DROPPED:
            return f"A turn was dropped: {event.data.get('why', '')}"
        case _:
            return ""


def _turn(data: Mapping[str, Any], answers: Sequence[Event], steps: Steps) -> Html:
    number = int(data.get("turn") or 0)
    parts: list[Html | None] = []
    if reasoning := str(data.get("reasoning") or "").strip():
        thought = element("div", cut(reasoning), class_="thinking")
        parts.append(
            element(
                "details",
                element("summary", f"thinking, {count(len(reasoning))} characters"),
                thought,
                open=len(reasoning) <= _BRIEF,
            )
        )
    if content := str(data.get("content") or "").strip():
        parts.append(element("div", cut(content), class_="said"))
    observed = {one.data.get("call"): one.data for one in answers if one.type is EventType.OBSERVATION}
    for index, call in enumerate(data.get("calls") or []):
        changed = steps.get((number, index), [])
        parts += [*_call(call, shown=bool(changed)), _observation(observed.get(index))]
        parts += [_changed(step) for step in changed]
    for problem in data.get("problems") or []:
        parts.append(element("p", f"not a sound call: {problem.get('message', '')}", class_="label"))
    for one in answers:
        if one.type is EventType.OBSERVED and one.data.get("nudge"):
            parts.append(_observation({"text": one.data["nudge"], "failed": True}))
    head = element("h2", f"Step {number + 1}", element("small", f" – {_figures(data)}"))
    return element("section", head, *parts, class_="turn", id=f"step-{number + 1}")


def _figures(data: Mapping[str, Any]) -> str:
    usage: Mapping[str, Any] = data.get("usage") or {}
    said = [f"{plural(usage.get('completion') or 0, 'token')} in {duration(data.get('seconds'))}"]
    if usage.get("prompt") and usage.get("cached") is not None:
        said.append(f"{percent(usage['cached'] / usage['prompt'], 0)} of {count(usage['prompt'])} cached")
    if data.get("prefix") and (lost := turn_usage(data).lost):
        said.append(lost)
    return "; ".join(said)


def _call(call: Mapping[str, Any], *, shown: bool) -> Iterator[Html]:
    """The tool with its short arguments in a line, then a block for each long one; a replacement as a diff.

    `shown`: what it changed follows, so a replacement needs to be seen only by who asks for it.
    """
    tool, given = str(call.get("name", "")), call.get("arguments")
    arguments = {
        str(name): value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in (given.items() if isinstance(given, dict) else ())
    }
    blocks = {
        name: text
        for name, text in arguments.items()
        if name in _REPLACEMENT or (tool, name) in _MAIN or _is_long(text)
    }
    short = [
        [" ", element("span", f"{name}: ", class_="soft"), element("code", text)]
        for name, text in arguments.items()
        if name not in blocks
    ]
    yield element("p", element("strong", tool), short, class_="call")
    if blocks.keys() >= _REPLACEMENT:
        before, after = blocks.pop("old_str"), blocks.pop("new_str")
        signed = [f"{sign}{line}" for sign, text in (("-", before), ("+", after)) for line in _lines(text)]
        diff = diff_block("\n".join(signed))
        yield element("details", element("summary", "as it was asked for"), diff) if shown else diff
    for name, text in blocks.items():
        if (tool, name) not in _MAIN:
            yield element("p", name, class_="label")
        yield element("pre", cut(text), class_="asked")


def _is_long(text: str) -> bool:
    return "\n" in text or len(text) > _SHORT


def _lines(text: str) -> list[str]:
    return text.removesuffix("\n").split("\n") if text else []


def _observation(data: Mapping[str, Any] | None) -> Html:
    if data is None:
        return element("p", "no answer", class_="label")
    facts = data.get("facts")
    pictures = facts.get("images") if isinstance(facts, dict) else None
    text = str(data.get("text", ""))
    if isinstance(pictures, list) and pictures:
        text += f"\n[{plural(len(pictures), 'picture')}, not shown]"
    return element("pre", cut(text), class_="failed" if data.get("failed") else None)


def _changed(step: Row) -> Html:
    cut_off = " (cut)" if step.get("cut") else ""
    return element("div", element("p", f"changed{cut_off}", class_="label"), diff_block(step["diff"]))


def _after(events: Sequence[Event], steps: Sequence[Row]) -> Html:
    """How the loop ended, what was changed after its last answer, and what the checks of the run itself said."""
    lines = [
        f"{event.data.get('end', '')}: {event.data.get('message', '')}"
        for event in events
        if event.type is EventType.LOOP_ENDED
    ]
    late = [_changed(step) for step in steps if step.get("call") is None]
    checks = []
    for event in events:
        if event.type is EventType.CHECK and event.data.get("kind") != "apply":
            command, verdict = str(event.data.get("command", "")), str(event.data.get("verdict", ""))
            checks.append(element("li", f"{verdict}: ", element("code", command[:MAX_TEXT])))
    return element(
        "section",
        element("h2", "End"),
        [element("p", line) for line in lines] or element("p", "The run has no end.", class_="soft"),
        late,
        [element("h3", "Checks that the run made itself"), element("ul", checks)] if checks else None,
        id="end",
    )


# -- pieces of text ---------------------------------------------------------------------------------------------


def cut(text: str, most: int = MAX_TEXT) -> str:
    """Head and tail of a long text, with a line between them that says how much is missing."""
    if len(text) <= most:
        return text
    head, tail = most * 2 // 3, most // 3
    return f"{text[:head]}\n[... {_TIP % count(len(text) - head - tail)} ...]\n{text[-tail:]}"


def diff_block(text: str) -> Html:
    """A diff with a colour for each kind of line."""
    lines = text.split("\n")
    if lines and not lines[-1]:
        lines.pop()
    more = len(lines) - MAX_DIFF_LINES
    shown = [_diff_line(line[:MAX_TEXT]) for line in lines[:MAX_DIFF_LINES]]
    if more > 0:
        shown.append(element("span", f"{plural(more, 'more line')}", class_="at"))
    return element("pre", shown, class_="diff", tabindex=0)


_LINE_KINDS: Final = (("+++", "file"), ("---", "file"), ("diff ", "file"), ("@@", "at"), ("+", "plus"), ("-", "minus"))


def _diff_line(line: str) -> Html:
    kind = next((name for start, name in _LINE_KINDS if line.startswith(start)), None)
    return element("span", line or " ", class_=kind)
