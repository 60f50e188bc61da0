"""What each recorded payload shape is read as: the bot `patchwright`, account 9001, label and branches of that name.

The payloads follow GitHub's public documentation of its webhooks; all values are made up.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from agent.forges.base import Place
from service.webhooks import Myself, Wish, WishKind

ME = Myself(name="patchwright", id=9001, label="patchwright", branches="patchwright/", app=31001)
SHA = "3f786850e387550fdab836ed7e6dc881de23001b"
FOLDER = Path(__file__).parent / "payloads"
LEDGER, HARBOR = (7001, "lighthouse-labs/ledger"), (7002, "lighthouse-labs/harbor")


def said(kind: WishKind, comment: int, text: str = "", number: int = 17, pull: bool = False) -> Wish:
    return Wish(kind, number, text, comment, Place.COMMENT, pull=pull)


def reviewed(review: int, text: str, comment: int | None = None) -> Wish:
    place = Place.REVIEW_COMMENT if comment else Place.REVIEW
    return Wish(WishKind.REVIEWED, 21, text, comment, place, review, SHA, pull=True)


NOBODY = "nobody speaks to the bot in it"

# A wish, or why there is none.
EXPECTED: dict[str, Wish | str] = {
    "issues.labeled": Wish(WishKind.FIX, 17),
    "issues.labeled.other": "another label than the bot's",
    "issues.labeled.closed": "the issue is closed",
    "issues.labeled.null_body": Wish(WishKind.FIX, 22),
    "issues.labeled.sender_null": "its sender's account was deleted: nobody asks",
    "issues.labeled.no_repository": "`repository` isn't an object",
    "issues.assigned": Wish(WishKind.FIX, 18),
    "issues.assigned.person": "it was assigned to somebody else",
    "issues.opened": "an issue that is opened asks for nothing",
    "issues.edited": "an issue that is edited asks for nothing",
    "issues.closed": Wish(WishKind.CLOSED, 17),
    "issues.transferred": Wish(WishKind.CLOSED, 20),
    "issue_comment.fix": said(WishKind.FIX, 550001),
    "issue_comment.fix.text": said(WishKind.FIX, 550001, "only `total`, please.\nLeave the printer alone."),
    "issue_comment.on_pull": said(WishKind.EXPLAIN, 550002, "why rounding comes last", 21, pull=True),
    "issue_comment.stop": said(WishKind.STOP, 550003),
    "issue_comment.nonsense": said(WishKind.HELP, 550004),
    "issue_comment.no_mention": NOBODY,
    "issue_comment.code": NOBODY,
    "issue_comment.quote": NOBODY,
    "issue_comment.hidden": NOBODY,
    "issue_comment.mail": NOBODY,
    "issue_comment.edited.adds": said(WishKind.FIX, 550010),
    "issue_comment.edited.same": "the edit changes nothing of what is asked",
    "issue_comment.deleted": "a comment that is deleted asks for nothing",
    "issue_comment.bot_sender": said(WishKind.FIX, 550013),  # whether bots may ask is the job's to find out
    "issue_comment.itself": "the bot itself did this",
    "issue_comment.null_body": NOBODY,
    "issue_comment.confusable": said(WishKind.HELP, 550016),  # the last line names the bot; none commands it
    "issue_comment.confusable_word": said(WishKind.HELP, 550017),
    "issue_comment.very_long": said(WishKind.FIX, 550018, ("word " * 30_000)[: 65_536 - 17].strip()),
    "pull_request.closed": Wish(WishKind.CLOSED, 21, sha=SHA, pull=True),
    "pull_request.synchronize": "a push by somebody else, which the next run finds in the branch",
    "pull_request.opened.fork": "a pull request that is opened asks for nothing",
    "review.changes_requested": reviewed(770001, "The helper is in the wrong module."),
    "review.approved": "an approval without words asks for nothing",
    "review.mention.fork": Wish(WishKind.FIX, 23, "the failing test", None, Place.REVIEW, 770003, SHA, pull=True),
    "review.not_ours": "a review of a pull request that isn't the bot's",
    "review_comment.created": reviewed(770001, "Round here, not above.", 660001),
    "review_comment.reply": reviewed(770005, "And the same below?", 660002),
    "review_comment.not_ours": NOBODY,
    "check_suite.failure": Wish(WishKind.CHECKS_FAILED, 21, sha=SHA, pull=True),
    "check_suite.success": "checks that didn't fail",
    "check_run.failure": Wish(WishKind.CHECKS_FAILED, 21, "tests (3.12)", sha=SHA, pull=True),
    "check_run.fork": "checks of no pull request of the bot's",
    "check_run.created": "checks that are created ask for nothing",
    "installation.created": Wish(WishKind.INSTALLED, 0, repositories=(LEDGER, HARBOR)),
    "installation.deleted": Wish(WishKind.REMOVED, 0),
    "installation.suspend": Wish(WishKind.REMOVED, 0),
    "installation.permissions.suspended": "the installation is suspended",
    "installation_repositories.added": Wish(WishKind.INSTALLED, 0, repositories=(HARBOR,)),
    "installation_repositories.removed": Wish(WishKind.REMOVED, 0, repositories=(HARBOR,)),
    "ping": "a ping",
    "organization.member_added": "an event that the bot doesn't follow",
    "star.created": "an event that the bot doesn't follow",
}


def recorded(name: str) -> tuple[str, dict[str, Any]]:
    """The event and the payload of a shape."""
    found = json.loads((FOLDER / f"{name}.json").read_text())
    return found["event"], found["payload"]
