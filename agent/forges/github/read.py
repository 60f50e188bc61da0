"""GitHub's JSON as values of the seam. What isn't as documented becomes a ForgeProblem, never a KeyError."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any, TypeVar

from agent.forges.base import (
    Check,
    Comment,
    ForgeProblem,
    Permission,
    Person,
    Pull,
    Repository,
    ReviewComment,
    Ticket,
)

Value = TypeVar("Value")
GHOST = Person(0, "ghost")  # stands for an account that was deleted
_ROLES = {
    "read": Permission.READ,
    "triage": Permission.TRIAGE,
    "write": Permission.WRITE,
    "maintain": Permission.MAINTAIN,
    "admin": Permission.ADMIN,
}


def read(function: Callable[[Any], Value], record: Any) -> Value:
    """`function(record)`. Raises ForgeProblem for a record of another form."""
    try:
        return function(record)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise ForgeProblem(
            f"GitHub's answer can't be read as {function.__name__} ({type(error).__name__} {error}): "
            "check the address of the API"
        ) from None


def read_all(function: Callable[[Any], Value], records: Any) -> list[Value]:
    return [read(function, record) for record in read(items, records)]


def items(records: Any) -> list[Any]:
    if not isinstance(records, list):
        raise TypeError("not a list")
    return records


def identifier(record: Any) -> int:
    return int(record["id"])


def first_of_thread(record: Any) -> int:
    """The review comment that a review comment's thread began with; itself, if it is that one."""
    return int(record.get("in_reply_to_id") or record["id"])


def author_of_permission(record: Any) -> int:
    return int(record["user"]["id"])


def person(record: Any) -> Person:
    if record is None:
        return GHOST
    return Person(int(record["id"]), str(record["login"]), record.get("type") == "Bot")


def repository(record: Any) -> Repository:
    return Repository(
        int(record["id"]),
        str(record["full_name"]),
        str(record["default_branch"]),
        bool(record["private"]),
        str(record["clone_url"]),
    )


def permission(record: Any) -> Permission:
    """The role by its name; a role that an organization defined itself counts as what it is based on."""
    named = _ROLES.get(str(record.get("role_name")))
    return named if named is not None else _ROLES.get(str(record["permission"]), Permission.NONE)


def ticket(record: Any) -> Ticket:
    return Ticket(
        int(record["number"]),
        str(record["title"]),
        record.get("body") or "",
        person(record["user"]),
        record["state"] == "open",
        tuple(label if isinstance(label, str) else str(label["name"]) for label in record["labels"]),
        bool(record.get("pull_request")),
        str(record["updated_at"]),
        str(record["html_url"]),
    )


def comment(record: Any) -> Comment:
    return Comment(
        int(record["id"]),
        record.get("body") or "",
        person(record["user"]),
        str(record["created_at"]),
        str(record["updated_at"]),
        str(record["html_url"]),
    )


def review_comment(record: Any) -> ReviewComment:
    line = record.get("line") or record.get("original_line")
    return ReviewComment(
        int(record["id"]),
        record.get("body") or "",
        person(record["user"]),
        str(record["path"]),
        int(line) if line else None,
        record.get("diff_hunk") or "",
        record.get("in_reply_to_id"),
        record.get("pull_request_review_id"),
        str(record["html_url"]),
    )


def pull(record: Any) -> Pull:
    head = record["head"]
    return Pull(
        int(record["number"]),
        str(record["title"]),
        record.get("body") or "",
        str(head["ref"]),
        str(head["sha"]),
        str(head["repo"]["full_name"]) if head.get("repo") else None,
        str(record["base"]["ref"]),
        bool(record.get("draft")),
        record["state"] == "open",
        bool(record.get("merged") or record.get("merged_at")),
        person(record["user"]),
        str(record["html_url"]),
    )


def check(record: Any) -> Check:
    output = record.get("output") or {}
    return Check(
        int(record["id"]),
        str(record["name"]),
        str(record["conclusion"]),
        "\n".join(part for part in (output.get("title"), output.get("summary")) if part),
        output.get("text") or "",
        str(record.get("html_url") or record.get("details_url") or ""),
    )


def annotation(record: Any) -> str:
    where = f"{record['path']}:{record['start_line']}"
    return f"{where}: {record.get('annotation_level') or 'note'}: {record.get('message') or ''}"


def content(record: Any) -> bytes:
    """A file's bytes. Raises ValueError where GitHub left them out."""
    if record.get("encoding") != "base64":
        raise ValueError("the content isn't in the answer")
    return base64.b64decode(record["content"])
