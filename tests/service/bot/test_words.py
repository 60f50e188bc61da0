"""What others wrote does nothing in our comments, whatever it is; what a run showed is told as it was."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.ends import Outcome
from agent.events import Event, EventType
from service.bot import texts
from service.bot.quiet import code, fenced, line, quiet, quoted, recorded
from service.bot.story import CheckSeen, Story, Used, story_of

NASTY = st.lists(
    st.one_of(
        st.sampled_from(
            ["@mia", "@octo/team", "#12", "gh-7", "GH-7", "octo/calc#3", "![", "](", "](http://x/y)", "<img src=x>",
             "`", "```", "````", "\n", "\\", "https://github.com/o/r/issues/1", "<!-- patchwright:status -->",
             "fixes #1", "\u202e", "\x1b[2J", "</details>", "\u200b", " ", "a", "_", "[x]: http://e/",
             "&#64;", "&commat;", "][", "]:", "www."]
        ),
        st.text(max_size=4),
    ),
    max_size=12,
).map("".join)  # fmt: skip


def does_something(text: str) -> list[str]:
    """What of a prose text the forge would act upon."""
    patterns = (
        r"&[#\w]",
        r"\]\[",
        r"\]:",
        r"(?i)\bwww\.",
        r"@\w",
        r"#\d",
        r"(?i)\bGH-\d",
        r"(?i)\bhttps?://\S",
        r"(?<!\\)(?:\\\\)*!\[",
        r"(?<!\\)(?:\\\\)*<",
    )
    hidden = r"[\u200b\u202a-\u202e\u2066-\u2069\ufeff]"
    return [
        found[0] for pattern in (*patterns, r"(?<!\\)(?:\\\\)*\]\(", hidden) for found in re.finditer(pattern, text)
    ]


@given(NASTY)
def test_prose_does_nothing(text: str) -> None:
    assert not does_something(quiet(text))
    assert not does_something(line(text))
    assert not does_something(quoted(text))
    assert all(row.startswith(">") for row in quoted(text).splitlines())


@given(NASTY)
def test_nothing_ends_a_block_of_code(text: str) -> None:
    first, *inner, last = fenced(text, "diff").splitlines()
    assert first == last + "diff"
    assert not any(row.lstrip().startswith(last) for row in inner)


@given(NASTY)
def test_nothing_ends_a_code_span(text: str) -> None:
    span = code(text)
    if span:
        ticks = re.match(r"`+", span)
        assert ticks is not None
        assert span.endswith(ticks[0])
        inside = span[len(ticks[0]) : -len(ticks[0])]
        assert ticks[0] not in re.findall(r"`+", inside)
        assert "\n" not in span


def test_plain_words_stay_as_they_are() -> None:
    text = "mean() divided by one too many; see calc/ops.py, line 3 (50 % of cases)."
    assert quiet(text) == text
    assert code("pytest -q") == "`pytest -q`"


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("Closes #1", "Closes the text of #1"), ("resolved: octo/x#12", "resolved: the text of octo/x#12"),
        ("fixes https://forge.example/o/r/issues/3", "fixes the text of https://forge.example/o/r/issues/3"),
        ("fix GH-4 [CI skip]", "fix the text of GH-4 (CI skip)"), ("It fixes mean().", "It fixes mean()."),
        ("a\n\nCo-authored-by: E <e@example.org>", "a\n\n> Co-authored-by: E <e@example.org>"),
        ("skip-checks: true", "> skip-checks: true"),
    ],
)  # fmt: skip
def test_words_of_others_do_nothing_in_a_commit(said: str, kept: str) -> None:
    assert recorded(said) == kept


SHOWN = CheckSeen("pytest -q", "named in submit", "fixed", 1, 0, "1 failed", "1 passed")
STORY = Story(
    "20260101-000000-abcd", "a" * 40, Outcome.VERIFIED, "", "The divisor was off.", (("M", "calc/ops.py"),), True,
    (SHOWN,), Used(6, 1000, 900, 80, None, 75.0), "qwen", "docker",
)  # fmt: skip
LINKS = texts.Links("https://bot.example/runs/1")


def test_a_pull_request_says_cause_change_evidence_limits_and_cost() -> None:
    body = texts.pull_body(STORY, 3, LINKS)
    parts = [
        "Fixes #3.",
        "> The divisor was off.",
        "`calc/ops.py` changed",
        "exit 1 before, 0 after",
        "1 failed",
        "there was none",
        "6 turns in 1 min: 1,000 tokens read, 90% of it cached, 80 written.",
        LINKS.run,
    ]
    places = [body.index(part) for part in parts]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("story", "said"),
    [
        (Story("r", outcome=Outcome.UNVERIFIED, files=(("A", "x"),), applies=True), "not shown to solve it"),
        (Story("r", outcome=Outcome.LIMIT, message="250 turns were used", files=(("A", "x"),)), "may be half done"),
        (Story("r", outcome=Outcome.UNVERIFIED, files=(("A", "x"),), applies=False), "did not apply"),
    ],
)
def test_what_was_not_shown_does_not_close_the_issue(story: Story, said: str) -> None:
    body = texts.pull_body(story, 3, LINKS)
    assert said in body
    assert "Fixes #3" not in body


@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_end_without_a_change_has_its_words(outcome: Outcome) -> None:
    words = texts.without_patch(Story("r", outcome=outcome, message="because @you"), LINKS)
    assert "@you" not in words
    assert len(words) > 60


def test_a_follow_up_replaces_what_was_shown_before() -> None:
    facts = {"exit_code": 0, "end": "exited", "output": "", "seconds": 0.1}
    kinds = [
        (EventType.RUN_STARTED, {"base": {"commit": "b", "notes": []}}),
        (EventType.OBSERVATION, {"ends_run": True, "facts": {"summary": "First."}}),
        (EventType.PATCH, {"files": [["M", "old"]], "tree": "t", "bytes": 1}),
        (EventType.CHECK, {"kind": "command", "command": "old", "source": "s", "verdict": "fixed",
                           "before": {**facts, "end": "deadline"}, "after": facts}),
        (EventType.RUN_ENDED, {"outcome": "verified", "exit_code": 0, "message": ""}),
        (EventType.FOLLOW_UP, {"text": "more", "tree": "", "source": "s"}),
        (EventType.OBSERVATION, {"ends_run": True, "facts": {"summary": "Now."}}),
        (EventType.RUN_ENDED, {"outcome": "no patch", "exit_code": 4, "message": ""}),
    ]  # fmt: skip
    events = [Event(number, 10.0 * number, kind, data) for number, (kind, data) in enumerate(kinds)]
    before, after = story_of("r", events[:5]), story_of("r", events)
    assert before.checks[0].before is None
    assert (before.verified, before.used.seconds) == (True, 40.0)
    assert (after.has_patch, after.checks, after.outcome, after.said) == (False, (), Outcome.NO_PATCH, 1)
    assert (after.earlier, after.summary) == (("First.",), "Now.")
    body = texts.pull_body(after, 1, LINKS)
    assert body.index("> First.") < body.index("> Now.")
    assert after.used.seconds == 60.0  # nobody was at work between an end and what was said then
