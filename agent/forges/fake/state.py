"""What the fake forge knows, as plain data in one JSON file; the repositories' commits lie beside it.

Tokens are kept as hashes only, as GitHub keeps them. Left out: what any of it means (`access`, `acts`, `records`).
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import TypeAdapter


@dataclass
class Account:
    id: int
    login: str
    bot: bool = False


@dataclass
class PullPart:
    """What makes a conversation a pull request."""

    head: str
    head_sha: str
    head_repository: str
    base: str
    draft: bool
    merged_at: str | None = None


@dataclass
class Thread:
    """An issue or a pull request; both count in one row of numbers."""

    id: int
    number: int
    title: str
    body: str
    author: int
    created_at: str
    updated_at: str
    closed_at: str | None = None
    labels: list[str] = field(default_factory=list)
    assignees: list[int] = field(default_factory=list)
    pull: PullPart | None = None


@dataclass
class Note:
    """A comment on an issue or pull request."""

    id: int
    number: int
    body: str
    author: int
    created_at: str
    updated_at: str


@dataclass
class Review:
    id: int
    number: int
    author: int
    state: str  # COMMENTED, APPROVED, CHANGES_REQUESTED
    body: str
    commit: str
    submitted_at: str


@dataclass
class Remark:
    """A review comment."""

    id: int
    number: int
    review: int
    author: int
    body: str
    path: str
    line: int
    diff_hunk: str
    commit: str
    created_at: str
    updated_at: str
    in_reply_to: int | None = None


@dataclass
class CheckRun:
    id: int
    name: str
    sha: str
    conclusion: str
    title: str
    summary: str
    text: str
    annotations: list[dict[str, Any]]
    log: str | None
    app: str
    at: str


@dataclass
class Reaction:
    id: int
    kind: str
    target: int
    author: int
    content: str
    created_at: str


@dataclass
class RepoHook:
    """A webhook of one repository."""

    url: str
    secret: str
    events: list[str]


@dataclass
class Repo:
    id: int
    owner: str
    name: str
    private: bool
    default_branch: str
    created_at: str
    roles: dict[int, str] = field(default_factory=dict)
    threads: list[Thread] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    reviews: list[Review] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)
    checks: list[CheckRun] = field(default_factory=list)
    reactions: list[Reaction] = field(default_factory=list)
    drafts: bool = True  # whether its owner's plan has draft pull requests
    parent: str | None = None
    hooks: list[RepoHook] = field(default_factory=list)

    @property
    def slug(self) -> str:
        return f"{self.owner}/{self.name}"


@dataclass
class Token:
    """Access of an account: of a person, of an App's installation, or of a workflow."""

    account: int
    kind: str  # user, installation, workflow
    repositories: list[int] | None  # None: all that the account sees
    permissions: dict[str, str] | None  # None: as the account's role allows
    expires_at: float | None


@dataclass
class Installation:
    id: int
    owner: str
    repositories: list[int]


@dataclass
class App:
    id: int
    slug: str
    client_id: str
    account: int
    keys: list[str]  # public ones, PEM
    permissions: dict[str, str]
    created_at: str
    installations: list[Installation] = field(default_factory=list)
    hook: str | None = None
    secret: str = ""
    events: list[str] | None = None  # None: all


@dataclass
class World:
    accounts: list[Account] = field(default_factory=list)
    repos: list[Repo] = field(default_factory=list)
    tokens: dict[str, Token] = field(default_factory=dict)
    apps: list[App] = field(default_factory=list)
    last_id: int = 1000
    offset: float = 0.0  # seconds that the forge's clock is ahead

    def new_id(self) -> int:
        self.last_id += 1
        return self.last_id


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


@functools.cache
def _form() -> TypeAdapter[World]:
    from pydantic import TypeAdapter

    return TypeAdapter(World)


def load(folder: Path) -> World:
    """The state of a folder; an empty one if there is none."""
    file = folder / "state.json"
    return _form().validate_json(file.read_bytes()) if file.is_file() else World()


def save(folder: Path, world: World) -> None:
    new = folder / "state.json.new"
    new.write_bytes(_form().dump_json(world, indent=1))
    new.replace(folder / "state.json")
