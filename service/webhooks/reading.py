"""From the JSON of a delivery to what it asks for. Pure, and for every JSON: what can't be read is `Refused`.

One function for each event, in the table `_READERS`. They look at what GitHub documents for the event and at nothing
else; addresses in a payload are never followed. Left out: whether the sender may ask (the job finds out at the forge),
and whether the object is still in that state.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from agent.forges.base import Person, Place
from service.webhooks.checks import read_checks
from service.webhooks.commands import Command, command
from service.webhooks.installations import read_installation, read_repositories
from service.webhooks.model import Delivery, Myself, ObjectKey, ObjectKind, Refused, Wish, WishKind
from service.webhooks.values import MAX_TEXT, Malformed, Value

NOWHEN: Final = "0000-00-00T00:00:00Z"
_NAME = re.compile(r"[a-z_]{1,60}")


@dataclass(frozen=True, slots=True)
class Found:
    """What one event's reader found: the object, when, and the wish or why there is none."""

    object: ObjectKey
    at: str
    wish: Wish | None = None
    why_not: str = ""
    takes_back: bool = False


@dataclass(frozen=True, slots=True)
class Frame:
    """What all deliveries have, and who the bot is."""

    guid: str
    event: str
    action: str
    payload: Value
    sender: Person | None
    me: Myself

    @property
    def mine(self) -> bool:
        return self.me.is_me(self.sender)

    def nothing(self, kind: ObjectKind, number: int, at: str, why: str) -> Found:
        return Found(ObjectKey(kind, number, at), at, None, why)


Reader = Callable[[Frame], Found]


def read(event: str, delivery: str, payload: Any, me: Myself) -> Delivery | Refused:
    """What a delivery asks for. `event` and `delivery` are its headers; no JSON makes it raise."""
    guid = delivery[:100]
    try:
        return _read(event if _NAME.fullmatch(event) else "", guid, Value.of(payload), me)
    except Malformed as malformed:
        return Refused(guid, event[:60], str(malformed))


def _read(event: str, guid: str, payload: Value, me: Myself) -> Delivery:
    action = payload.text("action", 60)
    if event not in _READERS:
        key = ObjectKey(ObjectKind.OTHER, 0, "")
        why = "a ping" if event == "ping" else "an event that the bot doesn't follow"
        return Delivery(guid, event, action, 0, "", None, None, key, NOWHEN, None, why)
    sender = payload.person("sender")
    repository = payload.maybe("repository")
    frame = Frame(guid, event, action, payload, sender, me)
    reader = _READERS[event]
    if repository is None and reader in _OF_A_REPOSITORY:
        raise Malformed("`repository` isn't an object")
    installation = payload.maybe("installation")
    found = _without_asker(frame, reader(frame))
    return Delivery(
        guid=guid,
        event=event,
        action=action,
        repository_id=repository.number("id") if repository else 0,
        slug=repository.slug("full_name") if repository else "",
        installation=installation.maybe_number("id") if installation else None,
        sender=sender,
        object=found.object,
        at=found.at,
        wish=found.wish,
        why_not=found.why_not,
        takes_back=found.takes_back,
    )


def _without_asker(frame: Frame, found: Found) -> Found:
    """What ends work needs nobody; all else needs somebody whose permission can be looked up, and not ourselves."""
    if found.wish is None or found.wish.kind in (WishKind.CLOSED, WishKind.REMOVED, WishKind.INSTALLED):
        return found
    if frame.sender is None:
        return replace(found, wish=None, why_not="its sender's account was deleted: nobody asks")
    if frame.mine and found.wish.kind is not WishKind.CHECKS_FAILED:
        return replace(found, wish=None, why_not="the bot itself did this")
    return found


# -- issues and their comments


def _issues(frame: Frame) -> Found:
    issue = frame.payload.at("issue")
    number, at = issue.number("number"), issue.time("updated_at", "created_at")
    key = ObjectKey(ObjectKind.ISSUE, issue.number("id"), at)
    if frame.action in ("closed", "deleted", "transferred"):
        at = issue.time("closed_at", "updated_at", "created_at") if frame.action == "closed" else at
        return Found(ObjectKey(key.kind, key.id, at), at, Wish(WishKind.CLOSED, number))
    if frame.action == "labeled":
        why = _not_our_label(frame)
    elif frame.action == "assigned":
        why = "" if frame.me.is_me(frame.payload.person("assignee")) else "it was assigned to somebody else"
    else:
        return Found(key, at, None, f"an issue that is {frame.action or 'changed'} asks for nothing")
    if not why and issue.text("state", 20) == "closed":
        why = "the issue is closed"
    return Found(key, at, None, why) if why else Found(key, at, Wish(WishKind.FIX, number))


def _not_our_label(frame: Frame) -> str:
    name = frame.payload.at("label").text("name", 200)
    return "" if name.casefold() == frame.me.label.casefold() else "another label than the bot's"


def _issue_comment(frame: Frame) -> Found:
    issue, comment = frame.payload.at("issue"), frame.payload.at("comment")
    number, place = issue.number("number"), comment.number("id")
    at = comment.time("updated_at", "created_at")
    key = ObjectKey(ObjectKind.COMMENT, place, at)
    said = _said(frame, comment)
    if isinstance(said, str):
        return _silent(frame, key, said)
    wish = Wish(said.kind, number, said.text, place, Place.COMMENT, pull=issue.has("pull_request"))
    return Found(key, at, wish, takes_back=True)


def _said(frame: Frame, comment: Value) -> Command | str:
    """The command of a comment, or why there is none."""
    if frame.action not in ("created", "edited"):
        return f"a comment that is {frame.action or 'changed'} asks for nothing"
    body = comment.text("body", MAX_TEXT)
    asked = command(body, frame.me.name)
    if asked is None:
        return "nobody speaks to the bot in it"
    if frame.action == "edited" and asked == command(_before(frame), frame.me.name):
        return _SAME
    if frame.action == "edited" and not _is_own(frame, comment):
        return "somebody else edited it, and it is its author's words that would be asked for in their name"
    if frame.action == "edited" and asked.kind is WishKind.HELP:
        return "nobody commands the bot in it"
    return asked


def _is_own(frame: Frame, comment: Value) -> bool:
    author = comment.person("user")
    return author is not None and frame.sender is not None and author.id == frame.sender.id


def _before(frame: Frame) -> str:
    changes = frame.payload.maybe("changes")
    body = changes.maybe("body") if changes else None
    return body.text("from", MAX_TEXT) if body else ""


_SAME: Final = "the edit changes nothing of what is asked"


def _silent(frame: Frame, key: ObjectKey, why: str) -> Found:
    """A comment that asks for nothing. One that was edited or deleted may have asked; a deleted one is the last."""
    version = "9999-12-31T23:59:59Z" if frame.action == "deleted" else key.version
    changed = frame.action in ("edited", "deleted") and why != _SAME
    return Found(ObjectKey(key.kind, key.id, version), key.version, None, why, changed)


# -- pull requests, their reviews and inline comments


@dataclass(frozen=True, slots=True)
class _Pull:
    id: int
    number: int
    ours: bool
    sha: str
    updated: str


def _pull(frame: Frame) -> _Pull:
    """Ours is what the bot opened from a branch of its own, in the repository itself and not in a fork."""
    pull = frame.payload.at("pull_request")
    head, base = pull.at("head"), pull.at("base")
    origin, target = head.maybe("repo"), base.maybe("repo")
    inside = origin is not None and target is not None and origin.maybe_number("id") == target.maybe_number("id")
    named = head.text("ref", 400).startswith(frame.me.branches)
    author = pull.person("user")
    ours = inside and named and frame.me.is_me(author)
    return _Pull(pull.number("id"), pull.number("number"), ours, head.sha("sha"), pull.time("updated_at", "created_at"))


def _pull_request(frame: Frame) -> Found:
    pull, value = _pull(frame), frame.payload.at("pull_request")
    at = value.time("updated_at", "created_at")
    key = ObjectKey(ObjectKind.PULL, pull.id, at)
    if frame.action == "closed":
        at = value.time("closed_at", "updated_at", "created_at")
        wish = Wish(WishKind.CLOSED, pull.number, sha=pull.sha, pull=True)
        return Found(ObjectKey(key.kind, key.id, at), at, wish)
    if frame.action == "synchronize":
        whose = (
            "the bot's own push" if frame.mine else "a push by somebody else, which the next run finds in the branch"
        )
        return Found(key, at, None, whose)
    return Found(key, at, None, f"a pull request that is {frame.action or 'changed'} asks for nothing")


def _review(frame: Frame) -> Found:
    pull, review = _pull(frame), frame.payload.at("review")
    number, body = review.number("id"), review.text("body")
    at = review.time("submitted_at", "updated_at")
    key = ObjectKey(ObjectKind.REVIEW, number, at)
    if frame.action != "submitted":
        return Found(key, at, None, f"a review that is {frame.action or 'changed'} asks for nothing")
    asked = command(body, frame.me.name)
    if asked and (asked.alone or (asked.kind is not WishKind.HELP and not pull.ours)):
        wish = Wish(asked.kind, pull.number, asked.text, None, Place.REVIEW, number, pull.sha, pull=True)
        return Found(key, at, wish)
    if pull.ours and review.text("state", 40).casefold() == "approved" and not body.strip():
        return Found(key, at, None, "an approval without words asks for nothing")
    if pull.ours:
        return _reviewed(pull, number, at, body, None, Place.REVIEW)
    if asked:
        return Found(key, at, Wish(WishKind.HELP, pull.number, "", None, Place.REVIEW, number, pull.sha, pull=True))
    return Found(key, at, None, "a review of a pull request that isn't the bot's")


def _reviewed(pull: _Pull, review: int, at: str, text: str, comment: int | None, place: Place) -> Found:
    """A review and its inline comments come as deliveries of their own and are one wish: the job reads them all."""
    key = ObjectKey(ObjectKind.REVIEW, review, "submitted")
    return Found(key, at, Wish(WishKind.REVIEWED, pull.number, text, comment, place, review, pull.sha, pull=True))


def _review_comment(frame: Frame) -> Found:
    pull, comment = _pull(frame), frame.payload.at("comment")
    number, at = comment.number("id"), comment.time("updated_at", "created_at")
    key = ObjectKey(ObjectKind.REVIEW_COMMENT, number, at)
    review = comment.maybe_number("pull_request_review_id")
    said = _said(frame, comment)
    if review is not None and frame.action == "created":
        at = max(at, pull.updated)  # it was written before its review was submitted, and is said with it
    if pull.ours and frame.action == "created" and (isinstance(said, str) or not said.alone):
        if review is not None:
            return _reviewed(pull, review, at, comment.text("body"), number, Place.REVIEW_COMMENT)
        text = comment.text("body")
        wish = Wish(WishKind.REVIEWED, pull.number, text, number, Place.REVIEW_COMMENT, None, pull.sha, pull=True)
        return Found(key, at, wish)
    if isinstance(said, str):
        return _silent(frame, key, said)
    wish = Wish(said.kind, pull.number, said.text, number, Place.REVIEW_COMMENT, review, pull.sha, pull=True)
    return Found(key, at, wish, takes_back=True)


# -- checks, installations, all else


def _checks(frame: Frame) -> Found:
    failed = read_checks(frame.event, frame.action, frame.payload, frame.me)
    if isinstance(failed, str):
        return frame.nothing(ObjectKind.CHECKS, 0, NOWHEN, failed)
    key = ObjectKey(ObjectKind.CHECKS, failed.number, failed.sha)
    return Found(key, failed.at, Wish(WishKind.CHECKS_FAILED, failed.number, failed.name, sha=failed.sha, pull=True))


def _installed(frame: Frame) -> Found:
    reader = read_installation if frame.event == "installation" else read_repositories
    changed = reader(frame.action, frame.payload)
    # its times don't change with its repositories: only the delivery itself tells two changes from one
    key = ObjectKey(ObjectKind.INSTALLATION, changed.id, frame.guid)
    wish = Wish(changed.kind, 0, repositories=changed.repositories) if changed.kind else None
    return Found(key, changed.at, wish, changed.why_not)


_READERS: Final[dict[str, Reader]] = {
    "issues": _issues,
    "issue_comment": _issue_comment,
    "pull_request": _pull_request,
    "pull_request_review": _review,
    "pull_request_review_comment": _review_comment,
    "check_run": _checks,
    "check_suite": _checks,
    "installation": _installed,
    "installation_repositories": _installed,
}
_OF_A_REPOSITORY: Final = frozenset({_issues, _issue_comment, _pull_request, _review, _review_comment, _checks})
