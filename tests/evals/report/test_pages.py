"""Pages: complete without their script, closed to the outside, and text of others is only ever text."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.events import EventLog, EventType
from evals.report import page, report_of, trajectory_page, write_report
from evals.report.comparison import compare
from evals.report.comparison_page import comparison_page
from evals.report.html import Html, element, escaped
from evals.report.numbers import date
from evals.report.setup import setup_tables
from evals.report.sides import read_side
from evals.report.trajectory_page import MAX_DIFF_LINES, cut, diff_block
from evals.runs.record import AttemptRecord, Judged, Predicted, Usage
from tests.evals.report.sample import manifest, put_trajectory, records, write_folder

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'--></style></title>\u202e\x1b[31m\ud800</pre>"
MARKUP = re.compile(r"<(script|img|iframe|object)\b[^>]*(alert|onerror)", re.IGNORECASE)


class Page(HTMLParser):
    """Elements, attributes and text of a page; fails where elements aren't closed in order."""

    VOID = frozenset({"meta", "link", "br", "hr", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert "svg" in self.open  # elsewhere the slash is ignored
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def values(self, name: str) -> list[str]:
        return [value or "" for _, attrs in self.found for key, value in attrs.items() if key == name]


def check_closed(text: str) -> Page:
    """Nothing in a page runs or is asked for but what it came with."""
    seen = Page(text)
    text.encode()  # no lone surrogate is left
    tags = {tag for tag, _ in seen.found}
    assert not tags & {"iframe", "object", "embed", "form", "base", "img", "video", "audio", "image", "use"}
    for _, attrs in seen.found:
        assert not [name for name in attrs if name.startswith("on") or name == "style"]
    assert not seen.values("src")
    for address in seen.values("href"):
        assert address == "data:," or address.startswith(("#", "trajectories/", "../../../report.html#")), address
    assert len(seen.values("id")) == len(set(seen.values("id")))
    policy = seen.values("content")[0]
    assert policy.startswith("default-src 'none'; style-src 'sha256-") and "unsafe" not in policy
    for tag in ("style", "script"):
        for source in re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL):
            digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
            assert f"{tag}-src 'sha256-{digest}'" in policy
    return seen


@pytest.mark.parametrize("attempts", [1, 4])
def test_a_page_says_what_the_report_says(attempts: int) -> None:
    report = report_of(records(attempts), manifest(attempts))
    seen = check_closed(page(report))
    rate = report["resolved"]
    for said in (
        f"{rate['resolved']} of {rate['attempts']} attempts",
        f"95 % interval {100 * rate['low']:.1f} to {100 * rate['high']:.1f} % (Wilson)",
        "The denominator: all attempts asked for; an infrastructure failure counts as not resolved.",
        "Qwen/Qwen3.6-27B",
        "django/django",
        "15 min - 1 hour",
        "median",
        "the image could not be pulled: 429",
        "temperature",
        "785e56ae65845d8a",
        "swebench 4.1.0",
    ):
        assert said in seen.text
    assert ("pass^k" in seen.text) == (attempts > 1)
    rows = [attrs for tag, attrs in seen.found if tag == "tr" and "data-kind" in attrs]
    assert len(rows) == 60 * attempts
    assert f"trajectories/django__django-11000/{attempts}/index.html" in seen.values("href")
    labelled = [attrs for tag, attrs in seen.found if tag == "svg" and attrs.get("role") == "img"]
    ids = set(seen.values("id"))
    assert len(labelled) >= 7
    assert all(set(str(attrs["aria-labelledby"]).split()) <= ids for attrs in labelled)


def test_the_set_up_is_what_was_chosen_not_what_follows_from_it() -> None:
    text = Page(setup_tables({"environments": {"x": {"image": "unseen"}}, "later": {"part": [1, 2]}} | manifest())).text
    assert "limits.steps 250" in text and "part 1, 2" in text and "a rule" in text
    assert "django__django" not in text and "unseen" not in text


def test_pages_of_little_and_of_nothing() -> None:
    check_closed(page(report_of([], {})))
    unfinished = check_closed(page(report_of(records()[:2], manifest())))
    assert "Not finished: 58 attempts of 60" in unfinished.text
    given = [replace(one, predicted=Predicted("given")) for one in records()[:5]]
    assert "Nothing is known of it" in check_closed(page(report_of(given, {"model": "m", "dataset": "d"}))).text
    solved = [one for one in records() if one.status == "resolved"]
    assert "All of them are." in check_closed(page(report_of(solved, {}))).text


def hostile() -> list[AttemptRecord]:
    """An attempt that has markup in everything that somebody else may have written."""
    judged = Judged({"resolved": False, "tests_status": {"FAIL_TO_PASS": {"success": [], "failure": [EVIL]}}}, EVIL,
                    doubt=EVIL)  # fmt: skip
    predicted = Predicted(EVIL, EVIL, EVIL, Usage(5, 10, 5, 5), "javascript:alert(1)", (EVIL,), (EVIL,))
    first = AttemptRecord(EVIL, EVIL, 1, EVIL, EVIL, EVIL, predicted, judged, "", (EVIL,), (EVIL,), {EVIL: EVIL}, EVIL)
    away = replace(predicted, trajectory="trajectories/../../x/1")
    return [first, replace(first, instance_id=f"b{EVIL}", predicted=away, infrastructure=EVIL)]


def test_markup_in_names_messages_and_manifest_is_text() -> None:
    said: dict[str, Any] = {"run": EVIL, "dataset": {"name": EVIL, "instances": [f"c{EVIL}"]}, EVIL: {EVIL: [EVIL]}}
    said |= {"model": EVIL, "versions": {"patchwright": EVIL}}
    text = page(report_of(hostile(), said))
    seen = check_closed(text)
    assert not MARKUP.search(text) and "\x1b" not in text and "\u202e" not in text
    assert seen.text.count("<script>alert(1)</script>") > 15
    assert r"\u202e\x1b[31m\ud800" in seen.text


def test_markup_in_a_trajectory_is_text(tmp_path: Path) -> None:
    """Issue, thinking, text, calls, observations, nudges, diffs, checks: all as hostile as they can be."""
    log = EventLog(tmp_path / "events.jsonl")
    log.append(EventType.RUN_STARTED, issue={"text": EVIL, "source": EVIL}, base={"tree": "0" * 40})
    log.append(EventType.TURN_DROPPED, turn=0, ids=[], why=EVIL)
    log.append(
        EventType.TURN, turn=0, ids=[1], finish="stop", reasoning=EVIL, content=EVIL,
        calls=[{"name": EVIL, "arguments": {EVIL: EVIL, "more": {EVIL: [EVIL]}}}, {"name": "none", "arguments": None}],
        problems=[{"call": 0, "kind": "x", "message": EVIL}],
        usage={"prompt": 4, "cached": 2, "completion": 1}, seconds=1.0,
    )  # fmt: skip
    log.append(EventType.OBSERVATION, turn=0, call=0, text=EVIL, failed=True, facts={"images": [{"blob": EVIL}]})
    log.append(EventType.OBSERVED, turn=0, ids=[], nudge=EVIL)
    log.append(EventType.LOOP_ENDED, end=EVIL, message=EVIL, tree=EVIL)
    log.append(EventType.CHECK, kind="test", command=EVIL, verdict=EVIL)
    log.close()
    (tmp_path / "patch.diff").write_text(f"+{EVIL[:-8]}\n", errors="replace")
    steps = [{"turn": 0, "call": 0, "diff": f"+{EVIL}\n-{EVIL}\n@@ {EVIL}", "cut": True}, {"turn": 3}, 7]
    row = report_of(hostile(), {})["attempts"][0]
    text = trajectory_page(tmp_path, row, steps=steps)  # type: ignore[arg-type]
    seen = check_closed(text)
    assert not MARKUP.search(text) and "\x1b" not in text
    assert seen.text.count("<script>alert(1)</script>") >= 15
    assert "1 picture, not shown" in seen.text


def test_a_comparison_is_closed_too(tmp_path: Path) -> None:
    write_folder(tmp_path / "a", trajectories=0)
    evil = {"resolved_ids": ["django__django-11000", EVIL], "unresolved_ids": [f"b{EVIL}"], "error_ids": ["c"]}
    (tmp_path / f"{EVIL[:8]}.json").write_text(json.dumps(evil))
    found = compare(read_side(tmp_path / "a"), read_side(tmp_path / f"{EVIL[:8]}.json"))
    found["b"]["models"] = found["b"]["name"] = EVIL
    found["settings"] = [[EVIL, EVIL, EVIL]]
    text = comparison_page(found)
    assert check_closed(text) and not MARKUP.search(text)


def test_a_trajectory_is_shown_with_what_each_step_changed(tmp_path: Path) -> None:
    put_trajectory(tmp_path / "t")
    events = [json.loads(line) for line in (tmp_path / "t" / "events.jsonl").read_text().splitlines()]
    turns = [event["data"] for event in events if event["type"] == "turn"]
    (tmp_path / "t" / "steps.json").write_text(
        json.dumps(
            {"format": 1, "steps": [{"turn": turns[1]["turn"], "call": 0, "diff": "+of the step\n", "cut": True}]}
        )
    )
    seen = check_closed(trajectory_page(tmp_path / "t"))
    assert len([1 for tag, attrs in seen.found if tag == "section" and attrs.get("class") == "turn"]) == len(turns)
    for said in ("mean() is too small", turns[0]["calls"][0]["name"], "changed (cut)", "+of the step", "len(values)"):
        assert said in seen.text
    assert seen.text.index("Step 2") < seen.text.index("+of the step") < seen.text.index("Step 3")
    (tmp_path / "t" / "steps.json").write_text("{}")
    assert "What each step changed wasn't kept" in Page(trajectory_page(tmp_path / "t")).text


def test_a_damaged_or_missing_log_is_said(tmp_path: Path) -> None:
    assert "the log can't be read" in check_closed(trajectory_page(tmp_path)).text
    put_trajectory(tmp_path / "t")
    lines = (tmp_path / "t" / "events.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "t" / "events.jsonl").write_text("".join([*lines[:9], "{torn\n", *lines[9:]]))
    assert "the log is damaged" in check_closed(trajectory_page(tmp_path / "t")).text


def test_sizes_are_bounded(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    usage = {"prompt": 4, "cached": None, "completion": 1}
    for turn in range(700):
        calls = [{"name": "bash", "arguments": {"command": "x" * 9_000}}]
        log.append(EventType.TURN, turn=turn, reasoning="r" * 90_000, content="", calls=calls, usage=usage, seconds=1.0)
        log.append(EventType.OBSERVATION, turn=turn, call=0, text="o" * 9_000, failed=False)
    log.close()
    (tmp_path / "patch.diff").write_text("+line\n" * 40_000)
    text = trajectory_page(tmp_path)
    assert len(text) < 8_000_000 and "turns at the end left out" in text
    assert len(diff_block("+x\n" * 99_999)) < 60 * (MAX_DIFF_LINES + 2)
    assert cut("a" * 100 + "b" * 100, 30) == "a" * 20 + "\n[... cut: 170 characters left out here ...]\n" + "b" * 10


def test_a_report_is_written_and_written_again_only_where_needed(tmp_path: Path) -> None:
    write_folder(tmp_path, trajectories=2)
    first = write_report(tmp_path)
    files = {path: path.read_bytes() for path in tmp_path.glob("**/*.html")}
    assert len(files) == 3 and json.loads((tmp_path / "report.json").read_text()) == json.loads(json.dumps(first))
    for path in files:
        check_closed(path.read_text())
    times = {path: path.stat().st_mtime_ns for path in files}
    write_report(tmp_path)
    assert {path: path.read_bytes() for path in files} == files
    kept = [path for path in files if path.stat().st_mtime_ns == times[path]]
    assert len(kept) == 2
    (kept[0].parent / "patch.diff").write_text("+another\n")
    write_report(tmp_path)
    assert b"+another" in kept[0].read_bytes()


@settings(deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=[])))
def test_escaped_text_is_the_text_again(text: str) -> None:
    made = element("p", text, title=text)
    made.encode()
    assert not re.search(r"[<>]", made[2:-4].partition(">")[2])
    assert Page(made).found[0][0] == "p"
    if text.isascii() and text.isprintable():
        assert "".join(Page(made).words) == text and Page(made).found[0][1]["title"] == text


def test_only_what_was_made_here_is_markup() -> None:
    assert element("p", "<b>", Html("<i></i>"), ["&", None, 3]) == "<p>&lt;b&gt;<i></i>&amp;3</p>"
    assert escaped('"') == "&quot;"
    for wrong in (
        {"onclick": "x"},
        {"style": "x"},
        {"href": "javascript:x"},
        {"href": "//host"},
        {"href": "/etc"},
        {"href": "\\\\h"},
    ):
        with pytest.raises(ValueError, match="of ours"):
            element("a", "x", **wrong)  # type: ignore[arg-type]


def call(command: str) -> dict[str, Any]:
    return {"name": "bash", "arguments": {"command": command}}


def test_a_call_is_shown_as_one_would_write_it(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    edit = {"command": "str_replace", "new_str": "b\nc\n", "old_str": "a\n", "path": "x.py"}
    calls = [call("ls"), {"name": "str_replace_editor", "arguments": edit}]
    usage = {"prompt": 4, "completion": 1}
    log.append(EventType.TURN, turn=0, calls=calls, usage=usage, seconds=1.0)
    log.append(EventType.TURN, turn=1, calls=[call("ls " + "x" * 90 + "\ny")], usage=usage, seconds=1.0)
    log.append(EventType.OBSERVATION, turn=1, call=0, text="", failed=True)
    log.close()
    text = trajectory_page(tmp_path)
    assert '<strong>bash</strong></p><pre class="asked">ls</pre>' in text
    assert re.search(
        r'<span class="minus">-a</span><span class="plus">\+b</span><span class="plus">\+c</span></pre>', text
    )
    seen = Page(text).text
    assert "str_replace_editor command: str_replace path: x.py -a" in seen
    assert "bash, str_replace_editor bash ls " + "x" * 29 + "… – failed" in seen  # the list of all steps


def test_a_date_is_one_or_what_was_said_instead() -> None:
    assert date("1795403330.0") == "2026-11-23 03:08 UTC"
    assert [date(text) for text in ("nan", "1e99", "soon", "-1e300")] == ["nan", "1e99", "soon", "-1e300"]
    assert "2026-11-23 03:08 UTC" in Page(page(report_of([], manifest()))).text


def test_what_an_environment_leaks_stands_among_the_checks() -> None:
    first, second, *rest = records()
    known = {**first.environment, "leaks": [f"an installed copy of the fix {EVIL}"]}
    leaking = [replace(first, environment=known), replace(second, environment={"leaks": "not a list"}), *rest]
    shown = Page(page(report_of(leaking, manifest())))
    assert "The answer was in the environment" in shown.text and "an installed copy of the fix" in shown.text
    assert "The answer was in the environment" not in Page(page(report_of([second, *rest], manifest()))).text
