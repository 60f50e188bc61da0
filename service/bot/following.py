"""What is said to a run that goes on: a command's words, a review with its inline comments, checks that failed.

All of it is other people's text, put as data between our own lines. Left out: saying it (`agent.follow_up`).
"""

from __future__ import annotations

from collections.abc import Sequence

from agent.follow_up import MAX_CHARACTERS
from agent.forges.base import Check, Person, ReviewComment
from service.bot.quiet import fenced
from service.bot.threads import Asked
from service.webhooks.visible import visible

_MOST_COMMENTS = 40
_MOST_HUNK = 1500
_MOST_LOG = 6000


def asked(person: Person | None, text: str) -> str:
    """What somebody wrote behind a command."""
    words = visible(text).shown.strip()
    return _bounded(f"{_name(person)} answers:\n\n{words}" if words else f"{_name(person)} asks you to go on.")


def words_of(asked: Asked) -> str:
    """A review's own words; empty where it is known by one of its comments, which is read with the others."""
    return visible(asked.text).shown.strip() if asked.comment is None else ""


def review(person: Person | None, text: str, comments: Sequence[ReviewComment]) -> str:
    """A review of the pull request, or single comments on its lines."""
    parts = [f"{_name(person)} has reviewed your change."]
    if text:
        parts.append(text)
    parts += [_inline(comment) for comment in comments[:_MOST_COMMENTS]]
    if (more := len(comments) - _MOST_COMMENTS) > 0:
        parts.append(f"({more} more comments are not shown.)")
    parts.append("Do what is asked where it is right. Where it isn't, leave the code and say why when you submit.")
    return _bounded("\n\n".join(parts))


def failing(checks: Sequence[Check]) -> str:
    """Checks of the pull request that failed on the last commit."""
    parts = ["Checks of your pull request fail on your last commit."]
    for check in checks:
        told = "\n".join(filter(None, (check.summary, check.text)))
        parts.append(f"{check.name} ({check.conclusion})" + (f":\n\n{fenced(told[-_MOST_LOG:])}" if told else ""))
        if check.log:
            parts.append(f"The end of its log:\n\n{fenced(check.log[-_MOST_LOG:])}")
    parts.append("Find out whether your change is the cause. If it is, mend it; if not, change nothing and say so.")
    return _bounded("\n\n".join(parts))


def _inline(comment: ReviewComment) -> str:
    place = comment.path if comment.line is None else f"{comment.path}, line {comment.line}"
    return f"On {place}:\n\n{fenced(comment.diff_hunk[-_MOST_HUNK:], 'diff')}\n\n{visible(comment.body).shown.strip()}"


def _name(person: Person | None) -> str:
    return person.login if person else "Somebody"


def _bounded(text: str) -> str:
    return text if len(text) <= MAX_CHARACTERS else text[: MAX_CHARACTERS - 20] + "\n(cut here)"
