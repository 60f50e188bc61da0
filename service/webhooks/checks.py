"""Check runs and check suites that failed on a pull request of ours.

All that fail on one commit are one wish: whichever comes first says so, the job reads them all. Left out: logs and
annotations, which the job asks the forge for, and commit statuses, which belong to no pull request.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from agent.forges.base import FAILED
from service.webhooks.model import Myself
from service.webhooks.values import Value

_MOST_PULLS: Final = 100


@dataclass(frozen=True, slots=True)
class Failed:
    """`number` is the pull request's; `name` is the first failing check's, somebody else's text."""

    number: int
    sha: str
    name: str
    at: str


def read_checks(event: str, action: str, payload: Value, me: Myself) -> Failed | str:
    """Checks that failed, or why there is nothing to do."""
    found = payload.at(event)
    if action != "completed":
        return f"checks that are {action or 'changed'} ask for nothing"
    if found.text("conclusion", 40) not in FAILED:
        return "checks that didn't fail"
    app = found.maybe("app")
    if me.app is not None and app is not None and app.maybe_number("id") == me.app:
        return "a check of the bot's own"
    sha = found.sha("head_sha")
    number = _our_pull(found, sha, payload.at("repository").number("id"), me)
    if number is None:
        return "checks of no pull request of the bot's"
    return Failed(number, sha, found.text("name", 200), found.time("completed_at", "updated_at", "started_at"))


def _our_pull(found: Value, sha: str, repository: int, me: Myself) -> int | None:
    """The pull request from a branch of ours in this repository, at the commit that was checked.

    GitHub leaves the list empty for forks. A person can name a branch as we do: the job looks at who opened it.
    """
    for pull in found.each("pull_requests", _MOST_PULLS):
        head = pull.at("head")
        ours = head.text("ref", 400).startswith(me.branches) and head.text("sha", 100) == sha
        origin = head.maybe("repo")
        if ours and origin is not None and origin.maybe_number("id") == repository:
            return pull.number("number")
    return None
