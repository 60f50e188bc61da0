"""One git folder, read with git and by its files; nothing that its configuration names is run.

Left out: what of it is a leak (`history`).
"""

import hashlib
import os
import re
import subprocess
from typing import Dict, Iterable, Iterator, List, Optional, Set, Tuple

from evals.leaks.inside.report import Report

HASH = re.compile(rb"(?<![0-9a-f])[0-9a-f]{40}(?:[0-9a-f]{24})?(?![0-9a-f])")
_QUIET = (
    "core.fsmonitor=false", "core.hooksPath=/dev/null", "core.commitGraph=false", "core.quotePath=false",
    "core.pager=cat", "safe.directory=*", "log.showSignature=false", "core.attributesFile=/dev/null",
    "core.untrackedCache=false", "core.autocrlf=false", "protocol.allow=never",
)  # fmt: skip


class Trouble(Exception):
    """Git said no, or took too long."""


class Repository:
    """A `.git` folder, or a bare repository."""

    def __init__(self, folder: str, report: Report) -> None:
        self.folder = folder
        self._report = report
        self._environment = environment()

    def git(self, *arguments: str, data: bytes = b"", env: Optional[Dict[str, str]] = None) -> bytes:
        """Standard output. Trouble when git fails or the audit's time is over."""
        settings: List[str] = []
        for setting in _QUIET:
            settings += ["-c", setting]
        command = ["git", *settings, "--git-dir", self.folder, *arguments]
        try:
            done = subprocess.run(
                command, input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                env=dict(self._environment, **(env or {})), timeout=max(self._report.left, 1.0),
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise Trouble(f"git {arguments[0]} took too long") from None
        if done.returncode:
            raise Trouble(f"git {arguments[0]}: {done.stderr.decode('utf-8', 'replace').strip()[-300:]}")
        return done.stdout

    def lines(self, *arguments: str, data: bytes = b"") -> List[bytes]:
        return self.git(*arguments, data=data).splitlines()

    def holds(self, commit: str) -> bool:
        try:
            self.git("cat-file", "-e", commit + "^{commit}")
        except Trouble:
            return False
        return True

    def reachable(self, commit: str) -> Set[bytes]:
        """The names of all objects of a commit and of what was before it."""
        found = self.lines("rev-list", "--objects", "--missing=allow-any", commit)
        return {line.split(b" ", 1)[0].lstrip(b"?") for line in found}

    def objects(self) -> Iterator[Tuple[bytes, bytes]]:
        """(name, type) of each object, loose or packed, of alternates too."""
        checked = ("cat-file", "--batch-check=%(objectname) %(objecttype)", "--batch-all-objects")
        for line in self.lines(*checked):
            name, _, kind = line.partition(b" ")
            yield name, kind

    def peeled(self, names: Iterable[bytes]) -> Dict[bytes, bytes]:
        """What tag objects lead to in the end."""
        asked = list(names)
        if not asked:
            return {}
        said = self.lines("cat-file", "--batch-check=%(objectname)", data=b"".join(n + b"^{}\n" for n in asked))
        return dict(zip(asked, said))  # noqa: B905

    def refs(self) -> Dict[str, bytes]:
        """What each ref names, as git lists them and as they stand in files, those without an object too."""
        found: Dict[str, bytes] = {}
        for line in self._listed():
            name, _, value = line.partition(b" ")
            found[os.fsdecode(name)] = value
        for line in head_of(os.path.join(self.folder, "packed-refs"), 32 << 20).splitlines():
            value, _, name = line.partition(b" ")
            if HASH.fullmatch(value) and name:
                found.setdefault(os.fsdecode(name), value)
        for path in files_below(os.path.join(self.folder, "refs")):
            value = head_of(path, 200).strip()
            if HASH.fullmatch(value):
                found.setdefault(os.path.relpath(path, self.folder), value)
        return found

    def _listed(self) -> List[bytes]:
        try:
            return self.lines("for-each-ref", "--format=%(refname) %(objectname)")
        except Trouble:  # a ref that is broken; it stands in the files
            return []

    def config(self, pattern: str) -> List[Tuple[str, str]]:
        """Settings of this repository alone whose names match."""
        try:
            said = self.git("config", "--file", os.path.join(self.folder, "config"), "-z", "--get-regexp", pattern)
        except Trouble:
            return []
        rows = [os.fsdecode(row).partition("\n") for row in said.split(b"\0") if row]
        return [(name, value) for name, _, value in rows]

    def tree(self, commit: str) -> Dict[str, Tuple[str, bytes]]:
        """(mode, object) by path."""
        found: Dict[str, Tuple[str, bytes]] = {}
        for row in self.git("ls-tree", "-r", "-z", "--full-tree", commit).split(b"\0"):
            facts, _, path = row.partition(b"\t")
            if path:
                mode, _, name = facts.split(b" ")
                found[os.fsdecode(path)] = (mode.decode(), name)
        return found


def environment() -> Dict[str, str]:
    """Git's environment: no settings of the user or the machine, no replaced objects, no grafts, no questions."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    kept.update(
        GIT_CONFIG_NOSYSTEM="1", GIT_CONFIG_GLOBAL="/dev/null", GIT_NO_REPLACE_OBJECTS="1",
        GIT_GRAFT_FILE="/dev/null", GIT_OPTIONAL_LOCKS="0", GIT_TERMINAL_PROMPT="0", GIT_NO_LAZY_FETCH="1",
        LC_ALL="C", HOME="/nonexistent",
    )  # fmt: skip
    return kept


def blob_name(content: bytes, like: bytes) -> bytes:
    """The name that git gives to a file's content, in the kind of names that `like` is of."""
    algorithm = hashlib.sha256 if len(like) == 64 else hashlib.sha1
    return algorithm(b"blob %d\0" % len(content) + content).hexdigest().encode()


def forms_of(content: bytes) -> Set[bytes]:
    """A file's content with either line endings, which attributes and settings may have changed in a checkout."""
    plain = content.replace(b"\r\n", b"\n")
    return {content, plain, plain.replace(b"\n", b"\r\n")}


def git_folder(path: str) -> Optional[str]:
    """The repository that `path` is (`.git` as a folder or as a file that names one, or a bare one); None otherwise."""
    if os.path.isfile(path):
        said = head_of(path, 4096)
        if not said.startswith(b"gitdir:"):
            return None
        path = os.path.join(os.path.dirname(path), os.fsdecode(said[7:].strip()))
    common = head_of(os.path.join(path, "commondir"), 4096).strip()
    if common:
        path = os.path.join(path, os.fsdecode(common))
    parts = ("HEAD", "objects")
    return os.path.realpath(path) if all(os.path.exists(os.path.join(path, part)) for part in parts) else None


def head_of(path: str, most: int) -> bytes:
    """The first bytes of a regular file; nothing where there is none that can be read."""
    try:
        if not os.path.isfile(path):
            return b""
        with open(path, "rb") as file:
            return file.read(most)
    except OSError:
        return b""


def files_below(folder: str) -> Iterator[str]:
    for where, _, files in os.walk(folder):
        for name in files:
            yield os.path.join(where, name)
