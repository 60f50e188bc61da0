"""The seam to a forge: what the bot reads there and what it writes, as plain values.

Everything is asked by repository (`owner/name`), so that nothing can act on another repository than the one named.
Tokens never show: `Secret` hides its value, `GitAccess` carries it in variables for git alone. Left out: webhooks
(the service reads those), and git itself (`agent.forges.commits`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Protocol

_SLUG = re.compile(r"(?!\.{1,2}/)[A-Za-z0-9_.-]{1,100}/(?!\.{1,2}$)[A-Za-z0-9_.-]{1,100}")
_MARKER = re.compile(r"[A-Za-z0-9][A-Za-z0-9:._-]{0,99}")
FAILED = frozenset({"failure", "timed_out", "startup_failure"})
"""Conclusions of checks that a commit may mend; `action_required` waits for a person's permission."""


class Permission(IntEnum):
    """What a person may do in a repository; a higher one includes the lower ones."""

    NONE = 0
    READ = 1
    TRIAGE = 2
    WRITE = 3
    MAINTAIN = 4
    ADMIN = 5


class Place(StrEnum):
    """What a reaction is put on. REVIEW: the text of a submitted review."""

    ISSUE = "issue"
    COMMENT = "comment"
    REVIEW_COMMENT = "review_comment"
    REVIEW = "review"


class ForgeProblem(Exception):
    """A forge didn't do what was asked. The message says what, to what, and what to do next; it holds no token.

    `again`: the same request may succeed later, not before `after` seconds if that is known. `unclear`: nobody knows
    whether the request took effect. `status`: the HTTP status, if there was an answer.
    """

    def __init__(
        self,
        message: str,
        *,
        again: bool = False,
        after: float | None = None,
        unclear: bool = False,
        status: int | None = None,
    ) -> None:
        super().__init__(message)
        self.again = again
        self.after = after
        self.unclear = unclear
        self.status = status


class Moved(ForgeProblem):
    """A branch isn't where we left it: somebody else pushed to it, or removed it."""


class Secret:
    """A string that neither its repr, nor formatting, nor pickling gives away."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __reduce__(self) -> str:
        raise TypeError("a secret isn't pickled: hand it over on purpose, with reveal()")


@dataclass(frozen=True, slots=True)
class Person:
    """An account. Logins change hands; `id` doesn't."""

    id: int
    login: str
    bot: bool = False


@dataclass(frozen=True, slots=True)
class Repository:
    id: int
    slug: str
    default_branch: str
    private: bool
    clone_url: str


@dataclass(frozen=True, slots=True)
class Ticket:
    """An issue, or a pull request as its conversation."""

    number: int
    title: str
    body: str
    author: Person
    open: bool
    labels: tuple[str, ...]
    pull: bool
    updated_at: str
    url: str


@dataclass(frozen=True, slots=True)
class Comment:
    id: int
    body: str
    author: Person
    created_at: str
    updated_at: str
    url: str


@dataclass(frozen=True, slots=True)
class ReviewComment:
    """A comment on a line of a pull request. `in_reply_to`: the comment that its thread began with."""

    id: int
    body: str
    author: Person
    path: str
    line: int | None
    diff_hunk: str
    in_reply_to: int | None
    review: int | None
    url: str


@dataclass(frozen=True, slots=True)
class Pull:
    """A pull request. `head_repository`: the slug that its branch lies in; a fork's differs, None where it is gone."""

    number: int
    title: str
    body: str
    head: str
    head_sha: str
    head_repository: str | None
    base: str
    draft: bool
    open: bool
    merged: bool
    author: Person
    url: str


@dataclass(frozen=True, slots=True)
class Check:
    """A check that failed. `text`: its report and annotations. `log`: the end of its log, if it has one to be read."""

    id: int
    name: str
    conclusion: str
    summary: str
    text: str
    url: str
    log: str = ""


@dataclass(frozen=True, slots=True)
class GitAccess:
    """An address for git, and the variables that let git in there. The token is in the variables only."""

    url: str
    env: Mapping[str, str] = field(repr=False)


class Forge(Protocol):
    """One forge. Every method but `close` raises ForgeProblem."""

    async def me(self, slug: str | None = None) -> Person:
        """Who our comments are by. `slug`: a repository of ours, for forges that show accounts to members only."""
        ...

    def address(self, person: Person) -> str:
        """The mail address that the forge itself gives to an account: commits are matched by it, nobody gets mail."""
        ...

    async def repository(self, slug: str) -> Repository: ...

    async def name_of(self, repository: int, slug: str) -> str:
        """The slug that the repository of this id has now. `slug`: the one that it had when it was last heard of.

        One that was renamed or transferred is found; another one that took its old name isn't taken for it.
        """
        ...

    async def permission(self, slug: str, person: Person) -> Permission:
        """What the account of that id may do, as the forge says now. NONE where id and login don't belong together."""
        ...

    async def ticket(self, slug: str, number: int) -> Ticket: ...

    async def comments(self, slug: str, number: int) -> list[Comment]:
        """The newest hundred, oldest first."""
        ...

    async def react(self, slug: str, place: Place, id: int, content: str = "eyes") -> bool:  # noqa: A002
        """A reaction by us, however often this is called. `id` is the number for an issue. False: there is no such
        thing as a reaction there."""
        ...

    async def say(self, slug: str, number: int, body: str, marker: str, known: int | None = None) -> Comment:
        """Our one comment of this marker in this conversation: edited if it is there, made if it isn't.

        `known`: the comment's id from an earlier call, which spares the search for it.
        """
        ...

    async def reply(self, slug: str, pull: int, to: int, body: str, marker: str) -> None:
        """Our one answer of this marker in the thread of review comment `to`: edited or made."""
        ...

    async def review_comments(self, slug: str, pull: int, review: int | None = None) -> list[ReviewComment]:
        """All of a pull request (its newest thousand), or those of one review; oldest first."""
        ...

    async def pull(self, slug: str, number: int) -> Pull: ...

    async def pull_of(self, slug: str, branch: str) -> Pull | None:
        """The open pull request whose branch this is, in the repository itself."""
        ...

    async def open_pull(self, slug: str, branch: str, base: str, title: str, body: str, draft: bool = True) -> Pull:
        """The open pull request of this branch: made, or edited if there is one. Not a draft where there are none."""
        ...

    async def edit_pull(self, slug: str, number: int, title: str | None = None, body: str | None = None) -> None: ...

    async def failed_checks(self, slug: str, sha: str) -> list[Check]: ...

    async def file(self, slug: str, path: str, ref: str) -> bytes | None:
        """A file of at most 1 MB; None if there is none."""
        ...

    async def git_access(self, slug: str) -> GitAccess:
        """Good for ten minutes at least, and for no other name that the repository once had."""
        ...

    async def close(self) -> None: ...


def checked_slug(slug: str) -> str:
    """The slug itself. Raises ForgeProblem for text that would be something else in an address."""
    if not _SLUG.fullmatch(slug):
        raise ForgeProblem(f"{slug[:100]!r} is no repository: expected owner/name")
    return slug


def marked(body: str, marker: str, limit: int) -> str:
    """The body behind its hidden marker, cut to `limit` characters. Raises ForgeProblem for an unfit marker."""
    if not _MARKER.fullmatch(marker):
        raise ForgeProblem(f"{marker[:100]!r} can't mark a comment: use letters, digits and : . _ -")
    return cut(f"{_hidden(marker)}\n{body}", limit)


def has_marker(body: str, marker: str) -> bool:
    """Whether a body begins with the marker; text further down may come from anybody."""
    return body.startswith(_hidden(marker))


def cut(body: str, limit: int) -> str:
    """At most `limit` characters, with a last line that says what is missing. An open code block is closed."""
    if len(body) <= limit:
        return body
    note = "\n\n*Cut here: {} more characters don't fit into one comment.*"
    room = limit - len(note) - 24
    kept = body[:room]
    fences = sum(line.lstrip().startswith("```") for line in kept.splitlines())
    return kept + ("\n```" if fences % 2 else "") + note.format(len(body) - room)


def _hidden(marker: str) -> str:
    return f"<!-- patchwright:{marker} -->"
