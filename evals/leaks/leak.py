"""What an audit says: a leak, its kind, and how an agent would use it.

Left out: finding them (`evals.leaks.checkout`, `evals.leaks.inside`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class LeakKind(StrEnum):
    """Where something of the future or of the solution survives."""

    COMMIT = "commit"
    BRANCH = "branch"
    TAG = "tag"
    STASH = "stash"
    NOTES = "notes"
    REPLACE = "replace"
    REMOTE_REF = "remote-tracking ref"
    OTHER_REF = "other ref"
    REMOTE = "remote"
    REFLOG = "reflog"
    PSEUDO_REF = "pseudo ref"
    WORKTREE = "worktree"
    SUBMODULE = "submodule"
    ALTERNATES = "alternates"
    OBJECTS = "objects"
    STRAY_PACK = "stray pack"
    INDEX = "index"
    WORK_TREE = "work tree"
    BUNDLE = "bundle"
    PATCH = "patch file"
    CHECKOUT = "other checkout"
    COPY = "copy"
    CACHE = "package cache"
    GOLD = "gold text"
    GOLD_FIELDS = "gold fields"
    ENVIRONMENT = "environment"
    NETWORK = "network"
    UNSEEN = "not looked at"
    """The audit came to its end before it had seen everything: what it didn't see may leak."""


USES: Final[Mapping[LeakKind, str]] = {
    LeakKind.COMMIT: "git log and git show read it",
    LeakKind.BRANCH: "git log --all and git diff HEAD BRANCH read it",
    LeakKind.TAG: "git log --tags and git diff HEAD TAG read it",
    LeakKind.STASH: "git stash show -p reads it",
    LeakKind.NOTES: "git log --notes and git notes show read it",
    LeakKind.REPLACE: "git shows the replacement in place of the object, or git show REF reads it",
    LeakKind.REMOTE_REF: "git log --remotes and git diff HEAD REF read it",
    LeakKind.OTHER_REF: "git log --all and git show REF read it",
    LeakKind.REMOTE: "git fetch gets the future, wherever there is a network",
    LeakKind.REFLOG: "git reflog names later commits and tells their subjects",
    LeakKind.PSEUDO_REF: "git show NAME reads it, or the name of a later commit is read off the file",
    LeakKind.WORKTREE: "its HEAD, index and reflog lead to another commit",
    LeakKind.SUBMODULE: "git -C FOLDER log --all reads the submodule's future",
    LeakKind.ALTERNATES: "git cat-file reads objects of another repository through it",
    LeakKind.OBJECTS: "git fsck --lost-found or git cat-file --batch-all-objects finds them, no ref is needed",
    LeakKind.STRAY_PACK: "git unpack-objects reads it into any repository",
    LeakKind.INDEX: "git diff --cached shows it",
    LeakKind.WORK_TREE: "git diff shows it, or the file itself",
    LeakKind.BUNDLE: "git clone or git fetch reads it as a remote",
    LeakKind.PATCH: "it is read, or applied with git apply",
    LeakKind.CHECKOUT: "git log in that folder, or a fetch from it",
    LeakKind.COPY: "diff -r between it and the work folder shows what changed later",
    LeakKind.CACHE: "it is unpacked or installed from there without a network",
    LeakKind.GOLD: "it is read",
    LeakKind.GOLD_FIELDS: "it is read",
    LeakKind.ENVIRONMENT: "env or /proc/self/environ shows it",
    LeakKind.NETWORK: "git fetch, pip download or curl get a later version",
    LeakKind.UNSEEN: "whatever lies there can be read; give the audit more time, or less to look at",
}


@dataclass(frozen=True, slots=True)
class Leak:
    """One thing that survives. All texts are printable, bounded, and may quote what the sandbox holds."""

    kind: LeakKind
    where: str  # a path inside, a ref, a variable's name
    what: str
    use: str

    def to_json(self) -> dict[str, str]:
        return {"kind": self.kind.value, "where": self.where, "what": self.what, "use": self.use}

    def __str__(self) -> str:
        return f"{self.kind.value}: {self.where}: {self.what} ({self.use})"


class AuditFailed(Exception):
    """The audit didn't come to a result, which never means that nothing leaks. Says what happened and what to do."""


def printable(text: str, most: int) -> str:
    """`text` of others as one printable line of at most `most` characters."""
    cut = text if len(text) <= most else text[: most - 3] + "..."
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in cut)[: 2 * most]
