"""What a repository holds that isn't the base commit or before it.

Each check is a function over one repository and the names of the objects that may be there. Left out: the work tree's
files (`files`).
"""

import os
from typing import Dict, List, Set, Tuple

from evals.leaks.inside.report import Report
from evals.leaks.inside.repository import HASH, Repository, Trouble, files_below, git_folder, head_of

_REFS = (
    ("refs/stash", "stash"), ("refs/heads/", "branch"), ("refs/tags/", "tag"), ("refs/notes/", "notes"),
    ("refs/replace/", "replace"), ("refs/remotes/", "remote-tracking ref"),
)  # fmt: skip
_SKIPPED = ("objects", "hooks", "refs", "modules", "worktrees", "lfs", "rr-cache", "lost-found")
_MOST_OF_A_FILE = 4 << 20
_EXAMPLES = 3


class History:
    """One repository held against what may be in it."""

    def __init__(self, repository: Repository, allowed: Set[bytes], report: Report, prefix: str = "") -> None:
        self.repository = repository
        self.allowed = set(allowed)
        self.report = report
        self.kind = prefix  # the kind that all findings get, where the repository isn't the work folder's own

    def check(self) -> None:
        """All checks; one that git can't do is a finding too."""
        for check in (
            self.outside, self.refs, self.head, self.texts, self.remotes, self.worktrees, self.strays, self.index,
        ):  # fmt: skip
            try:
                check()
            except Trouble as trouble:
                self.report.add("not looked at", self.repository.folder, f"{check.__name__}: {trouble}")

    def found(self, kind: str, where: str, what: str) -> None:
        if self.kind:
            self.report.add(self.kind, self.repository.folder, f"{kind} {where}: {what}")
        else:
            self.report.add(kind, where, what)

    def outside(self) -> None:
        """Objects that the base commit doesn't lead to."""
        others = [(name, kind) for name, kind in self.repository.objects() if name not in self.allowed]
        tags = [name for name, kind in others if kind == b"tag"]
        for name, target in self.repository.peeled(tags).items():
            if target in self.allowed:  # a tag of the past
                self.allowed.add(name)
        others = [(name, kind) for name, kind in others if name not in self.allowed]
        if not others:
            return
        commits = [name for name, kind in others if kind == b"commit"]
        what = f"{len(others)} objects that the base commit doesn't lead to, {len(commits)} commits among them"
        self.found("objects", os.path.join(self.repository.folder, "objects"), what + self._examples(commits, others))
        for path in self._alternates():
            self.found("alternates", path, "objects of another repository, some of which the base commit doesn't know")

    def _examples(self, commits: List[bytes], others: List[Tuple[bytes, bytes]]) -> str:
        if not commits:
            return ": " + ", ".join(f"{kind.decode()} {name.decode()[:12]}" for name, kind in others[:_EXAMPLES])
        shown = commits[:_EXAMPLES]
        said = self.repository.lines("log", "--no-walk", "--stdin", "--format=%h %s", data=b"\n".join(shown) + b"\n")
        return ": " + "; ".join(line.decode("utf-8", "replace")[:80] for line in said)

    def _alternates(self) -> List[str]:
        listed = os.path.join(self.repository.folder, "objects", "info", "alternates")
        return [listed] if head_of(listed, 1 << 16).strip() else []

    def refs(self) -> None:
        found = self.repository.refs()
        unknown = {name: value for name, value in found.items() if value not in self.allowed}
        for name, value in found.items():
            kind = next((kind for start, kind in _REFS if name.startswith(start)), "other ref")
            if name in unknown or kind == "replace":
                self.found(kind, name, f"names {value.decode()[:12]}, {self._subject(value)}")

    def _subject(self, name: bytes) -> str:
        try:
            said = self.repository.git("log", "-1", "--format=%s", name.decode())
        except Trouble:
            return "which isn't there or is no commit"
        return repr(said.decode("utf-8", "replace").strip()[:80])

    def head(self) -> None:
        try:
            commit = self.repository.git("rev-parse", "--verify", "--quiet", "HEAD^{commit}").strip()
        except Trouble:
            return
        if commit not in self.allowed:
            what = f"the checkout stands at {commit.decode()[:12]}, {self._subject(commit)}, not at the base commit"
            self.found("commit", "HEAD", what)

    def texts(self) -> None:
        """Names of unknown objects in any text of the git folder: reflogs, FETCH_HEAD and its kin, half-done work."""
        for path in self._texts():
            where = os.path.relpath(path, self.repository.folder)
            content = head_of(path, _MOST_OF_A_FILE)
            if b"\0" in content[:8192]:
                continue
            names = {name for name in HASH.findall(content) if name.strip(b"0") and name not in self.allowed}
            if names and where != "packed-refs":
                kind = "reflog" if where.split(os.sep)[0] == "logs" else "pseudo ref"
                self.found(kind, where, f"names {len(names)} unknown objects, {sorted(names)[0].decode()[:12]}")

    def _texts(self) -> List[str]:
        found: List[str] = []
        for where, folders, files in os.walk(self.repository.folder):
            if where == self.repository.folder:
                folders[:] = [name for name in folders if name not in _SKIPPED]
            found += [os.path.join(where, name) for name in files]
        return found

    def remotes(self) -> None:
        for name, value in self.repository.config(r"^remote\..*\.(url|pushurl|promisor)$"):
            self.found("remote", name, value)
        for folder in ("remotes", "branches"):
            for path in files_below(os.path.join(self.repository.folder, folder)):
                self.found("remote", path, head_of(path, 200).decode("utf-8", "replace").strip())

    def worktrees(self) -> None:
        folder = os.path.join(self.repository.folder, "worktrees")
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
            at = head_of(os.path.join(folder, name, "HEAD"), 200).decode("utf-8", "replace").strip()
            leads = head_of(os.path.join(folder, name, "gitdir"), 400).decode("utf-8", "replace").strip()
            self.found("worktree", os.path.join(folder, name), f"a second work tree at {leads or '?'}: {at}")

    def strays(self) -> None:
        """What `git cat-file` doesn't list, and an agent can make readable."""
        objects = os.path.join(self.repository.folder, "objects")
        for path in files_below(objects):
            name = os.path.basename(path)
            lonely = name.endswith(".pack") and not os.path.exists(path[: -len(".pack")] + ".idx")
            if lonely or name.startswith(("tmp_pack", "tmp_obj")):
                self.found("stray pack", path, "objects that git doesn't list")
        for name, kind, what in (
            ("lost-found", "objects", "what git fsck --lost-found kept"),
            ("rr-cache", "patch file", "recorded conflicts and how they were resolved"),
            (os.path.join("lfs", "objects"), "objects", "content kept by Git LFS"),
        ):
            for path in list(files_below(os.path.join(self.repository.folder, name)))[:_EXAMPLES]:
                self.found(kind, path, what)

    def index(self) -> None:
        unknown: List[str] = []
        for row in self.repository.git("ls-files", "-s", "-z").split(b"\0"):
            facts, _, path = row.partition(b"\t")
            parts = facts.split(b" ")
            if path and parts[0] != b"160000" and parts[1] not in self.allowed:
                unknown.append(os.fsdecode(path))
        if unknown:
            names = ", ".join(unknown[:_EXAMPLES])
            self.found("index", os.path.join(self.repository.folder, "index"), f"{len(unknown)} staged files: {names}")


def check_submodules(repository: Repository, tree: Dict[str, Tuple[str, bytes]], workdir: str, report: Report) -> None:
    """Repositories of submodules hold no more than the commit that the base commit names, and what is before it."""
    links = {path: name.decode() for path, (mode, name) in tree.items() if mode == "160000"}
    known: Dict[str, str] = {}
    for path, commit in links.items():
        folder = git_folder(os.path.join(workdir, path, ".git"))
        if folder:
            known[folder] = commit
    for folder in modules(repository.folder):
        path = os.path.relpath(folder, os.path.join(os.path.realpath(repository.folder), "modules"))
        known.setdefault(folder, links.get(path, ""))
    for folder, commit in known.items():
        one = Repository(folder, report)
        allowed = one.reachable(commit) if commit and one.holds(commit) else set()
        History(one, allowed, report, "submodule").check()


def modules(folder: str) -> List[str]:
    """The git folders of submodules, below `modules`, at any depth."""
    found: List[str] = []
    for where, folders, files in os.walk(os.path.join(os.path.realpath(folder), "modules")):
        if "HEAD" in files and "objects" in folders:
            found.append(where)
            folders[:] = [name for name in folders if name == "modules"]
    return found
