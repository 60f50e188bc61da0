"""What a delivery is once it is read: which object of which repository it is about, and what it asks of the bot.

Only values. Left out: whether its sender may ask for that, which is found out at the forge by the job's first step,
never from what a delivery says.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from agent.forges.base import Person, Place


class WishKind(StrEnum):
    """What a delivery can ask for."""

    FIX = "fix"
    CONTINUE = "continue"
    RETRY = "retry"
    STOP = "stop"
    EXPLAIN = "explain"
    HELP = "help"  # somebody spoke to the bot, and not in its commands
    REVIEWED = "reviewed"  # a review or an inline comment on a pull request of ours
    CHECKS_FAILED = "checks_failed"  # of a pull request of ours
    CLOSED = "closed"  # also deleted or transferred
    INSTALLED = "installed"
    REMOVED = "removed"


ASKS_FOR_WORK = frozenset(
    {WishKind.FIX, WishKind.CONTINUE, WishKind.RETRY, WishKind.REVIEWED, WishKind.CHECKS_FAILED, WishKind.EXPLAIN}
)
ENDS_WORK = frozenset({WishKind.STOP, WishKind.CLOSED})


class ObjectKind(StrEnum):
    """What a delivery is about. Ids are unique within a kind and a repository."""

    ISSUE = "issue"
    PULL = "pull"
    COMMENT = "comment"
    REVIEW = "review"
    REVIEW_COMMENT = "review_comment"
    CHECKS = "checks"  # its id is the pull request's number
    INSTALLATION = "installation"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class ObjectKey:
    """One state of one object. `version`: when it was changed, or the commit that checks ran on."""

    kind: ObjectKind
    id: int
    version: str


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked. `text` is somebody else's words: data, never an instruction to the service."""

    kind: WishKind
    number: int  # of the issue or pull request; 0 for installations
    text: str = ""
    comment: int | None = None
    place: Place = Place.ISSUE  # where a reaction goes
    review: int | None = None
    sha: str | None = None  # the pull request's head, where the delivery says it
    pull: bool = False  # the number is a pull request's
    repositories: tuple[tuple[int, str], ...] = ()  # id and owner/name, of INSTALLED and REMOVED; none: all of them


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery that could be read. Without a wish `why_not` says in a sentence why it asks for nothing."""

    guid: str
    event: str
    action: str
    repository_id: int  # 0: of no repository
    slug: str  # owner/name; empty: of no repository
    installation: int | None
    sender: Person | None  # None: a deleted account
    object: ObjectKey
    at: str  # when it happened, UTC as in 2026-01-31T23:59:59Z; of equal length, so that text compares as time does
    wish: Wish | None
    why_not: str = ""
    takes_back: bool = False  # whatever an older version of the object asked for

    @property
    def lasting(self) -> bool:
        """Whether it has to be remembered."""
        return self.wish is not None or self.takes_back


@dataclass(frozen=True, slots=True)
class Refused:
    """A delivery that isn't what its event's documentation says, and why."""

    guid: str
    event: str
    reason: str


@dataclass(frozen=True, slots=True)
class Myself:
    """How the bot is spoken to, and what is its own. `id` is the account's, where it is known."""

    name: str = "patchwright"
    id: int | None = None
    label: str = "patchwright"
    branches: str = "patchwright/"  # its branches begin so
    app: int | None = None  # whose check runs are its own

    def is_me(self, person: Person | None) -> bool:
        if person is None:
            return False
        return person.id == self.id or person.login.casefold() in (self.name.casefold(), f"{self.name}[bot]".casefold())
