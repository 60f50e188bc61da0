"""What a git command looks at beside the past of the base commit.

Left out: everything that isn't git (`looks`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from evals.leaks.looks import HEX, Known, Look, Shows

_VALUED: Final = frozenset({"-C", "-c", "--git-dir", "--work-tree", "--namespace", "--exec-path"})
_HISTORY: Final = frozenset({"log", "rev-list", "shortlog", "whatchanged", "show-branch", "show", "blame", "rev-parse"})
_REVISIONS: Final = frozenset({
    *_HISTORY, "diff", "checkout", "switch", "restore", "cherry-pick", "cat-file", "archive", "ls-tree", "diff-tree",
    "format-patch", "merge", "rebase", "reset", "worktree", "branch", "grep", "range-diff", "merge-base", "difftool",
})  # fmt: skip
_ALL: Final = re.compile(r"--(?:all|branches|remotes|tags|glob|reflog|walk-reflogs|alternate-refs)(?:=.*)?")
_OTHERS: Final = re.compile(
    r"(?:refs/(?!heads/(?:main|master)$)|remotes/|origin/|upstream/|stash@|FETCH_HEAD|MERGE_HEAD|\S*@\{)"
)
_RELEASE: Final = re.compile(r"(?:[A-Za-z]+[-_/])?v?(\d+(?:\.\d+)+)(?:\.?x)?")
_INSIDES: Final = frozenset({"verify-pack", "unpack-objects", "index-pack", "show-index", "unpack-file"})
_NETWORK: Final = frozenset({"fetch", "pull", "ls-remote"})
_ASKS: Final = frozenset(
    {("remote", "update"), ("remote", "add"), ("remote", "show"), ("remote", "set-url"), ("submodule", "update")}
)
_REMOTE: Final = re.compile(r"--remote\b")
_MOVES: Final = frozenset({"commit", "reset", "rebase", "cherry-pick", "merge", "switch"})
"""Subcommands behind which the reflog holds the agent's own commits."""
_PLACE: Final = re.compile(r"(?:[a-z+]+://|[\w.-]+@[\w.-]+:)")


def git_looks(words: Sequence[str], known: Known) -> Iterator[Look]:
    """`words` are those behind `git`."""
    at = 0
    while at < len(words) and words[at].startswith("-"):
        at += 2 if words[at] in _VALUED else 1
    if at >= len(words):
        return
    name, rest = words[at], list(words[at + 1 :])
    first = rest[0] if rest else ""
    yield from _direct(name, first, rest, known)
    if name in _HISTORY and any(_ALL.fullmatch(word) or (word == "-g" and name == "log") for word in rest):
        yield Look("asked for the commits of all refs", Shows.COMMITS)
    if name == "cat-file" and "--batch-all-objects" in rest:
        yield Look("listed all objects of the repository", Shows.LOST)
    if name in _REVISIONS:
        yield from _named(name, rest, known)
    known.own.add(name)


def _direct(name: str, first: str, rest: Sequence[str], known: Known) -> Iterator[Look]:
    """Commands that have hardly any other use."""
    if name == "reflog" and first not in ("expire", "delete"):
        yield Look("read the reflog", Shows.COMMITS, if_found=bool(known.own & _MOVES))
    elif name == "fsck":
        yield Look("looked for objects without a ref", Shows.LOST)
    elif name in _INSIDES:
        yield Look("took a pack apart", Shows.CONTENT)
    elif name in _NETWORK or (name, first) in _ASKS or (name == "archive" and any(map(_REMOTE.match, rest))):
        yield Look("asked a remote for its commits", Shows.TRANSFER)
    elif name == "clone" and any(_PLACE.match(word) for word in rest):
        yield Look("cloned a repository", Shows.TRANSFER)
    elif name == "bundle" and first in ("unbundle", "verify", "list-heads"):
        yield Look("read a bundle", Shows.CONTENT)
    elif _lists_refs(name, first, rest):
        yield Look("listed refs", Shows.REFS)
    elif name == "stash" and first in ("list", "show", "apply", "pop") and "stash" not in known.own:
        yield Look("looked for a stash that it hadn't made", Shows.CONTENT)


def _lists_refs(name: str, first: str, rest: Sequence[str]) -> bool:
    match name:
        case "for-each-ref" | "show-ref" | "name-rev":
            return True
        case "notes":
            return first in ("list", "show")
        case "branch":
            return any(re.fullmatch(r"-\w*[ar]\w*|--all|--remotes|--contains.*", word) for word in rest)
        case "tag":
            return not rest or any(re.fullmatch(r"-l|-n\d*|--(?:list|contains|sort).*", word) for word in rest)
        case "describe":
            return any(word in ("--all", "--contains") for word in rest)
    return False


def _named(name: str, rest: Sequence[str], known: Known) -> Iterator[Look]:
    """Revisions that the command names and that aren't the past."""
    if name == "checkout" and ("-b" in rest or "-B" in rest):
        return
    for word in rest:
        if word == "--":
            return
        value = word.partition("=")[2] if word.startswith("--source=") else word
        if value.startswith("-") or "$()" in value:
            continue
        yield from _revision(value.split(":")[0], known)


def _revision(text: str, known: Known) -> Iterator[Look]:
    left, dots, right = text.partition("..")
    if dots and left in ("", "HEAD", known.instance.base_commit) and right.strip(".") not in ("", "HEAD"):
        if not known.knows(right.strip(".")):
            yield Look("asked for the commits behind the base", Shows.COMMITS)
        return
    for part in (left, right.strip(".")):
        base = re.sub(r"[~^].*$", "", part.lstrip("^"))
        if HEX.fullmatch(base) and not known.knows(base):
            yield Look("looked at a commit that nothing had shown it", Shows.CONTENT)
        elif base and _OTHERS.match(base) and not _mine(base, known):
            yield Look("looked at another ref", Shows.CONTENT)
        elif (release := _RELEASE.fullmatch(base)) and _later(release[1], known.instance.version):
            yield Look("looked at a later release", Shows.CONTENT)


def _mine(name: str, known: Known) -> bool:
    if name.startswith(("stash@", "refs/stash")):
        return "stash" in known.own
    return name.startswith(("HEAD@", "@{")) and bool(known.own & _MOVES)


def _later(release: str, version: str) -> bool:
    """Unknown counts as later only where the instance has no version."""
    numbers = re.match(r"\d+(?:\.\d+)*", version)
    if not numbers:
        return True
    return _numbers(release)[:2] > _numbers(numbers[0])[:2]


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part[:9]) for part in text.split("."))
